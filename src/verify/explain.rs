//! Why a key is in the target, or is not: decided from what was seen of it on each source that it may come from, and in the target.

use std::fmt;

use crate::key::Db;
use crate::plan::LeftOut;
use crate::rdb::opcode::ValueType;

use super::Kind;

/// What was seen of a key with one source.
#[derive(Clone, Debug)]
pub struct Seen {
    /// The source, by its place in the plan.
    pub source: usize,
    /// Its database and its name there.
    pub db: Db,
    /// See above.
    pub key: Vec<u8>,
    /// What it is to be in the target: its database, unless that is not chosen, and its name.
    pub place: Option<Db>,
    /// See above.
    pub name: Vec<u8>,
    /// The rule that leaves it out, if one does.
    pub left_out: Option<LeftOut>,
    /// What the source holds.
    pub held: Presence,
    /// What the target holds.
    pub found: Presence,
    /// How the two compare.
    pub compared: Compared,
    /// How far the source is brought to the target.
    pub standing: Standing,
    /// The sources that a running or stopped job has met this name of, by their places in the plan; none where it does not note that.
    pub claims: Vec<usize>,
    /// The target held it before the job, which leaves it as it is.
    pub is_kept: bool,
}

/// What a server holds under a name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Presence {
    /// Nothing.
    Gone,
    /// A key that is past its deadline and not removed yet.
    Expired,
    /// A key.
    There {
        /// Its type; `None` if its value was not read.
        kind: Option<ValueType>,
        /// The bytes of its value as `DUMP` gives it, or as many as it takes, if that is too much to be read.
        bytes: usize,
        /// When it dies, in Unix milliseconds of its server's clock, as if nothing held that back.
        deadline: Option<i64>,
        /// A job holds that back for now.
        is_held_back: bool,
    },
    /// Nobody knows.
    Unread(String),
}

/// How what both sides hold compares.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Compared {
    /// It is the same, or is on neither side.
    Same,
    /// It differs.
    Differs(Kind),
    /// It changes faster than both sides can be read.
    Moves,
    /// It could not be compared.
    Unknown(String),
}

/// How far a source is brought to the target, by the record of its job there.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Standing {
    /// No job has a record of it.
    #[default]
    NoJob,
    /// A copy is under way, or was broken off.
    Copying,
    /// Its stream is applied.
    Following {
        /// Bytes of the stream that it had not applied when the key was read; `None` of a source without offsets.
        behind: Option<u64>,
        /// The key is in doubt: it is read again from the source.
        in_doubt: bool,
    },
    /// The job has done with it.
    Done,
}

/// Why a key is in the target, or is not.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Answer {
    /// It is there, as it should be.
    Arrived,
    /// A rule leaves it out.
    LeftOut(LeftOut),
    /// It is past its deadline on the source.
    Expired,
    /// Another source goes before, which holds a key of this name too.
    Another(usize),
    /// Several sources hold it, and none of them may have it.
    Contested,
    /// The target held it before, and it stays.
    Kept,
    /// The copy that brings it is not whole.
    Copying,
    /// The job has not brought what the source has sent.
    Behind(Option<u64>),
    /// It is in doubt: it is read again from the source before anything else is played on it.
    InDoubt,
    /// No job is under way, and it is not there as it should be.
    NoJob(Kind),
    /// A job is under way and has brought all, and it is not there as it should be.
    Lost(Kind),
    /// No source holds it, and the target does.
    Extra,
    /// No source holds it.
    Absent,
    /// Nobody can tell.
    Unknown(String),
}

