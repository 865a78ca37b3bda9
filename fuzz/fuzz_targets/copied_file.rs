//! Reader, how much is laid aside, file: a copy for that reader has the same keys and elements.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    if let [reader, aside, file @ ..] = data {
        understudy::fuzzing::a_copied_file_is_the_same(file, *reader, *aside);
    }
});
