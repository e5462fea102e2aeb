//! The process's own log: lines on standard error, in JSON or for a terminal.
//!
//! In: the format and the first level from the configuration, later levels from the replicated settings. Out: one line per event, or the number
//! of those that were lost because standard error was not read. Absent by design: values, tokens and metadata of records, which no reader of
//! the log may learn; and waiting for the reader.

mod lines;
mod sample;

use std::{
    io,
    sync::{OnceLock, mpsc},
    time::Duration,
};

pub use sample::Sample;
use tracing_subscriber::{
    Registry,
    filter::{LevelFilter, Targets},
    fmt::{self, writer::BoxMakeWriter},
    layer::SubscriberExt,
    reload,
    util::SubscriberInitExt,
};

use self::lines::Lines;
use crate::config::{LogFormat, LogLevel, Logging};

/// How long the process may take to say why it ends: whatever reads its log may stand still, or be on a disk that hangs.
pub const LAST_WORDS: Duration = Duration::from_millis(200);

/// None before the log is started, and where the system gave it no thread.
static LINES: OnceLock<Option<Lines>> = OnceLock::new();

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
    let lines = LINES.get_or_init(|| Lines::start(io::stderr(), lost).ok());
    let writer = match lines {
        Some(lines) => BoxMakeWriter::new(lines.clone()),
        None => BoxMakeWriter::new(io::stderr),
    };
    // In tests several members share one process and the first one's subscriber.
    let _ = match format {
        LogFormat::Json => registry
            .with(fmt::layer().json().flatten_event(true).with_current_span(true).with_writer(writer))
            .try_init(),
        LogFormat::Text => registry.with(fmt::layer().with_ansi(false).with_writer(writer)).try_init(),
    };
    Level { handle }
}

fn lost(lines: u64) {
    tracing::warn!(lines, "lines of the log were lost: standard error was not read fast enough");
}

/// How many lines were lost since the start.
pub fn lost_lines() -> u64 {
    LINES.get().and_then(Option::as_ref).map_or(0, Lines::lost)
}

/// Waits until the lines so far are written, but not longer than [`LAST_WORDS`].
pub fn flush() {
    if let Some(lines) = LINES.get().and_then(Option::as_ref) {
        // Lines that cannot be written now never will be.
        let _ = lines.flush(LAST_WORDS);
    }
}

/// Writes the lines so far and then these words to standard error, but does not wait longer than [`LAST_WORDS`] for either.
pub fn last_words(words: String) {
    flush();
    let (said, heard) = mpsc::channel::<()>();
    let speaker = std::thread::Builder::new().name("last-words".to_owned()).spawn(move || {
        eprintln!("{words}");
        drop(said);
    });
    if speaker.is_ok() {
        let _ = heard.recv_timeout(LAST_WORDS);
    }
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
