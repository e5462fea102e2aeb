//! Which replica of the operator is active: a Lease of `coordination.k8s.io`, held by one replica at a time.
//!
//! In: a client and the Lease's name. Out: a [`LeaseGuard`] that every writing request asks, and the end of the process when the Lease is
//! lost. Clocks of different machines are never compared: a standby takes over when it has seen the Lease unchanged for its whole duration by
//! its own monotonic clock. Absent: any watch, for which the chart gives no right; a standby reads the Lease every second.

use std::{
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant},
};

use k8s_openapi::{
    api::coordination::v1::{Lease, LeaseSpec},
    apimachinery::pkg::apis::meta::v1::{MicroTime, ObjectMeta},
    jiff::Timestamp,
};
use kube::{
    Api, Client,
    api::PostParams,
    client::{Body, ClientBuilder},
};
use tower::filter::FilterLayer;

/// How long a standby waits before it takes an unchanged Lease.
const DURATION: Duration = Duration::from_secs(15);
/// How long after the beginning of its last renewal the holder may write: shorter than [`DURATION`], so that a request that was let
/// through has ended before a standby begins.
const WRITABLE: Duration = Duration::from_secs(10);
/// How often the holder renews.
const RENEW: Duration = Duration::from_secs(3);
/// How often a standby looks, and the holder tries again after a failed renewal.
const RETRY: Duration = Duration::from_secs(1);

/// Until when this replica may write.
#[derive(Clone, Debug, Default)]
pub struct LeaseGuard {
    until: Arc<Mutex<Option<Instant>>>,
}

/// A request was stopped because another replica may be active.
#[derive(Debug, thiserror::Error)]
#[error("the operator's lease is not held: another replica may be active")]
pub struct NotHeld;

/// Why the Lease is held no longer.
#[derive(Debug, thiserror::Error)]
pub enum LeaseError {
    /// Another replica has it.
    #[error("the lease {name} was taken by {holder}")]
    Taken {
        /// The Lease.
        name: String,
        /// Who holds it.
        holder: String,
    },
    /// It could not be renewed in time.
    #[error("the lease {name} could not be renewed for {} s", WRITABLE.as_secs())]
    Expired {
        /// The Lease.
        name: String,
    },
}

impl LeaseGuard {
    /// Whether this replica may write now.
    ///
    /// # Errors
    /// [`NotHeld`]
    pub fn check(&self) -> Result<(), NotHeld> {
        match *self.lock() {
            Some(until) if Instant::now() < until => Ok(()),
            _ => Err(NotHeld),
        }
    }

