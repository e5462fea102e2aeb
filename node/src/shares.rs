//! What tenants share: memory for bodies and answers, threads that read, a leader's memory for what is handed to it. One greedy tenant must not leave nothing to the others.
//!
//! In: how much a tenant wants, and until when it waits. Out: a [`Share`], given back when it is dropped. Absent: what is shared.
//!
//! A tenant may hold as much as is free (dynamic thresholds: Choudhury and Hahne, IEEE/ACM Transactions on Networking 6(2), 1998). So a
//! tenant alone has half of it, each of two has a third, each of `k` greedy ones one part in `k + 1`, and as much is left for the next
//! tenant that comes. No tenant waits behind another: each has a queue of its own, and the queues are served in turn.
//!
//! A share may grow, as a body does while it arrives. Many that are half grown could hold all that the tenant may have, each waiting for
//! the others. So what has something already goes before what has nothing, the oldest first, and one of them for each tenant may go
//! beyond the tenant's threshold until it is done.
//!
//! It costs one lock for each change, and at each return a look at the first in each queue that is not empty: no more than requests wait,
//! so no more than there are connections. The request that returns something pays.

use std::{
    collections::{BTreeMap, HashMap, VecDeque},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use tokio::{sync::oneshot, time::Instant};

use crate::state::TenantId;

/// A quantity in units of its own.
pub struct Shares {
    state: Mutex<State>,
}

/// Nothing became free in time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Full;

/// What one request holds.
pub struct Share {
    shares: Arc<Shares>,
    tenant: TenantId,
    /// Counts shares in the order in which they were asked for.
    number: u64,
    amount: u64,
}

/// Where a request stands in its tenant's queue: who holds something first, then who came first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Place {
    holds_nothing: bool,
    number: u64,
}

struct Waiting {
    more: u64,
    granted: oneshot::Sender<()>,
}

#[derive(Default)]
struct Account {
    held: u64,
    queue: BTreeMap<Place, Waiting>,
    /// The one share that may go beyond the threshold.
    ahead: Option<u64>,
}

struct State {
    capacity: u64,
    held: u64,
    next: u64,
    /// Of tenants that hold or want something.
    accounts: HashMap<TenantId, Account>,
    /// Tenants whose queue is not empty, the next one first.
    turns: VecDeque<TenantId>,
}

impl Shares {
    /// So much of it.
    pub fn new(capacity: u64) -> Arc<Self> {
        Arc::new(Shares {
            state: Mutex::new(State {
                capacity,
                held: 0,
                next: 0,
                accounts: HashMap::new(),
                turns: VecDeque::new(),
            }),
        })
    }

    /// A share of this size, if the tenant may have it now.
    pub fn try_take(self: &Arc<Self>, tenant: TenantId, amount: u64) -> Option<Share> {
        let mut share = self.nothing(tenant);
        share.try_grow(amount).then_some(share)
    }

    /// A share of this size, when the tenant may have it.
    ///
    /// # Errors
    /// [`Full`] when that is not before `until`.
    pub async fn take(self: &Arc<Self>, tenant: TenantId, amount: u64, until: Instant) -> Result<Share, Full> {
        let mut share = self.nothing(tenant);
        share.grow(amount, until).await?;
        Ok(share)
    }

    #[cfg(test)]
    pub(crate) fn held(&self) -> u64 {
        self.state().held
    }

    fn nothing(self: &Arc<Self>, tenant: TenantId) -> Share {
        let mut state = self.state();
        state.next += 1;
        Share {
            shares: Arc::clone(self),
            tenant,
            number: state.next,
            amount: 0,
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl std::fmt::Debug for Share {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(formatter, "Share({})", self.amount)
    }
}

impl Share {
    /// Whether it has been given what it lacks to this size.
    pub fn try_grow(&mut self, amount: u64) -> bool {
        let more = amount.saturating_sub(self.amount);
        let granted = more == 0 || self.shares.state().ask(self.tenant, self.place(), more);
        if granted {
            self.amount += more;
        }
        granted
    }

    /// Waits for what it lacks to this size.
    ///
    /// # Errors
    /// [`Full`] when that does not come before `until`. It keeps what it has.
    pub async fn grow(&mut self, amount: u64, until: Instant) -> Result<(), Full> {
        let more = amount.saturating_sub(self.amount);
        if more > 0 {
            self.wait(more, until).await?;
            self.amount += more;
        }
        Ok(())
    }

    async fn wait(&self, more: u64, until: Instant) -> Result<(), Full> {
        let place = self.place();
        let granted = {
            let mut state = self.shares.state();
            if state.ask(self.tenant, place, more) {
                return Ok(());
            }
            state.enqueue(self.tenant, place, more)
        };
        let mut turn = Turn {
            share: self,
            place,
            more,
            over: false,
        };
        // The sender is not dropped before it has sent: it is in the queue, or this turn takes it from there.
        let waited = tokio::time::timeout_at(until, granted).await;
        turn.over = matches!(waited, Ok(Ok(())));
        if turn.over { Ok(()) } else { Err(Full) }
    }

    /// Gives back what is above this size.
    pub fn shrink(&mut self, amount: u64) {
        let less = self.amount.saturating_sub(amount);
        if less > 0 {
            self.amount -= less;
            self.shares.state().give_back(self.tenant, less);
        }
    }

    fn place(&self) -> Place {
        Place {
            holds_nothing: self.amount == 0,
            number: self.number,
        }
    }
}

impl Drop for Share {
    fn drop(&mut self) {
        if self.amount > 0 {
            let mut state = self.shares.state();
            if let Some(account) = state.accounts.get_mut(&self.tenant) {
                account.ahead = account.ahead.filter(|ahead| *ahead != self.number);
            }
            state.give_back(self.tenant, self.amount);
        }
    }
}

/// A place in a queue, which is left when its request has gone.
struct Turn<'a> {
    share: &'a Share,
    place: Place,
    more: u64,
    /// It has been granted, and its share has taken it over.
    over: bool,
}

impl Drop for Turn<'_> {
    fn drop(&mut self) {
        if !self.over {
            let Share { shares, tenant, .. } = self.share;
            shares.state().leave(*tenant, self.place, self.more);
        }
    }
}

