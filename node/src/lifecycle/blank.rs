//! Open, and not yet part of a group. On Kubernetes the operator forms it; a member alone forms its own; of bare processes the one with
//! `--bootstrap` does.

use kvfleet_api::admin::{MemberAddress, MemberState};

use super::{error::LifecycleError, signals::Signals, starting::Open};
use crate::standalone::formation;

/// How the state was left.
pub(super) enum Left {
    /// The member takes part in a group.
    Formed,
    /// The process was asked to end.
    Asked,
}

pub(super) async fn wait(open: &Open, signals: &Signals) -> Result<Left, LifecycleError> {
    let mut status = open.group.watch();
    let formed = async {
        // The sender lives in the group that we hold.
        let _ = status.wait_for(|status| status.state != MemberState::Blank).await;
    };
    tokio::select! {
        () = formed => Ok(Left::Formed),
        () = form(open) => Ok(Left::Formed),
        () = signals.end() => Ok(Left::Asked),
        error = open.failed() => Err(error),
    }
}

/// Forms the group where that is this member's part; never resolves where it is not.
async fn form(open: &Open) {
    let itself = MemberAddress {
        id: open.data_dir.identity().member,
        name: open.name.clone(),
        peer: open.peer_advertise.clone(),
        voter: true,
    };
    if open.role.alone {
        match open.group.initialize(vec![itself]).await {
            Ok(()) => return,
            Err(error) => tracing::error!(%error, "the group could not be formed"),
        }
    } else if open.role.standalone.bootstrap {
        formation::form(&open.group, &open.transport, &itself, &open.role.standalone.members).await;
        return;
    }
    std::future::pending().await
}
