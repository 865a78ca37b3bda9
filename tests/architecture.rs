//! Holds the layers: imports point down only, and what stands below `net` is pure.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::collections::BTreeMap;
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
    &["census"],
    &["net", "scratch", "budget"],
    &["spool"],
    &["source", "target"],
    &["flow", "verify", "preflight"],
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
