//! Pods that were made from an earlier spec and never became ready are made again.
//!
//! `OnDelete` protects what a pod may hold: a vote, and a member that others count on. A pod that was never ready, and whose process does not
//! run or is blank, holds neither, and no edit of the spec would reach it otherwise. In: the pods as seen. Out: their deletion, each on the
//! condition that it is the pod that was seen, as it was seen. Absent: a pod that was ready once, and a voter that answers: restarting those
//! is a rollout's.

use k8s_openapi::api::core::v1::Pod;
use kube::{
    Api, ResourceExt,
    api::{DeleteParams, Preconditions},
};
use kvfleet_api::admin::MemberState;
use kvfleet_crds::cluster::Formation;

use super::{
    fetch::{Member, Observed},
    formation::shard,
    pod_state::PodState,
};
use crate::{context::Context, error::Error};

/// Deletes them; their StatefulSet makes them again at once.
///
/// # Errors
/// [`Error::Kubernetes`]
pub async fn remake(context: &Context, observed: &Observed, spec_hash: &str) -> Result<(), Error> {
    let namespace = observed.cluster.namespace().unwrap_or_default();
    let api: Api<Pod> = Api::namespaced(context.client.clone(), &namespace);
    for member in stuck(observed, spec_hash) {
        let Some(seen) = &member.seen else { continue };
        let parameters = DeleteParams {
            // A pod that has become ready in the meantime has another version.
            preconditions: Some(Preconditions {
                uid: seen.uid.clone(),
                resource_version: seen.version.clone(),
            }),
            ..DeleteParams::default()
        };
        let pod = &member.pod;
        match api.delete(pod, &parameters).await {
            Ok(_) => tracing::info!(namespace, pod, "never became ready under an earlier spec: made again"),
            Err(kube::Error::Api(status)) if matches!(status.code, 404 | 409) => {}
            Err(error) => return Err(Error::kubernetes(format!("delete Pod {namespace}/{pod}"))(error)),
        }
    }
    Ok(())
}

fn stuck<'a>(observed: &'a Observed, spec_hash: &'a str) -> impl Iterator<Item = &'a Member> {
    let formation = shard(&observed.status).map(|shard| shard.formation).unwrap_or_default();
    observed.members.iter().filter(move |member| {
        let Some(pod) = &member.seen else { return false };
        let outdated = pod.spec_hash.as_deref() != Some(spec_hash);
        outdated && pod.never_ready && !pod.deleting && holds_nothing(member, &pod.state, formation)
    })
}

fn holds_nothing(member: &Member, state: &PodState, formation: Formation) -> bool {
    match (&member.report, state) {
        // Between the intention and the group's first entries its members are blank and yet counted on.
        (Some(report), _) => report.state == MemberState::Blank && formation != Formation::Intended,
        (None, PodState::Blocked(_)) => true,
        // In a group that runs, what is on its way may come back with a vote.
        (None, PodState::Starting) => formation != Formation::Formed,
        (None, PodState::Running) => false,
    }
}

#[cfg(test)]
mod tests {
    use kvfleet_api::admin::Role;
    use kvfleet_crds::cluster::ShardStatus;

    use super::*;
    use crate::cluster::fixtures::{observed, pod, report};

    fn with(formation: Formation, state: PodState, never_ready: bool, says: Option<MemberState>) -> Observed {
        let mut observed = observed("{storage: {size: 1Gi}}");
        observed.status.shards = vec![ShardStatus::of(0, formation)];
        let mut seen = pod("old");
        (seen.state, seen.never_ready, seen.ready) = (state, never_ready, false);
        observed.members[1].seen = Some(seen);
        observed.members[1].report = says.map(|state| {
            let mut report = report(1, Role::Follower);
            report.state = state;
            report
        });
        observed
    }

    #[test]
    fn only_a_pod_that_was_never_ready_and_holds_nothing_is_made_again() {
        let blocked = || PodState::Blocked("no such image".to_owned());
        use Formation::{Formed, Intended, Pending};
        for (formation, state, never_ready, says, again) in [
            (Pending, blocked(), true, None, true),
            (Formed, blocked(), true, None, true),
            (Intended, blocked(), true, None, true),
            (Pending, PodState::Starting, true, None, true),
            (Formed, PodState::Starting, true, None, false),
            (Pending, PodState::Running, true, Some(MemberState::Blank), true),
            (Formed, PodState::Running, true, Some(MemberState::Blank), true),
            (Intended, PodState::Running, true, Some(MemberState::Blank), false),
            // It was ready once: a vote that comes back by itself.
            (Formed, blocked(), false, None, false),
            // It is in the group, or may be.
            (Formed, PodState::Running, true, Some(MemberState::Member), false),
            (Pending, PodState::Running, true, Some(MemberState::Member), false),
            (Formed, PodState::Running, true, Some(MemberState::Quarantined), false),
            (Formed, PodState::Running, true, None, false),
        ] {
            let observed = with(formation, state.clone(), never_ready, says);
            let pods: Vec<&str> = stuck(&observed, "new").map(|member| member.pod.as_str()).collect();
            let expected: &[&str] = if again { &["prod-s0-1"] } else { &[] };
            assert_eq!(pods, expected, "{formation:?} {state:?} {never_ready} {says:?}");
        }
    }

    #[test]
    fn a_pod_of_this_spec_and_one_that_goes_are_left_alone() {
        let mut observed = with(Formation::Pending, PodState::Starting, true, None);
        assert_eq!(stuck(&observed, "old").count(), 0);
        observed.members[1].seen.as_mut().unwrap().deleting = true;
        assert_eq!(stuck(&observed, "new").count(), 0);
    }
}
