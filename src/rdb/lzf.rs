//! LZF, in which servers compress strings of more than 20 bytes.
//!
//! ```text
//! 000nnnnn, n + 1 bytes             those bytes
//! lllooooo oooooooo                 l + 2 bytes from o + 1 bytes back in the output, l in 1..=6
//! 111ooooo llllllll oooooooo        l + 9 bytes from there
//! ```
//!
//! One decoder serves both uses: a whole string at hand is one call, and a string of any size is decoded as it
//! comes, with the last 8 KiB of output kept, for no token reaches farther back. (The crate `lzf`, which can do neither
//! into a caller's memory nor in pieces, is half as fast; the tests compare with it.)

use crate::rdb::error::RdbErrorKind;

/// How far back a token can reach: 13 bits and one.
const WINDOW: usize = 1 << 13;

/// What one step of an [`Inflate`] makes at most, beside its window.
const CHUNK: usize = 1 << 16;

/// Whether `compressed` bytes can make `len` bytes at all.
#[must_use]
pub(crate) const fn is_possible(compressed: u64, len: u64) -> bool {
    // The best token makes 264 bytes out of three.
    len <= compressed.saturating_mul(88)
}

/// Appends to `out` the `len` bytes that `data` is the compression of.
///
/// `len` must be a length that the caller can pay for; no more than that is allocated.
///
/// # Errors
/// [`RdbErrorKind::Lzf`] if `data` is damaged or makes another length. Then `out` is as it was.
pub fn decompress(data: &[u8], len: usize, out: &mut Vec<u8>) -> Result<(), RdbErrorKind> {
    let base = out.len();
    out.reserve(len);
    let end = base.saturating_add(len);
    let made = match decode(data, out, base, end) {
        (_, Stop::Fault(kind)) => Err(kind),
        (_, Stop::Room) => Err(RdbErrorKind::Lzf(MORE)),
        (used, Stop::Input) if used < data.len() => Err(RdbErrorKind::Lzf(CUT)),
        (_, Stop::Input) if out.len() < end => Err(RdbErrorKind::Lzf(LESS)),
        (_, Stop::Input) => Ok(()),
    };
    if made.is_err() {
        out.truncate(base);
    }
    made
}

const MORE: &str = "it makes more than it claims";
const LESS: &str = "it makes less than it claims";
const CUT: &str = "it ends inside a token";
const BEFORE: &str = "it refers to what is before its beginning";

/// Decodes one string as its data comes, in the memory of a window and a chunk.
#[derive(Debug)]
pub struct Inflate {
    /// Data still to come.
    compressed: u64,
    /// Output still to come.
    len: u64,
    /// The last output: at most a window that was handed out before, then what the last step made.
    out: Vec<u8>,
}

impl Inflate {
    /// For a string of `len` bytes that were compressed to so many. Both are claims; no memory is taken for them.
    #[must_use]
    pub const fn new(compressed: u64, len: u64) -> Self {
        Self { compressed, len, out: Vec::new() }
    }

    /// Whether all has been made.
    #[must_use]
    pub const fn is_done(&self) -> bool {
        self.compressed == 0 && self.len == 0
    }

    /// Decodes what it can of `input`, which begins where the last step stopped and may go on behind the
    /// string. Gives how many bytes it used, and from where in [`made`](Self::made) the new output begins.
    /// No new output: more input is needed.
    ///
    /// # Errors
    /// [`RdbErrorKind::Lzf`] if the data is damaged or makes another length; only when all that could be made of what
    /// stands before the damage was given.
    pub fn step(&mut self, input: &[u8]) -> Result<(usize, usize), RdbErrorKind> {
        let old = self.out.len().saturating_sub(WINDOW);
        self.out.drain(..old);
        let base = self.out.len();
        let data = clamp(input, self.compressed);
        let room = usize::try_from(self.len).unwrap_or(usize::MAX).min(CHUNK);
        let (used, stop) = decode(data, &mut self.out, 0, base + room);
        let made = self.out.len() - base;
        self.compressed -= used as u64;
        self.len -= made as u64;
        if made > 0 {
            return Ok((used, base));
        }
        match stop {
            Stop::Fault(kind) => Err(kind),
            // Nothing was made in a chunk's room, so it is the string that has none.
            Stop::Room => Err(RdbErrorKind::Lzf(MORE)),
            Stop::Input if self.compressed == 0 && self.len > 0 => Err(RdbErrorKind::Lzf(LESS)),
            Stop::Input if !data.is_empty() && data.len() as u64 == self.compressed => {
                Err(RdbErrorKind::Lzf(CUT))
            }
            Stop::Input => Ok((used, base)),
        }
    }

    /// The window and what the last step made.
    #[must_use]
    pub fn made(&self) -> &[u8] {
        &self.out
    }
}

fn clamp(input: &[u8], len: u64) -> &[u8] {
    usize::try_from(len).ok().and_then(|len| input.get(..len)).unwrap_or(input)
}

/// Why [`decode`] stopped.
enum Stop {
    /// The data is used up, or what is left is not a whole token.
    Input,
    /// The next token would make more than there is room for.
    Room,
    /// The next token is wrong.
    Fault(RdbErrorKind),
}

