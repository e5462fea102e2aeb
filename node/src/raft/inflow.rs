//! What other members hand to the leader, and how much of it waits for one tenant. In: forwarded commands and what they cost. Out: a share of the
//! leader's memory for each, or a refusal. Absent: the bound on a connection's bytes (`peer`), which knows no tenants.
//!
//! A command that a client brings to the leader itself is accounted there, at the data port (`app`). One that comes by another member was accounted
//! at that member, which knows nothing of the others: six of them could each hand over what they allow one tenant. And a tenant that fills
//! a connection between two members keeps all others of it waiting. So the leader counts what waits, for each tenant, and refuses more at once.

use std::sync::Arc;

use crate::{
    shares::{Share, Shares},
    state::{Command, TenantId},
};

/// Bytes of forwarded commands that wait at the leader. Of these a tenant alone may have half, three quarters of what one connection
/// holds: some is left for others on the busiest.
const BYTES: u64 = 96 << 20;

/// What a command holds beside the bytes of its caller: its frame, its task, its places in queues.
const EACH: u64 = 1 << 10;

/// What a call costs a member that it is handed to: the bytes that it holds there until it is answered.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Cost(pub u64);

/// The forwarded commands that wait.
pub(super) struct Inflow(Arc<Shares>);

impl Default for Inflow {
    fn default() -> Self {
        Inflow(Shares::new(BYTES))
    }
}

/// What one of them holds: none when it is no tenant's.
pub(super) struct Held(#[expect(dead_code, reason = "it is given back when it is dropped")] Option<Share>);

impl Inflow {
    /// Room for a command; none when its tenant has too much waiting already.
    pub(super) fn take(&self, command: &Command, cost: Cost) -> Option<Held> {
        let Some(tenant) = payer(command) else {
            return Some(Held(None));
        };
        self.0.try_take(tenant, cost.0.saturating_add(EACH)).map(|share| Held(Some(share)))
    }

    /// Bytes that wait.
    #[cfg(test)]
    pub(super) fn waiting(&self) -> u64 {
        self.0.held()
    }
}

/// Whose command it is.
fn payer(command: &Command) -> Option<TenantId> {
    match command {
        Command::Write(write) => Some(write.tenant),
        Command::SweepTenant { tenant, .. } => Some(*tenant),
        Command::Sweep { .. }
        | Command::Reap { .. }
        | Command::PutTenant { .. }
        | Command::ReleaseTenant { .. }
        | Command::DeleteTenant { .. }
        | Command::PutSettings(_)
        | Command::RaiseLevel { .. }
        | Command::SpendToken { .. } => None,
    }
}
