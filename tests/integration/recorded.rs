//! Streams that real masters sent: a few under `fixtures/streams`, all of them in the corpus that `UNDERSTUDY_CORPUS` names.

use std::env;
use std::fs;
use std::path::{Path, PathBuf};

use serde_json::Value;

use crate::servers::note_skipped;

/// A recorded stream and what was noted beside it.
pub(crate) struct Recorded {
    /// Server and scenario: `redis-7.0.15/live-basic`.
    pub(crate) name: String,
    /// The file with the bytes.
    pub(crate) path: PathBuf,
    pub(crate) bytes: Vec<u8>,
    pub(crate) sidecar: Value,
}

impl Recorded {
    fn read(path: &Path) -> Self {
        let json = fs::read(path).unwrap();
        let path = path.with_extension("bin");
        let part = |path: &Path| path.file_stem().unwrap().to_str().unwrap().to_owned();
        let folder = path.parent().unwrap().file_name().unwrap().to_str().unwrap();
        Self {
            name: format!("{folder}/{}", part(&path)),
            bytes: fs::read(&path).unwrap(),
            sidecar: serde_json::from_slice(&json).unwrap(),
            path,
        }
    }

    pub(crate) fn server(&self) -> &str {
        self.name.split('/').next().unwrap()
    }

    pub(crate) fn scenario(&self) -> &str {
        self.name.split('/').next_back().unwrap()
    }

    /// Whether the data set is in it: not where it goes on from an earlier recording, nor where the master gave up.
    pub(crate) fn is_whole(&self) -> bool {
        self.number("rdb_end").is_some()
    }

    /// A number of the sidecar, `None` where it says null or nothing.
    pub(crate) fn number(&self, field: &str) -> Option<u64> {
        self.sidecar[field].as_u64()
    }
}

/// The recordings that are part of this repository.
pub(crate) fn fixtures() -> Vec<Recorded> {
    let found = all(&Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures/streams"));
    assert!(found.len() > 20, "only {} fixtures", found.len());
    found
}

/// One of them.
pub(crate) fn fixture(name: &str) -> Recorded {
    Recorded::read(
        &Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("fixtures/streams/{name}.json")),
    )
}

/// All recordings there are; `None`, which is said, where the corpus is not at hand.
pub(crate) fn corpus() -> Option<Vec<Recorded>> {
    let found = all(&folder()?.join("streams"));
    assert!(found.len() > 100, "only {} recordings", found.len());
    Some(found)
}

/// The recordings of one server in the corpus.
pub(crate) fn corpus_of(server: &str) -> Option<Vec<Recorded>> {
    Some(recordings(&folder()?.join("streams").join(server)))
}

/// An RDB file and what it holds.
pub(crate) struct RdbFile {
    /// Server and case: `redis-7.0.15/types`.
    pub(crate) name: String,
    pub(crate) path: PathBuf,
    pub(crate) dataset: Value,
}

/// The RDB files of these servers in the corpus.
pub(crate) fn rdb_files(servers: &[&str]) -> Option<Vec<RdbFile>> {
    let folder = folder()?.join("rdb");
    let mut found = Vec::new();
    for server in servers {
        for path in sorted(&folder.join(server)) {
            let json = path.with_extension("json");
            if path.extension().is_some_and(|ending| ending == "rdb") && json.exists() {
                found.push(RdbFile {
                    name: format!("{server}/{}", path.file_stem().unwrap().to_str().unwrap()),
                    dataset: serde_json::from_slice(&fs::read(json).unwrap()).unwrap(),
                    path,
                });
            }
        }
    }
    assert!(found.len() > 20, "only {} files", found.len());
    Some(found)
}

/// `handshakes.json` of each server: of those in the fixtures, and of all in the corpus where it is at hand.
pub(crate) fn handshakes() -> Vec<(String, Value)> {
    let mut folders = vec![Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures")];
    folders.extend(folder());
    let mut found = Vec::new();
    for folder in folders {
        for server in sorted(&folder.join("streams")) {
            if let Ok(json) = fs::read(server.join("handshakes.json")) {
                let name = server.file_name().unwrap().to_str().unwrap().to_owned();
                found.push((name, serde_json::from_slice(&json).unwrap()));
            }
        }
    }
    found
}

/// The bytes that a text of the corpus's JSON stands for: one code point a byte.
pub(crate) fn latin1(text: &Value) -> Vec<u8> {
    let text = text.as_str().expect("a byte string");
    text.chars().map(|c| u8::try_from(u32::from(c)).expect("one code point a byte")).collect()
}

fn folder() -> Option<PathBuf> {
    let folder = env::var_os("UNDERSTUDY_CORPUS").filter(|folder| !folder.is_empty());
    if folder.is_none() {
        note_skipped("no UNDERSTUDY_CORPUS");
    }
    folder.map(PathBuf::from)
}

fn all(folder: &Path) -> Vec<Recorded> {
    sorted(folder).iter().flat_map(|server| recordings(server)).collect()
}

fn recordings(server: &Path) -> Vec<Recorded> {
    let is_sidecar = |path: &PathBuf| {
        path.extension().is_some_and(|ending| ending == "json")
            && path.with_extension("bin").exists()
    };
    sorted(server).iter().filter(|path| is_sidecar(path)).map(|path| Recorded::read(path)).collect()
}

fn sorted(folder: &Path) -> Vec<PathBuf> {
    let mut paths: Vec<_> = fs::read_dir(folder)
        .unwrap_or_else(|error| panic!("{}: {error}", folder.display()))
        .map(|entry| entry.unwrap().path())
        .collect();
    paths.sort();
    paths
}
