//! How many bytes the data directory has. In: the directory. Out: what a thread has last counted. A scrape costs no walk through thousands of files, and
//! none waits for a disk that hangs.

use std::{
    io,
    path::PathBuf,
    sync::{
        Arc, Weak,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use crate::data_dir::DataDir;

/// Between two counts: a tenth of a percent of a core with ten thousand files.
const PAUSE: Duration = Duration::from_secs(5);

/// The figure; its thread ends some time after the last clone is gone.
#[derive(Clone)]
pub(super) struct Used(Arc<AtomicU64>);

impl Used {
    /// Counts in a thread from now on; until it has first counted the figure is 0.
    pub(super) fn watch(directory: PathBuf) -> io::Result<Used> {
        let figure = Arc::new(AtomicU64::new(0));
        let counted = Arc::downgrade(&figure);
        std::thread::Builder::new().name("disk-used".to_owned()).spawn(move || {
            while count(&counted, &directory) {
                std::thread::sleep(PAUSE);
            }
        })?;
        Ok(Used(figure))
    }

    /// As last counted.
    pub(super) fn bytes(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// False when the figure is not wanted any more.
fn count(figure: &Weak<AtomicU64>, directory: &std::path::Path) -> bool {
    let bytes = DataDir::used_bytes(directory);
    figure.upgrade().is_some_and(|figure| {
        figure.store(bytes, Ordering::Relaxed);
        true
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_count_follows_the_directory_as_long_as_it_is_wanted() {
        let directory = tempfile::tempdir().expect("a directory");
        let figure = Arc::new(AtomicU64::new(1));
        let weak = Arc::downgrade(&figure);
        assert!(count(&weak, directory.path()));
        assert_eq!(figure.load(Ordering::Relaxed), 0);
        std::fs::write(directory.path().join("file"), vec![1; 100_000]).expect("a file");
        assert!(count(&weak, directory.path()));
        assert!(figure.load(Ordering::Relaxed) >= 100_000);
        drop(figure);
        assert!(!count(&weak, directory.path()));
    }
}
