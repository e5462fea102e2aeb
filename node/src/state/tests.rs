//! The state machine over a real fjall store, driven as raft drives it.

mod bounds;
mod crash;
mod full;
mod golden;
mod level;
mod lists;
mod many;
mod model;
mod put;
mod quota;
mod savepoints;
mod scan;
mod snapshot;
mod tenants;
mod ttl;
mod values;

use std::{path::Path, sync::Arc};

use bytes::Bytes;
use kvfleet_api::tenant::{TenantConfig, TenantLimits};
use tempfile::TempDir;

use super::*;
use crate::storage::{Direction, FjallStore, KeyRange, Keyspace, Store, StoreError};

/// A moment to start from: late enough that nothing underflows.
pub(super) const START: u64 = 1_700_000_000_000;

/// A machine in a directory of its own, and the log that feeds it.
pub(super) struct Shard {
    directory: TempDir,
    machine: Machine<FjallStore>,
    views: Views,
    index: u64,
    pub(super) now_ms: u64,
}

impl Shard {
    fn new() -> Self {
        let directory = tempfile::tempdir().unwrap();
        let (machine, views) = Machine::open(FjallStore::open(directory.path()).unwrap()).unwrap();
        Shard {
            directory,
            machine,
            views,
            index: 0,
            now_ms: START,
        }
    }

    /// A shard with the tenant `acme`, whose id is 1.
    pub(super) fn with(limits: TenantLimits) -> Self {
        let mut shard = Shard::new();
        assert!(matches!(shard.run(put_tenant("acme", limits)), Response::Tenant(_)));
        shard
    }

    pub(super) fn run(&mut self, command: Command) -> Response {
        self.index += 1;
        let input = entry(self.index, self.now_ms, command);
        alone(self.machine.apply(vec![input]).unwrap().remove(0))
    }

    pub(super) fn put(&mut self, key: &str, value: &str) -> Response {
        self.run(put(key, value))
    }

    pub(super) fn pass(&mut self, milliseconds: u64) {
        self.now_ms += milliseconds;
    }

    pub(super) fn view(&self) -> Arc<View> {
        self.views.latest()
    }

    pub(super) fn value(&self, key: &str) -> Option<String> {
        let record = self.view().get(ACME, key, self.now_ms).unwrap();
        record.map(|record| String::from_utf8(record.value.to_vec()).unwrap())
    }

    /// When a sweep is due, if that is within the hour.
    pub(super) fn due(&self) -> Option<u64> {
        self.view().sweep_due(0, self.now_ms + 3_600_000).unwrap()
    }

    pub(super) fn used(&self) -> (u64, u64) {
        let used = self.view().used(ACME, self.now_ms).unwrap();
        (used.storage, used.keys)
    }

    /// Closes the machine and lists every row.
    fn dump(self) -> Vec<(Keyspace, Vec<u8>, Vec<u8>)> {
        let Shard {
            directory, machine, views, ..
        } = self;
        drop((machine, views));
        dump(directory.path())
    }

    /// Closes the machine and opens it again from what is on disk.
    pub(super) fn reopen(self) -> Self {
        let Shard {
            directory,
            machine,
            views,
            index,
            now_ms,
        } = self;
        drop((machine, views));
        let (machine, views) = Machine::open(FjallStore::open(directory.path()).unwrap()).unwrap();
        Shard {
            directory,
            machine,
            views,
            index,
            now_ms,
        }
    }
}

pub(super) const ACME: TenantId = TenantId(1);

type Records = Vec<(String, Record)>;

/// Takes whatever comes.
#[derive(Default)]
struct Items(Records);

impl Collect for Items {
    fn add(&mut self, key: &str, record: &Record) -> bool {
        self.0.push((key.to_owned(), record.clone()));
        true
    }
}

/// Limits of a page that only its records reach.
fn items(items: usize) -> ScanLimits {
    ScanLimits {
        items,
        rows: 1_000_000,
        read_bytes: 1 << 30,
    }
}

/// A page, and where the next one goes on.
fn page(
    view: &View,
    tenant: TenantId,
    range: &ScanRange,
    limits: ScanLimits,
    now_ms: u64,
) -> Result<(Records, Option<String>), StoreError> {
    let mut items = Items::default();
    let next = match view.scan(tenant, range, limits, now_ms, &|| true, &mut items)? {
        Ended::AtTheEnd => None,
        Ended::After(last) => Some(last),
        ended => panic!("{ended:?}"),
    };
    Ok((items.0, next))
}

fn dump(directory: &Path) -> Vec<(Keyspace, Vec<u8>, Vec<u8>)> {
    let reader = FjallStore::open(directory).unwrap().reader();
    let rows = |keyspace| {
        reader
            .range(keyspace, KeyRange::ALL, Direction::Ascending)
            .map(Result::unwrap)
            .map(move |(k, v)| (keyspace, k.to_vec(), v.to_vec()))
    };
    Keyspace::ALL.into_iter().flat_map(rows).collect()
}

fn entry(index: u64, stamp_ms: u64, command: Command) -> Input {
    Input {
        id: Applied { term: 1, index },
        body: Body::Proposal(Proposal { stamp_ms, command }),
    }
}

fn config(uid: &str, limits: TenantLimits) -> TenantConfig {
    TenantConfig {
        uid: uid.to_owned(),
        owner: "team/acme".to_owned(),
        generation: 1,
        cluster_generation: 1,
        credential_generation: 1,
        limits,
    }
}

fn put_tenant(name: &str, limits: TenantLimits) -> Command {
    Command::PutTenant {
        name: name.to_owned(),
        config: config("uid-1", limits),
    }
}

fn put(key: &str, value: &str) -> Command {
    put_with(key, value, Ttl::Default, Condition::None)
}

pub(super) fn put_with(key: &str, value: &str, ttl: Ttl, condition: Condition) -> Command {
    Command::one(
        ACME,
        Operation::Put(Put {
            key: key.to_owned(),
            value: Bytes::copy_from_slice(value.as_bytes()),
            kind: Kind::String,
            content_type: None,
            metadata: Vec::new(),
            ttl,
            condition,
        }),
    )
}

fn delete(key: &str) -> Command {
    Command::one(
        ACME,
        Operation::Delete(Delete {
            key: key.to_owned(),
            condition: Condition::None,
        }),
    )
}

fn written(written: Written) -> Response {
    Response::Written {
        answers: vec![Ok(Done::Put(written))],
    }
}

fn deleted(revision: Option<u64>) -> Response {
    Response::Written {
        answers: vec![Ok(Done::Deleted(Deletion { revision }))],
    }
}

/// The refusal of a write of one operation reads as that of the whole.
fn alone(response: Response) -> Response {
    match response.only() {
        Ok(done) => Response::Written { answers: vec![Ok(done)] },
        Err(other) => other,
    }
}

pub(super) fn refused(refusal: Refusal) -> Response {
    Response::Refused(refusal)
}
