//! How much room the members' disks have. In: how large this member's own disk is and what it has above its reserve, and what frames of others tell of
//! theirs. Out: the same, by member. Absent: the reserve (`lifecycle` knows it), and what is refused for want of room (`raft`).

use std::{
    collections::BTreeMap,
    sync::{
        Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::Duration,
};

use tokio::time::Instant;

/// A member that has said nothing for this long is not counted on.
const FRESH: Duration = Duration::from_secs(5);

/// Room by member.
#[derive(Debug)]
pub struct Rooms {
    own: AtomicU64,
    /// The size of this member's own volume; 0 while it is not known.
    volume: AtomicU64,
    /// Something here waits for space, whatever the file system says is free.
    blocked: AtomicBool,
    others: Mutex<BTreeMap<u64, (u64, Instant)>>,
}

impl Default for Rooms {
    fn default() -> Self {
        Rooms {
            own: AtomicU64::new(u64::MAX),
            volume: AtomicU64::new(0),
            blocked: AtomicBool::new(false),
            others: Mutex::default(),
        }
    }
}

impl Rooms {
    /// Tells what this member's disk has above its reserve, bytes. Until then it counts as boundless.
    pub fn set_own(&self, bytes: u64) {
        self.own.store(bytes, Ordering::Relaxed);
    }

    /// Tells how large the file system of this member's data is, bytes.
    pub fn set_volume(&self, bytes: u64) {
        self.volume.store(bytes, Ordering::Relaxed);
    }

    /// How large the file system of this member's data is, bytes; none until it was measured.
    pub fn volume(&self) -> Option<u64> {
        Some(self.volume.load(Ordering::Relaxed)).filter(|bytes| *bytes > 0)
    }

    /// Tells whether a write of this member waits for space.
    pub fn set_blocked(&self, blocked: bool) {
        self.blocked.store(blocked, Ordering::Relaxed);
    }

    /// This member's, bytes; 0 when growth must stop.
    pub fn own(&self) -> u64 {
        if self.blocked.load(Ordering::Relaxed) {
            0
        } else {
            self.own.load(Ordering::Relaxed)
        }
    }

    /// Another member's, bytes; none when it has not been heard of late.
    pub fn of(&self, member: u64) -> Option<u64> {
        let (bytes, heard) = *self.lock().get(&member)?;
        (heard.elapsed() <= FRESH).then_some(bytes)
    }

    pub(super) fn hear(&self, member: u64, bytes: u64) {
        let now = Instant::now();
        let mut others = self.lock();
        // Whoever left is forgotten when somebody new comes, so the table stays as small as the group.
        if others.insert(member, (bytes, now)).is_none() {
            others.retain(|_, (_, heard)| now.saturating_duration_since(*heard) <= FRESH);
        }
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<u64, (u64, Instant)>> {
        self.others.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::Rooms;

    #[test]
    fn room_is_boundless_until_it_is_measured_and_none_while_a_write_waits() {
        let rooms = Rooms::default();
        assert_eq!((rooms.own(), rooms.of(2)), (u64::MAX, None));
        rooms.set_own(7);
        rooms.hear(2, 9);
        assert_eq!((rooms.own(), rooms.of(2)), (7, Some(9)));
        rooms.set_blocked(true);
        assert_eq!(rooms.own(), 0);
        rooms.set_blocked(false);
        assert_eq!(rooms.own(), 7);
    }
}
