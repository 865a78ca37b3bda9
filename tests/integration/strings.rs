//! Strings, which a comparison reads many at a time where most keys are some: each encoding, and what stands between them.

use crate::client::{Client, Command, cmd};
use crate::servers::Server;
use crate::verify::{copied, keys, verify, without};

/// When keys die that do.
const LATER: &str = "4000000000000";

const READ: &str = "SCAN, MGET and DUMP";

/// Of each encoding, and of lengths around those at which something changes on the way.
fn texts() -> Vec<Vec<u8>> {
    let numbers = ["0", "-1", "127", "-32769", "2147483648", "9223372036854775807", "007", "1e3"];
    let lengths = [0, 1, 20, 21, 44, 45, 1023, 1024, (64 << 10) - 1, 64 << 10, (64 << 10) + 1];
    let same = lengths.map(|len| vec![b'x'; len]);
    let byte = |n: u64| n.wrapping_mul(0x9e37_79b9_7f4a_7c15).to_be_bytes()[0];
    let noise = lengths.map(|len| (0..).map(byte).take(len).collect());
    let numbers = numbers.map(|text| text.as_bytes().to_vec());
    numbers.into_iter().chain(same).chain(noise).chain([b"\r\n$-1\r\n".to_vec()]).collect()
}

/// Mostly small strings, and each twentieth key is something else.
fn fill(client: &mut Client) {
    let mut commands: Vec<Command> = Vec::new();
    for n in 0..3000 {
        let key = format!("key:{n}");
        commands.push(match n % 20 {
            7 => cmd!("RPUSH", key, n, "item"),
            13 => cmd!("HSET", key, "field", n),
            _ => cmd!("SET", key, format!("value {n}")),
        });
    }
    for (nth, text) in texts().into_iter().enumerate() {
        commands.push(cmd!("SET", format!("text:{nth}"), text));
    }
    client.pipeline(&commands);
}

fn are_read_together(from: &'static str, to: &'static str) {
    let (Some(source), Some(target)) = (Server::start(from), Server::start(to)) else { return };
    let mut client = source.client();
    fill(&mut client);
    copied(&source, &target, &[]);
    let (from, to) = (source.url(), target.url());
    let what = format!("{from} and {to}");
    for flags in [&["--by", "scan"][..], &[], &["--memory", "4MiB"]] {
        let said = verify(&from, &to, flags);
        said.assert_same(keys(&mut client), &what);
        assert_eq!(said.counts["target"], READ);
    }
    // One that may not ask for many reads one by one.
    if let Some(to) = without(&target, "mget") {
        let said = verify(&from, &to, &[]);
        said.assert_same(keys(&mut client), &what);
        assert_eq!(said.counts["target"], "SCAN and DUMP");
    }
    // With deadlines too, and whatever stands in place of a string.
    let mut other = target.client();
    let dies = cmd!("PEXPIREAT", "key:2000", LATER);
    client.call(dies.clone());
    let last = format!("text:{}", texts().len() - 1);
    for command in [
        dies,
        cmd!("PEXPIREAT", "key:2002", LATER),
        cmd!("DEL", "key:0"),
        cmd!("DEL", "key:1"),
        cmd!("RPUSH", "key:1", "value 1"),
        cmd!("SET", "key:7", "another"),
        cmd!("APPEND", &last, "#"),
        cmd!("SET", "text:0", "00"),
        // The largest, of which one byte in the midst is another.
        cmd!("SETRANGE", "text:18", 40_000, "#"),
        cmd!("SET", "more", ""),
    ] {
        other.call(command);
    }
    let mut differ = vec![
        ("extra", 0, "more"),
        ("missing", 0, "key:0"),
        ("ttl", 0, "key:2002"),
        ("type", 0, "key:1"),
        ("type", 0, "key:7"),
        ("value", 0, "text:0"),
        ("value", 0, "text:18"),
        ("value", 0, &last),
    ];
    differ.sort_unstable();
    for flags in [&["--by", "scan"][..], &[], &["--by", "replication"]] {
        verify(&from, &to, flags).assert(&differ, &what);
    }
}

macro_rules! are_read_together {
    ($($test:ident $from:literal $to:literal),+ $(,)?) => {
        $(#[test]
        fn $test() {
            are_read_together($from, $to);
        })+
    };
}

are_read_together! {
    strings_of_2_8_and_7_0 "redis-2.8.17" "redis-7.0.15",
    strings_of_7_0_and_2_8 "redis-7.0.15" "redis-2.8.17",
    strings_of_6_2_and_8_0 "redis-6.2.14" "redis-8.0.6",
    strings_of_6_2_and_valkey "redis-6.2.14" "valkey-9.1.2",
}
