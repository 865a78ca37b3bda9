//! `explain`: why a key is in the target, or is not.

use std::os::unix::ffi::OsStrExt;
use std::time::Duration;

use serde_json::{Value, json};
use tokio::time::sleep;
use understudy::flow::{self, Explained, Question};
use understudy::key::{Db, Escaped};
use understudy::net::Net;
use understudy::plan::{Facts, OnConflict, Plan};
use understudy::preflight::{expand, look};
use understudy::rdb::opcode::ValueType;
use understudy::verify::{Answer, Compared, Presence, Seen, Standing, answer};

use super::args::{Explain, Sync};
use super::control::standing;
use super::outcome::{Outcome, failed, refused};
use super::progress::{grouped, size, span};
use super::report::{as_f64, text};
use super::{intent, notice, terminal};

/// How often it is asked anew whether a key is on its way.
const ASKED: u32 = 4;
const PAUSE: Duration = Duration::from_millis(250);

/// Runs `explain` to its end.
pub(crate) async fn run(args: Explain) -> Outcome {
    let (key, db, json) = (args.key.as_bytes().to_vec(), args.db.map(Db::new), args.json);
    let plan = match intent::plan(&as_sync(args)) {
        Ok(plan) => plan,
        Err(refusal) => return refused(&refusal.what, &refusal.mend),
    };
    let net = Net::system();
    let looked = async {
        let plan = expand(&net, &plan).await?;
        let facts = look(&net, &plan).await?;
        Ok((plan, facts))
    };
    let (plan, facts) = match looked.await {
        Ok(looked) => looked,
        Err(error) => {
            let error: understudy::preflight::Unreachable = error;
            let what = format!("{}: {}", error.place, flow::chain(&error.source));
            return failed(&what, &error.advice());
        }
    };
    let told = explained(&net, (&plan, &facts), &key, db).await;
    terminal::result(&match json {
        true => format!("{}\n", told.json()),
        false => told.text(),
    });
    if told.all == Answer::Arrived { Outcome::Done } else { Outcome::Differences }
}

/// The plan of a `sync` of the same places under the same rules.
fn as_sync(args: Explain) -> Sync {
    let mut sync = Sync::looking(args.places, args.rules, args.access);
    (sync.census, sync.once) = (true, true);
    (sync.writing.on_conflict, sync.writing.bounds.memory) = (args.on_conflict, args.memory);
    sync
}

/// What was found out of a key.
struct Told<'a> {
    plan: &'a Plan,
    key: &'a [u8],
    /// It was found as a name in the target.
    is_of_target: bool,
    explained: Explained,
    each: Vec<Answer>,
    all: Answer,
    /// What the job's process says went wrong last with each source, if it runs here.
    errors: Vec<(String, String)>,
}

async fn explained<'a>(
    net: &Net,
    (plan, facts): (&'a Plan, &Facts),
    key: &'a [u8],
    db: Option<Db>,
) -> Told<'a> {
    let mut told = ask(net, (plan, facts), key, db, false).await;
    if matches!(told.all, Answer::Absent) && !told.explained.seen.iter().any(is_found) {
        let as_name = ask(net, (plan, facts), key, db, true).await;
        // The same names were asked for already.
        let is_other = as_name.explained.seen.iter().any(|seen| seen.key != seen.name);
        if is_other && as_name.explained.seen.iter().any(is_held) {
            told = as_name;
        } else {
            told.explained.unnamed = as_name.explained.unnamed;
        }
    }
    if told.all != Answer::Arrived
        && let Some(status) = standing(&plan.job.name).await
    {
        let sources = status.get("sources").and_then(Value::as_array).cloned().unwrap_or_default();
        let field = |source: &Value, name: &str| {
            source.get(name).and_then(Value::as_str).map(str::to_owned)
        };
        told.errors = { sources.iter() }
            .filter_map(|one| Some((field(one, "name")?, field(one, "last_error")?)))
            .collect();
    }
    told
}

