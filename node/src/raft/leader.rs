//! What only the leader does of its own accord: it has expired records swept and the rows of deleted tenants reaped, a bounded number per
//! log entry. In: the latest view. Out: commands, proposed like anybody's. Absent: which rows go (`state` decides).

use std::{sync::Arc, time::Duration};

use tokio::time::Instant;

use super::{Group, Inner};
use crate::state::{Command, Response, View};

/// Rows per command: more would hold up the commands behind it.
const LIMIT: u32 = 1000;
/// The shortest pause between two looks, so that many records that expire one by one cost few commands.
const SHORTEST: Duration = Duration::from_millis(50);
/// How long a command may take before it is left for the next look.
const PATIENCE: Duration = Duration::from_secs(5);

impl Inner {
    pub(super) async fn lead(self: Arc<Self>) {
        let group = Group { inner: Arc::clone(&self) };
        let mut leadership = self.leadership.subscribe();
        // The sender lives in `self`, so this ends only with the task.
        while leadership.wait_for(|now| now.own).await.is_ok() {
            let view = self.views.latest();
            let now_ms = self.transport.clock().local(view.stamp_ms());
            let longest = Duration::from_millis(view.settings().sweep_interval_ms).max(SHORTEST);
            let due = view.next_expiry_ms();
            let more = match work(&view, now_ms) {
                Some(command) => {
                    drop(view);
                    match group.propose(command, Instant::now() + PATIENCE).await {
                        Ok(Response::Swept { more, .. }) => more,
                        Ok(_) => false,
                        Err(error) => {
                            tracing::debug!(%error, "a sweep is left for later");
                            false
                        }
                    }
                }
                None => {
                    drop(view);
                    false
                }
            };
            if more {
                continue;
            }
            // A record written during the pause may expire within it; it is swept at its end, and absent for readers before.
            let next = due.map_or(longest, |due| {
                Duration::from_millis(due.saturating_sub(now_ms)).clamp(SHORTEST, longest)
            });
            tokio::select! {
                () = tokio::time::sleep(next) => {}
                _ = leadership.changed() => {}
            }
        }
    }
}

fn work(view: &View, now_ms: u64) -> Option<Command> {
    if view.next_expiry_ms().is_some_and(|due| due <= now_ms) {
        Some(Command::Sweep { limit: LIMIT })
    } else if view.reap_due() {
        Some(Command::Reap { limit: LIMIT })
    } else {
        None
    }
}
