//! What a fleet says of itself: who leads, who is ready, what each member holds.

use std::{
    collections::BTreeMap,
    time::{Duration, Instant},
};

use anyhow::{Context, Result};
use serde_json::Value;

use super::{Fleet, PATIENCE, TENANT};

/// A member that does not answer within this time is treated as one that cannot.
const QUESTION: Duration = Duration::from_millis(500);

/// A page of a thousand records.
const PAGE: Duration = Duration::from_secs(10);

/// How fresh a read is to be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Consistency {
    /// What that member has.
    Any,
    /// Everything that was acknowledged before.
    Linearizable,
}

/// What a member's metrics say.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Standing {
    /// Its term.
    pub term: u64,
    /// Whether it holds itself for the leader.
    pub leads: bool,
    /// Whether it is ready.
    pub ready: bool,
    /// Whether it has set itself apart because it cannot vouch for its data.
    pub quarantined: bool,
    /// The last log index on its disk.
    pub last_log_index: u64,
    /// The last applied log index.
    pub applied_index: u64,
    /// How often it has sent its whole state to another member.
    pub snapshots_sent: u64,
}

/// An HTTP client to be completed with timeouts. The data port speaks plain HTTP; rustls still wants a provider.
pub(super) fn builder() -> Result<reqwest::ClientBuilder> {
    let provider = std::sync::Arc::new(rustls::crypto::ring::default_provider());
    let tls = rustls::ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()?
        .with_root_certificates(rustls::RootCertStore::empty())
        .with_no_client_auth();
    Ok(reqwest::Client::builder()
        .tls_backend_preconfigured(tls)
        .no_proxy()
        .tcp_nodelay(true)
        .connect_timeout(Duration::from_secs(1)))
}

/// The client of the questions of this file.
pub(super) fn client() -> Result<reqwest::Client> {
    Ok(builder()?.timeout(QUESTION).build()?)
}

impl Fleet {
    /// What a member says of itself; none while it says nothing.
    pub async fn standing(&self, number: usize) -> Option<Standing> {
        let url = format!("http://{}:9090/metrics", self.network.address(number));
        let text = self.http.get(url).send().await.ok()?.text().await.ok()?;
        let figure = |name: &str| {
            let line = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
            line.and_then(|value| value.trim().parse::<u64>().ok()).unwrap_or(0)
        };
        Some(Standing {
            term: figure("kvfleet_raft_term"),
            leads: figure("kvfleet_raft_is_leader") == 1,
            ready: figure("kvfleet_ready") == 1,
            quarantined: figure("kvfleet_quarantined") == 1,
            last_log_index: figure("kvfleet_raft_last_log_index"),
            applied_index: figure("kvfleet_raft_applied_index"),
            snapshots_sent: figure("kvfleet_snapshots_sent_total"),
        })
    }

    /// The number of the leader of the highest term, if one is known now.
    pub async fn leader_now(&self) -> Option<usize> {
        let mut found = None;
        for number in 0..self.size() {
            if let Some(standing) = self.standing(number).await.filter(|standing| standing.leads) {
                found = found.max(Some((standing.term, number)));
            }
        }
        found.map(|(_, number)| number)
    }

