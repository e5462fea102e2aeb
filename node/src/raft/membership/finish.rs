//! Finishing what a lost leader had begun. In: the membership, on the leader. Out: one configuration where there were two. Absent:
//! learners that were to replace somebody: they stay, and harm nobody, until the replacement is asked for again.

use std::{collections::BTreeSet, sync::Arc};

use openraft::{ChangeMembers, async_runtime::watch::WatchReceiver as _};

use crate::raft::Inner;

impl Inner {
    /// Until openraft stops: whenever this member leads, two configurations hold and no change of its own is under way, goes on to the
    /// second of them.
    pub(in crate::raft) async fn finish_changes(self: Arc<Self>) {
        let mut metrics = self.raft.metrics();
        loop {
            let half_done = {
                let now = metrics.borrow_and_update();
                now.membership_config.get_joint_config().len() > 1
                    && now.membership_config.log_id() == now.committed_membership_config.log_id()
            };
            if half_done && self.leadership.borrow().own && self.changes.running().is_none() {
                tracing::info!("finishing the change of members that another leader has begun");
                // A change of nothing: openraft leaves the first configuration.
                let nothing = ChangeMembers::AddVoterIds(BTreeSet::new());
                if let Err(error) = self.raft.change_membership(nothing, false).await {
                    tracing::info!(%error, "the change of members could not be finished; trying again");
                }
            }
            if metrics.changed().await.is_err() {
                return;
            }
        }
    }
}
