//! A member's data directory: whose it is, who may use it, where the log and the data are.
//!
//! ```text
//! <dataDir>/lock             held by the running process
//!          /identity.json    format, cluster, shard, member id: written once, before anything else
//!          /raft/            the write-ahead log: entries and vote
//!          /sm/              the state machine (`storage` says what is in it)
//!          /members.json     the group's members as last known: whom to ask when the rest cannot be read
//!          /quarantine.json  why the member must not take part any more
//!          /aside.json       a replacement under way
//!          /damaged-<s>/     what a member was before it was replaced (s: Unix seconds); only the newest is kept
//!          /removed-<s>/     what it was before it was removed from its group
//! ```
//!
//! In: a path and the cluster that the configuration names. Out: an open [`DataDir`], whose lock ends with it, or an error that says what was
//! found and what to do. Absent by design: what is inside `raft/` and `sm/`, and every decision to put data aside.

mod acquaintances;
mod durable;
mod error;
mod identity;
mod lock;
mod put_aside;
mod quarantine;

use std::path::{Path, PathBuf};

pub use acquaintances::{known_members, remember_members, was_member};
pub use error::DataDirError;
pub use identity::{FORMAT, Identity, NoRandomness, new_cluster_id};
pub use lock::{Lock, acquire};
pub use put_aside::{Cause, Successor, put_aside};
pub use quarantine::quarantine;

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
        put_aside::resume(&path)?;
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
        if let Some(reason) = quarantine::reason(&path)? {
            return Err(DataDirError::Quarantined { path, reason });
        }
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
        quarantine::quarantine(&self.path, reason)
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

    /// Remembers whose place this member takes, or that it has it. Blocking.
    ///
    /// # Errors
    /// When the identity cannot be written.
    pub fn set_replaces(path: &Path, identity: Identity, replaces: Option<u64>) -> Result<(), DataDirError> {
        Identity { replaces, ..identity }.write(path)
    }

    /// The identity in this directory as far as it can be read, for a member that must not take part. Blocking.
    pub fn last_identity(path: &Path) -> Option<Identity> {
        Identity::read(path).ok().flatten()
    }

    /// The same for a member of this cluster and shard: what another one has left behind is neither asked for nor put aside. Blocking.
    ///
    /// # Errors
    /// [`DataDirError::ForeignCluster`], [`DataDirError::ForeignShard`].
    pub fn last_identity_of(path: &Path, cluster: ClusterId, shard: u32) -> Result<Option<Identity>, DataDirError> {
        let found = Self::last_identity(path);
        found.map(|identity| identity.accept(path, Some(cluster), shard)).transpose()
    }

    /// Gives up the directory; another process may open it once the lock goes.
    pub fn close(self) -> Lock {
        self.lock
    }
}

#[cfg(test)]
mod tests;