impl Answer {
    /// A word for it, for programs.
    #[must_use]
    pub const fn name(&self) -> &'static str {
        match self {
            Self::Arrived => "arrived",
            Self::LeftOut(_) => "filtered",
            Self::Expired => "expired",
            Self::Another(_) => "owned_by_another",
            Self::Contested => "contested",
            Self::Kept => "kept",
            Self::Copying => "copying",
            Self::Behind(_) => "behind",
            Self::InDoubt => "in_doubt",
            Self::NoJob(_) => "no_job",
            Self::Lost(_) => "lost",
            Self::Extra => "extra",
            Self::Absent => "absent",
            Self::Unknown(_) => "unknown",
        }
    }

    /// Whether a moment later it may be another.
    #[must_use]
    pub const fn passes(&self) -> bool {
        matches!(self, Self::Behind(_) | Self::InDoubt)
    }
}

/// The sentence, but for the names of sources, which it does not know.
impl fmt::Display for Answer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Arrived => f.write_str("it is in the target, as it should be"),
            Self::LeftOut(rule) => write!(f, "the rules leave it out: {rule}"),
            Self::Expired => f.write_str("it has expired on the source: it is past its deadline there"),
            Self::Another(source) => write!(f, "source {source} goes before, which holds a key of this name too"),
            Self::Contested => f.write_str(
                "several sources hold it, and without --on-conflict no command on it is played",
            ),
            Self::Kept => f.write_str("the target held it before, and --on-conflict keep leaves it as it is"),
            Self::Copying => f.write_str("the copy that brings it is not whole"),
            Self::Behind(Some(bytes)) => {
                write!(f, "it may be on its way: the job has yet to apply {bytes} bytes of the source's stream")
            }
            Self::Behind(None) => f.write_str("it may be on its way: the source has no offsets that tell"),
            Self::InDoubt => f.write_str("it is in doubt: the job reads it again from the source"),
            Self::NoJob(kind) => write!(f, "{}, and no job of these places is under way", Missing(*kind)),
            Self::Lost(kind) => write!(
                f,
                "{}, although the job has applied all that the source had sent",
                Missing(*kind)
            ),
            Self::Extra => f.write_str("no source holds it, and the target does"),
            Self::Absent => f.write_str(
                "no source holds it: it was deleted, has expired, or was never there, which no server tells apart",
            ),
            Self::Unknown(why) => write!(f, "nobody can tell: {why}"),
        }
    }
}

/// What is wrong with a key in the target.
struct Missing(Kind);

impl fmt::Display for Missing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self.0 {
            Kind::Missing => "it is not in the target",
            Kind::Extra => "it is in the target, and not on the source",
            Kind::Type => "it is in the target with another type",
            Kind::Value => "it is in the target with another value",
            Kind::Ttl => "it is in the target, with another deadline",
        })
    }
}

impl Seen {
    /// Whether the source holds it and wants it in the target.
    fn claims_it(&self) -> bool {
        matches!(self.held, Presence::There { .. }) && self.left_out.is_none()
    }

    /// Whether the target holds it only because the job has not brought its end.
    fn may_go(&self) -> bool {
        let is_there = matches!(self.found, Presence::There { .. });
        let lags = match self.standing {
            Standing::Copying => true,
            Standing::Following { behind, .. } => behind != Some(0),
            Standing::NoJob | Standing::Done => false,
        };
        is_there && lags && self.left_out.is_none() && !self.is_kept
    }

