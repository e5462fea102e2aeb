//! The operator with the chart's rights and under the chart's policies: they let it do its work, and nothing else.
//!
//! The chart is rendered by `helm`, which `make integration` builds and puts on PATH.

#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "a test may panic")]

#[path = "support/place.rs"]
mod place;

use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use k8s_openapi::api::{
    apps::v1::StatefulSet,
    core::v1::{ConfigMap, PersistentVolumeClaim, Pod, Service},
    rbac::v1::ClusterRoleBinding,
};
use kube::{
    Api, Client, ResourceExt,
    api::{ApiResource, DeleteParams, DynamicObject, Patch, PatchParams, PostParams},
    core::GroupVersionKind,
    runtime::wait::await_condition,
};
use kvfleet_crds::{
    KvCluster, Tenant,
    conditions::{ConditionType, find},
};
use kvfleet_operator::config::Config;
use place::{PATIENCE, Place};
use serde::Deserialize;
use serde_json::{Value, json};

/// Applies what the chart has of rights and policies, for a release in the place's namespace that looks after it alone.
async fn install(place: &Place, release: &str) -> Result<()> {
    let chart = concat!(env!("CARGO_MANIFEST_DIR"), "/../charts/kvfleet");
    let rendered = std::process::Command::new("helm")
        .args(["template", release, chart, "--no-hooks", "--namespace", &place.namespace])
        .args([
            "--set",
            &format!("watchNamespaces={{{}}}", place.namespace),
            "--set",
            "crds.install=false",
        ])
        .output()
        .context("helm is not on PATH: run `make integration`")?;
    ensure!(rendered.status.success(), "{}", String::from_utf8_lossy(&rendered.stderr));
    for document in serde_yaml::Deserializer::from_str(&String::from_utf8(rendered.stdout)?) {
        let object = Option::<Value>::deserialize(document)?;
        let Some(object) = object else { continue };
        let text = |pointer: &str| object.pointer(pointer).and_then(Value::as_str).unwrap_or_default().to_owned();
        let (version, kind) = (text("/apiVersion"), text("/kind"));
        let (group, version) = version.split_once('/').unwrap_or(("", &version));
        if !["rbac.authorization.k8s.io", "admissionregistration.k8s.io"].contains(&group) {
            continue;
        }
        let plural = match kind.as_str() {
            "ValidatingAdmissionPolicy" => "validatingadmissionpolicies".to_owned(),
            _ => format!("{}s", kind.to_lowercase()),
        };
        let resource = ApiResource::from_gvk_with_plural(&GroupVersionKind::gvk(group, version, &kind), &plural);
        let api: Api<DynamicObject> = match text("/metadata/namespace").as_str() {
            "" => Api::all_with(place.client.clone(), &resource),
            namespace => Api::namespaced_with(place.client.clone(), namespace, &resource),
        };
        let parameters = PatchParams::apply("kvfleet-tests").force();
        api.patch(&text("/metadata/name"), &parameters, &Patch::Apply(&object)).await?;
    }
    Ok(())
}

