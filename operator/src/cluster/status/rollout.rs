//! Which pods do not run the present spec, and what a person has to do: this release restarts none by itself.
//!
//! In: the pods, and the hash of the spec that one made now would have. Out: a message, or none. Absent: restarts. A pod that is healthy is only
//! given up for a spec that has not been seen to fail: while a pod of the present spec does not get ready, no other may go.

use super::Outcome;
use crate::cluster::fetch::{Observed, SeenPod};

/// None when every pod runs the present spec.
pub(super) fn message(observed: &Observed, outcome: &Outcome) -> Option<String> {
    let wanted = outcome.spec_hash.as_deref()?;
    let pods = observed
        .members
        .iter()
        .filter_map(|member| Some((member.pod.as_str(), member.seen.as_ref()?)));
    let (present, outdated): (Vec<_>, Vec<_>) = pods.partition(|(_, pod)| pod.spec_hash.as_deref() == Some(wanted));
    if outdated.is_empty() {
        return None;
    }
    let stuck: Vec<&str> = names(&present, |pod| !pod.ready);
    if let Some(first) = stuck.first() {
        let image = outcome.validated.as_ref().map(|validated| validated.image.as_str());
        let runs = present
            .iter()
            .chain(&outdated)
            .any(|(_, pod)| pod.ready && pod.image.as_deref() == image);
        let image = image
            .filter(|_| !runs)
            .map(|image| format!(" with the image {image}, which no ready member runs"));
        return Some(format!(
            "{} was made from the present spec{} and is not ready: delete no other pod before it is. If it stays so, `kubectl describe pod {first}` \
             says why; correct the spec then",
            stuck.join(", "),
            image.unwrap_or_default()
        ));
    }
    let failed = names(&outdated, |pod| !pod.ready);
    if !failed.is_empty() {
        return Some(format!(
            "{} run an earlier spec and are not ready: delete these pods first, one at a time, and no other until they are ready (this release \
             restarts none by itself)",
            failed.join(", ")
        ));
    }
    Some(format!(
        "{} run an earlier spec: delete these pods one at a time, the primary last, each when the others are ready (this release restarts none by \
         itself)",
        names(&outdated, |_| true).join(", ")
    ))
}

fn names<'a>(pods: &[(&'a str, &SeenPod)], matches: impl Fn(&SeenPod) -> bool) -> Vec<&'a str> {
    pods.iter().filter(|(_, pod)| matches(pod)).map(|(name, _)| *name).collect()
}
