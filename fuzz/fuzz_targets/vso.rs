#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| azfed_fuzz::vso::run(data));
