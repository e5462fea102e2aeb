//! A command as it goes to the leader and into the log. In: a command, or the bytes that a follower has sent. Out: bytes that are made once,
//! however often the command is tried. Absent: the stamp, which the leader adds when it proposes (`state::codec::entry`).

use bytes::Bytes;

use crate::state::{Command, DecodeError, Proposal, codec::entry};

/// An encoded command, without a stamp. A cheap handle.
#[derive(Clone, Debug)]
pub(in crate::raft) struct Prepared {
    /// A proposal whose stamp says nothing.
    bytes: Bytes,
    kind: Kind,
}

/// What the queue needs to know of a command.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    /// A write of one operation: others may share its entry, whose work is bounded by how many they are.
    One,
    /// A write of several, whose work only its own bound bounds, so it has an entry of its own.
    List,
    /// Background work, bounded by the rows that it touches; and what configures the shard, which is rare.
    Other,
}

impl Prepared {
    /// Encodes it.
    pub(in crate::raft) fn new(command: Command) -> (Self, Command) {
        let kind = kind(&command);
        let proposal = Proposal { stamp_ms: 0, command };
        let bytes = proposal.encode();
        (Prepared { bytes, kind }, proposal.command)
    }

    /// What a follower has encoded, and what it says: read here, because nothing unreadable may come into the log.
    ///
    /// # Errors
    /// Those of the proposal.
    pub(in crate::raft) fn received(bytes: Bytes) -> Result<(Self, Command), DecodeError> {
        let Proposal { command, .. } = Proposal::decode(&bytes)?;
        let kind = kind(&command);
        Ok((Prepared { bytes, kind }, command))
    }

    pub(in crate::raft) fn bytes(&self) -> &Bytes {
        &self.bytes
    }

    /// Whether it is a tenant's.
    pub(in crate::raft) fn is_write(&self) -> bool {
        self.kind != Kind::Other
    }

    /// Whether others may be in its entry.
    pub(in crate::raft) fn may_share(&self) -> bool {
        self.kind == Kind::One
    }

    /// As an entry of its own.
    ///
    /// # Errors
    /// None: the bytes were made or read here.
    pub(super) fn alone(&self, stamp_ms: u64) -> Result<Bytes, DecodeError> {
        let Proposal { command, .. } = Proposal::decode(&self.bytes)?;
        Ok(Proposal { stamp_ms, command }.encode())
    }
}

/// An entry of these writes.
pub(super) fn together<'p>(stamp_ms: u64, writes: impl ExactSizeIterator<Item = &'p Prepared> + Clone) -> Bytes {
    entry::encode(writes.map(|write| (stamp_ms, &write.bytes)))
}

fn kind(command: &Command) -> Kind {
    match command {
        Command::Write(write) if write.checks.len() + write.operations.len() <= 1 => Kind::One,
        Command::Write(_) => Kind::List,
        _ => Kind::Other,
    }
}
