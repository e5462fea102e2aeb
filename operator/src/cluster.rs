//! The controller of KvClusters: fetch, validate, build, apply, status.
//!
//! In: changes of a KvCluster or of anything made for it, and time. Out: its objects, its formed group, its status. What a step cannot do is
//! a finding for the last one: status and the primary's label follow the members whatever else is wrong. Absent: failover, which needs no
//! operator, and finalizers: a KvCluster goes by owner references.

mod apply;
mod build;
mod claims;
mod fetch;
#[cfg(test)]
mod fixtures;
mod formation;
mod membership;
mod plan;
mod role_label;
mod running_image;
mod secrets;
mod settings;
mod status;
mod validate;

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant},
};

use futures::{
    StreamExt,
    channel::mpsc,
    future::{self, join, join_all},
};
use kube::{
    ResourceExt,
    runtime::{
        Controller,
        controller::{self, Action},
        events::EventType,
    },
};
use kvfleet_crds::{
    KvCluster, KvClusterStatus,
    cluster::Formation,
    conditions::{ConditionType, find},
};

use self::{
    fetch::{Observed, fetch},
    formation::shard,
    plan::{Step, plan},
    secrets::Origin,
    status::Outcome,
    validate::{Validated, validate},
};
use crate::{
    caches::{Feed, Filling},
    context::Context,
    error::{Error, Kind, chain},
    watchdog::{self, Known, Looks},
};

/// How often members are asked while a group forms or has no primary.
const URGENT: Duration = Duration::from_millis(200);
/// How often members are asked otherwise: a leadership that moved without a pod's doing is seen within this.
const CALM: Duration = Duration::from_secs(2);
/// How often the Secrets are looked at: their watch would need rights that are given one namespace at a time.
const SECRETS: Duration = Duration::from_secs(30);

/// What is remembered of a cluster between reconciliations. All of it can be found out again.
#[derive(Default)]
pub struct Memory {
    uid: Option<String>,
    /// Failures in a row.
    failures: u32,
    /// The status written last.
    written: Option<Written>,
    /// When figures of use were written last.
    usage_written: Option<Instant>,
    /// When the Secrets were found good.
    secrets: Option<Instant>,
    /// The settings put last, and the revision they took.
    settings: Option<(kvfleet_api::admin::Settings, u64)>,
    /// What the leader refused.
    refusals: membership::Refusals,
    /// Whether it was told that a newer image is there.
    upgrade_told: bool,
}

/// A status, and which versions of the object it came between.
struct Written {
    /// The version on whose sight it was written.
    read: Option<String>,
    /// The version that it made.
    version: Option<String>,
    status: KvClusterStatus,
}

impl Memory {
    /// The status as last written: the cache may not show it yet.
    fn status(&self, cluster: &KvCluster) -> KvClusterStatus {
        match &self.written {
            Some(written) if written.read == cluster.resource_version() => written.status.clone(),
            _ => cluster.status.clone().unwrap_or_default(),
        }
    }
}

struct Clusters {
    context: Arc<Context>,
    looks: Arc<Looks>,
    memories: Arc<Memories>,
}

type Memories = Mutex<HashMap<(String, String), Memory>>;

/// Runs the controller, once for each scope, until its watches end.
pub async fn run(context: Arc<Context>, feeds: Vec<Feed>, filling: Filling) {
    let memories = Arc::<Memories>::default();
    let scopes = feeds.into_iter().map(|feed| {
        let store = feed.store.clone();
        let known = move || store.state().iter().map(|cluster| known(cluster)).collect();
        let clusters = Clusters {
            looks: context.watchdog.add("KvCluster", feed.listed.clone(), known),
            context: context.clone(),
            memories: memories.clone(),
        };
        run_scope(Arc::new(clusters), feed)
    });
    join(filling.complete(), join_all(scopes)).await;
}

fn known(cluster: &KvCluster) -> Known {
    Known {
        key: (cluster.namespace().unwrap_or_default(), cluster.name_any()),
        generation: cluster.metadata.generation.unwrap_or_default(),
    }
}

async fn run_scope(clusters: Arc<Clusters>, feed: Feed) {
    let Feed {
        store,
        clusters: changes,
        others,
        listed: _,
    } = feed;
    // The stores fill while this is polled, and the controller starts when they are full. What has changed meanwhile waits here, a name for
    // each object in the first lists at most; after that the controller takes a name as it comes, and keeps one of each.
    let (sender, triggers) = mpsc::unbounded();
    let followed = others.for_each(|cluster| {
        // A closed channel says that the controller is ending.
        let _ = sender.unbounded_send(cluster);
        future::ready(())
    });
    let controller = async {
        clusters.context.caches.filled().await;
        Controller::for_stream(changes, store)
            .reconcile_on(triggers)
            .run(reconcile, |_, error, _| retry(error), clusters.clone())
            .for_each(|result| {
                match result {
                    Ok(_) => {}
                    // Told where it happened, or the cluster went while it was waiting for its turn.
                    Err(controller::Error::ReconcilerFailed(..) | controller::Error::ObjectNotFound(_)) => {}
                    Err(error) => tracing::warn!(error = %chain(&error), "the watch of KvClusters broke and is begun again"),
                }
                future::ready(())
            })
            .await;
    };
    // Either end is the end of both.
    future::select(std::pin::pin!(followed), std::pin::pin!(controller)).await;
}

