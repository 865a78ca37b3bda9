//! Some keys of a source: of which types they are, and how large the largest of them is.

use std::time::Duration;

use redis::Pipeline;

use crate::key::Db;
use crate::net::{Clock, Control, ControlError, Reply};
use crate::plan::check::{Bytes, Large, NoAnswer, Sample, Seen};
use crate::plan::{Place, ServerFacts, Source};
use crate::server::Version;

use super::asked::words;

/// How many keys are looked at, and for how long.
const MOST: u64 = 1000;
const PATIENCE: Duration = Duration::from_secs(3);

/// What a page asks for, and what a database that is small beside others is worth.
const PAGE: u64 = 100;
const LEAST: u64 = 20;

/// A string of which its server says that it takes more is asked for its length.
const LONG: u64 = 512 << 10;

/// What an element takes at the least, where that is all that is known.
const ELEMENT: u64 = 8;

pub(super) async fn look(
    clock: Clock,
    control: &mut Control,
    source: &Source,
    facts: &ServerFacts,
    seen: &mut Seen,
) {
    let own = match &source.place {
        Place::Server(server) => server.db,
        Place::Rdb(_) | Place::Capture(_) => None,
    };
    let is_wanted = |db: Db| own.is_none_or(|own| own == db) && source.rules.place(db).is_some();
    let wanted: Vec<(Db, u64)> =
        facts.keys.iter().map(|(db, keys)| (*db, *keys)).filter(|(db, _)| is_wanted(*db)).collect();
    let of: u64 = wanted.iter().map(|(_, keys)| keys).sum();
    let mut sample = Sample { of, ..Sample::default() };
    let version = facts.server.map(|server| server.as_redis());
    let knows = |since| version.is_none_or(|version| version >= since);
    let mut asking = Asking {
        control,
        scans: knows(Version(2, 8, 0)),
        weighs: knows(Version(4, 0, 0)),
        until: clock.now() + PATIENCE,
        clock,
    };
    for (db, keys) in wanted {
        let share = (MOST.saturating_mul(keys) / of.max(1)).max(LEAST).min(keys);
        if let Err(error) = asking.database(db, share, &mut sample).await {
            seen.no_answer.push(NoAnswer {
                question: "SCAN, TYPE and MEMORY USAGE",
                unknown: "of which types its keys are and how large".to_owned(),
                text: words(error),
                right: "+scan +type +memory|usage +strlen ~*",
            });
            break;
        }
    }
    if sample.looked_at > 0 {
        seen.sample = Some(sample);
    }
}

struct Asking<'a> {
    control: &'a mut Control,
    scans: bool,
    weighs: bool,
    clock: Clock,
    until: Duration,
}

impl Asking<'_> {
    async fn database(
        &mut self,
        db: Db,
        share: u64,
        sample: &mut Sample,
    ) -> Result<(), ControlError> {
        self.control.ask::<()>("SELECT", &[db.index().to_string().as_bytes()]).await?;
        let (mut cursor, mut left) = (0_u64, share);
        while left > 0 && self.clock.now() < self.until {
            let (next, mut keys) = self.page(cursor).await?;
            keys.truncate(usize::try_from(left).unwrap_or(usize::MAX));
            left = left.saturating_sub(keys.len() as u64);
            self.weigh(db, keys, sample).await?;
            cursor = next;
            if cursor == 0 {
                break;
            }
        }
        Ok(())
    }

    /// Some names, and from where on there are more.
    async fn page(&mut self, cursor: u64) -> Result<(u64, Vec<Vec<u8>>), ControlError> {
        if self.scans {
            let (cursor, page) = (cursor.to_string(), PAGE.to_string());
            let args: [&[u8]; 3] = [cursor.as_bytes(), b"COUNT", page.as_bytes()];
            return self.control.ask("SCAN", &args).await;
        }
        let mut pipe = Pipeline::new();
        for _ in 0..PAGE {
            pipe.cmd("RANDOMKEY");
        }
        let drawn: Vec<Option<Vec<u8>>> = self.control.pipe("RANDOMKEY", &pipe).await?;
        let mut keys: Vec<Vec<u8>> = drawn.into_iter().flatten().collect();
        keys.sort_unstable();
        keys.dedup();
        Ok((0, keys))
    }

    async fn weigh(
        &mut self,
        db: Db,
        keys: Vec<Vec<u8>>,
        sample: &mut Sample,
    ) -> Result<(), ControlError> {
        let mut pipe = Pipeline::new();
        for key in &keys {
            pipe.cmd("TYPE").arg(key);
        }
        let kinds: Vec<String> = self.answers("TYPE", pipe).await?;
        let mut pipe = Pipeline::new();
        for (key, kind) in keys.iter().zip(&kinds) {
            match self.weighs {
                true => pipe.cmd("MEMORY").arg("USAGE").arg(key),
                false => pipe.cmd(count(kind)).arg(key),
            };
        }
        let sizes: Vec<Option<u64>> = self.answers("MEMORY USAGE", pipe).await?;
        let mut all: Vec<(Vec<u8>, String, u64)> = { keys.into_iter() }
            .zip(kinds)
            .zip(sizes)
            .map(|((key, kind), size)| (key, kind, size.unwrap_or(0)))
            .collect();
        let mut pipe = Pipeline::new();
        let is_long = |(_, kind, size): &&(Vec<u8>, String, u64)| kind == "string" && *size > LONG;
        if self.weighs {
            for (key, _, _) in all.iter().filter(is_long) {
                pipe.cmd("STRLEN").arg(key);
            }
        }
        let exact: Vec<u64> = self.answers("STRLEN", pipe).await?;
        for (key, kind, size) in all.drain(..).filter(|(_, kind, _)| kind != "none") {
            sample.looked_at += 1;
            let bytes = match (self.weighs, kind.as_str()) {
                (true, _) => Bytes::InMemory(size),
                (false, "string") => Bytes::AtLeast(size),
                (false, _) => Bytes::AtLeast(size.saturating_mul(ELEMENT)),
            };
            if !self.weighs && kind == "string" {
                sample.longest = sample.longest.max(size);
            }
            *sample.types.entry(kind.clone()).or_default() += 1;
            let most = sample.largest.as_ref().map_or(0, |large| large.bytes.number());
            if bytes.number() > most {
                sample.largest = Some(Large { db, key, kind, bytes });
            }
        }
        sample.longest = exact.into_iter().fold(sample.longest, u64::max);
        Ok(())
    }

    /// The answers to these questions. One that is refused speaks for all.
    async fn answers<T: redis::FromRedisValue>(
        &mut self,
        question: &'static str,
        pipe: Pipeline,
    ) -> Result<Vec<T>, ControlError> {
        let read = |reply: Reply| {
            let refused = |text| ControlError::Refused { question, text };
            let value = reply.map_err(refused)?;
            redis::from_redis_value(value)
                .map_err(|error| ControlError::Refused { question, text: error.to_string() })
        };
        self.control.each(question, pipe).await?.into_iter().map(read).collect()
    }
}

/// What counts the elements of a value, or the bytes of a string.
fn count(kind: &str) -> &'static str {
    match kind {
        "list" => "LLEN",
        "set" => "SCARD",
        "zset" => "ZCARD",
        "hash" => "HLEN",
        // Of a key that is gone it is 0.
        _ => "STRLEN",
    }
}
