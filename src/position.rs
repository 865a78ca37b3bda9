//! The position record: how far one source's changes are in the target, kept in the target itself.
//!
//! It is written in the same transaction as the data that it stands for, so whatever the target has kept after a crash, a restart or
//! a failover, its record tells what that is. It is one string under `understudy:pos:<job>:<source>`:
//!
//! ```text
//! understudy position 1 9f0c1e2d3a4b5c6d      form, version, CRC-64 of all that follows this line
//! {"job":"night","source":"10.0.0.1:6379",…}
//! ```
//!
//! `clean` stands behind `applied`: up to `clean` every reply was seen and was as expected, up to `applied` the commands ran and
//! nobody has seen how. Who goes on from a record takes the stream from `clean`, plays nothing up to `applied`, and holds the keys of
//! those commands in doubt, as he does those that the record names.
//!
//! Who takes a job over first appends a [fence](fence()) to its record, one line with a token. Appending waits for nobody's agreement, so it
//! succeeds beside the busiest process, and from then on the record is not what that one has written: it commits nothing more.

use serde::{Deserialize, Serialize};

use crate::key::Db;
use crate::offset::{Offset, ReplId};
use crate::plan::Rules;
use crate::rdb::crc::crc64;
use crate::repl::{Latin1, Resume};

/// See the module.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Record {
    /// The job's name.
    pub job: String,
    /// The source's name.
    pub source: String,
    /// A digest of the rules under which it was written ([`rules_digest`]).
    pub rules: String,
    /// Who wrote it: a token that each process draws anew.
    pub owner: String,
    /// How often it has been taken over.
    pub generation: u64,
    /// What is under way.
    pub phase: Phase,
    /// How many full copies were begun.
    pub copies: u64,
    /// Whether the target held nothing but our own keys when the job began.
    pub sole: bool,
    /// The history that the offsets are of; none until a copy is whole, and from a master without `PSYNC`.
    pub replid: Option<String>,
    /// Up to here the commands of the stream ran.
    pub applied: Spot,
    /// Up to here each of their replies was as expected.
    pub clean: Spot,
    /// Keys that are in doubt at `clean`, by the source's databases and names.
    pub doubts: Vec<(u32, Latin1)>,
    /// Deadlines before this are held back, in Unix milliseconds on the target's clock.
    pub horizon: i64,
    /// Until this time of the target's clock every deadline that may come is held back, in Unix milliseconds.
    pub good: i64,
    /// Some deadlines came as times from now and must be asked of the source.
    pub unsure: bool,
    /// When the source was last written to, in Unix milliseconds on the target's clock, where rules ask for that.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub written: Option<i64>,
    /// When the job ended, on the same clock: what rules say of that holds for this time, however long deadlines take to be set.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ended: Option<i64>,
    /// Things that could not be proven to be as they are on the source: who ends the job has not seen them.
    #[serde(default, skip_serializing_if = "is_none")]
    pub unproven: u64,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde asks so")]
fn is_none(count: &u64) -> bool {
    *count == 0
}

/// What is under way.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Phase {
    /// A full copy. What the target holds is a part of the data set.
    Copying,
    /// The copy is whole and the stream is applied.
    Following,
    /// Deadlines are set to what they are.
    Finishing,
    /// All is done, and other sources of the job are not.
    Done,
}

/// A place in a stream, and the database that is selected there.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Spot {
    /// The place.
    pub offset: u64,
    /// The database.
    pub db: u32,
}

/// Why what stands under a record's name is no record that can be gone on with.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum RecordError {
    /// It is something else.
    #[error("what stands there is no position record")]
    Foreign,
    /// A later understudy wrote it.
    #[error("it has version {0}, and this understudy reads versions up to {VERSION}")]
    Newer(u32),
    /// Its sum is wrong.
    #[error("it is damaged: its checksum is {found:016x} and should be {told:016x}")]
    Damaged {
        /// What it says.
        told: u64,
        /// What its bytes give.
        found: u64,
    },
    /// Its fields cannot be read.
    #[error("its fields cannot be read: {0}")]
    Form(String),
    /// It belongs to another job or source.
    #[error("it is the record of job {job} and source {source_name}")]
    Other {
        /// That job.
        job: String,
        /// That source.
        source_name: String,
    },
    /// The rules were others.
    #[error(
        "it was written under other rules (--only-db, --db-map, --include, --exclude, --type, --prefix and others)"
    )]
    Rules,
}

/// The version of the record that is written.
pub const VERSION: u32 = 1;

const MAGIC: &str = "understudy position ";

