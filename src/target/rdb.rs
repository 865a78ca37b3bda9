//! An RDB file as a target. It is made as `NAME.rdb.part` and takes its name once it is whole and on the disk: a run that
//! fails or is stopped leaves nothing.

use std::ffi::OsString;
use std::fs::{self, File, OpenOptions, TryLockError};
use std::io::{self, ErrorKind, Read, Seek, Write};
use std::mem;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use tokio::task::{JoinHandle, spawn_blocking};

use crate::rdb::writer::Writer;

/// A file in the making.
///
/// Bytes go to the disk in the background, one piece at a time, while the [`writer`](Self::writer) gathers the next.
#[derive(Debug)]
pub struct RdbTarget {
    part: Part,
    writer: Writer,
    /// The piece that is on its way to the disk; it gives its memory back.
    writing: Option<JoinHandle<(Vec<u8>, io::Result<()>)>>,
    spare: Vec<u8>,
    spool: Option<Arc<File>>,
    size: u64,
}

/// A file that will be made: its place is taken, and nothing is in it. It is given back when this is dropped.
#[derive(Debug)]
pub struct RdbPlace(Part);

/// What is being written, under the name that it has meanwhile.
#[derive(Debug)]
struct Part {
    path: PathBuf,
    meanwhile: PathBuf,
    replace: bool,
    file: Arc<File>,
    /// It has been given its name.
    whole: bool,
}

/// Why a file cannot be made.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum FileError {
    /// There is a file of this name.
    #[error("{} exists already", .0.display())]
    Exists(PathBuf),
    /// Another run is making it.
    #[error("{} is being written by another run", .0.display())]
    Busy(PathBuf),
    /// It cannot be begun.
    #[error("cannot create {}", path.display())]
    Create {
        /// Its path.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// It cannot be written, or not be given its name.
    #[error("cannot write {}", path.display())]
    Write {
        /// Its path.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
}

impl FileError {
    /// What the operator can do.
    #[must_use]
    pub fn advice(&self) -> &'static str {
        match self {
            Self::Exists(_) => {
                "give another name, move the file away, or say --on-conflict replace"
            }
            Self::Busy(_) => "wait until the other run has ended, or give another name",
            Self::Create { .. } => "see that the directory exists and may be written to",
            Self::Write { source, .. } => match source.kind() {
                ErrorKind::StorageFull | ErrorKind::QuotaExceeded | ErrorKind::FileTooLarge => {
                    "there is no room for the file: free some, or give a path on a larger disk (nothing was left there)"
                }
                _ => "see that the disk is well (dmesg) and start again; nothing was left there",
            },
        }
    }

    /// Whether nothing had been written yet.
    #[must_use]
    pub const fn is_refusal(&self) -> bool {
        match self {
            Self::Exists(_) | Self::Busy(_) | Self::Create { .. } => true,
            Self::Write { .. } => false,
        }
    }
}

impl RdbPlace {
    /// Takes the place. A part that a killed run left there is thrown away.
    ///
    /// # Errors
    /// If there is a file already and it shall not be replaced, another run is making one, or the directory takes none.
    pub fn take(path: &Path, replace: bool) -> Result<Self, FileError> {
        let part = beside(path, "part");
        let create = |source| FileError::Create { path: part.clone(), source };
        if path.is_dir() {
            return Err(FileError::Create {
                path: path.to_owned(),
                source: ErrorKind::IsADirectory.into(),
            });
        }
        if !replace && path.symlink_metadata().is_ok() {
            return Err(FileError::Exists(path.to_owned()));
        }
        let file = OpenOptions::new()
            .create(true)
            .truncate(false)
            .write(true)
            .open(&part)
            .map_err(create)?;
        match file.try_lock() {
            Err(TryLockError::WouldBlock) => return Err(FileError::Busy(path.to_owned())),
            // On a file system without locks nobody else can be seen.
            Ok(()) | Err(TryLockError::Error(_)) => {}
        }
        // Between the opening and the lock the run that made it may have ended, and this be its whole file.
        let ours = file.metadata().map_err(create)?;
        if !fs::metadata(&part).is_ok_and(|there| there.ino() == ours.ino()) {
            return Err(FileError::Busy(path.to_owned()));
        }
        file.set_len(0).map_err(create)?;
        let (path, file) = (path.to_owned(), Arc::new(file));
        Ok(Self(Part { path, meanwhile: part, replace, file, whole: false }))
    }

    /// Begins the file.
    #[must_use]
    pub fn begin(self, writer: Writer) -> RdbTarget {
        let spare = Vec::with_capacity(CHUNK + CHUNK / 4);
        RdbTarget { part: self.0, writer, writing: None, spare, spool: None, size: 0 }
    }
}

