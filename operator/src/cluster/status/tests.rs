use kvfleet_api::admin::Role;
use kvfleet_crds::conditions::{ConditionType, Reason, find};

use super::*;
use crate::cluster::{
    fixtures::{observed, pod, report},
    heard::Unheard,
    plan::{Act, Cause, Change},
    validate::validate,
};

fn now() -> Time {
    Time("2026-01-01T00:00:00Z".parse().unwrap())
}

/// A cluster that is as it should be.
fn healthy() -> (Observed, Outcome) {
    let mut observed = observed("{storage: {size: 1Gi}}");
    for (ordinal, member) in (0..).zip(&mut observed.members) {
        member.seen = Some(pod("h"));
        member.report = Some(report(ordinal, if ordinal == 0 { Role::Primary } else { Role::Follower }));
    }
    observed.status.shards = vec![ShardStatus {
        bootstrap_id: Some("1".to_owned()),
        ..ShardStatus::of(0, Formation::Formed)
    }];
    let validated = validate(&observed, &crate::cluster::fixtures::config()).unwrap();
    let outcome = Outcome {
        validated: Some(validated),
        spec_hash: Some("h".to_owned()),
        step: Some(Step::Converged),
        unavailable_for: Duration::MAX,
        ..Outcome::default()
    };
    (observed, outcome)
}

/// The same, and status has said so.
fn well() -> (Observed, Outcome) {
    let (mut observed, outcome) = healthy();
    observed.status = compose(&observed, &outcome, true, &now());
    (observed, outcome)
}

/// A member that was asked and does not answer.
fn silence(observed: &mut Observed, ordinal: usize) {
    let member = &mut observed.members[ordinal];
    member.report = None;
    member.unheard = Some(Unheard::Silent("no answer within 1500 ms".to_owned()));
}

fn refused_by_quota() -> Error {
    let status = serde_json::json!({"status": "Failure", "code": 403, "reason": "Forbidden",
        "message": "services \"prod\" is forbidden: exceeded quota: q"});
    let status: kube::core::Status = serde_json::from_value(status).unwrap();
    Error::kubernetes("apply Service storage/prod")(kube::Error::Api(Box::new(status)))
}

/// Available, Progressing, Degraded and Ready, each as `True Reason`.
fn told(observed: &Observed, outcome: &Outcome) -> [String; 4] {
    let status = compose(observed, outcome, true, &now());
    conditions_of(&status)
}

fn conditions_of(status: &KvClusterStatus) -> [String; 4] {
    let conditions = status.conditions.iter();
    let texts: Vec<String> = conditions
        .map(|condition| format!("{} {}", condition.status, condition.reason))
        .collect();
    texts.try_into().unwrap()
}

fn expect(observed: &Observed, outcome: &Outcome, expected: [&str; 4]) {
    assert_eq!(told(observed, outcome), expected.map(str::to_owned));
}

#[test]
fn a_healthy_cluster_is_ready() {
    let (observed, outcome) = healthy();
    expect(
        &observed,
        &outcome,
        ["True QuorumAvailable", "False Converged", "False Healthy", "True Ready"],
    );
    let status = compose(&observed, &outcome, true, &now());
    let shard = &status.shards[0];
    assert_eq!((shard.primary.as_deref(), shard.term), (Some("prod-s0-0"), Some(4)));
    assert_eq!(
        (status.replicas, status.ready_replicas, status.tenants),
        (Some(3), Some(3), Some(2))
    );
    assert_eq!(status.version.as_deref(), Some("1.0.0"));
    // 25 MiB is 2 whole steps of 1% of 1 GiB.
    assert_eq!(shard.members[0].storage_used.as_ref().map(|used| used.as_str()), Some("20Mi"));
}

