//! Deadlines, mail, life and death of services.
use super::common::{PATIENCE, attach, finish, next, pool, script, spinning};
use interlock_base::Instant;
use interlock_ring::{Cx, Event, Service, Waker};
use std::sync::mpsc;
use std::time::Duration;

#[test]
fn deadlines_fire_in_order_and_not_early() {
    let pool = pool(1);
    let (send, fired) = mpsc::channel();
    // One factory, so that all deadlines count from one moment.
    pool.reactor(0)
        .attach(move |cx| {
            let start = cx.now();
            for millis in [30_u64, 10, 20] {
                let send = send.clone();
                cx.attach(move |cx| {
                    // The second replaces the first.
                    cx.set_deadline(Some(start));
                    cx.set_deadline(Some(start + Duration::from_millis(millis)));
                    script(move |cx, event| {
                        if let Event::Deadline = event {
                            send.send((millis, cx.now().since(start))).unwrap();
                        }
                    })
                });
            }
            cx.set_deadline(Some(start + Duration::from_millis(5)));
            cx.set_deadline(None);
            script(|_, event| assert!(!matches!(event, Event::Deadline), "it was taken back"))
        })
        .unwrap();
    for millis in [10, 20, 30] {
        let (which, after) = next(&fired);
        assert_eq!(which, millis);
        assert!(after >= Duration::from_millis(millis), "{millis} ms came after {after:?}");
    }
    finish(pool);
}

#[test]
fn a_deadline_of_the_past_comes_at_once_and_only_once() {
    let pool = pool(1);
    let (_, fired) = attach(&pool.reactor(0), |cx, fired: mpsc::Sender<u32>| {
        cx.set_deadline(Some(cx.now()));
        let mut count = 0;
        move |cx: &mut Cx<'_>, event| {
            if let Event::Deadline = event {
                count += 1;
                fired.send(count).unwrap();
                if count < 3 {
                    cx.set_deadline(Some(cx.now()));
                }
            }
        }
    });
    assert_eq!([next(&fired), next(&fired), next(&fired)], [1, 2, 3]);
    finish(pool);
    assert!(fired.try_recv().is_err());
}

#[test]
fn a_service_that_always_wants_the_past_starves_nobody() {
    let pool = pool(1);
    let (_, fired) = attach(&pool.reactor(0), |cx, fired: mpsc::Sender<()>| {
        cx.set_deadline(Some(Instant::ZERO));
        move |cx: &mut Cx<'_>, event| {
            if let Event::Deadline = event {
                cx.set_deadline(Some(Instant::ZERO));
                let _ = fired.send(()); // nobody listens at the end
            }
        }
    });
    next(&fired);
    let (_, other) = attach(&pool.reactor(0), |cx, other| {
        cx.set_deadline(Some(cx.now() + Duration::from_millis(1)));
        move |_: &mut Cx<'_>, event| {
            if let Event::Deadline = event {
                other.send(()).unwrap();
            }
        }
    });
    next(&other);
    finish(pool);
}

/// Two services on two reactors throw a ball to each other; every throw crosses a possible sleep.
fn ping_pong(spin: Duration) {
    const THROWS: u32 = 20_000;
    struct Player {
        court: mpsc::Receiver<(u32, Waker)>,
        other: mpsc::Sender<(u32, Waker)>,
        done: mpsc::Sender<u32>,
    }
    impl Service for Player {
        fn handle(&mut self, cx: &mut Cx<'_>, event: Event) {
            if !matches!(event, Event::Mail) {
                return;
            }
            for (ball, back) in self.court.try_iter() {
                if ball == THROWS {
                    self.done.send(ball).unwrap();
                } else {
                    self.other.send((ball + 1, cx.waker())).unwrap();
                    back.wake();
                }
            }
        }
    }
    let pool = spinning(2, spin);
    let (to_a, court_a) = mpsc::channel();
    let (to_b, court_b) = mpsc::channel();
    let (done, end) = mpsc::channel();
    let (tell, wakers) = mpsc::channel();
    for (reactor, court, other) in [(0, court_a, to_b), (1, court_b, to_a.clone())] {
        let (done, tell) = (done.clone(), tell.clone());
        pool.reactor(reactor)
            .attach(move |cx| {
                tell.send((reactor, cx.waker())).unwrap();
                Box::new(Player { court, other, done })
            })
            .unwrap();
    }
    let mut wakers = [next(&wakers), next(&wakers)];
    wakers.sort_by_key(|(reactor, _)| *reactor);
    to_a.send((0, wakers[1].1.clone())).unwrap();
    wakers[0].1.wake();
    assert_eq!(next(&end), THROWS);
    finish(pool);
}

#[test]
fn no_mail_is_lost_to_a_sleeping_reactor() {
    ping_pong(Duration::ZERO);
}

#[test]
fn no_mail_is_lost_to_a_spinning_reactor() {
    ping_pong(Duration::from_micros(30));
}

#[test]
fn mail_from_many_threads_arrives_whole_in_few_events() {
    const EACH: u64 = 5000;
    let pool = pool(1);
    let (letters, inbox) = mpsc::channel::<u64>();
    let (tell, waker) = mpsc::channel();
    let (_, sums) = attach(&pool.reactor(0), move |cx, sums: mpsc::Sender<u64>| {
        tell.send(cx.waker()).unwrap();
        let (mut count, mut sum) = (0, 0);
        move |_, event| {
            if let Event::Mail = event {
                for letter in inbox.try_iter() {
                    count += 1;
                    sum += letter;
                }
                if count == 4 * EACH {
                    sums.send(sum).unwrap();
                    count = 0;
                }
            }
        }
    });
    let waker = next(&waker);
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                for n in 0..EACH {
                    letters.send(n).unwrap();
                    waker.wake();
                }
            });
        }
    });
    assert_eq!(next(&sums), 4 * EACH * (EACH - 1) / 2);
    finish(pool);
    waker.wake(); // the service is gone, and so is the reactor: nothing happens
}

