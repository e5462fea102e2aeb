use kvfleet_api::{
    tenant::{TenantConfig, TenantLimits, TenantState},
    usage::Used,
};
use kvfleet_crds::conditions::holds;

use super::*;

fn at(text: &str) -> Time {
    Time(text.parse().unwrap())
}

fn tenant(status: Option<TenantStatus>) -> Tenant {
    let mut tenant: Tenant = serde_yaml::from_str(
        "{apiVersion: kvfleet.dev/v1alpha1, kind: Tenant, metadata: {name: acme, namespace: apps, uid: u1, generation: 3}, \
         spec: {clusterRef: {name: prod}}}",
    )
    .unwrap();
    tenant.status = status;
    tenant
}

fn placed(storage: u64, keys: u64) -> Box<placed::TenantStatus> {
    Box::new(placed::TenantStatus {
        name: "acme".to_owned(),
        id: 1,
        state: TenantState::Active,
        revision: 815,
        config: TenantConfig {
            uid: "u1".to_owned(),
            owner: "apps/acme".to_owned(),
            generation: 3,
            cluster_generation: 1,
            credential_generation: 1,
            limits: TenantLimits {
                quota_storage: 1_000,
                quota_keys: 10,
                ..TenantLimits::default()
            },
        },
        credential_issued_at: 0,
        usage: Used { storage, keys },
    })
}

fn good() -> Report {
    Report {
        acceptance: Acceptance::Accepted,
        placed: Some(placed(127, 4)),
        progress: Progress::InForce,
        credentials: CredentialsState::Written,
    }
}

fn rejected(reason: Reason) -> Acceptance {
    Acceptance::Rejected(Rejection {
        reason,
        message: "why".to_owned(),
    })
}

/// Acceptance, progress and credentials, and what Ready, Accepted and CredentialsReady say then.
#[test]
fn conditions_follow_from_what_was_found() {
    let behind = Progress::Behind(vec!["prod-s0-1".to_owned(), "prod-s0-2".to_owned()]);
    let pending = CredentialsState::Pending("why".to_owned());
    let foreign = CredentialsState::NotOwned("why".to_owned());
    let unknown = Acceptance::Unknown("why".to_owned());
    let yes = Acceptance::Accepted;
    let written = CredentialsState::Written;
    let table = [
        (
            &yes,
            &Progress::InForce,
            &written,
            ["True Ready", "True Accepted", "True CredentialsWritten"],
        ),
        (
            &yes,
            &behind,
            &written,
            ["False Applying", "True Accepted", "True CredentialsWritten"],
        ),
        (
            &yes,
            &Progress::NotPlaced,
            &written,
            ["False Applying", "True Accepted", "True CredentialsWritten"],
        ),
        (
            &yes,
            &Progress::InForce,
            &pending,
            ["False CredentialsPending", "True Accepted", "False CredentialsPending"],
        ),
        (
            &yes,
            &Progress::InForce,
            &foreign,
            ["False SecretNotOwned", "True Accepted", "False SecretNotOwned"],
        ),
        (
            &unknown,
            &Progress::NotPlaced,
            &written,
            ["False ClusterUnavailable", "Unknown ClusterUnavailable", "True CredentialsWritten"],
        ),
        (
            &Acceptance::Paused,
            &Progress::NotPlaced,
            &written,
            ["False ClusterPaused", "Unknown ClusterPaused", "True CredentialsWritten"],
        ),
        (
            &Acceptance::Refused("why".to_owned()),
            &Progress::NotPlaced,
            &written,
            ["False ApplyFailed", "Unknown ApplyFailed", "True CredentialsWritten"],
        ),
        (
            &yes,
            &Progress::InForce,
            &CredentialsState::Refused("why".to_owned()),
            ["False ApplyFailed", "True Accepted", "False ApplyFailed"],
        ),
        (
            &rejected(Reason::CLUSTER_NOT_FOUND),
            &Progress::NotPlaced,
            &pending,
            ["False ClusterNotFound", "False ClusterNotFound", "False CredentialsPending"],
        ),
        (
            &rejected(Reason::EXCEEDS_CEILING),
            &Progress::NotPlaced,
            &written,
            ["False ExceedsCeiling", "False ExceedsCeiling", "True CredentialsWritten"],
        ),
        (
            &rejected(Reason::TENANT_NAME_TAKEN),
            &Progress::NotPlaced,
            &pending,
            ["False TenantNameTaken", "False TenantNameTaken", "False CredentialsPending"],
        ),
    ];
    for (acceptance, progress, credentials, expected) in table {
        let report = Report {
            acceptance: acceptance.clone(),
            progress: progress.clone(),
            credentials: credentials.clone(),
            ..good()
        };
        let status = status(&tenant(None), &report, &at("2026-01-01T00:00:00Z"));
        let said: Vec<String> = status
            .conditions
            .iter()
            .map(|condition| format!("{} {}", condition.status, condition.reason))
            .collect();
        assert_eq!(said, expected);
        assert!(
            status
                .conditions
                .iter()
                .all(|condition| condition.observed_generation == Some(3) && !condition.message.is_empty())
        );
        let is_ready = expected[0] == "True Ready";
        assert_eq!(holds(&status.conditions, ConditionType::READY, Some(3)), is_ready);
    }
}

