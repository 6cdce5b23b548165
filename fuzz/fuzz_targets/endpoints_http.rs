#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| azfed_fuzz::endpoints_http::run(data));
