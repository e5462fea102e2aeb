//! One member with everything real behind it: log, state machine, consensus, in a temporary directory. What the port's tests run on.

use kvfleet_api::{
    admin::{MemberAddress, Settings},
    tenant::{TenantConfig, TenantLimits, TenantStatus},
    token::Claims,
};

use super::*;
use crate::{
    auth::{
        Authenticator,
        tests::{CLUSTER, Signer, write_keys},
    },
    log::{Options, Wal},
    peer::{Transport, TransportSettings},
    raft::GroupSettings,
    state::{Command, Machine, Response, Supported, TenantId},
    storage::FjallStores,
};

/// A limit for what takes milliseconds on a quiet machine.
pub(crate) const LIMIT: Duration = Duration::from_secs(30);

const ID: u64 = 0x1001;

pub(crate) struct Member {
    _directory: tempfile::TempDir,
    pub(crate) app: App,
    pub(crate) auth: Authenticator,
    pub(crate) signer: Signer,
}

impl Member {
    pub(crate) async fn start() -> Self {
        let directory = tempfile::tempdir().unwrap();
        let home = directory.path().to_owned();
        let opened = tokio::task::spawn_blocking(move || {
            let options = Options {
                segment_bytes: 4 << 20,
                first_segment_bytes: 1 << 20,
                ..Options::default()
            };
            let wal = Wal::open(&home.join("raft"), options).unwrap();
            let (machine, views) = Machine::open(FjallStores::open(&home.join("sm")).unwrap()).unwrap();
            (wal, machine, views)
        });
        let (wal, machine, views) = opened.await.unwrap();
        let transport = Transport::alone(TransportSettings {
            cluster: CLUSTER,
            shard: 0,
            id: ID,
            name: "m0".into(),
            compress_above: 4 << 10,
            levels: Supported::ALL.into(),
        });
        let settings = GroupSettings {
            cluster_id: CLUSTER,
            shard: 0,
            id: ID,
            name: "m0".into(),
            peer_advertise: "m0:7400".into(),
            heartbeat_interval: Duration::from_millis(75),
            election_timeout: Duration::from_millis(900),
            max_batch: 4_096,
        };
        let group = Group::start(settings, wal, machine, views.clone(), transport).await.unwrap();
        let itself = MemberAddress {
            id: ID,
            name: "m0".into(),
            peer: "m0:7400".into(),
            voter: true,
        };
        group.initialize(vec![itself]).await.unwrap();
        let signer = Signer::new("k");
        let keys = directory.path().join("jwks.json");
        write_keys(&keys, &[&signer]);
        let auth = Authenticator::open(&keys, CLUSTER).unwrap();
        Member {
            _directory: directory,
            app: App::new(group, views),
            auth,
            signer,
        }
    }

    pub(crate) async fn command(&self, command: Command) -> Response {
        self.app.group.propose(command, Instant::now() + LIMIT).await.unwrap()
    }

    /// Takes the member out of its group; its port stays.
    pub(crate) async fn stop(&self) {
        self.app.group.shutdown().await;
    }

    /// Creates or changes a tenant; `generation` is that of its credentials, too.
    pub(crate) async fn tenant(&self, name: &str, generation: u64, limits: TenantLimits) -> TenantStatus {
        let config = TenantConfig {
            uid: format!("uid-of-{name}"),
            owner: format!("tests/{name}"),
            generation,
            cluster_generation: 1,
            credential_generation: generation,
            limits,
        };
        let put = Command::PutTenant {
            name: name.to_owned(),
            config,
        };
        match self.command(put).await {
            Response::Tenant(status) => *status,
            other => panic!("{other:?}"),
        }
    }

    pub(crate) async fn settings(&self, settings: Settings) {
        let answer = self.command(Command::PutSettings(settings)).await;
        assert!(matches!(answer, Response::Settings(_)), "{answer:?}");
    }

    pub(crate) fn claims(&self, tenant: &TenantStatus) -> Claims {
        Claims {
            iss: CLUSTER.to_string(),
            sub: tenant.name.clone(),
            tid: tenant.id,
            scope: "read write".into(),
            r#gen: tenant.config.credential_generation,
            iat: tenant.credential_issued_at,
            exp: None,
        }
    }

    pub(crate) fn token(&self, tenant: &TenantStatus) -> String {
        self.signer.token(&self.claims(tenant))
    }
}

impl App {
    /// The memory, as this tenant sees it, without a call of its.
    pub(crate) fn memory_of(&self, tenant: TenantId) -> Memory<'_> {
        Memory::new(&self.memory, &self.waiting, tenant)
    }

    /// Bytes that bodies and answers hold.
    pub(crate) fn memory_held(&self) -> u64 {
        self.memory.held()
    }

    /// Every place that one tenant may have for requests that wait.
    pub(crate) fn all_places_to_wait(&self, tenant: TenantId) -> Vec<Share> {
        std::iter::from_fn(|| self.waiting.try_take(tenant, 1)).collect()
    }

    /// Every place that one tenant may have for looks at many rows.
    pub(crate) fn all_places_for_scans(&self, tenant: TenantId) -> Vec<Share> {
        std::iter::from_fn(|| self.lanes.scans.try_take(tenant, 1)).collect()
    }
}
