//! What a session has read from its connection.

/// Bytes that were read and are not taken yet.
#[derive(Debug, Default)]
pub(super) struct Intake {
    /// All of it is initialised; what is unread lies in `taken..filled`.
    bytes: Vec<u8>,
    taken: usize,
    filled: usize,
}

impl Intake {
    /// Room to read about `size` bytes into, where what is being read may have `longest` bytes in all.
    pub(super) fn room(&mut self, size: usize, longest: usize) -> &mut [u8] {
        if self.taken == self.filled {
            (self.taken, self.filled) = (0, 0);
        }
        let unread = self.filled - self.taken;
        // A command larger than the buffer: it doubles, so that each byte is moved but a few times.
        let wanted = size.max((unread * 2).min(longest.max(unread).saturating_add(size)));
        let is_large = self.bytes.len() > wanted.saturating_mul(4);
        if self.bytes.len() - self.filled < size / 2 || is_large {
            self.bytes.copy_within(self.taken..self.filled, 0);
            (self.taken, self.filled) = (0, unread);
            if self.bytes.len() < wanted || is_large {
                self.bytes.resize(wanted, 0);
                self.bytes.shrink_to(wanted);
            }
        }
        self.bytes.get_mut(self.filled..).unwrap_or_default()
    }

    pub(super) fn filled(&mut self, count: usize) {
        self.filled = self.filled.saturating_add(count).min(self.bytes.len());
    }

    pub(super) fn extend(&mut self, bytes: &[u8]) {
        self.bytes.truncate(self.filled);
        self.bytes.extend_from_slice(bytes);
        self.filled = self.bytes.len();
    }

    pub(super) fn unread(&self) -> &[u8] {
        self.bytes.get(self.taken..self.filled).unwrap_or_default()
    }

    pub(super) fn take(&mut self, count: usize) -> &[u8] {
        let begin = self.taken;
        self.taken = self.taken.saturating_add(count).min(self.filled);
        self.bytes.get(begin..self.taken).unwrap_or_default()
    }
}
