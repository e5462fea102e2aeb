//! What a member says of its group, its log and its store, read at each scrape.

use std::sync::Arc;

use prometheus_client::{
    collector::Collector,
    encoding::{DescriptorEncoder, EncodeMetric},
    metrics::{MetricType, counter::ConstCounter, gauge::ConstGauge},
};

use crate::{
    state::{ChangeCounts, ChangeKind},
    storage::FlushFigures,
};

/// Counters of the write-ahead log since the process started.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct LogCounters {
    /// Groups written: one write and at most one flush each.
    pub groups: u64,
    /// Flushes (`fdatasync`).
    pub fsyncs: u64,
    /// Bytes written.
    pub bytes: u64,
    /// Entries appended.
    pub entries: u64,
}

/// Bytes exchanged with the other members since the process started, before TLS.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct PeerCounters {
    /// Sent.
    pub sent: u64,
    /// What was sent, before compression.
    pub sent_uncompressed: u64,
    /// Received.
    pub received: u64,
    /// What was received, after decompression.
    pub received_uncompressed: u64,
    /// Connections that were refused for their hello.
    pub hellos_refused: u64,
}

/// The figures of one scrape.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct MemberFigures {
    /// The current Raft term.
    pub term: u64,
    /// Whether this member leads.
    pub leading: bool,
    /// Whether it knows a leader.
    pub leader_known: bool,
    /// Whether `/readyz` answers 200.
    pub ready: bool,
    /// Whether it cannot vouch for its data; then only this and `storage_bytes` mean anything.
    pub quarantined: bool,
    /// The last log index on disk, 0 when the log is empty.
    pub last_log_index: u64,
    /// The last applied log index, 0 when nothing is.
    pub applied_index: u64,
    /// The last applied revision.
    pub revision: u64,
    /// Tenants that are served, released ones not counted.
    pub tenants: u64,
    /// Bytes of the data directory.
    pub storage_bytes: u64,
    /// Bytes free on its file system.
    pub disk_free_bytes: u64,
    /// Bytes free above the reserve; 0 when data that grows is refused.
    pub disk_room_bytes: u64,
    /// What the storage engine has not flushed.
    pub flushes: FlushFigures,
    /// The write-ahead log.
    pub log: LogCounters,
    /// Bytes of the entries that the log holds.
    pub log_held_bytes: u64,
    /// The last log index that the log has dropped, 0 when none was.
    pub purged_index: u64,
    /// The last log index that the state machine has made durable since the start, 0 when none was.
    pub durable_index: u64,
    /// On the leader: entries that the furthest-behind member lacks.
    pub replication_lag: u64,
    /// Flushes of the state machine, each of which lets the log drop entries.
    pub snapshots_made: u64,
    /// Snapshots sent to other members.
    pub snapshots_sent: u64,
    /// Snapshots received.
    pub snapshots_received: u64,
    /// The digest of all records and tenants, as of `applied_index`.
    pub digest: u128,
    /// Changes of records applied since the start.
    pub changes: ChangeCounts,
    /// The other members.
    pub peers: PeerCounters,
}

/// A sample is a float with 53 bits: so much of the digest it can carry. All of it is in `GET /admin/stats`.
const DIGEST_SHOWN: u128 = (1 << 53) - 1;

/// Where the figures come from; none before the member has opened its data directory.
pub type Source = Arc<dyn Fn() -> Option<MemberFigures> + Send + Sync>;

/// Puts the figures of a [`Source`] into each scrape.
pub(super) struct MemberCollector(pub(super) Source);

impl std::fmt::Debug for MemberCollector {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.write_str("MemberCollector")
    }
}