#[test]
fn one_lost_member_degrades_and_two_end_the_quorum() {
    let (mut observed, outcome) = healthy();
    observed.members[2].report = None;
    observed.members[2].seen = None;
    expect(
        &observed,
        &outcome,
        [
            "True QuorumAvailable",
            "False Converged",
            "True MemberMissing",
            "False MemberMissing",
        ],
    );
    observed.members[1].seen.as_mut().unwrap().ready = false;
    expect(
        &observed,
        &outcome,
        ["False QuorumLost", "False Converged", "True MemberMissing", "False MemberMissing"],
    );
    for member in &mut observed.members {
        let Some(report) = &mut member.report else { continue };
        (report.role, report.leader) = (Some(Role::Follower), None);
    }
    let status = compose(&observed, &outcome, true, &now());
    assert_eq!(status.shards[0].primary, None);
    assert_eq!(conditions_of(&status)[0], "False QuorumLost");
}

#[test]
fn a_group_that_is_not_formed_is_not_available() {
    let (mut observed, mut outcome) = healthy();
    observed.status.shards.clear();
    outcome.step = Some(Step::Wait("waiting to hear from prod-s0-1".to_owned()));
    expect(
        &observed,
        &outcome,
        ["False NotFormed", "True Forming", "False Healthy", "False Forming"],
    );
    let status = compose(&observed, &outcome, true, &now());
    let progressing = find(&status.conditions, ConditionType::PROGRESSING).unwrap();
    assert_eq!(progressing.message, "waiting to hear from prod-s0-1");
    outcome.step = Some(Step::MarkFormed);
    expect(
        &observed,
        &outcome,
        ["True QuorumAvailable", "False Converged", "False Healthy", "True Ready"],
    );
}

#[test]
fn an_outdated_pod_and_settings_under_way_are_progress_and_not_ready() {
    let (mut observed, mut outcome) = healthy();
    observed.members[1].seen = Some(pod("old"));
    expect(
        &observed,
        &outcome,
        ["True QuorumAvailable", "True RollingOut", "False Healthy", "False RollingOut"],
    );
    observed.members[1].seen = Some(pod("h"));
    outcome.settings = Some(Error::Waits("not on prod-s0-2 yet".to_owned()));
    expect(
        &observed,
        &outcome,
        ["True QuorumAvailable", "True RollingOut", "False Healthy", "False RollingOut"],
    );
}

fn rolling_out(observed: &Observed, outcome: &Outcome) -> String {
    let status = compose(observed, outcome, true, &now());
    let progressing = find(&status.conditions, kvfleet_crds::conditions::ConditionType::PROGRESSING).unwrap();
    match progressing.reason.as_str() {
        "RollingOut" => progressing.message.clone(),
        other => panic!("{other}: {}", progressing.message),
    }
}

/// A healthy pod is given up only for a spec that has not been seen to fail.
#[test]
fn no_healthy_pod_is_to_be_deleted_while_one_of_the_present_spec_does_not_start() {
    let (mut observed, mut outcome) = healthy();
    outcome.spec_hash = Some("new".to_owned());
    outcome.validated.as_mut().unwrap().image = "example.org/kvnode:nope".to_owned();
    for member in &mut observed.members {
        member.seen.as_mut().unwrap().image = Some("example.org/kvnode:1".to_owned());
    }
    let all = rolling_out(&observed, &outcome);
    assert!(all.contains("prod-s0-0, prod-s0-1, prod-s0-2 run an earlier spec"), "{all}");
    assert!(all.contains("one at a time"), "{all}");

    // The first was deleted and does not come up with the new image.
    let first = observed.members[0].seen.as_mut().unwrap();
    (first.ready, first.spec_hash, first.image) = (false, Some("new".to_owned()), Some("example.org/kvnode:nope".to_owned()));
    let stuck = rolling_out(&observed, &outcome);
    assert!(stuck.contains("prod-s0-0 was made from the present spec"), "{stuck}");
    assert!(stuck.contains("kvnode:nope, which no ready member runs"), "{stuck}");
    assert!(stuck.contains("delete no other pod") && !stuck.contains("prod-s0-1"), "{stuck}");

    // The image is taken back: only the pod that failed is to be made again.
    outcome.spec_hash = Some("h".to_owned());
    let reverted = rolling_out(&observed, &outcome);
    assert!(reverted.contains("prod-s0-0 run an earlier spec and are not ready"), "{reverted}");
    assert!(!reverted.contains("prod-s0-1") && !reverted.contains("prod-s0-2"), "{reverted}");
}

