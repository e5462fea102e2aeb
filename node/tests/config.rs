//! The settings of the real program: every one by flag, by variable and by file; what wins; what is refused and how.

use std::process::{Command, Output};

/// As `kvnode join-token` makes them, but for the signature, which is the group's to check.
const JOIN_TOKEN: &str = "e30.eyJpc3MiOiJjIiwiYXVkIjoia3ZmbGVldC1qb2luIiwianRpIjoiNyIsImlhdCI6MSwiZXhwIjoyfQ.c2ln";

/// Each setting: field, flag, variable, a good value, a bad value (none where any text is good).
const SETTINGS: &[(&str, &str, &str, &str, Option<&str>)] = &[
    (
        "clusterId",
        "--cluster-id",
        "KVNODE_CLUSTER_ID",
        "7b0c5a1e-0b7d-4f5c-9d3b-2f6f6c0f7a11",
        Some("7b0c"),
    ),
    ("shard", "--shard", "KVNODE_SHARD", "3", Some("-1")),
    ("name", "--name", "KVNODE_NAME", "prod-s0-1", Some("Prod_1")),
    ("dataDir", "--data-dir", "KVNODE_DATA_DIR", "/srv/kv", Some("")),
    ("listen", "--listen", "KVNODE_LISTEN", "0.0.0.0:11200", Some("11200")),
    (
        "healthListen",
        "--health-listen",
        "KVNODE_HEALTH_LISTEN",
        "0.0.0.0:11201",
        Some("localhost"),
    ),
    (
        "metricsListen",
        "--metrics-listen",
        "KVNODE_METRICS_LISTEN",
        "0.0.0.0:11202",
        Some("x:y"),
    ),
    ("adminListen", "--admin-listen", "KVNODE_ADMIN_LISTEN", "0.0.0.0:11203", Some(":1")),
    (
        "peerListen",
        "--peer-listen",
        "KVNODE_PEER_LISTEN",
        "0.0.0.0:11204",
        Some("a:70000"),
    ),
    (
        "peerAdvertise",
        "--peer-advertise",
        "KVNODE_PEER_ADVERTISE",
        "prod-s0-1.prod-peers.storage.svc:7400",
        Some("prod-s0-1"),
    ),
    ("tlsDir", "--tls-dir", "KVNODE_TLS_DIR", "/etc/tls", Some("")),
    ("tokenKeys", "--token-keys", "KVNODE_TOKEN_KEYS", "/etc/jwks.json", Some("")),
    (
        "heartbeatInterval",
        "--heartbeat-interval",
        "KVNODE_HEARTBEAT_INTERVAL",
        "50ms",
        Some("50"),
    ),
    (
        "electionTimeout",
        "--election-timeout",
        "KVNODE_ELECTION_TIMEOUT",
        "1s500ms",
        Some("100ms"),
    ),
    ("maxBatch", "--max-batch", "KVNODE_MAX_BATCH", "128", Some("0")),
    ("compressAbove", "--compress-above", "KVNODE_COMPRESS_ABOVE", "64Ki", Some("4KB")),
    ("diskReserve", "--disk-reserve", "KVNODE_DISK_RESERVE", "512Mi", Some("512 MB")),
    ("drainDelay", "--drain-delay", "KVNODE_DRAIN_DELAY", "2s", Some("2h")),
    ("logLevel", "--log-level", "KVNODE_LOG_LEVEL", "debug", Some("verbose")),
    ("logFormat", "--log-format", "KVNODE_LOG_FORMAT", "text", Some("xml")),
    (
        "members",
        "--members",
        "KVNODE_MEMBERS",
        "base=h:1,prod-s0-1=h:2,c=h:3",
        Some("base=h:1,b=h:2"),
    ),
    ("bootstrap", "--bootstrap", "KVNODE_BOOTSTRAP", "false", Some("yes")),
    (
        "discover",
        "--discover",
        "KVNODE_DISCOVER",
        "prod-peers.storage.svc:7400",
        Some("prod-peers"),
    ),
    ("joinToken", "--join-token", "KVNODE_JOIN_TOKEN", JOIN_TOKEN, Some("abc")),
    ("selfReplace", "--self-replace", "KVNODE_SELF_REPLACE", "true", Some("maybe")),
    ("dev", "--dev", "KVNODE_DEV", "false", Some("yes")),
];

