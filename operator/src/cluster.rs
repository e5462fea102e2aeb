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
pub(crate) mod fixtures;
mod formation;
mod heard;
mod membership;
mod obstacles;
mod plan;
mod pod_state;
mod remake;
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
    fetch::{ClaimsRead, Observed, fetch},
    formation::shard,
    obstacles::Watched,
    plan::{Step, plan},
    secrets::Origin,
    status::{GRACE, Outcome},
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
    /// When the Secrets were found good, and the volumes that they belonged to.
    secrets: Option<(Instant, Vec<String>)>,
    /// The claims of pods to come, as they were read last.
    claims: Option<ClaimsRead>,
    /// When each pod's process was last heard, and the pod's uid: no more entries than a cluster has places.
    heard: HashMap<String, (Option<String>, Instant)>,
    /// Since when every pass has met trouble.
    troubled: Option<Instant>,
    /// Since when no look has shown a quorum.
    unavailable: Option<Instant>,
    /// What is known of pods that do not run.
    watched: Watched,
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

    /// Notes who was heard, and who of the others was a moment ago, in the same pod.
    fn note_heard(&mut self, observed: &mut Observed) {
        let before = std::mem::take(&mut self.heard);
        for member in &mut observed.members {
            let Some(uid) = member.seen.as_ref().map(|pod| pod.uid.clone()) else {
                continue;
            };
            let at = match member.report {
                Some(_) => Some(Instant::now()),
                None => before.get(&member.pod).filter(|(known, _)| *known == uid).map(|(_, at)| *at),
            };
            let Some(at) = at else { continue };
            member.lately = at.elapsed() < GRACE && member.is_pod_ready();
            self.heard.insert(member.pod.clone(), (uid, at));
        }
    }

    /// For how long there has been trouble that is not merely waited for.
    fn note_trouble(&mut self, outcome: &Outcome) -> Duration {
        let mut troubles = [&outcome.trouble, &outcome.settings].into_iter().flatten();
        if troubles.all(Error::is_awaited) {
            self.troubled = None;
            return Duration::ZERO;
        }
        self.troubled.get_or_insert_with(Instant::now).elapsed()
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
            let is_formed = shard(&memory.status(cluster)).is_some_and(|shard| shard.formation == Formation::Formed);
            let again = again(source.retry_after(memory.failures), is_formed);
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

/// Status and the label follow the members of a group that runs, however long the API server refuses something else.
fn again(retry_after: Duration, is_formed: bool) -> Duration {
    if is_formed { retry_after.min(CALM) } else { retry_after }
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
    let mut observed = fetch(context, Arc::clone(cluster), memory.status(cluster), &mut memory.claims).await;
    memory.note_heard(&mut observed);
    let mut outcome = match observed.unread.take() {
        Some(error) => Outcome {
            trouble: Some(error),
            ..Outcome::default()
        },
        None => Box::pin(carry_out(context, &observed, memory)).await,
    };
    // The formation may have been written down on the way.
    let before = std::mem::replace(&mut observed.status, memory.status(cluster));
    let labelled = role_label::follow(context, &cluster.namespace().unwrap_or_default(), &observed).await;
    outcome.trouble = outcome.trouble.or(labelled.err());
    outcome.troubled_for = memory.note_trouble(&outcome);
    let wanted = outcome.validated.as_ref().map_or(observed.size, |validated| validated.members);
    outcome.obstacles = obstacles::look(context, &observed, wanted, &mut memory.watched).await;
    let status = status::report(context, &observed, memory, &mut outcome).await?;
    tell(context, cluster, &before, &status).await;

    let Outcome {
        validated: _,
        spec_hash: _,
        step,
        trouble,
        settings,
        differs: _,
        obstacles: _,
        troubled_for: _,
        unavailable_for: _,
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
    if cluster.spec.maintenance.paused {
        // Nothing is done, whatever is to be done.
        return Ok(CALM);
    }
    if settings.as_ref().is_some_and(|error| error.kind() != Kind::Waits)
        && let Some(error) = settings
    {
        return Err(error);
    }
    // Whatever else is missing comes with an event of a pod.
    let led = memory.unavailable.is_none() && shard(&status).is_some_and(|shard| shard.primary.is_some());
    // A level that is about to rise is told at once: after Ready nothing is written later.
    let settled = step == Some(Step::Converged) && settings.is_none() && led && !status::is_raising(&observed);
    Ok(if settled { CALM } else { URGENT })
}

/// What is to stay is let go of first, whatever else is wrong; then the spec is carried out.
async fn carry_out(context: &Context, observed: &Observed, memory: &mut Memory) -> Outcome {
    let bound = formation::let_go(context, observed).await.err();
    let mut outcome = carry_out_spec(context, observed, memory).await;
    outcome.trouble = outcome.trouble.or(bound);
    outcome
}

/// Validate, build, apply. What stops one of them stops those after it, and nothing else.
async fn carry_out_spec(context: &Context, observed: &Observed, memory: &mut Memory) -> Outcome {
    let mut outcome = Outcome::default();
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
    let formed = shard(&observed.status).is_some_and(|shard| shard.formation == Formation::Formed);
    if paused {
        match Box::pin(compare(context, &validated, observed, memory, &objects)).await {
            Ok(differs) => outcome.differs = differs,
            Err(error) => outcome.trouble = Some(error),
        }
        if formed {
            outcome.settings = settings::compare(&validated, observed, memory).await.err();
        }
    } else {
        outcome.trouble = Box::pin(converge(context, &validated, observed, memory, objects, &step))
            .await
            .err();
        if formed {
            outcome.settings = settings::ensure(&validated, observed, memory).await.err();
        }
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
    let origin = match has_members(observed) {
        true => Origin::Running,
        false => Origin::New,
    };
    ensure_secrets(context, validated, observed, memory, origin).await?;
    let spec_hash = objects.spec_hash.clone();
    Box::pin(apply::apply(context, validated, observed, objects)).await?;
    remake::remake(context, observed, &spec_hash).await?;
    upgrade_available(context, validated, observed, memory).await;
    formation::execute(context, validated, observed, memory, step).await
}

/// What a pause lets through: certificates are renewed where there are members, and the rest is only looked at.
async fn compare(
    context: &Context,
    validated: &Validated,
    observed: &Observed,
    memory: &mut Memory,
    objects: &build::Objects,
) -> Result<Vec<String>, Error> {
    if has_members(observed) {
        ensure_secrets(context, validated, observed, memory, Origin::Running).await?;
    }
    apply::differing(context, objects).await
}

/// Whether members run with the Secrets: pods outlive a StatefulSet that is deleted without them. Those that are there before this KvCluster
/// has formed or found its group, without a set, are on their way out with an earlier one.
fn has_members(observed: &Observed) -> bool {
    let is_begun = shard(&observed.status).is_some_and(|shard| shard.formation != Formation::Pending);
    observed.has_set || (is_begun && observed.members.iter().any(|member| member.seen.is_some()))
}

/// At once where something says that they are not good: no way to the members, a certificate that cannot be used, volumes that they do not
/// belong to yet.
async fn ensure_secrets(
    context: &Context,
    validated: &Validated,
    observed: &Observed,
    memory: &mut Memory,
    origin: Origin,
) -> Result<(), Error> {
    let volumes = secrets::volumes(validated, observed);
    let is_spoilt = context.admin_trouble(&validated.namespace, validated.names.cluster()).is_some();
    let is_known = |(at, known): &(Instant, Vec<String>)| at.elapsed() < SECRETS && *known == volumes;
    if observed.admin.is_some() && !is_spoilt && memory.secrets.as_ref().is_some_and(is_known) {
        return Ok(());
    }
    secrets::ensure(context, validated, observed, origin).await?;
    memory.secrets = Some((Instant::now(), volumes));
    Ok(())
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
    let level = |status: &KvClusterStatus| shard(status).and_then(|shard| shard.level);
    if let (Some(was), Some(now)) = (level(before), level(after))
        && now > was
    {
        let note = format!("every member knows feature level {now}: it is in use, and a program that knows less can no longer be put back");
        context.event(cluster, EventType::Normal, "LevelRaised", "Raise", note).await;
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_group_that_runs_is_followed_whatever_trouble_lasts() {
        let refused = || Error::kubernetes("apply")(kube::Error::Service("no way".into()));
        let (first, later) = (refused().retry_after(0), refused().retry_after(9));
        assert!(later > CALM);
        for (waited, is_formed, expected) in [(first, true, first), (later, true, CALM), (later, false, later)] {
            assert_eq!(again(waited, is_formed), expected);
        }
    }

    /// A Secret that members run with is not made a second time.
    #[test]
    fn pods_without_a_set_are_members_unless_they_are_of_an_earlier_kvcluster() {
        let mut observed = fixtures::observed("{storage: {size: 1Gi}}");
        assert!(!has_members(&observed));
        observed.members[1].seen = Some(fixtures::pod("h"));
        assert!(!has_members(&observed));
        observed.status.shards = vec![kvfleet_crds::cluster::ShardStatus::of(validate::SHARD, Formation::Formed)];
        assert!(has_members(&observed));
        observed.members[1].seen = None;
        assert!(!has_members(&observed));
        observed.has_set = true;
        assert!(has_members(&observed));
    }
}
