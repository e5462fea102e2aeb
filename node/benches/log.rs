//! The log against the disk below it: appends with group commit, and a plain write plus `fdatasync` of the same bytes into a file whose
//! blocks are written already. Prints one table; `cargo bench --bench log [-- DIRECTORY] [--json FILE]`.
//!
//! The raw side is given the groups that the log formed (as many bytes per flush), so the ratio is what the log adds: encoding, checksums,
//! the mark, threads and callbacks. Log and raw alternate in short rounds on the same files, and the medians are compared: a disk that
//! drifts meets both. Two more raw loops say where a difference comes from: one writes the mark's block too, the other does its writes
//! on a thread of its own, as the log must.

use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, mpsc};
use std::thread;
use std::time::{Duration, Instant};

use bytes::Bytes;
use kvfleet_node::log::{Entry, LogId, Options, Wal};

const ROUNDS: usize = 21;
const ROUND: Duration = Duration::from_millis(200);
const PREPARED: u64 = 256 << 20;
const PURGE_EVERY: u64 = 16 << 20;
/// Where groups begin, behind the block for the mark.
const DATA_AT: u64 = 12 << 10;

/// One way to load the log: appends of `batch` entries of `value` bytes, `waiting` of them at a time.
struct Load {
    value: usize,
    batch: u64,
    waiting: usize,
}

const LOADS: [Load; 6] = [
    Load::writers(1),
    Load::writers(16),
    Load::writers(64),
    Load::writers(128),
    Load {
        value: 256,
        batch: 128,
        waiting: 1,
    },
    Load {
        value: 4096,
        batch: 16,
        waiting: 1,
    },
];

impl Load {
    /// As many clients as this, each with one 256-byte entry under way.
    const fn writers(waiting: usize) -> Load {
        Load {
            value: 256,
            batch: 1,
            waiting,
        }
    }
}

/// What one round did.
#[derive(Clone, Copy)]
struct Outcome {
    entries_per_second: f64,
    groups_per_second: f64,
    group_bytes: u64,
}

fn main() -> io::Result<()> {
    let mut directory = std::env::temp_dir();
    let mut json = None;
    let mut arguments = std::env::args().skip(1);
    while let Some(argument) = arguments.next() {
        match argument.as_str() {
            "--json" => json = arguments.next(),
            // cargo passes this one.
            "--bench" => {}
            _ => directory = PathBuf::from(argument),
        }
    }
    let directory = directory.join(format!("log-bench-{}", std::process::id()));
    fs::create_dir_all(&directory)?;
    let outcome = run(&directory);
    fs::remove_dir_all(&directory)?;
    let found = outcome?;
    json.map_or(Ok(()), |path| fs::write(path, found.to_string()))
}

fn run(directory: &Path) -> io::Result<serde_json::Value> {
    opening(directory)?;
    let raw = prepared(&directory.join("raw"))?;
    println!(
        "{:>6} {:>6} {:>8} {:>10} {:>9} {:>12} {:>6} {:>15} {:>18} {:>14}",
        "value", "batch", "writers", "entries/s", "groups/s", "raw flush/s", "ratio", "raw+mark ratio", "raw+thread ratio", "both ratio"
    );
    let mut rows = Vec::new();
    let mut with_group_commit = Vec::new();
    for load in &LOADS {
        let found = compare(directory, &raw, load)?;
        let against = |raw: f64| found.groups / raw;
        println!(
            "{:>6} {:>6} {:>8} {:>10.0} {:>9.0} {:>12.0} {:>6.2} {:>15.2} {:>18.2} {:>14.2}",
            load.value,
            load.batch,
            load.waiting,
            found.entries,
            found.groups,
            found.raw,
            against(found.raw),
            against(found.raw_mark),
            against(found.raw_thread),
            against(found.raw_both),
        );
        if load.waiting > 1 {
            with_group_commit.push(against(found.raw));
        }
        rows.push(serde_json::json!({
            "value bytes": load.value, "entries per append": load.batch, "writers": load.waiting, "entries/s": found.entries.round(),
            "flushes/s": found.groups.round(), "raw flushes/s": found.raw.round(), "ratio": against(found.raw),
            "ratio to raw with a mark": against(found.raw_mark), "ratio to raw on a thread": against(found.raw_thread),
            "ratio to raw with both": against(found.raw_both),
        }));
    }
    // The worst of the loads that group commit is for. A lone writer is in the table.
    let worst = with_group_commit.into_iter().fold(f64::INFINITY, f64::min);
    Ok(serde_json::json!({"ratio": worst, "rows": rows}))
}

