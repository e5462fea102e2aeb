//! A restart of the operator in a namespace with several clusters and several Tenants: each object is looked at again.
//!
//! One object would prove little: what is wrong with a restart shows only where several wait for the same thing.

#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "a test may panic")]

#[path = "support/place.rs"]
mod place;

use anyhow::{Context, Result};
use k8s_openapi::api::{core::v1::ObjectReference, events::v1::Event};
use kube::{
    Api, ResourceExt,
    api::{DeleteParams, ListParams, Patch, PatchParams, PostParams},
    runtime::{
        events::EventType,
        wait::{Condition, await_condition},
    },
};
use kvfleet_crds::{KvCluster, Tenant};
use kvfleet_operator::recorder::{Happened, Recorder};
use place::{PATIENCE, Place};
use serde_json::json;

const CLUSTERS: [&str; 4] = ["one", "two", "three", "four"];
const TENANTS: usize = 6;

async fn create(place: &Place) -> Result<()> {
    for name in CLUSTERS {
        let cluster: KvCluster = serde_json::from_value(json!({
            "apiVersion": "kvfleet.dev/v1alpha1", "kind": "KvCluster", "metadata": { "name": name },
            "spec": { "storage": { "size": "1Gi" } },
        }))?;
        place.api().create(&PostParams::default(), &cluster).await?;
    }
    for number in 0..TENANTS {
        let tenant: Tenant = serde_json::from_value(json!({
            "apiVersion": "kvfleet.dev/v1alpha1", "kind": "Tenant", "metadata": { "name": format!("t{number}") },
            "spec": { "clusterRef": { "name": CLUSTERS[number % CLUSTERS.len()] } },
        }))?;
        place.api().create(&PostParams::default(), &tenant).await?;
    }
    Ok(())
}

async fn edit(place: &Place, round: usize) -> Result<()> {
    let level = ["debug", "info"][round % 2];
    let clusters: Api<KvCluster> = place.api();
    for name in CLUSTERS {
        let change = Patch::Merge(json!({ "spec": { "logging": { "level": level } } }));
        clusters.patch(name, &PatchParams::default(), &change).await?;
    }
    let tenants: Api<Tenant> = place.api();
    for number in 0..TENANTS {
        let change = Patch::Merge(json!({ "spec": { "quota": { "keys": 1_000 + round } } }));
        tenants.patch(&format!("t{number}"), &PatchParams::default(), &change).await?;
    }
    Ok(())
}

async fn until<K>(api: Api<K>, name: &str, condition: impl Condition<K>) -> Result<()>
where
    K: kube::Resource + Clone + std::fmt::Debug + serde::de::DeserializeOwned + Send + 'static,
{
    let reached = tokio::time::timeout(PATIENCE, await_condition(api, name, condition)).await;
    reached.with_context(|| format!("{name} was not looked at"))??;
    Ok(())
}

async fn until_all_are_seen(place: &Place) -> Result<()> {
    for name in CLUSTERS {
        let seen = |cluster: Option<&KvCluster>| {
            cluster.is_some_and(|cluster| {
                let status = cluster.status.as_ref();
                status.is_some_and(|status| status.observed_generation == cluster.metadata.generation)
            })
        };
        until::<KvCluster>(place.api(), name, seen).await?;
    }
    for number in 0..TENANTS {
        let seen = |tenant: Option<&Tenant>| {
            tenant.is_some_and(|tenant| {
                let status = tenant.status.as_ref();
                status.is_some_and(|status| status.observed_generation == tenant.metadata.generation)
            })
        };
        until::<Tenant>(place.api(), &format!("t{number}"), seen).await?;
    }
    Ok(())
}

#[tokio::test]
async fn every_object_is_looked_at_after_each_restart() -> Result<()> {
    let place = Place::new("restart").await?;
    create(&place).await?;
    for round in 0..6 {
        // What was edited while no operator ran, and what is edited while one does.
        let operator = place.operate();
        until_all_are_seen(&place).await.with_context(|| format!("start {round}"))?;
        edit(&place, 2 * round).await?;
        until_all_are_seen(&place).await.with_context(|| format!("edit in round {round}"))?;
        operator.stop().await?;
        edit(&place, 2 * round + 1).await?;
    }
    Ok(())
}

async fn notes(place: &Place) -> Result<Vec<(String, Option<i32>)>> {
    let events = place.api::<Event>().list(&ListParams::default()).await?;
    let mut notes: Vec<_> = events
        .into_iter()
        .map(|event| (event.note.unwrap_or_default(), event.series.map(|series| series.count)))
        .collect();
    notes.sort();
    Ok(notes)
}

#[tokio::test]
async fn each_event_says_its_own_words_and_none_is_lost_with_an_older_one() -> Result<()> {
    let place = Place::new("events").await?;
    let recorder = Recorder::new(place.client.clone(), "one".to_owned());
    let say = |note: &str| {
        recorder.publish(Happened {
            regarding: ObjectReference {
                api_version: Some("kvfleet.dev/v1alpha1".to_owned()),
                kind: Some("KvCluster".to_owned()),
                name: Some("prod".to_owned()),
                namespace: Some(place.namespace.clone()),
                uid: Some("1".to_owned()),
                ..ObjectReference::default()
            },
            type_: EventType::Normal,
            reason: "PrimaryChanged".to_owned(),
            action: "Follow".to_owned(),
            note: note.to_owned(),
        })
    };
    say("b leads in place of a").await?;
    say("c leads in place of b").await?;
    say("c leads in place of b").await?;
    let told = |note: &str, count| (note.to_owned(), count);
    assert_eq!(
        notes(&place).await?,
        [told("b leads in place of a", None), told("c leads in place of b", Some(2))]
    );
    let events: Api<Event> = place.api();
    for event in events.list(&ListParams::default()).await? {
        events.delete(&event.name_any(), &DeleteParams::default()).await?;
    }
    say("c leads in place of b").await?;
    assert_eq!(notes(&place).await?, [told("c leads in place of b", None)]);
    Ok(())
}
