//! Why a member's life ends badly.

use super::ports::PortError;
use crate::{
    auth::KeysError,
    data_dir::DataDirError,
    descriptors::TooFewDescriptors,
    log::OpenError,
    peer::TransportError,
    raft::StartError,
    standalone::{certificates::CertificatesError, tenants::TenantsFileError},
    storage::StoreError,
    tls::TlsError,
};

/// A member that cannot start, or cannot go on. Its `Display` is for the last line of the log; the sources follow it.
#[derive(Debug, thiserror::Error)]
pub enum LifecycleError {
    /// A port is taken.
    #[error(transparent)]
    Port(#[from] PortError),
    /// The process may open too few files.
    #[error(transparent)]
    Descriptors(#[from] TooFewDescriptors),
    /// The data directory cannot be used.
    #[error(transparent)]
    DataDir(#[from] DataDirError),
    /// There is no temporary directory to be had.
    #[error("cannot make a temporary data directory; name one with --data-dir")]
    Temporary(#[source] std::io::Error),
    /// The certificates of a member alone cannot be made.
    #[error(transparent)]
    Certificates(#[from] CertificatesError),
    /// The certificates cannot be used.
    #[error("tlsDir: {0}")]
    Tls(#[source] TlsError),
    /// The tenants file cannot be used.
    #[error(transparent)]
    Tenants(#[from] TenantsFileError),
    /// The signing key cannot be used.
    #[error("signingKey: {path} {problem}")]
    SigningKey {
        /// The file.
        path: String,
        /// What is wrong and what to do.
        problem: String,
    },
    /// The token keys cannot be used.
    #[error("tokenKeys: {0}")]
    TokenKeys(#[from] KeysError),
    /// The log cannot be opened.
    #[error("the write-ahead log cannot be opened")]
    Log(#[from] OpenError),
    /// The state machine cannot be opened.
    #[error("the state machine cannot be opened")]
    Store(#[from] StoreError),
    /// The log asks for a feature level that this program does not know.
    #[error(transparent)]
    NewerLevel(StoreError),
    /// Opening the state machine panicked.
    #[error("the state machine cannot be opened: its files make the engine panic ({0})")]
    StorePanic(String),
    /// Log and state machine do not fit together: something is gone.
    #[error("log and state machine do not fit together: {0}")]
    Incomplete(String),
    /// The peer port cannot be opened.
    #[error(transparent)]
    Peer(#[from] TransportError),
    /// Raft cannot start.
    #[error("the member cannot take part in its group")]
    Raft(#[from] StartError),
    /// A thread of the start ended without an answer.
    #[error("the start was interrupted: {0}")]
    Interrupted(#[from] tokio::task::JoinError),
    /// Storage or Raft failed; going on could lose what was acknowledged.
    #[error("the member cannot go on: {0}; it recovers when it is started again")]
    Failed(String),
}

impl LifecycleError {
    /// Whether the member cannot vouch for its own data. Everything else (another member's data, a newer format, a disk that does not
    /// answer, a bad configuration) ends the process, and may be over at the next start.
    pub(super) fn is_damage(&self) -> bool {
        match self {
            LifecycleError::DataDir(error) => error.is_damage(),
            LifecycleError::Log(error) => matches!(error, OpenError::Damaged { .. }),
            LifecycleError::Store(error) => error.is_damage(),
            LifecycleError::StorePanic(_) | LifecycleError::Incomplete(_) | LifecycleError::Raft(StartError::Behind { .. }) => true,
            _ => false,
        }
    }
}
