//! A command, a word a line: with other keys it is the same command with other keys.
#![no_main]

libfuzzer_sys::fuzz_target!(|line: &[u8]| {
    understudy::fuzzing::renamed_keys_are_the_keys(line);
});
