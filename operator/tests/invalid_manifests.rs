//! The API server refuses every manifest of `e2e/fixtures/invalid` with the message on its first line, and takes every example.
//!
//! Against the API server of `KVFLEET_TEST_KUBECONFIG`, without a running operator: what is refused here is refused by the schema alone.

#![allow(clippy::unwrap_used, reason = "a test may panic")]

use std::{fs, path::Path, time::Duration};

use anyhow::{Context, Result, bail, ensure};
use k8s_openapi::{api::core::v1::Namespace, apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition};
use kube::{
    Api, Client, Config,
    api::{GetParams, Patch, PatchParams, PostParams},
    config::{KubeConfigOptions, Kubeconfig},
    core::{DynamicObject, Request},
    runtime::wait::{await_condition, conditions},
};
use serde::Deserialize;
use serde_json::{Value, json};

/// A manager that none of the operator's own tests uses, so that fields are not shared with them.
const MANAGER: &str = "kvfleet-invalid-manifests";

fn checkout() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap()
}

/// A client, the definitions established, and a namespace of our own.
async fn prepare() -> Result<(Client, String)> {
    let path = std::env::var("KVFLEET_TEST_KUBECONFIG").context("KVFLEET_TEST_KUBECONFIG names no kubeconfig: run `make integration`")?;
    let config = Config::from_custom_kubeconfig(Kubeconfig::read_from(path)?, &KubeConfigOptions::default()).await?;
    let client = Client::try_from(config)?;
    let definitions: Api<CustomResourceDefinition> = Api::all(client.clone());
    for definition in kvfleet_crds::definition::all() {
        let name = definition.pointer("/metadata/name").and_then(Value::as_str).unwrap().to_owned();
        let parameters = PatchParams::apply(MANAGER).force();
        definitions.patch(&name, &parameters, &Patch::Apply(&definition)).await?;
        let established = await_condition(definitions.clone(), &name, conditions::is_crd_established());
        tokio::time::timeout(Duration::from_secs(30), established).await??;
    }
    let namespace: Namespace = serde_json::from_value(json!({ "metadata": { "generateName": "invalid-manifests-" } }))?;
    let created = Api::all(client.clone()).create(&PostParams::default(), &namespace).await?;
    Ok((client, created.metadata.name.unwrap()))
}

fn documents(text: &str) -> Result<Vec<Value>> {
    serde_yaml::Deserializer::from_str(text)
        .map(|document| Ok(Value::deserialize(document)?))
        .collect()
}

/// Creates the object, or replaces the one of its name, with the strict validation of fields that `kubectl apply` asks for.
async fn submit(client: &Client, namespace: &str, document: &Value) -> kube::Result<DynamicObject> {
    let text = |pointer: &str| document.pointer(pointer).and_then(Value::as_str).unwrap();
    let plural = format!("{}s", text("/kind").to_lowercase());
    let path = format!("/apis/{}/namespaces/{namespace}/{plural}", text("/apiVersion"));
    let body = serde_json::to_vec(document).unwrap();
    let mut request = Request::new(&path).create(&PostParams::default(), body).unwrap();
    *request.uri_mut() = format!("{path}?fieldValidation=Strict").parse().unwrap();
    match client.request(request).await {
        Err(kube::Error::Api(status)) if status.code == 409 => {
            let name = text("/metadata/name");
            let stored: DynamicObject = client
                .request(Request::new(&path).get(name, &GetParams::default()).unwrap())
                .await?;
            let mut changed = document.clone();
            *changed.pointer_mut("/metadata").unwrap() = json!({ "name": name, "resourceVersion": stored.metadata.resource_version });
            let body = serde_json::to_vec(&changed).unwrap();
            let mut request = Request::new(&path).replace(name, &PostParams::default(), body).unwrap();
            *request.uri_mut() = format!("{path}/{name}?fieldValidation=Strict").parse().unwrap();
            client.request(request).await
        }
        answer => answer,
    }
}

async fn refused(client: &Client, namespace: &str, text: &str) -> Result<()> {
    let expected = text
        .lines()
        .next()
        .and_then(|line| line.strip_prefix("# expect: "))
        .context("the first line is not `# expect: TEXT`")?;
    let mut documents = documents(text)?;
    let bad = documents.pop().context("no document")?;
    for good in documents {
        submit(client, namespace, &good)
            .await
            .context("a document before the last was refused")?;
    }
    match submit(client, namespace, &bad).await {
        Ok(_) => bail!("accepted"),
        Err(kube::Error::Api(status)) => {
            ensure!(status.message.contains(expected), "expected `{expected}`, got `{}`", status.message);
            Ok(())
        }
        Err(other) => Err(other.into()),
    }
}

#[tokio::test]
async fn every_invalid_manifest_is_refused_with_its_message() -> Result<()> {
    let (client, namespace) = prepare().await?;
    let mut failures = Vec::new();
    let mut files = 0;
    for entry in fs::read_dir(checkout().join("e2e/fixtures/invalid"))? {
        let path = entry?.path();
        if path.extension().is_none_or(|extension| extension != "yaml") {
            continue;
        }
        files += 1;
        if let Err(failure) = refused(&client, &namespace, &fs::read_to_string(&path)?).await {
            failures.push(format!("{}: {failure:#}", path.display()));
        }
    }
    ensure!(files > 50, "only {files} manifests were found");
    ensure!(failures.is_empty(), "{} of {files}:\n{}", failures.len(), failures.join("\n"));
    Ok(())
}

#[tokio::test]
async fn every_example_is_taken() -> Result<()> {
    let (client, namespace) = prepare().await?;
    let mut taken = 0;
    for entry in fs::read_dir(checkout().join("examples"))? {
        let path = entry?.path();
        if path.extension().is_none_or(|extension| extension != "yaml") {
            continue;
        }
        for document in documents(&fs::read_to_string(&path)?)? {
            submit(&client, &namespace, &document)
                .await
                .with_context(|| path.display().to_string())?;
            taken += 1;
        }
    }
    ensure!(taken >= 6, "only {taken} documents were found");
    Ok(())
}

#[tokio::test]
async fn the_scale_subresource_is_held_to_the_same_rules() -> Result<()> {
    let (client, namespace) = prepare().await?;
    let cluster = json!({
        "apiVersion": "kvfleet.dev/v1alpha1", "kind": "KvCluster", "metadata": { "name": "scaled" },
        "spec": { "storage": { "size": "1Gi" } },
    });
    submit(&client, &namespace, &cluster).await?;
    let clusters: Api<kvfleet_crds::KvCluster> = Api::namespaced(client, &namespace);
    assert_eq!(clusters.get_scale("scaled").await?.spec.and_then(|spec| spec.replicas), Some(3));
    let to = |replicas: i32| Patch::Merge(json!({ "spec": { "replicas": replicas } }));
    let scaled = clusters.patch_scale("scaled", &PatchParams::default(), &to(5)).await?;
    assert_eq!(scaled.spec.and_then(|spec| spec.replicas), Some(5));
    match clusters.patch_scale("scaled", &PatchParams::default(), &to(4)).await {
        Err(kube::Error::Api(status)) => {
            ensure!(status.message.contains("replicas must be 1, 3, 5 or 7"), "{}", status.message);
            Ok(())
        }
        other => bail!("expected a refusal, got {other:?}"),
    }
}
