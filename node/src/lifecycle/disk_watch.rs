//! Two threads that look at the disk from outside of everything that uses it. In: the data directory, the group. Out: the room that the
//! member tells of, and the end of a process whose disk hangs. Absent: handing leadership over (`raft` does that earlier, at 1.5 s).
//!
//! Neither is a task: a runtime whose threads all wait for a disk must not keep the process alive. They are two because asking a file
//! system for its free space may hang with it.

use std::{
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::Duration,
};

use kvfleet_api::admin::Role;

use crate::{
    http::Cut,
    logging,
    peer::{Traffic, Transport},
    raft::{Group, Stall},
    storage::{self, MEMTABLE_BYTES, Space},
};

/// How often the free space is asked for: in less than this no disk writes the smallest default reserve.
const ROOM: Duration = Duration::from_millis(250);
/// How often the writes under way are looked at.
const STALLS: Duration = Duration::from_millis(50);
/// A disk that keeps a write waiting for this long ends the process: its successor finds out whether the disk works.
const HUNG: Duration = Duration::from_secs(3);
/// The least reserve that is chosen by itself, beside twice the memtables.
const LEAST_RESERVE: u64 = 128 << 20;

/// What is kept free: the given number of bytes, or the larger of 5% of the file system and 128 MiB plus twice the memtables.
fn reserve(given: Option<u64>, space: Space) -> u64 {
    given.unwrap_or_else(|| (space.total / 20).max(LEAST_RESERVE + 2 * MEMTABLE_BYTES))
}

/// The file system of the data directory as it was last seen, and the transport that tells others of it.
#[derive(Clone)]
pub(super) struct Seen {
    directory: Arc<Path>,
    reserve: Option<u64>,
    free: Arc<AtomicU64>,
    answers: Arc<AtomicBool>,
    transport: Transport,
}

impl Seen {
    /// Looks at the file system of `directory`, before the first request.
    pub(super) fn new(directory: &Path, reserve: Option<u64>, transport: Transport) -> Seen {
        let seen = Seen {
            directory: directory.into(),
            reserve,
            free: Arc::default(),
            answers: Arc::new(AtomicBool::new(true)),
            transport,
        };
        seen.look();
        seen
    }

    /// Its free bytes.
    pub(super) fn free(&self) -> u64 {
        self.free.load(Ordering::Relaxed)
    }

    /// Those above the reserve; 0 while a write waits for space.
    pub(super) fn room(&self) -> u64 {
        self.transport.rooms().own()
    }

    /// What went to the other members and came from them.
    pub(super) fn traffic(&self) -> Traffic {
        self.transport.traffic()
    }

    /// How many connections between members were refused for their hello.
    pub(super) fn hellos_refused(&self) -> u64 {
        self.transport.refused_hellos()
    }

    fn look(&self) {
        let found = storage::space(&self.directory);
        let answered = self.answers.swap(found.is_ok(), Ordering::Relaxed);
        match found {
            Ok(space) => {
                self.free.store(space.free, Ordering::Relaxed);
                let room = space.free.saturating_sub(reserve(self.reserve, space));
                self.transport.rooms().set_own(room);
                self.transport.rooms().set_volume(space.total);
            }
            Err(error) if answered => {
                tracing::warn!(%error, directory = %self.directory.display(), "the file system does not say how much is free");
            }
            Err(_) => {}
        }
    }
}

/// The two threads; they end when this is dropped.
pub(super) struct DiskWatch {
    over: Arc<AtomicBool>,
}

impl Drop for DiskWatch {
    fn drop(&mut self) {
        self.over.store(true, Ordering::Relaxed);
    }
}

impl DiskWatch {
    /// Watches the disk of the member that `group` is; `requests` are those of its data port.
    pub(super) fn start(seen: Seen, group: Group, requests: Cut) -> std::io::Result<DiskWatch> {
        let over = Arc::new(AtomicBool::new(false));
        let (ended, transport) = (Arc::clone(&over), seen.transport.clone());
        std::thread::Builder::new().name("disk-room".to_owned()).spawn(move || {
            while !ended.load(Ordering::Relaxed) {
                std::thread::sleep(ROOM);
                seen.look();
            }
        })?;
        let ended = Arc::clone(&over);
        std::thread::Builder::new().name("disk-watch".to_owned()).spawn(move || {
            while !ended.load(Ordering::Relaxed) {
                std::thread::sleep(STALLS);
                let stall = group.stall().filter(|stall| stall.since >= HUNG);
                if let Some(stall) = stall.filter(|_| others_vote(&group)) {
                    end(&stall, &transport, &requests);
                }
            }
        })?;
        Ok(DiskWatch { over })
    }
}

/// A member alone would only be away longer: nobody can take over from it.
fn others_vote(group: &Group) -> bool {
    let status = group.status();
    status.role != Some(Role::Primary) || status.members.iter().filter(|member| member.voter).count() > 1
}

/// Ends the process, whatever hangs in it.
fn end(stall: &Stall, transport: &Transport, requests: &Cut) -> ! {
    // The process may stay for as long as the kernel holds one of its threads, and its sockets with it: they are closed first. Without
    // its peers it leads nobody, and who waits for an answer learns that none will come.
    transport.close();
    requests.cut();
    let words = stall.to_string();
    tracing::error!(reason = words, "the process ends: its disk hangs");
    logging::last_words(format!(
        "kvnode: the disk hangs: {words}; the process ends, and finds out whether the disk works when it is started again"
    ));
    // `exit` flushes standard output, which somebody may hold who waits for the disk.
    let _ = std::thread::Builder::new().name("abort".to_owned()).spawn(|| {
        std::thread::sleep(logging::LAST_WORDS);
        std::process::abort()
    });
    std::process::exit(1)
}

#[cfg(test)]
mod tests {
    use super::{LEAST_RESERVE, MEMTABLE_BYTES, Space, reserve};

    #[test]
    fn the_reserve_is_what_was_given_or_grows_with_the_disk() {
        let space = |total: u64| Space { total, free: total };
        let least = LEAST_RESERVE + 2 * MEMTABLE_BYTES;
        assert_eq!(least, 240 << 20, "docs/operations.md says 240 MiB");
        assert_eq!(reserve(Some(5), space(1 << 40)), 5);
        assert_eq!(reserve(Some(0), space(1 << 40)), 0);
        assert_eq!(reserve(None, space(1 << 30)), least);
        assert_eq!(reserve(None, space(100 << 30)), 5 << 30);
    }
}
