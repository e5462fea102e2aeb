//! The proposer: what waits becomes entries. In: the queue. Out: entries for openraft, and the answers of those that are under way. Absent:
//! any delay: while no entry is under way a command goes at once, and alone; while one is, commands gather by themselves, so the busier the
//! shard is the more writes share an entry, a flush, an append and an answer.

use std::{sync::Arc, time::Duration};

use bytes::Bytes;
use openraft::{impls::ProgressResponder, raft::ClientWriteResult};
use tokio::time::{Instant, sleep_until, timeout_at};

use super::{
    Attempt,
    flying::Flying,
    prepared,
    queue::{Queue, Waiting, late},
};
use crate::{
    raft::{
        Inner, ProposeError,
        status::Leadership,
        types::{Data, Types},
    },
    state::{DecodeError, Level},
};

/// So many entries may be under way, of many writes each …
const UNDER_WAY: usize = 4;
/// … beside ones that have this many bytes, on average. A smaller one is alone under way: what comes meanwhile shares the next one, and the
/// cost of an entry is paid once for all of it.
const WORTH_OVERLAPPING: usize = 256 << 10;
/// So many entries of one write may be under way, while entries may not hold more.
const UNDER_WAY_ALONE: usize = 1024;
/// Far enough: there is no deadline to look at.
const LATER: Duration = Duration::from_secs(3600);

impl Inner {
    /// Proposes until the group closes.
    pub(in crate::raft) async fn propose_waiting(self: Arc<Self>) {
        let _closing = Closing(&self.proposals);
        let mut leadership = self.leadership.subscribe();
        let mut flying = Flying::default();
        let mut look = std::pin::pin!(sleep_until(Instant::now() + LATER));
        loop {
            loop {
                let many = self.may_hold_many();
                if !flying.has_room(many) {
                    break;
                }
                let group = self.proposals.take(Instant::now(), many);
                if group.is_empty() {
                    break;
                }
                self.hand_over(group, &mut flying).await;
            }
            let next = self.proposals.next_look().unwrap_or_else(|| Instant::now() + LATER);
            // Never put off: that would cost a registration per entry.
            if next < look.deadline() || look.is_elapsed() {
                look.as_mut().reset(next);
            }
            tokio::select! {
                biased;
                () = flying.answer(), if !flying.is_empty() => {}
                // The sender lives in `self`.
                _ = leadership.changed() => {
                    let now = *leadership.borrow_and_update();
                    if !now.own {
                        self.proposals.give_back();
                    }
                    self.look_at(now, &mut flying);
                }
                () = look.as_mut() => {
                    let now = Instant::now();
                    let then = flying.expire(now);
                    self.proposals.expire(now, then);
                }
                () = self.proposals.news() => {}
            }
        }
    }

    fn look_at(&self, leadership: Leadership, flying: &mut Flying) {
        if let Some(end) = flying.look_at(leadership, self.settings.grace()) {
            self.proposals.look_by(end);
        }
    }

    /// Whether every member understands an entry of many writes.
    fn may_hold_many(&self) -> bool {
        self.views.latest().level() >= Level::MANY_WRITES
    }

    /// Gives openraft an entry of these commands.
    async fn hand_over(&self, mut group: Vec<Waiting>, flying: &mut Flying) {
        loop {
            let known = *self.leadership.borrow();
            let Some(earliest) = group.iter().map(|waiting| waiting.deadline).min() else {
                return;
            };
            if !known.own {
                return answer_all(group, || Attempt::Untouched);
            }
            let data = match self.entry(&group) {
                Ok(bytes) => Data(bytes),
                Err(error) => return answer_all(group, || Attempt::Over(Err(ProposeError::Failed(error.to_string())))),
            };
            let bytes = data.0.len();
            let (responder, told) = ProgressResponder::<Types, ClientWriteResult<Types>>::complete_only();
            match timeout_at(earliest, self.raft.client_write_ff(data, Some(responder))).await {
                Ok(Ok(())) => {
                    flying.add(group, bytes, known.term, told);
                    // A leadership that was lost before is not told again.
                    return self.look_at(known, flying);
                }
                // openraft is closing down; it took nothing, but why it stops is told by `failed`, and other members may lead.
                Ok(Err(_)) => return answer_all(group, || Attempt::Untouched),
                // Still in front of openraft's queue, so it is in no log.
                Err(_) => {
                    let now = Instant::now();
                    let (over, left) = group.into_iter().partition(|waiting| waiting.deadline <= now);
                    answer_all(over, late);
                    group = left;
                }
            }
        }
    }

    fn entry(&self, group: &[Waiting]) -> Result<Bytes, DecodeError> {
        let stamp_ms = self.transport.clock().stamp();
        match group {
            [Waiting { prepared, .. }] if !(prepared.may_share() && self.may_hold_many()) => prepared.alone(stamp_ms),
            group => Ok(prepared::together(stamp_ms, group.iter().map(|waiting| &waiting.prepared))),
        }
    }
}

impl Flying {
    /// Whether another entry may go.
    pub(super) fn has_room(&self, may_hold_many: bool) -> bool {
        match self.held() {
            0 => true,
            held if may_hold_many => held < UNDER_WAY && self.held_bytes() >= held * WORTH_OVERLAPPING,
            held => held < UNDER_WAY_ALONE,
        }
    }
}

fn answer_all(group: Vec<Waiting>, attempt: impl Fn() -> Attempt) {
    for waiting in group {
        waiting.answer.send(attempt());
    }
}

/// When the proposer is gone, its queue takes nothing.
struct Closing<'q>(&'q Queue);

impl Drop for Closing<'_> {
    fn drop(&mut self) {
        self.0.close();
    }
}
