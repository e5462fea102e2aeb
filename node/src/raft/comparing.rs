//! Members compare what they hold. In: checkpoints of the other voters. Out: nothing while they agree; a member that most others
//! contradict stops, because its data is wrong, and says so. Absent: what is in a checkpoint (`state`), and mending (a damaged member is
//! replaced).
//!
//! A checkpoint is the state after one entry, so members that are at different places of the log can be compared. The scrub reads every
//! row of this member and compares it with what was kept when it was written: a row that has changed on disk is found although nobody
//! asks for it.

use std::{
    collections::BTreeMap,
    sync::{Arc, atomic::Ordering},
    time::Duration,
};

use openraft::async_runtime::watch::WatchReceiver as _;
use tokio::time::Instant;

use super::{Group, Inner, encoding::CheckpointsAnswer};
use crate::{
    peer::{Lane, Method},
    runtime,
};

/// How often members compare.
const COMPARE: Duration = Duration::from_secs(5);
/// How long another member may take.
const PATIENCE: Duration = Duration::from_secs(2);
/// Every row is read soon after a start, when damage is likeliest …
const FIRST_SCRUB: Duration = Duration::from_secs(10);
/// … and this often.
const SCRUB: Duration = Duration::from_secs(6 * 3600);

impl Inner {
    pub(super) fn own_checkpoints(&self) -> CheckpointsAnswer {
        let checkpoints = self.views.latest().checkpoints();
        let checkpoints = checkpoints.iter();
        CheckpointsAnswer::of(checkpoints.map(|checkpoint| (checkpoint.index, checkpoint.revision, checkpoint.digest.number())))
    }

    pub(super) async fn compare_checkpoints(self: Arc<Self>) {
        loop {
            tokio::time::sleep(COMPARE).await;
            self.compare_once().await;
        }
    }

    pub(super) async fn compare_once(&self) {
        let voters: Vec<u64> = {
            let metrics = self.raft.metrics();
            metrics.borrow_watched().membership_config.voter_ids().collect()
        };
        let others = voters.iter().copied().filter(|id| *id != self.settings.id);
        let asked = others.map(|id| async move { Some((id, self.checkpoints_of(id).await?)) });
        let answers: Vec<(u64, Marks)> = futures::future::join_all(asked).await.into_iter().flatten().collect();
        let own = marks(self.own_checkpoints());
        match judge(&own, &answers, voters.len()) {
            Judgement::Agreed => self.doubted.store(false, Ordering::Relaxed),
            Judgement::Split { index, member } => {
                tracing::error!(
                    index,
                    member = format_args!("{member:x}"),
                    "two members hold different data after the same entry, and no majority says which is right; this one reads all its rows"
                );
                let doubted = self.doubted.swap(true, Ordering::Relaxed);
                if !doubted {
                    self.scrub().await;
                }
            }
            Judgement::Contradicted { index } => self.snapshots.found_damage(format!(
                "after entry {index} this member's data has another digest than that of most voters: replace this member"
            )),
        }
    }

    async fn checkpoints_of(&self, id: u64) -> Option<Marks> {
        let peer = self.address_of(id)?;
        let deadline = Instant::now() + PATIENCE;
        let answer = self
            .transport
            .call(&peer, Lane::Calls, Method::Checkpoints, bytes::Bytes::new(), deadline)
            .await;
        CheckpointsAnswer::decode(answer.ok()?).ok().map(marks)
    }

    pub(super) async fn scrub_now_and_then(self: Arc<Self>) {
        let mut pause = FIRST_SCRUB;
        loop {
            tokio::time::sleep(pause).await;
            self.scrub().await;
            pause = SCRUB;
        }
    }

    async fn scrub(&self) {
        let view = self.views.latest();
        match runtime::blocking(move || view.scrub()).await {
            Ok(Ok(())) => tracing::debug!("every row is as it was written"),
            Ok(Err(error)) if error.is_damage() => self.snapshots.found_damage(format!("a scrub of every row: {error}")),
            // The rows are closed, for now or for good.
            Ok(Err(_)) | Err(_) => {}
        }
    }
}

impl Group {
    /// Reads every row of this member and compares it with what was written. A difference ends the member, see [`Group::damage`].
    pub async fn scrub(&self) {
        self.inner.scrub().await;
    }
}

/// Digests by index.
type Marks = BTreeMap<u64, u128>;

fn marks(answer: CheckpointsAnswer) -> Marks {
    answer.digests().collect()
}

#[derive(Debug, PartialEq, Eq)]
enum Judgement {
    /// Nobody says otherwise; perhaps nobody was there to be asked.
    Agreed,
    /// Somebody says otherwise, too few to tell who is right.
    Split { index: u64, member: u64 },
    /// More than half of all voters agree with each other, and not with us.
    Contradicted { index: u64 },
}

fn judge(own: &Marks, others: &[(u64, Marks)], voters: usize) -> Judgement {
    let mut judgement = Judgement::Agreed;
    for (index, mine) in own.iter().rev() {
        let mut votes: BTreeMap<u128, usize> = BTreeMap::new();
        for (member, theirs) in others {
            let Some(theirs) = theirs.get(index).filter(|theirs| *theirs != mine) else {
                continue;
            };
            let agreeing = votes.entry(*theirs).or_default();
            *agreeing += 1;
            if *agreeing > voters / 2 {
                return Judgement::Contradicted { index: *index };
            }
            if judgement == Judgement::Agreed {
                judgement = Judgement::Split {
                    index: *index,
                    member: *member,
                };
            }
        }
    }
    judgement
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(pairs: &[(u64, u128)]) -> Marks {
        pairs.iter().copied().collect()
    }

    #[test]
    fn only_a_majority_contradicts() {
        let own = at(&[(4096, 1), (8192, 2)]);
        let agrees = (2, at(&[(8192, 2), (12288, 9)]));
        let differs = (3, at(&[(4096, 1), (8192, 7)]));
        let elsewhere = (4, at(&[(16384, 5)]));
        assert_eq!(judge(&own, &[], 3), Judgement::Agreed);
        assert_eq!(judge(&own, &[agrees.clone(), elsewhere.clone()], 3), Judgement::Agreed);
        assert_eq!(
            judge(&own, &[agrees.clone(), differs.clone()], 3),
            Judgement::Split { index: 8192, member: 3 }
        );
        assert_eq!(
            judge(&own, &[(2, differs.1.clone()), differs.clone()], 3),
            Judgement::Contradicted { index: 8192 }
        );
        assert_eq!(
            judge(&own, &[(2, differs.1.clone()), differs], 5),
            Judgement::Split { index: 8192, member: 2 },
            "two of five are no majority"
        );
    }
}
