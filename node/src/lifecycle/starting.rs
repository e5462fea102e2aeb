//! From a configuration to an open member: lock, identity, certificates, log, state machine, group, ports. In this order, because each
//! needs the one before, and because nothing may be written before the lock is held.

use std::{
    path::PathBuf,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use prometheus_client::registry::Registry;
use tokio::{
    runtime::Handle,
    sync::{mpsc, oneshot},
    task::JoinSet,
};

use super::{
    data_port::{self, DataPortSettings},
    disk_watch::{DiskWatch, Seen},
    error::LifecycleError,
    joining,
    ports::Ports,
    quarantined::Quarantined,
    surroundings::Listening,
    temporary::Temporary,
    used::Used,
};
use crate::{
    admin,
    cluster_id::ClusterId,
    config::{Config, Mode, Standalone},
    data_dir::{self, DataDir},
    health::{Health, Readiness},
    http::Server,
    log::{self, Wal},
    metrics::{LogCounters, MemberFigures, PeerCounters, Requests, Source},
    panics,
    peer::{Transport, TransportSettings},
    raft::{Group, GroupSettings},
    standalone::{
        certificates,
        tenants::{self, Wanted},
        welcome,
    },
    state::{Machine, Views},
    storage::{self, FjallStores, MEMTABLE_BYTES},
    tls::TlsDirectory,
};

/// How long a starting member waits for another process to let go of the data directory: the grace that Kubernetes gives a pod that is
/// deleted by force, whose successor starts while it still runs.
const LOCK_PATIENCE: Duration = Duration::from_secs(75);

/// How often a member that found its disk full at the start looks again.
const LOOK_FOR_SPACE: Duration = Duration::from_secs(1);

/// What a scrape asks, once there is a member to ask.
pub(super) type Figures = Arc<Mutex<Option<Arc<dyn Fn() -> MemberFigures + Send + Sync>>>>;

/// Where the metrics port finds the figures: nothing is shown before the member is open.
pub(super) fn source(figures: &Figures) -> Source {
    let figures = Arc::clone(figures);
    Arc::new(move || {
        let read = figures.lock().unwrap_or_else(PoisonError::into_inner).clone();
        read.map(|read| read())
    })
}

/// From now on scrapes ask this.
pub(super) fn show_figures(figures: &Figures, read: impl Fn() -> MemberFigures + Send + Sync + 'static) {
    *figures.lock().unwrap_or_else(PoisonError::into_inner) = Some(Arc::new(read));
}

/// A process that has its sockets and nothing else.
pub(super) struct Starting {
    pub(super) config: Config,
    pub(super) health: Health,
    pub(super) figures: Figures,
    pub(super) requests: Requests,
    pub(super) registry: Arc<Registry>,
    /// Where the data port is served.
    pub(super) tenants: Handle,
    pub(super) addresses: Listening,
    pub(super) ports: Ports,
}

/// What a start comes to.
pub(super) enum Opened {
    Open(Box<Open>),
    /// The data directory is this member's, and cannot be vouched for.
    Quarantined(Quarantined),
}

/// A member whose stores are open and whose ports serve.
pub(super) struct Open {
    pub(super) group: Group,
    pub(super) views: Views,
    pub(super) log: Wal,
    pub(super) transport: Transport,
    pub(super) data_dir: DataDir,
    pub(super) name: String,
    pub(super) peer_advertise: String,
    pub(super) health: Health,
    pub(super) addresses: Listening,
    pub(super) data_port: Server,
    pub(super) config: Config,
    /// What goes on beside serving; ends with the member.
    pub(super) tasks: JoinSet<()>,
    /// The admin port is served until this goes.
    pub(super) _admin_port: oneshot::Sender<()>,
    pub(super) drain_delay: Duration,
    pub(super) log_level: crate::config::LogLevel,
    pub(super) role: Role,
    pub(super) failures: tokio::sync::Mutex<mpsc::UnboundedReceiver<String>>,
    /// Watches as long as this is there, so also while the member closes.
    pub(super) _disk_watch: DiskWatch,
    pub(super) _flush_watch: storage::Looking,
    // Last, so that it goes when nothing uses it any more.
    pub(super) temporary: Option<Temporary>,
}

/// What the member does beside serving.
pub(super) struct Role {
    /// One member without a cluster of others: it forms its group itself and welcomes its user.
    pub(super) alone: bool,
    pub(super) standalone: Standalone,
    pub(super) tenants: Vec<Wanted>,
    /// The signing key, and where tokens go (none: shown in the welcome).
    pub(super) credentials: Option<(crate::standalone::signing::SigningKey, Option<PathBuf>)>,
}

impl Starting {
    /// Opens everything, or finds that what is there must not take part.
    pub(super) async fn open(&self) -> Result<Opened, LifecycleError> {
        let (path, cluster, temporary) = match &self.config.mode {
            Mode::Cluster { data_dir, cluster_id, .. } => (data_dir.clone(), Some(*cluster_id), None),
            Mode::Alone { data_dir: Some(path) } => (path.clone(), None, None),
            Mode::Alone { data_dir: None } => {
                let temporary = Temporary::create().map_err(LifecycleError::Temporary)?;
                (temporary.path().join("data"), None, Some(temporary))
            }
        };
        let lock = data_dir::acquire(&path, LOCK_PATIENCE).await?;
        match self.open_locked(lock.clone(), cluster, temporary).await {
            Ok(open) => Ok(Opened::Open(Box::new(open))),
            // A member alone has nobody who could replace it: whoever started it reads the message.
            Err(error) if error.is_damage() && cluster.is_some() => Ok(Opened::Quarantined(Quarantined::new(&error, lock))),
            Err(error) => Err(error),
        }
    }

    async fn open_locked(
        &self,
        lock: data_dir::Lock,
        cluster: Option<ClusterId>,
        temporary: Option<Temporary>,
    ) -> Result<Open, LifecycleError> {
        let Starting {
            config,
            health,
            figures,
            requests,
            registry,
            tenants,
            addresses,
            ports,
        } = self;
        let Config {
            mode,
            shard,
            name,
            addresses: configured,
            raft,
            compress_above,
            disk_reserve,
            levels,
            drain_delay,
            logging,
        } = config.clone();

        let data_dir = tokio::task::spawn_blocking(move || DataDir::open(lock, cluster, shard)).await??;
        let identity = data_dir.identity();

        let (tls_dir, token_keys, role) = role(mode, &data_dir)?;
        let tls = TlsDirectory::open(&tls_dir, identity.cluster).map_err(LifecycleError::Tls)?;

        let (failed, failures) = mpsc::unbounded_channel();
        let log_dir = data_dir.log();
        let on_fatal: Arc<dyn Fn(std::io::Error) + Send + Sync> = Arc::new(move |error: std::io::Error| {
            // The receiver is gone only when the process is about to end anyway.
            let _ = failed.send(format!("the write-ahead log failed: {error}"));
        });
        let wal = when_there_is_space("the write-ahead log", move || {
            let on_fatal = Arc::clone(&on_fatal);
            Ok(Wal::open(
                &log_dir,
                log::Options {
                    on_fatal,
                    ..log::Options::default()
                },
            )?)
        })
        .await?;
        let store_dir = data_dir.state_machine();
        // A member alone has nobody to replace it, and may have its files put right.
        let quarantine = cluster.is_some().then(|| data_dir.path().to_owned());
        let (machine, views, flushes) = when_there_is_space("the state machine", move || {
            let quarantine = quarantine.clone();
            let note = move |reason: &str| {
                // An engine that gives up for want of space has met no damage, and the next start may find some.
                let has_room = |directory: &PathBuf| storage::space(directory).is_ok_and(|space| space.free > MEMTABLE_BYTES);
                if let Some(directory) = quarantine.filter(has_room)
                    && let Err(error) = data_dir::quarantine(&directory, reason)
                {
                    tracing::error!(%error, "the damage could not be noted for the next start");
                }
            };
            let opened = panics::caught(note, || {
                let store = FjallStores::open(&store_dir)?;
                let flushes = store.flushes();
                Machine::open_knowing(store, levels.highest).map(|(machine, views)| (machine, views, flushes))
            });
            Ok(opened.map_err(LifecycleError::StorePanic)??)
        })
        .await?;
        complete(data_dir.path(), &wal, machine.applied().map(|applied| applied.index))?;

        let peer_advertise = match &configured.peer {
            Some(peer) => peer.advertise.clone(),
            // Nobody ever dials it.
            None => format!("{name}:{}", kvfleet_api::port::PEER),
        };
        let settings_of_transport = TransportSettings {
            cluster: identity.cluster,
            shard,
            id: identity.member,
            name: name.clone(),
            compress_above,
            levels: levels.into(),
        };
        let transport = match &configured.peer {
            Some(peer) => Transport::start(settings_of_transport, &peer.listen, tls.clone()).await?,
            None => Transport::alone(settings_of_transport),
        };
        let settings = GroupSettings {
            cluster_id: identity.cluster,
            shard,
            id: identity.member,
            name: name.clone(),
            peer_advertise: peer_advertise.clone(),
            heartbeat_interval: raft.heartbeat_interval,
            election_timeout: raft.election_timeout,
            max_batch: raft.max_batch,
        };
        let group = match Group::start(settings, wal.clone(), machine, views.clone(), transport.clone()).await {
            Ok(group) => group,
            Err(error) => {
                transport.closed().await;
                return Err(error.into());
            }
        };

        let seen = Seen::new(data_dir.path(), disk_reserve, transport.clone());
        let used = Used::watch(data_dir.path().to_owned()).map_err(no_thread)?;
        show(figures, &group, &views, &wal, health, used, (seen.clone(), flushes.clone()));
        let member = admin::Member {
            group: group.clone(),
            views: views.clone(),
            log: wal.clone(),
            identity,
            name: name.as_str().into(),
            data_dir: Arc::new(data_dir.path().to_owned()),
            health: health.clone(),
            registry: Arc::clone(registry),
        };
        let (admin_port, closed) = oneshot::channel::<()>();
        tokio::spawn(admin::serve(
            ports.admin.listen()?,
            Arc::clone(&ports.admin.roster),
            tls,
            admin::router(member),
            async {
                // The sender goes with the open member.
                let _ = closed.await;
            },
        ));
        let settings = DataPortSettings {
            cluster: identity.cluster,
            token_keys,
            name: name.clone(),
            requests: requests.clone(),
        };
        let data_port = data_port::open(settings, tenants, &ports.data, group.clone(), views.clone())?;
        let disk_watch = DiskWatch::start(seen, group.clone(), data_port.cutter()).map_err(no_thread)?;

        let flush_watch = flushes
            .start()
            .map_err(|error| LifecycleError::Failed(format!("the system gives no thread to watch the storage engine: {error}")))?;

        let ready = group.clone();
        health.started(Readiness::Ask(Arc::new(move || flushes.check().and_then(|()| ready.readiness()))));
        tracing::info!(
            cluster = %identity.cluster, member = identity.member, name, data = %addresses.data, health = %addresses.health,
            metrics = %addresses.metrics, admin = %addresses.admin, peer = peer_advertise, "the member is open"
        );
        let mut tasks = JoinSet::new();
        tasks.spawn(joining::remember(group.clone(), data_dir.path().to_owned()));
        if cluster.is_some() {
            let newcomer = joining::Newcomer {
                group: group.clone(),
                transport: transport.clone(),
                config: config.clone(),
                path: data_dir.path().to_owned(),
                identity,
                peer_advertise: peer_advertise.clone(),
                self_replace: matches!(config.mode, Mode::Cluster { self_replace: true, .. }),
            };
            tasks.spawn(newcomer.take_place());
        }
        Ok(Open {
            config: config.clone(),
            tasks,
            group,
            views,
            log: wal,
            transport,
            data_dir,
            name,
            peer_advertise,
            health: health.clone(),
            addresses: *addresses,
            data_port,
            _admin_port: admin_port,
            drain_delay,
            log_level: logging.level,
            role,
            failures: tokio::sync::Mutex::new(failures),
            _disk_watch: disk_watch,
            _flush_watch: flush_watch,
            temporary,
        })
    }
}

impl Open {
    /// Resolves when storage or Raft has failed, with the reason.
    pub(super) async fn failed(&self) -> LifecycleError {
        let mut failures = self.failures.lock().await;
        let reason = tokio::select! {
            Some(reason) = failures.recv() => reason,
            reason = self.group.failed() => reason,
        };
        if let Some(error) = self.group.too_new() {
            return LifecycleError::NewerLevel(error);
        }
        if let Some(damage) = self.group.damage()
            && let Err(error) = self.data_dir.quarantine(&damage)
        {
            tracing::error!(
                error = &error as &dyn std::error::Error,
                "the damage could not be noted for the next start"
            );
        }
        LifecycleError::Failed(reason)
    }
}

/// Opens something, as soon as the disk has space for what opening writes: a process that ended instead would only be started again.
async fn when_there_is_space<T: Send + 'static>(
    what: &'static str,
    open: impl Fn() -> Result<T, LifecycleError> + Clone + Send + 'static,
) -> Result<T, LifecycleError> {
    let mut told = false;
    loop {
        let open = open.clone();
        match tokio::task::spawn_blocking(open).await? {
            Err(error) if storage::is_full(&error) => {
                if !std::mem::replace(&mut told, true) {
                    tracing::warn!(
                        error = &error as &dyn std::error::Error,
                        "the disk is full: {what} is opened when there is space"
                    );
                }
                tokio::time::sleep(LOOK_FOR_SPACE).await;
            }
            opened => return opened,
        }
    }
}

