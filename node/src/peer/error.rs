//! Why a call has no answer. The variants differ in the one thing that the caller of a write must know: can the other end have seen it?

/// A call that failed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CallError {
    /// The request was not sent: nobody can have acted on it.
    #[error("member {target:x} at {address} cannot be reached: {reason}")]
    Unreachable {
        /// The member's id.
        target: u64,
        /// Where it was looked for.
        address: String,
        /// What stood in the way.
        reason: String,
    },
    /// The connection ended after the request was handed to it: it may have been acted on.
    #[error("the connection to member {target:x} ended before it answered: {reason}")]
    Broken {
        /// The member's id.
        target: u64,
        /// Why it ended.
        reason: String,
    },
    /// The deadline passed after the request was handed to a connection: it may have been acted on.
    #[error("member {target:x} did not answer in time")]
    Late {
        /// The member's id.
        target: u64,
    },
    /// The member at the address belongs to another shard.
    #[error("at {address} there is {name} of shard {found}, and this member is of shard {own}: give the address of a member of this shard")]
    OtherShard {
        /// Where it was looked for.
        address: String,
        /// The name of the member that answered.
        name: String,
        /// Its shard.
        found: u32,
        /// This member's.
        own: u32,
    },
    /// The other end answered that it does not do this.
    #[error("member {target:x} refused: {refusal}")]
    Refused {
        /// The member's id.
        target: u64,
        /// Why.
        refusal: Refusal,
    },
}

impl CallError {
    /// Whether the other end certainly did nothing.
    pub fn untouched(&self) -> bool {
        match self {
            CallError::Unreachable { .. } | CallError::OtherShard { .. } | CallError::Refused { .. } => true,
            CallError::Broken { .. } | CallError::Late { .. } => false,
        }
    }
}

/// Why a member does not serve a frame. It has done nothing then.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// The frame names another member: whoever was at this address before.
    #[error("the frame is for another member")]
    NotMe,
    /// The frame names another cluster.
    #[error("the frame is of another cluster")]
    OtherCluster,
    /// The member is starting or closing down.
    #[error("the member takes no calls at the moment")]
    Closed,
    /// The body cannot be read: the versions are too far apart.
    #[error("the member does not understand the request")]
    Malformed,
    /// The answer is larger than a frame.
    #[error("the answer is too large")]
    TooLarge,
    /// The frame names another shard.
    #[error("the frame is of another shard")]
    OtherShard,
    /// Nothing was done: the call came with a later version of the program.
    #[error("the other member's program does not know this call: upgrade it")]
    Unknown,
    /// A reason that came with a later version of the program.
    #[error("for a reason that this program does not know ({0}): upgrade it")]
    Other(u8),
    /// The member cannot vouch for its data and takes no part until it is replaced.
    #[error("the member is quarantined")]
    Quarantined,
}

impl Refusal {
    pub(super) const fn code(self) -> u8 {
        match self {
            Refusal::NotMe => 1,
            Refusal::OtherCluster => 2,
            Refusal::Closed => 3,
            Refusal::Malformed => 4,
            Refusal::TooLarge => 5,
            Refusal::Quarantined => 6,
            Refusal::OtherShard => 7,
            Refusal::Unknown => 8,
            Refusal::Other(code) => code,
        }
    }

    pub(super) const fn from_code(code: u8) -> Self {
        match code {
            1 => Refusal::NotMe,
            2 => Refusal::OtherCluster,
            3 => Refusal::Closed,
            4 => Refusal::Malformed,
            5 => Refusal::TooLarge,
            6 => Refusal::Quarantined,
            7 => Refusal::OtherShard,
            8 => Refusal::Unknown,
            code => Refusal::Other(code),
        }
    }
}
