use redis::Value;

use super::*;
use crate::source::fetch::FetchError;

const OURS: &str = "3261b7e84fa23a4a39767bea41d5c09eb3555bc0";
const OTHER: &str = "ffffffffffffffffffffffffffffffffffffffff";

fn id(text: &str) -> ReplId {
    ReplId::parse(text.as_bytes()).unwrap()
}

fn bulk(text: impl AsRef<[u8]>) -> Reply {
    Ok(Value::BulkString(text.as_ref().to_vec()))
}

fn int(number: i64) -> Reply {
    Ok(Value::Int(number))
}

const NIL: Reply = Ok(Value::Nil);

/// A master of our history.
fn info(offset: u64) -> Reply {
    said("master", OURS, offset, "")
}

fn said(role: &str, replid: &str, offset: u64, more: &str) -> Reply {
    bulk(format!(
        "# Replication\r\nrole:{role}\r\nmaster_replid:{replid}\r\nmaster_repl_offset:{offset}\r\n\
         repl_backlog_active:1\r\n{more}"
    ))
}

fn time(millis: i64) -> Reply {
    let text = |number: i64| Value::BulkString(number.to_string().into_bytes());
    Ok(Value::Array(vec![text(millis / 1000), text(millis % 1000 * 1000 + 7)]))
}

fn asked(major: u16, keys: &'static [&'static [u8]]) -> Bracket<'static> {
    let peer = Peer { version: Some(Version(major, 0, 0)), run_id: None };
    Bracket { keys, wanted: Wanted::Values, peer, history: History::Of(id(OURS)) }
}

/// What a server of 7.0 says of one key between these two looks.
fn between(first: Reply, last: Reply) -> Result<Option<Held>, FetchError> {
    let replies = vec![first, int(-1), bulk("dump"), int(50), last];
    let held = asked(7, &[b"k"]).judge(replies);
    if let Ok(Some(held)) = &held {
        let found = Found::Value { payload: b"dump".to_vec(), deadline: None };
        assert_eq!(held.found, [found]);
    }
    held
}

fn holds_at(first: Reply, last: Reply) -> Option<u64> {
    between(first, last).unwrap().map(|held| held.at.unwrap().get())
}

#[test]
fn an_answer_holds_between_two_equal_offsets() {
    assert_eq!(holds_at(info(7), info(7)), Some(7));
    assert_eq!(holds_at(info(7), info(8)), None);
}

#[test]
fn whatever_changes_in_between_counts() {
    let slave = |offset| said("slave", OURS, offset, "");
    assert_eq!(holds_at(slave(7), slave(7)), Some(7));
    assert_eq!(holds_at(slave(7), info(7)), None);
    assert_eq!(holds_at(said("master", OTHER, 7, ""), info(7)), None);
    let run = |id| said("master", OURS, 7, &format!("run_id:{id}\r\n"));
    assert_eq!(holds_at(run("a"), run("b")), None);
}

#[test]
fn another_history_is_an_error() {
    let other = said("master", OTHER, 7, "");
    match between(other.clone(), other).unwrap_err() {
        FetchError::OtherHistory { wanted, shown } => {
            assert_eq!((wanted, shown), (id(OURS), Some(id(OTHER))));
        }
        other => panic!("{other:?}"),
    }
    // Also while it is written to.
    let other = |offset| said("master", OTHER, offset, "");
    assert!(matches!(between(other(7), other(8)), Err(FetchError::OtherHistory { .. })));
}

/// 101 is the first byte that is the new master's own.
#[test]
fn a_promoted_replica_shares_its_masters_history_up_to_there() {
    let heir = |offset| {
        said(
            "master",
            OTHER,
            offset,
            &format!("master_replid2:{OURS}\r\nsecond_repl_offset:101\r\n"),
        )
    };
    assert_eq!(holds_at(heir(100), heir(100)), Some(100));
    assert!(matches!(between(heir(101), heir(101)), Err(FetchError::OtherHistory { .. })));
    // None has been.
    let none =
        said("master", OTHER, 7, &format!("master_replid2:{OURS}\r\nsecond_repl_offset:-1\r\n"));
    assert!(matches!(between(none.clone(), none), Err(FetchError::OtherHistory { .. })));
}

#[test]
fn without_a_backlog_equal_offsets_prove_nothing() {
    let still =
        bulk(format!("master_replid:{OURS}\r\nmaster_repl_offset:0\r\nrepl_backlog_active:0\r\n"));
    assert!(matches!(between(still.clone(), still), Err(FetchError::NoBacklog)));
    // 2.6 has no such thing.
    assert!(matches!(
        between(bulk("role:master"), bulk("role:master")),
        Err(FetchError::NoBacklog)
    ));
}

/// Up to 3.2 the process is the history, and its name stands in another section.
#[test]
fn before_4_0_the_run_id_is_the_history() {
    let info = || bulk("role:master\r\nmaster_repl_offset:7\r\nrepl_backlog_active:1\r\n");
    let replies =
        || vec![info(), time(5000), int(-1), time(5000), bulk("dump"), bulk("raw"), info()];
    let run = |run_id: &str| {
        let mut bracket = asked(3, &[b"k"]);
        bracket.peer.run_id = Some(id(run_id));
        bracket.judge(replies())
    };
    assert_eq!(run(OURS).unwrap().unwrap().at, Some(Offset::new(7)));
    assert!(matches!(run(OTHER), Err(FetchError::OtherHistory { .. })));
}

