//! openraft's own suite for storage, on the write-ahead log and the state machine. Not run: its three snapshot tests (this version has no
//! snapshots).

use std::io;

use openraft::{StorageError, testing::log::Suite};
use tempfile::TempDir;

use crate::{
    log::{Options, Wal},
    raft::{
        apply::{self, StateMachine},
        log_store::LogStore,
        types::Types,
    },
    state::Machine,
    storage::FjallStore,
};

struct Builder;

impl openraft::testing::log::StoreBuilder<Types, LogStore, StateMachine, TempDir> for Builder {
    async fn build(&self) -> Result<(TempDir, LogStore, StateMachine), StorageError<Types>> {
        let directory = tempfile::tempdir().unwrap();
        let wal = Wal::open(&directory.path().join("raft"), Options::default()).unwrap();
        let (machine, _) = Machine::open(FjallStore::open(&directory.path().join("sm")).unwrap()).unwrap();
        let (machine, _) = apply::start(machine).unwrap();
        Ok((directory, LogStore::new(wal), machine))
    }
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
    get_initial_state_membership_from_empty_log_and_sm
    get_initial_state_membership_from_sm_inlog_is_smaller
    get_initial_state_membership_from_log_insm_is_smaller
    get_initial_state_with_state
    get_initial_state_last_log_gt_sm
    get_initial_state_last_log_lt_sm
    get_initial_state_inverted_log_order
    get_initial_state_conflict_at_same_index
    get_initial_state_log_ids
    get_initial_state_re_apply_committed
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
}
