//! The operator, in this process, against a real API server without a kubelet: objects, what is not its own, and the Lease.
//!
//! What needs members that run is in `e2e`.

#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "a test may panic")]

use std::{collections::BTreeMap, time::Duration};

use anyhow::{Context, Result, ensure};
use k8s_openapi::api::{
    apps::v1::StatefulSet,
    coordination::v1::Lease,
    core::v1::{ConfigMap, PersistentVolumeClaim, Secret, Service},
    networking::v1::NetworkPolicy,
    policy::v1::PodDisruptionBudget,
};
use kube::{
    ResourceExt,
    api::{DeleteParams, Patch, PatchParams, PostParams},
    runtime::wait::await_condition,
};
use kvfleet_crds::{
    KvCluster,
    conditions::{ConditionType, find},
};
use kvfleet_operator::{RunError, config::Config};
use serde_json::json;

#[path = "support/place.rs"]
mod place;
#[path = "cluster/volumes.rs"]
mod volumes;

use place::{Operator, PATIENCE, Place};

impl Place {
    /// The operator as the replica of this name.
    fn start(&self, replica: &str) -> Operator {
        self.start_with(replica, "1.0.0")
    }

    /// An operator that comes with this tag of the members' image.
    fn start_with(&self, replica: &str, tag: &str) -> Operator {
        self.operate_with(Config {
            pod_name: replica.to_owned(),
            node_image_tag: tag.to_owned(),
            ..self.config()
        })
    }

    async fn apply_cluster(&self) -> Result<KvCluster> {
        self.apply_cluster_with(json!({ "storage": { "size": "1Gi" } })).await
    }

    async fn apply_cluster_with(&self, spec: serde_json::Value) -> Result<KvCluster> {
        let cluster: KvCluster = serde_json::from_value(json!({
            "apiVersion": "kvfleet.dev/v1alpha1", "kind": "KvCluster", "metadata": { "name": "prod" }, "spec": spec,
        }))?;
        Ok(self.api().create(&PostParams::default(), &cluster).await?)
    }

    /// The cluster, once its condition has the reason.
    async fn until_reason(&self, type_: ConditionType, reason: &'static str) -> Result<KvCluster> {
        let reached = await_condition(self.api::<KvCluster>(), "prod", move |cluster: Option<&KvCluster>| {
            let conditions = cluster.and_then(|cluster| cluster.status.as_ref()).map(|status| &status.conditions);
            conditions.is_some_and(|conditions| find(conditions, type_).is_some_and(|condition| condition.reason == reason))
        });
        let found = tokio::time::timeout(PATIENCE, reached)
            .await
            .with_context(|| format!("{type_} never got the reason {reason}"))??;
        found.context("the KvCluster is gone")
    }

    async fn until_lease(&self, holder: &'static str) -> Result<()> {
        let held = await_condition(self.api::<Lease>(), "kvfleet", move |lease: Option<&Lease>| {
            let spec = lease.and_then(|lease| lease.spec.as_ref());
            spec.is_some_and(|spec| spec.holder_identity.as_deref() == Some(holder))
        });
        tokio::time::timeout(PATIENCE, held)
            .await
            .with_context(|| format!("{holder} never held the lease"))??;
        Ok(())
    }
}

#[tokio::test]
async fn every_object_is_made_owned_and_put_back() -> Result<()> {
    let place = Place::new("cluster").await?;
    let operator = place.start("one");
    let cluster = place.apply_cluster().await?;
    let told = place.until_reason(ConditionType::PROGRESSING, "Forming").await?;
    let status = told.status.clone().unwrap();
    ensure!(status.cluster_id == cluster.uid(), "a new cluster takes the object's uid");
    ensure!(status.observed_generation == cluster.metadata.generation);

    let set = place.api::<StatefulSet>().get("prod-s0").await?;
    let config_name = format!("prod-{}", set_config(&set).rsplit('-').next().unwrap());
    let owners = [
        set.metadata.clone(),
        place.api::<Service>().get("prod").await?.metadata,
        place.api::<Service>().get("prod-peers").await?.metadata,
        place.api::<Service>().get("prod-primary").await?.metadata,
        place.api::<ConfigMap>().get(&config_name).await?.metadata,
        place.api::<NetworkPolicy>().get("prod").await?.metadata,
        place.api::<PodDisruptionBudget>().get("prod-s0").await?.metadata,
        place.api::<Secret>().get("prod-ca").await?.metadata,
        place.api::<Secret>().get("prod-jwt").await?.metadata,
        place.api::<Secret>().get("prod-peer-tls").await?.metadata,
        place.api::<Secret>().get("prod-operator-tls").await?.metadata,
    ];
    for metadata in owners {
        let owned = metadata.owner_references.iter().flatten();
        let uids: Vec<&str> = owned
            .filter(|owner| owner.controller == Some(true))
            .map(|owner| owner.uid.as_str())
            .collect();
        ensure!(uids == [cluster.uid().unwrap()], "{:?}", metadata.name);
    }

    // Deleted and edited by hand: put back.
    let services = place.api::<Service>();
    let first = services.get("prod-peers").await?.uid();
    services.delete("prod-peers", &DeleteParams::default()).await?;
    let again = await_condition(services.clone(), "prod-peers", move |service: Option<&Service>| {
        service.is_some_and(|service| service.uid() != first)
    });
    tokio::time::timeout(PATIENCE, again)
        .await
        .context("the Service was not put back")??;
    let edit = Patch::Merge(json!({ "spec": { "selector": { "app.kubernetes.io/instance": "other" } } }));
    services.patch("prod", &PatchParams::default(), &edit).await?;
    let mended = await_condition(services.clone(), "prod", |service: Option<&Service>| {
        let selector = service.and_then(|service| service.spec.as_ref()?.selector.as_ref());
        selector.is_some_and(|selector| {
            selector
                .get("app.kubernetes.io/instance")
                .is_some_and(|instance| instance == "prod")
        })
    });
    tokio::time::timeout(PATIENCE, mended)
        .await
        .context("the Service was not mended")??;
    operator.stop().await
}