/// Asks until the answer is none that passes.
async fn ask<'a>(
    net: &Net,
    (plan, facts): (&'a Plan, &Facts),
    key: &'a [u8],
    db: Option<Db>,
    is_of_target: bool,
) -> Told<'a> {
    let stops = matches!(plan.on_conflict, None | Some(OnConflict::Stop));
    let question = Question { key, db, is_of_target };
    let mut asked = 1;
    loop {
        let explained = flow::explain(net, (plan, facts), question).await;
        let (each, all) = answer(&explained.seen, stops);
        if !all.passes() || asked >= ASKED {
            return Told { plan, key, is_of_target, explained, each, all, errors: Vec::new() };
        }
        asked += 1;
        sleep(PAUSE).await;
    }
}

fn is_there(presence: &Presence) -> bool {
    matches!(presence, Presence::There { .. })
}

fn is_found(seen: &Seen) -> bool {
    is_there(&seen.found)
}

fn is_held(seen: &Seen) -> bool {
    is_there(&seen.held)
}

impl Told<'_> {
    fn source(&self, index: usize) -> &str {
        self.plan.sources.get(index).map_or("", |source| source.name.as_str())
    }

    /// An answer, with the names of sources.
    fn said(&self, answer: &Answer) -> String {
        match answer {
            Answer::Another(source) => {
                format!("{} goes before, which holds a key of this name too", self.source(*source))
            }
            answer => answer.to_string(),
        }
    }

    /// What else is to be known.
    fn remarks(&self) -> Vec<String> {
        let mut remarks = Vec::new();
        let is_missing = self.explained.seen.iter().any(|seen| is_held(seen) && !is_found(seen));
        if let Some(keys) = self.explained.evicted.filter(|keys| *keys > 0 && is_missing) {
            remarks.push(format!(
                "the target evicts keys when its memory is full, and has evicted {} since it was started: this may be one of them",
                grouped(keys)
            ));
        }
        for source in &self.explained.unnamed {
            remarks.push(format!(
                "of {} it cannot be told which key would have this name in the target: its --rename does not tell that backwards",
                self.source(*source)
            ));
        }
        let claims = self.explained.seen.iter().map(|seen| &seen.claims);
        if let Some(claims) = claims.filter(|claims| claims.len() > 1).max_by_key(|all| all.len()) {
            let names: Vec<&str> = claims.iter().map(|source| self.source(*source)).collect();
            remarks.push(format!("the job has met this name of {}", names.join(", ")));
        }
        for (source, error) in &self.errors {
            remarks.push(format!("of {source} the running job says: {error}"));
        }
        remarks
    }

    fn text(&self) -> String {
        let mut text = format!("{}: {}\n", Escaped(self.key), self.said(&self.all));
        if self.is_of_target {
            text.push_str(
                "  no source holds a key of this name: it was looked for as a name in the target\n",
            );
        }
        for (seen, answer) in self.explained.seen.iter().zip(&self.each) {
            text.push_str(&format!("\nsource {}\n", self.source(seen.source)));
            let row = |name: &str, what: &str| format!("  {name:<10} {what}\n");
            text.push_str(&row("key", &format!("{} in database {}", Escaped(&seen.key), seen.db)));
            text.push_str(&row("holds", &holds(&seen.held)));
            text.push_str(&row("rules", &rules(seen)));
            text.push_str(&row("job", &job(&seen.standing, &self.plan.job.name)));
            if seen.place.is_some() && (seen.left_out.is_none() || is_found(seen)) {
                text.push_str(&row("target", &holds(&seen.found)));
            }
            if let Compared::Unknown(why) = &seen.compared
                && is_held(seen)
            {
                text.push_str(&row("compared", why));
            }
            if self.each.len() > 1 {
                text.push_str(&row("so", &self.said(answer)));
            }
        }
        let remarks = self.remarks();
        if !remarks.is_empty() {
            text.push('\n');
        }
        for remark in remarks {
            text.push_str(&format!("{}\n", notice::one_line(&remark)));
        }
        text
    }

    fn json(&self) -> Value {
        let sources = self.explained.seen.iter().zip(&self.each).map(|(seen, answer)| {
            json!({
                "name": self.source(seen.source),
                "db": seen.db.index(),
                "key": text(&seen.key),
                "holds": presence(&seen.held),
                "left_out_by": seen.left_out.as_ref().map(ToString::to_string),
                "target_db": seen.place.map(Db::index),
                "target_key": text(&seen.name),
                "target_holds": presence(&seen.found),
                "differs": match seen.compared {
                    Compared::Differs(kind) => Some(kind.name()),
                    _ => None,
                },
                "behind_bytes": match seen.standing {
                    Standing::Following { behind, .. } => behind,
                    _ => None,
                },
                "claimed_by": seen.claims.iter().map(|one| self.source(*one)).collect::<Vec<_>>(),
                "answer": answer.name(),
                "why": self.said(answer),
            })
        });
        json!({
            "version": 1,
            "key": text(self.key),
            "job": self.plan.job.name,
            "answer": self.all.name(),
            "why": self.said(&self.all),
            "is_target_name": self.is_of_target,
            "sources": sources.collect::<Vec<_>>(),
            "remarks": self.remarks(),
        })
    }
}

