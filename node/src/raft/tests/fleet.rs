//! The fleet that the tests run.

use std::{collections::BTreeMap, path::PathBuf, sync::Arc, time::Duration};

use bytes::Bytes;
use kvfleet_api::{
    admin::MemberAddress,
    tenant::{TenantConfig, TenantLimits},
};
use tempfile::TempDir;
use tokio::time::Instant;

use super::gate::{Gate, Gated};
use crate::{
    cluster_id::ClusterId,
    log::{Directory, Options, Wal},
    peer::{Transport, TransportSettings},
    raft::{Group, GroupSettings, ProposeError, ReadPoint, StartError},
    state::{Command, Condition, Done, Kind, Machine, Operation, Put, Response, Supported, TenantId, Ttl, View},
    storage::{FjallStore, FjallStores},
    tls::{Identity, Role, TlsDirectory, issue::Authority},
};

pub(super) const CLUSTER: ClusterId = ClusterId::from_bytes([0x7b; 16]);
/// A limit for what takes milliseconds on a quiet machine.
pub(super) const LIMIT: Duration = Duration::from_secs(30);

pub(super) fn soon() -> Instant {
    Instant::now() + LIMIT
}

pub(super) struct Fleet {
    directory: TempDir,
    authority: Authority,
    pub(super) seats: Vec<Seat>,
}

/// A member that can be stopped and started again.
pub(super) struct Seat {
    pub(super) id: u64,
    name: String,
    pub(super) address: String,
    gate: Gate,
    /// What its program knows when it is started the next time.
    pub(super) levels: Supported,
    running: Option<Running>,
}

struct Running {
    group: Group,
    transport: Transport,
    wal: Wal,
}

impl Fleet {
    /// Members that listen and are blank.
    pub(super) async fn blank(count: u64) -> Self {
        Fleet::blank_of((0..count).map(|_| Supported::ALL)).await
    }

    /// The same with programs that know these levels.
    pub(super) async fn blank_of(levels: impl IntoIterator<Item = Supported>) -> Self {
        let authority = Authority::create(CLUSTER).unwrap();
        let seats = (1_u64..)
            .zip(levels)
            .map(|(id, levels)| Seat {
                id: 0x1000 + id,
                name: format!("m{id}"),
                address: "127.0.0.1:0".to_owned(),
                gate: Gate::new(),
                levels,
                running: None,
            })
            .collect();
        let mut fleet = Fleet {
            directory: tempfile::tempdir().unwrap(),
            authority,
            seats,
        };
        for at in 0..fleet.seats.len() {
            fleet.start(at).await;
        }
        fleet
    }

    /// A formed group with a tenant.
    pub(super) async fn formed(count: u64) -> Self {
        Fleet::formed_of((0..count).map(|_| Supported::ALL)).await
    }

    /// The same with programs that know these levels.
    pub(super) async fn formed_of(levels: impl IntoIterator<Item = Supported>) -> Self {
        let fleet = Fleet::blank_of(levels).await;
        fleet.group(0).initialize(fleet.addresses()).await.unwrap();
        for at in 0..fleet.seats.len() {
            fleet.until(at, "ready", |group| group.is_ready()).await;
        }
        let config = TenantConfig {
            uid: "u".to_owned(),
            owner: "tests/t".to_owned(),
            generation: 1,
            cluster_generation: 1,
            credential_generation: 1,
            limits: TenantLimits::default(),
        };
        let put = Command::PutTenant {
            name: "t".to_owned(),
            config,
        };
        let answer = fleet.group(0).propose(put, soon()).await.unwrap();
        assert!(matches!(answer, Response::Tenant(_)), "{answer:?}");
        fleet
    }

    /// One more blank member.
    pub(super) async fn join(&mut self) -> usize {
        let at = self.seats.len();
        let id = 0x1001 + u64::try_from(at).unwrap();
        self.seats.push(Seat {
            id,
            name: format!("m{}", at + 1),
            address: "127.0.0.1:0".to_owned(),
            gate: Gate::new(),
            levels: Supported::ALL,
            running: None,
        });
        self.start(at).await;
        at
    }

