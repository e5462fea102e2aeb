use std::sync::Arc;

use kube::api::PartialObjectMeta;

use super::*;
use crate::cluster::{
    fixtures::{config, observed},
    validate::validate,
};

const ID: &str = "7b0c0000-0000-4000-8000-000000000001";

fn claim(name: &str, id: &str) -> Claim {
    let text = format!("{{metadata: {{name: {name}, uid: uid-{name}, labels: {{kvfleet.dev/cluster-id: {id}}}}}}}");
    let metadata: PartialObjectMeta<_> = serde_yaml::from_str(&text).unwrap();
    Arc::new(metadata)
}

fn validated(retention: &str) -> Validated {
    let spec = format!("{{storage: {{size: 1Gi, retention: {{whenDeleted: {retention}}}}}}}");
    validate(&observed(&spec), &config()).unwrap()
}

#[test]
fn what_lives_as_long_as_the_data_is_owned_by_its_claims_and_by_no_other() {
    let claims = [
        claim("data-prod-s0-1", ID),
        claim("data-prod-s0-0", ID),
        claim("backup-0", ID),
        claim("data-prod-s0-2", "another"),
    ];
    let owners = with_the_data(&validated("Retain"), &claims);
    let named: Vec<(&str, &str, Option<bool>)> = owners
        .iter()
        .map(|owner| (owner.kind.as_str(), owner.name.as_str(), owner.controller))
        .collect();
    assert_eq!(
        named,
        [
            ("PersistentVolumeClaim", "data-prod-s0-0", None),
            ("PersistentVolumeClaim", "data-prod-s0-1", None)
        ]
    );
    assert_eq!(with_the_data(&validated("Delete"), &claims), [], "the data goes with the KvCluster");
}

#[test]
fn only_the_secret_of_the_same_data_is_used() {
    let validated = validated("Retain");
    let own = validated.owner.uid.clone();
    let secret = |labels: &str, owners: &[&str]| -> Secret {
        let owners = owners.join(", ");
        serde_yaml::from_str(&format!(
            "{{metadata: {{name: prod-jwt, labels: {{{labels}}}, ownerReferences: [{owners}]}}}}"
        ))
        .unwrap()
    };
    let ours = format!("app.kubernetes.io/managed-by: kvfleet-operator, kvfleet.dev/cluster-id: {ID}");
    let other = "app.kubernetes.io/managed-by: kvfleet-operator, kvfleet.dev/cluster-id: another";
    let owner = |uid: &str| format!("{{apiVersion: kvfleet.dev/v1alpha1, kind: KvCluster, name: prod, uid: {uid}, controller: true}}");
    let claim = "{apiVersion: v1, kind: PersistentVolumeClaim, name: data-prod-s0-0, uid: c}";
    let (live, gone) = (owner(&own), owner("gone"));
    for (secret, expected) in [
        (secret(&ours, &[&live]), "used"),
        (secret(&ours, &[claim]), "used"),
        // The garbage collector has not come by yet.
        (secret(&ours, &[&gone, claim]), "used"),
        (secret(&ours, &[]), "used"),
        (secret(&ours, &[&gone]), "being collected"),
        (secret(other, &[claim]), "lost"),
        (secret("app.kubernetes.io/managed-by: kvfleet-operator", &[claim]), "lost"),
        (secret("", &[claim]), "not owned"),
        (
            secret(
                &ours,
                &["{apiVersion: v1, kind: ConfigMap, name: x, uid: x, controller: true}", claim],
            ),
            "not owned",
        ),
    ] {
        let said = match may_use(&secret, &validated) {
            Ok(()) => "used",
            Err(Error::BeingCollected { .. }) => "being collected",
            Err(Error::SecretLost { .. }) => "lost",
            Err(Error::NotOwned { .. }) => "not owned",
            Err(other) => panic!("{other}"),
        };
        assert_eq!(said, expected, "{:?}", secret.metadata);
    }
}
