//! A file: its values have the same elements by every way.
#![no_main]

libfuzzer_sys::fuzz_target!(|file: &[u8]| {
    understudy::fuzzing::every_depth_has_the_same_elements(file);
});
