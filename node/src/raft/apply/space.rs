//! A batch that meets a full disk, or a process that has no descriptor left for a file: both pass, and both are waited for. In: the batch, as often as it takes. Out: its answers, once there is space. Absent: asking for space
//! before (that is done before a command is proposed, and never here: apply must not depend on this member's disk).
//!
//! The engine takes nothing after a failed write until it is opened anew, so that is done in place: the process goes on voting, keeps its
//! log and serves its last view. Opening it needs the files, which readers hold for a moment longer.

use std::{
    collections::VecDeque,
    io,
    time::{Duration, Instant},
};

use super::{Progress, input};
use crate::{
    descriptors,
    raft::types::Entry,
    state::{Input, Machine, Response},
    storage::{MEMTABLE_BYTES, Space, Store, StoreError},
};

/// How often space is looked for. Nobody tells when there is some.
const LOOK: Duration = Duration::from_millis(250);
/// How often it is tried to take the files over from the last reader.
const TAKE_OVER: Duration = Duration::from_millis(20);
/// The engine is opened again only with this much free, bytes: it writes whole memtables at once.
const ENOUGH: u64 = MEMTABLE_BYTES / 2;
/// An engine that met a full disk twice within this time is given longer pauses: what it wants to write is more than there is.
const CALM: Duration = Duration::from_secs(60);
const LONGEST_PAUSE: Duration = Duration::from_secs(30);

/// How often the free space is looked at while all goes well.
const GLANCE: Duration = Duration::from_millis(50);

/// What is remembered from batch to batch: the pauses between two openings, and whether the disk has been nearly full since the last one.
/// The engine writes in the background: what failed for want of space is told at the next batch, when there may be space again.
pub(super) struct Patience {
    pause: Duration,
    last: Option<Instant>,
    glanced: Option<Instant>,
    was_short: bool,
}

impl Patience {
    pub(super) const NEW: Patience = Patience {
        pause: LOOK,
        last: None,
        glanced: None,
        was_short: false,
    };

    fn glance<S: Store>(&mut self, machine: &Machine<S>) {
        if self.glanced.is_none_or(|glanced| glanced.elapsed() >= GLANCE) {
            self.glanced = Some(Instant::now());
            self.was_short |= is_short(machine);
        }
    }

    fn next(&mut self) -> Duration {
        let again = self.last.is_some_and(|last| last.elapsed() < CALM);
        self.pause = if again { (self.pause * 2).min(LONGEST_PAUSE) } else { LOOK };
        self.pause
    }
}

/// Applies a batch, however long there is no space for it.
///
/// # Errors
/// Any failure but a full disk, and the end of the group.
pub(super) fn apply<S: Store>(
    machine: &mut Machine<S>,
    entries: &[Entry],
    progress: &Progress,
    patience: &mut Patience,
) -> io::Result<Vec<Response>> {
    let mut answers = Vec::with_capacity(entries.len());
    let mut applied = 0;
    let mut inputs = VecDeque::new();
    while applied < entries.len() {
        if inputs.is_empty() {
            // What is not applied yet: everything, or what is left after a batch that found no space. Whole entries, never a part of one:
            // the rows of an entry are in one batch with its index.
            inputs = readable(entries.iter().skip(applied))?;
        }
        let waiting = inputs.len();
        match machine.apply_some(&mut inputs) {
            Ok(mut some) => {
                patience.glance(machine);
                answers.append(&mut some);
                applied += waiting - inputs.len();
            }
            Err(error) if lacks_space(machine, &error, patience) => {
                wait(machine, &error, progress, patience)?;
                inputs.clear();
            }
            Err(error) => return Err(io::Error::other(error)),
        }
    }
    Ok(answers)
}

/// The entries before the first that cannot be read. One of them may raise the level: then it is told that the program is too old for what
/// follows, which is why it cannot read it.
fn readable<'e>(entries: impl Iterator<Item = &'e Entry>) -> io::Result<VecDeque<Input>> {
    let mut inputs = VecDeque::new();
    for entry in entries {
        match input(entry) {
            Ok(input) => inputs.push_back(input),
            Err(_) if !inputs.is_empty() => break,
            Err(error) => return Err(error),
        }
    }
    Ok(inputs)
}

/// Makes durable what is applied, however long there is no space for what the engine writes beside it.
///
/// # Errors
/// As [`apply`].
pub(super) fn persist<S: Store>(machine: &mut Machine<S>, progress: &Progress, patience: &mut Patience) -> io::Result<()> {
    loop {
        match machine.persist() {
            Ok(()) => return Ok(()),
            Err(error) if lacks_space(machine, &error, patience) => wait(machine, &error, progress, patience)?,
            Err(error) => return Err(io::Error::other(error)),
        }
    }
}