fn set_config(set: &StatefulSet) -> String {
    let template = &set.spec.as_ref().unwrap().template;
    let volumes = template.spec.as_ref().unwrap().volumes.as_ref().unwrap();
    let config = volumes.iter().find_map(|volume| volume.config_map.as_ref()).unwrap();
    config.name.clone()
}

#[tokio::test]
async fn a_secret_of_a_running_cluster_is_not_made_anew_in_silence() -> Result<()> {
    let place = Place::new("cluster").await?;
    let operator = place.start("one");
    place.apply_cluster().await?;
    place.until_reason(ConditionType::PROGRESSING, "Forming").await?;
    operator.stop().await?;
    place.api::<Secret>().delete("prod-ca", &DeleteParams::default()).await?;
    let operator = place.start("one");
    let told = place.until_reason(ConditionType::DEGRADED, "SecretLost").await?;
    let message = find(&told.status.unwrap().conditions, ConditionType::DEGRADED)
        .unwrap()
        .message
        .clone();
    ensure!(
        message.contains("prod-ca") && message.contains("restore it from a backup"),
        "{message}"
    );
    ensure!(place.api::<Secret>().get_opt("prod-ca").await?.is_none());
    operator.stop().await
}

#[tokio::test]
async fn what_belongs_to_others_is_told_and_left_alone() -> Result<()> {
    let place = Place::new("cluster").await?;
    let foreign: Service = serde_json::from_value(json!({
        "metadata": { "name": "prod-peers" }, "spec": { "selector": { "app": "theirs" }, "ports": [{ "port": 1 }] },
    }))?;
    let before = place.api::<Service>().create(&PostParams::default(), &foreign).await?;
    let operator = place.start("one");
    place.apply_cluster().await?;
    let told = place.until_reason(ConditionType::DEGRADED, "ObjectNotOwned").await?;
    let message = find(&told.status.unwrap().conditions, ConditionType::DEGRADED)
        .unwrap()
        .message
        .clone();
    ensure!(message.contains("prod-peers"), "{message}");
    ensure!(place.api::<Service>().get("prod-peers").await?.resource_version() == before.resource_version());
    operator.stop().await
}

#[tokio::test]
async fn volumes_of_others_start_nothing() -> Result<()> {
    let place = Place::new("cluster").await?;
    let claim = |ordinal: u32, labels: BTreeMap<&str, &str>| -> Result<PersistentVolumeClaim> {
        Ok(serde_json::from_value(json!({
            "metadata": { "name": format!("data-prod-s0-{ordinal}"), "labels": labels },
            "spec": { "accessModes": ["ReadWriteOnce"], "resources": { "requests": { "storage": "1Gi" } } },
        }))?)
    };
    let claims = place.api::<PersistentVolumeClaim>();
    claims
        .create(
            &PostParams::default(),
            &claim(0, BTreeMap::from([("kvfleet.dev/cluster-id", "one")]))?,
        )
        .await?;
    claims
        .create(
            &PostParams::default(),
            &claim(1, BTreeMap::from([("kvfleet.dev/cluster-id", "two")]))?,
        )
        .await?;
    let operator = place.start("one");
    place.apply_cluster().await?;
    place.until_reason(ConditionType::DEGRADED, "ForeignVolumes").await?;
    ensure!(place.api::<StatefulSet>().get_opt("prod-s0").await?.is_none(), "nothing may start");
    // The volumes of one cluster give their id to a KvCluster that is made again.
    let agree = Patch::Merge(json!({ "metadata": { "labels": { "kvfleet.dev/cluster-id": "one" } } }));
    claims.patch("data-prod-s0-1", &PatchParams::default(), &agree).await?;
    let told = place.until_reason(ConditionType::DEGRADED, "Healthy").await?;
    ensure!(told.status.unwrap().cluster_id.as_deref() == Some("one"));
    operator.stop().await
}

#[tokio::test]
async fn one_replica_is_active_and_a_released_lease_is_taken_at_once() -> Result<()> {
    let place = Place::new("cluster").await?;
    let first = place.start("one");
    place.until_lease("one").await?;
    let second = place.start("two");
    place.apply_cluster().await?;
    place.until_reason(ConditionType::PROGRESSING, "Forming").await?;
    let begun = std::time::Instant::now();
    first.stop().await?;
    place.until_lease("two").await?;
    // Had it not been released, the second would have waited 15 s.
    ensure!(begun.elapsed() < Duration::from_secs(8), "{:?}", begun.elapsed());
    second.stop().await
}

#[tokio::test]
async fn a_replica_whose_lease_is_taken_ends() -> Result<()> {
    let place = Place::new("cluster").await?;
    let operator = place.start("one");
    place.until_lease("one").await?;
    let steal = Patch::Merge(json!({ "spec": { "holderIdentity": "thief" } }));
    place.api::<Lease>().patch("kvfleet", &PatchParams::default(), &steal).await?;
    let ended = tokio::time::timeout(PATIENCE, operator.task).await??;
    ensure!(matches!(ended, Err(RunError::Lease(_))), "{ended:?}");
    let lease = place.api::<Lease>().get("kvfleet").await?;
    ensure!(
        lease.spec.unwrap().holder_identity.as_deref() == Some("thief"),
        "the lease of another is not released"
    );
    Ok(())
}
