//! The settings, listed once: the table below makes the flags, the variables, the file's fields and the reference page.

use std::path::{Path, PathBuf};

use clap::{Args, Parser};
use serde::Deserialize;

use super::{error::Source, file::Scalar};

/// One value with the way it came.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Given {
    pub(super) field: &'static str,
    pub(super) text: String,
    pub(super) origin: Source,
}

/// How a flag takes its value.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Takes {
    /// `--flag value` or `--flag=value`.
    Value,
    /// `--flag` alone means true; `--flag=false` is possible.
    Switch,
}

impl Takes {
    fn arguments(self) -> clap::builder::ValueRange {
        match self {
            Takes::Value => (1..=1).into(),
            Takes::Switch => (0..=1).into(),
        }
    }
}

macro_rules! settings {
    ($($name:ident: $takes:ident, $flag:literal, $variable:literal, $field:literal, $placeholder:literal, $default:expr, $alone:expr, $help:literal;)*) => {
        /// Flags and variables, as text: one parser serves them and the file.
        #[derive(Args, Clone, Debug, Default)]
        pub struct Settings {
            $(
                #[arg(
                    long = $flag, env = $variable, value_name = $placeholder, help = help($help, $default, $alone), hide_env_values = true,
                    num_args = Takes::$takes.arguments(), require_equals = Takes::$takes == Takes::Switch, default_missing_value = "true",
                    allow_hyphen_values = true
                )]
                $name: Option<String>,
            )*
        }

        /// The fields of the file.
        #[derive(Clone, Debug, Default, Deserialize)]
        #[serde(deny_unknown_fields)]
        pub(super) struct FileSettings {
            $(#[serde(rename = $field, default)] pub(super) $name: Option<Scalar>,)*
        }

        /// What was set, and by whom: the flag, else the variable, else the file.
        #[derive(Clone, Debug)]
        pub(super) struct Merged { $(pub(super) $name: Option<Given>,)* }

        impl Merged {
            pub(super) fn new(matches: &clap::ArgMatches, settings: Settings, file: FileSettings, path: Option<&Path>) -> Self {
                let Settings { $($name,)* } = settings;
                Merged { $($name: pick(
                    $field,
                    $name.map(|text| (text, source_of(matches, stringify!($name), $flag, $variable))),
                    file.$name.map(|scalar| (scalar.0, Source::File(path.map(PathBuf::from).unwrap_or_default()))),
                ),)* }
            }

            /// Fills in the defaults of a member of a cluster, or of a member alone.
            pub(super) fn with_defaults(self, alone: bool) -> Self {
                Merged { $($name: self.$name.or_else(|| default($field, if alone { $alone } else { $default })),)* }
            }

            /// Every setting with its value in force, in the order of the reference.
            pub(super) fn list(&self) -> Vec<(&'static str, Option<&Given>)> {
                vec![$(($field, self.$name.as_ref()),)*]
            }
        }

        /// Every setting, in the order of the reference.
        pub(super) const TABLE: &[Row] = &[$(Row {
            field: $field, flag: $flag, variable: $variable, placeholder: $placeholder, default: $default, alone: $alone, help: $help,
        },)*];
    };
}

/// One setting, for the reference page and for messages.
pub(super) struct Row {
    pub(super) field: &'static str,
    pub(super) flag: &'static str,
    pub(super) variable: &'static str,
    pub(super) placeholder: &'static str,
    /// The default of a member of a cluster.
    pub(super) default: Option<&'static str>,
    /// The default of a member alone.
    pub(super) alone: Option<&'static str>,
    pub(super) help: &'static str,
}

