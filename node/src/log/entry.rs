//! What the log stores: entries with their ids, and the vote. Plain values; how they become bytes is in `codec` and `record`.

use std::fmt;

use bytes::Bytes;

/// The identity of one entry: who wrote it in which term, and where it stands.
///
/// Ordered by term, then leader, then index, which is Raft's "at least as up to date".
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct LogId {
    /// The leader's term.
    pub term: u64,
    /// The leader's member id.
    pub leader: u64,
    /// The position in the log; the first entry of a group's life is at 0.
    pub index: u64,
}

impl fmt::Display for LogId {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{}-{:x}-{}", self.term, self.leader, self.index)
    }
}

/// What this member has promised in an election.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Vote {
    /// The term voted in.
    pub term: u64,
    /// The candidate voted for; `None` when the term is known but nobody has the vote.
    pub voted_for: Option<u64>,
    /// Whether a quorum has granted it, that is, whether the candidate became leader.
    pub committed: bool,
}

/// One entry of the log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// Its identity.
    pub id: LogId,
    /// The caller's bytes. The log keeps a reference to them while the entry is cached, so they should not be a small slice of a
    /// large buffer.
    pub payload: Bytes,
}
