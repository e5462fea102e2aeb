//! Whether this member is fit to lead, and what may be proposed. In: its disk (how long it has kept a write waiting, how much room it has),
//! what the others tell of theirs, the clocks. Out: leadership in better hands, and what `propose` takes meanwhile. Absent: the end of a
//! process whose disk hangs (`lifecycle`).
//!
//! - A disk that keeps one call of the log or of the state machine waiting for [`SLOW`]: another member leads. Much work is no slow disk. Heartbeats do not need
//!   the disk, so a leader whose disk hangs would otherwise lead for good.
//! - No room above the reserve here, while a quorum has some: another member leads. No quorum with room: commands that add data are
//!   refused, the others go on.
//! - A clock that is off by more than [`SKEW_MS`] for [`SKEWED_FOR`]: a voter whose clock is not.

use std::{collections::BTreeSet, sync::Arc, time::Duration};

use openraft::async_runtime::watch::WatchReceiver as _;
use tokio::time::{Instant, MissedTickBehavior};

use super::{Inner, ProposeError};
use crate::state::{Command, Operation, View};

/// How often the member looks at itself.
const LOOK: Duration = Duration::from_millis(100);
/// From here on a disk is too slow to lead, or to be sent requests.
pub(super) const SLOW: Duration = Duration::from_millis(1_500);
/// How far a leader's clock may be from the median of the voters' clocks, milliseconds …
const SKEW_MS: u64 = 500;
/// … and for how long it may be further.
const SKEWED_FOR: Duration = Duration::from_secs(3);
/// How long one attempt to hand over may take.
const HAND_OVER: Duration = Duration::from_millis(1_000);
/// How long steps of the clock are not told of again, so that one that will not stand still fills no log.
const TOLD: Duration = Duration::from_secs(10);
/// After a hand-over, or a failed attempt, for want of room or for the clock: long enough that leadership does not go round in circles.
const REST: Duration = Duration::from_secs(30);

/// What is taken into the log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Intake {
    /// Everything.
    All,
    /// What adds no data.
    NoGrowth,
    /// Nothing: the log or the state machine itself waits for space, so nothing could be answered.
    Nothing,
    /// Nothing here: another member is about to lead.
    Elsewhere,
}

/// Why another member should lead.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Unfit {
    Slow,
    NoRoom,
    Clock,
}

/// What keeps a member's disk.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stall {
    /// Who waits: the log, or the state machine.
    pub waiting: &'static str,
    /// For how long.
    pub since: Duration,
}

impl std::fmt::Display for Stall {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Stall { waiting, since } = self;
        write!(formatter, "{waiting} has waited {} ms for the disk", since.as_millis())
    }
}

impl Inner {
    /// The longest that something has waited for this member's disk, if anything does.
    pub(super) fn stall(&self) -> Option<Stall> {
        let log = self.wal.metrics().call_under_way.map(|since| Stall { waiting: "the log", since });
        let apply = self.progress.under_way().map(|since| Stall {
            waiting: "the state machine",
            since,
        });
        [log, apply].into_iter().flatten().max_by_key(|stall| stall.since)
    }

    /// Why a command is not proposed here now; none when it may be.
    pub(super) fn refuses(&self, command: &Command) -> Option<Refused> {
        match *self.intake.borrow() {
            Intake::All => None,
            // What this member found of itself as the leader: the next look forgets it, and the one that leads now decides.
            _ if !self.leadership.borrow().own => None,
            Intake::NoGrowth => grows(command, &self.views.latest()).then_some(Refused::For(ProposeError::NoRoom)),
            Intake::Nothing => Some(Refused::For(ProposeError::NoRoom)),
            Intake::Elsewhere => Some(Refused::ForNow),
        }
    }

    pub(super) async fn watch_fitness(self: Arc<Self>) {
        let mut looks = tokio::time::interval(LOOK);
        looks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut skewed_since = None;
        let mut rest_until: Option<Instant> = None;
        let mut told_until = Instant::now();
        loop {
            looks.tick().await;
            self.look_at_clock(&mut told_until);
            let waits = self.wal.metrics().waiting_for_space || self.progress.waits_for_space();
            self.transport.rooms().set_blocked(waits);
            if !self.leadership.borrow().own {
                skewed_since = None;
                self.set_intake(Intake::All);
                continue;
            }
            let skewed = self.transport.clock().skew_ms().unsigned_abs() > SKEW_MS;
            skewed_since = if skewed { skewed_since.or(Some(Instant::now())) } else { None };
            let rested = rest_until.is_none_or(|until| Instant::now() >= until);
            let unfit = self.unfit(skewed_since).filter(|unfit| rested || *unfit == Unfit::Slow);
            if let Some(unfit) = unfit {
                self.yield_leadership(unfit).await;
                rest_until = Some(Instant::now() + REST);
            }
            self.set_intake(match unfit {
                // It is asked again at the next look; nothing can be stored here meanwhile.
                Some(Unfit::Slow) => Intake::Elsewhere,
                _ if waits => Intake::Nothing,
                _ if self.transport.rooms().own() == 0 || !self.quorum_has_room(None) => Intake::NoGrowth,
                _ => Intake::All,
            });
        }
    }