    /// As [`Fleet::join`], under the name and at the address of a member that is stopped.
    pub(super) async fn join_in_place_of(&mut self, lost: usize) -> usize {
        let at = self.seats.len();
        let (name, address) = (self.seats[lost].name.clone(), self.seats[lost].address.clone());
        self.seats.push(Seat {
            id: 0x1001 + u64::try_from(at).unwrap(),
            name,
            address,
            gate: Gate::new(),
            levels: Supported::ALL,
            running: None,
        });
        self.start(at).await;
        at
    }

    pub(super) fn learner(&self, at: usize) -> MemberAddress {
        let seat = &self.seats[at];
        MemberAddress {
            id: seat.id,
            name: seat.name.clone(),
            peer: seat.address.clone(),
            voter: false,
        }
    }

    pub(super) fn addresses(&self) -> Vec<MemberAddress> {
        self.seats
            .iter()
            .map(|seat| MemberAddress {
                id: seat.id,
                name: seat.name.clone(),
                peer: seat.address.clone(),
                voter: true,
            })
            .collect()
    }

    /// A directory of certificates of this fleet's CA.
    pub(super) fn certificates(&self, name: &str, identity: Identity) -> PathBuf {
        write_certificates(&self.directory.path().join(name), &self.authority, identity)
    }

    /// Where a member's files are.
    pub(super) fn home(&self, at: usize) -> PathBuf {
        self.directory.path().join(format!("member-{at}"))
    }

    pub(super) async fn start(&mut self, at: usize) {
        self.try_start(at).await.unwrap();
    }

    pub(super) async fn try_start(&mut self, at: usize) -> Result<(), StartError> {
        let certificates = self.certificates(
            &format!("tls-{at}"),
            Identity {
                cluster: CLUSTER,
                role: Role::Member,
            },
        );
        let home = self.home(at);
        std::fs::create_dir_all(&home).unwrap();
        let seat = &mut self.seats[at];
        let levels = seat.levels;
        let settings = TransportSettings {
            cluster: CLUSTER,
            shard: 0,
            id: seat.id,
            name: seat.name.clone(),
            compress_above: 4 << 10,
            levels: levels.into(),
        };
        let tls = TlsDirectory::open(&certificates, CLUSTER).unwrap();
        let transport = Transport::start(settings, &seat.address, tls).await.unwrap();
        seat.address = transport.local_address().unwrap().to_string();
        let gate = seat.gate.clone();
        let opened = tokio::task::spawn_blocking(move || {
            let directory = Directory::open(&home.join("raft")).unwrap();
            let wal = Wal::open_on(Arc::new(Gated { gate, directory }), Options::default()).unwrap();
            let (machine, views) = Machine::open_knowing(open_rows(&home.join("sm")), levels.highest).unwrap();
            (wal, machine, views)
        });
        let (wal, machine, views) = opened.await.unwrap();
        let settings = settings_of(seat.id, &seat.name, &seat.address);
        let group = match Group::start(settings, wal.clone(), machine, views, transport.clone()).await {
            Ok(group) => group,
            Err(error) => {
                transport.closed().await;
                tokio::task::spawn_blocking(move || wal.close().unwrap()).await.unwrap();
                return Err(error);
            }
        };
        seat.running = Some(Running { group, transport, wal });
        Ok(())
    }

    /// Cuts a member off and stops it, as a crash looks to the others.
    pub(super) async fn stop(&mut self, at: usize) {
        let Running { group, transport, wal } = self.seats[at].running.take().unwrap();
        transport.close();
        group.shutdown().await;
        drop(group);
        tokio::task::spawn_blocking(move || wal.close().unwrap()).await.unwrap();
    }