/// What a member of a cluster cannot do without.
const BASE: &[(&str, &str)] = &[
    ("clusterId", "00000000-0000-4000-8000-000000000001"),
    ("name", "base"),
    ("dataDir", "/base/data"),
    ("tlsDir", "/base/tls"),
    ("tokenKeys", "/base/jwks.json"),
];

/// Runs `kvnode --print-config` with a file of the base fields but those in `file`, which replaces and adds, plus variables and flags.
fn kvnode(file: &[(&str, &str)], variables: &[(&str, &str)], flags: &[String]) -> Output {
    let directory = tempfile::tempdir().expect("a directory");
    let path = directory.path().join("node.yaml");
    let base = BASE.iter().filter(|(field, _)| !file.iter().any(|(other, _)| other == field));
    let lines = base
        .chain(file)
        .map(|(field, value)| format!("{field}: {value:?}\n"))
        .collect::<String>();
    std::fs::write(&path, lines).expect("written");
    let mut command = Command::new(env!("CARGO_BIN_EXE_kvnode"));
    command
        .env_clear()
        .args(["--print-config", "--config"])
        .arg(&path)
        .args(flags)
        .envs(variables.iter().copied());
    command.output().expect("the program starts")
}

fn shown(output: &Output, field: &str) -> String {
    let text = String::from_utf8_lossy(&output.stdout);
    let prefix = format!("{field}: ");
    let line = text
        .lines()
        .find_map(|line| line.strip_prefix(&prefix))
        .unwrap_or_else(|| panic!("{field} is missing: {output:?}"));
    line.to_owned()
}

/// covers rows 40, 94
#[test]
fn every_setting_can_come_from_flag_variable_and_file() {
    for (field, flag, variable, good, _) in SETTINGS {
        // It lets whoever reads it into the group.
        let printed = if *field == "joinToken" { "(hidden)" } else { good };
        let from_file = kvnode(&[(field, good)], &[], &[]);
        assert!(from_file.status.success(), "{field} in the file: {from_file:?}");
        assert!(
            shown(&from_file, field).starts_with(&format!("\"{printed}\"  # file ")),
            "{}",
            shown(&from_file, field)
        );

        let from_variable = kvnode(&[], &[(variable, good)], &[]);
        assert!(from_variable.status.success(), "{variable}: {from_variable:?}");
        assert_eq!(shown(&from_variable, field), format!("\"{printed}\"  # variable {variable}"));

        let from_flag = kvnode(&[], &[], &[format!("{flag}={good}")]);
        assert!(from_flag.status.success(), "{flag}: {from_flag:?}");
        assert_eq!(shown(&from_flag, field), format!("\"{printed}\"  # flag {flag}"));
    }
}

/// covers row 40
#[test]
fn a_bad_value_ends_the_program_with_the_fields_name() {
    for (field, flag, variable, _, bad) in SETTINGS {
        let Some(bad) = bad else { continue };
        let ways = [
            kvnode(&[(field, bad)], &[], &[]),
            kvnode(&[], &[(variable, bad)], &[]),
            kvnode(&[], &[], &[format!("{flag}={bad}")]),
        ];
        for output in ways {
            let message = String::from_utf8_lossy(&output.stderr);
            assert_eq!(output.status.code(), Some(2), "{field} = {bad:?} was accepted: {output:?}");
            assert!(message.starts_with(&format!("kvnode: {field}: {bad:?} (")), "{field}: {message}");
            assert!(!message.contains("panicked"), "{message}");
        }
    }
}

