//! The controller of Tenants.
//!
//! In: Tenants, their clusters, their Secrets, and what members hold. Out: a place in the cluster's log, a Secret with credentials, honest
//! status. A reconciliation is five steps: fetch, validate, place (build and apply in the cluster's log), apply, status. Absent: the data
//! path: a Tenant that is placed is served without an operator.

pub mod applied;
pub mod apply;
pub mod binding;
pub mod build;
pub mod cleanup;
pub mod desk;
pub mod fetch;
pub mod finalizer;
pub mod members;
pub mod place;
pub mod resolve;
pub mod secrets;
pub mod status;
pub mod survey;
pub mod turns;
pub mod validate;

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use futures::{StreamExt, TryStreamExt, channel::mpsc, future};
use kube::runtime::{
    Controller, WatchStreamExt,
    controller::{self, Action},
    events::EventType,
    reflector::{self, ObjectRef},
    watcher::{self, watcher},
};
use kvfleet_crds::{KvCluster, Tenant};

use crate::{
    caches::{Scope, note_list, once_filled},
    context::{Context, Error, Kind},
    error::chain,
    watchdog::{Known, Outcome},
};
use apply::CredentialsState;
use desk::{Channels, Desk};
use fetch::Group;
use place::Placement;
use status::{Acceptance, Progress, Report};

/// How many Tenants are worked on at a time: a thousand that are applied together wait for members, not for the processor. [`turns`] keep
/// one cluster from taking all of it.
const CONCURRENCY: u16 = 64;
/// What is watched needs no second look; this is for what is not thought of.
const CALM: Duration = Duration::from_secs(300);
/// While the key that signs is not there.
const SOON: Duration = Duration::from_millis(500);
/// While a cluster could not settle it.
const PATIENTLY: Duration = Duration::from_secs(1);
/// While a member is behind: that it has caught up is looked for, once for all Tenants of the cluster.
const BEHIND: Duration = Duration::from_secs(10);
/// After this many failures in a row, some 300 ms, status tells of what the next try may yet mend: a RoleBinding that has not reached the
/// authorizer, an object that has changed since it was read.
const TRIES_BEFORE_NEWS: u32 = 2;
/// While a person has to act: most of what they can do is watched.
const RARELY: Duration = Duration::from_secs(15);

/// Reconciles all Tenants for as long as it is polled.
pub async fn run(context: Arc<Context>) {
    let scopes = Scope::of(&context.config.watch_namespaces);
    future::join_all(scopes.into_iter().map(|scope| work(context.clone(), scope))).await;
}

/// One scope is complete in itself: a Tenant's cluster and Secret are in its own namespace.
async fn work(context: Arc<Context>, scope: Scope) {
    let (tenants, tenant_writer) = reflector::store();
    let (clusters, cluster_writer) = reflector::store();
    let (tenant_sender, triggers) = mpsc::unbounded();
    let (survey_sender, surveys) = mpsc::unbounded();
    let (secret_sender, secret_namespaces) = mpsc::unbounded();
    let channels = Channels {
        tenants: tenant_sender,
        surveys: survey_sender,
        secrets: secret_sender,
    };
    let desk = Arc::new(Desk::new(context.clone(), tenants.clone(), clusters, channels));

    let for_gone = desk.clone();
    let note_list = note_list(desk.listed.clone());
    let watched = watcher(scope.api::<Tenant>(&context.client), watcher::Config::default())
        .default_backoff()
        .modify(|tenant: &mut Tenant| tenant.metadata.managed_fields = None)
        .reflect(tenant_writer)
        .inspect_ok(move |event| {
            note_list(event);
            if let watcher::Event::Delete(tenant) = event {
                for_gone.tenant_gone(tenant);
            }
        })
        .applied_objects();
    let clusters = watcher(scope.api::<KvCluster>(&context.client), watcher::Config::default())
        .default_backoff()
        .modify(|cluster: &mut KvCluster| cluster.metadata.managed_fields = None)
        .reflect(cluster_writer)
        .touched_objects()
        .for_each(|cluster| {
            match cluster {
                Ok(cluster) => desk.cluster_changed(&cluster),
                Err(error) => tracing::warn!(error = %chain(&error), "the watch of KvClusters broke and is begun again"),
            }
            future::ready(())
        });
    // No cluster and no pod is missing before all are known. What is triggered meanwhile waits in its channel.
    let filled = once_filled(desk.clusters.clone());
    let controller = async {
        filled.await;
        desk.context.caches.filled().await;
        Controller::for_stream(watched, tenants)
            .with_config(controller::Config::default().concurrency(CONCURRENCY))
            .reconcile_on(triggers)
            .run(reconcile_counted, retry, desk.clone())
            .for_each(|outcome| {
                match outcome {
                    // The Tenant went while it was waiting for its turn.
                    Ok(_) | Err(controller::Error::ObjectNotFound(_)) => {}
                    // Told where it happened.
                    Err(controller::Error::ReconcilerFailed(..)) => {}
                    Err(error) => tracing::warn!(error = %chain(&error), "the watch of Tenants broke and is begun again"),
                }
                future::ready(())
            })
            .await;
    };
    future::join4(
        controller,
        clusters,
        survey::run(&desk, surveys),
        secrets::run(&desk, secret_namespaces),
    )
    .await;
}