#[test]
fn the_image_that_came_up_is_recorded() {
    let (mut observed, outcome) = healthy();
    let image = |observed: &Observed| compose(observed, &outcome, true, &now()).shards[0].image.clone();
    assert_eq!(image(&observed), None);
    for member in &mut observed.members {
        member.seen.as_mut().unwrap().image = Some("example.org/kvnode:1".to_owned());
    }
    assert_eq!(image(&observed).as_deref(), Some("example.org/kvnode:1"));
    observed.status = compose(&observed, &outcome, true, &now());
    for member in &mut observed.members {
        let pod = member.seen.as_mut().unwrap();
        (pod.ready, pod.image) = (false, Some("example.org/kvnode:nope".to_owned()));
    }
    assert_eq!(image(&observed).as_deref(), Some("example.org/kvnode:1"));
}

/// The leader's words are told where people look, for a refusal that time does not alter.
#[test]
fn a_change_that_the_leader_refuses_is_told_with_its_words() {
    let (observed, mut outcome) = healthy();
    outcome.step = Some(Step::Change(Change {
        cause: Cause::Scaling,
        act: Act::Remove {
            pod: "prod-s0-1".to_owned(),
            id: 12,
        },
    }));
    outcome.trouble = Some(Error::Halted {
        reason: Reason::CHANGE_REFUSED,
        message: "taking prod-s0-1 out of the group: it is the only voter".to_owned(),
    });
    expect(
        &observed,
        &outcome,
        ["True QuorumAvailable", "True Scaling", "True ChangeRefused", "False ChangeRefused"],
    );
    let status = compose(&observed, &outcome, true, &now());
    for condition in &status.conditions[1..3] {
        assert!(condition.message.contains("it is the only voter"), "{condition:?}");
    }
}

#[test]
fn whoever_comes_or_goes_is_not_missed_and_whoever_was_lost_is() {
    let (mut observed, mut outcome) = healthy();
    let change = |cause, what: &str| {
        Some(Step::Change(Change {
            cause,
            act: Act::Wait(what.to_owned()),
        }))
    };
    // prod-s0-2 is on its way in: two vote, and both are ready.
    for member in &mut observed.members {
        member.report.as_mut().unwrap().members.truncate(2);
    }
    let newcomer = observed.members[2].report.as_mut().unwrap();
    newcomer.role = Some(Role::Learner);
    newcomer.ready = false;
    outcome.step = change(Cause::Scaling, "prod-s0-2 is a learner and catches up");
    expect(
        &observed,
        &outcome,
        ["True QuorumAvailable", "True Scaling", "False Healthy", "False Scaling"],
    );
    let status = compose(&observed, &outcome, true, &now());
    assert_eq!(status.conditions[1].message, "prod-s0-2 is a learner and catches up");
    assert!(status.conditions[0].message.contains("2 of 2 members are ready"));
    assert!(!status.shards[0].members[2].voter);

    // prod-s0-2 voted and is somebody else now.
    let (mut observed, mut outcome) = healthy();
    let other = observed.members[2].report.as_mut().unwrap();
    (other.id, other.role, other.ready) = (9, None, false);
    outcome.step = change(Cause::Replacing, "prod-s0-2 catches up");
    expect(
        &observed,
        &outcome,
        [
            "True QuorumAvailable",
            "True ReplacingMember",
            "True MemberMissing",
            "False MemberMissing",
        ],
    );
    let status = compose(&observed, &outcome, true, &now());
    assert!(status.conditions[0].message.contains("2 of 3 members are ready"));
}

