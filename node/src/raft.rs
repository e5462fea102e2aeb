//! One member of one shard's Raft group.
//!
//! In: commands and reads from `app`, with deadlines; a log, a state machine and a transport to run on. Out: answers of the state machine,
//! views that a read may use, and a status. Absent by design: what a command means (`state`), files (`log`, `storage`), sockets (`peer`),
//! and openraft's types in any signature or byte: it is an alpha, and only this module knows it (docs/adr/0001).
//!
//! Any member takes any call. A follower hands commands to the leader, which stamps them, and asks it what a read must have applied; what
//! cannot be known is said to be unknown rather than left to a deadline.

mod apply;
mod encoding;
mod error;
mod fitness;
mod leader;
mod log_store;
mod logged;
mod membership;
mod network;
mod propose;
mod read;
mod serve;
mod settings;
mod status;
#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::indexing_slicing)]
mod tests;
mod transfer;
mod types;

use std::{
    collections::BTreeMap,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
};

use kvfleet_api::admin::{MemberAddress, Role};
use openraft::errors::{InitializeError as RaftInitializeError, RaftError};
use tokio::{sync::watch, task::AbortHandle, time::Instant};

pub use error::{InitializeError, ProposeError, ReadError, StartError, TransferError};
pub use fitness::Stall;
pub use logged::Logged;
pub use membership::{Change, MembershipError, MembershipRefusal};
pub use read::ReadPoint;
pub use settings::GroupSettings;
pub use status::GroupStatus;

use self::{
    apply::Progress,
    fitness::Intake,
    log_store::LogStore,
    network::Network,
    status::Leadership,
    types::{Member, Raft},
};
use crate::{
    log::Wal,
    peer::{PeerAddress, Transport},
    runtime,
    state::{Machine, Views},
    storage::{Store, StoreError},
};

/// A member that is further behind than this many entries is not ready.
const READY_LAG: u64 = 10_000;

/// A running member of a group. A cheap handle.
#[derive(Clone)]
pub struct Group {
    inner: Arc<Inner>,
}

struct Inner {
    settings: GroupSettings,
    raft: Raft,
    wal: Wal,
    progress: Arc<Progress>,
    intake: watch::Sender<Intake>,
    transport: Transport,
    views: Views,
    reads: read::Queue,
    leadership: watch::Sender<Leadership>,
    status: watch::Sender<GroupStatus>,
    failure: watch::Sender<Option<String>>,
    changes: membership::Changes,
    removed: watch::Sender<bool>,
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
        transport.clock().hear_stamp(views.latest().stamp_ms());
        let log = LogStore::new(wal.clone());
        let progress = Arc::new(Progress::default());
        let started = apply::start(machine, log.durable_end(), Arc::clone(&progress));
        let (machine, ended) = started.map_err(|source| StartError::Apply { source })?;
        let raft = Raft::new(settings.id, config, Network::new(transport.clone()), log, machine).await;
        let raft = raft.map_err(|fatal| StartError::Recover { reason: fatal.to_string() })?;

        let (reads, waiting) = read::queue();
        let inner = Arc::new(Inner {
            leadership: watch::Sender::new(Leadership::NONE),
            status: watch::Sender::new(GroupStatus::unknown()),
            failure: watch::Sender::new(None),
            changes: membership::Changes::default(),
            removed: watch::Sender::new(false),
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
            transport,
            views,
            reads,
        });
        inner.status.send_replace(inner.read_status());
        let tasks = [
            runtime::spawn(Arc::clone(&inner).watch_metrics()).abort_handle(),
            runtime::spawn(Arc::clone(&inner).watch_recovery()).abort_handle(),
            runtime::spawn(Arc::clone(&inner).ask_for_reads(waiting)).abort_handle(),
            runtime::spawn(Arc::clone(&inner).lead()).abort_handle(),
            runtime::spawn(Arc::clone(&inner).finish_changes()).abort_handle(),
            runtime::spawn(Arc::clone(&inner).learn_of_removal()).abort_handle(),
            runtime::spawn(Arc::clone(&inner).watch_fitness()).abort_handle(),
        ];
        inner.tasks().extend(tasks);
        inner.transport.set_service(Some(Arc::new(serve::Served::new(Arc::clone(&inner)))));
        Ok(Group { inner })
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

    /// Whether clients should be sent here: a voter that hears a leader (or, leading, a quorum), is not far behind and whose disk keeps up.
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

    /// What has waited longest for this member's disk, if anything waits: a group of the log, or a batch of the state machine.
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
        voter && heard && status.recovered && behind <= READY_LAG && !self.inner.is_draining() && self.inner.failure.borrow().is_none()
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

    fn address_of(&self, member: u64) -> Option<PeerAddress> {
        use openraft::async_runtime::watch::WatchReceiver as _;
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
