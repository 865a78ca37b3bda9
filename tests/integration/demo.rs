//! `demo` does the main job with nothing but a server's program.

use std::env;
use std::process::{Command, Output, Stdio};
use std::time::{Duration, Instant};

use crate::servers::{in_ci, program};

fn demo(path: &str) -> (Output, String) {
    let output = Command::new(env!("CARGO_BIN_EXE_understudy"))
        .args(["demo", "--progress", "plain"])
        .env("PATH", path)
        .env_remove("UNDERSTUDY_LOG")
        .stdin(Stdio::null())
        .output()
        .unwrap();
    let text = String::from_utf8(output.stdout.clone()).unwrap();
    (output, text)
}

/// A `PATH` on which this server is the first.
fn with(name: &'static str) -> Option<String> {
    let folder = program(name)?.parent()?.to_owned();
    let rest = env::var_os("PATH").unwrap_or_default();
    let all = [folder].into_iter().chain(env::split_paths(&rest));
    Some(env::join_paths(all).unwrap().into_string().unwrap())
}

#[test]
fn two_recorded_masters_arrive_whole() {
    for name in ["redis-7.0.15", "valkey-9.1.2"] {
        let Some(path) = with(name) else { continue };
        let begun = Instant::now();
        let (output, text) = demo(&path);
        assert_eq!(output.status.code(), Some(0), "{name}: {text}{output:?}");
        for master in ["Redis 2.6.17", "Redis 7.0.15"] {
            assert!(text.contains(&format!("\n{master}: equal: ")), "{name}: {text}");
        }
        let progress = String::from_utf8(output.stderr).unwrap();
        assert!(progress.contains("Redis 7.0.15  done  15 keys"), "{name}: {progress}");
        let took = begun.elapsed();
        assert!(took < Duration::from_secs(10) || !in_ci(), "{name} took {took:?}");
    }
}

#[test]
fn what_an_old_server_cannot_hold_is_left_out_and_said() {
    let Some(path) = with("redis-3.2.6") else { return };
    let (output, text) = demo(&path);
    assert_eq!(output.status.code(), Some(0), "{text}{output:?}");
    assert!(text.contains("  Redis 7.0.15: left out, "), "{text}");
    assert!(text.contains("\nRedis 2.6.17: equal: "), "{text}");
}

/// The copy needs no server at all; what does is said.
#[test]
fn without_a_server_it_copies_into_files_and_says_what_to_install() {
    let (output, text) = demo("/nowhere");
    assert_eq!(output.status.code(), Some(0), "{text}{output:?}");
    for master in ["Redis 2.6.17", "Redis 7.0.15"] {
        assert!(text.contains(&format!("\n{master}: equal: ")), "{text}");
    }
    assert!(text.contains("apt-get install redis-server"), "{text}");
}
