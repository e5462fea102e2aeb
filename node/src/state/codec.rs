//! The bytes of commands, answers and rows.
//!
//! They are messages with numbered fields; the numbers stand beside the types (`numbered`). Everything that stands alone (a proposal, a
//! response, a row) starts with a format byte. Golden tests hold the bytes: a log written by one version is replayed by the next.
//! Absent by design: serde. A field that is renamed or reordered in a Rust type must not move a byte on disk.

mod configuration;
pub mod entry;
pub(crate) mod fields;
pub(crate) mod numbered;

/// The format byte of messages with numbered fields. A log or a row of format 1 is refused; an entry that holds many proposals has 3.
pub const FORMAT: u8 = 2;

/// Why bytes could not be read back.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DecodeError {
    /// Fewer bytes than the fields need.
    #[error("the bytes end inside `{field}`")]
    Truncated {
        /// The field.
        field: &'static str,
    },
    /// More bytes than there is something to read in.
    #[error("{count} bytes are left over")]
    LeftOver {
        /// How many.
        count: usize,
    },
    /// A value that no version has written.
    #[error("`{field}` has no meaning {value}")]
    Unknown {
        /// The field.
        field: &'static str,
        /// What was found.
        value: u64,
    },
    /// Another format than the one that is expected here.
    #[error("{what} of format {found}, and this program reads {known}: start with an empty data directory, or the version that wrote it")]
    OtherFormat {
        /// What was read.
        what: &'static str,
        /// What was found.
        found: u8,
        /// What this program reads.
        known: u8,
    },
    /// A choice of which this program knows none that is there. To pass over it would be to do something else than what others do.
    #[error("a {what} of a newer program: upgrade this member")]
    Newer {
        /// What was read.
        what: &'static str,
    },
    /// A field that must be there.
    #[error("`{field}` is missing")]
    Missing {
        /// The field.
        field: &'static str,
    },
    /// No message.
    #[error("the bytes are no message: {0}")]
    Damaged(#[from] prost::DecodeError),
    /// A text that is not UTF-8.
    #[error("`{field}` is not utf-8")]
    NotText {
        /// The field.
        field: &'static str,
    },
}