    /// Stops a member whose log has failed.
    pub(super) async fn stop_failed(&mut self, at: usize) {
        let Running { group, transport, wal } = self.seats[at].running.take().unwrap();
        transport.close();
        group.shutdown().await;
        drop(group);
        let closed = tokio::task::spawn_blocking(move || wal.close()).await.unwrap();
        assert!(closed.is_err(), "it had failed");
    }

    /// What a member's log meets.
    pub(super) fn gate(&self, at: usize) -> &Gate {
        &self.seats[at].gate
    }

    /// A transport in the name of a member whose group does not run.
    pub(super) async fn caller(&self, at: usize) -> Transport {
        let identity = Identity {
            cluster: CLUSTER,
            role: Role::Member,
        };
        let certificates = self.certificates(&format!("tls-caller-{at}"), identity);
        let settings = TransportSettings {
            cluster: CLUSTER,
            shard: 0,
            id: self.seats[at].id,
            name: self.seats[at].name.clone(),
            compress_above: 0,
            levels: Supported::ALL.into(),
        };
        let tls = TlsDirectory::open(&certificates, CLUSTER).unwrap();
        Transport::start(settings, "127.0.0.1:0", tls).await.unwrap()
    }

    /// Cuts a member off for good; it goes on as if the others were gone.
    pub(super) fn cut(&self, at: usize) {
        self.transport(at).close();
    }

    /// Takes the log away under a running member.
    pub(super) async fn close_log(&self, at: usize) {
        let wal = self.seats[at].running.as_ref().unwrap().wal.clone();
        tokio::task::spawn_blocking(move || wal.close().unwrap()).await.unwrap();
    }

    pub(super) fn log_metrics(&self, at: usize) -> crate::log::Metrics {
        self.seats[at].running.as_ref().unwrap().wal.metrics()
    }

    pub(super) fn group(&self, at: usize) -> &Group {
        &self.seats[at].running.as_ref().unwrap().group
    }

    pub(super) fn transport(&self, at: usize) -> &Transport {
        &self.seats[at].running.as_ref().unwrap().transport
    }

    pub(super) fn running(&self) -> Vec<usize> {
        (0..self.seats.len()).filter(|at| self.seats[*at].running.is_some()).collect()
    }

    /// Where the leader sits that all running members agree on.
    pub(super) async fn leader(&self) -> usize {
        self.leader_of(&self.running()).await
    }

    /// Where the leader sits that these members agree on.
    pub(super) async fn leader_of(&self, running: &[usize]) -> usize {
        let limit = soon();
        loop {
            let known: Vec<_> = running
                .iter()
                .map(|at| self.group(*at).status().leader.map(|leader| leader.id))
                .collect();
            if let Some(leader) = known[0].filter(|_| known.iter().all(|leader| *leader == known[0]))
                && let Some(at) = running.iter().find(|at| self.seats[**at].id == leader)
                && self.group(*at).status().role == Some(kvfleet_api::admin::Role::Primary)
            {
                return *at;
            }
            assert!(Instant::now() < limit, "no leader: {known:x?}");
            let _ = tokio::time::timeout(Duration::from_millis(20), self.group(running[0]).watch().changed()).await;
        }
    }

    /// Waits for a condition on a member.
    pub(super) async fn until(&self, at: usize, what: &str, condition: impl Fn(&Group) -> bool) {
        let limit = soon();
        let mut news = self.group(at).watch();
        while !condition(self.group(at)) {
            assert!(Instant::now() < limit, "member {at} is not {what}: {:?}", self.group(at).status());
            let _ = tokio::time::timeout(Duration::from_millis(10), news.changed()).await;
        }
    }

    pub(super) async fn put(&self, at: usize, key: &str, value: &str) -> u64 {
        let answer = self.group(at).propose(put(key, value), soon()).await;
        match answer.as_ref().map(Response::done) {
            Ok(Some(Done::Put(written))) => written.revision,
            _ => panic!("put of {key} through member {at}: {answer:?}"),
        }
    }

    /// What a linearizable read through a member finds.
    pub(super) async fn get(&self, at: usize, key: &str) -> Option<String> {
        let point = self.group(at).read_barrier(soon()).await.unwrap();
        get(point, key).await
    }

