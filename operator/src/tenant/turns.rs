//! Whose turn it is to ask a cluster's members: each cluster gets a few, so that the Tenants of one that answers slowly, or not at all, keep
//! those of no other cluster waiting.
//!
//! In: Tenants that want to ask, and whether members answered. Out: a [`Turn`]; and word to those that wait, in the order in which they
//! came. Absent: what is asked. A Tenant that waits holds none of the controller's places: it is looked at again when its turn comes.

use std::{
    collections::{HashMap, HashSet, VecDeque},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use futures::channel::mpsc::UnboundedSender;
use kube::runtime::reflector::ObjectRef;
use kvfleet_crds::Tenant;

use super::desk::ClusterKey;

/// How many Tenants of one cluster ask at a time. Members answer within milliseconds, so this is some thousand Tenants a second.
pub const AT_A_TIME: usize = 8;
/// How long nobody asks after a failure, and at most after many: then one asks for all.
const REST: (Duration, Duration) = (Duration::from_secs(1), Duration::from_secs(10));
/// After so many failures in a row it is said that the cluster cannot be asked; before, what was said stands.
const TOLD_AFTER: u32 = 2;
/// A Tenant that waits is looked at again by itself after this, should its turn have been lost with another Tenant that went.
pub const PATIENCE: Duration = Duration::from_secs(15);

/// The turns of all clusters: for each one at most one name for each of its Tenants.
pub struct Turns {
    clusters: Mutex<HashMap<ClusterKey, Queue>>,
    triggers: UnboundedSender<ObjectRef<Tenant>>,
}

#[derive(Default)]
struct Queue {
    asking: usize,
    waiting: VecDeque<ObjectRef<Tenant>>,
    names: HashSet<ObjectRef<Tenant>>,
    failures: u32,
    /// Until when nobody asks, and what the last one was told.
    resting: Option<(Instant, String)>,
}

/// Whether a Tenant may ask now.
pub enum Turn {
    /// It may, for as long as it holds this.
    Taken(Pass),
    /// Others ask, or one has just failed. It is triggered in its turn, or looks again after this long.
    Waits(Duration),
    /// The members did not answer others, and why; they are asked again after this long.
    Closed(String, Duration),
}

/// One turn. It ends when this is dropped.
pub struct Pass {
    turns: Arc<Turns>,
    cluster: ClusterKey,
}

impl Turns {
    /// Sends word through `triggers`.
    #[must_use]
    pub fn new(triggers: UnboundedSender<ObjectRef<Tenant>>) -> Arc<Self> {
        Arc::new(Turns {
            clusters: Mutex::default(),
            triggers,
        })
    }

    /// A turn for a Tenant, if there is one.
    #[must_use]
    pub fn take(self: &Arc<Self>, cluster: &ClusterKey, tenant: ObjectRef<Tenant>, now: Instant) -> Turn {
        let mut clusters = self.lock();
        let queue = clusters.entry(cluster.clone()).or_default();
        if let Some((until, why)) = &queue.resting
            && now < *until
        {
            let again = *until - now;
            return match queue.failures {
                failures if failures < TOLD_AFTER => Turn::Waits(again),
                _ => Turn::Closed(why.clone(), again),
            };
        }
        if queue.asking < queue.most() {
            queue.asking += 1;
            return Turn::Taken(Pass {
                turns: self.clone(),
                cluster: cluster.clone(),
            });
        }
        if queue.names.insert(tenant.clone()) {
            queue.waiting.push_back(tenant);
        }
        Turn::Waits(PATIENCE)
    }

    /// Members answered.
    pub fn answered(&self, cluster: &ClusterKey) {
        let mut clusters = self.lock();
        let Some(queue) = clusters.get_mut(cluster) else { return };
        if queue.failures > 0 {
            queue.failures = 0;
            queue.resting = None;
            self.wake(queue);
        }
    }

    /// No member answered. Says how long nobody asks now.
    pub fn asked_in_vain(&self, cluster: &ClusterKey, why: &str, now: Instant) -> Duration {
        let mut clusters = self.lock();
        let queue = clusters.entry(cluster.clone()).or_default();
        let (first, longest) = REST;
        let rest = first.saturating_mul(1 << queue.failures.min(8)).min(longest);
        // Of several that asked at the same time the first to fail counts.
        if queue.resting.as_ref().is_none_or(|(until, _)| *until <= now) {
            queue.failures = queue.failures.saturating_add(1);
            queue.resting = Some((now + rest, why.to_owned()));
        }
        rest
    }

    /// The cluster is gone or is another: those that wait look for themselves.
    pub fn forget(&self, cluster: &ClusterKey) {
        let mut clusters = self.lock();
        let Some(queue) = clusters.get_mut(cluster) else { return };
        queue.failures = 0;
        queue.resting = None;
        queue.names.clear();
        for tenant in queue.waiting.drain(..) {
            let _ = self.triggers.unbounded_send(tenant);
        }
        if queue.asking == 0 {
            clusters.remove(cluster);
        }
    }

    /// Has as many looked at as there are turns.
    fn wake(&self, queue: &mut Queue) {
        for _ in queue.asking..queue.most() {
            let Some(tenant) = queue.waiting.pop_front() else { return };
            queue.names.remove(&tenant);
            // A closed channel says that the controller is ending.
            let _ = self.triggers.unbounded_send(tenant);
        }
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<ClusterKey, Queue>> {
        self.clusters.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Queue {
    /// One asks for all while it is not known whether members answer.
    fn most(&self) -> usize {
        if self.failures > 0 { 1 } else { AT_A_TIME }
    }
}

impl Drop for Pass {
    fn drop(&mut self) {
        let mut clusters = self.turns.lock();
        let Some(queue) = clusters.get_mut(&self.cluster) else { return };
        queue.asking = queue.asking.saturating_sub(1);
        self.turns.wake(queue);
    }
}

#[cfg(test)]
mod tests {
    use futures::channel::mpsc::{self, UnboundedReceiver};

    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    fn turns() -> (Arc<Turns>, UnboundedReceiver<ObjectRef<Tenant>>) {
        let (sender, receiver) = mpsc::unbounded();
        (Turns::new(sender), receiver)
    }

    fn cluster(name: &str) -> ClusterKey {
        ("apps".to_owned(), name.to_owned())
    }

    fn tenant(name: impl AsRef<str>) -> ObjectRef<Tenant> {
        ObjectRef::new(name.as_ref()).within("apps")
    }

    fn taken(turn: Turn) -> Pass {
        match turn {
            Turn::Taken(pass) => pass,
            Turn::Waits(_) | Turn::Closed(..) => panic!("no turn"),
        }
    }

    #[test]
    fn a_cluster_that_is_busy_keeps_no_other_waiting_and_its_own_come_in_order() {
        let (turns, mut triggers) = turns();
        let now = Instant::now();
        let slow = cluster("slow");
        let mut passes: Vec<Pass> = (0..AT_A_TIME)
            .map(|number| taken(turns.take(&slow, tenant(number.to_string()), now)))
            .collect();
        for name in ["x", "y", "x"] {
            assert!(matches!(turns.take(&slow, tenant(name), now), Turn::Waits(_)));
        }
        let _other = taken(turns.take(&cluster("other"), tenant("z"), now));
        assert!(triggers.try_recv().is_err(), "nobody's turn has come");
        passes.pop();
        assert_eq!(triggers.try_recv().unwrap(), tenant("x"));
        assert!(triggers.try_recv().is_err(), "one turn ended");
        drop(passes);
        assert_eq!(triggers.try_recv().unwrap(), tenant("y"));
        assert!(triggers.try_recv().is_err(), "each name once");
    }

    #[test]
    fn after_a_failure_one_asks_for_all_and_an_answer_lets_all_ask() {
        let (turns, mut triggers) = turns();
        let begun = Instant::now();
        let lost = cluster("lost");
        let _pass = taken(turns.take(&lost, tenant("a"), begun));
        assert_eq!(turns.asked_in_vain(&lost, "no quorum", begun), SECOND);
        // One failure may be a blip: what was said of the others stands.
        assert!(matches!(turns.take(&lost, tenant("b"), begun), Turn::Waits(_)));
        drop(_pass);
        let later = begun + SECOND;
        let pass = taken(turns.take(&lost, tenant("a"), later));
        assert!(matches!(turns.take(&lost, tenant("b"), later), Turn::Waits(_)), "one asks for all");
        assert_eq!(turns.asked_in_vain(&lost, "no quorum", later), 2 * SECOND);
        drop(pass);
        while triggers.try_recv().is_ok() {}
        let Turn::Closed(why, again) = turns.take(&lost, tenant("b"), later) else {
            panic!("two failures in a row are told");
        };
        assert_eq!((why.as_str(), again), ("no quorum", 2 * SECOND));
        let later = later + 2 * SECOND;
        let _pass = taken(turns.take(&lost, tenant("a"), later));
        assert!(matches!(turns.take(&lost, tenant("b"), later), Turn::Waits(_)));
        turns.answered(&lost);
        assert_eq!(triggers.try_recv().unwrap(), tenant("b"));
        let _second = taken(turns.take(&lost, tenant("b"), later));
    }

    #[test]
    fn those_that_fail_together_count_once() {
        let (turns, _triggers) = turns();
        let now = Instant::now();
        let lost = cluster("lost");
        for _ in 0..AT_A_TIME {
            turns.asked_in_vain(&lost, "no quorum", now);
        }
        let _pass = taken(turns.take(&lost, tenant("a"), now + SECOND));
    }

    #[test]
    fn a_cluster_that_goes_leaves_nobody_waiting() {
        let (turns, mut triggers) = turns();
        let now = Instant::now();
        let gone = cluster("gone");
        let passes: Vec<Pass> = (0..AT_A_TIME)
            .map(|number| taken(turns.take(&gone, tenant(number.to_string()), now)))
            .collect();
        assert!(matches!(turns.take(&gone, tenant("x"), now), Turn::Waits(_)));
        turns.forget(&gone);
        assert_eq!(triggers.try_recv().unwrap(), tenant("x"));
        drop(passes);
        turns.forget(&gone);
        assert!(turns.lock().is_empty(), "nothing is kept of it");
    }
}
