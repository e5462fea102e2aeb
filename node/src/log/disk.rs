//! The file operations that the log needs, as two small traits, and the real ones. In: names inside one directory. Out: bytes.
//! Absent: any knowledge of segments.
//!
//! The traits exist so that tests (and later the simulation) can put a disk underneath that loses what was not flushed.

use std::fs;
use std::io;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use ring::rand::{SecureRandom, SystemRandom};

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::indexing_slicing)]
pub(crate) mod fake;

/// An open file. All positions are absolute; there is no cursor.
pub trait File: Send + Sync {
    /// The current length in bytes.
    fn length(&self) -> io::Result<u64>;
    /// Fills `buffer` from `offset`, or fails with `UnexpectedEof`.
    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<()>;
    /// Writes all of `bytes` at `offset`, growing the file if needed. Not durable before [`File::flush`].
    fn write_at(&self, bytes: &[u8], offset: u64) -> io::Result<()>;
    /// `fdatasync`: everything written so far, and the length, survive a power cut once this returns.
    fn flush(&self) -> io::Result<()>;
}

/// One directory.
pub trait Disk: Send + Sync {
    /// Where `name` is, for messages.
    fn describe(&self, name: &str) -> String;
    /// The names of all files in the directory, in any order.
    fn names(&self) -> io::Result<Vec<String>>;
    /// Creates an empty file, replacing one of this name.
    fn create(&self, name: &str) -> io::Result<Arc<dyn File>>;
    /// Opens an existing file for reading and writing.
    fn open(&self, name: &str) -> io::Result<Arc<dyn File>>;
    /// Renames a file, replacing the target. Not durable before [`Disk::flush_names`].
    fn rename(&self, from: &str, to: &str) -> io::Result<()>;
    /// Removes a file. Not durable before [`Disk::flush_names`].
    fn remove(&self, name: &str) -> io::Result<()>;
    /// Makes creations, renames and removals durable.
    fn flush_names(&self) -> io::Result<()>;
    /// Sixteen random bytes that set a new log apart from every other.
    fn salt(&self) -> io::Result<[u8; 16]>;
}

/// A directory of the real file system.
#[derive(Debug)]
pub struct Directory {
    path: PathBuf,
    /// Held open, so that flushing names needs no further descriptor: a rename that has happened cannot wait for one. None when it is only read.
    names: Option<fs::File>,
}

impl Directory {
    /// Opens `path`, creating it (and making its creation durable) if it is missing.
    pub fn open(path: &Path) -> io::Result<Self> {
        if !path.is_dir() {
            fs::create_dir_all(path)?;
            if let Some(parent) = path.parent().filter(|parent| !parent.as_os_str().is_empty()) {
                fs::File::open(parent)?.sync_all()?;
            }
        }
        Ok(Self {
            path: path.to_owned(),
            names: Some(fs::File::open(path)?),
        })
    }

    /// The directory at `path` as it is: files are opened for reading only, and nothing is created.
    pub fn read_only(path: &Path) -> Self {
        Self {
            path: path.to_owned(),
            names: None,
        }
    }
}

impl Disk for Directory {
    fn describe(&self, name: &str) -> String {
        self.path.join(name).display().to_string()
    }

    fn names(&self) -> io::Result<Vec<String>> {
        let mut names = Vec::new();
        for item in fs::read_dir(&self.path)? {
            // A name that is not UTF-8 is none of the log's.
            if let Ok(name) = item?.file_name().into_string() {
                names.push(name);
            }
        }
        Ok(names)
    }

    fn create(&self, name: &str) -> io::Result<Arc<dyn File>> {
        let file = fs::OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(true)
            .open(self.path.join(name))?;
        Ok(Arc::new(RealFile(file)))
    }

    fn open(&self, name: &str) -> io::Result<Arc<dyn File>> {
        let file = fs::OpenOptions::new()
            .read(true)
            .write(self.names.is_some())
            .open(self.path.join(name))?;
        Ok(Arc::new(RealFile(file)))
    }

    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        fs::rename(self.path.join(from), self.path.join(to))
    }

    fn remove(&self, name: &str) -> io::Result<()> {
        fs::remove_file(self.path.join(name))
    }

    fn flush_names(&self) -> io::Result<()> {
        match &self.names {
            Some(names) => names.sync_all(),
            None => Err(io::Error::other("the directory is only read")),
        }
    }

    fn salt(&self) -> io::Result<[u8; 16]> {
        let mut salt = [0; 16];
        SystemRandom::new()
            .fill(&mut salt)
            .map_err(|_| io::Error::other("the system gave no random bytes"))?;
        Ok(salt)
    }
}

struct RealFile(fs::File);

impl File for RealFile {
    fn length(&self) -> io::Result<u64> {
        Ok(self.0.metadata()?.len())
    }

    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<()> {
        self.0.read_exact_at(buffer, offset)
    }

    fn write_at(&self, bytes: &[u8], offset: u64) -> io::Result<()> {
        self.0.write_all_at(bytes, offset)
    }

    fn flush(&self) -> io::Result<()> {
        self.0.sync_data()
    }
}
