//! `understudy rdb`: what it prints, and how it ends.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::fs;
use std::path::Path;
use std::process::Command;
use std::process::Output;

fn understudy(args: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_understudy")).arg("rdb").args(args).output().unwrap()
}

fn fixture(name: &str) -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures/rdb").join(name);
    path.to_str().unwrap().to_owned()
}

#[test]
fn a_file_is_printed_and_inspected() {
    let file = fixture("redis-7.2.5/aux-lru.rdb");
    let cat = understudy(&["cat", &file]);
    assert_eq!(cat.status.code(), Some(0));
    let keys = String::from_utf8(cat.stdout).unwrap();
    let keys = keys.lines().filter(|line| line.contains("\"key\":")).count();
    for args in [&["inspect", "--json", &file][..], &["inspect", "--json", "--decode", &file]] {
        let inspect = understudy(args);
        assert_eq!(inspect.status.code(), Some(0));
        let found: serde_json::Value = serde_json::from_slice(&inspect.stdout).unwrap();
        assert_eq!(found.get("keys").and_then(serde_json::Value::as_u64), Some(keys as u64));
    }
    let inspect = understudy(&["inspect", &file]);
    assert_eq!(inspect.status.code(), Some(0));
    let text = String::from_utf8(inspect.stdout).unwrap();
    assert!(text.starts_with("format      REDIS0011\n"), "{text}");
}

#[test]
fn damage_ends_with_3_and_names_its_byte() {
    let folder = tempfile::tempdir().unwrap();
    let damaged = folder.path().join("damaged.rdb");
    let mut bytes = fs::read(fixture("redis-6.2.14/nochecksum.rdb")).unwrap();
    bytes.truncate(bytes.len() - 20);
    fs::write(&damaged, bytes).unwrap();
    for command in ["cat", "inspect"] {
        let output = understudy(&[command, damaged.to_str().unwrap()]);
        assert_eq!(output.status.code(), Some(3), "{command}");
        let text = String::from_utf8(output.stderr).unwrap();
        assert!(text.contains(" at byte "), "{text}");
        assert!(text.contains("mend: "), "{text}");
    }
}

/// A server does not look behind the end either, but whoever asks what is in a file should know.
#[test]
fn bytes_behind_the_end_are_told() {
    let folder = tempfile::tempdir().unwrap();
    let longer = folder.path().join("longer.rdb");
    let whole = fs::read(fixture("redis-6.2.14/nochecksum.rdb")).unwrap();
    fs::write(&longer, [&whole[..], b"behind"].concat()).unwrap();
    for command in ["cat", "inspect"] {
        let output = understudy(&[command, longer.to_str().unwrap()]);
        assert_eq!(output.status.code(), Some(0), "{command}");
        let text = String::from_utf8(output.stderr).unwrap();
        assert!(text.contains("longer.rdb: 6 bytes stand behind the data set"), "{text}");
    }
}

/// Between two keys there is none that is damaged; the last one tells where to look.
#[test]
fn an_unknown_opcode_is_told_with_the_key_before_it() {
    let folder = tempfile::tempdir().unwrap();
    let damaged = folder.path().join("damaged.rdb");
    fs::write(&damaged, b"REDIS0006\xfe\0\0\x03key\x05value\x63\0\0\0\0\0\0\0\0").unwrap();
    for command in ["cat", "inspect"] {
        let output = understudy(&[command, damaged.to_str().unwrap()]);
        assert_eq!(output.status.code(), Some(3), "{command}");
        let text = String::from_utf8(output.stderr).unwrap();
        let told =
            "object type or opcode 99 is not known in REDIS0006 at byte 22 behind key \"key\"\n";
        assert!(text.contains(told), "{text}");
    }
}

#[test]
fn what_cannot_be_read_ends_with_2() {
    let folder = tempfile::tempdir().unwrap();
    let missing = folder.path().join("missing.rdb");
    for path in [missing.as_path(), folder.path()] {
        for command in ["cat", "inspect"] {
            let output = understudy(&[command, path.to_str().unwrap()]);
            assert_eq!(output.status.code(), Some(2), "{command} {}", path.display());
            assert!(output.stdout.is_empty());
        }
    }
    assert_eq!(understudy(&["dissect", "file"]).status.code(), Some(2));
}
