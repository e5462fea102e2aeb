//! Whom to ask. In: the settings, and what the data directory remembers. Out: addresses of peer ports. Absent: trust in any of them; a
//! certificate of the cluster and the leader's word are what counts.

use std::path::Path;

use crate::{
    config::{Config, Mode},
    data_dir,
};

/// The peer ports of the other members, the remembered ones first: they are the newest word.
pub async fn peers(config: &Config, directory: &Path) -> Vec<String> {
    let path = directory.to_owned();
    let remembered = tokio::task::spawn_blocking(move || data_dir::known_members(&path))
        .await
        .unwrap_or_default();
    let Mode::Cluster { standalone, .. } = &config.mode else {
        return Vec::new();
    };
    let own = config.addresses.peer.as_ref().map(|peer| peer.advertise.as_str());
    let mut addresses: Vec<String> = Vec::new();
    let listed = standalone.members.iter().map(|member| member.peer.clone());
    for address in remembered.into_iter().map(|member| member.peer).chain(listed) {
        if own != Some(address.as_str()) && !addresses.contains(&address) {
            addresses.push(address);
        }
    }
    addresses
}
