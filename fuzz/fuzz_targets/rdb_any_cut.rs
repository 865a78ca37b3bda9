//! Depth, size of the pieces, file: the events do not depend on the size.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    if let [depth, size, file @ ..] = data {
        understudy::fuzzing::same_events_at_any_cut(file, &[u16::from(*size)], *depth);
    }
});
