//! Unnamed files: room on a disk that nobody else sees and that is free again when the process ends, however it ends.

use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::Path;
use std::process;

#[cfg(target_os = "linux")]
use rustix::fs::OFlags;

use crate::ledger::Scratch;

/// A file that has lost its name.
#[derive(Debug)]
pub struct Unnamed(File);

impl Unnamed {
    /// Creates one in this folder, which says on which disk it is.
    ///
    /// # Errors
    /// If nothing can be created there.
    pub fn create(folder: &Path) -> io::Result<Self> {
        // Where the system can, it never has a name.
        #[cfg(target_os = "linux")]
        if let Ok(file) = OpenOptions::new()
            .read(true)
            .write(true)
            .mode(0o600)
            .custom_flags(OFlags::TMPFILE.bits().cast_signed())
            .open(folder)
        {
            return Ok(Self(file));
        }
        let mut number = 0_u32;
        loop {
            let path = folder.join(format!(".understudy-{}-{number}", process::id()));
            match OpenOptions::new().read(true).write(true).create_new(true).mode(0o600).open(&path)
            {
                Ok(file) => {
                    fs::remove_file(&path)?;
                    return Ok(Self(file));
                }
                // One that was killed before it came to the next line, or one that is there just now.
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists => number += 1,
                Err(error) => return Err(error),
            }
        }
    }
}

impl Scratch for Unnamed {
    fn write_at(&mut self, at: u64, bytes: &[u8]) -> io::Result<()> {
        self.0.write_all_at(bytes, at)
    }

    fn read_at(&mut self, at: u64, into: &mut [u8]) -> io::Result<()> {
        self.0.read_exact_at(into, at)
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::MetadataExt;

    use tempfile::TempDir;

    use super::*;

    #[test]
    fn a_file_has_no_name_and_no_other_reader() {
        let folder = TempDir::new().unwrap();
        // One that was left behind.
        let left = folder.path().join(format!(".understudy-{}-0", process::id()));
        fs::write(&left, b"left").unwrap();
        let (mut one, mut other) =
            (Unnamed::create(folder.path()).unwrap(), Unnamed::create(folder.path()).unwrap());
        one.write_at(5, b"abc").unwrap();
        other.write_at(5, b"xyz").unwrap();
        let mut read = [0; 3];
        one.read_at(5, &mut read).unwrap();
        assert_eq!(&read, b"abc");
        assert!(one.read_at(6, &mut read).is_err());
        let metadata = one.0.metadata().unwrap();
        assert_eq!((metadata.mode() & 0o777, metadata.nlink()), (0o600, 0));
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1);
        assert_eq!(fs::read(&left).unwrap(), b"left");
    }

    #[test]
    fn a_folder_that_is_not_there_is_an_error() {
        let folder = TempDir::new().unwrap();
        assert!(Unnamed::create(&folder.path().join("none")).is_err());
    }
}
