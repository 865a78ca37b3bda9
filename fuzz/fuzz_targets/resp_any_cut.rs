//! Size of the pieces, stream: commands and replies do not depend on the size.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    if let [size, stream @ ..] = data {
        understudy::fuzzing::resp_is_the_same_at_any_cut(stream, &[u16::from(*size)]);
    }
});