    /// Every acknowledged write must be there, through every running member.
    pub(super) async fn assert_holds(&self, written: &BTreeMap<String, String>) {
        for at in self.running() {
            let point = self.group(at).read_barrier(soon()).await.unwrap();
            let expected = written.clone();
            let missing = tokio::task::spawn_blocking(move || {
                let tenant = tenant(&point.view);
                expected
                    .into_iter()
                    .filter(|(key, value)| record(&point.view, tenant, key, point.now_ms).as_ref() != Some(value))
                    .collect::<Vec<_>>()
            });
            let missing = missing.await.unwrap();
            assert!(missing.is_empty(), "acknowledged and not on member {at}: {missing:?}");
        }
    }
}

/// Opens the rows of a member that is stopped. Whoever was reading when it stopped has the files for a moment longer.
pub(super) fn open_rows(folder: &std::path::Path) -> FjallStore {
    let limit = std::time::Instant::now() + LIMIT;
    loop {
        match FjallStores::open(folder) {
            Err(error) if error.is_locked() && std::time::Instant::now() < limit => std::thread::yield_now(),
            opened => return opened.unwrap(),
        }
    }
}

pub(super) fn settings_of(id: u64, name: &str, address: &str) -> GroupSettings {
    GroupSettings {
        cluster_id: CLUSTER,
        shard: 0,
        id,
        name: name.to_owned(),
        peer_advertise: address.to_owned(),
        heartbeat_interval: Duration::from_millis(75),
        election_timeout: Duration::from_millis(900),
        max_batch: 4096,
    }
}

pub(super) fn write_certificates(directory: &std::path::Path, authority: &Authority, identity: Identity) -> PathBuf {
    std::fs::create_dir_all(directory).unwrap();
    let issued = authority
        .issue(identity, &["localhost".to_owned(), "127.0.0.1".to_owned()])
        .unwrap();
    std::fs::write(directory.join("ca.crt"), authority.certificate()).unwrap();
    std::fs::write(directory.join("tls.crt"), issued.certificate).unwrap();
    std::fs::write(directory.join("tls.key"), issued.key).unwrap();
    directory.to_owned()
}

pub(super) fn put(key: &str, value: &str) -> Command {
    put_for(key, value, Ttl::Default)
}

/// Whether a put was done.
pub(super) fn is_put(answer: &Result<Response, ProposeError>) -> bool {
    matches!(answer.as_ref().map(Response::done), Ok(Some(Done::Put(_))))
}

pub(super) fn put_for(key: &str, value: &str, ttl: Ttl) -> Command {
    Command::one(
        // The first tenant of a fresh group.
        TenantId(1),
        Operation::Put(Put {
            key: key.to_owned(),
            value: Bytes::copy_from_slice(value.as_bytes()),
            kind: Kind::String,
            content_type: None,
            metadata: Vec::new(),
            ttl,
            condition: Condition::None,
        }),
    )
}

fn tenant(view: &View) -> TenantId {
    view.tenant("t").unwrap().id
}

fn record(view: &View, tenant: TenantId, key: &str, now_ms: u64) -> Option<String> {
    view.get(tenant, key, now_ms)
        .unwrap()
        .map(|record| String::from_utf8(record.value.to_vec()).unwrap())
}

pub(super) async fn get(point: ReadPoint, key: &str) -> Option<String> {
    let key = key.to_owned();
    tokio::task::spawn_blocking(move || record(&point.view, tenant(&point.view), &key, point.now_ms))
        .await
        .unwrap()
}

/// Whether an error leaves open that the write took effect.
pub(super) fn is_unknown(error: &ProposeError) -> bool {
    use kvfleet_api::error::Outcome;
    matches!(
        error,
        ProposeError::NoLeader { outcome: Outcome::Unknown }
            | ProposeError::Deadline { outcome: Outcome::Unknown }
            | ProposeError::Failed(_)
    )
}