#[test]
fn each_service_gets_one_turn_after_its_events() {
    struct Counting {
        events: u32,
        say: mpsc::Sender<u32>,
    }
    impl Service for Counting {
        fn handle(&mut self, cx: &mut Cx<'_>, event: Event) {
            self.events += 1;
            if let Event::Attached = event {
                // Mail and a deadline are both due in the next turn.
                cx.waker().wake();
                cx.set_deadline(Some(cx.now()));
            }
        }
        fn turn(&mut self, _: &mut Cx<'_>) {
            self.say.send(self.events).unwrap();
            self.events = 0;
        }
    }
    let pool = pool(1);
    let (say, said) = mpsc::channel();
    pool.reactor(0).attach(|_| Box::new(Counting { events: 0, say })).unwrap();
    // The deadline may be due in the first turn already, after `Attached`.
    let first = next(&said);
    let total = if first == 3 { 3 } else { first + next(&said) };
    assert_eq!(total, 3, "Attached, Mail, Deadline");
    finish(pool);
    assert!(said.try_recv().is_err(), "no turn without an event; Detach is followed by none");
}

#[test]
fn services_leave_in_reverse_order_over_all_reactors() {
    let pool = pool(2);
    let (say, said) = mpsc::channel();
    for number in 0..6 {
        let say = say.clone();
        pool.reactor(number)
            .attach(move |_| {
                script(move |_, event| {
                    if let Event::Detach = event {
                        say.send(number).unwrap();
                    }
                })
            })
            .unwrap();
    }
    finish(pool);
    assert_eq!(said.try_iter().collect::<Vec<_>>(), [5, 4, 3, 2, 1, 0]);
}

#[test]
fn a_service_can_end_itself_and_is_dropped_on_its_reactor() {
    struct Bell(mpsc::Sender<String>);
    impl Drop for Bell {
        fn drop(&mut self) {
            let thread = std::thread::current().name().unwrap_or_default().to_owned();
            let _ = self.0.send(thread);
        }
    }
    let pool = pool(1);
    let (say, said) = mpsc::channel();
    let id = pool
        .reactor(0)
        .attach(move |_| {
            let bell = Bell(say);
            script(move |cx, event| match event {
                Event::Attached => cx.detach(),
                Event::Detach => bell.0.send("detach".into()).unwrap(),
                _ => {}
            })
        })
        .unwrap();
    assert_eq!([next(&said), next(&said)], ["detach", "test-0"]);
    pool.reactor(0).detach(id).wait(PATIENCE).unwrap(); // gone already: no wait
    let reactor = pool.reactor(0);
    finish(pool);
    assert!(reactor.attach(|_| script(|_, _| {})).is_err(), "the reactor has ended");
    reactor.detach(id).wait(PATIENCE).unwrap();
}

#[test]
fn a_panic_takes_one_service_and_is_told_at_the_end() {
    let pool = pool(1);
    let (tell, wakers) = mpsc::channel();
    let (_, alive) = attach(&pool.reactor(0), move |cx, alive| {
        tell.send(cx.waker()).unwrap();
        move |_, event| {
            if let Event::Mail = event {
                alive.send(()).unwrap();
            }
        }
    });
    let bad = pool
        .reactor(0)
        .attach(|_| script(|_, event| assert!(!matches!(event, Event::Attached), "number {}", 17)))
        .unwrap();
    let unborn = pool.reactor(0).attach(|_| panic!("never made")).unwrap();
    pool.reactor(0).detach(bad).wait(PATIENCE).unwrap();
    pool.reactor(0).detach(unborn).wait(PATIENCE).unwrap();
    next(&wakers).wake();
    next(&alive);
    let error = pool.shutdown(PATIENCE).unwrap_err();
    let messages: Vec<_> = error.panicked.iter().map(|p| (p.service, p.message.as_str())).collect();
    assert_eq!(messages, [(bad, "number 17"), (unborn, "never made")]);
    assert!(error.stuck.is_empty() && error.failed.is_empty());
}

#[test]
#[should_panic(expected = "heard at the drop")]
fn dropping_a_pool_passes_a_panic_on() {
    let pool = pool(1);
    let id = pool.reactor(0).attach(|_| panic!("heard at the drop")).unwrap();
    pool.reactor(0).detach(id).wait(PATIENCE).unwrap();
    drop(pool);
}

#[test]
fn a_stuck_service_does_not_hang_the_shutdown() {
    let pool = pool(2);
    let (release, stuck) = mpsc::channel::<()>();
    let (_, here) = attach(&pool.reactor(0), |_, here| {
        move |_: &mut Cx<'_>, event| {
            if let Event::Attached = event {
                here.send(()).unwrap();
                let _ = stuck.recv_timeout(PATIENCE);
            }
        }
    });
    next(&here);
    let (_, other) = attach(&pool.reactor(1), |_, say| {
        move |_: &mut Cx<'_>, event| {
            if let Event::Detach = event {
                say.send(()).unwrap();
            }
        }
    });
    let error = pool.shutdown(Duration::from_millis(200)).unwrap_err();
    assert_eq!(error.stuck, ["test-0"], "{error}");
    next(&other);
    drop(release);
}
