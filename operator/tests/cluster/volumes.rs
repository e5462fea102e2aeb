//! Which volumes the operator takes for the cluster's own, and which image it gives the pods. No pod runs here: status says what it would.

use super::*;

const OPERATOR: &str = "kvfleet-operator";
const OLD: &str = "example.org/kvnode:0.9.0";

/// As the StatefulSet would make it, of this cluster.
fn claim(name: &str, cluster: Option<&str>) -> serde_json::Value {
    let labels = cluster.map_or_else(
        || json!({}),
        |id| {
            json!({
                "app.kubernetes.io/name": "kvnode", "app.kubernetes.io/instance": "prod", "app.kubernetes.io/managed-by": OPERATOR,
                "kvfleet.dev/shard": "0", "kvfleet.dev/cluster-id": id,
            })
        },
    );
    json!({
        "apiVersion": "v1", "kind": "PersistentVolumeClaim", "metadata": { "name": name, "labels": labels },
        "spec": { "accessModes": ["ReadWriteOnce"], "resources": { "requests": { "storage": "1Gi" } } },
    })
}

impl Place {
    async fn create_claim(&self, claim: serde_json::Value) -> Result<PersistentVolumeClaim> {
        let claim: PersistentVolumeClaim = serde_json::from_value(claim)?;
        Ok(self.api().create(&PostParams::default(), &claim).await?)
    }

    /// Status says that the group runs, and its members this image.
    async fn formed(&self, id: &str, image: Option<&str>) -> Result<()> {
        let status = json!({ "status": { "clusterId": id, "shards": [{ "index": 0, "formation": "Formed", "image": image }] } });
        let clusters = self.api::<KvCluster>();
        clusters
            .patch_status("prod", &PatchParams::default(), &Patch::Merge(status))
            .await?;
        Ok(())
    }

    async fn until_set(&self, what: &str, matches: impl Fn(&StatefulSet) -> bool + Send + Sync) -> Result<StatefulSet> {
        let reached = await_condition(self.api::<StatefulSet>(), "prod-s0", move |set: Option<&StatefulSet>| {
            set.is_some_and(&matches)
        });
        let found = tokio::time::timeout(PATIENCE, reached)
            .await
            .with_context(|| format!("the StatefulSet never has {what}"))??;
        found.context("the StatefulSet is gone")
    }

    async fn until_claim(&self, name: &str, what: &str, matches: impl Fn(&PersistentVolumeClaim) -> bool + Send + Sync) -> Result<()> {
        let reached = await_condition(self.api(), name, move |claim: Option<&PersistentVolumeClaim>| {
            claim.is_some_and(&matches)
        });
        tokio::time::timeout(PATIENCE, reached)
            .await
            .with_context(|| format!("{name} is never {what}"))??;
        Ok(())
    }

    /// Binds the first claim to the KvCluster as `whenDeleted: Delete` does, and waits for an operator that is stopped for this reason to let it
    /// go.
    async fn is_let_go(&self, id: &str, type_: ConditionType, reason: &'static str) -> Result<()> {
        let owned = json!({
            "apiVersion": "v1", "kind": "PersistentVolumeClaim",
            "metadata": {
                "name": "data-prod-s0-0",
                "annotations": { "kvfleet.dev/formed": "true" },
                "ownerReferences": [{ "apiVersion": "kvfleet.dev/v1alpha1", "kind": "KvCluster", "name": "prod", "uid": id }],
            },
        });
        let claims = self.api::<PersistentVolumeClaim>();
        claims
            .patch("data-prod-s0-0", &PatchParams::apply(OPERATOR), &Patch::Apply(owned))
            .await?;
        let operator = self.start("one");
        self.until_reason(type_, reason).await?;
        self.until_claim("data-prod-s0-0", "let go", |claim| !is_owned(claim)).await?;
        let kept = claims.get("data-prod-s0-0").await?;
        ensure!(
            kept.annotations().contains_key("kvfleet.dev/formed"),
            "{reason}: it still holds data"
        );
        operator.stop().await
    }

    async fn edit(&self, spec: serde_json::Value) -> Result<()> {
        let clusters = self.api::<KvCluster>();
        let edit = Patch::Merge(json!({ "spec": spec }));
        clusters.patch("prod", &PatchParams::default(), &edit).await?;
        Ok(())
    }
}

fn image(set: &StatefulSet) -> Option<&str> {
    let pod = set.spec.as_ref()?.template.spec.as_ref()?;
    pod.containers.first()?.image.as_deref()
}

fn replicas(set: &StatefulSet) -> Option<i32> {
    set.spec.as_ref()?.replicas
}

fn is_owned(claim: &PersistentVolumeClaim) -> bool {
    claim.metadata.owner_references.as_ref().is_some_and(|owners| !owners.is_empty())
}

