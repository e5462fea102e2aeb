//! Segments before and after their use: zeroed ahead, and kept after a purge. In: "one will be needed soon", and purged segments. Out:
//! files whose blocks are all written. A thread of its own does the slow part, so that no group waits for it.

use std::io;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard};
use std::thread::JoinHandle;

use super::disk::{Disk, File};
use super::repair;
use super::segment::{self, Header, Mark};
use crate::descriptors;

/// A file ready to become a segment.
pub(super) struct Spare {
    pub(super) name: String,
    pub(super) file: Arc<dyn File>,
    pub(super) capacity: u64,
}

impl Spare {
    /// Makes the file the segment of `header`, durably. Nothing refers to it before this returns.
    pub(super) fn become_segment(&self, disk: &dyn Disk, header: &Header, mark: &Mark) -> io::Result<()> {
        self.file.write_at(&segment::preamble(header, mark), 0)?;
        self.file.flush()?;
        disk.rename(&self.name, &segment::name(header.sequence))?;
        disk.flush_names()
    }
}

/// Whether an error says that the volume, or this user's share of it, is full, or that no file can be opened at the moment: all of it passes, and
/// nothing has been written by halves.
pub(super) fn is_full(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded) || descriptors::ran_out(error)
}

/// Zeroes a file of `capacity` bytes under an unfinished name; it is flushed when this returns.
pub(super) fn prepare(disk: &dyn Disk, number: u64, capacity: u64) -> io::Result<Spare> {
    let name = segment::unfinished_name(number);
    let file = disk.create(&name)?;
    if let Err(error) = repair::zero(file.as_ref(), 0, capacity) {
        // What was zeroed so far may be all the space there is. If removing fails too, the next start does it.
        if let Err(error) = disk.remove(&name) {
            tracing::warn!(file = disk.describe(&name), %error, "cannot remove an unfinished segment");
        }
        return Err(error);
    }
    Ok(Spare { name, file, capacity })
}

/// The supply of spares, and its thread.
pub(super) struct Spares {
    shared: Arc<Shared>,
    /// None in the simulation, whose one thread asks and works.
    thread: Option<JoinHandle<()>>,
}

struct Shared {
    disk: Arc<dyn Disk>,
    segment_bytes: u64,
    keep: usize,
    numbers: AtomicU64,
    work: Mutex<Work>,
    wake: Condvar,
    on_error: Box<dyn Fn(io::Error) + Send + Sync>,
}

#[derive(Default)]
struct Work {
    ready: Vec<Spare>,
    retired: Vec<Retired>,
    wanted: bool,
    closing: bool,
}

struct Retired {
    sequence: u64,
    capacity: u64,
    /// `None` if a reader still holds the file: it is deleted, which leaves the reader its bytes, rather than overwritten.
    file: Option<Arc<dyn File>>,
}

impl Spares {
    /// A supply with what was `found`. `on_error` receives what is not a full disk; that one is met again, by the writer, when a segment
    /// is due.
    pub(super) fn new(
        disk: Arc<dyn Disk>,
        segment_bytes: u64,
        keep: usize,
        found: Vec<(u64, Arc<dyn File>)>,
        on_error: Box<dyn Fn(io::Error) + Send + Sync>,
    ) -> Self {
        let next = found.iter().map(|(number, _)| number + 1).max().unwrap_or(1);
        let ready = found
            .into_iter()
            .map(|(number, file)| Spare {
                name: segment::spare_name(number),
                file,
                capacity: segment_bytes,
            })
            .collect();
        let work = Mutex::new(Work { ready, ..Work::default() });
        let shared = Arc::new(Shared {
            disk,
            segment_bytes,
            keep,
            numbers: AtomicU64::new(next),
            work,
            wake: Condvar::new(),
            on_error,
        });
        Self { shared, thread: None }
    }

    /// Gives the slow part a thread of its own.
    pub(super) fn start_thread(&mut self) -> io::Result<()> {
        let worker = Arc::clone(&self.shared);
        let thread = std::thread::Builder::new()
            .name("log-segments".to_owned())
            .spawn(move || worker.run())?;
        self.thread = Some(thread);
        Ok(())
    }

