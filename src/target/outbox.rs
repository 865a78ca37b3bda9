//! Bytes on their way to a socket.

use std::collections::VecDeque;

use bytes::{Buf, Bytes, BytesMut};

/// What is to be written, in order. Small pieces are gathered, so that one write carries many; large ones are kept as they are and
/// not copied.
#[derive(Debug, Default)]
pub(super) struct Outbox {
    pieces: VecDeque<Bytes>,
    tail: BytesMut,
}

/// From this size on a piece is not worth copying.
const LARGE: usize = 16 * 1024;

impl Outbox {
    pub(super) fn put(&mut self, bytes: &[u8]) {
        self.tail.extend_from_slice(bytes);
    }

    pub(super) fn put_shared(&mut self, bytes: &Bytes) {
        if bytes.len() < LARGE {
            self.put(bytes);
        } else {
            self.close_tail();
            self.pieces.push_back(bytes.clone());
        }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.pieces.is_empty() && self.tail.is_empty()
    }

    pub(super) fn clear(&mut self) {
        *self = Self::default();
    }

    /// The piece to write next.
    pub(super) fn front(&mut self) -> &[u8] {
        if self.pieces.is_empty() {
            self.close_tail();
        }
        self.pieces.front().map(Bytes::as_ref).unwrap_or_default()
    }

    /// So many bytes of the front piece were written.
    pub(super) fn written(&mut self, bytes: usize) {
        if let Some(front) = self.pieces.front_mut() {
            front.advance(bytes.min(front.len()));
            if front.is_empty() {
                self.pieces.pop_front();
            }
        }
    }

    fn close_tail(&mut self) {
        if !self.tail.is_empty() {
            self.pieces.push_back(self.tail.split().freeze());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_put_comes_out_in_order() {
        let mut outbox = Outbox::default();
        let large = Bytes::from(vec![b'x'; LARGE]);
        outbox.put(b"ab");
        outbox.put(b"c");
        outbox.put_shared(&large);
        outbox.put_shared(&Bytes::from_static(b"d"));
        let mut written = Vec::new();
        while !outbox.is_empty() {
            let take = outbox.front().len().min(1000);
            written.extend_from_slice(&outbox.front()[..take]);
            outbox.written(take);
        }
        assert_eq!(written, [b"abc", &large[..], b"d"].concat());
    }
}
