//! How far a pod has come, and in words what keeps it from running.
//!
//! In: a pod as the API server has it. Out: [`PodState`], and whether the pod has ever been ready. Absent: events, which [`super::obstacles`]
//! reads where the pod does not tell enough.

use k8s_openapi::api::core::v1::{ContainerStatus, Pod, PodCondition};

/// Both times are the kubelet's, to the second.
const SAME_MOMENT_SECONDS: i64 = 1;

/// How far a pod has come.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PodState {
    /// Its process runs.
    Running,
    /// On its way, as far as can be seen here.
    Starting,
    /// It cannot be scheduled or started, or ends again and again: for people, why.
    Blocked(String),
}

impl PodState {
    /// What the pod's status says.
    #[must_use]
    pub fn of(pod: &Pod) -> Self {
        let Some(status) = &pod.status else { return PodState::Starting };
        if status.phase.as_deref() == Some("Failed") {
            let words = [status.reason.as_deref(), status.message.as_deref()];
            return PodState::Blocked(format!("it failed: {}", join(words)));
        }
        if let Some(condition) = condition(pod, "PodScheduled").filter(|condition| condition.status == "False") {
            let words = [condition.reason.as_deref(), condition.message.as_deref()];
            return PodState::Blocked(format!("it cannot be scheduled: {}", join(words)));
        }
        let containers = || status.container_statuses.iter().flatten();
        if let Some(why) = containers().find_map(obstacle) {
            return PodState::Blocked(why);
        }
        let runs = |container: &ContainerStatus| container.state.as_ref().is_some_and(|state| state.running.is_some());
        match containers().next() {
            Some(_) if containers().all(runs) => PodState::Running,
            _ => PodState::Starting,
        }
    }
}

/// Whether the pod has never been ready in its life. Its Ready condition is first written when the kubelet takes the pod up, and moves only
/// when its status does: one that was ready for a while carries a later time.
#[must_use]
pub fn never_ready(pod: &Pod) -> bool {
    let Some(ready) = condition(pod, "Ready") else { return true };
    if ready.status == "True" {
        return false;
    }
    let started = pod.status.as_ref().and_then(|status| status.start_time.as_ref());
    match (&ready.last_transition_time, started) {
        (Some(moved), Some(started)) => moved.0.as_second() - started.0.as_second() <= SAME_MOMENT_SECONDS,
        // No kubelet has taken it up.
        (_, None) => true,
        (None, Some(_)) => false,
    }
}

fn condition<'a>(pod: &'a Pod, type_: &str) -> Option<&'a PodCondition> {
    let conditions = pod.status.as_ref()?.conditions.iter().flatten();
    conditions.into_iter().find(|condition| condition.type_ == type_)
}

/// The kubelet's words differ from try to try (`ErrImagePull`, then `ImagePullBackOff`; a longer pause each time): what stays the same of them
/// is told, so that status is written once.
fn obstacle(container: &ContainerStatus) -> Option<String> {
    let waiting = container.state.as_ref()?.waiting.as_ref()?;
    let message = waiting.message.as_deref().unwrap_or_default();
    match waiting.reason.as_deref()? {
        "" | "ContainerCreating" | "PodInitializing" => None,
        "ErrImagePull" | "ImagePullBackOff" | "ImageInspectError" | "RegistryUnavailable" => {
            let cause = message.split_once("ErrImagePull: ").map_or(message, |(_, cause)| cause);
            let cause = if cause.starts_with("Back-off") { "" } else { cause };
            Some(join([
                Some(&format!("its image {} cannot be pulled (ImagePullBackOff)", container.image)),
                Some(cause),
            ]))
        }
        "CrashLoopBackOff" => {
            let last = container.last_state.as_ref().and_then(|state| state.terminated.as_ref());
            let code = last.map_or_else(String::new, |ended| format!(" with exit code {}", ended.exit_code));
            Some(format!(
                "its process ends again and again{code} (CrashLoopBackOff): `kubectl logs --previous` tells why"
            ))
        }
        reason => Some(join([Some(&format!("it cannot be started: {reason}")), Some(message)])),
    }
}

fn join<const N: usize>(words: [Option<&str>; N]) -> String {
    let said: Vec<&str> = words.into_iter().flatten().filter(|word| !word.is_empty()).collect();
    said.join(": ")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pod(status: &str) -> Pod {
        serde_yaml::from_str(&format!("{{metadata: {{name: prod-s0-0}}, status: {{{status}}}}}")).unwrap()
    }

    fn waiting(reason: &str, message: &str) -> Pod {
        pod(&format!(
            "containerStatuses: [{{name: kvnode, image: 'x:nope', imageID: '', ready: false, restartCount: 0, \
             state: {{waiting: {{reason: {reason}, message: '{message}'}}}}}}]"
        ))
    }

    fn why(pod: &Pod) -> String {
        match PodState::of(pod) {
            PodState::Blocked(why) => why,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn what_keeps_a_pod_from_running_is_said() {
        let unschedulable =
            pod("conditions: [{type: PodScheduled, status: 'False', reason: Unschedulable, message: '0/1 nodes are available'}]");
        for (pod, words) in [
            (unschedulable, "0/1 nodes are available"),
            (waiting("CreateContainerConfigError", "secret not found"), "secret not found"),
            (waiting("InvalidImageName", "bad"), "InvalidImageName"),
            (waiting("CrashLoopBackOff", "back-off 10s"), "kubectl logs --previous"),
            (pod("phase: Failed, reason: Evicted, message: 'low on memory'"), "low on memory"),
        ] {
            assert!(why(&pod).contains(words), "{}", why(&pod));
        }
    }

    #[test]
    fn an_image_that_is_tried_again_is_one_message() {
        let first = why(&waiting("ErrImagePull", "manifest unknown"));
        assert!(first.contains("x:nope") && first.contains("manifest unknown"), "{first}");
        assert_eq!(
            why(&waiting(
                "ImagePullBackOff",
                "Back-off pulling image x: ErrImagePull: manifest unknown"
            )),
            first
        );
        assert!(!why(&waiting("ImagePullBackOff", "Back-off pulling image x")).contains("Back-off"));
    }

    #[test]
    fn what_is_on_its_way_is_not_blocked() {
        assert_eq!(PodState::of(&waiting("ContainerCreating", "")), PodState::Starting);
        assert_eq!(PodState::of(&pod("")), PodState::Starting);
        let running =
            pod("containerStatuses: [{name: kvnode, image: x, imageID: '', ready: false, restartCount: 0, state: {running: {}}}]");
        assert_eq!(PodState::of(&running), PodState::Running);
    }

    #[test]
    fn a_pod_that_was_ready_once_is_told_from_one_that_never_was() {
        let at = |status: &str, moved: &str| {
            pod(&format!(
                "startTime: '2026-01-01T00:00:00Z', conditions: [{{type: Ready, status: '{status}', lastTransitionTime: '{moved}'}}]"
            ))
        };
        assert!(never_ready(&at("False", "2026-01-01T00:00:00Z")));
        assert!(
            !never_ready(&at("False", "2026-01-01T00:00:09Z")),
            "it was ready and is not any more"
        );
        assert!(!never_ready(&at("True", "2026-01-01T00:00:09Z")));
        assert!(
            never_ready(&pod("conditions: [{type: PodScheduled, status: 'False'}]")),
            "no node has it"
        );
    }
}
