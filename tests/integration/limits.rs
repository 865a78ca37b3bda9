//! How fast a run may go, and that it goes so fast.

use std::time::Duration;

use crate::client::cmd;
use crate::judge::{self, Dump, Forgiving};
use crate::servers::Server;
use crate::tool::Understudy;

const PATIENCE: Duration = Duration::from_secs(20);

/// Copies `keys` strings of 1,000 bytes from each of so many sources, and gives the seconds that it took.
fn seconds(name: &'static str, sources: usize, keys: usize, flags: &[&str]) -> Option<f64> {
    let target = Server::start(name)?;
    let mut urls = Vec::new();
    let mut started = Vec::new();
    for nth in 0..sources {
        let source = Server::start(name)?;
        let value = "0123456789".repeat(100);
        let set = |n| cmd!("SET", format!("{nth}:{n}"), format!("{n}:{value}"));
        source.client().pipeline(&(0..keys).map(set).collect::<Vec<_>>());
        // Nothing that compresses is read in fewer bytes.
        source.client().call(cmd!("CONFIG", "SET", "rdbcompression", "no"));
        urls.extend(["--from".to_owned(), source.url()]);
        started.push(source);
    }
    let to = target.url();
    let mut args = vec!["sync", "--to", &to, "--once"];
    args.extend(urls.iter().map(String::as_str));
    args.extend(flags);
    let ended = Understudy::start(&args).wait(PATIENCE);
    ended.assert_code(0);
    let arrived = Dump::read(&mut target.client());
    assert_eq!(arrived.len(), sources * keys);
    if sources == 1 {
        let first = Dump::read(&mut started[0].client());
        judge::assert_same(&first, &arrived, Forgiving::default(), name);
    }
    ended.reported("seconds").as_f64()
}

#[test]
fn the_target_is_written_to_no_faster() {
    for name in ["redis-5.0.6", "redis-7.0.15"] {
        for (sources, flags) in [
            (1, ["--limit-rate", "2000"]),
            (1, ["--limit-rate", "2MB"]),
            (2, ["--limit-rate", "4000/s"]),
        ] {
            let Some(took) = seconds(name, sources, 3000, &flags) else { return };
            // 1.5 s, less what may come at once.
            assert!((1.4..4.0).contains(&took), "{name} {flags:?}: {took} s");
        }
    }
}

#[test]
fn the_sources_are_read_no_faster() {
    for name in ["redis-5.0.6", "redis-7.0.15"] {
        for (sources, flags) in [(1, ["--limit-read", "2MB"]), (2, ["--limit-read", "4MB/s"])] {
            let Some(took) = seconds(name, sources, 3000, &flags) else { return };
            // The last read need not be waited for.
            assert!((1.0..4.0).contains(&took), "{name} {flags:?}: {took} s");
        }
    }
}

#[test]
fn without_limits_it_takes_no_time() {
    let Some(took) = seconds("redis-7.0.15", 1, 3000, &[]) else { return };
    assert!(took < 1.0, "{took} s");
}

/// A limit of nothing, or of what is no size, is refused.
#[test]
fn limits_that_make_no_sense_are_refused() {
    for flags in [["--limit-rate", "0"], ["--limit-rate", "quick"], ["--limit-read", "0MB"]] {
        let args = ["sync", "--from", "redis://127.0.0.1:1", "--to", "redis://127.0.0.1:2"];
        let ended = Understudy::start(&[&args[..], &flags].concat()).wait(PATIENCE);
        ended.assert_code(2);
        assert!(ended.stderr.contains(flags[0]), "{}", ended.stderr);
    }
}