/// How long opening takes, empty and with a few segments.
fn opening(directory: &Path) -> io::Result<()> {
    let path = directory.join("start");
    for what in ["a new log", "a log of a few segments"] {
        let started = Instant::now();
        let wal = Wal::open(&path, Options::default()).map_err(io::Error::other)?;
        println!("{what} opens in {:.0} ms", started.elapsed().as_secs_f64() * 1e3);
        if wal.last().is_none() {
            fill(&wal)?;
        }
        wal.close()?;
    }
    Ok(())
}

/// Medians per second.
struct Found {
    entries: f64,
    groups: f64,
    raw: f64,
    raw_mark: f64,
    raw_thread: f64,
    raw_both: f64,
}

fn compare(directory: &Path, raw: &Arc<File>, load: &Load) -> io::Result<Found> {
    let path = directory.join(format!("log-{}-{}-{}", load.value, load.batch, load.waiting));
    let mut log = Appending::start(&path, load)?;
    let mut found: [Vec<f64>; 6] = Default::default();
    for _ in 0..ROUNDS {
        let ours = log.round()?;
        let raw = [
            flushes(raw, ours.group_bytes, Mark::Without)?,
            flushes(raw, ours.group_bytes, Mark::With)?,
            on_a_thread(raw, ours.group_bytes, Mark::Without)?,
            on_a_thread(raw, ours.group_bytes, Mark::With)?,
        ];
        for (all, one) in found
            .iter_mut()
            .zip([ours.entries_per_second, ours.groups_per_second].into_iter().chain(raw))
        {
            all.push(one);
        }
    }
    log.wal.close()?;
    fs::remove_dir_all(path)?;
    let [entries, groups, raw, raw_mark, raw_thread, raw_both] = found.map(median);
    Ok(Found {
        entries,
        groups,
        raw,
        raw_mark,
        raw_thread,
        raw_both,
    })
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).copied().unwrap_or_default()
}

