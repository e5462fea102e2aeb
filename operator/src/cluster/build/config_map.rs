//! The members' file, `node.yaml`. It is immutable and named by its content: one edited in place would reach whichever pod crashes next.
//!
//! The log level is not in it: it travels through the log, and a change of it makes no pod outdated.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::ConfigMap;
use kvfleet_crds::names::{PORT_ADMIN, PORT_DATA, PORT_HEALTH, PORT_METRICS, PORT_PEER};
use serde::Serialize;

use super::{metadata, pod};
use crate::{
    cluster::validate::{SHARD, Validated},
    hash,
};

/// The key, and the name of the file.
pub(super) const FILE: &str = "node.yaml";

/// What a member reads. JSON is YAML.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct NodeFile<'a> {
    cluster_id: &'a str,
    shard: u32,
    data_dir: &'static str,
    listen: String,
    health_listen: String,
    metrics_listen: String,
    admin_listen: String,
    peer_listen: String,
    tls_dir: &'static str,
    token_keys: String,
    heartbeat_interval: &'a str,
    election_timeout: &'a str,
    max_batch: u32,
    compress_above: &'a str,
    log_format: &'static str,
}

pub(super) fn build(validated: &Validated) -> ConfigMap {
    let all = |port: u16| format!("0.0.0.0:{port}");
    let replication = &validated.spec.replication;
    let file = NodeFile {
        cluster_id: &validated.cluster_id,
        shard: SHARD,
        data_dir: pod::DATA_DIR,
        listen: all(PORT_DATA),
        health_listen: all(PORT_HEALTH),
        metrics_listen: all(PORT_METRICS),
        admin_listen: all(PORT_ADMIN),
        peer_listen: all(PORT_PEER),
        tls_dir: pod::TLS_DIR,
        token_keys: format!("{}/{}", pod::JWT_DIR, pod::JWKS),
        heartbeat_interval: replication.heartbeat_interval.as_str(),
        election_timeout: replication.election_timeout.as_str(),
        max_batch: replication.max_batch,
        compress_above: replication.compress_above.as_str(),
        log_format: validated.spec.logging.format.as_str(),
    };
    let text = serde_json::to_string_pretty(&file).expect("a struct of texts and numbers is always JSON");
    ConfigMap {
        metadata: metadata(
            validated,
            validated.names.config_map(&hash::short(text.as_bytes())),
            validated.names.labels(),
        ),
        data: Some(BTreeMap::from([(FILE.to_owned(), text)])),
        immutable: Some(true),
        ..ConfigMap::default()
    }
}
