//! Finding out that the group goes on without this member. In: a member that hears no leader. Out: the word of somebody it knows (`raft`
//! asks them), or of the leader, wherever discovery finds it, that its id has left the group. Absent: what follows; the id is never used
//! again, and the directory becomes a new member's.

use std::time::Duration;

use super::{draining, error::LifecycleError, signals::Signals, starting::Open};
use crate::{
    data_dir::{self, Cause, Successor},
    raft::{self, ReleaseAnswer, ReleaseRequest},
    standalone::discovery,
};

/// Between two questions.
const PAUSE: Duration = Duration::from_secs(5);
/// A member that has heard its leader is not asked for so long: on Kubernetes a removed member's pod goes before.
const SILENCE: Duration = Duration::from_secs(60);

/// Resolves when this member knows that it has left the group.
pub(super) async fn removed(open: &Open) {
    if open.role.alone {
        std::future::pending::<()>().await;
    }
    tokio::select! {
        () = open.group.removed() => {}
        () = told_by_the_leader(open) => {}
    }
}

/// For a member whose companions have other addresses by now than its log says.
async fn told_by_the_leader(open: &Open) {
    let request = ReleaseRequest {
        old: Some(open.data_dir.identity().member),
        name: open.name.clone(),
        only_ask: true,
    };
    loop {
        tokio::time::sleep(PAUSE).await;
        let status = open.group.status();
        let silent = status.last_heartbeat_age.is_none_or(|age| age >= SILENCE);
        if !silent {
            continue;
        }
        let addresses = discovery::peers(&open.config, open.data_dir.path()).await;
        let answer = raft::release(&open.transport, &addresses, &request, open.config.raft.election_timeout).await;
        if let Ok(ReleaseAnswer::Left) = answer {
            tracing::warn!("this member was removed from its group while it was away");
            return;
        }
    }
}

/// Closes the member, puts what it holds aside, and leaves a blank directory with a new id.
pub(super) async fn put_aside(open: Open, signals: &Signals) -> Result<(), LifecycleError> {
    let identity = open.data_dir.identity();
    let successor = Successor {
        cluster: identity.cluster,
        shard: identity.shard,
        replaces: None,
    };
    let lock = draining::close(open, signals).await?;
    let made = tokio::task::spawn_blocking(move || data_dir::put_aside(&lock, Cause::Removed, successor)).await??;
    tracing::warn!(
        member = made.member,
        "the data of the removed member is put aside; starting as a new one"
    );
    Ok(())
}