/// Checks that nothing is missing between what the log holds and what the state machine has applied. Each can be whole for itself and the
/// member have lost its vote, or entries that it had acknowledged, all the same: a directory that was emptied, an older copy put back.
fn complete(directory: &std::path::Path, log: &Wal, applied: Option<u64>) -> Result<(), LifecycleError> {
    let incomplete = |what: String| Err(LifecycleError::Incomplete(what));
    if log.vote().is_none() && log.last().is_none() {
        return match applied {
            Some(applied) => incomplete(format!("the log is empty, and the state machine has applied entry {applied}")),
            None if data_dir::was_member(directory) => incomplete("both are empty, and the member has been part of a group".to_owned()),
            None => Ok(()),
        };
    }
    match log.purged() {
        Some(purged) if applied.is_none_or(|applied| applied < purged.index) => incomplete(format!(
            "the log begins after entry {}, and the state machine ends with {}",
            purged.index,
            applied.map_or("nothing".to_owned(), |applied| format!("entry {applied}"))
        )),
        _ => Ok(()),
    }
}

/// Where certificates and keys are, and what the member does beside serving. Files are read here, so that a bad one stops the start.
fn role(mode: Mode, data_dir: &DataDir) -> Result<(PathBuf, PathBuf, Role), LifecycleError> {
    use crate::standalone::signing::SigningKey;
    let key = |path: &std::path::Path| {
        let fail = |problem: String| LifecycleError::SigningKey {
            path: path.display().to_string(),
            problem,
        };
        let text = std::fs::read_to_string(path).map_err(|error| fail(format!("cannot be read: {error}")))?;
        SigningKey::from_pem(&text).map_err(|error| fail(error.to_string()))
    };
    match mode {
        Mode::Cluster {
            tls_dir,
            token_keys,
            standalone,
            ..
        } => {
            let tenants = standalone.tenants.as_deref().map(tenants::read).transpose()?.unwrap_or_default();
            let credentials = match &standalone.credentials {
                Some((path, directory)) => Some((key(path)?, Some(directory.clone()))),
                None => None,
            };
            Ok((
                tls_dir,
                token_keys,
                Role {
                    alone: false,
                    standalone,
                    tenants,
                    credentials,
                },
            ))
        }
        Mode::Alone { .. } => {
            let certificates = certificates::beside_data(data_dir.path(), data_dir.identity().cluster)?;
            let role = Role {
                alone: true,
                standalone: Standalone::default(),
                tenants: vec![Wanted::with_defaults(welcome::TENANT)],
                credentials: Some((key(&certificates.join("jwt.pem"))?, None)),
            };
            Ok((certificates.clone(), certificates.join("jwks.json"), role))
        }
    }
}

