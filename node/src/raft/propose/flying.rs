//! Entries that openraft has and has not answered. In: groups of writes with the term that they were proposed in, openraft's answers, news
//! of the leadership, the time. Out: each write's own answer, or the word that it is unknown. Absent: what waits (`queue`).
//!
//! openraft answers when an entry is applied or overwritten, which may be never. So an answer is awaited beside the write's deadline and
//! beside the loss of the leadership that it was proposed under; after such a loss it has the time of an election to come all the same (a
//! new leader commits what the old one had replicated), and is unknown then.

use std::{
    collections::BTreeMap,
    pin::Pin,
    task::{Context, Poll},
    time::Duration,
};

use futures::{StreamExt, stream::FuturesUnordered};
use kvfleet_api::error::Outcome;
use openraft::{errors::ClientWriteError, raft::ClientWriteResult};
use tokio::{sync::oneshot, time::Instant};

use super::{
    Attempt,
    queue::{Answer, Waiting},
};
use crate::raft::{ProposeError, status::Leadership, types::Types};

/// What openraft says of an entry; an error when it says nothing and never will.
pub(super) type Told = Result<ClientWriteResult<Types>, oneshot::error::RecvError>;

/// The entries under way.
#[derive(Default)]
pub(super) struct Flying {
    groups: BTreeMap<u64, Group>,
    answers: FuturesUnordered<Pending>,
    next: u64,
    /// Groups whose leadership is not lost, and their bytes.
    held: usize,
    held_bytes: usize,
}

struct Group {
    term: u64,
    bytes: usize,
    /// Until when an answer is waited for, once the leadership is lost.
    lost: Option<Instant>,
    writes: Vec<Write>,
}

struct Write {
    deadline: Instant,
    /// None when it has been answered.
    answer: Option<Answer>,
}

struct Pending {
    group: u64,
    told: oneshot::Receiver<ClientWriteResult<Types>>,
}

impl Future for Pending {
    type Output = (u64, Told);

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        let group = self.group;
        Pin::new(&mut self.told).poll(context).map(|told| (group, told))
    }
}

impl Flying {
    /// How many entries keep the next ones back: not those that may never be answered.
    pub(super) fn held(&self) -> usize {
        self.held
    }

    /// How many bytes they have.
    pub(super) fn held_bytes(&self) -> usize {
        self.held_bytes
    }

    pub(super) fn add(&mut self, group: Vec<Waiting>, bytes: usize, term: u64, told: oneshot::Receiver<ClientWriteResult<Types>>) {
        let writes = group.into_iter().map(|Waiting { deadline, mut answer, .. }| {
            answer.is_proposed();
            Write {
                deadline,
                answer: Some(answer),
            }
        });
        let writes = writes.collect();
        let group = Group {
            term,
            bytes,
            lost: None,
            writes,
        };
        self.groups.insert(self.next, group);
        self.answers.push(Pending { group: self.next, told });
        self.next += 1;
        self.held += 1;
        self.held_bytes += bytes;
    }

    /// Waits for openraft's next word, and gives each write its part of it. Returns at once when nothing is under way: ask `is_empty`.
    pub(super) async fn answer(&mut self) {
        if let Some((group, told)) = self.answers.next().await {
            self.told(group, told);
        }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.answers.is_empty()
    }

    fn told(&mut self, group: u64, told: Told) {
        let Some(Group { lost, writes, bytes, .. }) = self.groups.remove(&group) else {
            return;
        };
        if lost.is_none() {
            self.held -= 1;
            self.held_bytes -= bytes;
        }
        let unwritten = match told {
            Ok(Ok(written)) => {
                for (write, response) in writes.into_iter().zip(written.data.0) {
                    write.send(Attempt::Over(Ok(response)));
                }
                return;
            }
            Ok(Err(ClientWriteError::ForwardToLeader(_))) => None,
            // Its entry was overwritten here; a member may hold a copy that another leader commits.
            Ok(Err(ClientWriteError::LogEntryDiscarded(_))) | Err(_) => Some(ProposeError::NoLeader { outcome: Outcome::Unknown }),
            Ok(Err(error @ (ClientWriteError::ChangeMembershipError(_) | ClientWriteError::PreconditionFailed(_)))) => {
                Some(ProposeError::Failed(error.to_string()))
            }
        };
        for write in writes {
            write.send(unwritten.clone().map_or(Attempt::Untouched, |error| Attempt::Over(Err(error))));
        }
    }

    /// Groups of another leadership than `now`, or of one without a quorum, have until the end of `grace`: which is told, if that is news.
    pub(super) fn look_at(&mut self, now: Leadership, grace: Duration) -> Option<Instant> {
        let end = Instant::now() + grace;
        let mut news = None;
        for group in self.groups.values_mut() {
            let is_lost = !(now.own && now.quorum && now.term == group.term);
            if is_lost && group.lost.is_none() {
                group.lost = Some(end);
                self.held -= 1;
                self.held_bytes -= group.bytes;
                news = Some(end);
            }
        }
        news
    }

    /// Answers what has waited long enough, and tells when to look again.
    pub(super) fn expire(&mut self, now: Instant) -> Option<Instant> {
        for group in self.groups.values_mut() {
            group.expire(now);
        }
        // Of a lost group without a waiter nothing is left to be told.
        self.groups
            .retain(|_, group| group.lost.is_none() || group.writes.iter().any(|write| write.answer.is_some()));
        self.groups.values().filter_map(Group::next_end).min()
    }
}

impl Group {
    fn expire(&mut self, now: Instant) {
        let outcome = Outcome::Unknown;
        for write in &mut self.writes {
            let error = if write.deadline <= now {
                ProposeError::Deadline { outcome }
            } else if self.lost.is_some_and(|end| end <= now) {
                ProposeError::NoLeader { outcome }
            } else {
                continue;
            };
            if let Some(answer) = write.answer.take() {
                answer.send(Attempt::Over(Err(error)));
            }
        }
    }

    fn next_end(&self) -> Option<Instant> {
        let waiting = self.writes.iter().filter(|write| write.answer.is_some());
        let first = waiting.map(|write| write.deadline).min()?;
        Some(self.lost.map_or(first, |end| first.min(end)))
    }
}

impl Write {
    fn send(self, attempt: Attempt) {
        if let Some(answer) = self.answer {
            answer.send(attempt);
        }
    }
}
