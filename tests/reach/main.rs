//! What the tests reach: every object type, opcode and packed entry, by files of real servers or else by bytes that are written
//! here; and every kind of error, by what brings it about: bytes, servers in memory, whole runs between them. The lists are those
//! of the sources: a new entry fails here until something reaches it, and one that nothing can reach has no place there.

#![expect(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::print_stdout,
    reason = "a test fails by panicking, and says that it was skipped"
)]

mod fences;
mod formats;
mod gates;
mod joints;
mod links;
mod objects;
mod peers;
mod runs;
mod sockets;
mod takeovers;

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Debug;
use std::fs;
use std::path::{Path, PathBuf};

/// The files below a folder whose names end so.
fn find(dir: &Path, ending: &str, found: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            find(&path, ending, found);
        } else if path.extension().is_some_and(|own| own == ending) {
            found.push(path);
        }
    }
}

/// The text of all files below this folder of the package.
fn text_of(dir: &str) -> String {
    let mut files = Vec::new();
    find(&Path::new(env!("CARGO_MANIFEST_DIR")).join(dir), "rs", &mut files);
    files.iter().map(|path| fs::read_to_string(path).unwrap()).collect()
}

/// The variants of an enum as its source lists them, each with what stands before it there.
fn declared(name: &str) -> BTreeMap<String, String> {
    let source = text_of("src");
    let (_, body) = source.split_once(&format!("enum {name} {{\n")).unwrap();
    let (body, _) = body.split_once("\n}\n").unwrap();
    let (mut found, mut before) = (BTreeMap::new(), String::new());
    for line in body.lines() {
        // A variant stands four blanks in; its fields and attributes stand deeper or begin otherwise.
        match line.strip_prefix("    ").filter(|line| line.starts_with(char::is_uppercase)) {
            Some(variant) => drop(found.insert(name_of(variant), std::mem::take(&mut before))),
            None => before.push_str(line),
        }
    }
    assert!(found.len() > 1, "{name} was not found");
    found
}

/// The variants of an enum, as its source lists them.
fn variants(name: &str) -> BTreeSet<String> {
    declared(name).into_keys().collect()
}

/// The word that a value's debug form begins with.
fn name_of(text: &str) -> String {
    text.chars().take_while(|c| c.is_alphanumeric()).collect()
}

fn names<T: Debug>(reached: impl IntoIterator<Item = T>) -> BTreeSet<String> {
    reached.into_iter().map(|value| name_of(&format!("{value:?}"))).collect()
}

#[test]
fn no_kind_of_error_is_forgotten() {
    let (sources, here) = (text_of("src"), text_of("tests/reach"));
    let mut enums: Vec<&str> = sources
        .split("thiserror::Error)]\n")
        .skip(1)
        .filter_map(|derived| {
            let item = derived.lines().find(|line| !line.starts_with(['#', ' ', ')']))?;
            item.trim_start_matches("pub ").strip_prefix("enum ")?.strip_suffix(" {")
        })
        .collect();
    assert!(enums.len() > 20, "{enums:?}");
    enums.retain(|name| !here.contains(&format!("\"{name}\"")));
    assert!(enums.is_empty(), "nothing reaches {enums:?}");
}
