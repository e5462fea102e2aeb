//! Asked to end: leave so that no client notices.
//!
//! 1. Hand leadership to a voter that has everything. Writes pause for one round trip instead of an election.
//! 2. `/readyz` says no; new requests stop coming once every load balancer has heard of it.
//! 3. Until then (`drainDelay`) serve on, as a follower that forwards, with `Connection: close` on every answer.
//! 4. Close the data port; requests under way finish.
//! 5. Close the group, the log and the store; let go of the data directory.
//!
//! `design.md` §6 closes the stores before the delay and goes on as a proxy without them. A follower that keeps its stores for those
//! seconds is the simpler proxy: it already forwards, it still counts towards the quorum, and its reads stay local. What early closing would
//! buy is the data lock for the successor of a pod that was deleted *by force*; that one waits for the lock, at most as long as we drain.

use std::time::Duration;

use kvfleet_api::admin::Role;
use tokio::time::Instant;

use super::{error::LifecycleError, signals::Signals, starting::Open};
use crate::data_dir::Lock;

/// A handover takes a few milliseconds to a good target; a bad one costs an election, and then another attempt has no better chance.
const HANDOVER: Duration = Duration::from_secs(2);
/// How long requests under way may take. With the longest `drainDelay` (30 s) and two handovers it stays well under the grace of 75 s.
const UNDER_WAY: Duration = Duration::from_secs(20);

/// Returns the lock: the data directory is free once it goes.
pub(super) async fn close(open: Open, signals: &Signals) -> Result<Lock, LifecycleError> {
    tracing::info!("asked to end: handing over");
    hand_over(&open).await;
    open.health.draining();
    open.data_port.close_connections();
    tokio::select! {
        () = tokio::time::sleep(open.drain_delay) => {}
        () = signals.hurry() => tracing::info!("asked again: ending at once"),
        error = open.failed() => return Err(error),
    }
    // Whoever took over may have failed meanwhile, and this member may have been elected again.
    hand_over(&open).await;

    let Open {
        group,
        views: _,
        log,
        data_dir,
        data_port,
        transport,
        temporary,
        mut tasks,
        ..
    } = open;
    tasks.shutdown().await;
    if tokio::time::timeout(UNDER_WAY, data_port.close()).await.is_err() {
        tracing::warn!("some requests took too long and were cut off");
    }
    group.shutdown().await;
    transport.closed().await;
    match tokio::task::spawn_blocking(move || log.close()).await? {
        Ok(()) => {}
        // Everything acknowledged is on disk already; the next start recovers as after a crash.
        Err(error) => tracing::warn!(%error, "the write-ahead log did not close well"),
    }
    drop(temporary);
    tracing::info!("ended");
    Ok(data_dir.close())
}

/// Makes another voter the leader, if this member is.
async fn hand_over(open: &Open) {
    let status = open.group.status();
    if status.role != Some(Role::Primary) || status.members.iter().filter(|member| member.voter).count() < 2 {
        return;
    }
    let begun = Instant::now();
    match open.group.transfer_leadership(begun + HANDOVER).await {
        Ok(()) => tracing::info!(milliseconds = begun.elapsed().as_millis(), "leadership handed over"),
        Err(error) => tracing::warn!(%error, "leadership could not be handed over; the others will elect"),
    }
}