    /// A client whose writing requests are stopped while the Lease is not held.
    ///
    /// # Errors
    /// When the configuration makes no client.
    pub fn guarded_client(&self, config: kube::Config) -> Result<Client, kube::Error> {
        let guard = self.clone();
        let layer = FilterLayer::new(move |request: hyper::Request<Body>| {
            if !request.method().is_safe() {
                guard.check()?;
            }
            Ok::<_, NotHeld>(request)
        });
        Ok(ClientBuilder::try_from(config)?.with_layer(&layer).build())
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Option<Instant>> {
        self.until.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The Lease, seen from one replica.
pub struct Holder {
    api: Api<Lease>,
    name: String,
    identity: String,
    guard: LeaseGuard,
    /// The version last seen, and since when.
    seen: Option<(String, Instant)>,
}

impl Holder {
    /// For the replica `identity`. `client` must not be guarded.
    #[must_use]
    pub fn new(client: Client, namespace: &str, name: &str, identity: &str) -> Self {
        Holder {
            api: Api::namespaced(client, namespace),
            name: name.to_owned(),
            identity: identity.to_owned(),
            guard: LeaseGuard::default(),
            seen: None,
        }
    }

    /// What writers ask.
    #[must_use]
    pub fn guard(&self) -> LeaseGuard {
        self.guard.clone()
    }

    /// Resolves when the Lease is held: at once when nobody has it. Calls `answered` whenever the API server has answered.
    pub async fn acquire(&mut self, answered: impl Fn()) {
        let mut told = false;
        loop {
            match self.attempt().await {
                Ok(None) => {
                    answered();
                    return;
                }
                Ok(Some(holder)) => {
                    answered();
                    if !told {
                        tracing::info!(lease = self.name, holder, "standing by");
                    }
                    told = true;
                }
                Err(error) => tracing::warn!(lease = self.name, error = %crate::error::chain(&error), "cannot read the lease"),
            }
            tokio::time::sleep(RETRY).await;
        }
    }

    /// Renews until the Lease is lost.
    pub async fn keep(&mut self) -> LeaseError {
        loop {
            tokio::time::sleep(RENEW).await;
            loop {
                let remaining = self
                    .guard
                    .lock()
                    .map_or(Duration::ZERO, |until| until.saturating_duration_since(Instant::now()));
                match tokio::time::timeout(remaining, self.attempt()).await {
                    Ok(Ok(None)) => break,
                    Ok(Ok(Some(holder))) => {
                        *self.guard.lock() = None;
                        return LeaseError::Taken {
                            name: self.name.clone(),
                            holder,
                        };
                    }
                    Ok(Err(error)) => {
                        tracing::warn!(lease = self.name, error = %crate::error::chain(&error), "cannot renew the lease");
                        tokio::time::sleep(RETRY.min(remaining)).await;
                    }
                    Err(_) => return LeaseError::Expired { name: self.name.clone() },
                }
            }
        }
    }

    /// Gives the Lease up, so that a standby takes it within a second. From here on nothing is written.
    pub async fn release(&mut self) {
        *self.guard.lock() = None;
        let released = async {
            let mut lease = self.api.get(&self.name).await?;
            let spec = lease.spec.get_or_insert_default();
            if spec.holder_identity.as_deref() == Some(self.identity.as_str()) {
                spec.holder_identity = Some(String::new());
                self.api.replace(&self.name, &PostParams::default(), &lease).await?;
            }
            Ok::<_, kube::Error>(())
        };
        if let Err(error) = released.await {
            tracing::warn!(lease = self.name, error = %crate::error::chain(&error), "cannot release the lease: a standby waits until it runs out");
        }
    }

    /// Takes or renews the Lease; otherwise says who has it.
    async fn attempt(&mut self) -> Result<Option<String>, kube::Error> {
        // Counted from before the request: the API server may have stored the renewal long before its answer came.
        let begun = Instant::now();
        let now = MicroTime(Timestamp::now());
        let Some(mut lease) = self.api.get_opt(&self.name).await? else {
            let lease = Lease {
                metadata: ObjectMeta {
                    name: Some(self.name.clone()),
                    ..ObjectMeta::default()
                },
                spec: Some(self.spec(now.clone(), now, 0)),
            };
            return match self.api.create(&PostParams::default(), &lease).await {
                Ok(_) => Ok(self.held_since(begun)),
                Err(kube::Error::Api(status)) if status.code == 409 => Ok(Some("another replica".to_owned())),
                Err(error) => Err(error),
            };
        };
        let old = lease.spec.take().unwrap_or_default();
        let holder = old.holder_identity.clone().unwrap_or_default();
        let version = lease.metadata.resource_version.clone().unwrap_or_default();
        let mine = holder == self.identity;
        if !mine && !holder.is_empty() {
            let since = match &self.seen {
                Some((seen, since)) if *seen == version => *since,
                _ => begun,
            };
            self.seen = Some((version, since));
            if begun.duration_since(since) < DURATION {
                return Ok(Some(holder));
            }
        }
        let transitions = old.lease_transitions.unwrap_or_default();
        lease.spec = Some(match (mine, old.acquire_time) {
            (true, Some(acquired)) => self.spec(acquired, now, transitions),
            _ => self.spec(now.clone(), now, transitions.saturating_add(1)),
        });
        // The version that was read goes along: of two replicas that try at once, one is refused.
        match self.api.replace(&self.name, &PostParams::default(), &lease).await {
            Ok(_) => Ok(self.held_since(begun)),
            Err(kube::Error::Api(status)) if status.code == 409 && !mine => Ok(Some("another replica".to_owned())),
            Err(error) => Err(error),
        }
    }

    fn held_since(&self, begun: Instant) -> Option<String> {
        *self.guard.lock() = Some(begun + WRITABLE);
        None
    }

    fn spec(&self, acquired: MicroTime, renewed: MicroTime, transitions: i32) -> LeaseSpec {
        LeaseSpec {
            holder_identity: Some(self.identity.clone()),
            lease_duration_seconds: i32::try_from(DURATION.as_secs()).ok(),
            acquire_time: Some(acquired),
            renew_time: Some(renewed),
            lease_transitions: Some(transitions),
            ..LeaseSpec::default()
        }
    }
}
