//! Encoding, where a walk stops, blob: a walk that goes on sees the same, and so does one over what is built of it.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    if let [kind, stop, blob @ ..] = data {
        understudy::fuzzing::packed_entries_survive(*kind, *stop, blob);
    }
});