/// What ended a reconciliation, and when the next shall be.
#[derive(Debug, thiserror::Error)]
#[error("the reconciliation ended early")]
struct Failed {
    source: Error,
    again: Duration,
}

fn retry(failed: &Failed) -> Action {
    Action::requeue(failed.again)
}

async fn reconcile(cluster: Arc<KvCluster>, clusters: Arc<Clusters>) -> Result<Action, Failed> {
    let Known { key, generation } = known(&cluster);
    clusters.looks.begin(key.clone(), generation, Instant::now());
    let result = look(&cluster, &clusters, &key).await;
    let (outcome, again) = match &result {
        Ok(again) => (watchdog::Outcome::Done, *again),
        Err(failed) => (watchdog::Outcome::Failed, Some(failed.again)),
    };
    clusters.looks.end(&key, outcome, again, Instant::now());
    result.map(|again| again.map_or_else(Action::await_change, Action::requeue))
}

/// One look at a cluster, and when the next shall be.
async fn look(cluster: &Arc<KvCluster>, clusters: &Clusters, key: &(String, String)) -> Result<Option<Duration>, Failed> {
    if cluster.metadata.deletion_timestamp.is_some() {
        // Its objects go with it; making one anew would only delay that.
        return Ok(None);
    }
    let mut memory = clusters.take(key, cluster);
    // Boxed, as the steps below are: a future that holds all of them would be copied as a whole at each spawn.
    let result = Box::pin(one_pass(&clusters.context, cluster, &mut memory)).await;
    let result = match result {
        Ok(again) => {
            memory.failures = 0;
            Ok(Some(again))
        }
        Err(source) => {
            let again = source.retry_after(memory.failures);
            memory.failures = memory.failures.saturating_add(1);
            let (namespace, name) = key;
            match source.kind() {
                Kind::Conflict | Kind::Waits => tracing::debug!(namespace, name, error = %chain(&source), "tries again"),
                Kind::Transient => tracing::info!(namespace, name, error = %chain(&source), "tries again"),
                Kind::Refused => tracing::warn!(namespace, name, error = %chain(&source), "a person has to act"),
            }
            Err(Failed { source, again })
        }
    };
    clusters.put(key.clone(), memory);
    result
}

impl Clusters {
    /// The controller runs one reconciliation of an object at a time, so a memory that is taken is missed by nobody.
    fn take(&self, key: &(String, String), cluster: &KvCluster) -> Memory {
        let mut memories = self.memories.lock().unwrap_or_else(PoisonError::into_inner);
        match memories.remove(key) {
            Some(memory) if memory.uid == cluster.uid() => memory,
            _ => {
                memories.retain(|(namespace, name), _| self.context.caches.cluster(namespace, name).is_some());
                self.context.forget_gone();
                Memory {
                    uid: cluster.uid(),
                    ..Memory::default()
                }
            }
        }
    }

    fn put(&self, key: (String, String), memory: Memory) {
        let mut memories = self.memories.lock().unwrap_or_else(PoisonError::into_inner);
        memories.insert(key, memory);
    }
}

/// The five steps. The answer says when to look again.
async fn one_pass(context: &Context, cluster: &Arc<KvCluster>, memory: &mut Memory) -> Result<Duration, Error> {
    let mut observed = fetch(context, Arc::clone(cluster), memory.status(cluster)).await?;
    let outcome = Box::pin(carry_out(context, &observed, memory)).await;
    // The formation may have been written down on the way.
    let before = std::mem::replace(&mut observed.status, memory.status(cluster));
    let labelled = role_label::follow(context, &cluster.namespace().unwrap_or_default(), &observed).await;
    let status = status::report(context, &observed, memory, &outcome).await?;
    tell(context, cluster, &before, &status).await;

    let Outcome {
        validated: _,
        spec_hash: _,
        step,
        trouble,
        settings,
    } = outcome;
    if let Some(error) = trouble {
        // A person who has to act changes nothing about the members: they are followed as calmly as ever.
        return match error.kind() {
            Kind::Refused => {
                tracing::warn!(cluster = cluster.name_any(), error = %chain(&error), "a person has to act");
                Ok(CALM)
            }
            Kind::Waits => Ok(URGENT),
            Kind::Transient | Kind::Conflict => Err(error),
        };
    }
    labelled?;
    if settings.as_ref().is_some_and(|error| error.kind() != Kind::Waits)
        && let Some(error) = settings
    {
        return Err(error);
    }
    // Whatever else is missing comes with an event of a pod.
    let settled = step == Some(Step::Converged) && settings.is_none() && shard(&status).is_some_and(|shard| shard.primary.is_some());
    Ok(if settled { CALM } else { URGENT })
}

