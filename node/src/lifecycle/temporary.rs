//! The data directory of `kvnode --dev`: gone when the process ends in good order.

use std::path::{Path, PathBuf};

/// A directory that goes when this is dropped.
#[derive(Debug)]
pub(super) struct Temporary(PathBuf);

impl Temporary {
    pub(super) fn create() -> std::io::Result<Temporary> {
        use std::os::unix::fs::DirBuilderExt;
        let path = std::env::temp_dir().join(format!("kvnode-{}", crate::problem::trace_id()));
        // Its owner's alone: it will hold private keys, and others can write beside it.
        std::fs::DirBuilder::new().mode(0o700).create(&path)?;
        Ok(Temporary(path))
    }

    pub(super) fn path(&self) -> &Path {
        &self.0
    }
}

impl Drop for Temporary {
    fn drop(&mut self) {
        // Whoever cannot remove it leaves it to the system's own cleaning of temporary files.
        let _ = std::fs::remove_dir_all(&self.0);
    }
}
