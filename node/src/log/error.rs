//! Why a log could not be opened. Every variant names the file and says what to do; a running log reports `std::io::Error` instead.

use std::io;

/// A log that cannot be used as it is.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// The file system refused an operation that opening needs.
    #[error("cannot {action} {file}: check that the volume is mounted, writable and not full")]
    Io {
        /// What was tried.
        action: &'static str,
        /// The file or directory, with its path.
        file: String,
        /// What the system said.
        source: io::Error,
    },
    /// A later version of kvnode wrote this log.
    #[error(
        "{file} has log format {found}, and this version reads formats up to {supported}: start the version of kvnode that wrote it, or a newer one"
    )]
    NewerFormat {
        /// The segment, with its path.
        file: String,
        /// The format it declares.
        found: u32,
        /// The newest format that this build reads.
        supported: u32,
    },
    /// The log has lost something that may have been acknowledged. It must not be voted with.
    #[error(
        "the log is damaged in {file} at byte {offset}: {found}; this member must not vote with it: replace the member, or put back the intact directory"
    )]
    Damaged {
        /// The segment, with its path.
        file: String,
        /// Where reading it stopped.
        offset: u64,
        /// What stands there, and what should.
        found: String,
    },
    /// An option has a value that the log cannot work with.
    #[error("log option {option} is {found}: use {remedy}")]
    Option {
        /// The field of [`Options`](super::Options).
        option: &'static str,
        /// Its value.
        found: u64,
        /// What to use instead.
        remedy: &'static str,
    },
}
