//! Names that several sources hold, and that all of them write to until the fence: behind GO each key is what the first source holds that holds it.

use crate::client::cmd;
use crate::judge::{self, Dump};
use crate::replicas::untold;
use crate::servers::Server;
use crate::tool::Understudy;

use super::followed::{Writer, follows, verdict};

/// Writes to names that others write to as well; some of them come, go, and have deadlines.
fn contends(port: u16, of: usize) -> Writer {
    Writer::begin(port, move |next| {
        let key = |kind: &str| format!("{kind}:{}", next / 8 % 40);
        match next % 8 {
            0 => cmd!("SET", key("text"), format!("{of} {next}")),
            1 => cmd!("APPEND", key("text"), of),
            2 => cmd!("RPUSH", key("list"), of, next),
            3 => cmd!("SETEX", key("dies"), 4000 + next % 1000, format!("{of} {next}")),
            4 if next % 3 == of as u64 => cmd!("DEL", key("list"), key("dies")),
            4 => cmd!("EXPIRE", key("text"), 9000 + next % 500),
            5 => cmd!("HINCRBY", key("hash"), format!("of {of}"), 1),
            6 => cmd!("SADD", format!("own {of}"), next),
            _ => cmd!("RENAME", key("text"), key("renamed")),
        }
    })
}

fn the_first_that_holds_it_wins(fence: &str, names: [&'static str; 3], target: &'static str) {
    let what = format!("{fence} on {names:?}");
    let [Some(first), Some(second), Some(third)] = names.map(Server::start) else { return };
    let Some(target) = Server::start(target) else { return };
    let sources = [first, second, third];
    for (of, source) in sources.iter().enumerate() {
        let mut client = source.client();
        for key in 0..300 {
            client.call(cmd!("SET", format!("still:{}", key * (of + 1)), of));
        }
    }
    let urls = sources.iter().map(Server::url).collect::<Vec<_>>();
    let from = urls.iter().flat_map(|url| ["--from", url]).collect::<Vec<_>>();
    let to = target.url();
    let args = [&["sync", "--to", &to, "--on-conflict", "replace"], from.as_slice()].concat();
    let running = Understudy::start(&args);
    follows(&running);
    let writers: Vec<Writer> =
        { sources.iter().enumerate() }.map(|(of, source)| contends(source.port, of)).collect();
    let ended = running.beside(&["cutover", "--json", "--fence", fence, "--verify", "full"]);
    let written = writers.into_iter().map(Writer::end).collect::<Vec<_>>();
    ended.assert_code(0);
    assert_eq!(verdict(&ended)["verdict"], "GO", "{what}");
    assert!(written.iter().all(|by| by.pushed > 0 && by.refused > 0), "{what}");
    let held = sources.iter().map(|source| Dump::read(&mut source.client()));
    let wanted = Dump::first_of(held.collect::<Vec<_>>());
    let found = Dump::read(&mut target.client());
    let oldest = sources.iter().min_by_key(|source| source.version.redis).unwrap();
    judge::assert_same(&wanted, &found, untold(oldest), &what);
}

#[test]
fn the_first_source_that_holds_it_wins_behind_users_that_may_not_write() {
    let names = ["redis-6.2.14", "redis-7.0.15", "valkey-9.1.2"];
    the_first_that_holds_it_wins("acl", names, "valkey-9.1.2");
}

#[test]
fn the_first_source_that_holds_it_wins_where_replicas_are_wanted() {
    let names = ["redis-2.8.17", "redis-5.0.6", "redis-7.0.15"];
    the_first_that_holds_it_wins("min-replicas", names, "redis-7.0.15");
}