async fn reconcile_counted(tenant: Arc<Tenant>, desk: Arc<Desk>) -> Result<Action, Error> {
    let Known { key, generation } = desk::known(&tenant);
    desk.looks.begin(key.clone(), generation, Instant::now());
    // What fails ends in `retry`, which knows when the next look is due.
    let again = reconcile(&tenant, &desk).await?;
    desk.forget_failures(&ObjectRef::from_obj(&*tenant));
    desk.looks.end(&key, Outcome::Done, again, Instant::now());
    Ok(again.map_or_else(Action::await_change, Action::requeue))
}

fn retry(tenant: Arc<Tenant>, error: &Error, desk: Arc<Desk>) -> Action {
    let failures = desk.count_failure(ObjectRef::from_obj(&*tenant));
    let owner = validate::owner(&tenant);
    match error.kind() {
        // What passes by itself is worth a line only when it does not.
        Kind::Conflict | Kind::Transient if failures < 5 => tracing::debug!(tenant = owner, error = %chain(error), "again"),
        Kind::Conflict | Kind::Transient | Kind::Waits | Kind::Refused => {
            tracing::warn!(tenant = owner, error = %chain(error), "not reconciled");
        }
    }
    let again = error.retry_after(failures);
    desk.looks
        .end(&desk::known(&tenant).key, Outcome::Failed, Some(again), Instant::now());
    Action::requeue(again)
}

/// One look at a Tenant, and when the next is due; none: when it changes.
async fn reconcile(tenant: &Tenant, desk: &Desk) -> Result<Option<Duration>, Error> {
    if tenant.metadata.deletion_timestamp.is_some() {
        return cleanup::clean_up(desk, tenant).await;
    }
    let fetched = fetch::fetch(desk, tenant).await;
    let Found {
        report,
        over_quota,
        trouble,
    } = match Box::pin(carry_out(desk, tenant, &fetched)).await {
        Ok(found) => found,
        // Its cluster has no turn for it now: nothing was looked at, and nothing is told.
        Err(Later(again)) => return Ok(Some(again)),
    };
    // What is over with the next try, a moment later, is no news.
    let failures = desk.failures(&ObjectRef::from_obj(tenant));
    let is_news = trouble
        .as_ref()
        .is_none_or(|error| error.kind() == Kind::Refused || failures >= TRIES_BEFORE_NEWS);
    if is_news {
        status::write(desk, tenant, &report).await?;
    }
    if let Some(error) = trouble {
        return Err(error);
    }
    if over_quota {
        let note = "the quota is below what is in use: nothing is deleted, but no write that grows the tenant is let in".to_owned();
        desk.context
            .event(tenant, EventType::Warning, "QuotaBelowUse", "Reconcile", note)
            .await;
    }
    Ok(Some(fetched.group.again().unwrap_or_else(|| next_look(&report))))
}

/// What came of the steps before status.
struct Found {
    report: Report,
    over_quota: bool,
    trouble: Option<Error>,
}

impl Found {
    fn new(acceptance: Acceptance, placed: Option<Box<kvfleet_api::tenant::TenantStatus>>, tenant: &Tenant) -> Self {
        Found {
            report: Report {
                acceptance,
                placed,
                progress: Progress::NotPlaced,
                credentials: keep_credentials(tenant),
            },
            over_quota: false,
            trouble: None,
        }
    }

    fn refused(error: Error, tenant: &Tenant) -> Self {
        let mut found = Found::new(Acceptance::Refused(chain(&error)), None, tenant);
        found.trouble = Some(error);
        found
    }
}

