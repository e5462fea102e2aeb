//! A member's data directory: whose it is, who may use it, where the log and the data are.
//!
//! ```text
//! <dataDir>/lock             held by the running process
//!          /identity.json    format, cluster, shard, member id: written once, before anything else
//!          /quarantine.json  why the data is not to be believed; only while that is so
//!          /raft/            the write-ahead log: entries and vote
//!          /sm/              the state machine (`storage` says what is in it)
//! ```
//!
//! In: a path and the cluster that the configuration names. Out: an open [`DataDir`], whose lock ends with it, or an error that says what was
//! found and what to do. Absent by design: what is inside `raft/` and `sm/`, and every decision to throw data away.

mod durable;
mod error;
mod identity;
mod lock;

use std::path::{Path, PathBuf};

pub use error::DataDirError;
pub use identity::{FORMAT, Identity, NoRandomness, new_cluster_id};
pub use lock::{Lock, acquire};

use crate::cluster_id::ClusterId;

/// An open data directory.
#[derive(Debug)]
pub struct DataDir {
    path: PathBuf,
    identity: Identity,
    lock: Lock,
}

impl DataDir {
    /// Opens the directory whose lock this is; a directory without an identity becomes a new member's. Blocking.
    ///
    /// `cluster` none: the directory's own, or a new one (a member alone).
    ///
    /// # Errors
    /// When the directory is another cluster's or shard's, of a newer format, or cannot be read or written.
    pub fn open(lock: Lock, cluster: Option<ClusterId>, shard: u32) -> Result<DataDir, DataDirError> {
        let path = lock.directory().to_owned();
        let identity = match Identity::read(&path)? {
            Some(found) => found.accept(&path, cluster, shard)?,
            None => {
                // Data without an identity is not ours to overwrite: somebody removed or never restored the one file.
                for part in ["raft", "sm"] {
                    if path.join(part).exists() {
                        return Err(DataDirError::IdentityLost { path, part });
                    }
                }
                Identity::create(&path, cluster, shard)?
            }
        };
        for part in ["raft", "sm"] {
            durable::create_directory(&path.join(part))?;
        }
        Ok(DataDir { path, identity, lock })
    }

    /// Who this member is.
    pub fn identity(&self) -> Identity {
        self.identity
    }

    /// The directory.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The write-ahead log's directory.
    pub fn log(&self) -> PathBuf {
        self.path.join("raft")
    }

    /// The folder of the state machine's sets of rows.
    pub fn state_machine(&self) -> PathBuf {
        self.path.join("sm")
    }

    /// Notes that nobody may believe this directory any more, and why: `quarantine.json`, which the next start reads. Blocking.
    ///
    /// # Errors
    /// When the file cannot be written.
    pub fn quarantine(&self, reason: &str) -> Result<(), DataDirError> {
        let text = serde_json::json!({ "reason": reason }).to_string();
        durable::write_file(&self.path.join("quarantine.json"), text.as_bytes())
    }

    /// Bytes of all files in the directory, as the file system counts their blocks. Blocking.
    pub fn used_bytes(path: &Path) -> u64 {
        use std::os::unix::fs::MetadataExt;
        let Ok(entries) = std::fs::read_dir(path) else { return 0 };
        // A file may go while we look: it then counts nothing.
        entries.flatten().fold(0, |sum, entry| match entry.metadata() {
            Ok(metadata) if metadata.is_dir() => sum + Self::used_bytes(&entry.path()),
            Ok(metadata) => sum + metadata.blocks() * 512,
            Err(_) => sum,
        })
    }

    /// Lets another process open the directory.
    pub fn close(self) {
        drop(self.lock);
    }
}

#[cfg(test)]
mod tests;