/// What a side holds, in words.
fn holds(presence: &Presence) -> String {
    match presence {
        Presence::Gone => "nothing".to_owned(),
        Presence::Expired => "a key that is past its deadline, and not removed yet".to_owned(),
        Presence::Unread(why) => format!("unknown: {why}"),
        Presence::There { kind, bytes, deadline, is_held_back } => {
            let kind = kind.map_or("a value", ValueType::name);
            let dies = match deadline {
                None => String::new(),
                Some(at) => format!(", dies {}", when(*at)),
            };
            let held_back = match is_held_back {
                true => " (held back by the job until it ends)",
                false => "",
            };
            format!("{kind}, {}{dies}{held_back}", size(as_f64(*bytes as u64)))
        }
    }
}

/// A time, from now.
fn when(at_ms: i64) -> String {
    let now = understudy::net::Clock::start().unix_ms();
    let seconds = |ms: i64| span(Duration::from_millis(ms.unsigned_abs()).as_secs_f64());
    match at_ms.saturating_sub(now) {
        left @ 0.. => format!("in {}", seconds(left)),
        past => format!("{} ago", seconds(past)),
    }
}

fn rules(seen: &Seen) -> String {
    match (&seen.left_out, seen.place) {
        (Some(rule), _) => format!("left out: {rule}"),
        (None, Some(place)) => {
            format!("wanted, as {} in database {place} of the target", Escaped(&seen.name))
        }
        (None, None) => "left out".to_owned(),
    }
}

fn job(standing: &Standing, job: &str) -> String {
    match standing {
        Standing::NoJob => format!("no record of the job {job} is in the target"),
        Standing::Copying => format!("{job}: its copy is not whole"),
        Standing::Done => format!("{job}: it has done with this source"),
        Standing::Following { behind, in_doubt } => {
            let behind = match behind {
                None => "the source has no offsets that tell how far".to_owned(),
                Some(0) => "all that the source had sent is applied".to_owned(),
                Some(bytes) => {
                    format!("{} bytes of the source's stream are not applied", grouped(*bytes))
                }
            };
            let doubt = if *in_doubt { "; this key is in doubt" } else { "" };
            format!("{job}: {behind}{doubt}")
        }
    }
}

fn presence(presence: &Presence) -> Value {
    match presence {
        Presence::Gone => Value::Null,
        Presence::Expired => json!({ "is_expired": true }),
        Presence::Unread(why) => json!({ "is_unread": why }),
        Presence::There { kind, bytes, deadline, is_held_back } => json!({
            "type": kind.map(ValueType::name),
            "bytes": bytes,
            "deadline_ms": deadline,
            "is_held_back": is_held_back,
        }),
    }
}
