//! One member of one shard's Raft group.
//!
//! In: commands and reads from `app`, with deadlines; a log, a state machine and a transport to run on. Out: answers of the state machine,
//! views that a read may use, and a status. Absent by design: what a command means (`state`), files (`log`, `storage`), sockets (`peer`),
//! and openraft's types in any signature or byte: it is an alpha, and only this module knows it (docs/adr/0001).
//!
//! Any member takes any call. A follower hands commands to the leader, which stamps them, and asks it what a read must have applied; what
//! cannot be known is said to be unknown rather than left to a deadline.

mod apply;
mod comparing;
mod encoding;
mod error;
mod everywhere;
mod fitness;
mod freshness;
mod inflow;
mod leader;
mod log_store;
mod logged;
mod membership;
mod network;
mod petition;
mod propose;
mod raising;
mod read;
mod replacement;
mod retention;
mod serve;
mod settings;
mod snapshot;
mod status;
#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::indexing_slicing)]
mod tests;
mod transfer;
mod types;

use std::{
    collections::BTreeMap,
    sync::{
        Arc, Mutex, OnceLock, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
};

use kvfleet_api::admin::{MemberAddress, Role};
use openraft::{
    async_runtime::watch::WatchReceiver as _,
    errors::{InitializeError as RaftInitializeError, RaftError},
};
use tokio::{sync::watch, task::AbortHandle, time::Instant};

pub use error::{InitializeError, NotEverywhere, ProposeError, ReadError, StartError, TransferError};
pub use fitness::Stall;
pub use inflow::Cost;
pub use logged::Logged;
pub use membership::{Change, MembershipError, MembershipRefusal};
pub use petition::{PetitionError, join, release};
pub use read::{Barrier, ReadPoint};
pub use replacement::{Admission, Gatekeeper, JoinAnswer, JoinRequest, ReleaseAnswer, ReleaseRequest};
pub use settings::GroupSettings;
pub use snapshot::SnapshotCounters;
pub use status::GroupStatus;

use self::{
    apply::Progress,
    fitness::Intake,
    freshness::Freshness,
    log_store::LogStore,
    network::Network,
    retention::Retention,
    status::Leadership,
    types::{Member, Raft},
};
use crate::{
    log::Wal,
    peer::{PeerAddress, Transport},
    runtime,
    state::{Level, Machine, Views, snapshot::Origin},
    storage::{Store, StoreError},
};

/// A member that is further behind than this many entries is not ready.
const READY_LAG: u64 = 10_000;

/// A running member of a group. A cheap handle.
#[derive(Clone)]
pub struct Group {
    inner: Arc<Inner>,
    reads: Arc<read::Queues>,
}

struct Inner {
    settings: GroupSettings,
    raft: Raft,
    wal: Wal,
    progress: Arc<Progress>,
    intake: watch::Sender<Intake>,
    inflow: inflow::Inflow,
    transport: Transport,
    views: Views,
    started: Instant,
    freshness: Arc<Freshness>,
    retention: Arc<Retention>,
    proposals: propose::Queue,
    leadership: watch::Sender<Leadership>,
    status: watch::Sender<GroupStatus>,
    failure: watch::Sender<Option<String>>,
    changes: membership::Changes,
    gatekeeper: OnceLock<replacement::Gatekeeper>,
    removed: watch::Sender<bool>,
    damage: watch::Sender<Option<String>>,
    snapshots: Arc<snapshot::Office>,
    /// Another member holds other data, and nobody knows who is right.
    doubted: AtomicBool,
    /// The newest feature level that this program knows.
    known: Level,
    /// Held while it is decided whether the level is raised, and while a new member is looked at and taken in: the one counts on the other.
    level_turn: tokio::sync::Mutex<()>,
    /// On the leader: who or what holds the level.
    level_held_by: watch::Sender<Vec<String>>,
    draining: AtomicBool,
    recovered: AtomicBool,
    heard_leader: Mutex<Option<Instant>>,
    apply_ended: Mutex<Option<apply::Ended>>,
    tasks: Mutex<Vec<AbortHandle>>,
}

impl Group {
    /// Starts this member on its log and its state machine: applies what is known to be committed, then takes part. A member that has
    /// never been in a group waits, blank, until it is [initialized](Group::initialize) or another member's group takes it in.
    ///
    /// Needs a tokio runtime with several threads. `wal` stays open: whoever opened it closes it, after [`Group::shutdown`].
    ///
    /// # Errors
    /// [`StartError`].
    pub async fn start(
        settings: GroupSettings,
        wal: Wal,
        machine: Machine<impl Store>,
        views: Views,
        transport: Transport,
    ) -> Result<Self, StartError> {
        let config = settings.openraft()?;
        if transport.id() != settings.id || transport.cluster() != settings.cluster_id {
            return Err(StartError::OtherMember {
                transport: transport.id(),
                group: settings.id,
            });
        }
        if let Some(dropped) = wal.purged()
            && machine.applied().is_none_or(|applied| applied.index < dropped.index)
        {
            return Err(StartError::Behind {
                dropped: dropped.index,
                applied: machine.applied().map_or(0, |applied| applied.index),
            });
        }
        transport.clock().hear_stamp(views.latest().stamp_ms());
        let damage = watch::Sender::new(None);
        let origin = Origin {
            cluster: settings.cluster_id,
            shard: settings.shard,
        };
        let known = machine.known();
        let place = snapshot::Place::of(&machine);
        let snapshots = Arc::new(snapshot::Office::new(origin, known, place, damage.clone()));
        let log = LogStore::new(wal.clone());
        let progress = Arc::new(Progress::new(machine.calls()));
        let applying = apply::start(machine, log.durable_end(), Arc::clone(&progress), {
            let snapshots = Arc::clone(&snapshots);
            move |error: &StoreError| match error {
                StoreError::NewerLevel { found, .. } => snapshots.is_above(*found),
                error if error.is_damage() => snapshots.found_damage(format!("an entry cannot be applied: {error}")),
                _ => {}
            }
        });
        let (machine, ended) = applying.map_err(|source| StartError::Apply { source })?;
        let freshness = Arc::new(Freshness::new());
        let retention = Arc::new(Retention::new(machine.persisted()));
        let network = Network::new(
            transport.clone(),
            Arc::clone(&freshness),
            Arc::clone(&retention),
            Arc::clone(&snapshots),
        );
        let started = Instant::now();
        let raft = runtime::at_home(Raft::new(settings.id, config, network, log, machine)).await;
        let raft = raft.map_err(|error| StartError::Recover { reason: error.to_string() })?;
        let raft = raft.map_err(|fatal| match snapshots.too_new() {
            Some(error) => StartError::NewerLevel(error),
            None => StartError::Recover { reason: fatal.to_string() },
        })?;
        freshness.follow(raft.metrics());

        let inner = Arc::new(Inner {
            leadership: watch::Sender::new(Leadership::NONE),
            status: watch::Sender::new(GroupStatus::unknown()),
            failure: watch::Sender::new(None),
            changes: membership::Changes::default(),
            gatekeeper: OnceLock::new(),
            removed: watch::Sender::new(false),
            damage,
            snapshots,
            doubted: AtomicBool::new(false),
            known,
            level_turn: tokio::sync::Mutex::default(),
            level_held_by: watch::Sender::default(),
            draining: AtomicBool::new(false),
            recovered: AtomicBool::new(false),
            heard_leader: Mutex::new(None),
            apply_ended: Mutex::new(Some(ended)),
            tasks: Mutex::default(),
            settings,
            raft,
            wal,
            progress,
            intake: watch::Sender::new(Intake::All),
            inflow: inflow::Inflow::default(),
            transport,
            views,
            started,
            freshness,
            retention,
            proposals: propose::Queue::new(),
        });
        inner.status.send_replace(inner.read_status());
        let tasks = [
            runtime::spawn(Arc::clone(&inner).watch_metrics()).abort_handle(),
            runtime::spawn(Arc::clone(&inner).watch_recovery()).abort_handle(),
            runtime::spawn(Arc::clone(&inner).propose_waiting()).abort_handle(),
            runtime::spawn(Arc::clone(&inner).lead()).abort_handle(),
            runtime::spawn(Arc::clone(&inner).raise_level()).abort_handle(),
            runtime::spawn(Arc::clone(&inner).finish_changes()).abort_handle(),
            runtime::spawn(Arc::clone(&inner).learn_of_removal()).abort_handle(),
            runtime::spawn(Arc::clone(&inner).watch_fitness()).abort_handle(),
            runtime::spawn(Arc::clone(&inner).keep_log_short()).abort_handle(),
            runtime::spawn(Arc::clone(&inner).compare_checkpoints()).abort_handle(),
            runtime::spawn(Arc::clone(&inner).scrub_now_and_then()).abort_handle(),
            runtime::spawn(Arc::clone(&inner).stop_when_damaged()).abort_handle(),
        ];
        inner.tasks().extend(tasks);
        let reads = Arc::new(read::queues(&inner, runtime::spawn));
        inner.transport.set_service(Some(Arc::new(serve::Served::new(Arc::clone(&inner)))));
        Ok(Group { inner, reads })
    }

    /// Forms a group of `members`, all voters, of which this is one. Call it on one member only, while all of them are blank. Called again
    /// for the same members it does nothing.
    ///
    /// # Errors
    /// [`InitializeError`].
    pub async fn initialize(&self, members: Vec<MemberAddress>) -> Result<(), InitializeError> {
        let id = self.inner.settings.id;
        let listed: BTreeMap<u64, Member> = members
            .iter()
            .map(|member| {
                (
                    member.id,
                    Member {
                        name: member.name.clone(),
                        peer: member.peer.clone(),
                    },
                )
            })
            .collect();
        if !listed.contains_key(&id) || members.iter().any(|member| !member.voter) {
            return Err(InitializeError::NotAmongThem { id });
        }
        if let Some(listed) = listed.get(&id).filter(|member| member.peer != self.inner.settings.peer_advertise) {
            tracing::warn!(
                listed = listed.peer,
                advertised = self.inner.settings.peer_advertise,
                "the group is formed with another address of this member than it advertises"
            );
        }
        match self.inner.raft.initialize(listed.clone()).await {
            Ok(()) => Ok(()),
            Err(RaftError::APIError(RaftInitializeError::NotAllowed(_))) => {
                let formed = self.status().members;
                if formed
                    .iter()
                    .filter(|member| member.voter)
                    .map(|member| &member.id)
                    .eq(listed.keys())
                {
                    return Ok(());
                }
                Err(InitializeError::Conflict {
                    members: formed.iter().map(|member| format!("{:x}", member.id)).collect(),
                })
            }
            Err(RaftError::APIError(RaftInitializeError::NotInMembers(_))) => Err(InitializeError::NotAmongThem { id }),
            Err(RaftError::Fatal(fatal)) => Err(InitializeError::Failed(fatal.to_string())),
        }
    }

    /// Where this member stands, as of now.
    pub fn status(&self) -> GroupStatus {
        self.inner.read_status()
    }

    /// The status whenever state, role, term, leader or members change; the other fields are as of that change.
    pub fn watch(&self) -> watch::Receiver<GroupStatus> {
        self.inner.status.subscribe()
    }

    /// Whether clients should be sent here.
    pub fn is_ready(&self) -> bool {
        self.readiness().is_ok()
    }

    /// Whether clients should be sent here: a voter that hears a leader (or, leading, a quorum), is not far behind, answers local reads,
    /// and whose disk keeps up.
    ///
    /// # Errors
    /// Why not, for a person.
    pub fn readiness(&self) -> Result<(), String> {
        if let Some(stall) = self.inner.stall().filter(|stall| stall.since >= fitness::SLOW) {
            return Err(format!("{stall}; look at the volume of this member"));
        }
        if self.takes_part() {
            Ok(())
        } else {
            Err("the member knows no leader, is not a voter, or is far behind".to_owned())
        }
    }

    /// What has waited longest for this member's disk, if anything waits: one call of the log, or of the state machine.
    pub fn stall(&self) -> Option<Stall> {
        self.inner.stall()
    }

    fn takes_part(&self) -> bool {
        let status = self.status();
        let leadership = *self.inner.leadership.borrow();
        let voter = matches!(status.role, Some(Role::Primary | Role::Follower));
        let heard = if leadership.own {
            leadership.quorum
        } else {
            status.leader.is_some()
                && status
                    .last_heartbeat_age
                    .is_some_and(|age| age < 2 * self.inner.settings.election_timeout)
        };
        let behind = status
            .committed_index
            .unwrap_or(0)
            .saturating_sub(status.applied_index.unwrap_or(0));
        voter
            && heard
            && self.local_read().is_ok()
            && behind <= READY_LAG
            && !self.inner.is_draining()
            && self.inner.failure.borrow().is_none()
    }

    /// Stops taking part, at once: other members see this one as lost. Hand leadership over first. Returns when everything applied is
    /// durable and no thread of the group runs.
    pub async fn shutdown(&self) {
        self.inner.shutdown().await;
    }

    /// Returns when this member cannot go on and the process must exit, and why; never after an ordinary [`Group::shutdown`].
    pub async fn failed(&self) -> String {
        let mut failure = self.inner.failure.subscribe();
        match failure.wait_for(Option::is_some).await {
            Ok(reason) => reason.clone().unwrap_or_default(),
            Err(_) => std::future::pending().await,
        }
    }
}

impl Group {
    /// How far the log is cut, and what was sent and received instead.
    pub fn snapshots(&self) -> SnapshotCounters {
        use openraft::async_runtime::watch::WatchReceiver as _;
        let metrics = self.inner.raft.metrics();
        let metrics = metrics.borrow_watched();
        SnapshotCounters {
            purged_index: metrics.purged.map(|id| id.index),
            durable_index: metrics.snapshot.map(|id| id.index),
            replication_lag: metrics.replication.as_ref().map(|members| {
                let end = metrics.last_log_index.map_or(0, |last| last + 1);
                let behind = |matched: &Option<types::LogId>| end.saturating_sub(matched.map_or(0, |id| id.index + 1));
                members.values().map(behind).max().unwrap_or(0)
            }),
            ..self.inner.snapshots.counters()
        }
    }

    /// Why this member's data cannot be trusted, once that is known: it must not take part again with this data. [`Group::failed`]
    /// returns then, too.
    pub fn damage(&self) -> Option<String> {
        self.inner.damage.borrow().clone()
    }
}

impl Group {
    /// The feature levels that this member's program knows, lowest and highest.
    pub fn supported_levels(&self) -> (Level, Level) {
        (Level::FIRST, self.inner.known)
    }

    /// Who or what holds the feature level, as this member, leading, found at its last look; empty where it does not look.
    pub fn level_held_by(&self) -> Vec<String> {
        self.inner.level_held_by.borrow().clone()
    }

    /// That the log asks for a feature level above this program's, once it does. [`Group::failed`] returns then, too.
    pub fn too_new(&self) -> Option<StoreError> {
        self.inner.snapshots.too_new()
    }
}

impl Inner {
    fn is_draining(&self) -> bool {
        self.draining.load(Ordering::Acquire)
    }

    fn is_removed(&self) -> bool {
        *self.removed.borrow()
    }

    fn is_recovered(&self) -> bool {
        self.recovered.load(Ordering::Acquire)
    }

    fn tasks(&self) -> std::sync::MutexGuard<'_, Vec<AbortHandle>> {
        self.tasks.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether this member may have acknowledged, before it was started, a leader whose lease still runs: openraft forgets such a promise
    /// with the process. A leader answers reads from its lease without asking, so until the lease is over nobody else is voted for.
    fn may_have_promised(&self) -> bool {
        let blank = self.raft.metrics().borrow_watched().last_log_index.is_none();
        !blank && self.started.elapsed() < self.settings.lease()
    }

    fn heard_leader(&self) -> Option<Instant> {
        *self.heard_leader.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn leader_was_heard(&self) {
        *self.heard_leader.lock().unwrap_or_else(PoisonError::into_inner) = Some(Instant::now());
    }

    fn publish_leadership(&self, leadership: Leadership) {
        self.leadership.send_if_modified(|known| {
            let changed = *known != leadership;
            *known = leadership;
            changed
        });
    }

    /// The first reason is the one that is told.
    fn fail(&self, reason: String) {
        self.failure.send_if_modified(|known| {
            let first = known.is_none();
            if first {
                tracing::error!(reason, "this member cannot go on");
                *known = Some(reason);
            }
            first
        });
    }

    /// Found to be damaged: no answer from here is to be believed any more.
    async fn stop_when_damaged(self: Arc<Self>) {
        let mut damage = self.damage.subscribe();
        if let Ok(reason) = damage.wait_for(Option::is_some).await {
            self.fail(format!(
                "the data of this member is damaged: {}",
                reason.as_deref().unwrap_or_default()
            ));
        }
    }

    fn address_of(&self, member: u64) -> Option<PeerAddress> {
        let metrics = self.raft.metrics();
        let metrics = metrics.borrow_watched();
        metrics.membership_config.get_node(&member).map(|node| PeerAddress {
            id: member,
            address: node.peer.clone(),
        })
    }

    /// Until the group has committed everything that this member's log held when it started, a local read could go back behind one that
    /// was answered before the restart.
    async fn watch_recovery(self: Arc<Self>) {
        if self.raft.wait_for_recovery(None).await.is_ok() {
            self.recovered.store(true, Ordering::Release);
        }
    }

    async fn shutdown(&self) {
        if self.draining.swap(true, Ordering::AcqRel) {
            return;
        }
        self.transport.set_service(None);
        self.progress.close();
        if let Err(error) = self.raft.shutdown().await {
            tracing::warn!(%error, "consensus did not stop cleanly");
        }
        for task in self.tasks().drain(..) {
            task.abort();
        }
        self.publish_leadership(Leadership::OVER);
        let ended = self.apply_ended.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(ended) = ended {
            match ended.await {
                Ok(Ok(()) | Err(StoreError::Failed)) => {}
                Ok(Err(error)) => {
                    tracing::warn!(%error, "the state machine was not closed cleanly; the log replays the rest at the next start")
                }
                Err(_) => tracing::warn!("the apply thread panicked"),
            }
        }
    }
}
