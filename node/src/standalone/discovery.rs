//! Whom to ask. In: the settings, and what the data directory remembers. Out: addresses of peer ports. Absent: trust in any of them; a
//! certificate of the cluster and the leader's word are what counts.

use std::{path::Path, time::Duration};

use crate::{
    config::{Config, Mode},
    data_dir,
};

/// How long a name may take to be resolved.
const RESOLVE: Duration = Duration::from_secs(5);

/// The peer ports of the other members, the remembered ones first: they are the newest word.
pub async fn peers(config: &Config, directory: &Path) -> Vec<String> {
    let path = directory.to_owned();
    let remembered = tokio::task::spawn_blocking(move || data_dir::known_members(&path))
        .await
        .unwrap_or_default();
    let Mode::Cluster { standalone, discover, .. } = &config.mode else {
        return Vec::new();
    };
    let own = config.addresses.peer.as_ref().map(|peer| peer.advertise.as_str());
    let mut addresses: Vec<String> = Vec::new();
    let listed = standalone.members.iter().map(|member| member.peer.clone());
    let resolved = match discover {
        Some(name) => resolve(name).await,
        None => Vec::new(),
    };
    for address in remembered.into_iter().map(|member| member.peer).chain(listed).chain(resolved) {
        if own != Some(address.as_str()) && !addresses.contains(&address) {
            addresses.push(address);
        }
    }
    addresses
}

/// Every address of a name, as `ip:port`. A name that cannot be resolved now may be later.
async fn resolve(name: &str) -> Vec<String> {
    match tokio::time::timeout(RESOLVE, tokio::net::lookup_host(name)).await {
        Ok(Ok(addresses)) => addresses.map(|address| address.to_string()).collect(),
        Ok(Err(error)) => {
            tracing::warn!(name, %error, "the name of --discover cannot be resolved");
            Vec::new()
        }
        Err(_) => {
            tracing::warn!(name, "the name of --discover was not resolved within {RESOLVE:?}");
            Vec::new()
        }
    }
}
