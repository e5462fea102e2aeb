//! openraft's own suite for storage, on the write-ahead log and the state machine: all of it.

use std::{io, sync::Arc, time::Duration};

use futures::stream;
use openraft::{StorageError, storage::RaftStateMachine as _, testing::log::Suite};
use tempfile::TempDir;
use tokio::sync::watch;

use crate::{
    log::{Options, Wal},
    raft::{
        apply::{self, StateMachine},
        log_store::{Durable, LogStore},
        types::{Entry, Payload, Types, log_id},
    },
    state::Machine,
    storage::{FjallStore, FjallStores},
};

struct Builder;

impl openraft::testing::log::StoreBuilder<Types, LogStore, StateMachine, TempDir> for Builder {
    async fn build(&self) -> Result<(TempDir, LogStore, StateMachine), StorageError<Types>> {
        let directory = tempfile::tempdir().unwrap();
        let wal = Wal::open(&directory.path().join("raft"), Options::default()).unwrap();
        let (machine, _) = Machine::open(FjallStores::open(&directory.path().join("sm")).unwrap()).unwrap();
        // The suite applies entries that it never appends.
        let durable = watch::Sender::new(Durable::Below(u64::MAX)).subscribe();
        let (machine, _) = apply::start(machine, durable, Arc::default(), |_| {}).unwrap();
        Ok((directory, LogStore::new(wal), machine))
    }
}

/// An entry that is committed elsewhere and not yet on this member's disk must wait: after a power cut the log would lack it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_is_applied_before_it_is_durable_here() {
    let directory = tempfile::tempdir().unwrap();
    let (machine, views) = Machine::open(FjallStore::open(directory.path()).unwrap()).unwrap();
    let durable = watch::Sender::new(Durable::Below(1));
    let (mut machine, _) = apply::start(machine, durable.subscribe(), Arc::default(), |_| {}).unwrap();
    let blank = |index| {
        Ok((
            Entry {
                log_id: log_id(1, index),
                payload: Payload::Blank,
            },
            None,
        ))
    };
    machine.apply(stream::iter([blank(0)])).await.unwrap();
    assert_eq!(views.latest().applied().map(|applied| applied.index), Some(0));

    let mut second = Box::pin(machine.apply(stream::iter([blank(1)])));
    // Applying has a thread of its own, so one poll would prove nothing; this long an entry never takes.
    assert!(tokio::time::timeout(Duration::from_millis(300), &mut second).await.is_err());
    assert_eq!(views.latest().applied().map(|applied| applied.index), Some(0));
    durable.send_replace(Durable::Below(2));
    second.await.unwrap();
    assert_eq!(views.latest().applied().map(|applied| applied.index), Some(1));

    durable.send_replace(Durable::Failed);
    assert!(machine.apply(stream::iter([blank(2)])).await.is_err());
    assert_eq!(views.latest().applied().map(|applied| applied.index), Some(1));
}

type Storage = Suite<Types, LogStore, StateMachine, Builder, TempDir>;

macro_rules! suite {
    ($($test:ident)*) => {
        $(
            #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn $test() -> io::Result<()> {
                use openraft::testing::log::StoreBuilder as _;
                let (_directory, log, machine) = Builder.build().await.map_err(io::Error::other)?;
                Storage::$test(log, machine).await
            }
        )*
    };
}

suite! {
    last_membership_in_log_initial
    last_membership_in_log
    last_membership_in_log_multi_step
    get_membership_initial
    get_membership_from_log_and_empty_sm
    get_membership_from_empty_log_and_sm
    get_membership_from_log_le_sm_last_applied
    get_membership_from_log_gt_sm_last_applied_1
    get_membership_from_log_gt_sm_last_applied_2
    get_initial_state_without_init
    get_initial_state_with_state
    get_initial_state_last_log_gt_sm
    get_initial_state_inverted_log_order
    get_initial_state_conflict_at_same_index
    save_vote
    get_log_entries
    limited_get_log_entries
    leader_bounded_stream
    entries_stream
    try_get_log_entry
    log_reader_reads_new_entries
    initial_logs
    get_log_state
    get_log_id
    last_id_in_log
    last_applied_state
    purge_logs_upto_0
    purge_logs_upto_5
    purge_logs_upto_20
    delete_logs_after_11
    delete_logs_after_5
    delete_logs_after_0
    delete_logs_after_none
    append_to_log
    apply_single
    apply_multiple
    get_initial_state_membership_from_empty_log_and_sm
    get_initial_state_membership_from_sm_inlog_is_smaller
    get_initial_state_membership_from_log_insm_is_smaller
    get_initial_state_last_log_lt_sm
    get_initial_state_log_ids
    get_initial_state_re_apply_committed
    snapshot_meta
    snapshot_meta_optional
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn transfer_snapshot() -> io::Result<()> {
    Storage::transfer_snapshot(&Builder).await
}
