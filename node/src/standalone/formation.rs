//! Forms the group of bare processes, on the one with `--bootstrap`: once, and only when every listed member says that it is blank.

use std::time::Duration;

use kvfleet_api::admin::MemberAddress;
use tokio::time::Instant;

use crate::{config::Peer, peer::Transport, raft::Group};

/// How long one member may take to answer.
const PATIENCE: Duration = Duration::from_secs(2);
/// Between two rounds of asking: the others may be started by hand, minutes later.
const PAUSE: Duration = Duration::from_millis(250);

/// What one round of asking found.
enum Found {
    /// All of them, blank.
    All(Vec<MemberAddress>),
    /// Somebody has not answered yet.
    Missing(String),
    /// Somebody is part of a group: this blank directory is no place to form another one.
    Formed(String),
}

/// Resolves when the group is formed, or when this member must not form it (which it logs).
pub async fn form(group: &Group, transport: &Transport, itself: &MemberAddress, members: &[Peer]) {
    let mut told = None;
    loop {
        match ask(transport, itself, members).await {
            Found::All(voters) => match group.initialize(voters).await {
                Ok(()) => {
                    tracing::info!(members = members.len(), "the group is formed");
                    return;
                }
                Err(error) => tracing::warn!(%error, "the group could not be formed; trying again"),
            },
            Found::Formed(name) => {
                tracing::error!(
                    name,
                    "a listed member already belongs to a group, and this one's data directory is empty: not forming another group; \
                     restore this member's directory, or start all members with empty ones"
                );
                return;
            }
            Found::Missing(name) => {
                if told.as_ref() != Some(&name) {
                    tracing::info!(name, "waiting for a listed member to answer");
                }
                told = Some(name);
            }
        }
        tokio::time::sleep(PAUSE).await;
    }
}

async fn ask(transport: &Transport, itself: &MemberAddress, members: &[Peer]) -> Found {
    let mut voters = Vec::with_capacity(members.len());
    for Peer { name, peer } in members {
        if *name == itself.name {
            voters.push(MemberAddress {
                peer: peer.clone(),
                ..itself.clone()
            });
            continue;
        }
        match transport.identify(peer, Instant::now() + PATIENCE).await {
            Ok(found) if !found.blank => return Found::Formed(name.clone()),
            Ok(found) => voters.push(MemberAddress {
                id: found.id,
                name: name.clone(),
                peer: peer.clone(),
                voter: true,
            }),
            Err(error) => {
                tracing::debug!(name, %error, "a listed member does not answer");
                return Found::Missing(name.clone());
            }
        }
    }
    Found::All(voters)
}
