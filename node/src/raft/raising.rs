//! Raising the feature level of the group, and what may not be used below it. In: what the members say that their programs know, and whether
//! something holds the level. Out: `RaiseLevel`, in the log, when every member knows the next level. Absent: what a level means
//! (`state::level`).
//!
//! Every member, learners too, is asked right before the level is raised. What one said earlier does not count: its program may have been
//! rolled back since, and a member above whose level the group goes cannot go on. So a member that does not answer holds the level.

use std::{sync::Arc, time::Duration};

use futures::future::join_all;
use kvfleet_api::admin::MemberAddress;
use openraft::async_runtime::watch::WatchReceiver as _;
use tokio::time::Instant;

use super::{
    Inner, MembershipError, MembershipRefusal, ProposeError, ReadPoint,
    status::{self, Leadership},
    types::{Data, LogId},
};
use crate::{
    peer::{Levels, PeerAddress},
    state::{Command, Level, Proposal, Supported},
};

/// How often a leader looks whether the level can be raised, as long as it knows a higher one. While no settings have been put, the first
/// look comes as late: they may bring a hold, and in a new group an operator is about to put them.
const LOOK: Duration = Duration::from_secs(2);
/// How often it is seen whether the settings are there.
const SETTINGS: Duration = Duration::from_millis(50);
/// How long a member may take to say what it knows.
const ANSWER: Duration = Duration::from_secs(2);
/// How long the entry may take. Meanwhile no member is taken in.
const PATIENCE: Duration = Duration::from_secs(30);

impl From<Supported> for Levels {
    fn from(Supported { highest, holds }: Supported) -> Self {
        Levels {
            lowest: Level::FIRST.0,
            highest: highest.0,
            holds,
        }
    }
}

/// Whether a command that needs a level may be proposed at the level of the group.
pub(super) fn admit(needs: Level, level: Level) -> Result<(), ProposeError> {
    if needs > level {
        return Err(ProposeError::NotYetSupported { needs, level });
    }
    Ok(())
}

/// Whether a member with a program that knows these levels may come into a group of this one.
pub(super) fn admit_member(new: &MemberAddress, levels: Levels, level: Level) -> Result<(), MembershipError> {
    if (levels.lowest..=levels.highest).contains(&level.0) {
        return Ok(());
    }
    let (MemberAddress { name, id, .. }, Levels { lowest, highest, .. }) = (new, levels);
    Err(MembershipError::Refused {
        refusal: MembershipRefusal::LevelUnknown,
        detail: format!(
            "the group is at feature level {level}, and the program of {name} ({id}) knows the levels {lowest} to {highest}: start it with a \
             kvnode that knows level {level}"
        ),
    })
}

/// What a look has found.
enum Look {
    Raised(Level),
    /// Who or what holds the level, for a person.
    Held(Vec<String>),
    /// The membership is being changed, or this member has stopped leading.
    Later,
}

/// A member of the group as it answered, or did not.
struct Asked {
    name: String,
    voter: bool,
    levels: Option<Levels>,
}

impl Asked {
    /// Why the level may not become `next`, if it is for this member.
    fn objection(&self, next: Level) -> Option<String> {
        let Asked { name, voter, levels } = self;
        match levels {
            None => Some(format!("{name} does not answer")),
            Some(Levels { highest, .. }) if *highest < next.0 => Some(format!("{name} knows up to level {highest}")),
            Some(Levels { holds: true, .. }) if *voter => Some(format!("{name} was started with --hold-level")),
            Some(_) => None,
        }
    }
}

impl Inner {
    pub(super) async fn raise_level(self: Arc<Self>) {
        let mut leadership = self.leadership.subscribe();
        let mut looked = None;
        loop {
            if !leadership.borrow_and_update().own {
                self.note_level(Vec::new());
            }
            // The sender lives in `self`, so this ends only with the task.
            let Ok(known) = leadership.wait_for(|now| now.own).await.map(|known| *known) else {
                return;
            };
            if self.views.peek().level() >= self.known {
                self.note_level(Vec::new());
                let _ = leadership.changed().await;
                continue;
            }
            if looked.replace(known.term) == Some(known.term) {
                tokio::time::sleep(LOOK).await;
            } else {
                // At the latest after a pause, so whether they are there makes no difference.
                let _ = tokio::time::timeout(LOOK, self.settings_are_there()).await;
            }
            match self.look_at_level(known).await {
                Look::Raised(level) => tracing::info!(%level, "the feature level is raised: every member knows it"),
                Look::Held(by) => self.note_level(by),
                Look::Later => {}
            }
        }
    }

    async fn settings_are_there(&self) {
        while self.views.peek().settings_status().revision == 0 {
            tokio::time::sleep(SETTINGS).await;
        }
    }

    /// Told when it changes: a level may be held for weeks.
    fn note_level(&self, by: Vec<String>) {
        self.level_held_by.send_if_modified(|known| {
            if *known == by {
                return false;
            }
            if !by.is_empty() {
                tracing::info!(by = by.join(", "), "the feature level is not raised yet");
            }
            *known = by;
            true
        });
    }