fn prepared(path: &Path) -> io::Result<Arc<File>> {
    let file = OpenOptions::new().read(true).write(true).create(true).truncate(true).open(path)?;
    // A page at a time, as the log prepares its segments: what one call writes becomes one folio, and a large one is slow to write into.
    let zeros = vec![0; 4 << 10];
    for at in (0..PREPARED).step_by(zeros.len()) {
        file.write_all_at(&zeros, at)?;
    }
    file.sync_all()?;
    Ok(Arc::new(file))
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

/// A log under load.
struct Appending {
    wal: Wal,
    payload: Bytes,
    batch: u64,
    waiting: usize,
    next: u64,
    purge_at: u64,
    answers: mpsc::Receiver<io::Result<()>>,
    answer: mpsc::Sender<io::Result<()>>,
}

impl Appending {
    fn start(directory: &Path, load: &Load) -> io::Result<Appending> {
        let wal = Wal::open(directory, Options::default()).map_err(io::Error::other)?;
        let next = warm(&wal)?;
        let (answer, answers) = mpsc::channel();
        Ok(Appending {
            wal,
            payload: noise(load.value),
            batch: load.batch,
            waiting: load.waiting,
            next,
            purge_at: PURGE_EVERY,
            answers,
            answer,
        })
    }

    fn send(&mut self) {
        let entries = (self.next..self.next + self.batch)
            .map(|index| Entry {
                id: LogId { term: 1, leader: 1, index },
                payload: self.payload.clone(),
            })
            .collect();
        self.next += self.batch;
        let answer = self.answer.clone();
        // The receiver outlives the log.
        self.wal.append(entries, Box::new(move |outcome| drop(answer.send(outcome))));
    }

    fn answered(&self) -> io::Result<()> {
        self.answers.recv().map_err(io::Error::other)?
    }

    fn round(&mut self) -> io::Result<Outcome> {
        let before = self.wal.metrics();
        let started = Instant::now();
        for _ in 0..self.waiting {
            self.send();
        }
        let mut appended = 0;
        while started.elapsed() < ROUND {
            self.answered()?;
            appended += self.batch;
            self.send();
            self.purge();
        }
        let elapsed = started.elapsed().as_secs_f64();
        let metrics = self.wal.metrics();
        for _ in 0..self.waiting {
            self.answered()?;
        }
        let groups = metrics.groups - before.groups;
        Ok(Outcome {
            entries_per_second: appended as f64 / elapsed,
            groups_per_second: groups as f64 / elapsed,
            group_bytes: (metrics.bytes - before.bytes) / groups.max(1),
        })
    }

    /// As a member does: what the state machine has is dropped, so segments are reused.
    fn purge(&mut self) {
        let value = self.payload.len() as u64;
        if self.next * value > self.purge_at {
            self.purge_at = self.next * value + PURGE_EVERY;
            let kept = PURGE_EVERY / value;
            let upto = LogId {
                term: 1,
                leader: 1,
                index: self.next.saturating_sub(kept),
            };
            self.wal.purge_through(upto, Box::new(|_| {}));
        }
    }
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

/// Whether a raw flush covers a second block, as the log's mark is.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Mark {
    With,
    Without,
}

/// A plain file, written group after group.
struct Raw {
    file: Arc<File>,
    group: Bytes,
    mark: Mark,
    at: u64,
}

impl Raw {
    fn new(file: &Arc<File>, bytes: u64, mark: Mark) -> io::Result<Raw> {
        Ok(Raw {
            file: Arc::clone(file),
            group: noise(usize::try_from(bytes).map_err(io::Error::other)?),
            mark,
            at: DATA_AT,
        })
    }

    fn flush(&mut self) -> io::Result<()> {
        if self.at + self.group.len() as u64 > PREPARED {
            self.at = DATA_AT;
        }
        if self.mark == Mark::With {
            self.file.write_all_at(&[7; 38], 4096)?;
        }
        self.file.write_all_at(&self.group, self.at)?;
        self.file.sync_data()?;
        self.at += self.group.len() as u64;
        Ok(())
    }
}

/// Flushes per second of `bytes` each.
fn flushes(file: &Arc<File>, bytes: u64, mark: Mark) -> io::Result<f64> {
    let mut raw = Raw::new(file, bytes, mark)?;
    let started = Instant::now();
    let mut count = 0_u64;
    while started.elapsed() < ROUND {
        raw.flush()?;
        count += 1;
    }
    Ok(count as f64 / started.elapsed().as_secs_f64())
}

/// The same, each asked for by one thread and done by another.
fn on_a_thread(file: &Arc<File>, bytes: u64, mark: Mark) -> io::Result<f64> {
    let mut raw = Raw::new(file, bytes, mark)?;
    let (ask, asked) = mpsc::channel::<()>();
    let (answer, answers) = mpsc::channel();
    let flusher = thread::spawn(move || while asked.recv().is_ok() && answer.send(raw.flush()).is_ok() {});
    let started = Instant::now();
    let mut count = 0_u64;
    while started.elapsed() < ROUND {
        ask.send(()).map_err(io::Error::other)?;
        answers.recv().map_err(io::Error::other)??;
        count += 1;
    }
    let rate = count as f64 / started.elapsed().as_secs_f64();
    drop(ask);
    flusher.join().map_err(|_| io::Error::other("the flushing thread panicked"))?;
    Ok(rate)
}