#[test]
fn who_voted_is_not_forgotten_while_nobody_leads() {
    let (mut observed, outcome) = healthy();
    observed.status = compose(&observed, &outcome, true, &now());
    for (ordinal, member) in (0..).zip(&mut observed.members) {
        let report = member.report.as_mut().unwrap();
        (report.id, report.state, report.role) = (50 + ordinal, kvfleet_api::admin::MemberState::Blank, None);
        report.members.clear();
    }
    for _ in 0..2 {
        observed.status = compose(&observed, &outcome, true, &now());
        let ids: Vec<_> = observed.status.shards[0]
            .members
            .iter()
            .map(|member| member.id.clone().unwrap())
            .collect();
        assert_eq!(ids, ["1", "2", "3"]);
    }
}

#[test]
fn a_pause_is_told_and_hides_no_spec_that_is_not_carried_out() {
    let paused = || {
        let (mut observed, outcome) = healthy();
        let mut cluster = observed.cluster.as_ref().clone();
        cluster.spec.maintenance.paused = true;
        observed.cluster = std::sync::Arc::new(cluster);
        (observed, outcome)
    };
    let calm = ["True QuorumAvailable", "False Paused", "False Healthy", "True Ready"];
    let behind = ["True QuorumAvailable", "False Paused", "False Healthy", "False Paused"];
    let (observed, outcome) = paused();
    expect(&observed, &outcome, calm);

    let (mut observed, outcome) = paused();
    observed.members[1].seen = Some(pod("old"));
    expect(&observed, &outcome, behind);

    let (observed, mut outcome) = paused();
    outcome.differs = vec!["Service prod".to_owned()];
    expect(&observed, &outcome, behind);
    let status = compose(&observed, &outcome, true, &now());
    let ready = find(&status.conditions, ConditionType::READY).unwrap();
    assert!(
        ready.message.ends_with("; these wait until the pause ends: Service prod"),
        "{}",
        ready.message
    );

    let (observed, mut outcome) = paused();
    outcome.settings = Some(Error::Waits("the members have the settings of an earlier spec".to_owned()));
    expect(&observed, &outcome, behind);

    let (observed, mut outcome) = paused();
    outcome.step = Some(Step::Change(Change {
        cause: Cause::Scaling,
        act: Act::Wait("waiting to hear that prod-s0-3 is blank".to_owned()),
    }));
    expect(&observed, &outcome, behind);
}

#[test]
fn what_is_not_applied_is_told_whatever_the_trouble_and_what_a_person_must_mend_at_once() {
    let (mut observed, mut outcome) = healthy();
    let text = || "x".to_owned();
    let member = || {
        let problem = kvfleet_api::Problem::new(kvfleet_api::Code::Conflict, "x", "t");
        Error::member("form the group")(kvfleet_client::admin::Error::Refused(Box::new(problem)))
    };
    for (trouble, expected) in [
        (
            Error::NotOwned {
                kind: text(),
                name: text(),
            },
            "True ObjectNotOwned",
        ),
        (
            Error::SecretLost {
                name: text(),
                problem: text(),
                remedy: "x",
            },
            "True SecretLost",
        ),
        (
            Error::Halted {
                reason: Reason::FORMATION_LOST,
                message: text(),
            },
            "True FormationLost",
        ),
        (
            Error::InvalidSpec {
                field: "x",
                problem: text(),
            },
            "True InvalidSpec",
        ),
        (Error::Waits(text()), "False Healthy"),
        (
            Error::BeingCollected {
                kind: text(),
                name: text(),
                owner: text(),
            },
            "False Healthy",
        ),
        (refused_by_quota(), "False Healthy"),
        (member(), "False Healthy"),
    ] {
        outcome.trouble = Some(trouble);
        let [_, progressing, degraded, ready] = told(&observed, &outcome);
        assert_eq!((degraded.as_str(), progressing.as_str()), (expected, "True Applying"));
        assert!(ready.starts_with("False"), "{expected}: {ready}");
    }
    // Not even for a moment where the generation is new: nothing of it has been applied.
    observed = well().0;
    let mut newer = observed.cluster.as_ref().clone();
    newer.metadata.generation = Some(2);
    observed.cluster = std::sync::Arc::new(newer);
    outcome.trouble = Some(refused_by_quota());
    let status = compose(&observed, &outcome, true, &now());
    let ready = find(&status.conditions, ConditionType::READY).unwrap();
    assert_eq!((ready.status.as_str(), ready.reason.as_str()), ("False", "Applying"));
    assert!(ready.message.contains("apply Service storage/prod") && ready.message.contains("exceeded quota"));
    let degraded = find(&status.conditions, ConditionType::DEGRADED).unwrap();
    assert_ne!(degraded.message, "nothing is wrong");
}

