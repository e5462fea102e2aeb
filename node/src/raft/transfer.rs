//! Handing leadership over. In: a deadline. Out: another member leads. Absent: who should lead (any voter that has everything will do).

use openraft::{Instant as _, RaftMetrics, async_runtime::watch::WatchReceiver as _};
use tokio::time::Instant;

use super::{Group, Inner, TransferError, types::Types};

impl Group {
    /// Hands leadership to a voter that has stored the last entry and answered recently, and returns when this member knows another
    /// leader. If this member does not lead it returns as soon as it knows one.
    ///
    /// openraft stops proposing and heartbeating when it starts, and cannot stop halfway: a target that is cut off at that very moment
    /// costs an election.
    ///
    /// # Errors
    /// [`TransferError`].
    pub async fn transfer_leadership(&self, deadline: Instant) -> Result<(), TransferError> {
        self.inner.transfer(deadline, |_| true).await
    }
}

impl Inner {
    /// As [`Group::transfer_leadership`], to a voter that is `eligible`.
    pub(super) async fn transfer(&self, deadline: Instant, eligible: impl Fn(u64) -> bool) -> Result<(), TransferError> {
        let mut metrics = self.raft.metrics();
        let mut asked: Option<(u64, Instant)> = None;
        loop {
            let target = {
                let now = metrics.borrow_and_update();
                if let Err(fatal) = &now.running_state {
                    return Err(TransferError::Failed(fatal.to_string()));
                }
                match now.current_leader {
                    Some(leader) if leader != self.settings.id => return Ok(()),
                    Some(_) if now.membership_config.voter_ids().count() <= 1 => return Err(TransferError::Alone),
                    Some(_) => self.successor(&now, &eligible),
                    None => None,
                }
            };
            // Asked once, a target has the time of an election; after that, another one (or the same one again) is asked.
            let now = Instant::now();
            asked = asked.filter(|(_, until)| now < *until);
            if let Some(target) = target.filter(|_| asked.is_none()) {
                tracing::info!(target = format_args!("{target:x}"), "handing leadership over");
                self.raft
                    .trigger()
                    .transfer_leader(target)
                    .await
                    .map_err(|fatal| TransferError::Failed(fatal.to_string()))?;
                asked = Some((target, now + self.settings.election_timeout));
            }
            // With nobody to ask, only news can change that.
            let until = asked.map_or(deadline, |(_, until)| until.min(deadline));
            match tokio::time::timeout_at(until, metrics.changed()).await {
                Ok(Ok(())) => {}
                Ok(Err(_)) => return Err(TransferError::Failed("consensus has stopped".to_owned())),
                Err(_) if Instant::now() >= deadline => return Err(TransferError::Deadline),
                Err(_) => {}
            }
        }
    }

    /// The voter that answered last among those that have the last entry and have answered within two heartbeats.
    fn successor(&self, metrics: &RaftMetrics<Types>, eligible: impl Fn(u64) -> bool) -> Option<u64> {
        let matched = metrics.replication.as_ref()?;
        let heard = metrics.heartbeat.as_ref()?;
        let fresh = 2 * self.settings.heartbeat_interval;
        let candidates = metrics
            .membership_config
            .voter_ids()
            .filter(|id| *id != self.settings.id && eligible(*id))
            .filter_map(|id| {
                let complete = matched.get(&id)?.as_ref().map(|matched| matched.index) >= metrics.last_log_index;
                let age = heard.get(&id)?.as_ref()?.elapsed();
                (complete && age <= fresh).then_some((age, id))
            });
        candidates.min().map(|(_, id)| id)
    }
}