fn wait<S: Store>(machine: &mut Machine<S>, error: &StoreError, progress: &Progress, patience: &mut Patience) -> io::Result<()> {
    tracing::warn!(
        error = error as &dyn std::error::Error,
        "the state machine waits for disk space, or for a file descriptor; reads go on"
    );
    progress.set_waits(true);
    let reopened = reopen(machine, progress, patience);
    progress.set_waits(false);
    reopened?;
    tracing::info!("the state machine goes on");
    Ok(())
}

/// Whether an error comes from a full disk. When the engine does not say what failed in the background, a disk that is nearly full, or has
/// been since the engine was opened, is to blame: should it have been something else, it is met again soon, and then nothing excuses it.
fn lacks_space<S: Store>(machine: &Machine<S>, error: &StoreError, patience: &Patience) -> bool {
    error.is_full() || (error.is_poisoned() && (patience.was_short || is_short(machine)))
}

fn is_short<S: Store>(machine: &Machine<S>) -> bool {
    let full = |space: Space| space.free < 2 * MEMTABLE_BYTES + space.total / 20;
    machine.space().is_some_and(full) || descriptors::short()
}

fn reopen<S: Store>(machine: &mut Machine<S>, progress: &Progress, patience: &mut Patience) -> io::Result<()> {
    let mut pause = patience.next();
    let closing = || {
        io::Error::new(
            io::ErrorKind::StorageFull,
            "the member closes while its state machine waits for disk space",
        )
    };
    loop {
        if !progress.pause(pause) {
            return Err(closing());
        }
        pause = LOOK;
        if machine.space().is_some_and(|space| space.free < ENOUGH) {
            continue;
        }
        match machine.reopen() {
            Ok(()) => {
                patience.last = Some(Instant::now());
                patience.was_short = false;
                return Ok(());
            }
            Err(error) if error.is_locked() => pause = TAKE_OVER,
            Err(error) if lacks_space(machine, &error, patience) => {}
            Err(error) => return Err(io::Error::other(error)),
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use std::{io::ErrorKind, sync::Arc};

    use bytes::Bytes;

    use super::*;
    use crate::{
        raft::types::{Data, Payload, log_id},
        state::{Command, Level, Proposal},
        storage::{FjallStore, Reader, Write},
    };

    /// Fails so many writes, in its way.
    struct Failing {
        store: FjallStore,
        failures: u32,
        source: fn() -> fjall::Error,
        free: u64,
    }

    impl Store for Failing {
        fn write(&mut self, batch: Vec<Write>) -> Result<(), StoreError> {
            match self.failures.checked_sub(1) {
                None => self.store.write(batch),
                Some(left) => {
                    self.failures = left;
                    Err(StoreError::Write {
                        rows: batch.len(),
                        source: (self.source)(),
                    })
                }
            }
        }
        fn reader(&self) -> Arc<dyn Reader> {
            self.store.reader()
        }
        fn persist(&mut self) -> Result<(), StoreError> {
            self.store.persist()
        }
        fn disk_bytes(&self) -> Result<u64, StoreError> {
            self.store.disk_bytes()
        }
        fn reopen(&mut self) -> Result<(), StoreError> {
            self.store.reopen()
        }
        fn space(&self) -> Option<Space> {
            Some(Space {
                total: 1 << 30,
                free: self.free,
            })
        }
    }

    fn full() -> fjall::Error {
        fjall::Error::Io(ErrorKind::StorageFull.into())
    }

    fn attempt(failures: u32, source: fn() -> fjall::Error, free: u64, progress: &Progress) -> io::Result<Vec<Response>> {
        let directory = tempfile::tempdir().unwrap();
        let store = FjallStore::open(directory.path()).unwrap();
        let (mut machine, views) = Machine::open(Failing {
            store,
            failures: 0,
            source,
            free,
        })
        .unwrap();
        let entries = [Entry {
            log_id: log_id(1, 1),
            payload: Payload::Blank,
        }];
        machine.store_mut().failures = failures;
        let mut patience = Patience::NEW;
        let answers = apply(&mut machine, &entries, progress, &mut patience)?;
        assert_eq!(views.latest().applied().map(|applied| applied.index), Some(1));
        assert_eq!((progress.under_way(), progress.waits_for_space()), (None, false));
        Ok(answers)
    }

    #[test]
    fn a_batch_waits_for_space_and_is_applied() {
        assert_eq!(attempt(1, full, 1 << 30, &Progress::default()).unwrap(), [Response::None]);
        let no_descriptor = || fjall::Error::Io(io::Error::from_raw_os_error(24));
        assert_eq!(attempt(1, no_descriptor, 1 << 30, &Progress::default()).unwrap(), [Response::None]);
        // The engine hides what failed in the background; the file system tells.
        let poisoned = || fjall::Error::Poisoned;
        assert_eq!(attempt(1, poisoned, ENOUGH, &Progress::default()).unwrap(), [Response::None]);
    }

    /// The news of what failed in the background comes with the next batch.
    #[test]
    fn a_disk_that_was_full_and_is_not_any_more_excuses_what_failed_meanwhile() {
        let directory = tempfile::tempdir().unwrap();
        let store = FjallStore::open(directory.path()).unwrap();
        let (mut machine, _views) = Machine::open(Failing {
            store,
            failures: 0,
            source: || fjall::Error::Poisoned,
            free: ENOUGH,
        })
        .unwrap();
        let mut patience = Patience::NEW;
        let batch = |index| {
            [Entry {
                log_id: log_id(1, index),
                payload: Payload::Blank,
            }]
        };
        apply(&mut machine, &batch(1), &Progress::default(), &mut patience).unwrap();
        machine.store_mut().free = 1 << 30;
        machine.store_mut().failures = 1;
        apply(&mut machine, &batch(2), &Progress::default(), &mut patience).unwrap();
        // Opened again on a disk with room: another failure has no excuse.
        machine.store_mut().failures = 1;
        assert!(apply(&mut machine, &batch(3), &Progress::default(), &mut patience).is_err());
    }

    #[test]
    fn every_other_failure_is_fatal() {
        let broken = || fjall::Error::Io(io::Error::other("input/output error"));
        let error = attempt(1, broken, 0, &Progress::default()).unwrap_err();
        assert!(error.to_string().contains("cannot write a batch"), "{error}");
        assert!(attempt(1, || fjall::Error::Poisoned, 1 << 30, &Progress::default()).is_err());
    }

    /// What follows a level that the program does not know may be of a form that it cannot read. The level is the reason that is told.
    #[test]
    fn an_entry_that_cannot_be_read_behind_a_raise_is_no_damage() {
        let directory = tempfile::tempdir().unwrap();
        let store = FjallStore::open(directory.path()).unwrap();
        let (mut machine, views) = Machine::open_knowing(store, Level::FIRST).unwrap();
        let raise = Proposal {
            stamp_ms: 1,
            command: Command::RaiseLevel { level: Level(2) },
        };
        let entry = |index, payload| Entry {
            log_id: log_id(1, index),
            payload,
        };
        let unreadable = || Payload::Normal(Data(Bytes::from_static(&[0x7f, 1])));
        let entries = [
            entry(1, Payload::Blank),
            entry(2, Payload::Normal(Data(raise.encode()))),
            entry(3, unreadable()),
        ];
        let attempt = |machine: &mut Machine<_>, entries: &[Entry]| {
            let mut patience = Patience::NEW;
            let error = apply(machine, entries, &Progress::default(), &mut patience).unwrap_err();
            error.to_string()
        };
        let told = attempt(&mut machine, &entries);
        assert!(
            told.contains("this data is of feature level 2, this program knows up to 1"),
            "{told}"
        );
        assert_eq!(views.latest().applied(), None);

        // By itself it is told as what it is, once all before it is applied.
        let other = tempfile::tempdir().unwrap();
        let (mut machine, views) = Machine::open(FjallStore::open(other.path()).unwrap()).unwrap();
        let told = attempt(&mut machine, &entries);
        assert!(told.contains("log entry") && told.contains("format 127"), "{told}");
        assert_eq!(views.latest().applied().map(|applied| applied.index), Some(2));
    }

    #[test]
    fn a_member_that_closes_does_not_wait_for_space() {
        let progress = Progress::default();
        progress.close();
        let error = attempt(1, full, 0, &progress).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::StorageFull);
    }

    #[test]
    fn pauses_grow_while_the_disk_is_full_again_and_again() {
        let mut patience = Patience::NEW;
        assert_eq!(patience.next(), LOOK);
        patience.last = Some(Instant::now());
        assert_eq!(patience.next(), 2 * LOOK);
        for _ in 0..10 {
            patience.next();
        }
        assert_eq!(patience.next(), LONGEST_PAUSE);
    }
}
