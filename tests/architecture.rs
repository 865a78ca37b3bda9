//! Holds the layers: imports point down only, and what stands below `net` is pure.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

/// From the bottom up. A module may import from layers below its own, never from its own or above.
const LAYERS: &[&[&str]] = &[
    &["key", "offset", "server", "progress", "slots"],
    &["rdb", "resp"],
    &["command", "repl"],
    &["plan"],
    &["change"],
    &["position", "doubt", "ledger", "owners"],
    &["census", "verify"],
    &["net", "scratch", "budget"],
    &["spool"],
    &["source", "target"],
    &["flow", "preflight"],
    &["status", "cutover"],
];

/// Everything below this module touches no socket, file, clock or runtime.
const FIRST_IMPURE: &str = "net";

/// What a pure module must not name.
const IMPURE: &[&str] = &[
    "tokio",
    "std::net",
    "std::fs",
    "std::time::Instant",
    "std::time::SystemTime",
    "std::thread",
    "std::io::stdin",
];

/// Modules above all layers: the crate's page and the laws that fuzzing runs.
const APART: &[&str] = &["lib", "fuzzing"];

fn sources(dir: &Path, found: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            sources(&path, found);
        } else if path.extension().is_some_and(|ending| ending == "rs") {
            found.push(path);
        }
    }
}

/// The code of a file: no comments, nothing from its `#[cfg(test)] mod tests` on.
fn code(text: &str) -> String {
    let text = text.split("#[cfg(test)]\nmod tests").next().unwrap_or(text);
    text.lines().map(|line| line.split("//").next().unwrap_or("")).collect::<Vec<_>>().join("\n")
}

fn top_module(path: &Path) -> String {
    let inside = path.strip_prefix("src").unwrap();
    let first = inside.components().next().unwrap().as_os_str().to_str().unwrap();
    first.trim_end_matches(".rs").to_owned()
}

fn layer(module: &str) -> Option<usize> {
    LAYERS.iter().position(|names| names.contains(&module))
}

#[test]
fn imports_point_down_and_the_core_is_pure() {
    let mut files = Vec::new();
    sources(Path::new("src"), &mut files);
    assert!(files.len() > 5, "the sources were not found");
    let mut faults = BTreeMap::new();
    for path in files {
        let module = top_module(&path);
        if module == "main"
            || module == "cli"
            || APART.contains(&module.as_str())
            || path.ends_with("tests.rs")
        {
            continue;
        }
        let own = layer(&module)
            .unwrap_or_else(|| panic!("{} stands in no layer: add it to LAYERS", path.display()));
        let text = code(&fs::read_to_string(&path).unwrap());
        assert!(!text.contains("crate::{"), "{}: one module an import", path.display());
        for (at, _) in text.match_indices("crate::") {
            let rest = &text[at + "crate::".len()..];
            let name: String =
                rest.chars().take_while(|c| c.is_alphanumeric() || *c == '_').collect();
            if name == module {
                continue;
            }
            match layer(&name) {
                Some(other) if other < own => {}
                _ => {
                    faults.insert(
                        format!("{}: {module} must not import {name:?}", path.display()),
                        (),
                    );
                }
            }
        }
        if own < layer(FIRST_IMPURE).unwrap() {
            for word in IMPURE.iter().filter(|word| text.contains(**word)) {
                faults.insert(format!("{}: pure code must not name {word}", path.display()), ());
            }
        }
    }
    assert!(faults.is_empty(), "{:#?}", faults.into_keys().collect::<Vec<_>>());
}

#[test]
fn the_command_line_sees_the_public_parts_only() {
    let mut files = Vec::new();
    sources(Path::new("src"), &mut files);
    for path in files {
        let module = top_module(&path);
        let text = code(&fs::read_to_string(&path).unwrap());
        let in_binary = module == "main" || module == "cli";
        for library_only in ["println!", "eprintln!", "print!", "eprint!", "process::exit"] {
            assert!(
                in_binary || !text.contains(library_only),
                "{}: only cli prints or exits",
                path.display()
            );
        }
        assert!(in_binary || !text.contains("clap"), "{}: only cli knows clap", path.display());
    }
}

/// The modules of the binary that a file names in its imports and paths. It stands so many folders below `cli`.
fn named_in_cli(code: &str, depth: usize) -> BTreeSet<String> {
    let up = "super::".repeat(depth + 1);
    let paths = code.match_indices(&up).filter(|(at, _)| !code[..*at].ends_with("super::"));
    let words = paths.flat_map(|(at, _)| {
        let path = &code[at + up.len()..];
        // A list in braces, or one path up to where it ends.
        let list = path.strip_prefix('{').and_then(|list| list.split(';').next());
        let first = path.split(|c: char| !is_of_name(c)).next();
        let words: Vec<&str> = match list {
            Some(list) => list.split(|c: char| !is_of_name(c)).collect(),
            None => first.into_iter().collect(),
        };
        words
    });
    words.map(str::to_owned).collect()
}

fn is_of_name(c: char) -> bool {
    c.is_alphanumeric() || c == '_'
}

#[test]
fn the_modules_of_the_command_line_know_each_other_in_no_circle() {
    let cli = Path::new("src/cli");
    let mut files = Vec::new();
    sources(cli, &mut files);
    let module = |path: &Path| {
        let first = path.strip_prefix(cli).unwrap().components().next().unwrap();
        first.as_os_str().to_str().unwrap().trim_end_matches(".rs").to_owned()
    };
    files.retain(|path| *path != cli.join("mod.rs"));
    let modules: BTreeSet<String> = files.iter().map(|path| module(path)).collect();
    let mut knows: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    for path in &files {
        // `mod.rs` stands for its folder.
        let depth = path.strip_prefix(cli).unwrap().components().count() - 1;
        let depth = depth - usize::from(path.ends_with("mod.rs"));
        let mut named = named_in_cli(&code(&fs::read_to_string(path).unwrap()), depth);
        named.retain(|name| *name != module(path) && modules.contains(name));
        knows.entry(module(path)).or_default().extend(named);
    }
    assert!(knows["intent"].contains("args"), "imports are not found any more: {knows:?}");
    // Who knows nobody that is left is in no circle.
    while let Some(last) = knows.iter().find(|(_, others)| others.is_empty()) {
        let last = last.0.clone();
        knows.remove(&last);
        for others in knows.values_mut() {
            others.remove(&last);
        }
    }
    assert!(knows.is_empty(), "in a circle, or above one: {knows:#?}");
}
