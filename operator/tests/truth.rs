//! What status says while something is in the way, and what is put right: against a real API server without a kubelet and without
//! controllers, whose parts (a garbage collection, a pod's status, a warning) the tests play.
//!
//! What needs members that run is in `e2e`.

#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "a test may panic")]

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use k8s_openapi::api::{
    admissionregistration::v1::{ValidatingAdmissionPolicy, ValidatingAdmissionPolicyBinding},
    apps::v1::StatefulSet,
    core::v1::{Event, PersistentVolumeClaim, Pod, ResourceQuota, Secret, Service},
};
use kube::{
    Api, Resource, ResourceExt,
    api::{DeleteParams, Patch, PatchParams, PostParams},
    core::NamespaceResourceScope,
    runtime::wait::await_condition,
};
use kvfleet_crds::{
    KvCluster, Tenant,
    conditions::{ConditionType, find},
    names::FINALIZER_TENANT_DATA,
};
use kvfleet_operator::certificates::Pair;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

#[path = "support/place.rs"]
mod place;

use place::Place;

/// Longer than the half minute after which trouble degrades and Secrets are looked at again.
const PATIENCE: Duration = Duration::from_secs(75);

impl Place {
    async fn make<K>(&self, object: Value) -> Result<K>
    where
        K: Resource<DynamicType = (), Scope = NamespaceResourceScope> + Clone + serde::Serialize + DeserializeOwned + std::fmt::Debug,
    {
        Ok(self.api().create(&PostParams::default(), &serde_json::from_value(object)?).await?)
    }

    async fn cluster(&self) -> Result<KvCluster> {
        let cluster = self
            .make(json!({
                "apiVersion": "kvfleet.dev/v1alpha1", "kind": "KvCluster", "metadata": { "name": "prod" },
                "spec": { "storage": { "size": "1Gi" } },
            }))
            .await?;
        self.until_said::<KvCluster>("prod", ConditionType::PROGRESSING, "Forming", "")
            .await?;
        Ok(cluster)
    }

    async fn edit<K>(&self, name: &str, change: Value) -> Result<K>
    where
        K: Resource<DynamicType = (), Scope = NamespaceResourceScope> + Clone + DeserializeOwned + std::fmt::Debug,
    {
        Ok(self.api().patch(name, &PatchParams::default(), &Patch::Merge(change)).await?)
    }

    async fn until<K>(&self, name: &str, what: &str, holds: impl Fn(Option<&K>) -> bool + Send + Sync) -> Result<Option<K>>
    where
        K: Resource<DynamicType = (), Scope = NamespaceResourceScope> + Clone + DeserializeOwned + std::fmt::Debug + Send + Sync + 'static,
    {
        let reached = await_condition(self.api::<K>(), name, holds);
        match tokio::time::timeout(PATIENCE, reached).await {
            Ok(found) => Ok(found?),
            Err(_) => {
                let now = self.api::<KvCluster>().get_opt("prod").await?.and_then(|cluster| cluster.status);
                anyhow::bail!("{name}: not {what}; the KvCluster says {now:#?}")
            }
        }
    }

    /// The object, once its condition has the reason, and its message the words.
    async fn until_said<K>(&self, name: &str, type_: ConditionType, reason: &str, words: &str) -> Result<K>
    where
        K: Resource<DynamicType = (), Scope = NamespaceResourceScope>
            + Clone
            + serde::Serialize
            + DeserializeOwned
            + std::fmt::Debug
            + Send
            + Sync
            + 'static,
    {
        let said = |object: Option<&K>| {
            let object = object.and_then(|object| serde_json::to_value(object).ok()).unwrap_or_default();
            let conditions = object.pointer("/status/conditions").cloned().unwrap_or_default();
            let conditions: Vec<_> = serde_json::from_value(conditions).unwrap_or_default();
            find(&conditions, type_).is_some_and(|condition| condition.reason == reason && condition.message.contains(words))
        };
        let found = self.until(name, &format!("{type_} {reason} `{words}`"), said).await?;
        found.context("it is gone")
    }

    async fn secret(&self, name: &str, key: &str) -> Result<String> {
        let secret = self.api::<Secret>().get(name).await?;
        text(&secret, key).with_context(|| format!("{name} has no {key}"))
    }

