//! Commands that wait to be proposed. In: commands, from many tasks. Out: groups of them that make one entry each, to the proposer; of
//! those whose deadline has passed, the word that they were not applied. Absent: openraft.
//!
//! Bounded: a command that finds its line full waits until there is room, or until its deadline. Small writes, large ones, and what is no
//! write wait in lines of their own, each with its own room, and take turns: no small write waits for more than one entry of large ones at a
//! time, and what sweeps, suspends or deletes a tenant never waits behind that tenant's writes.

use std::{
    collections::VecDeque,
    sync::{Mutex, MutexGuard, PoisonError},
};

use kvfleet_api::error::Outcome;
use tokio::{
    sync::{Notify, Semaphore, oneshot},
    time::{Instant, timeout_at},
};

use super::{Attempt, prepared::Prepared};
use crate::raft::ProposeError;

/// An entry holds this many writes …
pub(super) const ENTRY_WRITES: usize = 512;
/// … or this many bytes of them: one that is larger is alone.
pub(super) const ENTRY_BYTES: usize = 1 << 20;
/// A write of more bytes than this is a large one.
const LARGE_BYTES: usize = 64 << 10;
/// A command takes one share of the queue, and one more for each of these bytes.
const SHARE: usize = 1 << 10;
/// The shares of each line: 16 MiB of small writes or as many commands, 32 MiB of large ones, and 4 MiB of what is no write.
const SHARES: [usize; LINES] = [16 << 10, 32 << 10, 4 << 10];
/// Small writes, large ones, and what is no write.
const LINES: usize = 3;

/// A command that waits.
pub(super) struct Waiting {
    pub(super) prepared: Prepared,
    pub(super) deadline: Instant,
    pub(super) answer: Answer,
}

/// Where a command's answer goes. Its caller always has one: dropped without, it says what is known.
pub(super) struct Answer {
    to: Option<oneshot::Sender<Attempt>>,
    proposed: bool,
}

impl Answer {
    fn new(to: oneshot::Sender<Attempt>) -> Self {
        Answer {
            to: Some(to),
            proposed: false,
        }
    }

    pub(super) fn send(mut self, attempt: Attempt) {
        if let Some(to) = self.to.take() {
            // A caller that has gone away needs none.
            let _ = to.send(attempt);
        }
    }

    /// From here on it may be applied without an answer.
    pub(super) fn is_proposed(&mut self) {
        self.proposed = true;
    }

    fn is_unwanted(&self) -> bool {
        self.to.as_ref().is_none_or(oneshot::Sender::is_closed)
    }
}

impl Drop for Answer {
    fn drop(&mut self) {
        if let Some(to) = self.to.take() {
            let _ = to.send(if self.proposed {
                Attempt::Over(Err(ProposeError::NoLeader { outcome: Outcome::Unknown }))
            } else {
                Attempt::Untouched
            });
        }
    }
}

/// The queue of one member.
pub(in crate::raft) struct Queue {
    state: Mutex<State>,
    rooms: [Semaphore; LINES],
    /// For the proposer: something that it waits for has come.
    news: Notify,
}

#[derive(Default)]
struct State {
    lines: [VecDeque<Waiting>; LINES],
    /// The line that the next group is taken from, if something waits in it.
    turn: usize,
    /// The proposer has nothing to do until a command comes.
    is_idle: bool,
    /// When the proposer looks at the deadlines next; none while there is none to look at.
    next_look: Option<Instant>,
    is_closed: bool,
}

impl Queue {
    pub(in crate::raft) fn new() -> Self {
        Queue {
            state: Mutex::default(),
            rooms: SHARES.map(Semaphore::new),
            news: Notify::new(),
        }
    }

    /// Lets a command wait, and answers where to wait for what becomes of it.
    ///
    /// # Errors
    /// What becomes of it, when the queue stays full or nothing is proposed here any more.
    pub(super) async fn push(&self, prepared: Prepared, deadline: Instant) -> Result<oneshot::Receiver<Attempt>, Attempt> {
        let (room, shares) = (self.room(&prepared), shares(&prepared));
        match room.try_acquire_many(shares) {
            Ok(permits) => permits.forget(),
            Err(_) => match timeout_at(deadline, room.acquire_many(shares)).await {
                Ok(Ok(permits)) => permits.forget(),
                Ok(Err(_)) => return Err(Attempt::Untouched),
                Err(_) => return Err(late()),
            },
        }
        let (to, answer) = oneshot::channel();
        let waiting = Waiting {
            prepared,
            deadline,
            answer: Answer::new(to),
        };
        if self.lock().admit(waiting) {
            self.news.notify_one();
        }
        Ok(answer)
    }

    /// The next group, if one waits: one command, or, if an entry `may_hold_many`, as many writes as fit.
    pub(super) fn take(&self, now: Instant, may_hold_many: bool) -> Vec<Waiting> {
        let mut over = Vec::new();
        let mut group = Vec::new();
        let mut gone = Vec::new();
        self.lock().take(now, may_hold_many, &mut group, &mut over, &mut gone);
        for left in [&group, &over, &gone] {
            self.make_room(left);
        }
        answer_late(over);
        group
    }

