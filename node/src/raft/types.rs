//! What openraft is told to work with. The types here are openraft's and ours glued together; nothing of them is written to disk or
//! wire as it is (`encoding` has our own bytes, so another openraft changes none).

use std::fmt;

use bytes::Bytes;
use openraft::{
    impls::{Entry as RaftEntry, EntryPayload, Vote as RaftVote},
    vote::leader_id_std,
};

use crate::state::Response;

openraft::declare_raft_types!(
    /// One shard's Raft: a leader per term, members by random u64.
    pub Types:
        D = Data,
        R = Answers,
        NodeId = u64,
        Node = Member,
        Term = u64,
        LeaderId = leader_id_std::LeaderId<u64, u64>,
        AsyncRuntime = Runtime,
);

#[cfg(not(all(test, tokio_unstable)))]
type Runtime = openraft::impls::TokioRuntime;
#[cfg(all(test, tokio_unstable))]
type Runtime = super::tests::simulation::Runtime;

pub(super) type Committed = leader_id_std::CommittedLeaderId<u64>;
pub(super) type LogId = openraft::LogId<Committed>;
pub(super) type Vote = RaftVote<leader_id_std::LeaderId<u64, u64>>;
pub(super) type Payload = EntryPayload<Data, u64, Member>;
pub(super) type Entry = RaftEntry<Committed, Payload>;
pub(super) type Membership = openraft::Membership<u64, Member>;
pub(super) type StoredMembership = openraft::StoredMembership<Committed, u64, Member>;
pub(super) type Raft = openraft::Raft<Types, super::apply::StateMachine>;

/// A proposal or a list of writes, as `state` encodes it (`state::codec::entry`). Shared, never copied, from the request that built it to the disk.
#[derive(Clone, PartialEq, Eq)]
pub struct Data(pub Bytes);

impl fmt::Debug for Data {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, formatter)
    }
}

/// The length only: values are nobody's business in a log line.
impl fmt::Display for Data {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{} bytes", self.0.len())
    }
}

/// What an entry's proposer is told: one answer per write, in their order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Answers(pub Vec<Response>);

impl fmt::Display for Answers {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{} answers", self.0.len())
    }
}

/// What the membership says of a member besides its id.
// openraft's storage suite makes members out of nothing.
#[cfg_attr(test, derive(Default))]
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Member {
    /// The pod's name, or `--name`.
    pub name: String,
    /// `host:port` of its peer port.
    pub peer: String,
}

pub(super) fn log_id(term: u64, index: u64) -> LogId {
    LogId::new_term_index(term, index)
}

pub(super) fn vote(term: u64, voted_for: u64, committed: bool) -> Vote {
    if committed {
        Vote::new_committed(term, voted_for)
    } else {
        Vote::new(term, voted_for)
    }
}
