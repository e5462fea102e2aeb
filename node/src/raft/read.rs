//! Reads. In: a wish to read, with a deadline. Out: a view that is as fresh as was asked for, and the moment as of which to read it. Absent:
//! reading the rows (`state`).
//!
//! A read that must contain everything acknowledged before it goes through the leader. The leader makes sure with a quorum that it still
//! leads (ReadIndex), or trusts its lease: half of the time for which a quorum votes for nobody else, so that it is over before the others'
//! is even if their clocks run up to twice as fast. A follower asks the leader. Either way one question of each sort is under way at a time:
//! reads that come meanwhile share the next one, so however many readers there are, the group is asked once per round trip. They may not
//! share the one under way: it may have been answered before they came.

use std::{sync::Arc, time::Duration};

use futures::{FutureExt, future::BoxFuture};
use openraft::raft::linearizable_read::LinearizerOption;
use tokio::{
    sync::{mpsc, oneshot},
    task::JoinHandle,
    time::Instant,
};

use super::{
    Group, Inner, ReadError,
    encoding::{ReadAnswer, ReadCall},
    propose::{until, wait_for_change},
};
use crate::{
    peer::{Lane, Method},
    state::View,
};

/// Where a read may read.
#[derive(Clone)]
pub struct ReadPoint {
    /// The state to read. Hold it for one request only.
    pub view: Arc<View>,
    /// The moment as of which to read: what has expired by then is absent. Unix milliseconds.
    pub now_ms: u64,
    /// For a local read: what was acknowledged longer ago than this is in the view.
    pub age: Option<Duration>,
}

/// How the leader makes sure that it leads.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, prost::Enumeration)]
#[repr(i32)]
pub enum Barrier {
    /// It asks a quorum: right whatever clocks do.
    Quorum = 0,
    /// It trusts a lease that a quorum gave it a moment ago, and asks only when that is over: right as long as no member's monotonic clock
    /// runs at more than twice the speed of another's, or stands still while its machine is suspended.
    Lease = 1,
}

type Asked = oneshot::Sender<ReadAnswer>;

/// Reads that wait for the leader's word.
pub(super) struct Queues {
    quorum: mpsc::UnboundedSender<Asked>,
    lease: mpsc::UnboundedSender<Asked>,
}

