//! The replicated state machine: what every member does with a committed entry.

pub mod command;
pub mod response;

pub use command::{Command, Condition, Kind, Proposal, PutMode, TenantId, Ttl};
pub use response::{Refusal, Response};
