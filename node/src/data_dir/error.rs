//! Why a data directory cannot be used.

use std::path::PathBuf;

use crate::cluster_id::ClusterId;

/// A data directory that this process must not or cannot use.
#[derive(Debug, thiserror::Error)]
pub enum DataDirError {
    /// The file system refused.
    #[error("data directory: cannot {action} {}", path.display())]
    Io {
        /// What was tried.
        action: &'static str,
        /// On what.
        path: PathBuf,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// Another process holds the lock.
    #[error(
        "data directory {}: another process has used it for {waited} s; stop that process, or give this member its own --data-dir",
        path.display()
    )]
    Locked {
        /// The directory.
        path: PathBuf,
        /// Seconds waited.
        waited: u64,
    },
    /// It was written by a newer version.
    #[error(
        "data directory {}: has format {found}, this version reads up to {known}; start the newer version that wrote it, or one after that",
        path.display()
    )]
    NewerFormat {
        /// The directory.
        path: PathBuf,
        /// Its format.
        found: u32,
        /// The newest that this program knows.
        known: u32,
    },
    /// It belongs to another cluster.
    #[error(
        "data directory {}: belongs to cluster {found}, this member is configured for cluster {configured}; \
         give it the directory of its own cluster, or an empty one (as a new member)",
        path.display()
    )]
    ForeignCluster {
        /// The directory.
        path: PathBuf,
        /// Whose it is.
        found: ClusterId,
        /// Whose it should be.
        configured: ClusterId,
    },
    /// It belongs to another shard of the cluster.
    #[error(
        "data directory {}: belongs to shard {found}, this member is configured for shard {configured}; give it the directory of its own shard",
        path.display()
    )]
    ForeignShard {
        /// The directory.
        path: PathBuf,
        /// Whose it is.
        found: u32,
        /// Whose it should be.
        configured: u32,
    },
    /// `identity.json` cannot be understood.
    #[error("data directory {}: identity.json is damaged ({problem}); restore the file, or give this member an empty directory", path.display())]
    BadIdentity {
        /// The directory.
        path: PathBuf,
        /// What is wrong.
        problem: String,
    },
    /// There is data, and no identity.
    #[error(
        "data directory {}: holds `{part}` but no identity.json, so nobody can tell whose data it is; restore identity.json, \
         or give this member an empty directory",
        path.display()
    )]
    IdentityLost {
        /// The directory.
        path: PathBuf,
        /// What was found.
        part: &'static str,
    },
    /// `aside.json` cannot be understood.
    #[error(
        "data directory {}: aside.json is damaged ({problem}), so a replacement that was under way cannot be finished; give this member \
         an empty directory",
        path.display()
    )]
    BadAside {
        /// The directory.
        path: PathBuf,
        /// What is wrong.
        problem: String,
    },
    /// `quarantine.json` is there.
    #[error("data directory {}: is quarantined: {reason}", path.display())]
    Quarantined {
        /// The directory.
        path: PathBuf,
        /// What the member found when it wrote the file.
        reason: String,
    },
    /// The system gave no random number.
    #[error("data directory {}: the operating system gave no randomness for a member id", path.display())]
    NoRandomness {
        /// The directory.
        path: PathBuf,
    },
}

impl DataDirError {
    /// Whether the data is this member's own and cannot be vouched for. Anything else (another cluster's data, a newer format, a disk that
    /// does not answer) is for a person, and the data may be whole.
    pub fn is_damage(&self) -> bool {
        match self {
            DataDirError::BadIdentity { .. }
            | DataDirError::IdentityLost { .. }
            | DataDirError::BadAside { .. }
            | DataDirError::Quarantined { .. } => true,
            DataDirError::Io { .. }
            | DataDirError::Locked { .. }
            | DataDirError::NewerFormat { .. }
            | DataDirError::ForeignCluster { .. }
            | DataDirError::ForeignShard { .. }
            | DataDirError::NoRandomness { .. } => false,
        }
    }
}
