//! State of the session, size of the pieces, what a master says: what is told of it does not depend on the size.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    if let [state, size, said @ ..] = data {
        understudy::fuzzing::a_session_tells_the_same_at_any_cut(said, &[u16::from(*size)], *state);
    }
});