fn no_thread(error: std::io::Error) -> LifecycleError {
    LifecycleError::Failed(format!("the system gives no thread to watch the disk: {error}"))
}

/// Lets the metrics port see the member.
fn show(
    figures: &Figures,
    group: &Group,
    views: &Views,
    log: &Wal,
    health: &Health,
    used: Used,
    (disk, flushes): (Seen, storage::FlushWatch),
) {
    let (group, views, log, health) = (group.clone(), views.clone(), log.clone(), health.clone());
    let read = move || {
        let status = group.status();
        let view = views.latest();
        let counters = log.metrics();
        let snapshots = group.snapshots();
        let traffic = disk.traffic();
        MemberFigures {
            term: status.term,
            leading: status.role == Some(kvfleet_api::admin::Role::Primary),
            leader_known: status.leader.is_some(),
            ready: health.is_ready(),
            last_log_index: status.last_log_index.unwrap_or(0),
            applied_index: view.applied().map_or(0, |applied| applied.index),
            revision: view.revision(),
            tenants: u64::try_from(view.served_tenants()).unwrap_or(u64::MAX),
            storage_bytes: used.bytes(),
            disk_free_bytes: disk.free(),
            disk_room_bytes: disk.room(),
            flushes: flushes.figures(),
            quarantined: false,
            peers: PeerCounters {
                sent: traffic.sent,
                sent_uncompressed: traffic.sent_plain,
                received: traffic.received,
                received_uncompressed: traffic.received_plain,
                hellos_refused: disk.hellos_refused(),
            },
            log: LogCounters {
                groups: counters.groups,
                fsyncs: counters.fsyncs,
                bytes: counters.bytes,
                entries: counters.entries,
            },
            log_held_bytes: counters.held.bytes,
            purged_index: snapshots.purged_index.unwrap_or(0),
            durable_index: snapshots.durable_index.unwrap_or(0),
            replication_lag: snapshots.replication_lag.unwrap_or(0),
            snapshots_made: snapshots.made,
            snapshots_sent: snapshots.sent,
            snapshots_received: snapshots.received,
            digest: view.digest().number(),
            changes: view.changes(),
        }
    };
    show_figures(figures, read);
}
