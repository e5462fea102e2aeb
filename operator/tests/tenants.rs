//! Tenants before their cluster has members, against a real API server without a kubelet: what status says, what triggers what, and how
//! a Tenant goes.
//!
//! What needs members that run is in `e2e`.

#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "a test may panic")]

use anyhow::{Context, Result, ensure};
use kube::{
    Api, ResourceExt,
    api::{DeleteParams, Patch, PatchParams, PostParams},
    runtime::wait::await_condition,
};
use kvfleet_crds::{
    KvCluster, Tenant,
    conditions::{ConditionType, find},
    names::FINALIZER_TENANT_DATA,
};
use kvfleet_operator::lift_finalizers;
use serde_json::{Value, json};

#[path = "support/place.rs"]
mod place;

use place::{PATIENCE, Place};

const MANAGER: &str = "kvfleet-tenant-tests";

impl Place {
    fn tenants(&self) -> Api<Tenant> {
        Api::namespaced(self.client.clone(), &self.namespace)
    }

    fn clusters(&self) -> Api<KvCluster> {
        Api::namespaced(self.client.clone(), &self.namespace)
    }

    async fn tenant(&self, name: &str, finalizers: &[&str], mut spec: Value) -> Result<Tenant> {
        spec.as_object_mut()
            .unwrap()
            .insert("clusterRef".to_owned(), json!({ "name": "prod" }));
        let tenant = serde_json::from_value(json!({
            "apiVersion": "kvfleet.dev/v1alpha1", "kind": "Tenant",
            "metadata": { "name": name, "finalizers": finalizers },
            "spec": spec,
        }))?;
        Ok(self.tenants().create(&PostParams::default(), &tenant).await?)
    }

    async fn cluster(&self, tenancy: Value) -> Result<()> {
        let cluster = json!({
            "apiVersion": "kvfleet.dev/v1alpha1", "kind": "KvCluster",
            "metadata": { "name": "prod" },
            "spec": { "storage": { "size": "1Gi" }, "tenancy": tenancy },
        });
        self.clusters()
            .patch("prod", &PatchParams::apply(MANAGER), &Patch::Apply(&cluster))
            .await?;
        Ok(())
    }

    /// The Tenant, once its condition has the reason.
    async fn until_reason(&self, name: &str, type_: ConditionType, reason: &'static str) -> Result<Tenant> {
        let reached = await_condition(self.tenants(), name, move |tenant: Option<&Tenant>| {
            let conditions = tenant.and_then(|tenant| tenant.status.as_ref()).map(|status| &status.conditions);
            conditions.is_some_and(|conditions| find(conditions, type_).is_some_and(|condition| condition.reason == reason))
        });
        let found = tokio::time::timeout(PATIENCE, reached)
            .await
            .with_context(|| format!("{type_} of {name} never got the reason {reason}"))??;
        found.context("the Tenant is gone")
    }

    async fn until_gone(&self, name: &str) -> Result<()> {
        let gone = await_condition(self.tenants(), name, |tenant: Option<&Tenant>| tenant.is_none());
        tokio::time::timeout(PATIENCE, gone)
            .await
            .with_context(|| format!("{name} is still there"))??;
        Ok(())
    }
}

fn message(tenant: &Tenant, type_: ConditionType) -> &str {
    let status = tenant.status.as_ref().unwrap();
    &find(&status.conditions, type_).unwrap().message
}

