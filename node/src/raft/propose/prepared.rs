//! A command as it goes to the leader and into the log. In: a command, or the bytes that a follower has sent. Out: bytes that are made once,
//! however often the command is tried. Absent: the stamp, which the leader adds when it proposes (`state::codec::entry`).

use bytes::Bytes;

use crate::state::{Command, DecodeError, Proposal, codec::entry};

/// An encoded command, without a stamp. A cheap handle.
#[derive(Clone, Debug)]
pub(in crate::raft) struct Prepared {
    /// A proposal whose stamp says nothing.
    bytes: Bytes,
    /// Whether its work is bounded by its bytes, so that others may share its entry.
    is_write: bool,
}

impl Prepared {
    /// Encodes it.
    pub(in crate::raft) fn new(command: Command) -> (Self, Command) {
        let is_write = is_write(&command);
        let proposal = Proposal { stamp_ms: 0, command };
        let bytes = proposal.encode();
        (Prepared { bytes, is_write }, proposal.command)
    }

    /// What a follower has encoded, and what it says: read here, because nothing unreadable may come into the log.
    ///
    /// # Errors
    /// Those of the proposal.
    pub(in crate::raft) fn received(bytes: Bytes) -> Result<(Self, Command), DecodeError> {
        let Proposal { command, .. } = Proposal::decode(&bytes)?;
        let is_write = is_write(&command);
        Ok((Prepared { bytes, is_write }, command))
    }

    pub(in crate::raft) fn bytes(&self) -> &Bytes {
        &self.bytes
    }

    pub(in crate::raft) fn is_write(&self) -> bool {
        self.is_write
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

/// Background work is bounded by the rows that it touches, not by its bytes, so it has an entry of its own; what configures the shard is
/// rare.
fn is_write(command: &Command) -> bool {
    matches!(command, Command::Write(_))
}
