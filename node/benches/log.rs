//! The log against the disk below it: appends with group commit, and a plain write plus `fdatasync` of the same bytes into a file
//! whose blocks are written already, in turns on the same directory. Prints one table; `cargo bench --bench log [-- DIRECTORY]`.
//!
//! The raw side is given the groups that the log formed (as many flushes of as many bytes), so the ratio is what the log adds:
//! encoding, checksums, the mark, threads and callbacks.

use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::mpsc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use kvfleet_node::log::{Entry, LogId, Options, Wal};

const ROUNDS: usize = 5;
const ROUND: Duration = Duration::from_millis(1500);
const PREPARED: u64 = 256 << 20;
const PURGE_EVERY: u64 = 16 << 20;

/// One way to load the log: appends of `batch` entries of `value` bytes, `waiting` of them at a time.
struct Load {
    value: usize,
    batch: u64,
    waiting: usize,
}

const LOADS: [Load; 7] = [
    Load {
        value: 256,
        batch: 1,
        waiting: 1,
    },
    Load {
        value: 256,
        batch: 16,
        waiting: 1,
    },
    Load {
        value: 256,
        batch: 128,
        waiting: 1,
    },
    Load {
        value: 256,
        batch: 1,
        waiting: 64,
    },
    Load {
        value: 256,
        batch: 1,
        waiting: 256,
    },
    Load {
        value: 4096,
        batch: 16,
        waiting: 1,
    },
    Load {
        value: 4096,
        batch: 128,
        waiting: 1,
    },
];

/// What one round did.
#[derive(Clone, Copy)]
struct Outcome {
    entries_per_second: f64,
    groups: u64,
    group_bytes: u64,
}

fn main() -> io::Result<()> {
    let directory = std::env::args()
        .skip(1)
        .find(|argument| !argument.starts_with("--"))
        .map_or_else(std::env::temp_dir, PathBuf::from);
    let directory = directory.join(format!("log-bench-{}", std::process::id()));
    fs::create_dir_all(&directory)?;
    let outcome = run(&directory);
    fs::remove_dir_all(&directory)?;
    outcome
}

fn run(directory: &Path) -> io::Result<()> {
    let started = Instant::now();
    Wal::open(&directory.join("start"), Options::default())
        .map_err(io::Error::other)?
        .close()?;
    println!("a new log opens and closes in {:.0} ms", started.elapsed().as_secs_f64() * 1e3);
    let full = Wal::open(&directory.join("start"), Options::default()).map_err(io::Error::other)?;
    fill(&full)?;
    full.close()?;
    let started = Instant::now();
    let full = Wal::open(&directory.join("start"), Options::default()).map_err(io::Error::other)?;
    println!(
        "a log of {} segments opens in {:.0} ms",
        full.metrics().segments_held,
        started.elapsed().as_secs_f64() * 1e3
    );
    full.close()?;
    let raw = prepared(&directory.join("raw"))?;
    println!(
        "{:>6} {:>6} {:>8} {:>12} {:>10} {:>12} {:>6}",
        "value", "batch", "waiting", "log e/s", "groups/s", "raw e/s", "ratio"
    );
    for load in &LOADS {
        let mut rounds = Vec::new();
        for round in 0..ROUNDS {
            let log = append(
                &directory.join(format!("log-{}-{}-{}-{round}", load.value, load.batch, load.waiting)),
                load,
            )?;
            let raw_groups = flushes(&raw, log.group_bytes)?;
            let per_group = log.entries_per_second / (log.groups as f64 / ROUND.as_secs_f64());
            rounds.push((log, raw_groups * per_group));
        }
        rounds.sort_by(|one, other| (one.0.entries_per_second / one.1).total_cmp(&(other.0.entries_per_second / other.1)));
        if let Some((log, raw)) = rounds.get(ROUNDS / 2) {
            let ratio = log.entries_per_second / raw;
            let groups = log.groups as f64 / ROUND.as_secs_f64();
            println!(
                "{:>6} {:>6} {:>8} {:>12.0} {:>10.0} {:>12.0} {:>6.2}",
                load.value, load.batch, load.waiting, log.entries_per_second, groups, raw, ratio
            );
        }
    }
    Ok(())
}

