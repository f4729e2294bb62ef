//! How exports end together.

use super::*;
use std::sync::Condvar;

#[test]
fn busy_exports_end_side_by_side_and_none_takes_the_time_of_another() {
    const WITHIN: Duration = Duration::from_secs(20);
    // Each waits until all five have begun: one after the other, none would ever see that.
    let (begun, changed) = (Mutex::new(0), Condvar::new());
    let meet = |within: Duration| {
        let mut begun = begun.lock().expect("no test panics with it");
        *begun += 1;
        changed.notify_all();
        let (_begun, waited) =
            changed.wait_timeout_while(begun, within, |begun| *begun < 5).expect("no test panics with it");
        waited.timed_out()
    };
    let meet = &meet;
    let one = |n: usize| -> End<'_> { Box::new(move |within| meet(within).then(|| format!("{n} waited alone"))) };
    assert_eq!(all_at_once((0..5).map(one).collect(), WITHIN), [""; 0]);
}

#[test]
fn what_was_left_is_told_in_order() {
    let one = |n: usize| -> End<'_> { Box::new(move |_| (n % 2 == 1).then(|| n.to_string())) };
    assert_eq!(all_at_once((0..4).map(one).collect(), Duration::ZERO), ["1", "3"]);
}
