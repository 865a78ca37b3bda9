//! What is judged without a server.

use std::time::Duration;

use super::*;
use crate::key::Db;
use crate::plan::facts::tests::plan;
use crate::server::Server;

const MIB: u64 = 1 << 20;

/// A server that says this of itself, with these settings.
fn seen(info: &str, settings: &[(&'static str, &str)]) -> Seen {
    let settings = settings.iter().map(|(name, value)| (*name, (*value).to_owned())).collect();
    Seen { info: Told(info.to_owned()), settings: Settings(settings), ..Seen::default() }
}

fn server(name: &str) -> ServerFacts {
    ServerFacts { server: Server::parse(name), ..ServerFacts::default() }
}

/// What is found of these, a source and a target, as `severity kind`.
fn found(source: (ServerFacts, Seen), target: (ServerFacts, Seen)) -> Vec<Finding> {
    let facts = Facts { sources: vec![Some(source.0)], target: Some(target.0), ..Facts::default() };
    let sight = Sight { sources: vec![Some(source.1)], target: Some(target.1), ..Sight::default() };
    findings(&facts, &sight, &plan(None))
}

fn names(found: &[Finding]) -> Vec<String> {
    found.iter().map(|one| format!("{} {}", one.severity.name(), one.kind.name())).collect()
}

fn of_source(facts: ServerFacts, seen: Seen) -> Vec<String> {
    names(&found((facts, seen), (server("redis-7.0"), Seen::default())))
}

#[test]
fn two_servers_of_which_nothing_is_known_are_fine() {
    let nothing = || (ServerFacts::default(), Seen::default());
    assert_eq!(found(nothing(), nothing()), []);
}

#[test]
fn what_blocks_comes_first_and_the_target_behind_the_sources() {
    let source = seen("rdb_bgsave_in_progress:1\r\n", &[("repl-timeout", "3")]);
    let target = seen("aof_last_write_status:err\r\n", &[]);
    let all = found((server("redis-7.0"), source), (server("redis-7.0"), target));
    assert_eq!(
        names(&all),
        ["blocks bgsave-running", "warning repl-timeout", "blocks refuses-writes"]
    );
    assert_eq!([&all[0].place, &all[1].place, &all[2].place], ["a:1", "a:1", "b:2"]);
    assert!(is_blocked(&all));
}

#[test]
fn a_fork_needs_room_for_what_is_written_meanwhile() {
    let facts =
        |write_rate| ServerFacts { used_memory: 1000 * MIB, write_rate, ..server("redis-7.0") };
    let info = |total: u64| {
        format!("total_system_memory:{}\r\nused_memory_rss:{}\r\n", total * MIB, 1100 * MIB)
    };
    // 1000 MiB are sent in ten seconds, while 50 MiB are written in each.
    let judged = |total, rate, settings: &[(&'static str, &str)]| {
        let all = of_source(facts(rate * MIB), seen(&info(total), settings));
        all.into_iter().filter(|one| one.contains("fork-memory")).collect::<Vec<_>>()
    };
    assert_eq!(judged(1600, 50, &[]), Vec::<String>::new(), "500 MiB, and as many are free");
    assert_eq!(judged(1599, 50, &[]), ["blocks fork-memory"], "who does not tell may stop writes");
    assert_eq!(judged(1599, 50, &[("save", "")]), ["warning fork-memory"]);
    assert_eq!(judged(1599, 50, &[("stop-writes-on-bgsave-error", "no")]), ["warning fork-memory"]);
    assert_eq!(judged(2100, 5000, &[]), Vec::<String>::new(), "no more than all of it");
}

#[test]
fn a_backlog_is_reckoned_in_seconds() {
    let judged = |bytes: u64, write_rate| {
        let facts = ServerFacts { write_rate, ..server("redis-7.0") };
        let all = found(
            (facts, seen(&format!("repl_backlog_size:{bytes}\r\n"), &[])),
            (server("redis-7.0"), Seen::default()),
        );
        all.first().map(|one| (one.evidence.clone(), one.mend.clone()))
    };
    assert_eq!(judged(MIB, 0), None, "nothing is written");
    assert_eq!(judged(60 * MIB, MIB), None);
    let (evidence, mend) = judged(59 * MIB, MIB).unwrap();
    assert!(
        evidence.contains("of 59 MiB holds 59 s of what is written to it (1 MiB a second)"),
        "{evidence}"
    );
    assert!(mend.ends_with(&(600 * MIB).to_string()), "{mend}");
}

#[test]
fn memory_holds_the_data_and_the_largest_value_once_more() {
    let large = Large {
        db: Db::new(0),
        key: b"k".to_vec(),
        kind: "hash".into(),
        bytes: Bytes::InMemory(30 * MIB),
    };
    let sample = Sample { looked_at: 1, of: 1, largest: Some(large), ..Sample::default() };
    let judged_among = |limit: u64, there: u64| {
        let source = Seen {
            sample: Some(sample.clone()),
            ..seen(&format!("used_memory_dataset:{}\r\n", 60 * MIB), &[])
        };
        let target = ServerFacts {
            used_memory: 10 * MIB,
            max_memory: Some(limit * MIB),
            system_memory: Some(8000 * MIB),
            keys: [(Db::new(0), there)].into(),
            ..server("redis-7.0")
        };
        let all = found((server("redis-7.0"), source), (target, Seen::default()));
        all.into_iter().find(|one| one.kind == Kind::TargetMemory)
    };
    let judged = |limit| judged_among(limit, 0);
    assert_eq!(judged(0), None, "the machine has more");
    assert_eq!(judged(126), None, "less than four fifths of it");
    assert_eq!(judged(101).unwrap().severity, Severity::Warning);
    let blocked = judged(99).unwrap();
    assert_eq!(blocked.severity, Severity::Blocks);
    assert!(blocked.evidence.contains("10 MiB now, 60 MiB come"), "{}", blocked.evidence);
    assert!(blocked.evidence.ends_with("100 MiB of 99 MiB (maxmemory)"), "{}", blocked.evidence);
    assert!(blocked.mend.starts_with("give it 125 MiB"), "{}", blocked.mend);
    // What takes the place of something needs no room of its own, or less.
    assert_eq!(judged_among(99, 1).unwrap().severity, Severity::Warning);
}

#[test]
fn certificates_are_told_by_when_they_end() {
    let judged = |until: i64| {
        let certificate =
            Certificate { owner: Owner::Server, subject: "a".into(), until, ends: "then".into() };
        of_source(server("redis-7.0"), Seen { certificates: vec![certificate], ..Seen::default() })
    };
    const DAY: i64 = 24 * 3600;
    assert_eq!(judged(30 * DAY), Vec::<String>::new());
    assert_eq!(judged(30 * DAY - 1), ["warning certificate"]);
    assert_eq!(judged(DAY), ["warning certificate"]);
    assert_eq!(judged(DAY - 1), ["blocks certificate"]);
    assert_eq!(judged(-5), ["blocks certificate"]);
}

#[test]
fn what_info_says_is_read() {
    let told = Told(
        "# Stats\r\nlatest_fork_usec:12\r\ncmdstat_eval:calls=7,usec=1\r\ndb0:keys=1,expires=0,subexpiry=2\r\ndb12:keys=3,subexpiry=4\r\ndb0_distrib:1=1\r\n\
         module:name=vectorset,ver=1,api=1\r\nmodule:name=ReJSON,ver=20000,api=1\r\nmodule:name=ReJSON,ver=20000,api=1\r\nslave0:ip=::1,port=0,state=online,offset=5\r\nslave1:10.0.0.1,6380,online\r\n"
            .into(),
    );
    assert_eq!((told.number("latest_fork_usec"), told.field("fork")), (Some(12), None));
    assert_eq!((told.calls("eval"), told.calls("evalsha")), (7, 0));
    assert_eq!((told.of_databases("subexpiry"), told.of_databases("volatile")), (Some(6), None));
    assert_eq!(told.modules(), [Module { name: "ReJSON".into(), version: "20000".into() }]);
    let replicas: Vec<_> = told.replicas().collect();
    assert_eq!(
        replicas,
        [
            Attached { host: "::1", is_server: false, state: "online" },
            Attached { host: "10.0.0.1", is_server: true, state: "online" },
        ]
    );
}

#[test]
fn a_way_is_as_long_as_its_round_trip_and_the_copy_over_it() {
    let judged = |ms, rate| {
        let facts = ServerFacts { used_memory: 60_000 * MIB, ..server("redis-7.0") };
        let trip = Some(Duration::from_millis(ms));
        of_source(facts, Seen { round_trip: trip, rate, ..Seen::default() })
    };
    assert_eq!(judged(19, Some(101 * MIB)), Vec::<String>::new(), "no master sends faster");
    assert_eq!(judged(20, None), ["note slow-link"]);
    assert_eq!(judged(1, Some(99 * MIB)), ["note slow-link"], "ten minutes");
    assert_eq!(judged(1, Some(4 * MIB)), ["warning slow-link"], "four hours");
}

#[test]
fn every_kind_has_a_name_of_its_own() {
    let names: std::collections::BTreeSet<_> = Kind::ALL.iter().map(|kind| kind.name()).collect();
    assert_eq!(names.len(), Kind::ALL.len());
}
