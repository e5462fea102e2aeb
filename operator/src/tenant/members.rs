//! The members of a Tenant's cluster: whom to ask, and in which order.
//!
//! In: the pods and the operator's certificate. Out: the first answer that settles a question, and what every member says of itself. Any member
//! may be asked anything, so a question moves on from one that cannot be reached. Absent: what to ask.

use std::{
    net::SocketAddr,
    time::{Duration, Instant},
};

use futures::future;
use kvfleet_api::admin::MemberReport;
use kvfleet_client::admin::{self, AdminClient};
use kvfleet_crds::KvCluster;

use crate::context::{Context, Error, MemberPort};

/// A member that is alive says within this what it has applied; one that is not must not hold up the others' answers.
const ANSWER: Duration = Duration::from_secs(1);
/// Past this no further member is asked one question: each may take some seconds to say that there is no leader.
const ENOUGH: Duration = Duration::from_secs(10);

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
        let begun = Instant::now();
        let mut last = Error::Waits("no pod has an address yet".to_owned());
        for (pod, address, _) in &self.ports {
            match question(self.client.clone(), *address).await {
                Ok(answer) => return Ok(answer),
                Err(error) => {
                    let is_settled = !error.is_retryable();
                    last = Error::member(format!("{what} at {pod}"))(error);
                    if is_settled || begun.elapsed() >= ENOUGH {
                        return Err(last);
                    }
                }
            }
        }
        Err(last)
    }

    /// What each member says of itself, of those that answer in time.
    pub async fn reports(&self) -> Vec<MemberReport> {
        let answers = self.ports.iter().map(async |(_, address, _)| {
            let answer = tokio::time::timeout(ANSWER, self.client.members(*address)).await;
            answer.ok()?.ok()
        });
        future::join_all(answers).await.into_iter().flatten().collect()
    }
}

/// The primary first, which saves a forwarding, then the ready ones.
fn sort(ports: &mut [MemberPort], primary: Option<&str>) {
    ports.sort_by_key(|(pod, _, ready)| (Some(pod.as_str()) != primary, !ready));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_primary_is_asked_first_and_who_is_not_ready_last() {
        let port = |pod: &str, ready| (pod.to_owned(), SocketAddr::from(([10, 0, 0, 1], 9443)), ready);
        let mut ports = vec![port("a", false), port("b", true), port("c", true)];
        sort(&mut ports, Some("c"));
        assert_eq!(ports.iter().map(|(pod, ..)| pod.as_str()).collect::<Vec<_>>(), ["c", "b", "a"]);
    }
}
