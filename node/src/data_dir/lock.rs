//! The lock of a data directory. Two processes on one log would both acknowledge, and each overwrite the other.

use std::{
    fs::{File, TryLockError},
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use super::{durable, error::DataDirError};

/// The lock, held until its last clone is dropped or the process ends, however it ends.
#[derive(Clone, Debug)]
pub struct Lock {
    directory: PathBuf,
    _file: Arc<File>,
}

impl Lock {
    /// The directory that it is for.
    pub fn directory(&self) -> &Path {
        &self.directory
    }
}

/// Takes the lock of this directory (made when missing), waiting at most `patience` for another process to let go: a pod that was deleted
/// by force goes on running while its successor starts.
///
/// # Errors
/// When the directory cannot be made, or the other process does not let go.
pub async fn acquire(directory: &Path, patience: Duration) -> Result<Lock, DataDirError> {
    durable::create_directory(directory)?;
    let path = directory.join("lock");
    let fail = |source| DataDirError::Io {
        action: "lock",
        path: path.clone(),
        source,
    };
    let file = File::options().create(true).truncate(false).write(true).open(&path).map_err(fail)?;
    match file.try_lock() {
        Ok(()) => {
            return Ok(Lock {
                directory: directory.to_owned(),
                _file: Arc::new(file),
            });
        }
        Err(TryLockError::WouldBlock) => {
            tracing::warn!(directory = %directory.display(), "another process uses the data directory; waiting for it to end");
        }
        Err(TryLockError::Error(source)) => return Err(fail(source)),
    }
    let (sender, receiver) = tokio::sync::oneshot::channel();
    // A thread of its own, not the runtime's: a wait that is given up would keep the runtime from ending.
    std::thread::Builder::new()
        .name("data-lock".to_owned())
        .spawn(move || {
            let locked = file.lock().map(|()| file);
            // Nobody waits any more: the file closes and the lock goes with it.
            let _ = sender.send(locked);
        })
        .map_err(fail)?;
    match tokio::time::timeout(patience, receiver).await {
        Ok(Ok(Ok(file))) => Ok(Lock {
            directory: directory.to_owned(),
            _file: Arc::new(file),
        }),
        Ok(Ok(Err(source))) => Err(fail(source)),
        Ok(Err(_)) => Err(fail(std::io::Error::other("the waiting thread ended"))),
        Err(_) => Err(DataDirError::Locked {
            path: directory.to_owned(),
            waited: patience.as_secs(),
        }),
    }
}
