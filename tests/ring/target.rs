//! A target in memory: a server with transactions, that refuses what it was told to refuse.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream};
use tokio::time::sleep;

use understudy::net::Clock;
use understudy::resp::CommandReader;

use crate::link::{Delay, LinkPlan};
use crate::model::{Args, Entry, Keys, Model, Reply, Value};

/// Some commands are refused.
#[derive(Clone, Debug)]
pub(crate) struct Refusal {
    /// How many commands come before.
    pub(crate) after: usize,
    /// How many are refused.
    pub(crate) count: usize,
    pub(crate) kind: Kind,
}

/// Some writes take long, and nobody is answered meanwhile.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Slow {
    /// How many writes come before.
    pub(crate) after: usize,
    /// How many take long.
    pub(crate) count: usize,
    pub(crate) lasts: Duration,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// Commands that may need memory.
    Oom,
    /// Writes.
    ReadOnly,
    /// Writes.
    Misconf,
    /// All but what is allowed while loading.
    Loading,
    /// `EXEC`, though all was queued.
    Abort,
    /// `EXEC`, and the transaction stays open, as up to 6.0.
    Busy,
    /// A write inside of a transaction that is run, as a script that finds no memory: all others are done.
    Inside,
}

/// See the module.
#[derive(Debug)]
pub(crate) struct Target {
    state: Mutex<State>,
    /// Whether it may refuse for longer than is waited for.
    is_stubborn: bool,
    /// Whether commands of transactions that are run may fail.
    fails_inside: bool,
    clock: Clock,
    /// How far its own clock is ahead of that, in milliseconds.
    ahead: i64,
}

/// So many refusals in a row take five minutes.
const STUBBORN: usize = 30;

#[derive(Debug)]
struct State {
    model: Model,
    refusals: VecDeque<Refusal>,
    slow: Option<Slow>,
    /// Until when it is at a command that takes long.
    busy: Duration,
    /// How many connections were made.
    links: u64,
    /// Which of its processes this is: the first has number 1.
    process: u64,
    /// What deadlines were last bounded against when they were set to what they are.
    ended: Option<i64>,
}

/// What is known of one connection.
#[derive(Debug, Default)]
struct Client {
    db: u32,
    /// The commands of an open transaction, and whether one was refused.
    queue: Option<(Vec<Args>, bool)>,
    /// What is watched, as it was then.
    watched: Vec<(u32, Vec<u8>, Option<Entry>)>,
}

impl Target {
    pub(crate) fn new(
        refusals: VecDeque<Refusal>,
        slow: Option<Slow>,
        clock: (Clock, i64),
    ) -> Self {
        let refused = refusals.iter().fold(0, |all: usize, one| all.saturating_add(one.count));
        let (clock, ahead) = clock;
        let fails_inside = refusals.iter().any(|one| one.kind == Kind::Inside);
        let state = State {
            model: Model::default(),
            refusals,
            slow,
            busy: Duration::ZERO,
            links: 0,
            process: 1,
            ended: None,
        };
        Self {
            state: Mutex::new(state),
            is_stubborn: refused >= STUBBORN,
            fails_inside,
            clock,
            ahead,
        }
    }

    /// What it holds, with deadlines as the source's clock has them.
    pub(crate) fn holds(&self) -> Model {
        let mut model = self.with(Model::clone);
        for entry in model.dbs.values_mut().flat_map(Keys::values_mut) {
            entry.until = entry.until.map(|until| until - self.ahead);
        }
        model
    }

    /// When the job ended, as its scripts say, on the source's clock.
    pub(crate) fn ended(&self) -> Option<i64> {
        Some(self.state.lock().unwrap().ended? - self.ahead)
    }

    pub(crate) fn with<T>(&self, look: impl FnOnce(&Model) -> T) -> T {
        look(&self.state.lock().unwrap().model)
    }

    /// How many connections were made after the first one.
    pub(crate) fn relinks(&self) -> u64 {
        self.state.lock().unwrap().links.saturating_sub(1)
    }

    /// It dies, and begins anew without its data.
    pub(crate) fn restart(&self) {
        let mut state = self.state.lock().unwrap();
        state.model = Model::default();
        state.process += 1;
    }

    /// Whether it was restarted.
    pub(crate) fn was_restarted(&self) -> bool {
        self.state.lock().unwrap().process > 1
    }

    /// Whether it may refuse for longer than is waited for.
    pub(crate) fn is_stubborn(&self) -> bool {
        self.is_stubborn
    }

