//! The members of a Tenant's cluster: whom to ask, and in which order.
//!
//! In: the pods and the operator's certificate. Out: the first answer that settles a question, and what every member has applied. Any member
//! may be asked anything, so a question moves on from one that cannot be reached. Absent: what to ask.

use std::{collections::HashMap, net::SocketAddr};

use futures::future;
use kvfleet_api::admin::MemberReport;
use kvfleet_client::admin::{self, AdminClient};
use kvfleet_crds::KvCluster;

use crate::context::{Context, Error, MemberPort};

/// The members of one cluster.
#[derive(Clone, Debug)]
pub struct Members {
    client: AdminClient,
    ports: Vec<MemberPort>,
}

impl Members {
    /// Those that have an address now.
    ///
    /// # Errors
    /// [`Error::Waits`] when there are none; those of [`Context::admin_for`].
    pub async fn of(context: &Context, namespace: &str, name: &str, cluster: &KvCluster) -> Result<Self, Error> {
        let (client, mut ports) = context.admin_for(namespace, name).await?;
        if ports.is_empty() {
            return Err(Error::Waits(format!("no pod of the KvCluster {name} has an address yet")));
        }
        let primary = cluster
            .status
            .iter()
            .flat_map(|status| &status.shards)
            .find_map(|shard| shard.primary.as_deref());
        sort(&mut ports, primary);
        Ok(Members { client, ports })
    }

    /// Asks one member after the other until the question is settled.
    ///
    /// # Errors
    /// [`Error::Member`] with what the last one said.
    pub async fn ask<T, F, A>(&self, what: &str, question: F) -> Result<T, Error>
    where
        F: Fn(AdminClient, SocketAddr) -> A,
        A: Future<Output = Result<T, admin::Error>>,
    {
        let mut last = Error::Waits("no pod has an address yet".to_owned());
        for (pod, address, _) in &self.ports {
            match question(self.client.clone(), *address).await {
                Ok(answer) => return Ok(answer),
                Err(error) => {
                    let is_settled = !error.is_retryable();
                    last = Error::member(format!("{what} at {pod}"))(error);
                    if is_settled {
                        return Err(last);
                    }
                }
            }
        }
        Err(last)
    }

    /// The names of the members that have not applied `revision` yet, or do not answer. None: it is in force everywhere.
    pub async fn behind(&self, revision: u64) -> Vec<String> {
        let answers = self
            .ports
            .iter()
            .map(async |(_, address, _)| self.client.members(*address).await.ok());
        let reports: Vec<MemberReport> = future::join_all(answers).await.into_iter().flatten().collect();
        behind(&reports, revision)
    }
}

/// The primary first, which saves a forwarding, then the ready ones.
fn sort(ports: &mut [MemberPort], primary: Option<&str>) {
    ports.sort_by_key(|(pod, _, ready)| (Some(pod.as_str()) != primary, !ready));
}

/// The members are those that the most advanced report names: one that lags may know an older group.
fn behind(reports: &[MemberReport], revision: u64) -> Vec<String> {
    let applied: HashMap<u64, u64> = reports.iter().map(|report| (report.id, report.applied_revision)).collect();
    let Some(newest) = reports.iter().max_by_key(|report| report.applied_index) else {
        return vec!["every member".to_owned()];
    };
    if newest.members.is_empty() {
        return vec![newest.name.clone()];
    }
    newest
        .members
        .iter()
        // A learner answers nobody.
        .filter(|member| member.voter && applied.get(&member.id).is_none_or(|applied| *applied < revision))
        .map(|member| member.name.clone())
        .collect()
}

#[cfg(test)]
mod tests {
    use kvfleet_api::admin::{MemberStanding, MemberState, Role};

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
            storage_used: 0,
            tenants: 0,
        }
    }

    #[test]
    fn a_configuration_is_in_force_only_when_every_member_has_it() {
        let group = [0, 1, 2];
        for (reports, expected) in [
            (vec![report(0, 7, &group), report(1, 8, &group), report(2, 7, &group)], vec![]),
            (
                vec![report(0, 7, &group), report(1, 6, &group), report(2, 7, &group)],
                vec!["prod-s0-1"],
            ),
            (vec![report(0, 7, &group), report(2, 7, &group)], vec!["prod-s0-1"]),
            // One that lags knows only itself; one that is blank nobody.
            (
                vec![report(0, 3, &[0]), report(1, 7, &group), report(2, 7, &group)],
                vec!["prod-s0-0"],
            ),
            (vec![report(0, 0, &[])], vec!["prod-s0-0"]),
            (vec![], vec!["every member"]),
        ] {
            assert_eq!(behind(&reports, 7), expected);
        }
    }

    #[test]
    fn the_primary_is_asked_first_and_who_is_not_ready_last() {
        let port = |pod: &str, ready| (pod.to_owned(), SocketAddr::from(([10, 0, 0, 1], 9443)), ready);
        let mut ports = vec![port("a", false), port("b", true), port("c", true)];
        sort(&mut ports, Some("c"));
        assert_eq!(ports.iter().map(|(pod, ..)| pod.as_str()).collect::<Vec<_>>(), ["c", "b", "a"]);
    }
}
