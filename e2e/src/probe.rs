//! A pod from which a test speaks to the cluster, as an application would.

use std::{
    collections::BTreeMap,
    io::{BufRead, BufReader, Read},
    process::{Child, Stdio},
};

use anyhow::{Context, Result};
use serde::Deserialize;
use serde_json::Value;

use crate::{kubectl, load, namespace::Namespace};

/// The pod, ready to be used. It goes with its namespace.
#[derive(Debug)]
pub struct Probe<'a> {
    namespace: &'a Namespace,
}

/// An HTTP answer.
#[derive(Clone, Debug, Deserialize)]
pub struct Answer {
    /// The status.
    pub status: u16,
    /// Headers, names in lower case.
    pub headers: BTreeMap<String, String>,
    /// The body, as text.
    pub body: String,
}

impl Answer {
    /// The `code` of a problem document.
    pub fn code(&self) -> Option<String> {
        let problem: Value = serde_json::from_str(&self.body).ok()?;
        Some(problem.get("code")?.as_str()?.to_owned())
    }

    /// The body as JSON.
    ///
    /// # Errors
    /// When it is none.
    pub fn json(&self) -> Result<Value> {
        serde_json::from_str(&self.body).with_context(|| format!("not JSON: {}", self.body))
    }
}

/// A tenant as an application knows it: from its credentials Secret.
#[derive(Clone, Debug)]
pub struct Credentials {
    /// The tenant's URL.
    pub endpoint: String,
    /// The token.
    pub token: String,
}

impl Credentials {
    /// Reads the Secret `<tenant>-kv-credentials`.
    ///
    /// # Errors
    /// When it is not there or lacks a member.
    pub fn of(namespace: &Namespace, tenant: &str) -> Result<Self> {
        let secret = namespace.secret(&format!("{tenant}-kv-credentials"))?;
        let member = |name: &str| {
            secret
                .get(name)
                .cloned()
                .with_context(|| format!("the credentials of {tenant} have no `{name}`"))
        };
        Ok(Credentials {
            endpoint: member("endpoint")?,
            token: member("token")?,
        })
    }

    /// The same tenant at another host: a pod's address, a forwarded port.
    pub fn at(&self, host_and_port: &str) -> Self {
        let path = self.endpoint.find("/api/").map_or("", |at| self.endpoint.get(at..).unwrap_or(""));
        Credentials {
            endpoint: format!("http://{host_and_port}{path}"),
            token: self.token.clone(),
        }
    }
}

/// A load run that goes on in the pod.
#[derive(Debug)]
pub struct RunningLoad {
    child: Child,
    output: BufReader<std::process::ChildStdout>,
}

impl RunningLoad {
    /// Waits until the run is over and everything is read back.
    ///
    /// # Errors
    /// When it failed.
    pub fn report(mut self) -> Result<load::Report> {
        let mut text = String::new();
        self.output.read_to_string(&mut text)?;
        let status = self.child.wait()?;
        anyhow::ensure!(status.success(), "the load run failed");
        serde_json::from_str(text.trim()).with_context(|| format!("the load run printed no report: {text}"))
    }
}

impl<'a> Probe<'a> {
    /// Starts the pod and waits until it runs.
    ///
    /// # Errors
    /// When it does not start.
    pub fn start(namespace: &'a Namespace) -> Result<Self> {
        namespace.apply(
            "apiVersion: v1\nkind: Pod\nmetadata: {name: probe}\nspec:\n  automountServiceAccountToken: false\n  terminationGracePeriodSeconds: 1\n  \
             securityContext: {runAsNonRoot: true, runAsUser: 65532, seccompProfile: {type: RuntimeDefault}}\n  containers:\n  - name: probe\n    \
             image: localhost/kvfleet-probe:dev\n    imagePullPolicy: Never\n    args: [idle]\n    \
             securityContext: {allowPrivilegeEscalation: false, readOnlyRootFilesystem: true, capabilities: {drop: [ALL]}}\n",
        )?;
        namespace.kubectl(&["wait", "pod/probe", "--for=condition=Ready", "--timeout=120s"])?;
        Ok(Probe { namespace })
    }

    /// Makes a request with more arguments of `kvprobe http`.
    ///
    /// # Errors
    /// When no answer comes.
    pub fn http(&self, method: &str, url: &str, more: &[&str]) -> Result<Answer> {
        let mut arguments = vec!["exec", "probe", "--", "/usr/local/bin/kvprobe", "http", method, url];
        arguments.extend(more);
        serde_json::from_str(&self.namespace.kubectl(&arguments)?).context("kvprobe printed no answer")
    }

    /// A request for a key with the tenant's token.
    ///
    /// # Errors
    /// When no answer comes.
    pub fn key(&self, credentials: &Credentials, method: &str, key: &str, more: &[&str]) -> Result<Answer> {
        self.tenant(credentials, method, &format!("keys/{key}"), more)
    }

    /// A request below the tenant's URL with its token.
    ///
    /// # Errors
    /// When no answer comes.
    pub fn tenant(&self, credentials: &Credentials, method: &str, path: &str, more: &[&str]) -> Result<Answer> {
        let authorization = format!("Authorization: Bearer {}", credentials.token);
        let mut all = vec!["-H", authorization.as_str()];
        all.extend(more);
        self.http(method, &format!("{}/{path}", credentials.endpoint), &all)
    }

    /// Starts a load run and returns once a first write is acknowledged.
    ///
    /// # Errors
    /// When it does not start.
    pub fn load(&self, credentials: &Credentials, prefix: &str, workers: u32, seconds: u64) -> Result<RunningLoad> {
        let (workers, seconds) = (workers.to_string(), seconds.to_string());
        let arguments = [
            "--namespace",
            &self.namespace.name,
            "exec",
            "probe",
            "--",
            "/usr/local/bin/kvprobe",
            "load",
            "--endpoint",
            &credentials.endpoint,
            "--token",
            &credentials.token,
            "--prefix",
            prefix,
            "--workers",
            &workers,
            "--seconds",
            &seconds,
        ];
        let mut child = kubectl::command(&arguments)?.stdin(Stdio::null()).stdout(Stdio::piped()).spawn()?;
        let mut output = BufReader::new(child.stdout.take().context("kubectl has no standard output")?);
        let mut line = String::new();
        output.read_line(&mut line)?;
        anyhow::ensure!(line.trim() == "started", "the load run did not start: {line}");
        Ok(RunningLoad { child, output })
    }
}