    /// Why it is in the target or not, as far as this source goes; `before` is another one that holds the same name, and goes before. `stops`: a
    /// name that several sources hold is nobody's.
    fn answer(&self, before: Option<usize>, stops: bool) -> Answer {
        match &self.held {
            Presence::Gone if self.may_go() => {
                return match self.standing {
                    Standing::Following { behind, .. } => Answer::Behind(behind),
                    _ => Answer::Copying,
                };
            }
            Presence::Gone => return Answer::Absent,
            Presence::Unread(why) => return Answer::Unknown(why.clone()),
            _ => {}
        }
        if let Some(rule) = &self.left_out {
            return Answer::LeftOut(rule.clone());
        }
        if self.held == Presence::Expired {
            return Answer::Expired;
        }
        let kind = match (&self.compared, before) {
            (_, Some(before)) => return Answer::Another(before),
            (Compared::Same, None) => return Answer::Arrived,
            (Compared::Unknown(why), None) => return Answer::Unknown(why.clone()),
            (Compared::Moves, None) => None,
            (Compared::Differs(kind), None) => Some(*kind),
        };
        if self.is_kept {
            return Answer::Kept;
        }
        let moves = || Answer::Unknown("it changes faster than both sides can be read".to_owned());
        match self.standing {
            Standing::Copying => Answer::Copying,
            _ if stops && self.claims.len() > 1 => Answer::Contested,
            Standing::Following { in_doubt: true, .. } => Answer::InDoubt,
            Standing::Following { behind, .. } if behind != Some(0) => Answer::Behind(behind),
            Standing::Following { .. } => kind.map_or_else(moves, Answer::Lost),
            Standing::NoJob | Standing::Done => kind.map_or_else(moves, Answer::NoJob),
        }
    }
}

