//! What the kernel says that a process has used.

use std::{fs, io, process::Child};

use anyhow::{Context, Result};

/// Of `/proc/PID/stat`: what Linux has told every program for thirty years, whatever the kernel's own tick is.
const TICKS_PER_SECOND: f64 = 100.0;

/// A process of a cluster under load. It ends with this value.
pub struct Process {
    child: Child,
    /// How it is called in tables.
    pub name: String,
}

/// What a process has used since it began.
#[derive(Clone, Copy, Debug, Default)]
pub struct Usage {
    /// Processor time in seconds.
    pub cpu: f64,
    /// Bytes resident, mapped files among them.
    pub resident: u64,
}

impl Process {
    /// Takes over a child.
    pub fn new(name: &str, child: Child) -> Process {
        Process {
            child,
            name: name.to_owned(),
        }
    }

    /// Its id.
    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// What it has used so far.
    ///
    /// # Errors
    /// When it has ended.
    pub fn usage(&self) -> Result<Usage> {
        usage(&self.id().to_string()).with_context(|| format!("{} is not there any more", self.name))
    }

    /// Whether it has ended by itself.
    ///
    /// # Errors
    /// When the kernel cannot tell.
    pub fn ended(&mut self) -> io::Result<bool> {
        Ok(self.child.try_wait()?.is_some())
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // It may have ended by itself; there is nothing to keep.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// What this process, the load, has used.
///
/// # Errors
/// When `/proc` cannot be read.
pub fn own() -> Result<Usage> {
    usage("self")
}

fn usage(process: &str) -> Result<Usage> {
    let read = |file: &str| fs::read_to_string(format!("/proc/{process}/{file}"));
    let stat = read("stat")?;
    // The name may hold spaces; what follows it does not. Fields 14 and 15 are user and system time, and the state is field 3.
    let (_, fields) = stat.rsplit_once(')').context("a stat line has a name")?;
    let ticks: f64 = fields
        .split_whitespace()
        .skip(11)
        .take(2)
        .filter_map(|ticks| ticks.parse::<f64>().ok())
        .sum();
    Ok(Usage {
        cpu: ticks / TICKS_PER_SECOND,
        resident: field(&read("status")?, "VmRSS:").context("VmRSS")? * 1024,
    })
}

fn field(text: &str, name: &str) -> Option<u64> {
    text.lines()
        .find_map(|line| line.strip_prefix(name))?
        .split_whitespace()
        .next()?
        .parse()
        .ok()
}

#[cfg(test)]
mod tests {
    use std::{
        hint::black_box,
        process::{Command, Stdio},
        time::{Duration, Instant},
    };

    use super::*;

    #[test]
    fn work_shows_as_processor_time_and_memory() {
        let before = own().unwrap();
        let end = Instant::now() + Duration::from_secs(20);
        let mut work = 0_u64;
        while own().unwrap().cpu - before.cpu < 0.1 {
            assert!(Instant::now() < end, "no processor time seen: {before:?}");
            for number in 0..1_000_000 {
                work = black_box(work.wrapping_add(number));
            }
        }
        assert!(before.resident > 1 << 20, "{before:?}");
    }

    #[test]
    fn a_process_ends_with_its_value() {
        let child = Command::new("sleep").arg("600").stdout(Stdio::null()).spawn().unwrap();
        let mut process = Process::new("sleep", child);
        let id = process.id();
        assert!(!process.ended().unwrap());
        process.usage().unwrap();
        drop(process);
        assert!(!std::path::Path::new(&format!("/proc/{id}")).exists());
    }
}
