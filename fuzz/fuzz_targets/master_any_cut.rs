//! Kind of master, size of the pieces, what a replica says: the answers do not depend on the size.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    if let [kind, size, said @ ..] = data {
        understudy::fuzzing::a_played_master_answers_the_same_at_any_cut(said, &[u16::from(*size)], *kind);
    }
});
