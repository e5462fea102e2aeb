//! The admin port over mTLS: who may do what, and what it answers.

use std::{io, net::SocketAddr, path::Path, sync::Arc};

use kvfleet_node::{cluster_id::ClusterId, tls::TlsDirectory};
use serde_json::json;

use crate::{
    http::{Answer, exchange, request},
    member::{Member, eventually, parts},
};

/// A member alone with its admin port, and certificates for both roles.
struct Admin {
    member: Member,
    address: SocketAddr,
    data: SocketAddr,
    token: String,
    as_operator: TlsDirectory,
    as_member: TlsDirectory,
    // Dropped last: the process writes into it until it is gone.
    _logs: tempfile::TempDir,
}

fn start() -> Admin {
    let logs = tempfile::tempdir().expect("a directory");
    let arguments = [
        "--dev",
        "--data-dir",
        "data",
        "--listen",
        "127.0.0.1:0",
        "--admin-listen",
        "127.0.0.1:0",
        "--log-level",
        "info",
    ];
    let mut member = Member::kvnode(logs.path(), "dev", &arguments);
    let (data, token) = parts(&member.curl_line());
    let address = eventually("the admin port", || {
        let errors = member.errors();
        errors.split_once(" admin=")?.1.split(' ').next()?.parse().ok()
    });
    let certificates = logs.path().join("data/certs");
    let operator = logs.path().join("operator");
    std::fs::create_dir(&operator).expect("made");
    for (from, to) in [("ca.crt", "ca.crt"), ("operator.crt", "tls.crt"), ("operator.key", "tls.key")] {
        std::fs::copy(certificates.join(from), operator.join(to)).expect("copied");
    }
    let cluster = cluster_of(&logs.path().join("data/identity.json"));
    let as_operator = TlsDirectory::open(&operator, cluster).expect("the operator's files");
    let as_member = TlsDirectory::open(&certificates, cluster).expect("the member's files");
    Admin {
        _logs: logs,
        member,
        address,
        data,
        token,
        as_operator,
        as_member,
    }
}

fn cluster_of(identity: &Path) -> ClusterId {
    let identity: serde_json::Value = serde_json::from_slice(&std::fs::read(identity).expect("written")).expect("JSON");
    identity["clusterId"].as_str().expect("text").parse().expect("a UUID")
}

impl Admin {
    fn call(&self, tls: &TlsDirectory, method: &str, path: &str, body: Option<serde_json::Value>) -> io::Result<Answer> {
        let socket = std::net::TcpStream::connect(self.address)?;
        let name = "localhost".try_into().expect("a name");
        let session = rustls::ClientConnection::new(Arc::clone(&tls.client()), name).map_err(io::Error::other)?;
        let body = body.map(|body| body.to_string()).unwrap_or_default();
        exchange(rustls::StreamOwned::new(session, socket), method, path, &[], body.as_bytes())
    }

    fn operator(&self, method: &str, path: &str, body: Option<serde_json::Value>) -> Answer {
        self.call(&self.as_operator, method, path, body).expect("an answer")
    }
}

fn tenant(generation: u64, quota: u64) -> serde_json::Value {
    json!({
        "uid": "uid-1", "owner": "apps/acme", "generation": generation, "clusterGeneration": 1, "credentialGeneration": 1,
        "limits": {"quotaStorage": quota, "quotaKeys": 10, "maxKeyLength": 32, "maxValueSize": 1024, "maxMetadataSize": 64,
                   "ttlDefaultMs": null, "ttlMaxMs": null, "access": "ReadWrite"},
    })
}

/// covers rows 16, 103
#[test]
fn members_stats_and_metrics_answer() {
    let admin = start();
    let members = admin.operator("GET", "/admin/members", None);
    assert_eq!(members.status, 200);
    let report = members.json();
    assert_eq!(
        (report["state"].as_str(), report["role"].as_str(), report["ready"].as_bool()),
        (Some("Member"), Some("Primary"), Some(true)),
        "{report}"
    );
    assert_eq!(report["tenants"], 1);
    assert!(report["storageUsed"].as_u64().is_some_and(|bytes| bytes > 0), "{report}");
    let stats = admin.operator("GET", "/admin/stats", None).json();
    assert_eq!(stats["format"], 1);
    assert!(stats["log"]["fsyncs"].as_u64().is_some_and(|fsyncs| fsyncs > 0), "{stats}");
    let metrics = admin.operator("GET", "/admin/metrics", None);
    assert_eq!(metrics.status, 200);
    assert!(metrics.text().contains("kvfleet_raft_is_leader 1"));
    let nothing = admin.operator("GET", "/admin/nothing", None);
    assert_eq!((nothing.status, nothing.json()["code"].as_str()), (404, Some("route-not-found")));
}

#[test]
fn members_read_and_only_the_operator_writes() {
    let admin = start();
    assert_eq!(
        admin
            .call(&admin.as_member, "GET", "/admin/tenants", None)
            .expect("an answer")
            .status,
        200
    );
    let refused = admin
        .call(&admin.as_member, "PUT", "/admin/tenants/acme", Some(tenant(1, 4096)))
        .expect("an answer");
    assert_eq!(refused.status, 403, "{refused:?}");
    assert_eq!(
        admin.operator("GET", "/admin/tenants/acme", None).status,
        404,
        "nothing was written"
    );
}

