//! How much memory a member may have: a control group of its own, as a container has one.
//!
//! In: a name and a limit. Out: what a process is started through, and the most that it used. Beyond the limit the kernel ends it. Both
//! versions of control groups will do; that of a limited process counts what it reads and writes through the page cache, too.

use std::{
    fs,
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use anyhow::{Context, Result};

/// Version 1 has a directory per resource.
const FIRST: &str = "/sys/fs/cgroup/memory";
/// Version 2 has one for all.
const SECOND: &str = "/sys/fs/cgroup";

/// How long the kernel may take to forget a process that has ended.
const PATIENCE: Duration = Duration::from_secs(5);

/// A control group; gone when dropped.
#[derive(Debug)]
pub struct Memory {
    directory: PathBuf,
}

impl Memory {
    /// Makes a group for processes that have this much memory together.
    ///
    /// # Errors
    /// When the caller is not root, or the system has no control groups for memory.
    pub(super) fn new(name: &str, bytes: u64) -> Result<Self> {
        let directory = root().join(name);
        fs::create_dir_all(&directory).with_context(|| format!("{}: a control group (this needs root)", directory.display()))?;
        let memory = Memory { directory };
        let limits = ["memory.limit_in_bytes", "memory.max"].map(|file| memory.directory.join(file));
        let limit = limits.iter().find(|file| file.is_file());
        let limit = limit.context("the control groups of this system do not limit memory: enable the memory controller")?;
        fs::write(limit, bytes.to_string()).with_context(|| limit.display().to_string())?;
        Ok(memory)
    }

    /// A process joins by writing its id here.
    pub(super) fn door(&self) -> PathBuf {
        self.directory.join("cgroup.procs")
    }

    /// The most that its processes have used, bytes.
    ///
    /// # Errors
    /// When the system does not say.
    pub fn peak(&self) -> Result<u64> {
        let files = ["memory.max_usage_in_bytes", "memory.peak"].map(|file| self.directory.join(file));
        let file = files
            .iter()
            .find(|file| file.is_file())
            .context("no control group says how much was used")?;
        Ok(fs::read_to_string(file)?.trim().parse()?)
    }
}

impl Drop for Memory {
    fn drop(&mut self) {
        let begun = Instant::now();
        while let Err(error) = fs::remove_dir(&self.directory) {
            if begun.elapsed() > PATIENCE {
                eprintln!("left over: {}: {error}", self.directory.display());
                return;
            }
            std::thread::sleep(Duration::from_millis(20));
        }
    }
}

/// Where groups are made.
pub(super) fn root() -> &'static Path {
    Path::new(if Path::new(FIRST).is_dir() { FIRST } else { SECOND })
}
