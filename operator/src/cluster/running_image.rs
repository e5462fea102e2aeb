//! The image that the members run.
//!
//! In: the pods, and what status recorded. Out: what a majority of the ready members run, or ran when there were any. It is recorded in
//! status and nowhere else: an annotation goes with its object, and says what was applied, not what came up. Absent: what they shall run.

use super::{fetch::Observed, formation::shard};

/// None while no member has ever been ready.
#[must_use]
pub fn running_image(observed: &Observed) -> Option<String> {
    let ready = observed
        .members
        .iter()
        .filter_map(|member| member.seen.as_ref())
        .filter(|pod| pod.ready);
    let images: Vec<&str> = ready.filter_map(|pod| pod.image.as_deref()).collect();
    let majority = images
        .iter()
        .find(|image| images.iter().filter(|other| other == image).count() * 2 > images.len());
    let recorded = || shard(&observed.status)?.image.clone();
    majority.map(|image| (*image).to_owned()).or_else(recorded)
}

#[cfg(test)]
mod tests {
    use kvfleet_crds::cluster::{Formation, ShardStatus};

    use super::*;
    use crate::cluster::fixtures::{observed, pod};

    fn seen(recorded: Option<&str>, pods: [Option<(&str, bool)>; 3]) -> Observed {
        let mut observed = observed("{storage: {size: 1Gi}}");
        observed.status.shards = vec![ShardStatus {
            image: recorded.map(str::to_owned),
            ..ShardStatus::of(0, Formation::Formed)
        }];
        for (member, (image, ready)) in observed
            .members
            .iter_mut()
            .zip(pods)
            .filter_map(|(member, pod)| Some((member, pod?)))
        {
            let mut pod = pod("h");
            (pod.image, pod.ready) = (Some(image.to_owned()), ready);
            member.seen = Some(pod);
        }
        observed
    }

    #[test]
    fn the_image_that_runs_is_that_of_most_ready_members() {
        let (old, new, bad) = (Some(("a:1", true)), Some(("a:2", true)), Some(("a:nope", false)));
        for (recorded, pods, expected) in [
            (None, [None, None, None], None),
            // Applied, and never came up.
            (None, [bad, bad, bad], None),
            (Some("a:1"), [bad, bad, bad], Some("a:1")),
            (Some("a:1"), [None, None, None], Some("a:1")),
            (None, [old, bad, bad], Some("a:1")),
            (Some("a:0"), [old, old, new], Some("a:1")),
            (Some("a:1"), [old, new, new], Some("a:2")),
            // No majority of those that are ready: it stays.
            (Some("a:1"), [old, new, bad], Some("a:1")),
            (Some("a:2"), [old, new, None], Some("a:2")),
        ] {
            assert_eq!(running_image(&seen(recorded, pods)).as_deref(), expected, "{recorded:?} {pods:?}");
        }
    }
}
