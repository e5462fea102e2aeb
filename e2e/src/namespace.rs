//! A namespace per test: made at the start, deleted at the end, printed when the test fails.

use std::{
    collections::BTreeMap,
    process::Command,
    sync::atomic::{AtomicU32, Ordering},
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use anyhow::{Context, Result};
use serde_json::Value;

use crate::{kubectl, wait};

/// Long enough for pods to be scheduled, started and formed on a busy two-core machine; the tests that promise a time check it themselves.
pub const PATIENCE: Duration = Duration::from_secs(120);

/// A namespace that lives as long as this value.
#[derive(Debug)]
pub struct Namespace {
    /// Its name.
    pub name: String,
}

impl Namespace {
    /// Makes a namespace whose name begins with `purpose` and occurs nowhere else. It enforces Pod Security "restricted".
    ///
    /// # Errors
    /// When the cluster refuses it.
    pub fn new(purpose: &str) -> Result<Self> {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let now = SystemTime::now().duration_since(UNIX_EPOCH)?.as_millis();
        let name = format!("e2e-{purpose}-{:x}-{}", now % 0xFFF_FFFF, COUNT.fetch_add(1, Ordering::Relaxed));
        kubectl::run(&["create", "namespace", &name])?;
        let namespace = Namespace { name };
        kubectl::run(&[
            "label",
            "namespace",
            &namespace.name,
            "pod-security.kubernetes.io/enforce=restricted",
        ])?;
        Ok(namespace)
    }

    /// `kubectl -n <this namespace> …`
    ///
    /// # Errors
    /// When it fails.
    pub fn kubectl(&self, arguments: &[&str]) -> Result<String> {
        kubectl::run(&self.arguments(arguments))
    }

    /// `kubectl -n <this namespace> … -o json`
    ///
    /// # Errors
    /// When it fails.
    pub fn json(&self, arguments: &[&str]) -> Result<Value> {
        kubectl::json(&self.arguments(arguments))
    }

    /// Applies a manifest.
    ///
    /// # Errors
    /// When the API server refuses it: with its message.
    pub fn apply(&self, manifest: &str) -> Result<()> {
        kubectl::run_with_input(&self.arguments(&["apply", "-f", "-"]), manifest).map(drop)
    }

    /// Whether the condition of an object has the status, for the object's present generation.
    ///
    /// # Errors
    /// When the object cannot be read.
    pub fn condition(&self, object: &str, condition: &str, status: &str) -> Result<bool> {
        let object = self.json(&["get", object])?;
        let generation = object.pointer("/metadata/generation").and_then(Value::as_i64);
        let conditions = object
            .pointer("/status/conditions")
            .and_then(Value::as_array)
            .cloned()
            .unwrap_or_default();
        Ok(conditions.iter().any(|found| {
            found.get("type").and_then(Value::as_str) == Some(condition)
                && found.get("status").and_then(Value::as_str) == Some(status)
                && found.get("observedGeneration").and_then(Value::as_i64) == generation
        }))
    }

    /// Awaits `Ready=True` for the present generation; says how long it took.
    ///
    /// # Errors
    /// When it takes longer than [`PATIENCE`].
    pub fn ready(&self, object: &str) -> Result<Duration> {
        self.await_condition(object, "Ready", "True")
    }

    /// Awaits a condition for the present generation; says how long it took.
    ///
    /// # Errors
    /// When it takes longer than [`PATIENCE`].
    pub fn await_condition(&self, object: &str, condition: &str, status: &str) -> Result<Duration> {
        let what = format!("{object} {condition}={status}");
        let ((), took) = wait::until(&what, PATIENCE, || Ok(self.condition(object, condition, status)?.then_some(())))?;
        Ok(took)
    }

    /// The members of a KvCluster's first shard that vote: the id of each, by pod.
    ///
    /// # Errors
    /// When the object cannot be read, or names no members.
    pub fn voters(&self, cluster: &str) -> Result<BTreeMap<String, String>> {
        let object = self.json(&["get", "kvcluster", cluster])?;
        let members = object
            .pointer("/status/shards/0/members")
            .and_then(Value::as_array)
            .context("no members")?;
        let text = |member: &Value, field: &str| member.get(field).and_then(Value::as_str).unwrap_or_default().to_owned();
        let voters = members
            .iter()
            .filter(|member| member.get("voter").and_then(Value::as_bool) == Some(true));
        Ok(voters.map(|member| (text(member, "pod"), text(member, "id"))).collect())
    }

    /// The reason of an object's condition.
    ///
    /// # Errors
    /// When the object cannot be read.
    pub fn reason(&self, object: &str, condition: &str) -> Result<Option<String>> {
        let path = format!("jsonpath={{.status.conditions[?(@.type==\"{condition}\")].reason}}");
        Ok(Some(self.kubectl(&["get", object, "-o", &path])?).filter(|reason| !reason.is_empty()))
    }

    /// The data of a Secret, decoded.
    ///
    /// # Errors
    /// When it is not there or a value is no text.
    pub fn secret(&self, name: &str) -> Result<BTreeMap<String, String>> {
        let template = "go-template={{range $name, $value := .data}}{{$name}}{{\"\\t\"}}{{base64decode $value}}{{\"\\x00\"}}{{end}}";
        let text = self.kubectl(&["get", "secret", name, "-o", template])?;
        text.split('\0')
            .filter(|entry| !entry.is_empty())
            .map(|entry| {
                let (name, value) = entry.split_once('\t').context("a Secret's entry has no value")?;
                Ok((name.to_owned(), value.to_owned()))
            })
            .collect()
    }

    /// The pod that status names as the first shard's primary.
    ///
    /// # Errors
    /// When there is none.
    pub fn primary(&self, cluster: &str) -> Result<String> {
        let object = self.json(&["get", "kvcluster", cluster])?;
        let primary = object
            .pointer("/status/shards/0/primary")
            .and_then(Value::as_str)
            .unwrap_or_default();
        anyhow::ensure!(!primary.is_empty(), "status of {cluster} names no primary");
        Ok(primary.to_owned())
    }

    /// A field of a pod.
    ///
    /// # Errors
    /// When the pod is not there.
    pub fn pod_field(&self, pod: &str, field: &str) -> Result<String> {
        self.kubectl(&["get", "pod", pod, "-o", &format!("jsonpath={{{field}}}")])
    }

    /// SIGKILL for the process of a pod. Its image holds no shell, so the node does it: there the process is found by its control group.
    ///
    /// # Errors
    /// When there is not exactly one such process, or `KVFLEET_E2E_ENGINE` does not say what runs the nodes.
    pub fn kill(&self, pod: &str) -> Result<()> {
        let node = self.pod_field(pod, ".spec.nodeName")?;
        let uid = self.pod_field(pod, ".metadata.uid")?;
        let script = format!(
            "for p in /proc/[0-9]*; do \
               if [ \"$(cat $p/comm 2> /dev/null)\" = kvnode ] && grep -q '{uid}\\|{}' $p/cgroup 2> /dev/null; then kill -9 ${{p#/proc/}} && echo killed; fi; \
             done",
            uid.replace('-', "_")
        );
        let engine = std::env::var("KVFLEET_E2E_ENGINE")
            .context("KVFLEET_E2E_ENGINE is not set: docker or podman, whichever runs the kind nodes")?;
        let output = Command::new(&engine)
            .args(["exec", &node, "sh", "-c", &script])
            .output()
            .with_context(|| engine.clone())?;
        let text = String::from_utf8_lossy(&output.stdout);
        anyhow::ensure!(
            text.trim() == "killed",
            "{engine} exec {node}: `{text}` {}",
            String::from_utf8_lossy(&output.stderr)
        );
        Ok(())
    }

    fn arguments<'a>(&'a self, arguments: &[&'a str]) -> Vec<&'a str> {
        let mut all = vec!["--namespace", self.name.as_str()];
        all.extend(arguments);
        all
    }

    /// Prints what a person needs to see why a test failed.
    fn dump(&self) {
        eprintln!("\n===== namespace {} =====", self.name);
        let everything = "kvclusters,tenants,statefulsets,pods,services,persistentvolumeclaims,configmaps,poddisruptionbudgets";
        for arguments in [
            &["get", everything, "-o", "wide"][..],
            &["get", "kvclusters,tenants", "-o", "yaml"],
            &["get", "events", "--sort-by=.lastTimestamp"],
            &[
                "logs",
                "--selector=app.kubernetes.io/name=kvnode",
                "--tail=60",
                "--prefix",
                "--all-containers",
            ],
        ] {
            match self.kubectl(arguments) {
                Ok(text) => eprintln!("----- kubectl {}\n{text}", arguments.join(" ")),
                Err(error) => eprintln!("----- {error:#}"),
            }
        }
        match kubectl::run(&["--namespace", "kvfleet-system", "logs", "deployment/kvfleet", "--tail=80"]) {
            Ok(text) => eprintln!("----- operator\n{text}"),
            Err(error) => eprintln!("----- {error:#}"),
        }
    }
}

impl Drop for Namespace {
    fn drop(&mut self) {
        if std::thread::panicking() {
            self.dump();
        }
        // The test is over: the namespace may take its time.
        if let Err(error) = kubectl::run(&["delete", "namespace", &self.name, "--wait=false", "--ignore-not-found"]) {
            eprintln!("namespace {} is left over: {error:#}", self.name);
        }
    }
}
