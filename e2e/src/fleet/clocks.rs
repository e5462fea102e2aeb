//! Members' clocks: each process sees the time of day through a preloaded library ([`Shape::clocks`](super::Shape)), which adds what a file
//! says. The machine's own clock, and everybody's monotonic time, are left alone.

use std::{os::unix::fs::FileExt, path::Path};

use anyhow::{Context, Result};

use super::{Fleet, member_name, tool};

/// The library in the fleet's directory.
const LIBRARY: &str = "clock.so";

/// Builds the library and sets all clocks right.
pub(super) fn prepare(directory: &Path, members: usize) -> Result<()> {
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("src/fleet/clock.c");
    let library = directory.join(LIBRARY);
    let [library, source] = [&library, &source].map(|path| path.display().to_string());
    tool::run("cc", &["-O1", "-Wall", "-shared", "-fPIC", "-o", &library, &source, "-ldl"])?;
    (0..members).try_for_each(|number| set(directory, number, 0))
}

/// What a member's process is started with.
pub(super) fn environment(directory: &Path, number: usize) -> [(&'static str, String); 2] {
    [
        ("LD_PRELOAD", directory.join(LIBRARY).display().to_string()),
        ("KVFLEET_CLOCK", file(directory, number)),
    ]
}

fn file(directory: &Path, number: usize) -> String {
    directory.join(format!("{}.clock", member_name(number))).display().to_string()
}

fn set(directory: &Path, number: usize, ahead_ms: i64) -> Result<()> {
    let path = file(directory, number);
    // Never cut short: the process has it mapped.
    let file = std::fs::OpenOptions::new().write(true).create(true).truncate(false).open(&path);
    let written = file.and_then(|file| file.write_all_at(&ahead_ms.to_ne_bytes(), 0));
    written.with_context(|| path)
}

impl Fleet {
    /// Steps a member's clock: from now on it is so far ahead of this machine's.
    ///
    /// # Errors
    /// When the file cannot be written.
    pub fn set_clock(&self, number: usize, ahead_ms: i64) -> Result<()> {
        set(&self.directory, number, ahead_ms)
    }
}
