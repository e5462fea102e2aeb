//! The log's settings. Validated once, in [`Wal::open`](super::Wal::open).

use std::fmt;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use super::error::OpenError;
use super::segment;

const MIB: u64 = 1 << 20;

/// How the log uses disk and memory.
#[derive(Clone)]
pub struct Options {
    /// The size of a prepared segment, in bytes.
    pub segment_bytes: u64,
    /// The size of a segment that somebody waits for: the very first one, and one needed before the next was prepared. It is zeroed
    /// on the spot, so it is small (8 MiB take about 20 ms where 64 take 200).
    pub first_segment_bytes: u64,
    /// How many purged segments are kept for reuse.
    pub spare_segments: usize,
    /// The newest entries kept in memory, in bytes of payload and bookkeeping.
    pub cache_bytes: usize,
    /// The bytes that close a group: what waits beyond them goes into the next one.
    pub group_bytes: usize,
    /// How long the log is idle before a mark (or a commit index) that no later group carried along is flushed by itself.
    pub idle_flush: Duration,
    /// How often a log that met a full disk looks for space again.
    pub space_retry: Duration,
    /// Called once, from a thread of the log, when it can't go on: a failed write or flush. The process must stop serving and exit;
    /// the page cache may no longer hold what was written.
    pub on_fatal: Arc<dyn Fn(io::Error) + Send + Sync>,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            segment_bytes: 64 * MIB,
            first_segment_bytes: 8 * MIB,
            spare_segments: 2,
            cache_bytes: 32 << 20,
            group_bytes: 4 << 20,
            idle_flush: Duration::from_millis(5),
            space_retry: Duration::from_millis(250),
            on_fatal: Arc::new(|error| tracing::error!(%error, "the write-ahead log has failed")),
        }
    }
}

impl Options {
    pub(super) fn validate(&self) -> Result<(), OpenError> {
        for (option, found) in [
            ("segment_bytes", self.segment_bytes),
            ("first_segment_bytes", self.first_segment_bytes),
        ] {
            if found < segment::MINIMUM_BYTES || found > u64::from(u32::MAX) {
                return Err(OpenError::Option {
                    option,
                    found,
                    remedy: "16384 to 4294967295 bytes",
                });
            }
        }
        if self.group_bytes == 0 {
            return Err(OpenError::Option {
                option: "group_bytes",
                found: 0,
                remedy: "at least 1 byte",
            });
        }
        Ok(())
    }
}

impl fmt::Debug for Options {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            segment_bytes,
            first_segment_bytes,
            spare_segments,
            cache_bytes,
            group_bytes,
            idle_flush,
            space_retry,
            on_fatal: _,
        } = self;
        formatter
            .debug_struct("Options")
            .field("segment_bytes", segment_bytes)
            .field("first_segment_bytes", first_segment_bytes)
            .field("spare_segments", spare_segments)
            .field("cache_bytes", cache_bytes)
            .field("group_bytes", group_bytes)
            .field("idle_flush", idle_flush)
            .field("space_retry", space_retry)
            .finish_non_exhaustive()
    }
}