#[test]
fn the_flag_wins_over_the_variable_over_the_file() {
    let flags = ["--shard".to_owned(), "3".to_owned()];
    assert_eq!(
        shown(&kvnode(&[("shard", "1")], &[("KVNODE_SHARD", "2")], &flags), "shard"),
        "\"3\"  # flag --shard"
    );
    assert_eq!(
        shown(&kvnode(&[("shard", "1")], &[("KVNODE_SHARD", "2")], &[]), "shard"),
        "\"2\"  # variable KVNODE_SHARD"
    );
    assert!(shown(&kvnode(&[("shard", "1")], &[], &[]), "shard").starts_with("\"1\"  # file "));
    assert_eq!(shown(&kvnode(&[], &[], &[]), "shard"), "\"0\"  # default");
}

#[test]
fn what_is_unknown_is_named() {
    let output = kvnode(&[("dataDirectory", "/x")], &[], &[]);
    assert_eq!(output.status.code(), Some(2));
    assert!(
        String::from_utf8_lossy(&output.stderr).contains("unknown field `dataDirectory`"),
        "{output:?}"
    );
    let output = kvnode(&[], &[], &["--data-directory=/x".to_owned()]);
    assert_eq!(output.status.code(), Some(2));
    assert!(String::from_utf8_lossy(&output.stderr).contains("--data-directory"), "{output:?}");
}

#[test]
fn what_is_missing_is_named_with_its_three_spellings() {
    for (field, _) in BASE {
        let directory = tempfile::tempdir().expect("a directory");
        let path = directory.path().join("node.yaml");
        let lines = BASE
            .iter()
            .filter(|(other, _)| other != field)
            .map(|(field, value)| format!("{field}: {value}\n"));
        std::fs::write(&path, lines.collect::<String>()).expect("written");
        let output = Command::new(env!("CARGO_BIN_EXE_kvnode"))
            .env_clear()
            .arg("--config")
            .arg(&path)
            .output()
            .expect("starts");
        let message = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(2), "{output:?}");
        assert!(
            message.starts_with(&format!("kvnode: {field}: is required")) && message.contains("KVNODE_"),
            "{message}"
        );
    }
}

#[test]
fn what_does_not_go_together_is_explained() {
    let cases: &[(&[(&str, &str)], &str)] = &[
        (&[("listen", "0.0.0.0:7400")], "both listen on the same address"),
        (&[("bootstrap", "true")], "needs --members"),
        (&[("members", "x=h:1,y=h:2,z=h:3")], "does not list this member"),
        (&[("members", "base=h:1,b=h:2,c=h:2")], "twice"),
        (&[("signingKey", "/k.pem")], "needs --credentials-dir"),
        (&[("credentialsDir", "/k")], "needs --signing-key"),
        (&[("signingKey", "/k.pem"), ("credentialsDir", "/k")], "needs --tenants"),
        (&[("heartbeatInterval", "200ms")], "at least 6 times heartbeatInterval"),
        (&[("dev", "true")], "clusterId: does not go together with dev"),
    ];
    for (file, expected) in cases {
        let output = kvnode(file, &[], &[]);
        let message = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(2), "{file:?} was accepted");
        assert!(message.contains(expected), "{file:?}: {message}");
    }
}

#[test]
fn a_file_that_cannot_be_read_is_named() {
    let output = Command::new(env!("CARGO_BIN_EXE_kvnode"))
        .env_clear()
        .args(["--config", "/nonexistent/node.yaml"])
        .output()
        .expect("starts");
    assert_eq!(output.status.code(), Some(2));
    assert!(
        String::from_utf8_lossy(&output.stderr).contains("/nonexistent/node.yaml"),
        "{output:?}"
    );
}

/// covers row 77
#[test]
fn the_reference_page_is_up_to_date() {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/node-flags.md");
    let page = kvfleet_node::config::markdown();
    if std::env::var_os("KVNODE_BLESS").is_some() {
        std::fs::write(path, &page).expect("written");
    }
    let committed = std::fs::read_to_string(path).expect("the page is committed");
    assert!(
        committed == page,
        "docs/node-flags.md is out of date: run `KVNODE_BLESS=1 cargo test -p kvfleet-node --test config`"
    );
}
