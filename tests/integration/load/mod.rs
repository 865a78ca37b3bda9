//! A writer: a seeded sequence of mixed commands, valid for the server that they are meant for, as an application would
//! send them while its data moves.
//!
//! What a master itself does not tell its replicas is left out, since nobody could follow it: reads of a stream that
//! acknowledge at once, readings of a consumer's own history, and an HPERSIST of a field about to die.

use std::cmp;
use std::thread;
use std::time::{Duration, Instant};

use crate::client::{Client, Command, Value, cmd};
use crate::data::Holds;
use crate::dice::Dice;
use crate::servers::Version;

mod commands;

/// The key whose appearance in database 0 says that everything before it has arrived.
pub(crate) const END: &str = "the end";

/// The database that is flushed once, early, and then written again.
const FLUSHED: u32 = 9;
/// Two databases that change places now and then.
const SWAPPED: [u32; 2] = [14, 15];

/// How many keys of each kind there are in each database: few, so that commands meet.
const KEYS: usize = 25;

pub(crate) struct Load {
    dice: Dice,
    version: Version,
    holds: Holds,
    /// It writes into the first so many databases,
    dbs: u32,
    /// and to so many keys of each kind.
    keys: usize,
    /// What only others like it must not do is done by each to streams of its own.
    among: Option<Among>,
    db: u32,
    /// The next id of each stream, by database and stream.
    ids: [[u64; 3]; 16],
    /// Whether the server has seen the script that is later called by its SHA-1.
    script_known: bool,
    /// Groups of commands to go until the one FLUSHDB.
    until_flush: Option<usize>,
}

/// What a [`Load`] is among others that write to the same server at the same time.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Among {
    /// Its number.
    pub(crate) nth: usize,
    /// Whether it flushes databases, and swaps them, now and then.
    pub(crate) flushes: bool,
}

/// What a [`Load`] has sent.
#[derive(Clone, Debug, Default)]
pub(crate) struct Sent {
    /// How many commands write, or would if there were anything to write.
    pub(crate) writes: usize,
    /// The server's offset after each of those that made its stream grow, one transaction for one. They are told by the connection that
    /// writes, between its commands.
    pub(crate) offsets: Vec<u64>,
    /// The refusals. Only a key that has died may be missed.
    pub(crate) refused: Vec<String>,
}

impl Sent {
    fn add(&mut self, more: Self) {
        self.writes += more.writes;
        self.offsets.extend(more.offsets);
        self.refused.extend(more.refused);
    }
}

/// What was sent while a replica's copy was under way.
#[derive(Debug)]
pub(crate) struct DuringCopy {
    /// The last offset of the source at which it had not sent the whole copy.
    pub(crate) unfinished: u64,
    /// All that was sent.
    pub(crate) sent: Sent,
}

impl DuringCopy {
    /// How many writes lie behind the offset that the replica was told in `+FULLRESYNC`, and before the end of its copy: they are
    /// not in it, and the replica had not read it when they were made.
    pub(crate) fn within(&self, full_resync: u64) -> usize {
        let offsets = self.sent.offsets.iter();
        offsets.filter(|&&offset| offset > full_resync && offset <= self.unfinished).count()
    }
}

/// How long a copy may take to begin and to end.
const PATIENCE: Duration = Duration::from_secs(15);

/// Deadlines that pass during a test are at most so far away.
const SHORT: Duration = Duration::from_millis(450);

/// Makes the copies of this server take a few hundred ms, so that there is time to write meanwhile. What has been written with a short
/// deadline is dead when this returns, where it must be.
pub(crate) fn slow_copies(client: &mut Client) {
    // From 6.0 on the saving process can be told to rest after each key; before, it is given more to save.
    if client.try_call(cmd!("CONFIG", "SET", "rdb-key-save-delay", 200)).is_error() {
        let mut dice = Dice::new(1);
        for n in 0..32 {
            client.call(cmd!("SET", format!("bulk:{n}"), dice.bytes(1 << 18)));
        }
        // Masters up to 3.2 leave out of a payload what is past its deadline when the child looks at the clock, which may be long after
        // the fork on a busy machine, although it has been renewed between the two.
        thread::sleep(SHORT);
    }
}

/// The server's offset, if it is making or sending a copy for a replica: both stand in one answer.
fn copying(client: &mut Client) -> Option<u64> {
    let replies = client.pipeline(&[cmd!("INFO", "replication"), cmd!("INFO", "persistence")]);
    let (replication, persistence) = (replies[0].text(), replies[1].text());
    let waits = replication
        .lines()
        .any(|line| line.starts_with("slave") && line.contains("state=wait_bgsave"));
    let is_sent = replication
        .lines()
        .any(|line| line.starts_with("slave") && line.contains("state=send_bulk"));
    // A replica also waits for a fork that is yet to come: what is written then is in the copy.
    let saving = persistence.lines().any(|line| line.trim_end() == "rdb_bgsave_in_progress:1");
    let offset = replication.lines().find_map(|line| line.strip_prefix("master_repl_offset:"))?;
    (is_sent || waits && saving).then(|| offset.trim_end().parse().unwrap())
}

