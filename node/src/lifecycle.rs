//! A member's life, from the first instruction to the exit code.
//!
//! ```text
//! Starting ──▶ Blank ──▶ Running ──▶ Draining ──▶ end, 0
//!    │           │          │            │
//!    └───────────┴──────────┴────────────┴──────▶ failed, 1: storage or Raft cannot go on; the next start recovers
//! ```
//!
//! In: a [`Config`] and the signals. Out: the end of the process, well or with the reason. The health port answers in every state, from
//! before the data directory is looked at; SIGTERM is obeyed in every state. Absent by design: what the states do inside; each has a file.

mod blank;
mod data_port;
mod disk_watch;
mod draining;
mod error;
mod ports;
mod running;
mod signals;
mod starting;
mod surroundings;
mod temporary;

use std::sync::{Arc, OnceLock};

pub use error::LifecycleError;
pub use signals::Signals;

use crate::{
    config::Config,
    health::{self, Health},
    logging::Level,
    metrics::{self, Requests},
};

/// Where the member stands.
enum State {
    Starting(Box<starting::Starting>),
    Blank(Box<starting::Open>),
    Running(Box<starting::Open>),
    Draining(Box<starting::Open>),
    Ended,
}

/// Lives one life.
///
/// # Errors
/// When the member cannot start, or cannot go on.
pub async fn run(config: Config, level: Level, signals: Signals) -> Result<(), LifecycleError> {
    let ports = ports::Ports::bind(&config.addresses).await?;
    let health = Health::new();
    let figures = Arc::new(OnceLock::new());
    let requests = Requests::new();
    let registry = Arc::new(metrics::registry(&requests, starting::source(&figures)));
    let ports::Ports {
        data,
        health: health_listener,
        metrics: metrics_listener,
        admin,
    } = ports;
    let addresses = surroundings::Listening {
        data: ports::local(&data),
        health: ports::local(&health_listener),
        metrics: ports::local(&metrics_listener),
        admin: ports::local(&admin),
    };
    surroundings::serve(health_listener, health::router(health.clone()));
    surroundings::serve(metrics_listener, metrics::router(Arc::clone(&registry)));
    let starting = starting::Starting {
        config,
        health,
        figures,
        requests,
        registry,
        addresses,
        data,
        admin,
    };

    let mut state = State::Starting(Box::new(starting));
    loop {
        state = match state {
            State::Starting(starting) => tokio::select! {
                opened = starting.open() => State::Blank(Box::new(opened?)),
                // Nothing was promised to anybody yet.
                () = signals.end() => State::Ended,
            },
            State::Blank(open) => match blank::wait(&open, &signals).await? {
                blank::Left::Formed => State::Running(open),
                blank::Left::Asked => State::Draining(open),
            },
            State::Running(open) => {
                running::wait(&open, &level, &signals).await?;
                State::Draining(open)
            }
            State::Draining(open) => {
                draining::close(*open, &signals).await?;
                State::Ended
            }
            State::Ended => return Ok(()),
        };
    }
}
