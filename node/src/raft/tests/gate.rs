//! A disk under a member's log that hangs, is full or fails when it is told to. Underneath is the real file system.

use std::{
    io,
    sync::{Arc, Condvar, Mutex},
    time::Duration,
};

use crate::log::{Directory, Disk, File};

/// How long a flush of a slow disk takes: less than a leader waits for an append.
const SLOW: Duration = Duration::from_millis(1_500);

/// What writes and flushes do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Mood {
    Well,
    /// They return when the mood has changed.
    Hangs,
    Full,
    /// Flushes take [`SLOW`].
    Slow,
    /// Flushes report an error.
    Fails,
}

#[derive(Clone)]
pub(super) struct Gate(Arc<(Mutex<Mood>, Condvar)>);

impl Gate {
    pub(super) fn new() -> Self {
        Gate(Arc::new((Mutex::new(Mood::Well), Condvar::new())))
    }

    pub(super) fn set(&self, mood: Mood) {
        *self.0.0.lock().unwrap() = mood;
        self.0.1.notify_all();
    }

    /// The mood, once it is not to hang.
    fn pass(&self) -> Mood {
        let mood = self.0.0.lock().unwrap();
        *self.0.1.wait_while(mood, |mood| *mood == Mood::Hangs).unwrap()
    }

    fn write(&self) -> io::Result<()> {
        match self.pass() {
            Mood::Full => Err(io::ErrorKind::StorageFull.into()),
            _ => Ok(()),
        }
    }

    fn flush(&self) -> io::Result<()> {
        match self.pass() {
            Mood::Fails => Err(io::Error::other("input/output error")),
            Mood::Slow => {
                std::thread::sleep(SLOW);
                Ok(())
            }
            _ => Ok(()),
        }
    }
}

/// A directory behind a gate.
pub(super) struct Gated {
    pub(super) gate: Gate,
    pub(super) directory: Directory,
}

struct GatedFile(Gate, Arc<dyn File>);

impl File for GatedFile {
    fn length(&self) -> io::Result<u64> {
        self.1.length()
    }

    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<()> {
        self.1.read_at(buffer, offset)
    }

    fn write_at(&self, bytes: &[u8], offset: u64) -> io::Result<()> {
        self.0.write()?;
        self.1.write_at(bytes, offset)
    }

    fn flush(&self) -> io::Result<()> {
        self.0.flush()?;
        self.1.flush()
    }
}

impl Disk for Gated {
    fn describe(&self, name: &str) -> String {
        self.directory.describe(name)
    }

    fn names(&self) -> io::Result<Vec<String>> {
        self.directory.names()
    }

    fn create(&self, name: &str) -> io::Result<Arc<dyn File>> {
        Ok(Arc::new(GatedFile(self.gate.clone(), self.directory.create(name)?)))
    }

    fn open(&self, name: &str) -> io::Result<Arc<dyn File>> {
        Ok(Arc::new(GatedFile(self.gate.clone(), self.directory.open(name)?)))
    }

    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        self.directory.rename(from, to)
    }

    fn remove(&self, name: &str) -> io::Result<()> {
        self.directory.remove(name)
    }

    fn flush_names(&self) -> io::Result<()> {
        self.gate.flush()?;
        self.directory.flush_names()
    }

    fn salt(&self) -> io::Result<[u8; 16]> {
        self.directory.salt()
    }
}
