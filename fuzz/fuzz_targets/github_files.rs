#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| azfed_fuzz::github_files::run(data));