    /// A step of this machine's clock is told of.
    fn look_at_clock(&self, told_until: &mut Instant) {
        let clock = self.transport.clock();
        // Entries replayed after a start may bear a later stamp than the state that was opened.
        clock.hear_stamp(self.views.latest().stamp_ms());
        let step = clock.look().filter(|_| Instant::now() >= *told_until);
        if let Some(step_ms) = step {
            *told_until = Instant::now() + TOLD;
            tracing::warn!(
                step_ms,
                "this machine's clock was stepped, or the machine was suspended: expiry goes on by monotonic time; look at the machine's \
                 time synchronisation"
            );
        }
    }

    fn unfit(&self, skewed_since: Option<Instant>) -> Option<Unfit> {
        if self.stall().is_some_and(|stall| stall.since >= SLOW) {
            Some(Unfit::Slow)
        } else if self.transport.rooms().own() == 0 && self.quorum_has_room(Some(self.settings.id)) {
            Some(Unfit::NoRoom)
        } else {
            skewed_since
                .is_some_and(|since| since.elapsed() >= SKEWED_FOR)
                .then_some(Unfit::Clock)
        }
    }

    async fn yield_leadership(&self, unfit: Unfit) {
        let (rooms, clock) = (self.transport.rooms(), self.transport.clock());
        let better = |member: u64| match unfit {
            Unfit::Slow => true,
            Unfit::NoRoom => rooms.of(member).is_some_and(|room| room > 0),
            Unfit::Clock => clock.skew_of(member).is_some_and(|skew| skew.unsigned_abs() <= SKEW_MS),
        };
        let voters: Vec<u64> = self.voters().into_iter().flatten().filter(|id| *id != self.settings.id).collect();
        if !voters.iter().any(|id| better(*id)) {
            return;
        }
        let reason = match unfit {
            Unfit::Slow => self
                .stall()
                .map_or_else(|| "the disk is slow".to_owned(), |stall| stall.to_string()),
            Unfit::NoRoom => "the disk has no room above its reserve".to_owned(),
            Unfit::Clock => format!("the clock is {} ms from the median of the voters' clocks", clock.skew_ms()),
        };
        tracing::warn!(reason, "another member should lead");
        self.set_intake(Intake::Elsewhere);
        if let Err(error) = self.transfer(Instant::now() + HAND_OVER, better).await {
            tracing::warn!(%error, "leadership could not be handed over");
        }
    }

    fn set_intake(&self, intake: Intake) {
        self.intake.send_if_modified(|known| {
            let changed = *known != intake;
            if changed && matches!(intake, Intake::NoGrowth | Intake::Nothing) {
                tracing::warn!(?intake, "the shard's disks have no room above their reserve: growth is refused");
            } else if changed && matches!(known, Intake::NoGrowth | Intake::Nothing) {
                tracing::info!("the shard's disks have room again");
            }
            *known = intake;
            changed
        });
    }

    /// The voters; during a change of members the old ones and the new ones.
    fn voters(&self) -> Vec<BTreeSet<u64>> {
        let metrics = self.raft.metrics();
        let metrics = metrics.borrow_watched();
        metrics.membership_config.membership().get_joint_config().clone()
    }

    /// Whether a majority of the voters have room, as far as they have told, `without` one of them. While nobody is known to be short of
    /// it, silent members are no reason to refuse anything: their absence shows elsewhere.
    fn quorum_has_room(&self, without: Option<u64>) -> bool {
        let rooms = self.transport.rooms();
        let room = |id: u64| {
            if Some(id) == without {
                Some(0)
            } else if id == self.settings.id {
                Some(rooms.own())
            } else {
                rooms.of(id)
            }
        };
        let voters = self.voters();
        let short = voters.iter().flatten().any(|id| room(*id) == Some(0));
        !short
            || voters.iter().all(|set| {
                let with_room = set.iter().filter(|id| room(**id).is_some_and(|room| room > 0)).count();
                with_room > set.len() / 2
            })
    }
}

/// What becomes of a command that is not proposed.
pub(super) enum Refused {
    /// The caller is told.
    For(ProposeError),
    /// It is tried again, here or elsewhere.
    ForNow,
}

/// Whether a command adds data. What frees it, and what configures the shard, must go on when the disks are full.
fn grows(command: &Command, view: &View) -> bool {
    match command {
        Command::Write(write) => write.operations.iter().any(Operation::grows),
        Command::PutTenant { name, .. } => view.tenant(name).is_none(),
        Command::Sweep { .. }
        | Command::SweepTenant { .. }
        | Command::Reap { .. }
        | Command::ReleaseTenant { .. }
        | Command::DeleteTenant { .. }
        | Command::PutSettings(_)
        | Command::SpendToken { .. }
        | Command::RaiseLevel { .. } => false,
    }
}