    /// The number of the leader, as soon as there is one.
    ///
    /// # Errors
    /// When none comes.
    pub async fn leader(&self) -> Result<usize> {
        let begun = Instant::now();
        loop {
            if let Some(leader) = self.leader_now().await {
                return Ok(leader);
            }
            anyhow::ensure!(begun.elapsed() < PATIENCE, "no leader within {PATIENCE:?}");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    /// Waits until this member says that it is ready.
    ///
    /// # Errors
    /// When it ends, or is not ready in time.
    pub async fn ready(&mut self, number: usize) -> Result<Duration> {
        let begun = Instant::now();
        loop {
            if self.standing(number).await.is_some_and(|standing| standing.ready) {
                return Ok(begun.elapsed());
            }
            let member = self.member(number);
            let name = member.name.clone();
            if let Some(status) = member.process()?.ended()? {
                anyhow::bail!("member {name} ended with {status}");
            }
            anyhow::ensure!(begun.elapsed() < PATIENCE, "member {name} is not ready within {PATIENCE:?}");
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }

    /// Waits until every member is ready.
    ///
    /// # Errors
    /// When one is not, in time.
    pub async fn all_ready(&mut self) -> Result<()> {
        for number in 0..self.size() {
            self.ready(number).await?;
        }
        Ok(())
    }

    /// Waits until all members hold the same records under a prefix, and says how long that took. Nobody may write meanwhile.
    ///
    /// # Errors
    /// When they do not within `limit`: with the first difference.
    pub async fn converge(&self, prefix: &str, limit: Duration) -> Result<Duration> {
        let begun = Instant::now();
        loop {
            let difference = match self.difference(prefix).await {
                Ok(None) => return Ok(begun.elapsed()),
                Ok(Some(difference)) => difference,
                Err(error) => format!("{error:#}"),
            };
            anyhow::ensure!(begun.elapsed() < limit, "the members do not agree within {limit:?}: {difference}");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    async fn difference(&self, prefix: &str) -> Result<Option<String>> {
        let first = self.records(0, prefix, Consistency::Any).await?;
        for number in 1..self.size() {
            let other = self.records(number, prefix, Consistency::Any).await?;
            if first != other {
                let keys = first.keys().chain(other.keys());
                let differs = keys.into_iter().find(|key| first.get(*key) != other.get(*key));
                return Ok(differs.map(|key| {
                    let show = |records: &BTreeMap<String, Value>| records.get(key).map_or_else(|| "absent".to_owned(), Value::to_string);
                    format!("{key} is {} at member 0 and {} at member {number}", show(&first), show(&other))
                }));
            }
        }
        Ok(None)
    }

    /// The values and revisions of the records under a prefix, through one member.
    ///
    /// # Errors
    /// When it does not answer, or refuses.
    pub async fn values(&self, number: usize, prefix: &str, consistency: Consistency) -> Result<BTreeMap<String, (String, u64)>> {
        let records = self.records(number, prefix, consistency).await?;
        let value = |(key, item): (String, Value)| {
            let value = item.get("value").and_then(Value::as_str).context("an item without a value")?;
            let revision = item.get("revision").and_then(Value::as_u64).context("an item without a revision")?;
            Ok((key, (value.to_owned(), revision)))
        };
        records.into_iter().map(value).collect()
    }

    /// Every record under a prefix as a member shows it: value, revisions and times.
    ///
    /// # Errors
    /// When it does not answer, or refuses.
    pub async fn records(&self, number: usize, prefix: &str, consistency: Consistency) -> Result<BTreeMap<String, Value>> {
        let mut records = BTreeMap::new();
        let mut cursor = None::<String>;
        loop {
            let consistency = match consistency {
                Consistency::Any => "any",
                Consistency::Linearizable => "linearizable",
            };
            let mut query = vec![("consistency", consistency), ("limit", "1000"), ("prefix", prefix)];
            if let Some(cursor) = &cursor {
                query.push(("cursor", cursor));
            }
            let url = format!("http://{}/api/v1/tenants/{TENANT}/keys", self.data_port(number));
            let request = self.http.get(url).query(&query).bearer_auth(&self.token).timeout(PAGE);
            let page: Value = request.send().await?.error_for_status()?.json().await?;
            for item in page.get("items").and_then(Value::as_array).context("a page without items")? {
                let key = item.get("key").and_then(Value::as_str).context("an item without a key")?;
                records.insert(key.to_owned(), item.clone());
            }
            cursor = page.get("cursor").and_then(Value::as_str).map(str::to_owned);
            if cursor.is_none() {
                return Ok(records);
            }
        }
    }
}