impl Collector for MemberCollector {
    fn encode(&self, mut encoder: DescriptorEncoder) -> Result<(), std::fmt::Error> {
        let Some(figures) = (self.0)() else { return Ok(()) };
        let MemberFigures {
            term,
            leading,
            leader_known,
            ready,
            quarantined,
            last_log_index,
            applied_index,
            revision,
            tenants,
            storage_bytes,
            disk_free_bytes,
            disk_room_bytes,
            flushes,
            log: LogCounters {
                groups,
                fsyncs,
                bytes,
                entries,
            },
            log_held_bytes,
            purged_index,
            durable_index,
            replication_lag,
            snapshots_made,
            snapshots_sent,
            snapshots_received,
            digest,
            changes,
            peers:
                PeerCounters {
                    sent,
                    sent_uncompressed,
                    received,
                    received_uncompressed,
                    hellos_refused,
                },
        } = figures;
        let states = [
            (
                "quarantined",
                "1 while the member cannot vouch for its data and waits to be replaced",
                u64::from(quarantined),
            ),
            ("ready", "1 while /readyz answers 200", u64::from(ready)),
            ("storage_bytes", "Bytes of the data directory", storage_bytes),
        ];
        let gauges = [
            ("raft_term", "The current Raft term", term),
            ("raft_is_leader", "1 on the member that leads its shard", u64::from(leading)),
            ("raft_has_leader", "1 while the member knows a leader", u64::from(leader_known)),
            ("raft_last_log_index", "The last log index on disk", last_log_index),
            ("raft_applied_index", "The last applied log index", applied_index),
            ("raft_purged_index", "The last log index that was dropped", purged_index),
            (
                "log_held_bytes",
                "Bytes of the entries that the write-ahead log holds; its files have up to some segments more",
                log_held_bytes,
            ),
            (
                "raft_durable_index",
                "The last log index that the state machine was flushed at",
                durable_index,
            ),
            (
                "raft_replication_lag",
                "On the leader: entries that the furthest-behind member lacks",
                replication_lag,
            ),
            (
                "state_digest",
                "The low 53 bits of the digest of all records and tenants: equal on members with the same state_digest_index",
                u64::try_from(digest & DIGEST_SHOWN).unwrap_or(u64::MAX),
            ),
            (
                "state_digest_index",
                "The log index after which state_digest was taken",
                applied_index,
            ),
            ("revision", "The last applied revision of the shard", revision),
            ("tenants", "Tenants that are served", tenants),
            (
                "disk_free_bytes",
                "Bytes free on the file system of the data directory",
                disk_free_bytes,
            ),
            (
                "disk_room_bytes",
                "Bytes free above the reserve; at 0 writes that add data are refused",
                disk_room_bytes,
            ),
        ];
        let gauges = gauges.into_iter().chain([
            (
                "storage_memtable_bytes",
                "Bytes in the storage engine's memtables that are written to",
                flushes.memtable_bytes,
            ),
            (
                "storage_journal_bytes",
                "Bytes in the storage engine's journals",
                flushes.journal_bytes,
            ),
            (
                "storage_flushes_stalled",
                "1 while the storage engine does not flush and its memory grows; restart the member",
                u64::from(flushes.stalled),
            ),
        ]);
        // A member without a group has no figures of it, and zeros would look like some.
        let gauges = gauges.filter(|_| !quarantined);
        for (name, help, value) in states.into_iter().chain(gauges) {
            let gauge = ConstGauge::new(value);
            gauge.encode(encoder.encode_descriptor(name, help, None, gauge.metric_type())?)?;
        }
        let counters = [
            ("log_groups", "Groups that the write-ahead log has written", groups),
            ("log_fsyncs", "Flushes of the write-ahead log", fsyncs),
            ("log_bytes", "Bytes that the write-ahead log has written", bytes),
            ("log_entries", "Entries appended to the write-ahead log", entries),
            (
                "snapshots_made",
                "Flushes of the state machine that let the log drop entries",
                snapshots_made,
            ),
            ("snapshots_sent", "Snapshots sent to other members", snapshots_sent),
            ("snapshots_received", "Snapshots received from other members", snapshots_received),
            ("peer_sent_bytes", "Bytes sent to the other members", sent),
            (
                "peer_sent_uncompressed_bytes",
                "What the bytes sent to the other members were before compression",
                sent_uncompressed,
            ),
            ("peer_received_bytes", "Bytes received from the other members", received),
            (
                "peer_received_uncompressed_bytes",
                "What the bytes received from the other members are without compression",
                received_uncompressed,
            ),
            (
                "peer_hellos_refused",
                "Connections between members that were refused because no common wire format is known, or no hello came",
                hellos_refused,
            ),
        ];
        for (name, help, value) in counters.into_iter().filter(|_| !quarantined) {
            let counter = ConstCounter::new(value);
            counter.encode(encoder.encode_descriptor(name, help, None, counter.metric_type())?)?;
        }
        if quarantined {
            return Ok(());
        }
        let help = "Changes of records that the member has applied since it started";
        let mut family = encoder.encode_descriptor("changes", help, None, MetricType::Counter)?;
        for kind in ChangeKind::ALL {
            let counter = ConstCounter::new(changes.of(kind));
            counter.encode(family.encode_family(&[("kind", kind.name())])?)?;
        }
        Ok(())
    }
}
