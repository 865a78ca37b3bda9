//! Length, size of the pieces, compressed data: it makes the same string at once and in pieces.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    if let [high, low, size, data @ ..] = data {
        understudy::fuzzing::lzf_is_the_same_in_pieces(data, u16::from_be_bytes([*high, *low]), *size);
    }
});