#[test]
fn the_same_trouble_for_half_a_minute_degrades_and_a_step_that_takes_its_time_does_not() {
    let (observed, mut outcome) = well();
    outcome.troubled_for = Duration::from_secs(30);
    for (trouble, expected) in [
        (refused_by_quota(), "True ApplyFailed"),
        (Error::Waits("a learner catches up".to_owned()), "False Healthy"),
    ] {
        outcome.trouble = Some(trouble);
        assert_eq!(told(&observed, &outcome)[2], expected);
    }
    outcome.trouble = None;
    outcome.settings = Some(refused_by_quota());
    assert_eq!(told(&observed, &outcome)[2], "True ApplyFailed");
}

#[test]
fn one_refused_request_is_no_news_where_all_of_this_generation_was_applied() {
    let (observed, mut outcome) = well();
    outcome.trouble = Some(refused_by_quota());
    outcome.troubled_for = Duration::from_secs(1);
    assert_eq!(told(&observed, &outcome)[3], "True Ready");
    outcome.troubled_for = GRACE;
    assert_eq!(told(&observed, &outcome)[3], "False Applying");
    // Nor is a settings call that the leader did not answer.
    (outcome.settings, outcome.trouble, outcome.troubled_for) = (outcome.trouble.take(), None, Duration::from_secs(1));
    assert_eq!(told(&observed, &outcome)[3], "True Ready");
}

#[test]
fn one_late_answer_is_no_loss_the_leaders_or_anothers() {
    for late in [0, 2] {
        let (mut observed, outcome) = well();
        let before = observed.status.clone();
        silence(&mut observed, late);
        observed.members[late].lately = true;
        assert_eq!(compose(&observed, &outcome, true, &now()), before, "{late}");
        assert_eq!(primary(&observed).unwrap().0.pod, "prod-s0-0", "the others name it");
        // It has been silent for longer, and its pod says the same.
        let member = &mut observed.members[late];
        (member.lately, member.seen.as_mut().unwrap().ready) = (false, false);
        assert_eq!(told(&observed, &outcome)[2], "True MemberMissing", "{late}");
    }
}

#[test]
fn an_election_ends_no_availability_for_some_seconds() {
    let (mut observed, mut outcome) = well();
    for member in &mut observed.members {
        let report = member.report.as_mut().unwrap();
        (report.role, report.leader, report.ready) = (Some(Role::Follower), None, false);
    }
    outcome.unavailable_for = Duration::from_secs(1);
    // Two looks: the second one sees what the first one wrote.
    for _ in 0..2 {
        observed.status = compose(&observed, &outcome, true, &now());
        assert_eq!(
            conditions_of(&observed.status),
            ["True QuorumAvailable", "False Converged", "False Healthy", "True Ready"]
        );
        assert_eq!(observed.status.shards[0].primary.as_deref(), Some("prod-s0-0"));
    }
    let electing = observed.status.clone();
    outcome.unavailable_for = GRACE;
    let status = compose(&observed, &outcome, true, &now());
    assert_eq!(
        conditions_of(&status),
        ["False QuorumLost", "False Converged", "True MemberMissing", "False MemberMissing"]
    );
    assert_eq!(status.shards[0].primary, None);

    // Who is not there, and who has lost its data, is missing at once, election or not.
    outcome.unavailable_for = Duration::from_secs(1);
    observed.status = electing;
    observed.members[1].report.as_mut().unwrap().state = kvfleet_api::admin::MemberState::Blank;
    (observed.members[2].report, observed.members[2].seen) = (None, None);
    let status = compose(&observed, &outcome, true, &now());
    assert_eq!(conditions_of(&status)[2], "True MemberMissing");
    assert!(
        status.conditions[2].message.starts_with("prod-s0-1, prod-s0-2 are"),
        "{:?}",
        status.conditions[2]
    );
    // And who was missing before is not forgotten for an election.
    observed.status = status;
    observed.members[2] = observed.members[0].clone();
    assert_eq!(told(&observed, &outcome)[2], "True MemberMissing");
}

