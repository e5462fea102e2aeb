//! The sets of rows of one member: `CURRENT` names the directory beside it that is in use.
//!
//! ```text
//! sm/CURRENT   the name of a directory
//!   /0/        a fjall database
//!   /1/        another one: being received, or replaced and waiting for its last reader
//! ```
//!
//! A received set takes the place of the one in use by a change of that file alone, so a crash leaves the one or the other. Whatever
//! `CURRENT` does not name is removed at the next start, after the set that it does name was opened: nothing is thrown away before its
//! replacement is known to be good. Absent: what rows mean, and the decision to replace a set.

use std::{
    fs::File,
    io::{ErrorKind, Write as _},
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
};

use super::{FjallStore, FlushWatch, Incoming, StoreError, Stores, loading};

/// The file that names the set in use.
const POINTER: &str = "CURRENT";
/// The pointer while it is being written.
const NEXT_POINTER: &str = "CURRENT.tmp";

/// The folder with all sets. A cheap handle.
#[derive(Clone)]
pub struct FjallStores {
    folder: Arc<Folder>,
}

struct Folder {
    path: PathBuf,
    /// The name of the next set. Names are numbers that only rise.
    next: AtomicU64,
    flushes: FlushWatch,
}

fn failed(action: &'static str, path: &Path) -> impl FnOnce(std::io::Error) -> StoreError {
    let path = path.to_owned();
    move |source| StoreError::Files { action, path, source }
}

impl FjallStores {
    /// Opens the set in use; the first call makes one. Then removes what a crash has left of others. Blocks.
    ///
    /// # Errors
    /// [`StoreError::BadPointer`], [`StoreError::Files`], and those of opening the store.
    pub fn open(folder: &Path) -> Result<FjallStore, StoreError> {
        std::fs::create_dir_all(folder).map_err(failed("create", folder))?;
        let pointer = folder.join(POINTER);
        let current = match std::fs::read(&pointer) {
            Ok(found) => {
                // What is no text is no name either.
                let found = String::from_utf8_lossy(&found).into_owned();
                let name = found.trim_end();
                // One number, one name: `00` is another directory than `0`.
                let number = name.parse::<u64>().ok().filter(|number| number.to_string() == name);
                let whole = number.filter(|number| *number == 0 || folder.join(name).is_dir());
                whole.ok_or(StoreError::BadPointer { path: pointer, found })?
            }
            Err(error) if error.kind() == ErrorKind::NotFound => {
                // A set without a pointer was never in use, unless somebody removed the file.
                if let Some(found) = sets(folder)?.first() {
                    let found = format!("nothing (and there is a directory {found})");
                    return Err(StoreError::BadPointer { path: pointer, found });
                }
                point(folder, 0)?;
                0
            }
            Err(source) => return Err(failed("read", &pointer)(source)),
        };
        let store = FjallStore::open(&folder.join(current.to_string()))?;
        let mut next = current + 1;
        for set in sets(folder)? {
            if set != current {
                let left = folder.join(set.to_string());
                tracing::info!(directory = %left.display(), "removing a set of rows that is not in use");
                match std::fs::remove_dir_all(&left) {
                    Err(error) if error.kind() != ErrorKind::NotFound => return Err(failed("remove", &left)(error)),
                    Ok(()) | Err(_) => {}
                }
            }
            next = next.max(set.saturating_add(1));
        }
        let stores = FjallStores {
            folder: Arc::new(Folder {
                path: folder.to_owned(),
                next: AtomicU64::new(next),
                flushes: FlushWatch::default(),
            }),
        };
        Ok(store.among(stores))
    }

    pub(super) fn flushes(&self) -> FlushWatch {
        self.folder.flushes.clone()
    }

    fn directory(&self, set: u64) -> PathBuf {
        self.folder.path.join(set.to_string())
    }
}

impl Stores for FjallStores {
    type Store = FjallStore;

    fn create_next(&self) -> Result<Box<dyn Incoming>, StoreError> {
        let set = self.folder.next.fetch_add(1, Ordering::Relaxed);
        let incoming = loading::Loading::start(&self.directory(set), set)?;
        Ok(Box::new(incoming))
    }

    fn open(&self, set: u64) -> Result<FjallStore, StoreError> {
        Ok(FjallStore::open(&self.directory(set))?.among(self.clone()))
    }

    fn make_current(&self, set: u64) -> Result<(), StoreError> {
        point(&self.folder.path, set)
    }

    fn discard(&self, set: u64) {
        // What stays is removed at the next start.
        let _ = std::fs::remove_dir_all(self.directory(set));
    }
}

/// The numbers of the directories in the folder, ascending.
fn sets(folder: &Path) -> Result<Vec<u64>, StoreError> {
    let entries = std::fs::read_dir(folder).map_err(failed("list", folder))?;
    let mut found = Vec::new();
    for entry in entries {
        let name = entry.map_err(failed("list", folder))?.file_name();
        let number = name.to_str().and_then(|name| name.parse::<u64>().ok());
        found.extend(number.filter(|number| name == *number.to_string()));
    }
    found.sort_unstable();
    Ok(found)
}

/// Makes `CURRENT` name a set: the content is flushed before the name, the name before we go on.
fn point(folder: &Path, set: u64) -> Result<(), StoreError> {
    let (pointer, next) = (folder.join(POINTER), folder.join(NEXT_POINTER));
    let mut file = File::create(&next).map_err(failed("create", &next))?;
    file.write_all(set.to_string().as_bytes()).map_err(failed("write", &next))?;
    file.sync_all().map_err(failed("flush", &next))?;
    std::fs::rename(&next, &pointer).map_err(failed("rename", &next))?;
    flush_directory(folder)
}

pub(super) fn flush_directory(directory: &Path) -> Result<(), StoreError> {
    File::open(directory)
        .and_then(|open| open.sync_all())
        .map_err(failed("flush", directory))
}

/// Flushes every file and directory below, and this one.
pub(super) fn flush_all(directory: &Path) -> Result<(), StoreError> {
    for entry in std::fs::read_dir(directory).map_err(failed("list", directory))? {
        let path = entry.map_err(failed("list", directory))?.path();
        if path.is_dir() {
            flush_all(&path)?;
        } else {
            File::open(&path).and_then(|open| open.sync_all()).map_err(failed("flush", &path))?;
        }
    }
    flush_directory(directory)
}