impl Record {
    /// Its bytes.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        // Of these types none can fail.
        let body = serde_json::to_vec(self).unwrap_or_default();
        let mut out = format!("{MAGIC}{VERSION} {:016x}\n", crc64(&body)).into_bytes();
        out.extend(body);
        out
    }

    /// Reads what stands under a record's name, whatever fences stand behind it.
    ///
    /// # Errors
    /// If it is foreign, newer or damaged.
    pub fn decode(bytes: &[u8]) -> Result<Self, RecordError> {
        let (bytes, _) = split(bytes);
        let head = bytes.split(|byte| *byte == b'\n').next().unwrap_or_default();
        let body = bytes.get(head.len() + 1..).unwrap_or_default();
        let head = std::str::from_utf8(head).ok().and_then(|head| head.strip_prefix(MAGIC));
        let (version, sum) =
            head.and_then(|head| head.split_once(' ')).ok_or(RecordError::Foreign)?;
        let version: u32 = version.parse().map_err(|_| RecordError::Foreign)?;
        if version > VERSION {
            return Err(RecordError::Newer(version));
        }
        let told = u64::from_str_radix(sum, 16).map_err(|_| RecordError::Foreign)?;
        let found = crc64(body);
        if version == 0 || format!("{found:016x}") != sum {
            return Err(RecordError::Damaged { told, found });
        }
        serde_json::from_slice(body).map_err(|error| RecordError::Form(error.to_string()))
    }

    /// Sees that it is the record of this job and source, written under these rules.
    ///
    /// # Errors
    /// If it is not.
    pub fn is_of(&self, job: &str, source: &str, rules: &str) -> Result<(), RecordError> {
        if self.job != job || self.source != source {
            let (job, source_name) = (self.job.clone(), self.source.clone());
            return Err(RecordError::Other { job, source_name });
        }
        if self.rules == rules { Ok(()) } else { Err(RecordError::Rules) }
    }

    /// Where the stream is gone on with; `None` if only a full copy helps.
    #[must_use]
    pub fn resume(&self) -> Option<Resume> {
        let replid = ReplId::parse(self.replid.as_ref()?.as_bytes())?;
        let follows = self.phase == Phase::Following;
        follows.then(|| Resume { replid, offset: Offset::new(self.clean.offset) })
    }

    /// The keys in doubt at `clean`.
    pub fn doubts(&self) -> impl Iterator<Item = (Db, &[u8])> {
        self.doubts.iter().map(|(db, key)| (Db::new(*db), key.0.as_slice()))
    }

    /// Whether keys with deadlines may have died in a target whose clock shows this, in Unix milliseconds.
    #[must_use]
    pub const fn is_late(&self, target_ms: i64) -> bool {
        const MARGIN: i64 = 60_000;
        target_ms.saturating_add(MARGIN) >= self.good
    }
}

impl Spot {
    /// A place in a stream.
    #[must_use]
    pub const fn new(offset: Offset, db: Db) -> Self {
        Self { offset: offset.get(), db: db.index() }
    }
}

/// What is appended to a record by the process with this token, so that nobody else goes on with it.
#[must_use]
pub fn fence(owner: &str) -> Vec<u8> {
    format!("\n{FENCE}{owner}").into_bytes()
}

/// The token of the process that appended the last fence to what stands under a record's name.
#[must_use]
pub fn fenced_by(stored: &[u8]) -> Option<&str> {
    split(stored).1
}

/// Whether fences are all that stands there: the record was deleted when the first of them came.
#[must_use]
pub fn is_only_fences(stored: &[u8]) -> bool {
    let (record, fence) = split(stored);
    record.is_empty() && fence.is_some()
}

const FENCE: &str = "fence ";

/// A record's own bytes, and the token of the last fence behind them.
fn split(stored: &[u8]) -> (&[u8], Option<&str>) {
    let (mut record, mut last) = (stored, None);
    while let Some(at) = record.iter().rposition(|byte| *byte == b'\n') {
        let line = record.get(at + 1..).and_then(|line| std::str::from_utf8(line).ok());
        let Some(token) = line.and_then(|line| line.strip_prefix(FENCE)) else { break };
        last = last.or(Some(token));
        record = record.get(..at).unwrap_or_default();
    }
    (record, last)
}

/// The key of a record.
#[must_use]
pub fn key(job: &str, source: &str) -> Vec<u8> {
    format!("understudy:pos:{job}:{source}").into_bytes()
}

/// The key of the scripts that a source has named: a hash, SHA-1 to text.
#[must_use]
pub fn scripts_key(job: &str, source: &str) -> Vec<u8> {
    format!("understudy:scripts:{job}:{source}").into_bytes()
}

/// A digest of a text.
#[must_use]
pub fn digest(text: &str) -> String {
    format!("{:016x}", crc64(text.as_bytes()))
}

