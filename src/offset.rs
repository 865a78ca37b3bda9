//! Where one stands in a master's replication stream.

use std::fmt;

/// A replication offset: how many bytes of its stream a master has produced.
///
/// The offset that a replica has *processed* is the number of the last byte it has taken in; the
/// next byte has that number plus one, which is what `PSYNC` asks for. That arithmetic is done here
/// and in `repl::psync` and nowhere else.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Offset(u64);

impl Offset {
    /// The offset with this number.
    #[must_use]
    pub const fn new(number: u64) -> Self {
        Self(number)
    }

    /// The number as masters print it.
    #[must_use]
    pub const fn get(self) -> u64 {
        self.0
    }

    /// The offset after `bytes` more bytes of stream. Stays at the largest number there is.
    #[must_use]
    pub const fn advance(self, bytes: u64) -> Self {
        Self(self.0.saturating_add(bytes))
    }

    /// The number of the byte after this one: what `PSYNC` asks for.
    #[must_use]
    pub const fn next_byte(self) -> u64 {
        self.0.saturating_add(1)
    }

    /// One byte less: what is acknowledged when this offset is confirmed.
    ///
    /// A replica that acknowledges the exact offset can be chosen by a bare `FAILOVER` (6.2 and later),
    /// which would make the source a replica of nobody; `WAIT` is satisfied all the same, for its own
    /// `GETACK` adds 37 bytes.
    #[must_use]
    pub const fn to_acknowledge(self) -> Self {
        Self(self.0.saturating_sub(1))
    }

    /// Bytes still to come; zero if the master has restarted its count.
    #[must_use]
    pub const fn lag_behind(self, master: Self) -> u64 {
        master.0.saturating_sub(self.0)
    }
}

impl fmt::Display for Offset {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// The name of one history of writes: forty hexadecimal digits, new whenever a master's history parts
/// from another's (`master_replid` in `INFO replication`; `runid` before 4.0).
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct ReplId([u8; 40]);

impl ReplId {
    /// Takes forty hexadecimal digits; `None` for anything else.
    #[must_use]
    pub fn parse(text: &[u8]) -> Option<Self> {
        let digits: [u8; 40] = text.try_into().ok()?;
        digits.iter().all(u8::is_ascii_hexdigit).then_some(Self(digits))
    }

    /// The forty digits.
    #[must_use]
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }
}

impl fmt::Display for ReplId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|&digit| write!(f, "{}", char::from(digit)))
    }
}

impl fmt::Debug for ReplId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "ReplId({self})")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_next_byte_is_one_after_the_last() {
        let at = Offset::new(100).advance(37);
        assert_eq!(at.get(), 137);
        assert_eq!(at.next_byte(), 138);
        assert_eq!(at.to_acknowledge(), Offset::new(136));
        assert_eq!(Offset::new(0).to_acknowledge(), Offset::new(0));
        assert_eq!(Offset::new(5).lag_behind(Offset::new(9)), 4);
        assert_eq!(Offset::new(9).lag_behind(Offset::new(5)), 0);
    }

    #[test]
    fn a_replid_is_forty_hex_digits() {
        let id = ReplId::parse(b"3261b7e84fa23a4a39767bea41d5c09eb3555bc0").unwrap();
        assert_eq!(id.to_string(), "3261b7e84fa23a4a39767bea41d5c09eb3555bc0");
        assert_eq!(ReplId::parse(b"3261"), None);
        assert_eq!(ReplId::parse(&[b'x'; 40]), None);
    }
}