/// Appends whole tokens to `out` while it stays at or below `end` bytes. No token may refer to before `base`.
/// Gives how many bytes of `data` were used.
fn decode(data: &[u8], out: &mut Vec<u8>, base: usize, end: usize) -> (usize, Stop) {
    let mut rest = data;
    let stop = loop {
        let (run, distance, tail) = match rest {
            [control @ 0..=0x1f, tail @ ..] => {
                let Some((literal, tail)) = tail.split_at_checked(usize::from(*control) + 1) else {
                    break Stop::Input;
                };
                if out.len() + literal.len() > end {
                    break Stop::Room;
                }
                out.extend_from_slice(literal);
                rest = tail;
                continue;
            }
            [control @ 0x20..=0xdf, low, tail @ ..] => {
                (usize::from(control >> 5) + 2, distance(*control, *low), tail)
            }
            [control, more, low, tail @ ..] => {
                (usize::from(*more) + 9, distance(*control, *low), tail)
            }
            _ => break Stop::Input,
        };
        if distance > out.len() - base {
            break Stop::Fault(RdbErrorKind::Lzf(BEFORE));
        }
        if out.len() + run > end {
            break Stop::Room;
        }
        repeat(out, distance, run);
        rest = tail;
    };
    (data.len() - rest.len(), stop)
}

const fn distance(control: u8, low: u8) -> usize {
    ((control as usize & 0x1f) << 8 | low as usize) + 1
}

/// Appends `run` bytes, each the one `distance` before it. What is copied may begin in what it makes.
#[inline]
fn repeat(out: &mut Vec<u8>, distance: usize, run: usize) {
    let from = out.len() - distance;
    if distance >= run {
        out.extend_from_within(from..from + run);
        return;
    }
    let mut left = run;
    while left > 0 {
        // All from `from` on is the same few bytes over and over: each copy doubles them.
        let part = left.min(out.len() - from);
        out.extend_from_within(from..from + part);
        left -= part;
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// The most output of one token, which then has three bytes.
    const MAX_RUN: usize = 264;

    /// Text with long and short repetitions.
    fn texts() -> impl Strategy<Value = Vec<u8>> {
        prop::collection::vec((any::<u8>(), 1_usize..9, 1_usize..300), 1..80).prop_map(|parts| {
            let mut text = Vec::new();
            for (byte, period, len) in parts {
                text.extend(
                    (0..len).map(|at| byte.wrapping_add(u8::try_from(at % period).unwrap())),
                );
            }
            text
        })
    }

    fn inflate(data: &[u8], len: usize, feed: usize) -> Result<Vec<u8>, RdbErrorKind> {
        let mut inflate = Inflate::new(data.len() as u64, len as u64);
        let (mut at, mut given, mut whole) = (0, 0, Vec::new());
        while !inflate.is_done() {
            let (used, from) = inflate.step(&data[at..given])?;
            at += used;
            whole.extend_from_slice(&inflate.made()[from..]);
            if used == 0 {
                assert!(given < data.len(), "all was given and more is wanted");
                given = data.len().min(given + feed);
            }
        }
        Ok(whole)
    }

    proptest! {
        #[test]
        fn what_lzf_compresses_comes_back_whole_and_in_pieces(text in texts(), feed in 1_usize..5000) {
            if let Ok(data) = ::lzf::compress(&text) {
                let mut out = b"before".to_vec();
                decompress(&data, text.len(), &mut out).unwrap();
                prop_assert_eq!(&out[6..], &text[..]);
                prop_assert_eq!(inflate(&data, text.len(), feed).unwrap(), text);
            }
        }

        #[test]
        fn it_agrees_with_another_decoder_on_what_is_valid(
            data in prop::collection::vec(any::<u8>(), 1..60), len in 1_usize..400
        ) {
            let mut out = Vec::new();
            let ours = decompress(&data, len, &mut out).map(|()| out);
            let theirs = ::lzf::decompress(&data, len).ok().filter(|text| text.len() == len);
            prop_assert_eq!(ours.clone().ok(), theirs);
            prop_assert_eq!(inflate(&data, len, 7).ok(), ours.ok());
        }
    }

    #[test]
    fn a_string_far_larger_than_the_window_is_inflated_in_chunks() {
        let text: Vec<u8> = (0..3_000_000_u32).flat_map(|n| (n / 7).to_le_bytes()).collect();
        let data = ::lzf::compress(&text).unwrap();
        assert_eq!(inflate(&data, text.len(), 4096).unwrap(), text);
        assert_eq!(inflate(&data, text.len(), data.len()).unwrap(), text);
        let mut inflate = Inflate::new(data.len() as u64, text.len() as u64);
        inflate.step(&data).unwrap();
        assert!(inflate.made().len() <= WINDOW + CHUNK);
    }

    #[test]
    fn each_damage_has_its_name() {
        let damage = |data: &[u8], len| {
            let mut out = vec![9; 9000];
            let kind = decompress(data, len, &mut out).unwrap_err();
            assert_eq!(out.len(), 9000);
            assert_eq!(inflate(data, len, 1), Err(kind));
            kind
        };
        assert_eq!(damage(&[0x20, 0], 3), RdbErrorKind::Lzf(BEFORE));
        assert_eq!(damage(&[0, b'a', 0x20], 4), RdbErrorKind::Lzf(CUT));
        assert_eq!(damage(&[0, b'a', 0x20, 0], 3), RdbErrorKind::Lzf(MORE));
        assert_eq!(damage(&[0, b'a', 0x20, 0], 5), RdbErrorKind::Lzf(LESS));
    }

    #[test]
    fn the_most_that_can_be_claimed_can_be_made() {
        let mut data = vec![0, b'a'];
        data.extend_from_slice(&[0xe0, 255, 0].repeat(1000));
        let len = 1 + 1000 * MAX_RUN;
        assert!(is_possible(data.len() as u64, len as u64));
        let mut out = Vec::new();
        decompress(&data, len, &mut out).unwrap();
        assert_eq!(out.len(), len);
        assert!(!is_possible(data.len() as u64, len as u64 + 264));
        assert!(is_possible(u64::MAX, u64::MAX));
    }
}