    /// Whether commands may have done something else than on the source.
    pub(crate) fn fails_inside(&self) -> bool {
        self.fails_inside
    }

    /// Serves one connection to its end.
    pub(crate) async fn serve(
        self: Arc<Self>,
        mut pipe: DuplexStream,
        plan: LinkPlan,
        mut delay: Delay,
    ) {
        let (mut reader, mut input) = (CommandReader::default(), Vec::new());
        let mut client = Client::default();
        let process = {
            let mut state = self.state.lock().unwrap();
            state.links += 1;
            state.process
        };
        let mut room = [0; 4096];
        let (mut said, mut executed, mut counted) = (0, 0, 0);
        loop {
            let count = pipe.read(&mut room).await.unwrap_or(0);
            if count == 0 {
                return;
            }
            input.extend_from_slice(&room[..count]);
            delay.wait().await;
            if self.state.lock().unwrap().process != process {
                return;
            }
            let mut output = Vec::new();
            while let Some(used) = reader.read(&input).unwrap() {
                let args: Args = reader.args(&input).map(<[u8]>::to_vec).collect();
                input.drain(..used);
                let is_executed = args == [b"EXEC"];
                executed += usize::from(is_executed);
                counted += usize::from(is_executed && client.queue_counts());
                self.take_time(&args, &client).await;
                if self.state.lock().unwrap().process != process {
                    return;
                }
                self.answer(&mut client, args).encode(&mut output);
                if plan.executed == Some(executed) || is_executed && plan.counted == Some(counted) {
                    return;
                }
            }
            said += output.len();
            if let Some((most, wait)) = plan.mute
                && said > most
            {
                let heard = output.len().saturating_sub(said - most);
                let _ = pipe.write_all(&output[..heard]).await;
                sleep(wait).await;
                return;
            }
            if pipe.write_all(&output).await.is_err() {
                return;
            }
        }
    }

    /// Waits while another command takes long, or for as long as this one does. It is done though its client is gone by then, and before
    /// anybody else's.
    async fn take_time(&self, args: &Args, client: &Client) {
        loop {
            let now = self.clock.now();
            let busy = self.state.lock().unwrap().busy;
            if busy <= now {
                break;
            }
            sleep(busy - now + Duration::from_millis(1)).await;
        }
        let name = String::from_utf8_lossy(&args[0]).to_uppercase();
        let lasts = {
            let mut state = self.state.lock().unwrap();
            let now = self.clock.now();
            let runs = name == "EXEC" || client.queue.is_none() && Kind::ReadOnly.refuses(&name);
            match &mut state.slow {
                Some(slow) if runs && slow.after > 0 => {
                    slow.after -= 1;
                    return;
                }
                Some(slow) if runs && slow.count > 0 => {
                    slow.count -= 1;
                    let lasts = slow.lasts;
                    state.busy = now + lasts;
                    lasts
                }
                _ => return,
            }
        };
        sleep(lasts).await;
    }

    fn answer(&self, client: &mut Client, args: Args) -> Reply {
        let mut state = self.state.lock().unwrap();
        let now = self.clock.unix_ms() + self.ahead;
        let error = |text: &str| Reply::Error(text.to_owned());
        let name = String::from_utf8(args[0].to_ascii_uppercase()).unwrap();
        let refusal = state.refusal(&name);
        match (name.as_str(), &mut client.queue) {
            ("MULTI", None) => {
                client.queue = Some((Vec::new(), false));
                Reply::Status("OK")
            }
            ("MULTI", Some((_, dirty))) => {
                *dirty = true;
                error("ERR MULTI calls can not be nested")
            }
            ("DISCARD", None) => error("ERR DISCARD without MULTI"),
            ("DISCARD", Some(_)) => {
                (client.queue, client.watched) = (None, Vec::new());
                Reply::Status("OK")
            }
            ("EXEC", None) => error("ERR EXEC without MULTI"),
            ("EXEC", Some(_)) => {
                let (commands, dirty) = client.queue.take().unwrap();
                let watched = std::mem::take(&mut client.watched);
                let is_changed = |(db, key, was): &(u32, Vec<u8>, Option<Entry>)| {
                    state.model.dbs.get(db).and_then(|keys| keys.get(key)) != was.as_ref()
                };
                if !dirty && watched.iter().any(is_changed) {
                    return Reply::Nil;
                }
                match refusal {
                    _ if dirty => {
                        error("EXECABORT Transaction discarded because of previous errors.")
                    }
                    Some(Kind::Busy) => {
                        client.queue = Some((commands, true));
                        error(Kind::Busy.text())
                    }
                    Some(kind) => error(kind.text()),
                    None => Reply::Array(
                        commands.iter().map(|args| state.run_inside(client, args, now)).collect(),
                    ),
                }
            }
            (_, queue) if refusal.is_some() => {
                if let Some((_, dirty)) = queue {
                    *dirty = true;
                }
                error(refusal.unwrap().text())
            }
            (_, Some((commands, _))) => {
                commands.push(args);
                Reply::Status("QUEUED")
            }
            (_, None) => state.run(client, &args, now),
        }
    }
}

