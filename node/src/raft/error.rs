//! What can go wrong with a group, for its callers.

use std::io;

use kvfleet_api::error::Outcome;

use crate::{state::Level, storage::StoreError};

/// A group could not be started.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The timing makes no sense.
    #[error(
        "heartbeatInterval and electionTimeout do not fit together: make electionTimeout at least six times heartbeatInterval ({reason})"
    )]
    Settings {
        /// openraft's reason.
        reason: String,
    },
    /// The transport is of another member.
    #[error("the transport is of member {transport:x}, the group is started for {group:x}: start both with the id of the data directory")]
    OtherMember {
        /// The transport's member.
        transport: u64,
        /// The group's.
        group: u64,
    },
    /// The apply thread could not be started.
    #[error("cannot start applying entries")]
    Apply {
        /// The reason.
        source: io::Error,
    },
    /// The rows that the dropped entries made are gone.
    #[error(
        "the log has dropped its entries up to {dropped}, and the state machine has only those up to {applied}: its files were lost or \
         replaced; replace this member"
    )]
    Behind {
        /// The last entry that the log has dropped.
        dropped: u64,
        /// The last entry that the state machine has.
        applied: u64,
    },
    /// The log asks for a feature level that this program does not know.
    #[error(transparent)]
    NewerLevel(StoreError),
    /// The log or the state machine cannot be read.
    #[error("cannot recover from the log and the state machine: {reason}")]
    Recover {
        /// openraft's reason.
        reason: String,
    },
}

/// A command that has no answer.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ProposeError {
    /// There is no leader, or the one that had the command is gone.
    #[error("the shard has no leader that can take the command; try again")]
    NoLeader {
        /// Whether it may have been applied.
        outcome: Outcome,
    },
    /// The deadline passed.
    #[error("the command was not answered before the deadline")]
    Deadline {
        /// Whether it may have been applied.
        outcome: Outcome,
    },
    /// This member is closing down. The command was not proposed.
    #[error("the member is shutting down")]
    Draining,
    /// The command is larger than a log entry may be. It was not proposed.
    #[error("the command is larger than {} bytes", super::propose::COMMAND_BYTES)]
    TooLarge,
    /// The disks have no room for what the command would add. It was not proposed.
    #[error("the shard's disks are full up to their reserve: delete records, or enlarge the volumes; reads and deletes go on")]
    NoRoom,
    /// Some members may not know the command yet. It was not proposed.
    #[error(
        "this needs feature level {needs}, and the shard is at level {level}: the level rises by itself when every member runs a program \
         that knows it and nothing holds it"
    )]
    NotYetSupported {
        /// The level that it needs.
        needs: Level,
        /// The level of the group.
        level: Level,
    },
    /// So much of the tenant's waits at the leader already. It was not proposed.
    #[error(
        "too many bytes of the tenant's writes wait at the shard's leader, handed over by other members: send fewer or smaller ones at a time; then \
         try again"
    )]
    Overloaded,
    /// The member has failed. Whether the command was applied is not known.
    #[error("the member has failed: {0}")]
    Failed(String),
}

/// Not every voter has applied a write in time that a majority has.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{missing} of {voters} members had not applied it before the deadline")]
pub struct NotEverywhere {
    /// How many have not said that they have.
    pub missing: usize,
    /// How many vote.
    pub voters: usize,
}

/// A read that cannot be answered.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ReadError {
    /// No leader could be asked before the deadline.
    #[error("the shard has no leader that can answer for the read; try again")]
    NoLeader,
    /// The deadline passed while the member caught up.
    #[error("the read was not ready before the deadline")]
    Deadline,
    /// The member has not been in a group, or has not yet caught up with what it knew before it was restarted.
    #[error("the member has not caught up since it started; try another one")]
    NotReady,
    /// The member is closing down.
    #[error("the member is shutting down")]
    Draining,
    /// The member has failed.
    #[error("the member has failed: {0}")]
    Failed(String),
}

/// A group that cannot be formed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum InitializeError {
    /// The list is empty, or lacks this member as a voter.
    #[error("the members must be voters and include this one, {id:x}")]
    NotAmongThem {
        /// This member.
        id: u64,
    },
    /// The member is part of a group already, and not of this one.
    #[error("the member is part of another formation: {members:?}")]
    Conflict {
        /// The ids of that group, hexadecimal; empty while it is not known (it has voted already).
        members: Vec<String>,
    },
    /// The member has failed.
    #[error("the member has failed: {0}")]
    Failed(String),
}

/// Leadership that could not be handed over.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TransferError {
    /// No other member votes.
    #[error("there is no other voter to lead")]
    Alone,
    /// No other voter had everything and answered before the deadline, or none was elected.
    #[error("no other voter took over before the deadline")]
    Deadline,
    /// The member has failed.
    #[error("the member has failed: {0}")]
    Failed(String),
}