impl Load {
    pub(crate) fn new(seed: u64, version: Version, holds: Holds) -> Self {
        Self {
            dice: Dice::new(seed),
            version,
            holds,
            dbs: 16,
            keys: KEYS,
            among: None,
            db: 0,
            ids: [[1; 3]; 16],
            script_known: false,
            until_flush: None,
        }
    }

    /// One of several: few databases and few keys, so that they meet often.
    pub(crate) fn among(self, among: Among) -> Self {
        Self { dbs: 3, keys: 8, among: Some(among), ..self }
    }

    /// Has it use a new connection, to a server that may know nothing of the old one.
    pub(crate) const fn begin_again(&mut self) {
        self.db = 0;
        self.forget_script();
    }

    /// The server does not know the script by its name.
    pub(crate) const fn forget_script(&mut self) {
        self.script_known = false;
    }

    /// The next few commands.
    pub(crate) fn some(&mut self, most: usize) -> Vec<Command> {
        let mut commands = Vec::new();
        while commands.len() < most {
            commands.extend(self.next());
        }
        commands
    }

    /// Has a database flushed among the next commands; it is written again after that.
    pub(crate) const fn flush_soon(&mut self) {
        self.until_flush = Some(60);
    }

    /// Sends commands until `writes` of them have been sent, in pipelines of about a hundred, each followed by a question for the offset. A client that has been used
    /// by this load before goes on in the database where it is.
    pub(crate) fn send(&mut self, client: &mut Client, writes: usize) -> Sent {
        let mut sent = Sent::default();
        while sent.writes < writes {
            let mut commands = vec![cmd!("ROLE")];
            while commands.len() < 200 && sent.writes < writes {
                let group = self.next();
                sent.writes += group.iter().filter(|command| is_write(command)).count();
                commands.extend(group);
                commands.push(cmd!("ROLE"));
            }
            let mut before = None;
            for (reply, command) in client.pipeline(&commands).iter().zip(&commands) {
                if command[0] == b"ROLE" {
                    let offset = u64::try_from(reply.array()[1].int()).unwrap();
                    sent.offsets.extend(before.filter(|&before| before < offset).map(|_| offset));
                    before = Some(offset);
                } else {
                    note_refusals(reply, command, &mut sent.refused);
                }
            }
        }
        sent
    }

    /// Sends commands from the moment when a replica's copy has been forked off until it has been sent, at most `most` of
    /// them, and returns when it has been.
    ///
    /// # Panics
    /// If no copy begins, or it does not end.
    pub(crate) fn send_during_copy(&mut self, client: &mut Client, most: usize) -> DuringCopy {
        let until = Instant::now() + PATIENCE;
        let mut watch = Client::connect(client.port());
        let mut unfinished = loop {
            if let Some(offset) = copying(&mut watch) {
                break offset;
            }
            assert!(Instant::now() < until, "no copy has begun");
        };
        let mut sent = Sent::default();
        while sent.writes < most {
            sent.add(self.send(client, cmp::min(100, most - sent.writes)));
            match copying(&mut watch) {
                Some(offset) => unfinished = offset,
                None => return DuringCopy { unfinished, sent },
            }
        }
        while copying(&mut watch).is_some() {
            assert!(Instant::now() < until, "the copy has not ended");
        }
        DuringCopy { unfinished, sent }
    }

    /// Writes [`END`] into database 0.
    pub(crate) fn end(&mut self, client: &mut Client) {
        self.db = 0;
        client.select(0);
        client.call(cmd!("SET", END, "1"));
    }
}

fn is_write(command: &Command) -> bool {
    ![&b"SELECT"[..], b"MULTI", b"EXEC"].contains(&command[0].as_slice())
}

/// A key that has died under a RENAME is the one refusal that these commands can meet.
fn note_refusals(reply: &Value, command: &Command, refused: &mut Vec<String>) {
    match reply {
        Value::Error(line) if line.contains("no such key") => {}
        Value::Error(line) => {
            let words: Vec<_> =
                command.iter().take(4).map(|arg| arg.escape_ascii().to_string()).collect();
            refused.push(format!("{:.100}: {line}", words.join(" ")));
        }
        Value::Array(replies) if command[0] == b"EXEC" => {
            replies.iter().for_each(|reply| note_refusals(reply, command, refused));
        }
        _ => {}
    }
}
