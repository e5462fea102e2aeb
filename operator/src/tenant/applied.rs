//! What every voter of a cluster has applied, asked once for all Tenants that want to know.
//!
//! In: the members. Out: a [`Picture`]. Of those that ask at the same time one asks the members and the others get its answer: at most one
//! question is under way for each cluster, and it serves everyone who came before it began. Absent: Kubernetes.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError},
    time::Instant,
};

use kvfleet_api::admin::MemberReport;

use super::desk::ClusterKey;

/// The pictures of all clusters, one each.
#[derive(Default)]
pub struct Pictures {
    clusters: Mutex<HashMap<ClusterKey, Arc<Slot>>>,
}

/// The last picture of a cluster, and when its question began. Held while the members are asked.
type Slot = tokio::sync::Mutex<Option<(Instant, Arc<Picture>)>>;

/// The voters as the most advanced report names them, and what each has applied. Some hundred bytes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Picture {
    voters: Vec<Voter>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
struct Voter {
    name: String,
    /// None when it did not answer.
    applied: Option<u64>,
}

impl Pictures {
    /// A picture that shows `revision` applied everywhere, however old it is, since logs do not go back; or else one whose question began no
    /// earlier than `since`. `ask` is called when there is none.
    pub async fn get<F>(&self, cluster: &ClusterKey, revision: u64, since: Instant, ask: impl FnOnce() -> F) -> Arc<Picture>
    where
        F: Future<Output = Vec<MemberReport>>,
    {
        let slot = {
            let mut clusters = self.clusters.lock().unwrap_or_else(PoisonError::into_inner);
            clusters.entry(cluster.clone()).or_default().clone()
        };
        let mut last = slot.lock().await;
        if let Some((begun, picture)) = &*last
            && (*begun >= since || picture.floor().is_some_and(|floor| floor >= revision))
        {
            return picture.clone();
        }
        let begun = Instant::now();
        let picture = Arc::new(Picture::of(&ask().await));
        *last = Some((begun, picture.clone()));
        picture
    }

    /// The cluster is gone or is another.
    pub fn forget(&self, cluster: &ClusterKey) {
        self.clusters.lock().unwrap_or_else(PoisonError::into_inner).remove(cluster);
    }
}

impl Picture {
    /// The voters are those that the most advanced report names: one that lags may know an older group. A learner answers nobody.
    fn of(reports: &[MemberReport]) -> Self {
        let applied: HashMap<u64, u64> = reports.iter().map(|report| (report.id, report.applied_revision)).collect();
        let newest = reports.iter().max_by_key(|report| report.applied_index);
        let named = newest.map(|newest| newest.members.as_slice()).unwrap_or_default();
        let voters = named.iter().filter(|member| member.voter).map(|member| Voter {
            name: member.name.clone(),
            applied: applied.get(&member.id).copied(),
        });
        Picture { voters: voters.collect() }
    }

    /// The voters that have not applied `revision`, or did not answer. None: it is in force everywhere.
    #[must_use]
    pub fn behind(&self, revision: u64) -> Vec<String> {
        if self.voters.is_empty() {
            return vec!["every member".to_owned()];
        }
        let behind = self
            .voters
            .iter()
            .filter(|voter| voter.applied.is_none_or(|applied| applied < revision));
        behind.map(|voter| voter.name.clone()).collect()
    }

    /// Up to which revision every voter has applied; none while one does not answer.
    #[must_use]
    pub fn floor(&self) -> Option<u64> {
        let applied: Option<Vec<u64>> = self.voters.iter().map(|voter| voter.applied).collect();
        applied?.into_iter().min()
    }

    /// Whether every voter answered, so that a short wait may show them all there.
    #[must_use]
    pub fn is_whole(&self) -> bool {
        self.floor().is_some()
    }
}

#[cfg(test)]
mod tests {
    use std::{
        sync::atomic::{AtomicUsize, Ordering},
        time::Duration,
    };

    use kvfleet_api::admin::{LevelRange, MemberStanding, MemberState, Role};

    use super::*;

    fn report(id: u64, applied_revision: u64, members: &[u64]) -> MemberReport {
        MemberReport {
            cluster_id: "c".to_owned(),
            shard: 0,
            id,
            name: format!("prod-s0-{id}"),
            version: "0".to_owned(),
            format: 1,
            state: MemberState::Member,
            reason: None,
            role: None,
            ready: true,
            term: 1,
            leader: None,
            last_log_index: Some(applied_revision),
            applied_index: Some(applied_revision),
            applied_revision,
            members: members
                .iter()
                .map(|id| MemberStanding {
                    id: *id,
                    name: format!("prod-s0-{id}"),
                    peer: String::new(),
                    voter: true,
                    role: Role::Follower,
                    lag: None,
                    lag_bytes: None,
                    caught_up: false,
                    heard_ms: None,
                })
                .collect(),
            change: None,
            level: Some(1),
            level_held_by: Vec::new(),
            supported_levels: LevelRange { lowest: 1, highest: 1 },
            storage_used: 0,
            tenants: 0,
        }
    }

    #[test]
    fn a_configuration_is_in_force_only_when_every_member_has_it() {
        let group = [0, 1, 2];
        for (reports, expected, floor) in [
            (
                vec![report(0, 7, &group), report(1, 8, &group), report(2, 7, &group)],
                vec![],
                Some(7),
            ),
            (
                vec![report(0, 7, &group), report(1, 6, &group), report(2, 7, &group)],
                vec!["prod-s0-1"],
                Some(6),
            ),
            (vec![report(0, 7, &group), report(2, 7, &group)], vec!["prod-s0-1"], None),
            // One that lags knows only itself; one that is blank nobody.
            (
                vec![report(0, 3, &[0]), report(1, 7, &group), report(2, 7, &group)],
                vec!["prod-s0-0"],
                Some(3),
            ),
            (vec![report(0, 0, &[])], vec!["every member"], None),
            (vec![], vec!["every member"], None),
        ] {
            let picture = Picture::of(&reports);
            assert_eq!(
                (picture.behind(7), picture.floor()),
                (expected.iter().map(ToString::to_string).collect(), floor)
            );
        }
    }

    /// Two hundred Tenants that want to know at once are two questions at most: that which is under way, and one that began after all came.
    #[tokio::test]
    async fn those_that_ask_together_are_one_question() {
        let pictures = Pictures::default();
        let cluster = ("apps".to_owned(), "prod".to_owned());
        let asked = AtomicUsize::new(0);
        let ask = || async {
            asked.fetch_add(1, Ordering::Relaxed);
            tokio::time::sleep(Duration::from_millis(20)).await;
            vec![report(0, 7, &[0])]
        };
        let all = (0..200).map(|_| pictures.get(&cluster, 9, Instant::now(), ask));
        let answers = futures::future::join_all(all).await;
        assert!(answers.iter().all(|picture| picture.behind(9) == ["prod-s0-0"]));
        assert!(asked.load(Ordering::Relaxed) <= 2, "{asked:?}");
        // What has been seen applied is not asked for again.
        let before = asked.load(Ordering::Relaxed);
        pictures.get(&cluster, 7, Instant::now(), ask).await;
        assert_eq!(asked.load(Ordering::Relaxed), before);
        pictures.get(&cluster, 8, Instant::now(), ask).await;
        assert_eq!(asked.load(Ordering::Relaxed), before + 1);
    }
}