impl Client {
    /// Whether something in the open transaction does something else when it is done again.
    fn queue_counts(&self) -> bool {
        let is_own = |args: &Args| args.get(1).is_some_and(|key| key.starts_with(b"understudy:"));
        let adds = |args: &Args| COUNTING.contains(&args[0].to_ascii_uppercase().as_slice());
        let counts = |args: &Args| adds(args) && !is_own(args);
        self.queue.as_ref().is_some_and(|(commands, _)| commands.iter().any(counts))
    }
}

/// Commands that add to what is there.
const COUNTING: [&[u8]; 10] = [
    b"INCR",
    b"INCRBY",
    b"APPEND",
    b"RPUSH",
    b"LPUSH",
    b"LPOP",
    b"RPOPLPUSH",
    b"LMOVE",
    b"ZINCRBY",
    b"HINCRBY",
];

impl State {
    fn refusal(&mut self, name: &str) -> Option<Kind> {
        let refusal = self.refusals.front_mut()?;
        if refusal.after > 0 {
            refusal.after -= 1;
            return None;
        }
        if !refusal.kind.refuses(name) {
            return None;
        }
        let kind = refusal.kind;
        self.used();
        Some(kind)
    }

    /// Runs a command of a transaction, unless it is to fail there.
    fn run_inside(&mut self, client: &mut Client, args: &Args, now: i64) -> Reply {
        let is_own = args.get(1).is_none_or(|key| key.starts_with(b"understudy:"));
        let fails = self.refusals.front().is_some_and(|next| next.after == 0)
            && self.refusals.front().is_some_and(|next| next.kind == Kind::Inside);
        if is_own || !fails || args[0].eq_ignore_ascii_case(b"SELECT") {
            return self.run(client, args, now);
        }
        self.used();
        Reply::Error(Kind::Inside.text().to_owned())
    }

    /// The next refusal has been made use of.
    fn used(&mut self) {
        let Some(refusal) = self.refusals.front_mut() else { return };
        refusal.count -= 1;
        if refusal.count == 0 {
            self.refusals.pop_front();
        }
    }

    fn run(&mut self, client: &mut Client, args: &Args, now: i64) -> Reply {
        let number = |at: usize| std::str::from_utf8(&args[at]).unwrap().parse::<i64>().unwrap();
        match args[0].to_ascii_uppercase().as_slice() {
            b"SELECT" => {
                client.db = u32::try_from(number(1)).unwrap();
                Reply::Status("OK")
            }
            b"CLIENT" if args[1] == b"LIST" => Reply::Bulk(Vec::new()),
            b"CLIENT" => Reply::Status("OK"),
            b"WATCH" => {
                let entry = self.model.dbs.get(&client.db).and_then(|keys| keys.get(&args[1]));
                client.watched.push((client.db, args[1].clone(), entry.cloned()));
                Reply::Status("OK")
            }
            b"GET" => {
                self.model.expire(now);
                let keys = self.model.dbs.get(&client.db);
                match keys.and_then(|keys| keys.get(&args[1])).map(|entry| &entry.value) {
                    Some(Value::Text(text)) => Reply::Bulk(text.clone()),
                    Some(other) => panic!("{other:?}"),
                    None => Reply::Nil,
                }
            }
            b"HVALS" => Reply::Array(Vec::new()),
            b"PING" => Reply::Status("PONG"),
            b"TIME" => Reply::Array(vec![
                Reply::Bulk((now / 1000).to_string().into_bytes()),
                Reply::Bulk((now % 1000 * 1000).to_string().into_bytes()),
            ]),
            b"UNLINK" => {
                let args = [vec![b"DEL".to_vec()], args[1..].to_vec()].concat();
                self.model.expire(now);
                self.model.run(client.db, &args, now)
            }
            b"INFO" => {
                self.model.expire(now);
                let lines = self.model.dbs.iter().filter(|(_, keys)| !keys.is_empty());
                let lines: Vec<String> = lines
                    .map(|(db, keys)| format!("db{db}:keys={},expires=0", keys.len()))
                    .collect();
                let (process, lines) = (self.process, lines.join("\r\n"));
                Reply::Bulk(
                    format!("# Server\r\nrun_id:{process}\r\n# Keyspace\r\n{lines}\r\n")
                        .into_bytes(),
                )
            }
            b"SCAN" => self.scan(client.db, number(1)),
            b"EVAL" => {
                let count = usize::try_from(number(2)).unwrap();
                let (keys, args_of) = args[3..].split_at(count);
                self.finish(client.db, &String::from_utf8_lossy(&args[1]), keys, args_of, now)
            }
            _ => {
                self.model.expire(now);
                self.model.run(client.db, args, now)
            }
        }
    }

