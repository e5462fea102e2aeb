//! A namespace of a real API server without a kubelet, and the operator in this process, working in it alone.

#![allow(dead_code, reason = "each test program uses a part of it")]

use std::time::Duration;

use anyhow::{Context, Result};
use k8s_openapi::{api::core::v1::Namespace, apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition};
use kube::{
    Api, Client,
    api::{Patch, PatchParams, PostParams},
    config::{KubeConfigOptions, Kubeconfig},
    runtime::wait::{await_condition, conditions},
};
use kvfleet_operator::{RunError, config::Config, run};
use serde_json::{Value, json};
use tokio::{sync::oneshot, task::JoinHandle};

const MANAGER: &str = "kvfleet-tests";
pub const PATIENCE: Duration = Duration::from_secs(30);

pub struct Place {
    pub kubernetes: kube::Config,
    pub client: Client,
    pub namespace: String,
}

impl Place {
    pub async fn new(prefix: &str) -> Result<Self> {
        let path =
            std::env::var("KVFLEET_TEST_KUBECONFIG").context("KVFLEET_TEST_KUBECONFIG names no kubeconfig: run `make integration`")?;
        let kubernetes = kube::Config::from_custom_kubeconfig(Kubeconfig::read_from(path)?, &KubeConfigOptions::default()).await?;
        let client = Client::try_from(kubernetes.clone())?;
        let definitions: Api<CustomResourceDefinition> = Api::all(client.clone());
        for definition in kvfleet_crds::definition::all() {
            let name = definition.pointer("/metadata/name").and_then(Value::as_str).unwrap().to_owned();
            let parameters = PatchParams::apply(MANAGER).force();
            definitions.patch(&name, &parameters, &Patch::Apply(&definition)).await?;
            let established = await_condition(definitions.clone(), &name, conditions::is_crd_established());
            tokio::time::timeout(PATIENCE, established).await??;
        }
        let namespace: Namespace = serde_json::from_value(json!({ "metadata": { "generateName": format!("{prefix}-") } }))?;
        let created = Api::all(client.clone()).create(&PostParams::default(), &namespace).await?;
        Ok(Place {
            kubernetes,
            client,
            namespace: created.metadata.name.unwrap(),
        })
    }

    pub fn api<K>(&self) -> Api<K>
    where
        K: kube::Resource<DynamicType = (), Scope = kube::core::NamespaceResourceScope>,
    {
        Api::namespaced(self.client.clone(), &self.namespace)
    }

    /// The operator, as it is configured here but for a test's own wishes.
    pub fn config(&self) -> Config {
        Config {
            node_image_repository: "example.org/kvnode".to_owned(),
            node_image_tag: "1.0.0".to_owned(),
            node_image_pull_policy: "IfNotPresent".to_owned(),
            namespace: self.namespace.clone(),
            service_account: "kvfleet".to_owned(),
            pod_name: "one".to_owned(),
            lease_name: "kvfleet".to_owned(),
            watch_namespaces: vec![self.namespace.clone()],
            health_listen: ([127, 0, 0, 1], 0).into(),
        }
    }

    /// An operator of this configuration, with the rights of the account that `kubernetes` names.
    pub fn operate_as(&self, kubernetes: kube::Config, config: Config) -> Operator {
        let (stop, stopped) = oneshot::channel();
        let task = tokio::spawn(run(config, kubernetes, async move {
            // Also when the sender is gone: the test is over.
            let _ = stopped.await;
        }));
        Operator { stop, task }
    }

    pub fn operate(&self) -> Operator {
        self.operate_with(self.config())
    }

    pub fn operate_with(&self, config: Config) -> Operator {
        self.operate_as(self.kubernetes.clone(), config)
    }
}

pub struct Operator {
    stop: oneshot::Sender<()>,
    pub task: JoinHandle<Result<(), RunError>>,
}

impl Operator {
    pub async fn stop(self) -> Result<()> {
        drop(self.stop);
        Ok(tokio::time::timeout(PATIENCE, self.task).await???)
    }
}