/// A digest of rules: empty for those that want all as it is.
#[must_use]
pub fn rules_digest(rules: &Rules) -> String {
    if rules.is_all() { String::new() } else { digest(&rules.to_string()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record() -> Record {
        Record {
            job: "night".to_owned(),
            source: "10.0.0.1:6379".to_owned(),
            rules: digest(""),
            owner: "0123456789abcdef".to_owned(),
            generation: 3,
            phase: Phase::Following,
            copies: 1,
            sole: true,
            replid: Some("0123456789abcdef0123456789abcdef01234567".to_owned()),
            applied: Spot { offset: 900, db: 3 },
            clean: Spot { offset: 800, db: 2 },
            doubts: vec![(0, Latin1(b"k\xff\0".to_vec())), (9, Latin1(Vec::new()))],
            horizon: 5_000_000,
            good: 4_000_000,
            unsure: false,
            written: None,
            ended: None,
            unproven: 0,
        }
    }

    #[test]
    fn a_record_is_read_as_it_was_written() {
        let bytes = record().encode();
        assert_eq!(Record::decode(&bytes).as_ref(), Ok(&record()));
        let doubts: Vec<_> = record().doubts().map(|(db, key)| (db, key.to_vec())).collect();
        assert_eq!(doubts, [(Db::new(0), b"k\xff\0".to_vec()), (Db::new(9), Vec::new())]);
        let resume = record().resume().unwrap();
        assert_eq!(resume.offset, Offset::new(800));
        assert_eq!(Record { phase: Phase::Copying, ..record() }.resume(), None);
        assert_eq!(Record { replid: None, ..record() }.resume(), None);
    }

    #[test]
    fn a_record_of_a_job_without_such_rules_is_as_it_ever_was() {
        let bytes = record().encode();
        let text = String::from_utf8_lossy(&bytes).into_owned();
        assert!(text.ends_with(r#""unsure":false}"#), "{text}");
        let ending = Record { written: Some(-5), ended: Some(7), unproven: 2, ..record() };
        assert_eq!(Record::decode(&ending.encode()).as_ref(), Ok(&ending));
    }

    #[test]
    fn a_byte_that_is_wrong_is_found() {
        let bytes = record().encode();
        for at in 0..bytes.len() {
            for flip in [1, 0x20, 0x80] {
                let mut wrong = bytes.clone();
                wrong[at] ^= flip;
                assert!(
                    Record::decode(&wrong).is_err(),
                    "byte {at}: {}",
                    String::from_utf8_lossy(&wrong)
                );
            }
            assert!(Record::decode(&bytes[..at]).is_err(), "cut at {at}");
        }
    }

    #[test]
    fn fences_behind_a_record_change_nothing_of_it() {
        let mut stored = record().encode();
        assert_eq!(fenced_by(&stored), None);
        for owner in ["us", "others"] {
            stored.extend(fence(owner));
            assert_eq!(fenced_by(&stored), Some(owner));
            assert_eq!(Record::decode(&stored).as_ref(), Ok(&record()));
            assert!(!is_only_fences(&stored));
        }
        let alone = [fence("us"), fence("others")].concat();
        assert!(is_only_fences(&alone));
        assert_eq!(Record::decode(&alone), Err(RecordError::Foreign));
        assert!(!is_only_fences(b""));
        assert!(!is_only_fences(b"42"));
        assert_eq!(fenced_by(b"fence us"), None, "there is always a line before it");
    }

    #[test]
    fn what_is_not_ours_is_told_apart() {
        assert_eq!(Record::decode(b"42"), Err(RecordError::Foreign));
        assert_eq!(Record::decode(b""), Err(RecordError::Foreign));
        let newer = b"understudy position 2 0000000000000000\n{}";
        assert_eq!(Record::decode(newer), Err(RecordError::Newer(2)));
        let body = b"{\"job\":1}";
        let line =
            [format!("understudy position 1 {:016x}\n", crc64(body)).as_bytes(), body].concat();
        assert!(matches!(Record::decode(&line), Err(RecordError::Form(_))));
        assert_eq!(record().is_of("night", "10.0.0.1:6379", &digest("")), Ok(()));
        assert_eq!(
            record().is_of("night", "10.0.0.1:6379", &digest("--only-db 3")),
            Err(RecordError::Rules)
        );
        assert!(matches!(
            record().is_of("day", "10.0.0.1:6379", ""),
            Err(RecordError::Other { .. })
        ));
    }

    #[test]
    fn a_target_is_late_a_minute_before_deadlines_come() {
        assert!(!record().is_late(4_000_000 - 60_001));
        assert!(record().is_late(4_000_000 - 60_000));
    }
}
