//! The operator of kvfleet: reconciles `KvCluster` and `Tenant`.
//!
//! In: the configuration and the API server's objects. Out: objects, formed groups, placed tenants, honest status. [`cluster`] and [`tenant`]
//! are the two controllers; [`lease`] makes one replica the active one. Absent: the data path, which goes on without an operator.

pub mod apply;
pub mod caches;
pub mod certificates;
pub mod cluster;
pub mod config;
pub mod context;
pub mod error;
pub mod hash;
pub mod health;
pub mod lease;
pub mod lift_finalizers;
pub mod logging;
pub mod recorder;
pub mod tenant;
pub mod token;
pub mod watchdog;

use std::{sync::Arc, time::Instant};

use crate::{
    caches::{Caches, Scope},
    config::Config,
    context::Context,
    health::Readiness,
    lease::{Holder, LeaseError},
    watchdog::Watchdog,
};

/// Why the operator ended.
#[derive(Debug, thiserror::Error)]
pub enum RunError {
    /// There is no way to the API server.
    #[error("no client for the API server can be made: run in a pod, or set KUBECONFIG")]
    Client(#[source] Box<kube::Error>),
    /// The health port is taken.
    #[error("cannot listen on {address} (--health-listen): choose another port")]
    Listen {
        /// Where.
        address: std::net::SocketAddr,
        /// Why not.
        source: std::io::Error,
    },
    /// Another replica is or may be active.
    #[error(transparent)]
    Lease(#[from] LeaseError),
    /// A controller ended by itself.
    #[error("the watches of the API server ended: start again")]
    Ended,
}

/// Runs the operator until `shutdown` resolves, or something ends it.
///
/// # Errors
/// [`RunError`]
pub async fn run(config: Config, kubernetes: kube::Config, shutdown: impl Future<Output = ()>) -> Result<(), RunError> {
    let listener = tokio::net::TcpListener::bind(config.health_listen)
        .await
        .map_err(|source| RunError::Listen {
            address: config.health_listen,
            source,
        })?;
    let readiness = Readiness::default();
    let watchdog = Watchdog::default();
    let health = tokio::spawn(health::serve(listener, readiness.clone(), watchdog.clone()));
    let client = |error| RunError::Client(Box::new(error));
    let plain = kube::Client::try_from(kubernetes.clone()).map_err(client)?;
    let mut holder = Holder::new(plain.clone(), &config.namespace, &config.lease_name, &config.pod_name);
    let guard = holder.guard();
    let guarded = guard.guarded_client(kubernetes).map_err(client)?;
    tokio::pin!(shutdown);

    let acquired = tokio::select! {
        () = holder.acquire(|| readiness.set()) => true,
        () = &mut shutdown => false,
    };
    if !acquired {
        health.abort();
        return Ok(());
    }
    tracing::info!(lease = config.lease_name, "active");
    watchdog.activate(Instant::now());
    let (caches, filling, feeds) = Caches::new(&plain, Scope::of(&config.watch_namespaces));
    let context = Arc::new(Context::new(guarded, config, guard, caches, watchdog.clone()));
    let result = tokio::select! {
        error = holder.keep() => Err(RunError::Lease(error)),
        () = cluster::run(Arc::clone(&context), feeds, filling) => Err(RunError::Ended),
        () = tenant::run(context) => Err(RunError::Ended),
        () = watchdog.run() => Err(RunError::Ended),
        () = &mut shutdown => Ok(()),
    };
    holder.release().await;
    health.abort();
    result
}