/// Why a key is in the target or not, for each source in the order of the plan and in all. `stops`: a name that several sources hold is nobody's.
#[must_use]
pub fn answer(seen: &[Seen], stops: bool) -> (Vec<Answer>, Answer) {
    let same = |one: &Seen, other: &Seen| (one.place, &one.name) == (other.place, &other.name);
    let each: Vec<Answer> = { seen.iter().enumerate() }
        .map(|(at, one)| {
            let mut earlier = seen.iter().take(at);
            let before = earlier.find(|other| other.claims_it() && same(other, one));
            one.answer(before.map(|other| other.source), stops)
        })
        .collect();
    // Of several the one whose key it is; then whatever tells most.
    let rank = |answer: &Answer| match answer {
        Answer::Absent | Answer::Extra => 4,
        Answer::Expired => 3,
        Answer::LeftOut(_) => 2,
        Answer::Unknown(_) => 1,
        Answer::Another(_) => 5,
        _ => 0,
    };
    let all = each.iter().min_by_key(|answer| rank(answer)).cloned().unwrap_or(Answer::Absent);
    let is_there = |one: &Seen| matches!(one.found, Presence::There { .. });
    let all = match all {
        Answer::Absent if seen.iter().any(|one| is_there(one) && !one.is_kept) => Answer::Extra,
        Answer::Absent if seen.iter().any(is_there) => Answer::Kept,
        all => all,
    };
    (each, all)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn there() -> Presence {
        let kind = Some(ValueType::String);
        Presence::There { kind, bytes: 10, deadline: None, is_held_back: false }
    }

    fn following(behind: u64) -> Standing {
        Standing::Following { behind: Some(behind), in_doubt: false }
    }

    fn seen(held: Presence, found: Presence) -> Seen {
        let compared = match (&held, &found) {
            (Presence::There { .. }, Presence::There { .. }) => Compared::Same,
            (Presence::There { .. }, _) => Compared::Differs(Kind::Missing),
            (_, Presence::There { .. }) => Compared::Differs(Kind::Extra),
            _ => Compared::Same,
        };
        Seen {
            source: 0,
            db: Db::default(),
            key: b"k".to_vec(),
            place: Some(Db::default()),
            name: b"k".to_vec(),
            left_out: None,
            held,
            found,
            compared,
            standing: following(0),
            claims: Vec::new(),
            is_kept: false,
        }
    }

    fn one(seen: Seen) -> Answer {
        answer(&[seen], true).1
    }

    #[test]
    fn what_stands_on_one_source() {
        let gone = || Presence::Gone;
        let missing = || seen(there(), gone());
        assert_eq!(one(seen(there(), there())), Answer::Arrived);
        assert_eq!(one(missing()), Answer::Lost(Kind::Missing));
        assert_eq!(
            one(Seen { standing: Standing::NoJob, ..missing() }),
            Answer::NoJob(Kind::Missing)
        );
        assert_eq!(one(Seen { standing: Standing::Copying, ..missing() }), Answer::Copying);
        assert_eq!(one(Seen { standing: following(7), ..missing() }), Answer::Behind(Some(7)));
        let in_doubt = Standing::Following { behind: Some(7), in_doubt: true };
        assert_eq!(one(Seen { standing: in_doubt, ..missing() }), Answer::InDoubt);
        assert_eq!(one(seen(gone(), gone())), Answer::Absent);
        assert_eq!(one(seen(gone(), there())), Answer::Extra);
        assert_eq!(one(Seen { is_kept: true, ..seen(gone(), there()) }), Answer::Kept);
        // Its end may be on the way.
        assert_eq!(
            one(Seen { standing: following(7), ..seen(gone(), there()) }),
            Answer::Behind(Some(7))
        );
        assert_eq!(one(seen(Presence::Expired, gone())), Answer::Expired);
        let differs = Compared::Differs(Kind::Value);
        let kept = Seen { is_kept: true, compared: differs.clone(), ..seen(there(), there()) };
        assert_eq!(one(kept), Answer::Kept);
        assert_eq!(
            one(Seen { compared: differs, ..seen(there(), there()) }),
            Answer::Lost(Kind::Value)
        );
        let moves = Seen { compared: Compared::Moves, ..seen(there(), there()) };
        assert!(matches!(one(moves), Answer::Unknown(_)));
        let unread = seen(Presence::Unread("no".to_owned()), gone());
        assert_eq!(one(unread), Answer::Unknown("no".to_owned()));
    }

    #[test]
    fn a_rule_leaves_out_only_what_is_there() {
        let rule = Some(LeftOut::Excluded("k*".to_owned()));
        let left_out = |held| Seen { left_out: rule.clone(), ..seen(held, Presence::Gone) };
        assert_eq!(one(left_out(there())).to_string(), "the rules leave it out: --exclude k*");
        assert_eq!(one(left_out(Presence::Gone)), Answer::Absent);
    }

    #[test]
    fn the_first_source_that_holds_a_name_has_it() {
        let of = |source, held| Seen { source, ..seen(held, there()) };
        let (each, all) = answer(&[of(0, Presence::Gone), of(1, there()), of(2, there())], false);
        assert_eq!(each, [Answer::Absent, Answer::Arrived, Answer::Another(1)]);
        assert_eq!(all, Answer::Arrived);
        // Under another name it is another key.
        let apart = Seen { name: b"p:k".to_vec(), ..of(2, there()) };
        assert_eq!(answer(&[of(1, there()), apart], false).0, [Answer::Arrived, Answer::Arrived]);
        // One that leaves it out does not stand before another.
        let left_out = Some(LeftOut::Excluded("k".to_owned()));
        let out = Seen { left_out, ..of(0, there()) };
        assert_eq!(answer(&[out, of(1, there())], false).1, Answer::Arrived);
    }

    #[test]
    fn a_name_of_several_is_nobodys_where_nobody_chose() {
        let contested = Seen { claims: vec![0, 1], ..seen(there(), Presence::Gone) };
        assert_eq!(one(contested.clone()), Answer::Contested);
        assert_eq!(answer(&[contested], false).1, Answer::Lost(Kind::Missing));
    }

    #[test]
    fn what_tells_most_is_said_of_all() {
        let rule = Some(LeftOut::Excluded("k".to_owned()));
        let out = Seen { left_out: rule, ..seen(there(), Presence::Gone) };
        let unread = Seen { source: 1, ..seen(Presence::Unread("no".to_owned()), Presence::Gone) };
        let gone = Seen { source: 2, ..seen(Presence::Gone, Presence::Gone) };
        // Whom nobody could ask may hold it.
        assert!(matches!(answer(&[gone.clone(), unread], true).1, Answer::Unknown(_)));
        assert!(matches!(answer(&[gone, out], true).1, Answer::LeftOut(_)));
    }
}