/// covers rows 71, 74
#[test]
fn a_stranger_is_not_heard() {
    let admin = start();
    let plain = request(admin.address, "GET", "/admin/members", &[], b"");
    assert!(plain.is_err(), "plain HTTP was answered: {plain:?}");

    let elsewhere = tempfile::tempdir().expect("a directory");
    let made = std::process::Command::new(env!("CARGO_BIN_EXE_kvnode"))
        .args(["certs", "--out"])
        .arg(elsewhere.path())
        .output()
        .expect("starts");
    assert!(made.status.success(), "{made:?}");
    let cluster = String::from_utf8_lossy(&made.stdout).trim().parse().expect("it prints the id");
    let foreign = TlsDirectory::open(elsewhere.path(), cluster).expect("its files");
    let answer = admin.call(&foreign, "GET", "/admin/members", None);
    assert!(answer.is_err(), "another cluster's certificate was answered: {answer:?}");
    eventually("a line about the refusal", || {
        admin
            .member
            .errors()
            .contains("a connection to the admin port was refused")
            .then_some(())
    });
}

#[test]
fn a_tenants_limits_are_in_force_when_the_put_is_answered() {
    let admin = start();
    let put = admin.operator("PUT", "/admin/tenants/acme", Some(tenant(2, 4096)));
    assert_eq!(put.status, 200, "{put:?}");
    let status = put.json();
    let revision = status["revision"].as_u64().expect("a revision");
    assert_eq!(
        (status["state"].as_str(), status["config"]["generation"].as_u64()),
        (Some("Active"), Some(2))
    );

    let same = admin.operator("PUT", "/admin/tenants/acme", Some(tenant(2, 4096))).json();
    assert_eq!(same["revision"].as_u64(), Some(revision), "no change, no revision");
    let stale = admin.operator("PUT", "/admin/tenants/acme", Some(tenant(1, 1)));
    assert_eq!(
        (stale.status, stale.json()["code"].as_str(), stale.json()["pointer"].as_str()),
        (409, Some("conflict"), Some("/generation"))
    );
    let mut other = tenant(9, 1);
    other["uid"] = json!("uid-2");
    other["owner"] = json!("elsewhere/acme");
    let taken = admin.operator("PUT", "/admin/tenants/acme", Some(other));
    assert_eq!((taken.status, taken.json()["code"].as_str()), (409, Some("tenant-name-taken")));

    let mut unknown = tenant(3, 1);
    unknown["limits"]["quota"] = json!(1);
    let refused = admin.operator("PUT", "/admin/tenants/acme", Some(unknown));
    assert_eq!((refused.status, refused.json()["pointer"].as_str()), (400, Some("/limits/quota")));
    let nothing = admin.operator("PUT", "/admin/tenants/acme", None);
    assert_eq!((nothing.status, nothing.json()["code"].as_str()), (400, Some("invalid-body")));

    let gone = admin.operator("DELETE", "/admin/tenants/acme?mode=delete&uid=uid-1", None);
    assert_eq!((gone.status, gone.header("kv-existed")), (204, Some("true")));
    let again = admin.operator("DELETE", "/admin/tenants/acme?mode=delete&uid=uid-1", None);
    assert_eq!((again.status, again.header("kv-existed")), (204, Some("false")));
}

#[test]
fn settings_are_in_force_without_a_restart() {
    let admin = start();
    let mut settings = admin.operator("GET", "/admin/settings", None).json()["settings"].clone();
    settings["generation"] = json!(3);
    settings["logLevel"] = json!("trace");
    settings["scanItems"] = json!(7);
    let put = admin.operator("PUT", "/admin/settings", Some(settings.clone()));
    assert_eq!(put.status, 200, "{put:?}");
    // Consensus tells of every entry at that level.
    eventually("the new log level", || admin.member.errors().contains(" DEBUG ").then_some(()));
    for key in 0..9 {
        let put = request(
            admin.data,
            "PUT",
            &format!("/api/v1/tenants/demo/keys/k{key}"),
            &[("authorization", &format!("Bearer {}", admin.token))],
            b"x",
        );
        assert_eq!(put.expect("an answer").status, 201);
    }
    let page = request(
        admin.data,
        "GET",
        "/api/v1/tenants/demo/keys",
        &[("authorization", &format!("Bearer {}", admin.token))],
        b"",
    )
    .expect("an answer");
    assert_eq!(page.json()["items"].as_array().map(Vec::len), Some(7), "{page:?}");

    settings["scanItems"] = json!(0);
    let refused = admin.operator("PUT", "/admin/settings", Some(settings));
    assert_eq!((refused.status, refused.json()["pointer"].as_str()), (400, Some("/scanItems")));
}

#[test]
fn a_formed_group_is_formed_once() {
    let admin = start();
    let report = admin.operator("GET", "/admin/members", None).json();
    let again = json!({"clusterId": report["clusterId"], "bootstrap": report["id"], "members": report["members"]});
    assert_eq!(
        admin.operator("POST", "/admin/membership/initialize", Some(again.clone())).status,
        204,
        "the same formation is done already"
    );
    let mut other = again.clone();
    other["members"]
        .as_array_mut()
        .expect("a list")
        .push(json!({"id": "17", "name": "b", "peer": "b:1", "voter": true}));
    assert_eq!(admin.operator("POST", "/admin/membership/initialize", Some(other)).status, 409);
    let mut wrong = again;
    wrong["bootstrap"] = json!("17");
    assert_eq!(admin.operator("POST", "/admin/membership/initialize", Some(wrong)).status, 409);
}