/// So many bytes are gathered before they are written.
const CHUNK: usize = 256 << 10;

impl RdbTarget {
    /// Where the file's next bytes are put.
    pub const fn writer(&mut self) -> &mut Writer {
        &mut self.writer
    }

    /// Whether so much has been gathered that it should be [flushed](Self::flush).
    #[must_use]
    pub const fn is_full(&self) -> bool {
        self.writer.ready() >= CHUNK
    }

    /// How many bytes have been flushed.
    #[must_use]
    pub const fn size(&self) -> u64 {
        self.size
    }

    /// Begins to write what was gathered, once what is on its way has been written. Nothing is lost if the future is dropped.
    ///
    /// # Errors
    /// If an earlier piece could not be written.
    pub async fn flush(&mut self) -> Result<(), FileError> {
        self.settle().await?;
        let bytes = self.writer.swap(mem::take(&mut self.spare));
        self.size += bytes.len() as u64;
        let file = Arc::clone(&self.part.file);
        self.writing = Some(spawn_blocking(move || {
            let written = (&*file).write_all(&bytes);
            (bytes, written)
        }));
        Ok(())
    }

    /// Lays a piece aside that belongs behind something that is not known yet. It is kept in a file without a name.
    ///
    /// # Errors
    /// If it cannot be written.
    pub async fn lay_aside(&mut self, piece: Vec<u8>) -> Result<(), FileError> {
        let (spool, path) = (self.spool.clone(), beside(&self.part.path, "spool"));
        let spool = blocking(move || {
            let spool = match spool {
                Some(spool) => spool,
                None => Arc::new(nameless(&path)?),
            };
            (&*spool).write_all(&piece)?;
            Ok(spool)
        });
        self.spool = Some(spool.await.map_err(|source| self.cannot_write(source))?);
        Ok(())
    }

    /// Puts everything that was laid aside behind what was gathered.
    ///
    /// # Errors
    /// If it cannot be read or written.
    pub async fn fetch_back(&mut self) -> Result<(), FileError> {
        let Some(spool) = self.spool.take() else { return Ok(()) };
        let rewound = Arc::clone(&spool);
        let rewind = blocking(move || (&*rewound).rewind()).await;
        rewind.map_err(|source| self.cannot_write(source))?;
        let mut piece = Vec::new();
        loop {
            let from = Arc::clone(&spool);
            let read = blocking(move || {
                piece.clear();
                (&*from).take(CHUNK as u64).read_to_end(&mut piece)?;
                Ok(piece)
            });
            piece = read.await.map_err(|source| self.cannot_write(source))?;
            if piece.is_empty() {
                return Ok(());
            }
            self.writer.body(&piece);
            self.flush().await?;
        }
    }

    /// Ends the file, sees it on the disk and gives it its name. Gives its size in bytes.
    ///
    /// # Errors
    /// If it cannot be written, or somebody else has made a file of this name meanwhile.
    pub async fn finish(mut self) -> Result<u64, FileError> {
        self.settle().await?;
        let last = self.writer.end();
        let size = self.size + last.len() as u64;
        let file = Arc::clone(&self.part.file);
        let written = blocking(move || {
            (&*file).write_all(&last)?;
            file.sync_all()
        });
        written.await.map_err(|source| self.cannot_write(source))?;
        if !self.part.replace && self.part.path.symlink_metadata().is_ok() {
            return Err(FileError::Exists(self.part.path.clone()));
        }
        let (from, to) = (self.part.meanwhile.clone(), self.part.path.clone());
        let named = blocking(move || fs::rename(&from, &to));
        named.await.map_err(|source| self.cannot_write(source))?;
        self.part.whole = true;
        let folder = folder(&self.part.path);
        // The name itself must be on the disk too.
        let known = blocking(move || File::open(folder)?.sync_all());
        known.await.map_err(|source| self.cannot_write(source))?;
        Ok(size)
    }

    /// Waits until the piece that is on its way has been written.
    async fn settle(&mut self) -> Result<(), FileError> {
        let Some(writing) = &mut self.writing else { return Ok(()) };
        let ended = writing.await;
        self.writing = None;
        let (bytes, written) =
            ended.map_err(io::Error::other).map_err(|source| self.cannot_write(source))?;
        self.spare = bytes;
        written.map_err(|source| self.cannot_write(source))
    }

    fn cannot_write(&self, source: io::Error) -> FileError {
        FileError::Write { path: self.part.path.clone(), source }
    }
}

impl Drop for Part {
    fn drop(&mut self) {
        if !self.whole {
            // There is nobody to tell; the next run takes a part over that is left there.
            let _ = fs::remove_file(&self.meanwhile);
        }
    }
}

