//! What our user may do, found out by asking in ways that do nothing.

use crate::net::{Control, ControlError, Net};
use crate::plan::ServerPlace;
use crate::plan::check::{Denied, NoAnswer, Seen};

use super::super::rights::{CALLS, PROBE};
use super::raw::{Answer, Raw};

/// A call that changes nothing: its command, the category of that, and its arguments.
type Call = (&'static str, &'static str, &'static [&'static [u8]]);

/// What a source is asked while a job runs. `REPLCONF` without arguments says nothing.
const OF_SOURCE: [Call; 5] = [
    ("REPLCONF", "@admin, @dangerous", &[]),
    ("TIME", "@fast", &[]),
    ("TYPE", "@keyspace", &[PROBE]),
    ("PTTL", "@keyspace", &[PROBE]),
    ("DUMP", "@keyspace", &[PROBE]),
];

/// What a target is told beside what every copy needs, by a key that is not there.
const OF_TARGET: [Call; 12] = [
    ("WATCH", "@transaction", &[PROBE]),
    ("UNWATCH", "@transaction", &[]),
    ("TIME", "@fast", &[]),
    ("GET", "@string", &[PROBE]),
    ("PTTL", "@keyspace", &[PROBE]),
    ("PERSIST", "@keyspace", &[PROBE]),
    ("RENAME", "@keyspace", &[PROBE, PROBE]),
    ("HDEL", "@hash", &[PROBE, b"f"]),
    ("LTRIM", "@list", &[PROBE, b"0", b"0"]),
    ("SREM", "@set", &[PROBE, b"m"]),
    ("ZREM", "@sortedset", &[PROBE, b"m"]),
    ("SCAN", "@keyspace", &[b"0", b"COUNT", b"1"]),
];

/// What every copy needs, with the categories.
const EVERY: [&str; 5] =
    ["@string", "@keyspace, @dangerous", "@keyspace", "@keyspace", "@scripting"];

pub(super) async fn look_at_target(control: &mut Control, seen: &mut Seen) {
    let every =
        CALLS.iter().zip(EVERY).map(|((command, args), category)| (*command, category, *args));
    for call in every.chain(OF_TARGET) {
        if ask(control, call, seen).await.is_none() {
            return;
        }
    }
}

pub(super) async fn look_at_source(
    net: &Net,
    place: &ServerPlace,
    control: &mut Control,
    seen: &mut Seen,
) {
    for call in OF_SOURCE {
        if ask(control, call, seen).await.is_none() {
            return;
        }
    }
    // How many arguments there are is looked at before anything else: it answers with an error, and which one tells whether it knows them.
    for (command, args) in [("PSYNC", &[][..]), ("SYNC", &[&b"x"[..]][..])] {
        if let Err(ControlError::Refused { text, .. }) =
            control.ask::<redis::Value>(command, args).await
            && text.contains("unknown command")
        {
            seen.unknown.push(command);
        }
    }
    may_replicate(net, place, seen).await;
}

/// `None` if the server does not answer.
async fn ask(
    control: &mut Control,
    (command, category, args): Call,
    seen: &mut Seen,
) -> Option<()> {
    match control.ask::<redis::Value>(command, args).await {
        Err(ControlError::Refused { text, .. }) if text.starts_with("NOPERM") => {
            seen.denied.push(Denied { command, category, text });
            Some(())
        }
        Ok(_) | Err(ControlError::Refused { .. }) => Some(()),
        Err(_) => None,
    }
}

/// Whether our user may run `PSYNC` and `SYNC`, which do their work at once where they may be run. So they are asked for on a connection that listens
/// to a channel: there servers of all versions look at a user's rights, and then refuse every command that is not about channels. The offset is no
/// number besides, which is refused too from 7.0 on.
async fn may_replicate(net: &Net, place: &ServerPlace, seen: &mut Seen) {
    const CATEGORY: &str = "@admin, @dangerous";
    let Ok(mut raw) = Raw::open(net, place).await else { return };
    let listens = raw.ask(&[b"SUBSCRIBE", PROBE]).await;
    if listens != Some(Answer::Value(3)) {
        let text = match listens {
            Some(Answer::Error(text)) => text,
            _ => "it gives no answer".to_owned(),
        };
        seen.no_answer.push(NoAnswer {
            question: "SUBSCRIBE",
            unknown: "whether this user may run PSYNC and SYNC".to_owned(),
            text,
            right: "+psync +sync +subscribe &understudy:probe",
        });
        return;
    }
    let asked: [(&'static str, &[&[u8]]); 2] =
        [("PSYNC", &[b"PSYNC", b"?", b"none"]), ("SYNC", &[b"SYNC"])];
    for (command, words) in asked {
        if let Some(Answer::Error(text)) = raw.ask(words).await
            && text.starts_with("NOPERM")
        {
            seen.denied.push(Denied { command, category: CATEGORY, text });
        }
    }
}
