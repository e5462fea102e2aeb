//! Which failures of the store mean that its files are not what was written. Every other one (a full disk, a lock, a device that does not
//! answer) may be over after a restart.

use std::io::{self, ErrorKind};

use super::StoreError;

impl StoreError {
    /// Whether the rows cannot be trusted any more.
    pub fn is_damage(&self) -> bool {
        match self {
            StoreError::Damaged { .. } | StoreError::Digest { .. } | StoreError::BadPointer { .. } => true,
            StoreError::Open { source, .. } | StoreError::Read { source, .. } => engine(source),
            // A write or an fsync that failed says nothing about what was there.
            _ => false,
        }
    }
}

fn engine(error: &fjall::Error) -> bool {
    match error {
        fjall::Error::Storage(error) => match error {
            fjall::LsmError::Io(error) => file(error),
            _ => true,
        },
        fjall::Error::Io(error) => file(error),
        fjall::Error::JournalRecovery(_)
        | fjall::Error::InvalidVersion(None)
        | fjall::Error::Decompress(_)
        | fjall::Error::InvalidTrailer
        | fjall::Error::InvalidTag(_)
        | fjall::Error::Unrecoverable => true,
        _ => false,
    }
}

/// A file that is gone, too short, or holds nonsense.
fn file(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        ErrorKind::NotFound | ErrorKind::UnexpectedEof | ErrorKind::InvalidData | ErrorKind::InvalidInput
    )
}
