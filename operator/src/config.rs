//! What the operator is told at its start: flags, each with a variable of the environment.
//!
//! In: the command line and the environment. Out: a validated [`Config`]. Absent: everything about one cluster, which stands in its KvCluster.

use std::net::SocketAddr;

use clap::{Args, Parser, Subcommand, ValueEnum};

/// The command line.
#[derive(Debug, Parser)]
#[command(name = "kvfleet-operator", version, about = "Reconciles KvCluster and Tenant")]
pub struct Arguments {
    /// What every command takes.
    #[command(flatten)]
    pub common: Common,
    /// What `run` takes; here because `run` is the default and its flags must work without the word.
    #[command(flatten)]
    pub run: RunArguments,
    /// What to do.
    #[command(subcommand)]
    pub command: Option<Command>,
}

/// What to do.
#[derive(Clone, Copy, Debug, Subcommand)]
pub enum Command {
    /// Reconcile until stopped (the default).
    Run,
    /// Take the finalizer `kvfleet.dev/tenant-data` off every Tenant, and leave: for the removal of the operator.
    LiftFinalizers,
}

/// What every command takes.
#[derive(Clone, Debug, Args)]
pub struct Common {
    /// The namespaces to work in. Default: all.
    #[arg(long, env = "KVFLEET_WATCH_NAMESPACES", value_delimiter = ',', global = true)]
    pub watch_namespaces: Vec<String>,
    /// The least severe messages that are written.
    #[arg(long, env = "KVFLEET_LOG_LEVEL", value_enum, default_value_t = LogLevel::Info, global = true)]
    pub log_level: LogLevel,
    /// The form of a log line.
    #[arg(long, env = "KVFLEET_LOG_FORMAT", value_enum, default_value_t = LogFormat::Json, global = true)]
    pub log_format: LogFormat,
}

/// What `run` takes.
#[derive(Clone, Debug, Args)]
pub struct RunArguments {
    /// The image of members whose KvCluster names none, `repository:tag`.
    #[arg(long, env = "KVFLEET_NODE_IMAGE")]
    pub node_image: Option<String>,
    /// When a node fetches that image: Always, IfNotPresent or Never.
    #[arg(long, env = "KVFLEET_NODE_IMAGE_PULL_POLICY", default_value = "IfNotPresent")]
    pub node_image_pull_policy: String,
    /// The namespace that the operator runs in.
    #[arg(long, env = "KVFLEET_NAMESPACE")]
    pub namespace: Option<String>,
    /// The operator's own ServiceAccount.
    #[arg(long, env = "KVFLEET_SERVICE_ACCOUNT")]
    pub service_account: Option<String>,
    /// The name of this replica.
    #[arg(long, env = "POD_NAME")]
    pub pod_name: Option<String>,
    /// The Lease that decides which replica is active.
    #[arg(long, env = "KVFLEET_LEASE_NAME", default_value = "kvfleet")]
    pub lease_name: String,
    /// Where `/livez`, `/readyz` and `/metrics` answer.
    #[arg(long, env = "KVFLEET_HEALTH_LISTEN", default_value = "0.0.0.0:8081")]
    pub health_listen: SocketAddr,
}

/// The least severe messages that are written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum LogLevel {
    /// Everything.
    Trace,
    /// What helps to follow a fault.
    Debug,
    /// Changes of state.
    Info,
    /// What someone should look at.
    Warn,
    /// What failed.
    Error,
}

/// The form of a log line.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum LogFormat {
    /// One JSON object a line.
    Json,
    /// For people.
    Text,
}

/// What `run` works with.
#[derive(Clone, Debug)]
pub struct Config {
    /// The image of members whose KvCluster names none, without its tag.
    pub node_image_repository: String,
    /// That image's tag.
    pub node_image_tag: String,
    /// When a node fetches that image.
    pub node_image_pull_policy: String,
    /// The operator's own namespace.
    pub namespace: String,
    /// The operator's own ServiceAccount, the subject of the RoleBindings.
    pub service_account: String,
    /// The name of this replica: the holder in the Lease, the instance in events.
    pub pod_name: String,
    /// The Lease's name.
    pub lease_name: String,
    /// The namespaces to work in; empty: all of them.
    pub watch_namespaces: Vec<String>,
    /// Where the health port listens.
    pub health_listen: SocketAddr,
}

