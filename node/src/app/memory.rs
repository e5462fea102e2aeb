//! The member's memory for what is large: bodies from their arrival to the answer, answers until they are with the socket. In: a tenant and
//! a number of bytes. Out: a share of the memory, or a refusal that says what to do. Absent: who may have how much (`shares`).

use std::{sync::Arc, time::Duration};

use kvfleet_api::Code;
use tokio::time::Instant;

use super::{Full, Share, Shares, failure};
use crate::{descriptors::Shares as Descriptors, problem::Failure, state::TenantId};

/// All of it. A constant: it bounds what the data port adds to a member of any size. A body stands in memory up to four more times on its
/// way (the proposal, the log's group, a frame for each follower), which the log and the links bound by themselves.
const BYTES: u64 = 128 << 20;

/// What is not larger takes no part, and costs no lock: it is bounded by the number of connections.
pub const FREE_BYTES: u64 = 16 << 10;

/// How long a request waits for others of its tenant to be done.
const TURN: Duration = Duration::from_secs(5);

/// The memory of one member.
pub(super) fn whole() -> Arc<Shares> {
    Shares::new(BYTES)
}

/// Requests that may wait for their clients, or for a revision, at a time: as many as the data port has connections. A request under way
/// is never cut off, so a tenant that could let all of them wait would close the port.
pub(super) fn waiting() -> Arc<Shares> {
    Shares::new(Descriptors::now().data as u64)
}

/// A place for a request that waits.
///
/// # Errors
/// `overloaded` at once when the tenant has its share of them: a request that waited for a place would itself hold a connection.
pub(super) fn wait(waiting: &Arc<Shares>, tenant: TenantId) -> Result<Share, Failure> {
    waiting.try_take(tenant, 1).ok_or_else(|| {
        failure::problem(
            Code::Overloaded,
            "too many requests of the tenant wait at this member, for their bodies or for a revision (min_revision): make fewer at a time, send \
             bodies without delay; then try again",
        )
    })
}

/// The memory, as one tenant sees it.
#[derive(Clone, Copy)]
pub struct Memory<'a> {
    memory: &'a Arc<Shares>,
    waiting: &'a Arc<Shares>,
    tenant: TenantId,
}

impl<'a> Memory<'a> {
    pub(crate) fn new(memory: &'a Arc<Shares>, waiting: &'a Arc<Shares>, tenant: TenantId) -> Self {
        Memory { memory, waiting, tenant }
    }

    /// A place to wait for the rest of a body. What has come with the head needs none, and costs no lock.
    ///
    /// # Errors
    /// `overloaded`
    pub fn wait(self) -> Result<Share, Failure> {
        wait(self.waiting, self.tenant).map_err(failure::untouched)
    }

    /// Has a body's share cover this many bytes.
    ///
    /// # Errors
    /// `overloaded` when that is not so within a moment.
    pub async fn hold(self, share: &mut Option<Share>, bytes: u64) -> Result<(), Failure> {
        let until = Instant::now() + TURN;
        let held = match share {
            Some(share) => share.grow(bytes, until).await,
            None => self.memory.take(self.tenant, bytes, until).await.map(|taken| *share = Some(taken)),
        };
        held.map_err(|Full| failure::untouched(no_room()))
    }

    /// A share for an answer.
    ///
    /// # Errors
    /// `overloaded` when there is none within a moment, or before the deadline.
    pub(super) async fn take(self, bytes: u64, deadline: Instant) -> Result<Share, Failure> {
        let until = deadline.min(Instant::now() + TURN);
        self.memory.take(self.tenant, bytes, until).await.map_err(|Full| no_room())
    }

    /// A share for an answer, if there is one now.
    pub(super) fn try_take(self, bytes: u64) -> Option<Share> {
        self.memory.try_take(self.tenant, bytes)
    }
}

pub(super) fn no_room() -> Failure {
    failure::problem(
        Code::Overloaded,
        "the tenant's share of the member's memory for large bodies and answers is used up: send fewer large requests at a time, ask for smaller \
         pages (max_bytes), read answers without delay; then try again",
    )
}
