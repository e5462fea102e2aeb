//! The process's own log: lines on standard error, in JSON or for a terminal.
//!
//! In: the format and the first level from the configuration, later levels from the replicated settings. Out: one line per event. Absent by
//! design: values, tokens and metadata of records; nobody who reads the log may learn them.

use tracing_subscriber::{
    Registry,
    filter::{LevelFilter, Targets},
    fmt,
    layer::SubscriberExt,
    reload,
    util::SubscriberInitExt,
};

use crate::config::{LogFormat, LogLevel, Logging};

/// Changes the level while the process runs.
#[derive(Clone, Debug)]
pub struct Level {
    handle: reload::Handle<Targets, Registry>,
}

impl Level {
    /// From now on this level is in force.
    pub fn set(&self, level: LogLevel) {
        // The only failure is that the subscriber is gone, and then nobody is there to read the difference.
        let _ = self.handle.reload(filter(level));
    }
}

/// Starts the log of this process; a second call changes nothing but the handle that it returns.
pub fn start(logging: Logging) -> Level {
    let Logging { level, format } = logging;
    let (layer, handle) = reload::Layer::new(filter(level));
    let registry = tracing_subscriber::registry().with(layer);
    // In tests several members share one process and the first one's subscriber.
    let _ = match format {
        LogFormat::Json => registry
            .with(
                fmt::layer()
                    .json()
                    .flatten_event(true)
                    .with_current_span(true)
                    .with_writer(std::io::stderr),
            )
            .try_init(),
        LogFormat::Text => registry.with(fmt::layer().with_ansi(false).with_writer(std::io::stderr)).try_init(),
    };
    Level { handle }
}

/// openraft tells at `info` what we would call `debug`, several lines for every vote: it is heard one step later, and in full at `trace`.
fn filter(level: LogLevel) -> Targets {
    let (own, consensus) = match level {
        LogLevel::Trace => (LevelFilter::TRACE, LevelFilter::TRACE),
        LogLevel::Debug => (LevelFilter::DEBUG, LevelFilter::INFO),
        LogLevel::Info => (LevelFilter::INFO, LevelFilter::WARN),
        LogLevel::Warn => (LevelFilter::WARN, LevelFilter::WARN),
        LogLevel::Error => (LevelFilter::ERROR, LevelFilter::ERROR),
    };
    Targets::new().with_default(own).with_target("openraft", consensus)
}

#[cfg(test)]
mod tests {
    use tracing::Level as Severity;

    use super::*;

    #[test]
    fn consensus_is_quieter_than_we_are() {
        assert!(filter(LogLevel::Info).would_enable("kvfleet_node::lifecycle", &Severity::INFO));
        assert!(!filter(LogLevel::Info).would_enable("openraft::engine", &Severity::INFO));
        assert!(filter(LogLevel::Info).would_enable("openraft::engine", &Severity::WARN));
        assert!(filter(LogLevel::Trace).would_enable("openraft::engine", &Severity::TRACE));
        assert!(!filter(LogLevel::Error).would_enable("openraft::engine", &Severity::WARN));
    }
}
