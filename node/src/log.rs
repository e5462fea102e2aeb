//! The write-ahead log: Raft entries and the vote, on disk before anything is acknowledged.
//!
//! In: entries (opaque payloads), votes, truncations and purges, in the order in which they must become durable. Out: a callback
//! for each after its `fdatasync`, reads by index, and after a restart the same log again or an [`OpenError`] that says what is
//! wrong with it. Absent: openraft types (the `raft` module adapts), the meaning of a payload, and the state machine.
//!
//! The log is a directory of segments. A segment is a file whose blocks are written before it is used, so that an append changes
//! no file metadata and one `fdatasync` is one device flush:
//!
//! ```text
//! 00000000000000000007.seg     | header (4 KiB) | mark 0 (4 KiB) | mark 1 (4 KiB) | record | record | … | zeros, or an older life |
//! 00000000000000000004.spare   a purged or prepared segment, waiting to be used
//! prepare-3.tmp                being zeroed; deleted at start
//! ```
//!
//! Records are written in **groups**: everything that waited while the previous group was flushed is one write and one
//! `fdatasync`. All records of a group carry its number, the last one a flag; a group counts only when it is whole. A group is
//! written only after the one before it is durable, which is what lets recovery tell a torn tail from damage:
//!
//! - an unreadable group with nothing newer behind it was being written when the power went: it is dropped, nobody was told of it;
//! - an unreadable group with a newer one anywhere behind it was durable once: the log is [damaged](OpenError::Damaged);
//! - a log that ends below its **mark** (the number of the last durable group, written before that group's callbacks run) has
//!   lost something it acknowledged: damaged as well.
//!
//! Following the data: [`Wal`] → `state` (what readers see, and the queue) → `writer` (one thread) → `group` → `segment` → [`Disk`];
//! at start `recovery` reads it all back.

mod codec;
mod disk;
mod entry;
mod error;
mod group;
mod inspect;
mod metrics;
mod options;
mod record;
mod recovery;
mod repair;
mod replay;
mod segment;
mod spares;
mod state;
mod table;
#[cfg(all(test, tokio_unstable))]
#[allow(clippy::unwrap_used)]
pub(crate) mod task;
mod wal;
mod writer;

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::indexing_slicing)]
mod tests;

#[cfg(all(test, tokio_unstable))]
pub(crate) use disk::fake;
pub use disk::{Directory, Disk, File};
pub use entry::{Entry, LogId, Vote};
pub use error::OpenError;
pub use inspect::{Inspected, Inspection};
pub use metrics::Metrics;
pub use options::Options;
pub use state::Done;
pub use table::Size;
pub use wal::Wal;