#[test]
fn what_could_not_be_asked_is_unknown_and_nothing_that_was_known_is_taken_back() {
    let (mut observed, outcome) = well();
    let before = observed.status.clone();
    for member in &mut observed.members {
        member.report = None;
        member.unheard = Some(Unheard::NotAsked("cannot read Secret storage/prod-operator-tls".to_owned()));
    }
    let unknown = "Unknown MembersUnreachable";
    expect(&observed, &outcome, [unknown, "False Converged", unknown, unknown]);
    let status = compose(&observed, &outcome, true, &now());
    assert_eq!(status.shards, before.shards, "primary and members are what they were");
    assert!(status.conditions[0].message.contains("prod-operator-tls"));
    // Of a new generation it is not known how far it is.
    let mut newer = observed.cluster.as_ref().clone();
    newer.metadata.generation = Some(2);
    observed.cluster = std::sync::Arc::new(newer);
    assert_eq!(told(&observed, &outcome)[1], unknown);

    // Asked without an answer, as behind a NetworkPolicy: Kubernetes calls them ready, which they are only with a quorum.
    let (mut observed, outcome) = well();
    (0..3).for_each(|ordinal| silence(&mut observed, ordinal));
    expect(&observed, &outcome, [unknown, "False Converged", unknown, unknown]);
    for member in &mut observed.members {
        member.seen.as_mut().unwrap().ready = false;
    }
    assert_eq!(told(&observed, &outcome)[0], "False QuorumLost");
    // Without pods there is no quorum, whoever can be asked.
    for member in &mut observed.members {
        member.seen = None;
    }
    assert_eq!(told(&observed, &outcome)[0], "False QuorumLost");
}

#[test]
fn one_member_out_of_reach_is_not_called_missing() {
    let (mut observed, outcome) = well();
    silence(&mut observed, 1);
    expect(
        &observed,
        &outcome,
        [
            "True QuorumAvailable",
            "False Converged",
            "True MembersUnreachable",
            "False MembersUnreachable",
        ],
    );
}

#[test]
fn without_a_leader_nothing_is_called_converged_that_was_not() {
    let (mut observed, outcome) = healthy();
    for member in &mut observed.members {
        let report = member.report.as_mut().unwrap();
        (report.role, report.leader, report.ready) = (Some(Role::Follower), None, false);
    }
    assert_eq!(told(&observed, &outcome)[1], "True Applying");
}

#[test]
fn what_keeps_pods_from_running_is_said_in_words() {
    let (mut observed, mut outcome) = healthy();
    observed.status.shards.clear();
    outcome.step = Some(Step::Wait("waiting to hear from prod-s0-1".to_owned()));
    outcome.obstacles = (0..2)
        .map(|ordinal| Obstacle {
            pod: format!("prod-s0-{ordinal}"),
            why: "no such image".to_owned(),
        })
        .collect();
    let status = compose(&observed, &outcome, true, &now());
    assert_eq!(conditions_of(&status)[2], "True PodBlocked");
    assert_eq!(status.conditions[2].message, "prod-s0-0, prod-s0-1: no such image");
    // Of a group that runs, the member is missing and this is why.
    let (mut observed, _) = healthy();
    observed.members[1].report = None;
    observed.members[1].seen = None;
    outcome.step = Some(Step::Converged);
    let status = compose(&observed, &outcome, true, &now());
    assert_eq!(conditions_of(&status)[2], "True MemberMissing");
    assert!(status.conditions[2].message.contains("no such image"));
}