/// Why the operator cannot start with what it was told.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// A value is missing.
    #[error("{flag} is missing: give it, or set {variable}")]
    Missing {
        /// The flag.
        flag: &'static str,
        /// Its variable.
        variable: &'static str,
    },
    /// A value cannot be used.
    #[error("{flag} is `{value}`: {remedy}")]
    Invalid {
        /// The flag.
        flag: &'static str,
        /// What was given.
        value: String,
        /// What to give instead.
        remedy: &'static str,
    },
}

impl Config {
    /// Checks what `run` was told.
    ///
    /// # Errors
    /// [`ConfigError`] names the flag and the remedy.
    pub fn new(common: Common, arguments: RunArguments) -> Result<Self, ConfigError> {
        let Common {
            watch_namespaces,
            log_level: _,
            log_format: _,
        } = common;
        let RunArguments {
            node_image,
            node_image_pull_policy,
            namespace,
            service_account,
            pod_name,
            lease_name,
            health_listen,
        } = arguments;
        let node_image = required(node_image, "--node-image", "KVFLEET_NODE_IMAGE")?;
        // A registry's port has a colon too, but a slash after it.
        let (node_image_repository, node_image_tag) = match node_image.rsplit_once(':') {
            Some((repository, tag)) if !repository.is_empty() && !tag.is_empty() && !tag.contains('/') => (repository, tag),
            _ => {
                return Err(ConfigError::Invalid {
                    flag: "--node-image",
                    value: node_image,
                    remedy: "give the repository and a tag, such as example.org/kvnode:1.2.3",
                });
            }
        };
        if !["Always", "IfNotPresent", "Never"].contains(&node_image_pull_policy.as_str()) {
            return Err(ConfigError::Invalid {
                flag: "--node-image-pull-policy",
                value: node_image_pull_policy,
                remedy: "give Always, IfNotPresent or Never",
            });
        }
        Ok(Config {
            node_image_repository: node_image_repository.to_owned(),
            node_image_tag: node_image_tag.to_owned(),
            node_image_pull_policy,
            namespace: required(namespace, "--namespace", "KVFLEET_NAMESPACE")?,
            service_account: required(service_account, "--service-account", "KVFLEET_SERVICE_ACCOUNT")?,
            pod_name: required(pod_name, "--pod-name", "POD_NAME")?,
            lease_name,
            watch_namespaces: watch_namespaces.into_iter().filter(|namespace| !namespace.is_empty()).collect(),
            health_listen,
        })
    }
}

fn required(value: Option<String>, flag: &'static str, variable: &'static str) -> Result<String, ConfigError> {
    value
        .filter(|value| !value.is_empty())
        .ok_or(ConfigError::Missing { flag, variable })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(flags: &[&str]) -> Result<Config, ConfigError> {
        let basis = ["kvfleet-operator", "--namespace", "a", "--service-account", "b", "--pod-name", "c"];
        let arguments = Arguments::try_parse_from(basis.iter().chain(flags)).unwrap();
        Config::new(arguments.common, arguments.run)
    }

    #[test]
    fn the_node_image_is_taken_apart_behind_a_registrys_port() {
        let config = parse(&["--node-image", "localhost:5000/team/kvnode:1.2"]).unwrap();
        assert_eq!(
            (config.node_image_repository.as_str(), config.node_image_tag.as_str()),
            ("localhost:5000/team/kvnode", "1.2")
        );
    }

    #[test]
    fn what_cannot_be_used_is_named() {
        for (flags, text) in [
            (
                &["--node-image", "localhost:5000/kvnode"][..],
                "--node-image is `localhost:5000/kvnode`",
            ),
            (
                &["--node-image", "kvnode:1", "--node-image-pull-policy", "Maybe"][..],
                "--node-image-pull-policy",
            ),
        ] {
            let error = parse(flags).unwrap_err().to_string();
            assert!(error.starts_with(text), "{error}");
        }
    }
}