/// Validate, build, apply. What stops one of them stops those after it, and nothing else.
async fn carry_out(context: &Context, observed: &Observed, memory: &mut Memory) -> Outcome {
    let mut outcome = Outcome {
        validated: None,
        spec_hash: None,
        step: None,
        trouble: None,
        settings: None,
    };
    let validated = match validate(observed, &context.config) {
        Ok(validated) => validated,
        Err(error) => {
            outcome.trouble = Some(error);
            return outcome;
        }
    };
    let objects = build::build(&validated);
    outcome.spec_hash = Some(objects.spec_hash.clone());
    let step = plan(&formation::evidence(observed));
    let paused = observed.cluster.spec.maintenance.paused;
    let result = match paused {
        true => Ok(()),
        false => Box::pin(converge(context, &validated, observed, memory, objects, &step)).await,
    };
    outcome.trouble = result.err();
    let formed = shard(&observed.status).is_some_and(|shard| shard.formation == Formation::Formed);
    if formed && !paused {
        outcome.settings = settings::ensure(&validated, observed, memory).await.err();
    }
    outcome.step = Some(step);
    outcome.validated = Some(validated);
    outcome
}

async fn converge(
    context: &Context,
    validated: &Validated,
    observed: &Observed,
    memory: &mut Memory,
    objects: build::Objects,
    step: &Step,
) -> Result<(), Error> {
    formation::let_go(context, validated, &observed.claims).await?;
    if observed.admin.is_none() || memory.secrets.is_none_or(|at| at.elapsed() >= SECRETS) {
        secrets::ensure(context, validated, if observed.has_set { Origin::Running } else { Origin::New }).await?;
        memory.secrets = Some(Instant::now());
    }
    Box::pin(apply::apply(context, validated, observed, objects)).await?;
    upgrade_available(context, validated, observed, memory).await;
    formation::execute(context, validated, observed, memory, step).await
}

async fn upgrade_available(context: &Context, validated: &Validated, observed: &Observed, memory: &mut Memory) {
    let default = validate::offered_image(&observed.cluster, &context.config);
    let newer = observed.cluster.spec.image.tag.is_none() && validated.image != default;
    if newer && !memory.upgrade_told {
        memory.upgrade_told = true;
        let note = format!(
            "this operator comes with the image {default}, the members run {}: set spec.image.tag to take it",
            validated.image
        );
        context
            .event(observed.cluster.as_ref(), EventType::Normal, "UpgradeAvailable", "Upgrade", note)
            .await;
    }
}

/// Events for what has really changed.
async fn tell(context: &Context, cluster: &KvCluster, before: &KvClusterStatus, after: &KvClusterStatus) {
    let formation = |status: &KvClusterStatus| shard(status).map(|shard| shard.formation);
    let primary = |status: &KvClusterStatus| shard(status).and_then(|shard| shard.primary.clone());
    if formation(after) == Some(Formation::Formed) && formation(before) != Some(Formation::Formed) {
        let note = "the group runs".to_owned();
        context.event(cluster, EventType::Normal, "Formed", "Form", note).await;
    }
    if let (Some(now), was) = (primary(after), primary(before))
        && was.as_ref() != Some(&now)
        && find(&before.conditions, ConditionType::READY).is_some()
    {
        let note = match was {
            Some(was) => format!("{now} leads in place of {was}"),
            None => format!("{now} leads"),
        };
        context.event(cluster, EventType::Normal, "PrimaryChanged", "Follow", note).await;
    }
    for (type_, good) in [(ConditionType::READY, "True"), (ConditionType::DEGRADED, "False")] {
        let Some(condition) = find(&after.conditions, type_) else {
            continue;
        };
        let old = find(&before.conditions, type_);
        let same = old.is_some_and(|old| old.status == condition.status && old.reason == condition.reason);
        let is_good = condition.status == good;
        // Becoming Ready is news, and so is any new trouble; the rest is in the conditions.
        if same || (type_ == ConditionType::DEGRADED) == is_good || (type_ == ConditionType::READY && !is_good) {
            continue;
        }
        let kind = if is_good { EventType::Normal } else { EventType::Warning };
        context
            .event(cluster, kind, &condition.reason, "Report", condition.message.clone())
            .await;
    }
}