    async fn look_at_level(&self, known: Leadership) -> Look {
        let _turn = self.level_turn.lock().await;
        // A hold that was acknowledged before is in force, also on a leader that has not applied it yet.
        let Ok(ReadPoint { view, .. }) = self.own_read(Instant::now() + ANSWER).await else {
            return Look::Later;
        };
        let (next, holds) = (view.level().next(), view.settings().hold_level);
        drop(view);
        if holds {
            return Look::Held(vec!["the settings hold it (holdLevel)".to_owned()]);
        }
        let Some((membership, members)) = self.settled_members() else {
            return Look::Later;
        };
        let asked = join_all(members.into_iter().map(|member| self.ask_levels(member))).await;
        let held: Vec<String> = asked.iter().filter_map(|asked| asked.objection(next)).collect();
        if !held.is_empty() {
            return Look::Held(held);
        }
        // Who was asked must be the group still, and this its leader.
        let settled = self.settled_members().map(|(membership, _)| membership);
        if settled != Some(membership) || self.leadership.borrow().term != known.term || self.views.peek().settings().hold_level {
            return Look::Later;
        }
        self.write_level(next).await
    }

    async fn ask_levels(&self, MemberAddress { id, name, peer, voter }: MemberAddress) -> Asked {
        let levels = if id == self.settings.id {
            Some(self.transport.levels())
        } else {
            let peer = PeerAddress { id, address: peer };
            let answer = self.transport.ask(&peer, Instant::now() + ANSWER).await;
            answer.ok().filter(|found| found.id == id).map(|found| found.levels)
        };
        Asked { name, voter, levels }
    }

    /// Under this leader or not at all: the command is not handed on to another one, whose members may be others.
    async fn write_level(&self, level: Level) -> Look {
        let proposal = Proposal {
            stamp_ms: self.transport.clock().stamp(),
            command: Command::RaiseLevel { level },
        };
        let written = tokio::time::timeout(PATIENCE, self.raft.client_write(Data(proposal.encode()))).await;
        match written {
            Ok(Ok(_)) => Look::Raised(level),
            Ok(Err(error)) => {
                tracing::debug!(%error, "the feature level is left for later");
                Look::Later
            }
            Err(_) => Look::Later,
        }
    }

    /// The members, and where in the log they were last changed: none while a change is under way.
    fn settled_members(&self) -> Option<(Option<LogId>, Vec<MemberAddress>)> {
        let metrics = self.raft.metrics();
        let metrics = metrics.borrow_watched();
        let membership = &metrics.membership_config;
        let settled = membership.get_joint_config().len() == 1
            && membership.log_id() == metrics.committed_membership_config.log_id()
            && self.changes.is_idle();
        settled.then(|| (*membership.log_id(), status::members(membership)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn asked(highest: u32, holds: bool, voter: bool) -> Asked {
        Asked {
            name: "m1".to_owned(),
            voter,
            levels: Some(Levels { lowest: 1, highest, holds }),
        }
    }

    #[test]
    fn a_member_that_is_behind_or_silent_and_a_voter_that_holds_object() {
        let next = Level(2);
        assert_eq!(asked(2, false, true).objection(next), None);
        assert_eq!(asked(3, false, false).objection(next), None);
        assert_eq!(asked(1, false, false).objection(next).as_deref(), Some("m1 knows up to level 1"));
        assert_eq!(
            asked(2, true, true).objection(next).as_deref(),
            Some("m1 was started with --hold-level")
        );
        assert_eq!(asked(2, true, false).objection(next), None, "a learner has no say");
        let silent = Asked {
            levels: None,
            ..asked(2, false, true)
        };
        assert_eq!(silent.objection(next).as_deref(), Some("m1 does not answer"));
    }

    #[test]
    fn what_needs_a_higher_level_is_not_proposed() {
        assert_eq!(admit(Level(2), Level(2)), Ok(()));
        let refused = admit(Level(3), Level(2)).expect_err("it is above");
        assert!(
            refused.to_string().contains("needs feature level 3, and the shard is at level 2"),
            "{refused}"
        );
    }

    #[test]
    fn a_new_member_must_know_the_level_of_the_group() {
        let new = MemberAddress {
            id: 7,
            name: "m7".to_owned(),
            peer: "m7:1".to_owned(),
            voter: false,
        };
        let levels = |lowest, highest| Levels {
            lowest,
            highest,
            holds: false,
        };
        assert_eq!(admit_member(&new, levels(1, 2), Level(2)), Ok(()));
        for (lowest, highest) in [(1, 1), (3, 4)] {
            let refused = admit_member(&new, levels(lowest, highest), Level(2)).expect_err("it does not know it");
            assert!(refused.to_string().contains("the group is at feature level 2"), "{refused}");
        }
    }
}
