//! Part of a group: serves, follows the replicated settings, and where there is no operator does its part.

use tokio::sync::watch;

use super::{error::LifecycleError, leaving, signals::Signals, starting::Open};
use crate::{
    config::LogLevel,
    logging::Level,
    standalone::{provision, welcome::Welcome},
    state::Views,
};

/// How the state was left.
pub(super) enum Left {
    /// The process was asked to end.
    Asked,
    /// The group has removed this member.
    Removed,
}

/// Until the process is asked to end, or the member has no group any more.
pub(super) async fn wait(open: &Open, level: &Level, signals: &Signals) -> Result<Left, LifecycleError> {
    tokio::select! {
        () = signals.end() => Ok(Left::Asked),
        () = leaving::removed(open) => Ok(Left::Removed),
        error = open.failed() => Err(error),
        () = follow_settings(&open.views, level, open.log_level) => Err(LifecycleError::Failed("the state machine has stopped".to_owned())),
        never = provide(open) => match never {},
    }
}

/// Sets the log level whenever the replicated settings name another one. Resolves when the state machine is gone.
async fn follow_settings(views: &Views, level: &Level, configured: LogLevel) {
    let mut applied: watch::Receiver<Option<u64>> = views.subscribe();
    let mut current = configured;
    loop {
        let wanted = {
            let view = views.latest();
            let settings = view.settings();
            // Generation 0: nobody has sent any settings yet, so the configuration's level holds.
            if settings.generation == 0 {
                configured
            } else {
                settings.log_level.parse().unwrap_or(configured)
            }
        };
        if wanted != current {
            level.set(wanted);
            tracing::info!(level = ?wanted, "the log level has changed");
            current = wanted;
        }
        if applied.changed().await.is_err() {
            return;
        }
    }
}

/// Puts the tenants of the file in force and writes their tokens; then there is nothing left to do, and this never resolves.
async fn provide(open: &Open) -> std::convert::Infallible {
    let cluster = open.data_dir.identity().cluster;
    for wanted in &open.role.tenants {
        let status = match provision::put(&open.group, wanted).await {
            Ok(status) => status,
            Err(error) => {
                tracing::error!(
                    tenant = wanted.name,
                    error = &error as &dyn std::error::Error,
                    "the tenant is not in force"
                );
                continue;
            }
        };
        tracing::info!(tenant = status.name, revision = status.revision, "the tenant is in force");
        let Some((key, directory)) = &open.role.credentials else { continue };
        let token = provision::token(key, cluster, &status);
        match directory {
            Some(directory) => {
                if let Err(error) = provision::write_token(directory, &status.name, &token) {
                    tracing::error!(
                        tenant = status.name,
                        error = &error as &dyn std::error::Error,
                        "the tenant's token is not written"
                    );
                }
            }
            None => welcome(open, &token),
        }
    }
    std::future::pending().await
}

fn welcome(open: &Open, token: &str) {
    use std::io::Write;
    let welcome = Welcome {
        data: open.addresses.data,
        health: open.addresses.health,
        metrics: open.addresses.metrics,
        token,
        data_dir: open.data_dir.path(),
        temporary: open.temporary.is_some(),
    };
    let mut out = std::io::stdout().lock();
    // Nobody reads it when standard output is closed.
    let _ = out.write_all(welcome.text().as_bytes()).and_then(|()| out.flush());
}