/// Deadlines as 6.0 tells them: what is left, between two looks at its clock.
fn left_between(before: i64, left: i64, after: i64) -> Option<Vec<Left>> {
    let bracket = Bracket { wanted: Wanted::Deadlines, ..asked(6, &[b"k"]) };
    let replies = vec![info(7), time(before), int(left), time(after), info(7)];
    bracket.judge(replies).unwrap().map(|held| held.left)
}

#[test]
fn what_is_left_counts_from_one_millisecond() {
    assert_eq!(left_between(5000, 300, 5000), Some(vec![Left::Until(5300)]));
    assert_eq!(left_between(5000, 300, 5001), None);
    // What has no deadline does not count from anything.
    assert_eq!(left_between(5000, -1, 5001), Some(vec![Left::Forever]));
    assert_eq!(left_between(5000, -2, 5001), Some(vec![Left::Gone]));
}

#[test]
fn a_source_without_offsets_tells_deadlines_all_the_same() {
    let told = |history, last: &str| {
        let bracket = Bracket { wanted: Wanted::Deadlines, history, ..asked(2, &[b"k"]) };
        let replies = vec![bulk("role:master"), time(1), int(1), time(1), bulk(last)];
        bracket.judge(replies).unwrap().map(|held| held.at)
    };
    assert_eq!(told(History::None, "role:master"), Some(None));
    assert_eq!(told(History::None, "master_repl_offset:5"), Some(None));
    assert_eq!(told(History::Any, "master_repl_offset:5"), None);
}

#[test]
fn a_value_has_its_deadline() {
    let keys: &[&[u8]] = &[b"a", b"b", b"c", b"d"];
    // One that ended between its two questions is there, and past its deadline.
    let dumps = [bulk("A"), bulk("B"), NIL, NIL];
    let present = [int(50), int(50), NIL, int(50)];
    let replies = |deadlines: Vec<Reply>| {
        [vec![info(7)], deadlines, dumps.to_vec(), present.to_vec(), vec![info(7)]].concat()
    };
    let new = vec![int(5300), int(-1), int(-2), int(5001)];
    let old = vec![time(5000), int(300), int(-1), int(-2), int(1), time(5000)];
    for (version, deadlines) in [(7, new), (6, old)] {
        let held = asked(version, keys).judge(replies(deadlines)).unwrap().unwrap();
        let value = |payload: &[u8], deadline| Found::Value { payload: payload.to_vec(), deadline };
        let found = [value(b"A", Some(5300)), value(b"B", None), Found::Gone, Found::Expired];
        assert_eq!(held.found, found);
    }
}

/// A replica of up to 3.0 tells the value of a key that is past its deadline, with nothing left.
#[test]
fn a_value_that_is_due_is_not_told() {
    let replies = vec![info(7), time(5000), int(0), time(5000), bulk("A"), bulk("raw"), info(7)];
    let held = asked(6, &[b"k"]).judge(replies).unwrap().unwrap();
    assert_eq!(held.found, [Found::Expired]);
}

#[test]
fn refusals_are_told_with_the_key() {
    let replies = vec![info(7), int(-1), Err("NOPERM no".to_owned()), int(50), info(7)];
    let refused = asked(7, &[b"k"]).judge(replies).unwrap_err();
    assert_eq!(refused.to_string(), "DUMP \"k\": NOPERM no");
    let replies = vec![Err("NOPERM no".to_owned()), int(-1), NIL, NIL, info(7)];
    assert_eq!(asked(7, &[b"k"]).judge(replies).unwrap_err().to_string(), "INFO: NOPERM no");
    // Only who is gone must be asked whether it is there.
    let denied = |dump| vec![info(7), int(-1), dump, Err("NOPERM no".to_owned()), info(7)];
    assert!(asked(7, &[b"k"]).judge(denied(bulk("A"))).unwrap().is_some());
    assert!(matches!(asked(7, &[b"k"]).judge(denied(NIL)), Err(FetchError::Refused { .. })));
    // Too few answers are none.
    assert!(asked(7, &[b"k"]).judge(vec![info(7), int(-1)]).is_err());
}

#[test]
fn questions_fit_the_release() {
    let words = |major| {
        let bytes = asked(major, &[b"k"]).pipe().get_packed_pipeline();
        let text = String::from_utf8(bytes).unwrap();
        text.lines().filter(|line| !line.starts_with(['*', '$'])).collect::<Vec<_>>().join(" ")
    };
    let info = "INFO replication";
    assert_eq!(words(2), format!("{info} TIME PTTL k TIME DUMP k OBJECT ENCODING k {info}"));
    assert_eq!(words(6), format!("{info} TIME PTTL k TIME DUMP k MEMORY USAGE k {info}"));
    assert_eq!(words(7), format!("{info} PEXPIRETIME k DUMP k MEMORY USAGE k {info}"));
}
