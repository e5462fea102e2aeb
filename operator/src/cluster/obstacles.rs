//! What keeps pods from being made, scheduled or started, in the words of those who know.
//!
//! In: the pods as seen, and, where they do not tell enough, the latest warnings about the StatefulSet, a pod or its claim. Out: an
//! [`Obstacle`] for each pod that does not run. A cluster whose pods run costs no request; another costs at most one list of [`EVENTS`] events
//! for its StatefulSet and two for each of its seven pods, every [`PERIOD`]. Absent: any deed.

use std::time::{Duration, Instant};

use k8s_openapi::{api::core::v1::Event, jiff::Timestamp};
use kube::{Api, ResourceExt, api::ListParams};
use kvfleet_crds::names::ClusterNames;

use super::{
    fetch::{Member, Observed},
    pod_state::PodState,
    validate::SHARD,
};
use crate::{context::Context, error::chain};

/// How long pods may take before it is asked what keeps them: most starts are over by then.
const PATIENCE: Duration = Duration::from_secs(3);
/// How often it is asked.
const PERIOD: Duration = Duration::from_secs(4);
/// How many warnings are read of one object: the API server counts repetitions in one.
const EVENTS: u32 = 20;
/// An older warning tells of something that is over: the StatefulSet's controller tries again within 17 minutes.
const OLDEST_SECONDS: i64 = 20 * 60;
/// Warnings of one cause come in a burst, one for each pod.
const BURST_SECONDS: i64 = 30;

/// What keeps a pod from running.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Obstacle {
    /// The pod.
    pub pod: String,
    /// For people, why.
    pub why: String,
}

/// What is remembered between two looks.
#[derive(Debug, Default)]
pub struct Watched {
    /// Since when a pod has not been running.
    since: Option<Instant>,
    /// When it was last asked, and the answers.
    asked: Option<(Instant, Vec<Obstacle>)>,
}

/// The first `wanted` pods that do not run, and why. None while that is as short as an ordinary start.
pub async fn look(context: &Context, observed: &Observed, wanted: u32, watched: &mut Watched) -> Vec<Obstacle> {
    let waiting: Vec<&Member> = waiting(observed, wanted).collect();
    if waiting.is_empty() {
        *watched = Watched::default();
        return Vec::new();
    }
    let since = *watched.since.get_or_insert_with(Instant::now);
    if since.elapsed() < PATIENCE {
        return Vec::new();
    }
    match &watched.asked {
        Some((at, known)) if at.elapsed() < PERIOD => {
            // One that runs by now is not kept any more, whatever was found a moment ago.
            let still = |obstacle: &&Obstacle| waiting.iter().any(|member| member.pod == obstacle.pod);
            known.iter().filter(still).cloned().collect()
        }
        _ => {
            let found = ask(context, observed, &waiting).await;
            watched.asked = Some((Instant::now(), found.clone()));
            found
        }
    }
}

/// Those that are not running and not on their way out.
fn waiting(observed: &Observed, wanted: u32) -> impl Iterator<Item = &Member> {
    let wanted = usize::try_from(wanted).unwrap_or(usize::MAX);
    observed.members.iter().take(wanted).filter(|member| match &member.seen {
        None => true,
        Some(pod) => !pod.deleting && pod.state != PodState::Running,
    })
}

async fn ask(context: &Context, observed: &Observed, waiting: &[&Member]) -> Vec<Obstacle> {
    let namespace = observed.cluster.namespace().unwrap_or_default();
    let names = ClusterNames::new(observed.cluster.name_any());
    let warnings = async |kind: &str, name: &str, uid: Option<&str>| warning(context, &namespace, kind, name, uid).await;
    let mut of_set: Option<Option<String>> = None;
    let mut found = Vec::new();
    for member in waiting {
        let why = match member.seen.as_ref().map(|pod| (&pod.state, pod.uid.as_deref())) {
            // Its controller says why it is not made; the same for all.
            None => {
                if of_set.is_none() {
                    let name = names.stateful_set(SHARD);
                    let uid = context.caches.stateful_set(&namespace, &name).and_then(|set| set.uid());
                    of_set = Some(warnings("StatefulSet", &name, uid.as_deref()).await);
                }
                of_set.clone().flatten()
            }
            Some((PodState::Starting, uid)) => warnings("Pod", &member.pod, uid).await,
            Some((PodState::Blocked(why), _)) if why.contains("PersistentVolumeClaim") => {
                let claim = format!("{}-{}", ClusterNames::claim_template(), member.pod);
                let cause = warnings("PersistentVolumeClaim", &claim, None).await;
                Some(cause.map_or_else(|| why.clone(), |cause| format!("{why}; {claim}: {cause}")))
            }
            Some((PodState::Blocked(why), _)) => Some(why.clone()),
            Some((PodState::Running, _)) => None,
        };
        found.extend(why.map(|why| Obstacle {
            pod: member.pod.clone(),
            why,
        }));
    }
    found
}

/// The latest warning about an object.
async fn warning(context: &Context, namespace: &str, kind: &str, name: &str, uid: Option<&str>) -> Option<String> {
    let mut selector = format!("type=Warning,involvedObject.kind={kind},involvedObject.name={name}");
    if let Some(uid) = uid {
        selector.push_str(&format!(",involvedObject.uid={uid}"));
    }
    let api: Api<Event> = Api::namespaced(context.client.clone(), namespace);
    match api.list(&ListParams::default().fields(&selector).limit(EVENTS)).await {
        Ok(events) => latest(&events.items, Timestamp::now()),
        Err(error) => {
            tracing::debug!(namespace, kind, name, error = %chain(&error), "its events cannot be read");
            None
        }
    }
}

/// Of those that came together with the last one, always the same, so that status does not change with each repetition.
fn latest(events: &[Event], now: Timestamp) -> Option<String> {
    let at = |event: &Event| {
        let series = event.series.as_ref().and_then(|series| series.last_observed_time.as_ref());
        let once = event.event_time.as_ref();
        let last = event.last_timestamp.as_ref().map(|time| time.0.as_second());
        [series.map(|time| time.0.as_second()), once.map(|time| time.0.as_second()), last]
            .into_iter()
            .flatten()
            .max()
            .unwrap_or(i64::MIN)
    };
    let last = events
        .iter()
        .map(at)
        .max()
        .filter(|last| now.as_second() - last <= OLDEST_SECONDS)?;
    let burst = events.iter().filter(|event| last - at(event) <= BURST_SECONDS);
    burst
        .filter_map(|event| event.message.clone())
        .filter(|message| !message.is_empty())
        .min()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn event(message: &str, at: &str) -> Event {
        serde_yaml::from_str(&format!(
            "{{metadata: {{name: e}}, involvedObject: {{}}, message: '{message}', lastTimestamp: '{at}'}}"
        ))
        .unwrap()
    }

    #[test]
    fn the_last_burst_of_warnings_counts_and_an_old_one_does_not() {
        let now: Timestamp = "2026-01-01T01:00:00Z".parse().unwrap();
        let events = [
            event("a: over", "2026-01-01T00:50:00Z"),
            event("c: second of the burst", "2026-01-01T00:59:01Z"),
            event("b: first of the burst", "2026-01-01T00:59:00Z"),
        ];
        assert_eq!(latest(&events, now).as_deref(), Some("b: first of the burst"));
        assert_eq!(latest(&[event("old", "2026-01-01T00:30:00Z")], now), None);
        assert_eq!(latest(&[], now), None);
    }
}
