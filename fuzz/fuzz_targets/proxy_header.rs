#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| clingfish_fuzz::targets::proxy_header::run(data));
