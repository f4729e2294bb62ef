#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| interlock_fuzz::run("target_channel", bytes));