impl Account {
    /// Whether nobody of the tenant who waits goes before this place. Who may go beyond the threshold must not wait behind somebody who may
    /// not, and who perhaps waits for it to be done.
    fn goes_first(&self, place: Place) -> bool {
        let first = self.queue.keys().next();
        self.ahead == Some(place.number) || first.is_none_or(|first| place < *first)
    }
}

impl State {
    /// Grants it at once, if no request of the same tenant goes before.
    fn ask(&mut self, tenant: TenantId, place: Place, more: u64) -> bool {
        let account = self.accounts.get(&tenant);
        let is_first = account.is_none_or(|account| account.goes_first(place));
        is_first && self.grant(tenant, place, more)
    }

    fn grant(&mut self, tenant: TenantId, place: Place, more: u64) -> bool {
        let free = self.capacity.saturating_sub(self.held);
        if more > free {
            return false;
        }
        let account = self.accounts.entry(tenant).or_default();
        if account.held.saturating_add(more) > free {
            let ahead = !place.holds_nothing && *account.ahead.get_or_insert(place.number) == place.number;
            if !ahead {
                self.tidy(tenant);
                return false;
            }
        }
        account.held += more;
        self.held += more;
        true
    }

    fn enqueue(&mut self, tenant: TenantId, place: Place, more: u64) -> oneshot::Receiver<()> {
        let (granted, waiting) = oneshot::channel();
        let account = self.accounts.entry(tenant).or_default();
        if account.queue.is_empty() {
            self.turns.push_back(tenant);
        }
        account.queue.insert(place, Waiting { more, granted });
        waiting
    }

    /// Takes a request out of the queue; if it has been granted in the meantime, takes that back.
    fn leave(&mut self, tenant: TenantId, place: Place, more: u64) {
        let Some(account) = self.accounts.get_mut(&tenant) else { return };
        match account.queue.remove(&place) {
            None => self.give_back(tenant, more),
            Some(_) => {
                if account.queue.is_empty() {
                    self.turns.retain(|waiting| *waiting != tenant);
                }
                // Who stood behind it may want less.
                self.serve();
                self.tidy(tenant);
            }
        }
    }

    fn give_back(&mut self, tenant: TenantId, amount: u64) {
        self.held = self.held.saturating_sub(amount);
        if let Some(account) = self.accounts.get_mut(&tenant) {
            account.held = account.held.saturating_sub(amount);
        }
        self.serve();
        self.tidy(tenant);
    }

    /// Grants what can be granted, one request of each tenant in turn.
    fn serve(&mut self) {
        // Less becomes free with each grant, so after a round without one there is none.
        let mut in_vain = 0;
        while in_vain < self.turns.len()
            && let Some(tenant) = self.turns.pop_front()
        {
            in_vain = if self.serve_first(tenant) { 0 } else { in_vain + 1 };
            if self.accounts.get(&tenant).is_some_and(|account| !account.queue.is_empty()) {
                self.turns.push_back(tenant);
            }
        }
    }

    /// Grants the request of the share that goes ahead, or else the first.
    fn serve_first(&mut self, tenant: TenantId) -> bool {
        let Some(account) = self.accounts.get(&tenant) else { return false };
        // It holds something, or it would not go ahead.
        let ahead = account.ahead.map(|number| Place {
            holds_nothing: false,
            number,
        });
        let ahead = ahead.filter(|place| account.queue.contains_key(place));
        let first = account.queue.keys().next().copied().filter(|first| Some(*first) != ahead);
        ahead.into_iter().chain(first).any(|place| self.serve_place(tenant, place))
    }

    fn serve_place(&mut self, tenant: TenantId, place: Place) -> bool {
        let waiting = |state: &Self| state.accounts.get(&tenant)?.queue.get(&place).map(|waiting| waiting.more);
        if !waiting(self).is_some_and(|more| self.grant(tenant, place, more)) {
            return false;
        }
        let waiting = self.accounts.get_mut(&tenant).and_then(|account| account.queue.remove(&place));
        if let Some(Waiting { granted, .. }) = waiting {
            // Whoever gives up takes its place out of the queue first, so there is someone to receive it.
            let _ = granted.send(());
        }
        true
    }

    /// Forgets a tenant that neither holds nor wants anything.
    fn tidy(&mut self, tenant: TenantId) {
        let idle = |account: &Account| account.held == 0 && account.queue.is_empty();
        if self.accounts.get(&tenant).is_some_and(idle) {
            self.accounts.remove(&tenant);
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests;
