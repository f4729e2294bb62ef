//! Every body with noise: what a fuzzer begins with, without one.

#![allow(clippy::print_stderr)] // the name of the input, should it panic

use interlock_base::Rng;

#[test]
fn noise_is_survived() {
    for (name, _) in interlock_fuzz::TARGETS {
        let rounds = if name.ends_with("machine") { 40 } else { 400 };
        for seed in 0..rounds {
            let mut rng = Rng::new(seed);
            let len = rng.below(2000) as usize;
            let bytes: Vec<u8> = (0..len).map(|_| (rng.next_u64() >> (rng.below(7) * 8)) as u8).collect();
            // The test's name of the input, should it panic.
            eprintln!("{name}, seed {seed}");
            interlock_fuzz::run(name, &bytes);
        }
    }
}