fn prepared(path: &Path) -> io::Result<File> {
    let file = OpenOptions::new().read(true).write(true).create(true).truncate(true).open(path)?;
    let zeros = vec![0; 1 << 20];
    for at in (0..PREPARED).step_by(zeros.len()) {
        file.write_all_at(&zeros, at)?;
    }
    file.sync_all()?;
    Ok(file)
}

/// Values that a device can't compress.
fn noise(length: usize) -> Bytes {
    let mut state = 0x9E37_79B9_7F4A_7C15_u64;
    std::iter::repeat_with(|| {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state as u8
    })
    .take(length)
    .collect()
}

fn append(directory: &Path, load: &Load) -> io::Result<Outcome> {
    let wal = Wal::open(directory, Options::default()).map_err(io::Error::other)?;
    let payload = noise(load.value);
    let (sender, receiver) = mpsc::channel();
    let mut next = warm(&wal)?;
    let mut send = || {
        let entries = (next..next + load.batch)
            .map(|index| Entry {
                id: LogId { term: 1, leader: 1, index },
                payload: payload.clone(),
            })
            .collect();
        next += load.batch;
        let sender = sender.clone();
        // The receiver outlives the log.
        wal.append(entries, Box::new(move |outcome| drop(sender.send(outcome))));
        next
    };
    let before = wal.metrics();
    let started = Instant::now();
    for _ in 0..load.waiting {
        send();
    }
    let mut appended = 0;
    let mut purge_at = PURGE_EVERY;
    while started.elapsed() < ROUND {
        receiver.recv().map_err(io::Error::other)??;
        appended += load.batch;
        let sent = send();
        if appended * load.value as u64 > purge_at {
            // As a member does: what the state machine has is dropped, so segments are reused.
            purge_at += PURGE_EVERY;
            let kept = PURGE_EVERY / load.value as u64;
            wal.purge_through(
                LogId {
                    term: 1,
                    leader: 1,
                    index: sent - kept,
                },
                Box::new(|_| {}),
            );
        }
    }
    let elapsed = started.elapsed().as_secs_f64();
    let metrics = wal.metrics();
    wal.close()?;
    fs::remove_dir_all(directory)?;
    let groups = metrics.groups - before.groups;
    let group_bytes = (metrics.bytes - before.bytes) / groups.max(1);
    Ok(Outcome {
        entries_per_second: appended as f64 / elapsed,
        groups,
        group_bytes,
    })
}

/// Takes the log to where a member spends its life: behind it are a few purged segments, which it reuses. Returns the next index.
fn warm(wal: &Wal) -> io::Result<u64> {
    let next = fill(wal)?;
    let (sender, receiver) = mpsc::channel();
    wal.purge_through(
        LogId {
            term: 1,
            leader: 1,
            index: next - 1,
        },
        Box::new(move |outcome| drop(sender.send(outcome))),
    );
    receiver.recv().map_err(io::Error::other)??;
    Ok(next)
}

/// Fills five segments. Returns the next index.
fn fill(wal: &Wal) -> io::Result<u64> {
    let payload = noise(1 << 20);
    let (sender, receiver) = mpsc::channel();
    let mut next = 0;
    while wal.metrics().segments < 5 {
        let entries = (next..next + 4)
            .map(|index| Entry {
                id: LogId { term: 1, leader: 1, index },
                payload: payload.clone(),
            })
            .collect();
        next += 4;
        let sender = sender.clone();
        wal.append(entries, Box::new(move |outcome| drop(sender.send(outcome))));
        receiver.recv().map_err(io::Error::other)??;
    }
    Ok(next)
}

/// Flushes per second of `bytes` each.
fn flushes(file: &File, bytes: u64) -> io::Result<f64> {
    let group = noise(usize::try_from(bytes).map_err(io::Error::other)?);
    let started = Instant::now();
    let mut count = 0_u64;
    let mut at = 0;
    while started.elapsed() < ROUND {
        if at + bytes > PREPARED {
            at = 0;
        }
        file.write_all_at(&group, at)?;
        file.sync_data()?;
        at += bytes;
        count += 1;
    }
    Ok(count as f64 / started.elapsed().as_secs_f64())
}