#[test]
fn a_member_that_is_behind_is_named() {
    let report = Report {
        progress: Progress::Behind(vec!["prod-s0-1".to_owned()]),
        ..good()
    };
    let status = status(&tenant(None), &report, &at("2026-01-01T00:00:00Z"));
    assert!(status.conditions[0].message.contains("prod-s0-1"));
    assert_eq!(status.applied_revision, None, "not every member enforces it");
}

#[test]
fn the_whole_status_of_a_tenant_that_is_ready() {
    insta::assert_yaml_snapshot!(status(&tenant(None), &good(), &at("2026-01-01T00:00:00Z")));
}

#[test]
fn the_same_again_is_the_same_status() {
    let first = status(&tenant(None), &good(), &at("2026-01-01T00:00:00Z"));
    let second = status(&tenant(Some(first.clone())), &good(), &at("2026-01-02T00:00:00Z"));
    assert_eq!(first, second);
}

#[test]
fn a_cluster_that_fails_in_many_ways_is_one_status() {
    let unreachable = |why: &str| Report {
        acceptance: Acceptance::Unknown(why.to_owned()),
        placed: None,
        progress: Progress::NotPlaced,
        ..good()
    };
    let first = status(&tenant(None), &unreachable("refused"), &at("2026-01-01T00:00:00Z"));
    let second = status(&tenant(Some(first.clone())), &unreachable("timed out"), &at("2026-01-02T00:00:00Z"));
    assert_eq!(first, second);
}

#[test]
fn usage_moves_in_steps_of_a_hundredth_of_the_quota() {
    let first = status(&tenant(None), &good(), &at("2026-01-01T00:00:00Z"));
    let ready = tenant(Some(first));
    for (storage, keys, moved) in [
        (127, 4, false),
        (120, 4, false),
        (129, 4, false),
        (130, 4, true),
        (119, 4, true),
        (127, 5, true),
    ] {
        assert_eq!(has_usage_moved(&ready, &placed(storage, keys)), moved, "{storage} {keys}");
    }
}

#[test]
fn only_what_a_person_should_know_is_an_event() {
    let now = at("2026-01-01T00:00:00Z");
    let of = |report: &Report| status(&tenant(None), report, &now);
    let ready = of(&good());
    let applying = of(&Report {
        progress: Progress::NotPlaced,
        ..good()
    });
    let refused = of(&Report {
        acceptance: rejected(Reason::EXCEEDS_CEILING),
        ..good()
    });
    let reason = |old: &TenantStatus, new: &TenantStatus| event(old, new).map(|(_, reason, _)| reason);
    assert_eq!(reason(&TenantStatus::default(), &ready).as_deref(), Some("Ready"));
    assert_eq!(reason(&ready, &ready), None);
    assert_eq!(reason(&ready, &applying), None);
    assert_eq!(reason(&ready, &refused).as_deref(), Some("ExceedsCeiling"));
    assert_eq!(reason(&refused, &refused), None);
}