    /// The claim of a member, as its StatefulSet's controller makes it.
    async fn claim(&self, ordinal: u32, cluster_id: &str) -> Result<PersistentVolumeClaim> {
        self.make(json!({
            "metadata": { "name": format!("data-prod-s0-{ordinal}"), "labels": {
                "app.kubernetes.io/name": "kvnode", "app.kubernetes.io/instance": "prod", "app.kubernetes.io/managed-by": "kvfleet-operator",
                "kvfleet.dev/shard": "0", "kvfleet.dev/cluster-id": cluster_id } },
            "spec": { "accessModes": ["ReadWriteOnce"], "resources": { "requests": { "storage": "1Gi" } } },
        }))
        .await
    }

    /// The pod of a member, made from a spec of this hash.
    async fn pod(&self, ordinal: u32, spec_hash: &str, status: Value) -> Result<Pod> {
        let name = format!("prod-s0-{ordinal}");
        let _: Pod = self
            .make(json!({
                "metadata": { "name": name, "annotations": { "kvfleet.dev/spec-hash": spec_hash }, "labels": {
                    "app.kubernetes.io/name": "kvnode", "app.kubernetes.io/instance": "prod", "app.kubernetes.io/managed-by": "kvfleet-operator",
                    "kvfleet.dev/shard": "0" } },
                "spec": { "containers": [{ "name": "kvnode", "image": "example.org/kvnode:1.0.0" }] },
            }))
            .await?;
        let status = Patch::Merge(json!({ "status": status }));
        Ok(self.api::<Pod>().patch_status(&name, &PatchParams::default(), &status).await?)
    }
}

fn text(secret: &Secret, key: &str) -> Option<String> {
    String::from_utf8(secret.data.as_ref()?.get(key)?.0.clone()).ok()
}

fn condition(cluster: &KvCluster, type_: ConditionType) -> (String, Option<i64>) {
    let status = cluster.status.as_ref().unwrap();
    let condition = find(&status.conditions, type_).unwrap();
    (condition.status.clone(), condition.observed_generation)
}

/// A1
#[tokio::test]
async fn what_a_quota_refuses_is_told_for_its_generation_and_degrades_when_it_lasts() -> Result<()> {
    let place = Place::new("truth").await?;
    let operator = place.operate();
    place.cluster().await?;
    let none = json!({ "services.loadbalancers": "0" });
    let quota: ResourceQuota = place.make(json!({ "metadata": { "name": "q" }, "spec": { "hard": none } })).await?;
    // What the quota's controller would count.
    let counted = Patch::Merge(json!({ "status": { "hard": none, "used": none } }));
    let quotas = place.api::<ResourceQuota>();
    quotas.patch_status(&quota.name_any(), &PatchParams::default(), &counted).await?;
    let edited: KvCluster = place
        .edit("prod", json!({ "spec": { "service": { "type": "LoadBalancer" } } }))
        .await?;

    let told: KvCluster = place
        .until_said("prod", ConditionType::PROGRESSING, "Applying", "exceeded quota: q")
        .await?;
    ensure!(condition(&told, ConditionType::READY) == ("False".to_owned(), edited.metadata.generation));
    ensure!(condition(&told, ConditionType::DEGRADED).0 == "False", "it may pass by itself");
    let told: KvCluster = place
        .until_said("prod", ConditionType::DEGRADED, "ApplyFailed", "exceeded quota: q")
        .await?;
    ensure!(condition(&told, ConditionType::PROGRESSING).0 == "True");

    quotas.delete("q", &DeleteParams::default()).await?;
    place
        .until_said::<KvCluster>("prod", ConditionType::DEGRADED, "Healthy", "")
        .await?;
    let service = place.api::<Service>().get("prod").await?;
    ensure!(service.spec.unwrap().type_.as_deref() == Some("LoadBalancer"), "it was tried again");
    operator.stop().await
}

