//! The room that a file system has. In: a path. Out: bytes. Absent: what is done about it.

use std::{io, path::Path};

/// A file system as a process without privileges sees it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Space {
    /// Its size, bytes.
    pub total: u64,
    /// What can still be written, bytes.
    pub free: u64,
}

/// The file system that `path` is on. May block as long as a disk that hangs.
///
/// # Errors
/// When the path is gone, or the file system does not answer.
pub fn space(path: &Path) -> io::Result<Space> {
    let found = rustix::fs::statvfs(path)?;
    Ok(Space {
        total: found.f_blocks.saturating_mul(found.f_frsize),
        free: found.f_bavail.saturating_mul(found.f_frsize),
    })
}

#[cfg(test)]
mod tests {
    use super::space;

    #[test]
    fn a_file_system_has_no_more_room_than_size() {
        let directory = tempfile::tempdir().expect("a directory");
        let found = space(directory.path()).expect("a file system");
        assert!(found.total > 0 && found.free <= found.total, "{found:?}");
        let error = space(&directory.path().join("absent")).expect_err("no such path");
        assert_eq!(error.kind(), std::io::ErrorKind::NotFound);
    }
}