settings! {
    dev: Switch, "dev", "KVNODE_DEV", "dev", "BOOL", Some("false"), Some("false"),
        "Run one member alone with a tenant `demo`, and print a curl line that works";
    cluster_id: Value, "cluster-id", "KVNODE_CLUSTER_ID", "clusterId", "UUID", None, None,
        "The cluster that this member belongs to; required unless it runs alone";
    shard: Value, "shard", "KVNODE_SHARD", "shard", "INDEX", Some("0"), Some("0"),
        "The index of the shard";
    name: Value, "name", "KVNODE_NAME", "name", "NAME", None, Some("dev"),
        "This member's name (on Kubernetes the pod's); with a name and no --cluster-id it runs alone, as with --dev, and keeps its data";
    data_dir: Value, "data-dir", "KVNODE_DATA_DIR", "dataDir", "DIR", None, None,
        "Where log and data are kept; required in a cluster; alone: kvnode-NAME, or with --dev a temporary directory";
    listen: Value, "listen", "KVNODE_LISTEN", "listen", "HOST:PORT", Some("0.0.0.0:8080"), Some("127.0.0.1:8080"),
        "The data port: REST";
    health_listen: Value, "health-listen", "KVNODE_HEALTH_LISTEN", "healthListen", "HOST:PORT", Some("0.0.0.0:8081"), Some("127.0.0.1:8081"),
        "The health port: /livez, /readyz, /startupz";
    metrics_listen: Value, "metrics-listen", "KVNODE_METRICS_LISTEN", "metricsListen", "HOST:PORT", Some("0.0.0.0:9090"), Some("127.0.0.1:9090"),
        "The metrics port: /metrics";
    admin_listen: Value, "admin-listen", "KVNODE_ADMIN_LISTEN", "adminListen", "HOST:PORT", Some("0.0.0.0:9443"), Some("127.0.0.1:9443"),
        "The admin port, mTLS";
    peer_listen: Value, "peer-listen", "KVNODE_PEER_LISTEN", "peerListen", "HOST:PORT", Some("0.0.0.0:7400"), None,
        "The peer port, mTLS; a member alone has none";
    peer_advertise: Value, "peer-advertise", "KVNODE_PEER_ADVERTISE", "peerAdvertise", "HOST:PORT", None, None,
        "Where the other members reach this member's peer port; when not set: its place in --members, else NAME and the port of --peer-listen";
    tls_dir: Value, "tls-dir", "KVNODE_TLS_DIR", "tlsDir", "DIR", None, None,
        "Directory with ca.crt, tls.crt and tls.key of the peer and admin ports; required in a cluster";
    token_keys: Value, "token-keys", "KVNODE_TOKEN_KEYS", "tokenKeys", "FILE", None, None,
        "JWK set with the public keys that tokens are checked against; required in a cluster";
    heartbeat_interval: Value, "heartbeat-interval", "KVNODE_HEARTBEAT_INTERVAL", "heartbeatInterval", "DURATION", Some("75ms"), Some("75ms"),
        "How often the leader sends heartbeats";
    election_timeout: Value, "election-timeout", "KVNODE_ELECTION_TIMEOUT", "electionTimeout", "DURATION", Some("900ms"), Some("900ms"),
        "The least time without a heartbeat before an election; at least 6 heartbeats";
    max_batch: Value, "max-batch", "KVNODE_MAX_BATCH", "maxBatch", "COUNT", Some("4096"), Some("4096"),
        "The most log entries that are written or sent at once";
    compress_above: Value, "compress-above", "KVNODE_COMPRESS_ABOVE", "compressAbove", "BYTES", Some("4Ki"), Some("4Ki"),
        "Messages between members from this size on are compressed when that makes them smaller; 0: never";
    disk_reserve: Value, "disk-reserve", "KVNODE_DISK_RESERVE", "diskReserve", "BYTES", None, None,
        "What is kept free on the disk: below it writes that add data are refused; when not set: the larger of 5% of the file system and 240Mi";
    drain_delay: Value, "drain-delay", "KVNODE_DRAIN_DELAY", "drainDelay", "DURATION", Some("5s"), Some("0s"),
        "After SIGTERM: how long requests are still taken while load balancers forget this member";
    max_level: Value, "max-level", "KVNODE_MAX_LEVEL", "maxLevel", "LEVEL", None, None,
        "Pretend to know no feature level above this one: to try out a program that is older, or is rolled back; when not set: all that the program knows";
    hold_level: Switch, "hold-level", "KVNODE_HOLD_LEVEL", "holdLevel", "BOOL", Some("false"), Some("false"),
        "Without Kubernetes: the group's feature level is not raised while a voter has this, so that its program can still be rolled back";
    log_level: Value, "log-level", "KVNODE_LOG_LEVEL", "logLevel", "LEVEL", Some("info"), Some("warn"),
        "trace, debug, info, warn or error, until the replicated settings say otherwise";
    log_format: Value, "log-format", "KVNODE_LOG_FORMAT", "logFormat", "FORMAT", Some("json"), Some("text"),
        "json or text";
    members: Value, "members", "KVNODE_MEMBERS", "members", "NAME=HOST:PORT,…", None, None,
        "Without Kubernetes: all members and their peer ports, this one among them";
    bootstrap: Switch, "bootstrap", "KVNODE_BOOTSTRAP", "bootstrap", "BOOL", Some("false"), Some("false"),
        "Without Kubernetes, on exactly one member: form the group as soon as every one of --members answers that it is blank";
    discover: Value, "discover", "KVNODE_DISCOVER", "discover", "HOST:PORT", None, None,
        "Whom else to ask for the group: every address that this name resolves to (a headless Service, say), on this peer port";
    join_token: Value, "join-token", "KVNODE_JOIN_TOKEN", "joinToken", "TOKEN", None, None,
        "With an empty data directory: join the group that --discover or --members finds, as a further voter; `kvnode join-token` makes one";
    self_replace: Switch, "self-replace", "KVNODE_SELF_REPLACE", "selfReplace", "BOOL", Some("false"), Some("false"),
        "A member that cannot vouch for its data, or has lost it, asks the leader by itself to be replaced by a new one; without it somebody calls POST /admin/release";
    tenants: Value, "tenants", "KVNODE_TENANTS", "tenants", "FILE", None, None,
        "Without Kubernetes: a YAML file of tenants to put in force";
    signing_key: Value, "signing-key", "KVNODE_SIGNING_KEY", "signingKey", "FILE", None, None,
        "Without Kubernetes: the private key (Ed25519, PKCS #8 PEM) with which the tokens of --tenants are signed";
    credentials_dir: Value, "credentials-dir", "KVNODE_CREDENTIALS_DIR", "credentialsDir", "DIR", None, None,
        "Without Kubernetes: where TENANT.token is written for each tenant of --tenants";
}