/// A1, second half: a pass that ends early still says why.
#[tokio::test]
async fn a_tenant_that_cannot_be_written_has_a_status_that_says_so() -> Result<()> {
    let place = Place::new("truth").await?;
    let operator = place.operate();
    let name = format!("{}-no-finalizers", place.namespace);
    let policies: Api<ValidatingAdmissionPolicy> = Api::all(place.client.clone());
    let bindings: Api<ValidatingAdmissionPolicyBinding> = Api::all(place.client.clone());
    let policy = serde_json::from_value(json!({ "metadata": { "name": name }, "spec": {
        "matchConstraints": { "resourceRules": [{ "apiGroups": ["kvfleet.dev"], "apiVersions": ["*"], "operations": ["UPDATE"], "resources": ["tenants"] }] },
        "validations": [{ "expression": "!has(object.metadata.finalizers)", "reason": "Forbidden", "message": "no finalizers here" }],
    } }))?;
    policies.create(&PostParams::default(), &policy).await?;
    let binding = serde_json::from_value(
        json!({ "metadata": { "name": name }, "spec": { "policyName": name, "validationActions": ["Deny"],
        "matchResources": { "namespaceSelector": { "matchLabels": { "kubernetes.io/metadata.name": place.namespace } } } } }),
    )?;
    bindings.create(&PostParams::default(), &binding).await?;
    let tenant = |name: &str| {
        json!({ "apiVersion": "kvfleet.dev/v1alpha1", "kind": "Tenant", "metadata": { "name": name },
            "spec": { "clusterRef": { "name": "prod" }, "deletionPolicy": "Delete" } })
    };
    // The API server takes a moment to enforce a policy.
    let mut enforced = false;
    for attempt in 0..300 {
        let probe = format!("probe-{attempt}");
        let _: Tenant = place
            .make(
                json!({ "apiVersion": "kvfleet.dev/v1alpha1", "kind": "Tenant", "metadata": { "name": probe },
            "spec": { "clusterRef": { "name": "prod" } } }),
            )
            .await?;
        let change = json!({ "metadata": { "finalizers": ["example.org/x"] } });
        if place.edit::<Tenant>(&probe, change).await.is_err() {
            enforced = true;
            break;
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    ensure!(enforced, "the policy is not enforced");
    let _: Tenant = place.make(tenant("acme")).await?;
    place
        .until_said::<Tenant>("acme", ConditionType::READY, "ApplyFailed", "no finalizers here")
        .await?;
    bindings.delete(&name, &DeleteParams::default()).await?;
    policies.delete(&name, &DeleteParams::default()).await?;
    place
        .until_said::<Tenant>("acme", ConditionType::READY, "ClusterNotFound", "")
        .await?;
    operator.stop().await
}

/// A8b, B5
#[tokio::test]
async fn keys_that_do_not_fit_are_put_right_and_a_foreign_signing_key_is_told() -> Result<()> {
    let place = Place::new("truth").await?;
    let operator = place.operate();
    place.cluster().await?;
    let published = place.secret("prod-jwt", "jwks.json").await?;
    let signing = place.secret("prod-jwt", "signing-key.pem").await?;
    for (name, key) in [
        ("prod-operator-tls", "tls.key"),
        ("prod-peer-tls", "tls.key"),
        ("prod-jwt", "jwks.json"),
    ] {
        place.edit::<Secret>(name, json!({ "stringData": { key: "x" } })).await?;
    }
    for name in ["prod-operator-tls", "prod-peer-tls"] {
        let fits = |secret: Option<&Secret>| {
            let pair = secret.and_then(|secret| Some((text(secret, "tls.crt")?, text(secret, "tls.key")?)));
            pair.is_some_and(|(certificate, key)| Pair { certificate, key }.belongs_together())
        };
        place.until(name, "put right", fits).await?;
    }
    let again = |secret: Option<&Secret>| secret.and_then(|secret| text(secret, "jwks.json")) == Some(published.clone());
    place.until("prod-jwt", "published again", again).await?;
    ensure!(place.secret("prod-jwt", "signing-key.pem").await? == signing);

    let (other, _) = kvfleet_operator::certificates::signing_key()?;
    place
        .edit::<Secret>("prod-jwt", json!({ "stringData": { "signing-key.pem": other } }))
        .await?;
    place
        .until_said::<KvCluster>("prod", ConditionType::DEGRADED, "SecretLost", "prod-jwt")
        .await?;
    ensure!(
        place.secret("prod-jwt", "jwks.json").await? == published,
        "what members verify with is left alone"
    );
    operator.stop().await
}

/// A Secret that three claims own as well as the KvCluster of this uid.
fn owned(uid: String) -> impl Fn(Option<&Secret>) -> bool + Send + Sync {
    move |secret: Option<&Secret>| {
        let owners = secret.map(|secret| secret.owner_references().to_vec()).unwrap_or_default();
        let claims = owners
            .iter()
            .filter(|owner| owner.kind == "PersistentVolumeClaim" && owner.controller.is_none());
        claims.count() == 3 && owners.iter().any(|owner| owner.uid == uid && owner.controller == Some(true)) && owners.len() == 4
    }
}

/// The next step of a person may be to delete the KvCluster: the key that signs must not go with it because the authority is spoilt.
#[tokio::test]
async fn a_spoilt_authority_is_told_after_both_keys_are_bound_to_the_volumes() -> Result<()> {
    let place = Place::new("truth").await?;
    let operator = place.operate();
    let cluster = place.cluster().await?;
    let id = cluster.uid().unwrap();
    let spoilt = json!({ "stringData": { "tls.key": "x" } });
    place.edit::<Secret>("prod-ca", spoilt).await?;
    for ordinal in 0..3 {
        place.claim(ordinal, &id).await?;
    }
    place
        .until_said::<KvCluster>("prod", ConditionType::DEGRADED, "SecretLost", "prod-ca")
        .await?;
    for name in ["prod-jwt", "prod-ca"] {
        place.until(name, "owned by the claims", owned(id.clone())).await?;
    }
    ensure!(place.secret("prod-ca", "tls.key").await? == "x", "what is spoilt is left as it is");
    operator.stop().await
}

/// C5
#[tokio::test]
async fn the_signing_key_and_the_authority_live_as_long_as_the_volumes() -> Result<()> {
    let place = Place::new("truth").await?;
    let operator = place.operate();
    let first = place.cluster().await?;
    let id = first.uid().unwrap();
    for ordinal in 0..3 {
        place.claim(ordinal, &id).await?;
    }
    let kept = ["prod-jwt", "prod-ca"];
    for name in kept {
        place.until(name, "owned by the claims", owned(id.clone())).await?;
    }
    let (signing, authority) = (
        place.secret("prod-jwt", "signing-key.pem").await?,
        place.secret("prod-ca", "tls.key").await?,
    );

    let clusters = place.api::<KvCluster>();
    clusters.delete("prod", &DeleteParams::default()).await?;
    // The garbage collector: what only the KvCluster owned is gone. What the claims own too still names it, for a while.
    for name in ["prod-peer-tls", "prod-operator-tls"] {
        place.api::<Secret>().delete(name, &DeleteParams::default()).await?;
    }
    let again: KvCluster = place
        .make(
            json!({ "apiVersion": "kvfleet.dev/v1alpha1", "kind": "KvCluster", "metadata": { "name": "prod" },
            "spec": { "storage": { "size": "1Gi" } } }),
        )
        .await?;
    for name in kept {
        place.until(name, "taken up again", owned(again.uid().unwrap())).await?;
    }
    ensure!(place.secret("prod-jwt", "signing-key.pem").await? == signing);
    ensure!(place.secret("prod-ca", "tls.key").await? == authority);
    operator.stop().await
}

/// C5
#[tokio::test]
async fn the_secret_of_other_data_is_neither_used_nor_written_over() -> Result<()> {
    let place = Place::new("truth").await?;
    let operator = place.operate();
    let secret: Secret = place
        .make(json!({ "metadata": { "name": "prod-ca", "labels": {
            "app.kubernetes.io/managed-by": "kvfleet-operator", "kvfleet.dev/cluster-id": "another" } }, "stringData": { "tls.key": "x" } }))
        .await?;
    let _: KvCluster = place
        .make(
            json!({ "apiVersion": "kvfleet.dev/v1alpha1", "kind": "KvCluster", "metadata": { "name": "prod" },
            "spec": { "storage": { "size": "1Gi" } } }),
        )
        .await?;
    place
        .until_said::<KvCluster>(
            "prod",
            ConditionType::DEGRADED,
            "SecretLost",
            "belongs to the data of cluster another",
        )
        .await?;
    ensure!(place.api::<Secret>().get("prod-ca").await?.resource_version() == secret.resource_version());
    operator.stop().await
}

/// C3, A16
#[tokio::test]
async fn pods_that_never_were_ready_under_an_earlier_spec_are_made_again() -> Result<()> {
    let place = Place::new("truth").await?;
    let operator = place.operate();
    place.cluster().await?;
    let template = place.api::<StatefulSet>().get("prod-s0").await?.spec.unwrap().template;
    let wanted = template.metadata.unwrap().annotations.unwrap()["kvfleet.dev/spec-hash"].clone();
    let unschedulable =
        json!({ "conditions": [{ "type": "PodScheduled", "status": "False", "reason": "Unschedulable", "message": "no node fits" }] });
    // It was ready for some minutes and holds what others count on.
    let once = json!({ "startTime": "2026-01-01T00:00:00Z", "phase": "Running", "conditions": [
        { "type": "Ready", "status": "False", "lastTransitionTime": "2026-01-01T00:09:00Z" }] });
    place.pod(0, "earlier", once).await?;
    place.pod(1, &wanted, unschedulable.clone()).await?;
    place.pod(2, "earlier", unschedulable).await?;
    place.until::<Pod>("prod-s0-2", "deleted", |pod| pod.is_none()).await?;
    // The cause of the one that is left is said.
    place
        .until_said::<KvCluster>(
            "prod",
            ConditionType::DEGRADED,
            "PodBlocked",
            "prod-s0-1: it cannot be scheduled: Unschedulable: no node fits",
        )
        .await?;
    for name in ["prod-s0-0", "prod-s0-1"] {
        ensure!(place.api::<Pod>().get(name).await?.metadata.deletion_timestamp.is_none(), "{name}");
    }
    operator.stop().await
}

/// C4
#[tokio::test]
async fn why_a_pod_is_not_made_is_said_in_the_words_of_its_controller() -> Result<()> {
    let place = Place::new("truth").await?;
    let operator = place.operate();
    place.cluster().await?;
    let set = place.api::<StatefulSet>().get("prod-s0").await?;
    let note = "create Pod prod-s0-0 in StatefulSet prod-s0 failed error: pods \"prod-s0-0\" is forbidden: failed quota: q: must specify limits.cpu";
    let now = k8s_openapi::jiff::Timestamp::now().to_string();
    let _: Event = place
        .make(json!({
            "metadata": { "name": "prod-s0.1" }, "type": "Warning", "reason": "FailedCreate", "message": note, "lastTimestamp": now,
            "involvedObject": { "apiVersion": "apps/v1", "kind": "StatefulSet", "namespace": place.namespace, "name": "prod-s0", "uid": set.uid() },
        }))
        .await?;
    let begun = std::time::Instant::now();
    let words = "prod-s0-0, prod-s0-1, prod-s0-2: create Pod prod-s0-0";
    place
        .until_said::<KvCluster>("prod", ConditionType::DEGRADED, "PodBlocked", words)
        .await?;
    ensure!(begun.elapsed() < Duration::from_secs(10), "{:?}", begun.elapsed());
    operator.stop().await
}

/// A13
#[tokio::test]
async fn a_pause_changes_nothing_but_certificates_and_says_what_waits() -> Result<()> {
    let place = Place::new("truth").await?;
    let operator = place.operate();
    place.cluster().await?;
    let _: Tenant = place
        .make(
            json!({ "apiVersion": "kvfleet.dev/v1alpha1", "kind": "Tenant", "metadata": { "name": "acme" },
            "spec": { "clusterRef": { "name": "prod" }, "deletionPolicy": "Delete" } }),
        )
        .await?;
    let has_finalizer = |tenant: Option<&Tenant>| {
        tenant.is_some_and(|tenant| tenant.finalizers().iter().any(|finalizer| finalizer == FINALIZER_TENANT_DATA))
    };
    place.until("acme", "with its finalizer", has_finalizer).await?;
    // As if its members ran: only then is there data to be destroyed.
    let formed = Patch::Merge(json!({ "status": { "shards": [{ "index": 0, "formation": "Formed" }] } }));
    place
        .api::<KvCluster>()
        .patch_status("prod", &PatchParams::default(), &formed)
        .await?;

    let change =
        json!({ "spec": { "maintenance": { "paused": true }, "replicas": 5, "service": { "annotations": { "example.org/x": "y" } } } });
    place.edit::<KvCluster>("prod", change).await?;
    let told: KvCluster = place
        .until_said("prod", ConditionType::PROGRESSING, "Paused", "StatefulSet prod-s0, Service prod")
        .await?;
    ensure!(condition(&told, ConditionType::READY).0 == "False");
    place
        .until_said::<Tenant>("acme", ConditionType::ACCEPTED, "ClusterPaused", "maintenance.paused")
        .await?;

    place
        .edit::<Secret>("prod-operator-tls", json!({ "stringData": { "tls.key": "x" } }))
        .await?;
    let mended = |secret: Option<&Secret>| secret.and_then(|secret| text(secret, "tls.key")).is_some_and(|key| key != "x");
    place.until("prod-operator-tls", "renewed", mended).await?;
    ensure!(place.api::<StatefulSet>().get("prod-s0").await?.spec.unwrap().replicas == Some(3));

    place.api::<Tenant>().delete("acme", &DeleteParams::default()).await?;
    place
        .until_said::<Tenant>("acme", ConditionType::READY, "Deleting", "maintenance.paused")
        .await?;
    ensure!(
        has_finalizer(place.api::<Tenant>().get_opt("acme").await?.as_ref()),
        "its data is not destroyed"
    );

    place
        .edit::<KvCluster>("prod", json!({ "spec": { "maintenance": { "paused": false } } }))
        .await?;
    let grown = |set: Option<&StatefulSet>| set.and_then(|set| set.spec.as_ref()?.replicas) == Some(5);
    place.until("prod-s0", "at five", grown).await?;
    operator.stop().await
}