/// Not now, but after this time.
struct Later(Duration);

/// Validate, place, apply. What stops one of them stops those after it, and is a finding for status.
async fn carry_out(desk: &Desk, tenant: &Tenant, fetched: &fetch::Fetched) -> Result<Found, Later> {
    let stored = fetched.group.stored_for(tenant);
    let recorded = fetched.group.recorded(tenant);
    let verdict = validate::validate(tenant, fetched.cluster.as_deref(), &fetched.rivals, recorded);
    // The finalizer is there before the data can be.
    if let Err(error) = cleanup::prepare(desk, tenant).await {
        return Ok(Found::refused(error, tenant));
    }
    let kept = || stored.cloned().map(Box::new);
    let Some(cluster) = &fetched.cluster else {
        return Ok(match verdict {
            Err(rejection) => Found::new(Acceptance::Rejected(rejection), None, tenant),
            Ok(_) => Found::new(Acceptance::Unknown("there is no cluster".to_owned()), None, tenant),
        });
    };
    if cluster.spec.maintenance.paused && cluster.metadata.deletion_timestamp.is_none() {
        return Ok(Found::new(Acceptance::Paused, kept(), tenant));
    }
    let validated = match verdict {
        Ok(validated) => validated,
        // What was accepted last stays in force.
        Err(rejection) => {
            let found = Found::new(Acceptance::Rejected(rejection), kept(), tenant);
            return Ok(with_credentials(desk, tenant, cluster, found).await);
        }
    };
    let (members, stored) = match &fetched.group {
        Group::Unavailable(why) | Group::Unreachable { why, .. } => {
            return Ok(Found::new(Acceptance::Unknown(why.clone()), None, tenant));
        }
        Group::Busy { again } => return Err(Later(*again)),
        Group::Reached { members, stored, pass: _ } => (members, stored.as_deref()),
    };
    Ok(match place::place(desk, tenant, cluster, &validated, members, stored).await {
        Err(error) => Found::refused(error, tenant),
        Ok(Placement::Refused(rejection)) => Found::new(Acceptance::Rejected(rejection), None, tenant),
        Ok(Placement::Unsettled(why)) => Found::new(Acceptance::Unknown(why), None, tenant),
        Ok(Placement::Placed {
            status,
            behind,
            over_quota,
        }) => {
            let mut found = Found::new(Acceptance::Accepted, Some(status), tenant);
            found.over_quota = over_quota;
            found.report.progress = match behind.is_empty() {
                true => Progress::InForce,
                false => Progress::Behind(behind),
            };
            with_credentials(desk, tenant, cluster, found).await
        }
    })
}

async fn with_credentials(desk: &Desk, tenant: &Tenant, cluster: &KvCluster, mut found: Found) -> Found {
    let Some(placed) = &found.report.placed else { return found };
    match apply::credentials(desk, tenant, cluster, placed).await {
        Ok(credentials) => found.report.credentials = credentials,
        Err(error) => {
            found.report.credentials = CredentialsState::Refused(chain(&error));
            found.trouble = Some(error);
        }
    }
    found
}

/// Nothing is known of the Secret while the cluster cannot be asked: what was written is still what it should be.
fn keep_credentials(tenant: &Tenant) -> CredentialsState {
    let written = tenant.status.as_ref().and_then(|status| status.credentials_secret.as_deref());
    if written == Some(validate::secret_name(tenant).as_str()) {
        CredentialsState::Written
    } else {
        CredentialsState::Pending("the Secret is written once the cluster has taken the tenant".to_owned())
    }
}

fn next_look(report: &Report) -> Duration {
    match (&report.acceptance, &report.progress, &report.credentials) {
        (Acceptance::Unknown(_) | Acceptance::Refused(_), _, _) => PATIENTLY,
        // The end of a pause is watched.
        (Acceptance::Paused, _, _) => CALM,
        (Acceptance::Accepted, Progress::Behind(_), _) => BEHIND,
        (Acceptance::Accepted, Progress::NotPlaced, _) => SOON,
        (Acceptance::Accepted, Progress::InForce, CredentialsState::Pending(_)) => SOON,
        (Acceptance::Rejected(_), _, _) | (_, _, CredentialsState::NotOwned(_) | CredentialsState::Refused(_)) => RARELY,
        (Acceptance::Accepted, Progress::InForce, CredentialsState::Written) => CALM,
    }
}