#[tokio::test]
async fn a_tenant_waits_for_its_cluster_and_follows_its_ceilings() -> Result<()> {
    let place = Place::new("tenants").await?;
    let operator = place.operate();
    place.tenant("acme", &[], json!({ "quota": { "storage": "2Gi" } })).await?;
    let waiting = place.until_reason("acme", ConditionType::READY, "ClusterNotFound").await?;
    ensure!(message(&waiting, ConditionType::ACCEPTED).contains("prod"), "the cluster is named");
    ensure!(
        waiting.status.as_ref().unwrap().observed_generation == waiting.metadata.generation,
        "status speaks of this spec"
    );

    place.cluster(json!({ "ceilings": { "quota": { "storage": "1Gi" } } })).await?;
    let refused = place.until_reason("acme", ConditionType::ACCEPTED, "ExceedsCeiling").await?;
    let told = message(&refused, ConditionType::ACCEPTED);
    ensure!(told.contains("quota.storage is 2Gi") && told.contains("at most 1Gi"), "{told}");

    // The cluster has no member yet: that the tenant would be taken is not said before one could be asked.
    place.cluster(json!({ "ceilings": { "quota": { "storage": "2Gi" } } })).await?;
    let unknown = place.until_reason("acme", ConditionType::ACCEPTED, "ClusterUnavailable").await?;
    ensure!(
        find(&unknown.status.as_ref().unwrap().conditions, ConditionType::READY)
            .unwrap()
            .status
            == "False",
        "not ready"
    );

    place.clusters().delete("prod", &DeleteParams::default()).await?;
    place.until_reason("acme", ConditionType::READY, "ClusterNotFound").await?;
    // Nothing is to be destroyed, so nothing holds the object.
    place.tenants().delete("acme", &DeleteParams::default()).await?;
    place.until_gone("acme").await?;
    operator.stop().await
}

#[tokio::test]
async fn the_finalizer_is_there_only_while_data_is_to_be_destroyed_and_holds_nobody_without_a_cluster() -> Result<()> {
    let place = Place::new("tenants").await?;
    let operator = place.operate();
    place.tenant("acme", &[], json!({ "deletionPolicy": "Delete" })).await?;
    let has = |wanted: bool| {
        move |tenant: Option<&Tenant>| {
            tenant.is_some_and(|tenant| tenant.finalizers().iter().any(|finalizer| finalizer == FINALIZER_TENANT_DATA) == wanted)
        }
    };
    tokio::time::timeout(PATIENCE, await_condition(place.tenants(), "acme", has(true))).await??;
    let policy = |policy: &str| Patch::Merge(json!({ "spec": { "deletionPolicy": policy } }));
    place.tenants().patch("acme", &PatchParams::default(), &policy("Retain")).await?;
    tokio::time::timeout(PATIENCE, await_condition(place.tenants(), "acme", has(false))).await??;
    place.tenants().patch("acme", &PatchParams::default(), &policy("Delete")).await?;
    tokio::time::timeout(PATIENCE, await_condition(place.tenants(), "acme", has(true))).await??;

    place.tenants().delete("acme", &DeleteParams::default()).await?;
    place.until_gone("acme").await?;

    // A cluster that was never formed holds nothing either.
    place.cluster(json!({})).await?;
    place.tenant("acme", &[], json!({ "deletionPolicy": "Delete" })).await?;
    tokio::time::timeout(PATIENCE, await_condition(place.tenants(), "acme", has(true))).await??;
    place.until_reason("acme", ConditionType::ACCEPTED, "ClusterUnavailable").await?;
    place.tenants().delete("acme", &DeleteParams::default()).await?;
    place.until_gone("acme").await?;
    operator.stop().await
}

#[tokio::test]
async fn lifting_leaves_no_finalizer_of_ours_and_all_of_others() -> Result<()> {
    let place = Place::new("tenants").await?;
    place.tenant("one", &[FINALIZER_TENANT_DATA], json!({})).await?;
    place
        .tenant("two", &["example.org/theirs", FINALIZER_TENANT_DATA], json!({}))
        .await?;
    place.tenant("three", &["example.org/theirs"], json!({})).await?;
    place.tenants().delete("one", &DeleteParams::default()).await?;

    let namespaces = [place.namespace.clone()];
    ensure!(lift_finalizers::run(&place.client, &namespaces).await? == 2, "two carried it");
    ensure!(place.tenants().get_opt("one").await?.is_none(), "one was waiting for it");
    for name in ["two", "three"] {
        ensure!(place.tenants().get(name).await?.finalizers() == ["example.org/theirs"], "{name}");
    }
    ensure!(lift_finalizers::run(&place.client, &namespaces).await? == 0, "none is left");
    Ok(())
}