/// Does what waits for the disk where waiting does no harm.
async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> io::Result<T> + Send + 'static,
) -> io::Result<T> {
    spawn_blocking(work).await.map_err(io::Error::other)?
}

/// A file that is gone when it is closed, however that comes.
fn nameless(path: &Path) -> io::Result<File> {
    let file = OpenOptions::new().create(true).truncate(true).read(true).write(true).open(path)?;
    fs::remove_file(path)?;
    Ok(file)
}

/// `NAME.rdb.ENDING`, in the same directory, so that it can be renamed.
fn beside(path: &Path, ending: &str) -> PathBuf {
    let mut name = path.file_name().map(OsString::from).unwrap_or_default();
    name.push(".");
    name.push(ending);
    path.with_file_name(name)
}

fn folder(path: &Path) -> PathBuf {
    match path.parent() {
        Some(parent) if parent != Path::new("") => parent.to_owned(),
        _ => PathBuf::from("."),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::server::Server;
    use tempfile::TempDir;

    fn names(dir: &TempDir) -> Vec<String> {
        let mut names: Vec<String> = fs::read_dir(dir.path())
            .unwrap()
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .collect();
        names.sort();
        names
    }

    fn writer() -> Writer {
        Writer::new(Server::parse("redis-2.8").unwrap()).unwrap()
    }

    #[tokio::test]
    async fn a_file_has_its_name_when_it_is_whole() {
        let dir = TempDir::new().unwrap();
        let path = dir.path().join("x.rdb");
        let mut target = RdbPlace::take(&path, false).unwrap().begin(writer());
        target.writer().body(b"one");
        target.flush().await.unwrap();
        target.writer().body(b"two");
        target.lay_aside(b"four".to_vec()).await.unwrap();
        assert_eq!(names(&dir), ["x.rdb.part"]);
        target.lay_aside(b"five".to_vec()).await.unwrap();
        target.writer().body(b"three");
        target.fetch_back().await.unwrap();
        target.lay_aside(b"six".to_vec()).await.unwrap();
        target.fetch_back().await.unwrap();
        let size = target.finish().await.unwrap();
        assert_eq!(names(&dir), ["x.rdb"]);
        let bytes = fs::read(&path).unwrap();
        assert_eq!(bytes.len() as u64, size);
        assert_eq!(bytes[..bytes.len() - 8], *b"REDIS0006onetwothreefourfivesix\xff");
    }

    #[tokio::test]
    async fn one_that_is_given_up_leaves_nothing() {
        let dir = TempDir::new().unwrap();
        let path = dir.path().join("x.rdb");
        let mut target = RdbPlace::take(&path, false).unwrap().begin(writer());
        target.writer().body(&[7; 1000]);
        target.flush().await.unwrap();
        target.lay_aside(vec![7; 1000]).await.unwrap();
        drop(target);
        drop(RdbPlace::take(&path, false).unwrap());
        assert!(names(&dir).is_empty());
    }

    #[tokio::test]
    async fn what_is_there_is_replaced_only_if_told() {
        let dir = TempDir::new().unwrap();
        let path = dir.path().join("x.rdb");
        fs::write(&path, "old").unwrap();
        assert!(matches!(RdbPlace::take(&path, false), Err(FileError::Exists(_))));
        fs::write(dir.path().join("x.rdb.part"), "left by a run that was killed").unwrap();
        let target = RdbPlace::take(&path, true).unwrap().begin(writer());
        assert_eq!(fs::read(&path).unwrap(), b"old");
        assert!(matches!(RdbPlace::take(&path, true), Err(FileError::Busy(_))));
        target.finish().await.unwrap();
        assert!(fs::read(&path).unwrap().starts_with(b"REDIS0006\xff"));

        // One that came while ours was made is not lost either.
        let other = dir.path().join("y.rdb");
        let target = RdbPlace::take(&other, false).unwrap().begin(writer());
        fs::write(&other, "another's").unwrap();
        let late = target.finish().await.unwrap_err();
        assert!(matches!(late, FileError::Exists(_)));
        assert_eq!(fs::read(&other).unwrap(), b"another's");
        assert_eq!(names(&dir), ["x.rdb", "y.rdb"]);
    }

    #[tokio::test]
    async fn a_directory_that_is_not_there_is_a_refusal() {
        let dir = TempDir::new().unwrap();
        let error = RdbPlace::take(&dir.path().join("no/x.rdb"), false).unwrap_err();
        assert!(matches!(error, FileError::Create { .. }) && error.is_refusal());
        assert!(RdbPlace::take(dir.path(), true).is_err());
    }
}