    fn wake(&self) {
        if self.thread.is_some() {
            self.shared.wake.notify_one();
        } else {
            loop {
                let next = self.shared.next_work(&mut self.shared.lock());
                let Some(retired) = next else { return };
                self.shared.work(retired);
            }
        }
    }

    /// Takes a ready spare with room for `capacity` bytes.
    pub(super) fn take(&self, capacity: u64) -> Option<Spare> {
        let mut work = self.shared.lock();
        if self.shared.segment_bytes < capacity {
            return None;
        }
        work.ready.pop()
    }

    /// Asks for one more, unless one is ready.
    pub(super) fn want(&self) {
        self.shared.lock().wanted = true;
        self.wake();
    }

    /// Zeroes a file of `capacity` bytes now, on the calling thread.
    pub(super) fn make(&self, capacity: u64) -> io::Result<Spare> {
        self.shared.make(capacity)
    }

    /// Hands over a purged segment.
    pub(super) fn retire(&self, sequence: u64, capacity: u64, file: Option<Arc<dyn File>>) {
        self.shared.lock().retired.push(Retired { sequence, capacity, file });
        self.wake();
    }

    /// Finishes what was retired and ends the thread.
    pub(super) fn close(&mut self) {
        self.shared.lock().closing = true;
        self.shared.wake.notify_one();
        if let Some(thread) = self.thread.take()
            && thread.join().is_err()
        {
            tracing::error!("the log's segment thread panicked");
        }
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, Work> {
        self.work.lock().expect("nothing panics while it holds this lock")
    }

    fn make(&self, capacity: u64) -> io::Result<Spare> {
        prepare(self.disk.as_ref(), self.numbers.fetch_add(1, Ordering::Relaxed), capacity)
    }

    fn run(&self) {
        loop {
            let mut work = self.lock();
            let retired = loop {
                if let Some(retired) = self.next_work(&mut work) {
                    break retired;
                }
                if work.closing {
                    return;
                }
                work = self.wake.wait(work).expect("nothing panics while it holds this lock");
            };
            drop(work);
            self.work(retired);
        }
    }

    /// Segments to recycle; none of them means that one is to be prepared.
    fn next_work(&self, work: &mut Work) -> Option<Vec<Retired>> {
        if !work.retired.is_empty() {
            return Some(std::mem::take(&mut work.retired));
        }
        let wanted = std::mem::take(&mut work.wanted) && !work.closing;
        (wanted && work.ready.is_empty()).then(Vec::new)
    }

    fn work(&self, retired: Vec<Retired>) {
        let outcome = if retired.is_empty() {
            self.prepare()
        } else {
            self.recycle(retired)
        };
        match outcome {
            Ok(()) => {}
            Err(error) if is_full(&error) => {
                tracing::warn!(%error, "no disk space, or no file descriptor, to prepare the log's next segment")
            }
            Err(error) => (self.on_error)(error),
        }
    }

    fn prepare(&self) -> io::Result<()> {
        let mut spare = self.make(self.segment_bytes)?;
        let name = segment::spare_name(self.numbers.fetch_add(1, Ordering::Relaxed));
        self.disk.rename(&spare.name, &name)?;
        self.disk.flush_names()?;
        spare.name = name;
        self.lock().ready.push(spare);
        Ok(())
    }

    /// The new names must be durable before a file gets a new header: a segment file whose header names another segment is damage.
    fn recycle(&self, retired: Vec<Retired>) -> io::Result<()> {
        let mut room = self.keep.saturating_sub(self.lock().ready.len());
        let mut kept = Vec::new();
        for Retired { sequence, capacity, file } in retired {
            let old = segment::name(sequence);
            match file.filter(|_| room > 0 && capacity == self.segment_bytes) {
                Some(file) => {
                    let name = segment::spare_name(self.numbers.fetch_add(1, Ordering::Relaxed));
                    self.disk.rename(&old, &name)?;
                    kept.push(Spare { name, file, capacity });
                    room -= 1;
                }
                None => self.disk.remove(&old)?,
            }
        }
        self.disk.flush_names()?;
        self.lock().ready.append(&mut kept);
        Ok(())
    }
}
