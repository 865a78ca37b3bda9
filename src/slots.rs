//! The slots of a cluster: which one a key is in, and sets of them.
//!
//! A slot is the CRC-16 (XMODEM) of a key, or of what stands between its first braces, modulo 16,384 (Redis Cluster specification, "Key
//! distribution model").

pub mod nodes;

use std::fmt;

/// How many there are.
pub const SLOTS: u16 = 16_384;

/// The slot of a key.
#[must_use]
pub fn slot_of(key: &[u8]) -> u16 {
    crc16(tag(key)) % SLOTS
}

/// What of a key decides: what stands between the first opening brace and the next closing one, if that is not nothing.
fn tag(key: &[u8]) -> &[u8] {
    let mut parts = key.splitn(2, |byte| *byte == b'{');
    let (_, Some(behind)) = (parts.next(), parts.next()) else { return key };
    match behind.iter().position(|byte| *byte == b'}') {
        None | Some(0) => key,
        Some(end) => behind.get(..end).unwrap_or(key),
    }
}

fn crc16(bytes: &[u8]) -> u16 {
    bytes.iter().fold(0, |sum: u16, byte| {
        let [high, _] = sum.to_be_bytes();
        let row = TABLE.get(usize::from(high ^ byte)).copied().unwrap_or_default();
        (sum << 8) ^ row
    })
}

const TABLE: [u16; 256] = table();

#[expect(
    clippy::indexing_slicing,
    reason = "the index is below the length, and it is checked when this is compiled"
)]
const fn table() -> [u16; 256] {
    let mut table = [0; 256];
    let mut at: u16 = 0;
    while at < 256 {
        let (mut row, mut bit) = (at << 8, 0);
        while bit < 8 {
            row = if row & 0x8000 == 0 { row << 1 } else { (row << 1) ^ 0x1021 };
            bit += 1;
        }
        table[at as usize] = row;
        at += 1;
    }
    table
}

/// Some of the slots.
#[derive(Clone, PartialEq, Eq)]
pub struct SlotSet(Box<[u64; WORDS]>);

const WORDS: usize = SLOTS as usize / 64;

impl Default for SlotSet {
    fn default() -> Self {
        Self(Box::new([0; WORDS]))
    }
}

impl SlotSet {
    /// Adds a slot. One that there is not is not added.
    pub fn insert(&mut self, slot: u16) {
        if let Some(word) = self.0.get_mut(usize::from(slot / 64)) {
            *word |= 1 << (slot % 64);
        }
    }

    /// Whether it has this slot.
    #[must_use]
    pub fn has(&self, slot: u16) -> bool {
        self.0.get(usize::from(slot / 64)).is_some_and(|word| word & (1 << (slot % 64)) != 0)
    }

    /// How many it has.
    #[must_use]
    pub fn len(&self) -> usize {
        self.0.iter().map(|word| word.count_ones() as usize).sum()
    }

    /// Whether it has none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.iter().all(|word| *word == 0)
    }

    /// How many both have.
    #[must_use]
    pub fn overlap(&self, other: &Self) -> usize {
        self.0
            .iter()
            .zip(other.0.iter())
            .map(|(one, other)| (one & other).count_ones() as usize)
            .sum()
    }

    /// Its slots, in order.
    pub fn iter(&self) -> impl Iterator<Item = u16> {
        (0..SLOTS).filter(|slot| self.has(*slot))
    }

    /// Its slots as ranges, each with its last one.
    #[must_use]
    pub fn ranges(&self) -> Vec<(u16, u16)> {
        let mut ranges: Vec<(u16, u16)> = Vec::new();
        for slot in self.iter() {
            match ranges.last_mut() {
                Some((_, last)) if *last + 1 == slot => *last = slot,
                _ => ranges.push((slot, slot)),
            }
        }
        ranges
    }

    /// A name for it, which no other set has: its ranges, and where these are more than three the first of them, how many more there are, and
    /// a digest of all.
    #[must_use]
    pub fn name(&self) -> String {
        const SHOWN: usize = 3;
        let ranges = self.ranges();
        if ranges.len() <= SHOWN {
            return self.to_string();
        }
        // FNV-1a.
        let digest = self
            .0
            .iter()
            .flat_map(|word| word.to_le_bytes())
            .fold(0xcbf2_9ce4_8422_2325_u64, |sum, byte| {
                (sum ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
            });
        let (first, last) = ranges.first().copied().unwrap_or_default();
        format!("{}+{}:{:08x}", range(first, last), ranges.len() - 1, digest >> 32)
    }
}

impl FromIterator<u16> for SlotSet {
    fn from_iter<I: IntoIterator<Item = u16>>(slots: I) -> Self {
        let mut set = Self::default();
        slots.into_iter().for_each(|slot| set.insert(slot));
        set
    }
}

fn range(first: u16, last: u16) -> String {
    if first == last { first.to_string() } else { format!("{first}-{last}") }
}

/// `0-5460,8000`.
impl fmt::Display for SlotSet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let ranges = self.ranges();
        let ranges: Vec<String> =
            ranges.into_iter().map(|(first, last)| range(first, last)).collect();
        f.write_str(&ranges.join(","))
    }
}

impl fmt::Debug for SlotSet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SlotSet({self})")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_are_where_servers_say() {
        // As CLUSTER KEYSLOT of 7.0.15 answers.
        for (key, slot) in [
            ("", 0),
            ("123456789", 12_739),
            ("foo", 12_182),
            ("k1xx", 2871),
            ("{k1xx}2", 2871),
            ("{user1000}.following", 3443),
            ("foo{}{bar}", 8363),
            ("foo{{bar}}zap", 4015),
            ("foo{bar}{zap}", 5061),
            ("foo{bar", 15_278),
        ] {
            assert_eq!(slot_of(key.as_bytes()), slot, "{key}");
        }
    }

    #[test]
    fn sets_are_called_by_their_ranges() {
        let set: SlotSet = (0..=5460).chain([8000]).collect();
        assert_eq!((set.len(), set.is_empty()), (5462, false));
        assert_eq!(set.name(), "0-5460,8000");
        assert!(set.has(8000) && !set.has(5461) && !set.has(u16::MAX));
        let odd: SlotSet = (0..20).filter(|slot| slot % 2 == 1).collect();
        let other: SlotSet = (0..22).filter(|slot| slot % 2 == 1).collect();
        assert!(odd.name().starts_with("1+9:"), "{}", odd.name());
        assert_ne!(odd.name(), other.name());
        assert_eq!((odd.overlap(&other), odd.overlap(&set)), (10, 10));
        let all: SlotSet = (0..SLOTS).collect();
        assert_eq!((all.to_string(), all.len()), ("0-16383".to_owned(), 16_384));
        let mut none = SlotSet::default();
        none.insert(SLOTS);
        assert!(none.is_empty());
    }
}