/// Two queues, so that no read that trusts the lease waits for a round; `spawn` says where the tasks run that ask for all that wait in one. They end with
/// the queues, or with the group.
pub(super) fn queues(inner: &Arc<Inner>, spawn: impl Fn(BoxFuture<'static, ()>) -> JoinHandle<()>) -> Queues {
    let asked_for = |barrier| {
        let (queue, waiting) = mpsc::unbounded_channel();
        let asking = spawn(Arc::clone(inner).ask_for_reads(barrier, waiting).boxed());
        inner.tasks().push(asking.abort_handle());
        queue
    };
    Queues {
        quorum: asked_for(Barrier::Quorum),
        lease: asked_for(Barrier::Lease),
    }
}

impl Group {
    /// A point to read at that contains every write acknowledged, by any member, before this call.
    ///
    /// # Errors
    /// [`ReadError`].
    pub async fn read_barrier(&self, deadline: Instant) -> Result<ReadPoint, ReadError> {
        self.inner.read_barrier(&self.reads.quorum, deadline).await
    }

    /// The same by the leader's lease, see [`Barrier::Lease`]: on the leader without a word to anybody.
    ///
    /// # Errors
    /// [`ReadError`].
    pub async fn read_leased(&self, deadline: Instant) -> Result<ReadPoint, ReadError> {
        self.inner.read_barrier(&self.reads.lease, deadline).await
    }

    /// The same group for readers of the runtime that this is called in. Their questions are put together there and only then cross to Raft's
    /// threads: two wake-ups across runtimes for all readers that wait, in place of two for each.
    #[must_use]
    pub fn for_readers_here(&self) -> Group {
        Group {
            inner: Arc::clone(&self.inner),
            reads: Arc::new(queues(&self.inner, tokio::spawn)),
        }
    }

    /// A point to read at without asking anybody: what this member has applied, as of the last stamp that it heard plus the time since.
    /// It never goes back on one member, and may be behind other members.
    ///
    /// # Errors
    /// [`ReadError::NotReady`] until the member has caught up once since its start with a leader that told it how far the group is;
    /// [`ReadError::Draining`], [`ReadError::Failed`].
    pub fn local_read(&self) -> Result<ReadPoint, ReadError> {
        self.inner.check_reads()?;
        if !self.inner.is_recovered() {
            return Err(ReadError::NotReady);
        }
        let view = self.inner.views.latest();
        let now_ms = self.inner.transport.clock().local(view.stamp_ms());
        let age = self.inner.freshness.age(view.applied().map(|applied| applied.index));
        if age.is_none() {
            return Err(ReadError::NotReady);
        }
        Ok(ReadPoint { view, now_ms, age })
    }

    /// The shard's time as far as this member knows it without asking, Unix milliseconds. No single machine's clock decides it.
    pub fn now_ms(&self) -> u64 {
        self.inner.transport.clock().local(self.inner.views.latest().stamp_ms())
    }

    /// Returns when this member has applied this revision.
    ///
    /// # Errors
    /// [`ReadError::Deadline`]; [`ReadError::Draining`], [`ReadError::Failed`].
    pub async fn wait_revision(&self, revision: u64, deadline: Instant) -> Result<(), ReadError> {
        self.inner.check_reads()?;
        match tokio::time::timeout_at(deadline, self.inner.views.wait_revision(revision)).await {
            Ok(Ok(())) => Ok(()),
            Ok(Err(_)) => Err(ReadError::Draining),
            Err(_) => Err(ReadError::Deadline),
        }
    }
}

impl Inner {
    fn check_reads(&self) -> Result<(), ReadError> {
        if self.is_draining() {
            return Err(ReadError::Draining);
        }
        self.failure
            .borrow()
            .as_ref()
            .map_or(Ok(()), |reason| Err(ReadError::Failed(reason.clone())))
    }

    async fn read_barrier(&self, queue: &mpsc::UnboundedSender<Asked>, deadline: Instant) -> Result<ReadPoint, ReadError> {
        let ask = || async {
            let (asked, answer) = oneshot::channel();
            // The queue ends with the group, and then the answer does not come.
            let _ = queue.send(asked);
            match tokio::time::timeout_at(deadline, answer).await {
                Ok(Ok(answer)) => answer,
                Ok(Err(_)) | Err(_) => ReadAnswer::Again,
            }
        };
        self.read_point(ask, deadline).await
    }

    /// For the group's own tasks: not in a queue with tenants' reads.
    pub(super) async fn own_read(&self, deadline: Instant) -> Result<ReadPoint, ReadError> {
        let ask = || self.ask_leader(Barrier::Quorum);
        self.read_point(ask, deadline).await
    }

    async fn read_point<F: Future<Output = ReadAnswer>>(&self, ask: impl Fn() -> F, deadline: Instant) -> Result<ReadPoint, ReadError> {
        let mut leadership = self.leadership.subscribe();
        loop {
            self.check_reads()?;
            let known = *leadership.borrow_and_update();
            let answer = match known.leader {
                Some(leader) if known.own || leader != self.settings.id => ask().await,
                Some(_) | None => ReadAnswer::Again,
            };
            if let ReadAnswer::At { index, stamp_ms } = answer {
                return match tokio::time::timeout_at(deadline, self.views.wait_applied(index)).await {
                    Ok(Ok(view)) => Ok(ReadPoint {
                        // Not before what is in the view: after a restart the log may know a later stamp than the leader did.
                        now_ms: stamp_ms.max(view.stamp_ms()),
                        view,
                        age: None,
                    }),
                    Ok(Err(_)) => Err(ReadError::Draining),
                    Err(_) => Err(ReadError::Deadline),
                };
            }
            if !wait_for_change(&mut leadership, deadline).await {
                return Err(ReadError::NoLeader);
            }
        }
    }

    /// On the leader: the stamp first, then the round that shows that this member still led after the stamp. Every member that grants the
    /// round has heard the stamp with it, so no later leader stamps below it. (By the lease nobody has heard it: a record that is absent
    /// for having expired may be there again for a moment after the leader has been replaced.)
    pub(super) async fn read_index(&self, barrier: Barrier) -> ReadAnswer {
        let stamp_ms = self.transport.clock().stamp();
        let oldest = match barrier {
            Barrier::Quorum => Duration::ZERO,
            Barrier::Lease => self.settings.lease() / 2,
        };
        match self.raft.get_read_log_id(LinearizerOption::new(Some(oldest), true)).await {
            Ok((read, _)) => ReadAnswer::At {
                index: read.index(),
                stamp_ms,
            },
            Err(_) => ReadAnswer::Again,
        }
    }

    /// Asks the leader for all reads that wait, again and again.
    async fn ask_for_reads(self: Arc<Self>, barrier: Barrier, mut waiting: mpsc::UnboundedReceiver<Asked>) {
        while let Some(first) = waiting.recv().await {
            let mut readers = vec![first];
            // Behind every request that is ready now, so that its question goes with this one: the leader's threads answer sooner than the readers'
            // can ask, and small rounds cost as much as large ones.
            tokio::task::yield_now().await;
            while let Ok(next) = waiting.try_recv() {
                readers.push(next);
            }
            let answer = self.ask_leader(barrier).await;
            for reader in readers {
                // A reader whose deadline has passed is gone.
                let _ = reader.send(answer);
            }
        }
    }

    async fn ask_leader(&self, barrier: Barrier) -> ReadAnswer {
        let known = *self.leadership.borrow();
        let mut leadership = self.leadership.subscribe();
        if known.own {
            return tokio::select! {
                biased;
                answer = self.read_index(barrier) => answer,
                () = until(&mut leadership, |now| *now != known) => ReadAnswer::Again,
            };
        }
        let Some(peer) = known.leader.and_then(|leader| self.address_of(leader)) else {
            return ReadAnswer::Again;
        };
        let patience = self.settings.grace();
        let call = ReadCall {
            patience_ms: u32::try_from(patience.as_millis()).unwrap_or(u32::MAX),
            barrier: barrier.into(),
        };
        let answer = tokio::select! {
            biased;
            answer = self.transport.call(&peer, Lane::Calls, Method::ReadIndex, call.encode(), Instant::now() + patience) => answer.ok(),
            () = until(&mut leadership, |now| now.leader != Some(peer.id)) => None,
        };
        answer.and_then(|body| ReadAnswer::decode(body).ok()).unwrap_or(ReadAnswer::Again)
    }
}