/// Its group has three members, and the KvCluster asks for one: all three may be needed for a majority.
#[tokio::test]
async fn a_kvcluster_made_again_with_fewer_replicas_has_places_for_all_its_volumes() -> Result<()> {
    let place = Place::new("cluster").await?;
    for ordinal in 0..3 {
        let mut claim = claim(&format!("data-prod-s0-{ordinal}"), Some("one"));
        claim["metadata"]["annotations"] = json!({ "kvfleet.dev/formed": "true" });
        place.create_claim(claim).await?;
    }
    let operator = place.start("one");
    place
        .apply_cluster_with(json!({ "replicas": 1, "storage": { "size": "1Gi" } }))
        .await?;
    let told = place.until_reason(ConditionType::PROGRESSING, "Forming").await?;
    place.until_set("three pods", |set| replicas(set) == Some(3)).await?;
    let status = told.status.unwrap();
    let message = &find(&status.conditions, ConditionType::PROGRESSING).unwrap().message;
    ensure!(message.contains("prod-s0-2"), "{message}");
    ensure!(status.cluster_id.as_deref() == Some("one"));
    operator.stop().await
}

/// `whenDeleted: Delete` binds the cluster's own claims to it, and no copy that carries their labels.
#[tokio::test]
async fn a_user_s_copy_of_a_claim_is_not_taken() -> Result<()> {
    let place = Place::new("cluster").await?;
    let operator = place.start("one");
    let spec = json!({ "storage": { "size": "1Gi", "retention": { "whenDeleted": "Delete" } } });
    let id = place.apply_cluster_with(spec).await?.uid().unwrap();
    place.until_reason(ConditionType::PROGRESSING, "Forming").await?;
    operator.stop().await?;
    for name in [
        "backup-0",
        "data-prod-s0-0",
        "data-prod-s0-1",
        "data-prod-s0-2",
        "data-prod-s0-2-copy",
    ] {
        place.create_claim(claim(name, Some(&id))).await?;
    }
    // One of another cluster under a name that no pod mounts stops nothing.
    place.create_claim(claim("backup-1", Some("another"))).await?;
    place.formed(&id, None).await?;
    let operator = place.start("one");
    for ordinal in 0..3 {
        place.until_claim(&format!("data-prod-s0-{ordinal}"), "owned", is_owned).await?;
    }
    // What comes back now is of a later pass than the one that saw to the claims.
    let services = place.api::<Service>();
    let first = services.get("prod-peers").await?.uid();
    services.delete("prod-peers", &DeleteParams::default()).await?;
    let again = await_condition(services, "prod-peers", move |service: Option<&Service>| {
        service.is_some_and(|service| service.uid() != first)
    });
    tokio::time::timeout(PATIENCE, again)
        .await
        .context("the Service was not put back")??;
    for name in ["backup-0", "backup-1", "data-prod-s0-2-copy"] {
        let copy = place.api::<PersistentVolumeClaim>().get(name).await?;
        ensure!(
            !is_owned(&copy) && copy.annotations().is_empty(),
            "{name} was taken: {:?}",
            copy.metadata
        );
    }
    operator.stop().await
}

/// The claim of a pod to come carries no label, so no cache shows it: the StatefulSet would mount it.
#[tokio::test]
async fn a_stranger_s_claim_holds_up_growth_and_nothing_else() -> Result<()> {
    let place = Place::new("cluster").await?;
    let operator = place.start("one");
    let id = place.apply_cluster().await?.uid().unwrap();
    place.until_reason(ConditionType::PROGRESSING, "Forming").await?;
    operator.stop().await?;
    place.formed(&id, None).await?;
    place.create_claim(claim("data-prod-s0-3", None)).await?;
    let operator = place.start("one");
    place
        .edit(json!({ "replicas": 5, "service": { "annotations": { "edited": "yes" } } }))
        .await?;
    let told = place.until_reason(ConditionType::DEGRADED, "ForeignVolumes").await?;
    let message = find(&told.status.unwrap().conditions, ConditionType::DEGRADED)
        .unwrap()
        .message
        .clone();
    ensure!(message.contains("data-prod-s0-3") && message.contains("keeps 3 pods"), "{message}");
    let edited = await_condition(place.api::<Service>(), "prod", |service: Option<&Service>| {
        service.is_some_and(|service| service.annotations().get("edited").is_some_and(|value| value == "yes"))
    });
    tokio::time::timeout(PATIENCE, edited)
        .await
        .context("the rest of the spec waits too")??;
    ensure!(
        replicas(&place.api::<StatefulSet>().get("prod-s0").await?) == Some(3),
        "the set must not grow"
    );
    let stranger = place.api::<PersistentVolumeClaim>().get("data-prod-s0-3").await?;
    ensure!(!is_owned(&stranger) && stranger.annotations().is_empty());

    // Without a controller the claim's finalizer would keep it.
    let freed = Patch::Merge(json!({ "metadata": { "finalizers": null } }));
    let claims = place.api::<PersistentVolumeClaim>();
    claims.patch("data-prod-s0-3", &PatchParams::default(), &freed).await?;
    claims.delete("data-prod-s0-3", &DeleteParams::default()).await?;
    place.until_set("five pods", |set| replicas(set) == Some(5)).await?;
    operator.stop().await
}