/// A policy refuses the request. All are dry runs, which pass admission and change nothing, so they may be repeated: a policy that was just
/// made is in force a moment later.
async fn refused<T, F>(what: &str, request: impl Fn() -> F) -> Result<()>
where
    F: Future<Output = kube::Result<T>>,
{
    let begun = Instant::now();
    loop {
        match request().await {
            Ok(_) => ensure!(begun.elapsed() < Duration::from_secs(10), "{what}: was let through"),
            Err(kube::Error::Api(status)) if status.message.contains("ValidatingAdmissionPolicy 'kvfleet-") => return Ok(()),
            Err(error) => return Err(error).context(format!("{what}: refused by something else")),
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

/// An object of the operator's, for the KvCluster.
fn owned(name: &str, cluster: &KvCluster, spec: Value) -> Value {
    json!({
        "metadata": {
            "name": name,
            "labels": { "app.kubernetes.io/managed-by": "kvfleet-operator", "app.kubernetes.io/name": "kvnode", "app.kubernetes.io/instance": "other" },
            "ownerReferences": [{ "apiVersion": "kvfleet.dev/v1alpha1", "kind": "KvCluster", "name": "prod", "uid": cluster.uid() }],
        },
        "spec": spec,
    })
}

fn pod_spec() -> Value {
    json!({
        "automountServiceAccountToken": false,
        "containers": [{ "name": "kvnode", "image": "example.org/kvnode:1", "securityContext": { "allowPrivilegeEscalation": false } }],
    })
}

fn set_spec(template: &Value) -> Value {
    json!({
        "serviceName": "x",
        "selector": { "matchLabels": { "a": "b" } },
        "template": { "metadata": { "labels": { "a": "b" } }, "spec": template },
    })
}

fn of<K: serde::de::DeserializeOwned>(object: Value) -> K {
    serde_json::from_value(object).unwrap()
}

#[tokio::test]
async fn the_operator_does_its_work_and_nothing_else() -> Result<()> {
    let place = Place::new("policies").await?;
    let release = format!("kvfleet-{}", place.namespace.rsplit('-').next().unwrap());
    install(&place, &release).await?;
    let mut kubernetes = place.kubernetes.clone();
    kubernetes.auth_info.impersonate = Some(format!("system:serviceaccount:{}:{release}", place.namespace));
    let account = Client::try_from(kubernetes.clone())?;
    let all: ClusterRoleBinding = of(json!({
        "metadata": { "name": format!("{release}-test") },
        "roleRef": { "apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": "cluster-admin" },
        "subjects": [{ "kind": "ServiceAccount", "name": release, "namespace": place.namespace }],
    }));

    // With no more rights than the chart gives.
    let operator = place.operate_as(
        kubernetes,
        Config {
            lease_name: release.clone(),
            ..place.config()
        },
    );
    let cluster: KvCluster = of(json!({
        "apiVersion": "kvfleet.dev/v1alpha1", "kind": "KvCluster", "metadata": { "name": "prod" }, "spec": { "storage": { "size": "1Gi" } },
    }));
    let cluster = place.api().create(&PostParams::default(), &cluster).await?;
    let tenant: Tenant = of(json!({
        "apiVersion": "kvfleet.dev/v1alpha1", "kind": "Tenant", "metadata": { "name": "acme" },
        "spec": { "clusterRef": { "name": "prod" }, "deletionPolicy": "Delete" },
    }));
    place.api().create(&PostParams::default(), &tenant).await?;
    let forming = await_condition(place.api::<KvCluster>(), "prod", |cluster: Option<&KvCluster>| {
        let conditions = cluster.and_then(|cluster| cluster.status.as_ref()).map(|status| &status.conditions);
        conditions.is_some_and(|conditions| find(conditions, ConditionType::PROGRESSING).is_some_and(|found| found.reason == "Forming"))
    });
    tokio::time::timeout(PATIENCE, forming)
        .await
        .context("prod never began to form")??;
    place.api::<StatefulSet>().get("prod-s0").await?;
    let carries = await_condition(place.api::<Tenant>(), "acme", |tenant: Option<&Tenant>| {
        tenant.is_some_and(|tenant| !tenant.finalizers().is_empty() && tenant.status.is_some())
    });
    tokio::time::timeout(PATIENCE, carries)
        .await
        .context("acme never got its finalizer")??;
    operator.stop().await?;

    // With every right there is, only the policies are left.
    Api::<ClusterRoleBinding>::all(place.client.clone())
        .create(&PostParams::default(), &all)
        .await?;
    let own = |namespace: &str| {
        (
            Api::<Pod>::namespaced(account.clone(), namespace),
            Api::<StatefulSet>::namespaced(account.clone(), namespace),
        )
    };
    let (pods, sets) = own(&place.namespace);
    let config_maps: Api<ConfigMap> = Api::namespaced(account.clone(), &place.namespace);
    let post = PostParams::default();
    let merge = PatchParams::default();
    let dry = (
        PatchParams {
            dry_run: true,
            ..PatchParams::default()
        },
        PostParams {
            dry_run: true,
            ..PostParams::default()
        },
        DeleteParams {
            dry_run: true,
            ..DeleteParams::default()
        },
    );

    let foreign: Pod = of(json!({ "metadata": { "name": "theirs", "labels": { "app": "theirs" } }, "spec": pod_spec() }));
    place.api::<Pod>().create(&post, &foreign).await?;
    let member: Pod = of(owned("prod-s0-0", &cluster, pod_spec()));
    place.api::<Pod>().create(&post, &member).await?;
    let role = Patch::Merge(json!({ "metadata": { "labels": { "kvfleet.dev/role": "primary" } } }));
    // The rights and the policies take a moment.
    let begun = Instant::now();
    while let Err(error) = pods.patch("prod-s0-0", &merge, &role).await {
        ensure!(begun.elapsed() < PATIENCE, "the label of a member: {error}");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    let image = Patch::Strategic(json!({ "spec": { "containers": [{ "name": "kvnode", "image": "example.org/evil:1" }] } }));
    refused("another pod's label", || pods.patch("theirs", &dry.0, &role)).await?;
    refused("another pod", || pods.delete("theirs", &dry.2)).await?;
    refused("a member's image", || pods.patch("prod-s0-0", &dry.0, &image)).await?;
    for change in [
        json!({ "labels": { "app.kubernetes.io/instance": "x" } }),
        json!({ "labels": { "app.kubernetes.io/instance": null } }),
        json!({ "annotations": { "a": "b" } }),
        json!({ "finalizers": ["example.org/stay"] }),
    ] {
        let patch = Patch::Merge(json!({ "metadata": change }));
        refused(&format!("{change} of a member"), || pods.patch("prod-s0-0", &dry.0, &patch)).await?;
    }
    let new: Pod = of(owned("new", &cluster, pod_spec()));
    refused("a new pod", || pods.create(&dry.1, &new)).await?;
    let gone = DeleteParams::default().grace_period(0);
    pods.delete("prod-s0-0", &gone).await.context("a member's pod")?;

    let theirs: ConfigMap = of(json!({ "metadata": { "name": "theirs" } }));
    place.api::<ConfigMap>().create(&post, &theirs).await?;
    let label = Patch::Merge(json!({ "metadata": { "labels": { "app.kubernetes.io/managed-by": "kvfleet-operator" } } }));
    refused("another's ConfigMap", || config_maps.delete("theirs", &dry.2)).await?;
    refused("a label on another's ConfigMap", || config_maps.patch("theirs", &dry.0, &label)).await?;
    let plain: ConfigMap = of(json!({ "metadata": { "name": "plain" } }));
    refused("a ConfigMap without the label", || config_maps.create(&dry.1, &plain)).await?;
    let services: Api<Service> = Api::namespaced(account.clone(), &place.namespace);
    let off = Patch::Merge(json!({ "metadata": { "labels": { "app.kubernetes.io/managed-by": null } } }));
    refused("the label off a Service", || services.patch("prod", &dry.0, &off)).await?;

    for (what, field, value) in [
        ("the node's network", "hostNetwork", json!(true)),
        ("the node's processes", "hostPID", json!(true)),
        (
            "the node's disk",
            "volumes",
            json!([{ "name": "root", "hostPath": { "path": "/" } }]),
        ),
        ("an account's token", "automountServiceAccountToken", json!(true)),
    ] {
        let mut spec = pod_spec();
        spec[field] = value;
        let set: StatefulSet = of(owned("more", &cluster, set_spec(&spec)));
        refused(what, || sets.create(&dry.1, &set)).await?;
    }
    let mut orphan = owned("orphan", &cluster, set_spec(&pod_spec()));
    orphan["metadata"]["ownerReferences"] = json!([]);
    let orphan: StatefulSet = of(orphan);
    refused("a set without an owner", || sets.create(&dry.1, &orphan)).await?;
    let fine: StatefulSet = of(owned("fine", &cluster, set_spec(&pod_spec())));
    sets.create(&post, &fine).await.context("a set of its own")?;
    let elsewhere = Place::new("policies-elsewhere").await?;
    let (_, others) = own(&elsewhere.namespace);
    refused("a set where no KvCluster is", || others.create(&dry.1, &fine)).await?;

    let claim = |name: &str, labels: Value| -> PersistentVolumeClaim {
        of(json!({
            "metadata": { "name": name, "labels": labels },
            "spec": { "accessModes": ["ReadWriteOnce"], "resources": { "requests": { "storage": "1Gi" } } },
        }))
    };
    let claims: Api<PersistentVolumeClaim> = Api::namespaced(account.clone(), &place.namespace);
    place.api().create(&post, &claim("theirs", json!({}))).await?;
    place
        .api()
        .create(&post, &claim("data-prod-s0-0", json!({ "kvfleet.dev/cluster-id": "1" })))
        .await?;
    let mark = Patch::Merge(json!({ "metadata": { "annotations": { "kvfleet.dev/formed": "true" } } }));
    refused("another's claim", || claims.patch("theirs", &dry.0, &mark)).await?;
    refused("a member's claim", || claims.delete("data-prod-s0-0", &dry.2)).await?;
    claims
        .patch("data-prod-s0-0", &merge, &mark)
        .await
        .context("the mark of a member's claim")?;
    let tenants: Api<Tenant> = Api::namespaced(account.clone(), &place.namespace);
    let quota = Patch::Merge(json!({ "spec": { "quota": { "keys": 7 } } }));
    refused("a Tenant's quota", || tenants.patch("acme", &dry.0, &quota)).await?;
    refused("a Tenant", || tenants.delete("acme", &dry.2)).await
}
