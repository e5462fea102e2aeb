//! The member cannot vouch for its data: the log is damaged, the state machine cannot be read, a part is missing. It takes no part in Raft,
//! so that it cannot vote for a leader that lacks what it once acknowledged, and it stays up, so that somebody can ask it why.
//!
//! In: the reason, and the lock of the directory. Out: a directory that is a new member's, once a leader has allowed it; or the end of the
//! process. Health, metrics and admin port answer; the data port refuses; the peer port says who it is, and refuses the rest. Absent: any
//! way out without a leader's word: one member alone never puts its data aside.

use std::{sync::Arc, time::Duration};

use axum::response::Response;
use kvfleet_api::{Code, Problem};
use tokio::{
    sync::{mpsc, oneshot},
    time::Instant,
};

use super::{error::LifecycleError, signals::Signals, starting::Starting, starting::show_figures, used::Used};
use crate::{
    admin,
    cluster_id::ClusterId,
    config::Mode,
    data_dir::{self, Cause, DataDir, Lock, Successor},
    http,
    metrics::MemberFigures,
    peer::{Refusal, Reply, Request, Service, Transport, TransportSettings},
    problem,
    raft::{self, ReleaseAnswer, ReleaseRequest},
    standalone::discovery,
    tls::TlsDirectory,
};

/// Between two questions to the leader.
const PAUSE: Duration = Duration::from_secs(1);
/// How long an answer to the operator may take to be sent once the member is released.
const LINGER: Duration = Duration::from_secs(2);

/// A member that must not take part.
pub(super) struct Quarantined {
    reason: String,
    lock: Lock,
}

impl Quarantined {
    pub(super) fn new(error: &LifecycleError, lock: Lock) -> Self {
        Quarantined {
            reason: with_sources(error),
            lock,
        }
    }
}

/// How the state was left.
pub(super) enum Left {
    /// The data has been put aside: the directory is a new member's.
    Released,
    /// The process was asked to end.
    Asked,
}

/// Until the member is released or the process is asked to end.
pub(super) async fn wait(quarantined: Quarantined, starting: &Starting, signals: &Signals) -> Result<Left, LifecycleError> {
    let Quarantined { reason, lock } = quarantined;
    tracing::error!(
        reason,
        directory = %lock.directory().display(),
        "the member cannot vouch for its data and takes no part in its group; it can only be replaced"
    );
    let place = Place::of(starting, &lock).await?;
    starting.health.quarantined(&reason);
    let directory = lock.directory().to_owned();
    let used = Used::watch(directory.clone())
        .map_err(|error| LifecycleError::Failed(format!("the system gives no thread to watch the disk: {error}")))?;
    show_figures(&starting.figures, move || MemberFigures {
        quarantined: true,
        storage_bytes: used.bytes(),
        ..MemberFigures::default()
    });

    let (asked, mut requests) = mpsc::channel(1);
    let (admin_port, closed) = oneshot::channel::<()>();
    let view = admin::Quarantined {
        cluster: place.cluster,
        shard: starting.config.shard,
        member: place.member,
        name: starting.config.name.as_str().into(),
        supported_levels: starting.config.levels.range(),
        reason: reason.as_str().into(),
        data_dir: Arc::new(directory),
        registry: Arc::clone(&starting.registry),
        release: asked,
    };
    let admin_port_ended = tokio::spawn(admin::serve(
        starting.ports.admin.listen()?,
        Arc::clone(&starting.ports.admin.roster),
        place.tls.clone(),
        admin::quarantined_router(view),
        async {
            // The sender goes when the state is left.
            let _ = closed.await;
        },
    ));
    let refusal: Arc<str> = format!("this member is quarantined: {reason}; ask another member").into();
    let data = &starting.ports.data;
    let serve = || {
        let _entered = starting.tenants.enter();
        Ok::<_, LifecycleError>(http::serve(data.listen()?, Arc::clone(&data.roster), move |_| {
            refuse(Arc::clone(&refusal))
        }))
    };
    let data_port = serve()?;

    let left = tokio::select! {
        () = signals.end() => Left::Asked,
        released = release(&place, starting, &lock, &mut requests) => {
            released?;
            Left::Released
        }
    };
    drop(admin_port);
    data_port.close_connections();
    place.transport.closed().await;
    // Whoever asked for the release shall have the answer.
    let _ = tokio::time::timeout(LINGER, admin_port_ended).await;
    Ok(left)
}

/// Who the member is to others, as far as that is known.
struct Place {
    cluster: ClusterId,
    /// Its id; none when its identity cannot be read.
    member: Option<u64>,
    name: String,
    self_replace: bool,
    tls: TlsDirectory,
    transport: Transport,
}

