#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| azfed_fuzz::platform_answers::run(data));
