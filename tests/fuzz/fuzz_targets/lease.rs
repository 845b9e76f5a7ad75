#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| (snapkit_tests::fuzz::target("lease").run)(bytes));