#[test]
fn a_figure_of_use_stands_still_until_it_is_due() {
    let (mut observed, outcome) = healthy();
    observed.status = compose(&observed, &outcome, true, &now());
    observed.members[0].report.as_mut().unwrap().storage_used = 500 << 20;
    let used = |due| {
        let status = compose(&observed, &outcome, due, &now());
        status.shards[0].members[0].storage_used.as_ref().unwrap().as_str().to_owned()
    };
    assert_eq!(used(false), "20Mi");
    assert_eq!(used(true), "491Mi");
}

/// Segments and files of the engine come and go with nothing written.
#[test]
fn a_volume_is_told_again_when_a_person_would_want_to_know() {
    let (mut observed, outcome) = healthy();
    let mut told = |percent: u64| {
        // 1% more than half of the step that it is rounded down to.
        observed.members[0].report.as_mut().unwrap().storage_used = (1 << 30) / 1000 * (percent * 10 + 5);
        observed.status = compose(&observed, &outcome, true, &now());
        let used = observed.status.shards[0].members[0].storage_used.clone().unwrap().bytes().unwrap();
        used.div_ceil((1 << 30) / 100)
    };
    let seen: Vec<u64> = [10, 12, 14, 11, 8, 15, 79, 81, 82, 81, 80, 60].into_iter().map(&mut told).collect();
    assert_eq!(seen, [10, 10, 10, 10, 10, 15, 79, 81, 82, 82, 80, 60]);
}

#[test]
fn a_blank_member_has_no_figure_of_use() {
    let (mut observed, outcome) = healthy();
    observed.members[0].report.as_mut().unwrap().state = kvfleet_api::admin::MemberState::Blank;
    let status = compose(&observed, &outcome, true, &now());
    assert_eq!(status.shards[0].members[0].storage_used, None);
    assert!(status.shards[0].members[1].storage_used.is_some());
}

/// A level that rises while a group forms is told once, when it has risen.
#[test]
fn a_level_is_told_when_it_has_risen_or_is_held() {
    let (mut observed, outcome) = healthy();
    let mut told = |levels: [(Option<u32>, u32); 3], held_by: &[&str]| {
        for (member, (level, highest)) in observed.members.iter_mut().zip(levels) {
            let report = member.report.as_mut().unwrap();
            (report.level, report.supported_levels.highest) = (level, highest);
            report.level_held_by = held_by.iter().map(|by| (*by).to_owned()).collect();
        }
        observed.status = compose(&observed, &outcome, true, &now());
        let shard = &observed.status.shards[0];
        (shard.level, shard.supported_level, is_raising(&observed))
    };
    let all = |level| [(Some(level), 2), (Some(level), 2), (Some(level), 2)];
    assert_eq!(told(all(1), &[]), (None, None, true), "it is about to rise");
    assert_eq!(told(all(2), &[]), (Some(2), None, false));
    let newer = [(Some(2), 3), (Some(2), 3), (Some(2), 3)];
    assert_eq!(told(newer, &["the settings hold it"]), (Some(2), Some(3), false));
    assert_eq!(told(newer, &[]), (Some(2), Some(3), true), "another leader has not looked yet");
    let mixed = [(Some(2), 3), (Some(2), 2), (Some(2), 3)];
    assert_eq!(told(mixed, &["prod-s0-1 knows up to level 2"]), (Some(2), Some(2), false));
    let risen = [(Some(3), 3), (Some(3), 3), (Some(2), 3)];
    assert_eq!(told(risen, &[]), (Some(3), None, false));
}

#[test]
fn of_two_that_claim_to_lead_the_newer_term_does() {
    let (mut observed, _) = healthy();
    let stale = observed.members[0].report.as_mut().unwrap();
    stale.term = 3;
    observed.members[1].report.as_mut().unwrap().role = Some(Role::Primary);
    let (leader, term) = primary(&observed).unwrap();
    assert_eq!((leader.pod.as_str(), term), ("prod-s0-1", 4));
}