/// A person who is told to delete the KvCluster and to keep the data sets `Retain` first; neither a lost Secret nor another's volume nor a pause
/// may keep the volumes bound to it.
#[tokio::test]
async fn volumes_that_are_to_stay_are_let_go_whatever_else_is_wrong() -> Result<()> {
    let place = Place::new("cluster").await?;
    let operator = place.start("one");
    let cluster = place.apply_cluster().await?;
    let id = cluster.uid().unwrap();
    place.until_reason(ConditionType::PROGRESSING, "Forming").await?;
    operator.stop().await?;
    place.formed(&id, None).await?;
    place.create_claim(claim("data-prod-s0-0", Some(&id))).await?;
    place.api::<Secret>().delete("prod-ca", &DeleteParams::default()).await?;
    place.is_let_go(&id, ConditionType::DEGRADED, "SecretLost").await?;
    place.create_claim(claim("data-prod-s0-1", Some("another"))).await?;
    place.is_let_go(&id, ConditionType::DEGRADED, "ForeignVolumes").await?;
    // Without a controller the claim's finalizer would keep it.
    let claims = place.api::<PersistentVolumeClaim>();
    let freed = Patch::Merge(json!({ "metadata": { "finalizers": null } }));
    claims.patch("data-prod-s0-1", &PatchParams::default(), &freed).await?;
    claims.delete("data-prod-s0-1", &DeleteParams::default()).await?;
    place.edit(json!({ "maintenance": { "paused": true } })).await?;
    place.is_let_go(&id, ConditionType::PROGRESSING, "Paused").await
}

/// Two volumes of three are the group's majority: the third one, another owner's, keeps no pod from coming but its own.
#[tokio::test]
async fn a_set_that_was_deleted_is_made_again_with_the_pods_of_the_data() -> Result<()> {
    let place = Place::new("cluster").await?;
    let operator = place.start("one");
    let id = place.apply_cluster().await?.uid().unwrap();
    place.until_reason(ConditionType::PROGRESSING, "Forming").await?;
    operator.stop().await?;
    place.formed(&id, None).await?;
    for ordinal in 0..2 {
        let mut claim = claim(&format!("data-prod-s0-{ordinal}"), Some(&id));
        claim["metadata"]["annotations"] = json!({ "kvfleet.dev/formed": "true" });
        place.create_claim(claim).await?;
    }
    place.create_claim(claim("data-prod-s0-2", None)).await?;
    place.api::<StatefulSet>().delete("prod-s0", &DeleteParams::default()).await?;
    let operator = place.start("one");
    place.until_set("the pods of the data", |set| replicas(set) == Some(2)).await?;
    place.until_reason(ConditionType::DEGRADED, "ForeignVolumes").await?;
    operator.stop().await
}

#[tokio::test]
async fn an_image_that_never_came_up_goes_with_the_chart_that_named_it() -> Result<()> {
    let place = Place::new("cluster").await?;
    let operator = place.start_with("one", "nope");
    place.apply_cluster().await?;
    place
        .until_set("the image nope", |set| image(set) == Some("example.org/kvnode:nope"))
        .await?;
    operator.stop().await?;
    let operator = place.start("one");
    place
        .until_set("the image of the chart", |set| image(set) == Some("example.org/kvnode:1.0.0"))
        .await?;
    operator.stop().await
}

/// Neither a newer operator nor the loss of the StatefulSet changes the image that members run.
#[tokio::test]
async fn the_image_that_runs_outlives_the_statefulset() -> Result<()> {
    let place = Place::new("cluster").await?;
    let operator = place.start_with("one", "0.9.0");
    let id = place.apply_cluster().await?.uid().unwrap();
    place.until_reason(ConditionType::PROGRESSING, "Forming").await?;
    operator.stop().await?;
    place.formed(&id, Some(OLD)).await?;
    let operator = place.start("one");
    let first = place.until_set("the image that runs", |set| image(set) == Some(OLD)).await?.uid();
    place.api::<StatefulSet>().delete("prod-s0", &DeleteParams::default()).await?;
    let again = place.until_set("been made again", move |set| set.uid() != first).await?;
    ensure!(image(&again) == Some(OLD), "{:?}", image(&again));

    // A wrong image is set and taken back.
    place.edit(json!({ "image": { "tag": "nope" } })).await?;
    place
        .until_set("the wrong image", |set| image(set) == Some("example.org/kvnode:nope"))
        .await?;
    place.edit(json!({ "image": null })).await?;
    place.until_set("the image that runs again", |set| image(set) == Some(OLD)).await?;
    operator.stop().await
}