impl Place {
    async fn of(starting: &Starting, lock: &Lock) -> Result<Place, LifecycleError> {
        let config = &starting.config;
        let Mode::Cluster {
            cluster_id,
            tls_dir,
            self_replace,
            ..
        } = &config.mode
        else {
            return Err(LifecycleError::Failed("a member alone is never quarantined".to_owned()));
        };
        let directory = lock.directory().to_owned();
        let (cluster, shard) = (*cluster_id, config.shard);
        let identity = tokio::task::spawn_blocking(move || DataDir::last_identity_of(&directory, cluster, shard)).await??;
        let member = identity.map(|identity| identity.member);
        let tls = TlsDirectory::open(tls_dir, *cluster_id).map_err(LifecycleError::Tls)?;
        let settings = TransportSettings {
            cluster: *cluster_id,
            shard: config.shard,
            // Nobody: it can ask, and no frame is for it.
            id: member.unwrap_or(0),
            name: config.name.clone(),
            compress_above: config.compress_above,
            levels: config.levels.into(),
        };
        let transport = match &config.addresses.peer {
            Some(peer) => Transport::start(settings, &peer.listen, tls.clone()).await?,
            None => Transport::alone(settings),
        };
        transport.set_service(Some(Arc::new(Refusing)));
        Ok(Place {
            cluster: *cluster_id,
            member,
            name: config.name.clone(),
            self_replace: *self_replace,
            tls,
            transport,
        })
    }
}

/// Asks the leader, again and again or when the operator says so, and puts the data aside once it may.
async fn release(
    place: &Place,
    starting: &Starting,
    lock: &Lock,
    requests: &mut mpsc::Receiver<admin::ReleaseReply>,
) -> Result<(), LifecycleError> {
    let mut told = None;
    let mut next = Instant::now();
    loop {
        let reply = tokio::select! {
            Some(reply) = requests.recv() => Some(reply),
            () = tokio::time::sleep_until(next), if place.self_replace => None,
        };
        let granted = ask(place, starting, lock).await;
        let replaces = match granted {
            Ok(replaces) => replaces,
            Err(problem) => {
                if told.as_ref() != Some(&problem) {
                    tracing::warn!(problem, "the member is not released");
                }
                if let Some(reply) = reply {
                    // The caller may have gone.
                    let _ = reply.send(Err(problem.clone()));
                }
                told = Some(problem);
                next = Instant::now() + PAUSE;
                continue;
            }
        };
        let (held, cluster, shard) = (lock.clone(), place.cluster, starting.config.shard);
        let successor = Successor { cluster, shard, replaces };
        let identity = tokio::task::spawn_blocking(move || data_dir::put_aside(&held, Cause::Damaged, successor)).await??;
        tracing::warn!(
            member = identity.member,
            replaces,
            "the damaged data is put aside; the member starts as a new one"
        );
        if let Some(reply) = reply {
            let _ = reply.send(Ok(identity.member));
        }
        return Ok(());
    }
}

/// The member to replace, if the leader allows it; none if this one has left the group already.
async fn ask(place: &Place, starting: &Starting, lock: &Lock) -> Result<Option<u64>, String> {
    let addresses = discovery::peers(&starting.config, lock.directory()).await;
    let request = ReleaseRequest {
        old: place.member,
        name: place.name.clone(),
        only_ask: false,
    };
    let answer = raft::release(&place.transport, &addresses, &request, starting.config.raft.election_timeout).await;
    match answer {
        Ok(ReleaseAnswer::Granted { replaces }) => Ok(Some(replaces)),
        Ok(ReleaseAnswer::Left) => Ok(None),
        Ok(ReleaseAnswer::Refused(reason)) => Err(reason),
        Ok(ReleaseAnswer::Member | ReleaseAnswer::Elsewhere(_)) => Err("the leader does not take this member for a lost one".to_owned()),
        Err(error) => Err(error.to_string()),
    }
}

/// The peer port of a member that takes no part.
struct Refusing;

impl Service for Refusing {
    fn serve(&self, _request: Request, reply: Reply) {
        reply.refuse(Refusal::Quarantined);
    }

    fn appends(&self, mut requests: mpsc::Receiver<(Request, Reply)>) {
        tokio::spawn(async move {
            while let Some((_, reply)) = requests.recv().await {
                reply.refuse(Refusal::Quarantined);
            }
        });
    }

    /// It has been: nobody may form a group with it.
    fn is_blank(&self) -> bool {
        false
    }
}

/// The data port: another member answers.
async fn refuse(detail: Arc<str>) -> Response {
    let mut problem = Problem::new(Code::Quarantined, &*detail, problem::trace_id());
    problem.outcome = Some(kvfleet_api::error::Outcome::NotApplied);
    problem::answer(problem)
}

/// The error and what is behind it, for a person.
fn with_sources(error: &LifecycleError) -> String {
    let mut text = error.to_string();
    let mut source = std::error::Error::source(error);
    while let Some(error) = source {
        let reason = error.to_string();
        if !text.ends_with(&reason) {
            text = format!("{text}: {reason}");
        }
        source = error.source();
    }
    text
}
