//! A member's life, from the first instruction to the exit code.
//!
//! ```text
//!  ┌──────────────────────┐ removed from its group while it was away: it starts as another member
//!  ▼                      │
//! Starting ──▶ Blank ──▶ Running ──▶ Draining ──▶ end, 0
//!  │  ▲ │        │          │            │
//!  │  │ └────────┴──────────┴────────────┴──────▶ failed, 1: storage or Raft cannot go on; the next start recovers
//!  ▼  │
//! Quarantined: its data cannot be vouched for; released, it starts as another member
//! ```
//!
//! In: a [`Config`] and the signals. Out: the end of the process, well or with the reason. The health port answers in every state, from
//! before the data directory is looked at; SIGTERM is obeyed in every state. Absent by design: what the states do inside; each has a file.

mod blank;
mod data_port;
mod disk_watch;
mod draining;
mod error;
mod joining;
mod leaving;
mod ports;
mod quarantined;
mod running;
mod signals;
mod starting;
mod surroundings;
mod temporary;
mod used;

use std::sync::Arc;

use tokio::runtime::Handle;

pub use error::LifecycleError;
pub use signals::Signals;

use crate::{
    config::Config,
    descriptors,
    health::{self, Health},
    logging::Level,
    metrics::{self, Requests},
};

/// Where the member stands.
enum State {
    Starting,
    Quarantined(quarantined::Quarantined),
    Blank(Box<starting::Open>),
    Running(Box<starting::Open>),
    Draining(Box<starting::Open>),
    Ended,
}

/// Lives one life; tenants' requests run on threads of their own.
///
/// # Errors
/// When the member cannot start, or cannot go on.
pub async fn run(config: Config, level: Level, signals: Signals, tenants: Handle) -> Result<(), LifecycleError> {
    let shares = descriptors::raise()?;
    let ports = ports::Ports::bind(&config.addresses, shares).await?;
    let health = Health::new();
    let figures = starting::Figures::default();
    let requests = Requests::new();
    let registry = Arc::new(metrics::registry(&requests, ports.rosters(), starting::source(&figures)));
    surroundings::serve(
        ports.health.listen()?,
        Arc::clone(&ports.health.roster),
        health::router(health.clone()),
    );
    surroundings::serve(
        ports.metrics.listen()?,
        Arc::clone(&ports.metrics.roster),
        metrics::router(Arc::clone(&registry)),
    );
    let starting = starting::Starting {
        config,
        health,
        figures,
        requests,
        registry,
        tenants,
        addresses: surroundings::Listening {
            data: ports.data.local,
            health: ports.health.local,
            metrics: ports.metrics.local,
            admin: ports.admin.local,
        },
        ports,
    };

    let mut state = State::Starting;
    loop {
        state = match state {
            State::Starting => tokio::select! {
                opened = starting.open() => match opened? {
                    starting::Opened::Open(open) => State::Blank(open),
                    starting::Opened::Quarantined(quarantined) => State::Quarantined(quarantined),
                },
                // Nothing was promised to anybody yet.
                () = signals.end() => State::Ended,
            },
            State::Quarantined(quarantined) => match quarantined::wait(quarantined, &starting, &signals).await? {
                quarantined::Left::Released => State::Starting,
                quarantined::Left::Asked => State::Ended,
            },
            State::Blank(open) => match blank::wait(&open, &signals).await? {
                blank::Left::Formed => State::Running(open),
                blank::Left::Asked => State::Draining(open),
            },
            State::Running(open) => match running::wait(&open, &level, &signals).await? {
                running::Left::Asked => State::Draining(open),
                running::Left::Removed => {
                    leaving::put_aside(*open, &signals).await?;
                    State::Starting
                }
            },
            State::Draining(open) => {
                draining::close(*open, &signals).await?;
                State::Ended
            }
            State::Ended => return Ok(()),
        };
    }
}
