//! Files and directories that are there after a power cut: the content is flushed before the name, the name before we go on. And how they
//! are read again.

use std::{
    fs::File,
    io::{ErrorKind, Write},
    path::Path,
};

use super::error::DataDirError;

/// Puts a whole file in place, or leaves what was there.
pub(super) fn write_file(path: &Path, content: &[u8]) -> Result<(), DataDirError> {
    let fail = |action: &'static str| {
        move |source| DataDirError::Io {
            action,
            path: path.to_owned(),
            source,
        }
    };
    let temporary = path.with_extension("tmp");
    let mut file = File::create(&temporary).map_err(fail("create"))?;
    file.write_all(content).map_err(fail("write"))?;
    file.sync_all().map_err(fail("flush"))?;
    std::fs::rename(&temporary, path).map_err(fail("rename"))?;
    sync_parent(path)
}

/// A whole file, if it is there. As bytes: a flipped bit need not leave UTF-8 behind, and that is damage, not a failed read.
pub(super) fn read_file(path: &Path) -> Result<Option<Vec<u8>>, DataDirError> {
    match std::fs::read(path) {
        Ok(content) => Ok(Some(content)),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
        Err(source) => Err(DataDirError::Io {
            action: "read",
            path: path.to_owned(),
            source,
        }),
    }
}

/// Makes a directory, if need be.
pub(super) fn create_directory(path: &Path) -> Result<(), DataDirError> {
    if path.is_dir() {
        return Ok(());
    }
    std::fs::create_dir_all(path).map_err(|source| DataDirError::Io {
        action: "create",
        path: path.to_owned(),
        source,
    })?;
    sync_parent(path)
}

fn sync_parent(path: &Path) -> Result<(), DataDirError> {
    flush_directory(match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _ => Path::new("."),
    })
}

/// Makes the names in a directory durable.
pub(super) fn flush_directory(path: &Path) -> Result<(), DataDirError> {
    File::open(path)
        .and_then(|directory| directory.sync_all())
        .map_err(|source| DataDirError::Io {
            action: "flush",
            path: path.to_owned(),
            source,
        })
}