    /// Everything that waits is not proposed here.
    pub(super) fn give_back(&self) {
        let given = self.lock().drain();
        self.make_room(&given);
    }

    /// Answers those whose deadline has passed. The next look is `then`, or at the earliest deadline of the rest; a command that comes with
    /// an earlier one makes it earlier.
    pub(super) fn expire(&self, now: Instant, then: Option<Instant>) {
        let over = self.lock().expire(now, then);
        self.make_room(&over);
        answer_late(over);
    }

    /// Waits until a command has come that the proposer wants to know of.
    pub(super) async fn news(&self) {
        self.news.notified().await;
    }

    /// When the deadlines are to be looked at.
    pub(super) fn next_look(&self) -> Option<Instant> {
        self.lock().next_look
    }

    /// Has the deadlines looked at by then.
    pub(super) fn look_by(&self, at: Instant) {
        let mut state = self.lock();
        state.next_look = Some(state.next_look.map_or(at, |known| known.min(at)));
    }

    /// Nothing is proposed here any more.
    pub(super) fn close(&self) {
        self.lock().is_closed = true;
        self.give_back();
        for room in &self.rooms {
            room.close();
        }
    }

    fn room(&self, prepared: &Prepared) -> &Semaphore {
        let [small, large, others] = &self.rooms;
        match line(prepared) {
            SMALL => small,
            LARGE => large,
            _ => others,
        }
    }

    fn make_room(&self, left: &[Waiting]) {
        for Waiting { prepared, .. } in left {
            self.room(prepared).add_permits(shares(prepared) as usize);
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    /// Answers whether the proposer must be told.
    fn admit(&mut self, waiting: Waiting) -> bool {
        if self.is_closed {
            return false;
        }
        let sooner = self.next_look.is_none_or(|at| waiting.deadline < at);
        if sooner {
            self.next_look = Some(waiting.deadline);
        }
        let [small, large, others] = &mut self.lines;
        match line(&waiting.prepared) {
            SMALL => small,
            LARGE => large,
            _ => others,
        }
        .push_back(waiting);
        std::mem::take(&mut self.is_idle) || sooner
    }

    /// Takes a group, and what is `over` or `gone` on the way to it. The lines take turns.
    fn take(&mut self, now: Instant, may_hold_many: bool, group: &mut Vec<Waiting>, over: &mut Vec<Waiting>, gone: &mut Vec<Waiting>) {
        let most = if may_hold_many { ENTRY_WRITES } else { 1 };
        for _ in 0..LINES {
            let line = self.turn;
            self.turn = (line + 1) % LINES;
            if let Some(line) = self.lines.get_mut(line) {
                take_from(line, now, most, group, over, gone);
            }
            if !group.is_empty() {
                break;
            }
        }
        self.is_idle = group.is_empty();
    }

    fn drain(&mut self) -> Vec<Waiting> {
        self.lines.iter_mut().flat_map(|line| line.drain(..)).collect()
    }

    fn expire(&mut self, now: Instant, then: Option<Instant>) -> Vec<Waiting> {
        let mut over = Vec::new();
        for lane in &mut self.lines {
            if lane.iter().any(|waiting| waiting.deadline <= now) {
                let (late, left): (VecDeque<_>, VecDeque<_>) = lane.drain(..).partition(|waiting| waiting.deadline <= now);
                over.extend(late);
                *lane = left;
            }
        }
        let waiting = self.lines.iter().flatten().map(|waiting| waiting.deadline);
        self.next_look = waiting.chain(then).min();
        over
    }
}

fn take_from(
    line: &mut VecDeque<Waiting>,
    now: Instant,
    most: usize,
    group: &mut Vec<Waiting>,
    over: &mut Vec<Waiting>,
    gone: &mut Vec<Waiting>,
) {
    let mut bytes = 0;
    while let Some(next) = line.pop_front() {
        let length = next.prepared.bytes().len();
        if next.deadline <= now {
            over.push(next);
            continue;
        }
        if next.answer.is_unwanted() {
            gone.push(next);
            continue;
        }
        let alone = !next.prepared.may_share();
        if !group.is_empty() && (alone || group.len() >= most || bytes + length > ENTRY_BYTES) {
            line.push_front(next);
            break;
        }
        bytes += length;
        group.push(next);
        if alone {
            break;
        }
    }
}

const SMALL: usize = 0;
const LARGE: usize = 1;
const OTHERS: usize = 2;

fn line(prepared: &Prepared) -> usize {
    match prepared.is_write() {
        true if prepared.bytes().len() <= LARGE_BYTES => SMALL,
        true => LARGE,
        false => OTHERS,
    }
}

/// One that is larger than its line takes all of it.
fn shares(prepared: &Prepared) -> u32 {
    let most = SHARES.get(line(prepared)).copied().unwrap_or(1);
    u32::try_from((1 + prepared.bytes().len() / SHARE).min(most)).unwrap_or(u32::MAX)
}

pub(super) fn late() -> Attempt {
    let outcome = Outcome::NotApplied;
    Attempt::Over(Err(ProposeError::Deadline { outcome }))
}

fn answer_late(over: Vec<Waiting>) {
    for waiting in over {
        waiting.answer.send(late());
    }
}