    /// One of eight parts of the keys, so that what comes or goes meanwhile moves no other.
    fn scan(&self, db: u32, cursor: i64) -> Reply {
        let part = |key: &Vec<u8>| {
            i64::from(key.iter().fold(7_u8, |sum, byte| sum.wrapping_mul(31) ^ byte) % 8)
        };
        let keys = self.model.dbs.get(&db).into_iter().flat_map(|keys| keys.keys());
        let keys = keys.filter(|key| part(key) == cursor).cloned().map(Reply::Bulk).collect();
        let next = ((cursor + 1) % 8).to_string().into_bytes();
        Reply::Array(vec![Reply::Bulk(next), Reply::Array(keys)])
    }

    /// Our script that sets deadlines which were held back, in both its forms.
    fn finish(
        &mut self,
        db: u32,
        script: &str,
        keys: &[Vec<u8>],
        args: &[Vec<u8>],
        now: i64,
    ) -> Reply {
        let number = |at: usize| std::str::from_utf8(&args[at]).unwrap().parse::<i64>().unwrap();
        let (least, most, by) = (number(0), number(1), number(2));
        let (ended, earliest, latest) = (number(3), number(4), number(5));
        self.model.expire(now);
        if by < 0 {
            self.ended = Some(ended);
        }
        let of = self.model.dbs.entry(db).or_default();
        // Where deadlines are not told, the first key is the script's own.
        let is_told = script.contains("PEXPIRETIME");
        assert!(
            is_told || script.contains("PTTL"),
            "a script that the ring does not know: {script}"
        );
        let keys = if is_told { keys } else { &keys[1..] };
        for key in keys {
            let Some(entry) = of.get_mut(key) else { continue };
            let Some(until) = entry.until else { continue };
            if until >= least && until < most {
                let until = until + by;
                let bounded = until.max(earliest).min(latest);
                entry.until = Some(if until > ended { bounded } else { until });
            }
        }
        self.model.wake();
        self.model.expire(now);
        Reply::Int(0)
    }
}

impl Kind {
    fn text(self) -> &'static str {
        match self {
            Self::Oom => "OOM command not allowed when used memory > 'maxmemory'.",
            Self::ReadOnly => "READONLY You can't write against a read only replica.",
            Self::Inside => {
                "ERR Error running script: OOM command not allowed when used memory > 'maxmemory'."
            }
            Self::Misconf => {
                "MISCONF Redis is configured to save RDB snapshots, but it's currently unable to persist to disk."
            }
            Self::Loading => "LOADING Redis is loading the dataset in memory",
            Self::Abort => "EXECABORT Transaction discarded because of: OOM command not allowed",
            Self::Busy => {
                "BUSY Redis is busy running a script. You can only call SCRIPT KILL or SHUTDOWN NOSAVE."
            }
        }
    }

    fn refuses(self, name: &str) -> bool {
        let writes = !matches!(
            name,
            "MULTI"
                | "EXEC"
                | "DISCARD"
                | "SELECT"
                | "INFO"
                | "SCAN"
                | "CLIENT"
                | "WATCH"
                | "GET"
                | "TIME"
                | "HVALS"
                | "PING"
        );
        match self {
            Self::Oom => {
                writes
                    && !matches!(
                        name,
                        "DEL"
                            | "SREM"
                            | "SMOVE"
                            | "ZREM"
                            | "HDEL"
                            | "LPOP"
                            | "RPOP"
                            | "RENAME"
                            | "PEXPIREAT"
                            | "PERSIST"
                            | "FLUSHDB"
                            | "UNLINK"
                    )
            }
            Self::ReadOnly | Self::Misconf | Self::Loading => writes,
            Self::Abort | Self::Busy => name == "EXEC",
            Self::Inside => false,
        }
    }
}
