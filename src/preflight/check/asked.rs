//! What a server says of itself and of its settings.

use redis::Pipeline;

use crate::net::{Control, ControlError, Reply};
use crate::plan::check::{NoAnswer, Seen, Told};

/// The parts of `INFO` that are read; the first is all that it tells by itself.
const PARTS: [&[&[u8]]; 3] = [&[], &[b"commandstats"], &[b"modules"]];

/// The settings of a source, and of a target, that bear on a run.
const OF_SOURCE: [&str; 9] = [
    "client-output-buffer-limit",
    "repl-backlog-size",
    "repl-timeout",
    "save",
    "stop-writes-on-bgsave-error",
    "min-replicas-to-write",
    "min-slaves-to-write",
    "maxclients",
    "proto-max-bulk-len",
];
const OF_TARGET: [&str; 6] = [
    "save",
    "stop-writes-on-bgsave-error",
    "min-replicas-to-write",
    "min-slaves-to-write",
    "maxclients",
    "proto-max-bulk-len",
];

pub(super) async fn look(control: &mut Control, is_source: bool, seen: &mut Seen) {
    let mut info = String::new();
    for part in PARTS {
        match control.ask::<String>("INFO", part).await {
            Ok(told) => info.push_str(&told),
            Err(error) if part.is_empty() => {
                seen.no_answer.push(NoAnswer {
                    question: "INFO",
                    unknown: "its version, memory, persistence, replicas and keys".to_owned(),
                    text: words(error),
                    right: "+info",
                });
                break;
            }
            // The rest is no harm to do without.
            Err(_) => {}
        }
        info.push('\n');
    }
    seen.info = Told(info);
    let names: &[&'static str] = if is_source { &OF_SOURCE } else { &OF_TARGET };
    settings(control, names, seen).await;
}

async fn settings(control: &mut Control, names: &[&'static str], seen: &mut Seen) {
    let mut pipe = Pipeline::new();
    for name in names {
        pipe.cmd("CONFIG").arg("GET").arg(*name);
    }
    let replies = match control.each("CONFIG GET", pipe).await {
        Ok(replies) => replies,
        Err(error) => vec![Err(words(error))],
    };
    let mut refusal = None;
    for (name, reply) in names.iter().zip(replies) {
        match setting(reply) {
            Ok(Some(value)) => drop(seen.settings.0.insert(name, value)),
            // It has no such setting.
            Ok(None) => {}
            Err(text) => refusal = Some(text),
        }
    }
    if let Some(text) = refusal {
        seen.no_answer.push(NoAnswer {
            question: "CONFIG GET",
            unknown: format!("what is set ({})", names.join(", ")),
            text,
            right: "+config|get",
        });
    }
}

fn setting(reply: Reply) -> Result<Option<String>, String> {
    let told: Vec<String> = redis::from_redis_value(reply?).map_err(|error| error.to_string())?;
    Ok(told.into_iter().nth(1))
}

/// An error in the server's own words, if it has said any.
pub(super) fn words(error: ControlError) -> String {
    match error {
        ControlError::Refused { text, .. } => text,
        other => other.to_string(),
    }
}
