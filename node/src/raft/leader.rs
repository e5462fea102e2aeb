//! What only the leader does of its own accord: it has expired records swept and the rows of deleted tenants reaped, a bounded piece of work
//! per log entry, one entry at a time, and half of the time none. In: the latest view. Out: commands, proposed like any other. Absent: which
//! rows go (`state` decides).

use std::{sync::Arc, time::Duration};

use tokio::time::Instant;

use super::{Cost, Inner};
use crate::{
    runtime,
    state::{Applied, Bound, Command, Response, View},
};

/// The shortest pause between two sweeps that leave nothing behind, so that many records that expire one by one cost few commands.
const SHORTEST: Duration = Duration::from_millis(50);
/// How long a command may take before it is left for the next look.
const PATIENCE: Duration = Duration::from_secs(5);
/// After a command pauses as much time as it took, up to this: those who write meanwhile have the log and the apply threads half of the time.
const LONGEST_REST: Duration = Duration::from_millis(200);

/// Whose turn it is. While records expire without end the rows of deleted tenants must go too, and the other way round.
struct Chores {
    swept_last: bool,
    /// When the next sweep may come.
    sweep_at: Instant,
}

impl Chores {
    fn new() -> Self {
        Chores {
            swept_last: false,
            sweep_at: Instant::now(),
        }
    }

    fn next(&self, sweep_due: bool, reap_due: bool) -> Option<Command> {
        let sweep = sweep_due && Instant::now() >= self.sweep_at;
        let limit = Bound::STEP;
        match (sweep, reap_due) {
            (true, true) if self.swept_last => Some(Command::Reap { limit }),
            (true, _) => Some(Command::Sweep { limit }),
            (false, true) => Some(Command::Reap { limit }),
            (false, false) => None,
        }
    }

    /// Notes what was done, and whether it has left more behind.
    fn done(&mut self, command: &Command, more: bool) {
        self.swept_last = matches!(command, Command::Sweep { .. });
        if self.swept_last && !more {
            self.sweep_at = Instant::now() + SHORTEST;
        }
    }
}

/// Where the leader has looked for expiries: at nothing twice while no entry is applied.
#[derive(Default)]
struct Looked {
    applied: Option<Applied>,
    until_ms: u64,
}

impl Looked {
    /// When a sweep is due, if that is within `longest`.
    async fn sweep_due(&mut self, view: &Arc<View>, now_ms: u64, longest: Duration) -> Option<u64> {
        let until_ms = now_ms.saturating_add(u64::try_from(longest.as_millis()).unwrap_or(u64::MAX));
        if view.next_expiry_ms() > until_ms {
            return None;
        }
        if view.applied() != self.applied {
            *self = Looked {
                applied: view.applied(),
                until_ms: 0,
            };
        }
        let (view, looked_ms) = (Arc::clone(view), self.until_ms);
        // A store that cannot be read is met again by the next that must read it.
        let due = runtime::blocking(move || view.sweep_due(looked_ms, until_ms)).await.ok()?.ok()?;
        self.until_ms = due.unwrap_or(u64::MAX).saturating_sub(1).min(now_ms);
        due
    }
}

impl Inner {
    pub(super) async fn lead(self: Arc<Self>) {
        let mut leadership = self.leadership.subscribe();
        let (mut chores, mut looked) = (Chores::new(), Looked::default());
        // The sender lives in `self`, so this ends only with the task.
        while leadership.wait_for(|now| now.own).await.is_ok() {
            let view = self.views.latest();
            let now_ms = self.transport.clock().local(view.stamp_ms());
            let longest = Duration::from_millis(view.settings().sweep_interval_ms).max(SHORTEST);
            let due = looked.sweep_due(&view, now_ms, longest).await;
            let reap_due = view.reap_due();
            drop(view);
            let next = match chores.next(due.is_some_and(|due| due <= now_ms), reap_due) {
                Some(command) => {
                    let begun = Instant::now();
                    match self.propose(command.clone(), Cost::default(), begun + PATIENCE).await {
                        Ok(response) => {
                            chores.done(&command, matches!(response, Response::Swept { more: true, .. }));
                            begun.elapsed().min(LONGEST_REST)
                        }
                        Err(error) => {
                            tracing::debug!(%error, "a sweep is left for later");
                            SHORTEST
                        }
                    }
                }
                // A record written during the pause may expire within it; it is swept at its end, and absent for readers before.
                None => due.map_or(longest, |due| {
                    Duration::from_millis(due.saturating_sub(now_ms)).clamp(SHORTEST, longest)
                }),
            };
            tokio::select! {
                () = tokio::time::sleep(next) => {}
                _ = leadership.changed() => {}
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// With a due expiry at every look a grave still shrinks, and with a grave that does not end what expires still goes.
    #[tokio::test(start_paused = true)]
    async fn sweeps_and_reaps_take_turns() {
        let mut chores = Chores::new();
        let mut done = Vec::new();
        for _ in 0..4 {
            let command = chores.next(true, true).expect("both are due");
            chores.done(&command, true);
            done.push(matches!(command, Command::Sweep { .. }));
        }
        assert_eq!(done, [true, false, true, false]);
    }

    #[tokio::test(start_paused = true)]
    async fn records_that_expire_one_by_one_cost_few_sweeps_and_reaps_fill_the_pauses() {
        let mut chores = Chores::new();
        let sweep = chores.next(true, true).expect("both are due");
        chores.done(&sweep, false);
        for _ in 0..3 {
            let command = chores.next(true, true).expect("the grave is due");
            assert!(matches!(command, Command::Reap { .. }), "{command:?}");
            chores.done(&command, true);
        }
        assert_eq!(chores.next(true, false), None);
        tokio::time::advance(SHORTEST).await;
        assert!(matches!(chores.next(true, true), Some(Command::Sweep { .. })));
    }
}
