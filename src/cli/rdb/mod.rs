//! `rdb`: what is in an RDB file.

mod cat;
mod inspect;
mod json;
mod score;

use std::fs::File;
use std::io;
use std::io::BufWriter;
use std::io::Read;
use std::io::Write;
use std::path::Path;

use understudy::rdb::error::RdbError;
use understudy::rdb::event::Event;
use understudy::rdb::parser::Checksum;
use understudy::rdb::reader::Next;
use understudy::rdb::reader::Reader;

use super::args::Rdb;
use super::notice;
use super::outcome::Outcome;
use super::outcome::failed;
use super::outcome::refused;

/// Runs an `rdb` command to its end.
pub(crate) fn run(args: &Rdb) -> Outcome {
    let (path, memory) = match args {
        Rdb::Cat { file, memory } | Rdb::Inspect { file, memory, .. } => (file, *memory),
    };
    let file = match open(path) {
        Ok(file) => file,
        Err(error) => {
            let text = format!("cannot read {}: {error}", path.display());
            return refused(&text, "give the path of an RDB file that this user may read");
        }
    };
    let memory = usize::try_from(memory).unwrap_or(usize::MAX);
    let mut out = BufWriter::with_capacity(64 << 10, io::stdout().lock());
    let done = match args {
        Rdb::Cat { .. } => cat::cat(file, &mut out, memory),
        Rdb::Inspect { json, decode, .. } => {
            inspect::inspect(file, memory, *decode).and_then(|found| {
                let written =
                    if *json { found.write_json(&mut out) } else { found.write(&mut out) };
                written.map(|()| found.following).map_err(Stopped::Write)
            })
        }
    };
    let done = done.and_then(|following| out.flush().map(|()| following).map_err(Stopped::Write));
    match done {
        Ok(0) => Outcome::Done,
        // A server that loads the file does not look behind its end either.
        Ok(following) => {
            notice::warning(
                &format!(
                    "{}: {following} bytes stand behind the data set and do not belong to it",
                    path.display()
                ),
                "what was read is whole; if more than one data set was meant, give each as a file of its own",
            );
            Outcome::Done
        }
        // Whoever read our output has seen enough.
        Err(Stopped::Write(error)) if error.kind() == io::ErrorKind::BrokenPipe => Outcome::Done,
        Err(Stopped::Write(error)) => failed(&format!("cannot write the output: {error}"), ""),
        Err(Stopped::Read(error)) => {
            failed(&format!("cannot read on in {}: {error}", path.display()), "")
        }
        Err(Stopped::Rdb(error)) => failed(&format!("{}: {error}", path.display()), error.advice()),
    }
}

/// The lines that `rdb cat` prints of a file, in its order.
pub(super) fn keys(path: &Path) -> Result<Vec<serde_json::Value>, String> {
    let named = |error: String| format!("{}: {error}", path.display());
    let file = open(path).map_err(|error| named(error.to_string()))?;
    keys_of(file).map_err(named)
}

/// The lines that `rdb cat` prints of these bytes of a file.
pub(super) fn keys_of(file: impl Read) -> Result<Vec<serde_json::Value>, String> {
    let mut out = Vec::new();
    cat::cat(file, &mut out, usize::MAX).map_err(|stopped| match stopped {
        Stopped::Read(error) | Stopped::Write(error) => error.to_string(),
        Stopped::Rdb(error) => error.to_string(),
    })?;
    let lines = out.split(|&byte| byte == b'\n').filter(|line| !line.is_empty());
    lines.map(|line| serde_json::from_slice(line).map_err(|error| error.to_string())).collect()
}

fn open(path: &Path) -> io::Result<File> {
    let file = File::open(path)?;
    // A directory can be opened and only then not be read.
    if file.metadata()?.is_dir() {
        return Err(io::ErrorKind::IsADirectory.into());
    }
    Ok(file)
}

/// Why a file was not read to its end.
#[derive(Debug)]
enum Stopped {
    Read(io::Error),
    Rdb(RdbError),
    Write(io::Error),
}

impl From<RdbError> for Stopped {
    fn from(error: RdbError) -> Self {
        Self::Rdb(error)
    }
}

/// Reads `file` to the end of what it holds and shows each event, with the bytes consumed by then. What `see` answers
/// at a key is how its value is wanted. Gives what the file says of its sum, which was right.
fn read_all(
    file: &mut impl Read,
    reader: &mut Reader,
    mut see: impl FnMut(u64, Event<'_>) -> Result<(), Stopped>,
) -> Result<Checksum, Stopped> {
    loop {
        let before = reader.position();
        match reader.next()? {
            Next::Event(event) => see(before, event)?,
            Next::NeedMore => fill(file, reader)?,
            Next::End(checksum) => return Ok(checksum),
        }
    }
}

/// Bytes behind the data set, which has been read.
fn following(mut file: impl Read, reader: &Reader) -> Result<u64, Stopped> {
    let unread = reader.rest().len() as u64;
    Ok(unread + io::copy(&mut file, &mut io::sink()).map_err(Stopped::Read)?)
}

fn fill(file: &mut impl Read, reader: &mut Reader) -> Result<(), Stopped> {
    let count = loop {
        match file.read(reader.buffer()) {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            read => break read.map_err(Stopped::Read)?,
        }
    };
    if count == 0 {
        return Err(reader.truncated().into());
    }
    reader.filled(count);
    Ok(())
}