/// The help of a setting with its defaults.
fn help(text: &str, default: Option<&str>, alone: Option<&str>) -> String {
    match (default, alone) {
        (Some(default), Some(alone)) if default != alone => format!("{text} [default: {default}; alone: {alone}]"),
        (Some(default), _) => format!("{text} [default: {default}]"),
        (None, _) => text.to_owned(),
    }
}

fn source_of(matches: &clap::ArgMatches, id: &str, flag: &str, variable: &str) -> Source {
    match matches.value_source(id) {
        Some(clap::parser::ValueSource::EnvVariable) => Source::Variable(variable.to_owned()),
        _ => Source::Flag(format!("--{flag}")),
    }
}

fn pick(field: &'static str, argument: Option<(String, Source)>, file: Option<(String, Source)>) -> Option<Given> {
    let (text, origin) = argument.or(file)?;
    Some(Given { field, text, origin })
}

fn default(field: &'static str, text: Option<&str>) -> Option<Given> {
    text.map(|text| Given {
        field,
        text: text.to_owned(),
        origin: Source::Default,
    })
}

/// One member of a kvfleet cluster.
#[derive(Parser, Clone, Debug)]
#[command(
    name = "kvnode",
    version,
    about = "One member of a kvfleet cluster: a replicated, multi-tenant key-value store with a REST interface",
    after_help = "Every flag `--a-b` is also a variable KVNODE_A_B and a field `aB` of the --config file; the flag wins, then the variable.\n\
                  Try it: kvnode --dev",
    args_conflicts_with_subcommands = true
)]
pub struct Arguments {
    /// Something else than running a member.
    #[command(subcommand)]
    pub subcommand: Option<Subcommand>,
    /// YAML file with the same settings.
    #[arg(long, env = "KVNODE_CONFIG", value_name = "FILE")]
    pub config: Option<PathBuf>,
    /// Print the settings in force, with where each came from, and exit.
    #[arg(long)]
    pub print_config: bool,
    /// The settings.
    #[command(flatten)]
    pub settings: Settings,
}

/// What `kvnode` does instead of running a member.
#[derive(clap::Subcommand, Clone, Debug)]
pub enum Subcommand {
    /// Make a certificate authority, certificates and a token key for a cluster without Kubernetes.
    Certs(CertificateArguments),
    /// Make a token with which one new process may join a group, once.
    JoinToken(JoinTokenArguments),
    /// Print a stopped member's log as NDJSON, one line per entry; reads only, and a damaged log as far as it goes.
    DumpLog(DumpLogArguments),
}

/// `kvnode join-token`.
#[derive(Args, Clone, Debug)]
pub struct JoinTokenArguments {
    /// The cluster's id.
    #[arg(long, value_name = "UUID")]
    pub cluster_id: String,
    /// The private key that signs the cluster's tokens (`jwt.pem`).
    #[arg(long, value_name = "FILE")]
    pub signing_key: PathBuf,
    /// How long the token is good.
    #[arg(long, value_name = "DURATION", default_value = "1h")]
    pub valid_for: String,
}

/// `kvnode dump-log`.
#[derive(Args, Clone, Debug)]
pub struct DumpLogArguments {
    /// The member's data directory.
    #[arg(long, value_name = "DIR")]
    pub data_dir: PathBuf,
    /// The first entry to print.
    #[arg(long, value_name = "INDEX", default_value_t = 0)]
    pub from: u64,
    /// The last entry to print.
    #[arg(long, value_name = "INDEX", default_value_t = u64::MAX, hide_default_value = true)]
    pub to: u64,
    /// Print values too: text as it is, anything else in base64.
    #[arg(long)]
    pub values: bool,
}

/// `kvnode certs`.
#[derive(Args, Clone, Debug)]
pub struct CertificateArguments {
    /// The directory to write into; made when missing. Existing files are kept and never overwritten.
    #[arg(long, value_name = "DIR")]
    pub out: PathBuf,
    /// The cluster's id; a new one is made and printed when not set.
    #[arg(long, value_name = "UUID")]
    pub cluster_id: Option<String>,
    /// Host names and addresses of the members' ports, for tools that check them.
    #[arg(long = "host", value_name = "HOST", default_values = ["localhost", "127.0.0.1"])]
    pub hosts: Vec<String>,
}
