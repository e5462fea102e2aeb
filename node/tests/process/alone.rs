//! One member alone: `kvnode --dev`, and a name with a data directory.

use std::{net::SocketAddr, process::Command, time::Duration};

use crate::{
    http::{Answer, request},
    member::{Member, eventually, parts},
};

const KEY: &str = "/api/v1/tenants/demo/keys/a";

fn call(address: SocketAddr, token: &str, method: &str, body: &[u8]) -> Answer {
    request(address, method, KEY, &[("authorization", &format!("Bearer {token}"))], body).expect("an answer")
}

fn directory() -> tempfile::TempDir {
    tempfile::tempdir().expect("a directory")
}

#[test]
fn the_pasted_curl_line_works_and_sigterm_ends_well() {
    let logs = directory();
    let mut member = Member::kvnode(logs.path(), "dev", &["--dev", "--listen", "127.0.0.1:0"]);
    let line = member.curl_line();
    let pasted = Command::new("sh")
        .args(["-c", &format!("{line} --fail --silent --show-error")])
        .output()
        .expect("sh");
    assert!(pasted.status.success(), "{line}: {pasted:?}");
    assert_eq!(member.output().lines().filter(|line| line.starts_with("curl ")).count(), 1);
    let (address, token) = parts(&line);
    let answer = request(
        address,
        "GET",
        "/api/v1/tenants/demo/keys/greeting",
        &[("authorization", &format!("Bearer {token}"))],
        b"",
    );
    assert_eq!(answer.expect("an answer").text(), "hello");

    let data = member
        .output()
        .split_once("data in ")
        .and_then(|(_, rest)| Some(rest.split_once(" (")?.0.to_owned()))
        .expect("the directory");
    assert!(std::path::Path::new(&data).exists(), "{data}");
    let (status, took) = member.end();
    assert_eq!(status.code(), Some(0));
    assert!(took < Duration::from_secs(5), "{took:?}");
    assert!(!std::path::Path::new(&data).exists(), "{data} is still there");
}

/// covers row 107
#[test]
fn a_name_and_an_address_are_enough() {
    let logs = directory();
    let mut member = Member::kvnode(logs.path(), "a", &["--name", "a", "--listen", "localhost:0"]);
    let (address, token) = parts(&member.curl_line());
    assert_eq!(call(address, &token, "PUT", b"1").status, 201);
    assert!(logs.path().join("kvnode-a/identity.json").exists());
    assert_eq!(member.end().0.code(), Some(0));
    let mut again = Member::kvnode(logs.path(), "again", &["--name", "a", "--listen", "localhost:0"]);
    let (address, token) = parts(&again.curl_line());
    assert_eq!(call(address, &token, "GET", b"").text(), "1");
}

/// covers row 73
#[test]
fn what_was_acknowledged_survives_kill_9_again_and_again() {
    let logs = directory();
    let arguments = ["--dev", "--data-dir", "data", "--listen", "127.0.0.1:0"];
    let mut first_token = None;
    for round in 0..3_u32 {
        let mut member = Member::kvnode(logs.path(), &format!("round{round}"), &arguments);
        let (address, token) = parts(&member.curl_line());
        // The key that signs tokens is kept too: a token goes on to work.
        let token = first_token.get_or_insert(token);
        if round > 0 {
            assert_eq!(call(address, token, "GET", b"").text(), format!("value {}", round - 1));
        }
        let put = call(address, token, "PUT", format!("value {round}").as_bytes());
        assert_eq!(put.status, if round == 0 { 201 } else { 204 }, "{put:?}");
        member.signal("KILL");
        assert_eq!(member.wait().code(), None, "killed, not ended");
    }
}

/// covers rows 25, 41
#[test]
fn health_and_metrics_have_their_own_ports() {
    let logs = directory();
    let arguments = [
        "--dev",
        "--listen",
        "127.0.0.1:0",
        "--health-listen",
        "127.0.0.1:0",
        "--metrics-listen",
        "127.0.0.1:0",
        "--log-level",
        "info",
    ];
    let mut member = Member::kvnode(logs.path(), "dev", &arguments);
    let (data, token) = parts(&member.curl_line());
    let health = member.logged("health");
    for path in ["/livez", "/readyz", "/startupz"] {
        let answer = request(health, "GET", path, &[], b"").expect("an answer");
        assert_eq!((answer.status, answer.text().as_str()), (200, "ok\n"), "{path}");
        assert_eq!(
            request(data, "GET", path, &[], b"").expect("an answer").status,
            404,
            "{path} on the data port"
        );
    }
    for path in ["/", "/metrics", "/api/v1/whoami"] {
        let answer = request(health, "GET", path, &[], b"").expect("an answer");
        assert_eq!(
            (answer.status, answer.header("content-type")),
            (404, Some("application/problem+json")),
            "{path}"
        );
    }
    let answer = request(health, "POST", "/livez", &[], b"").expect("an answer");
    assert_eq!((answer.status, answer.json()["code"].as_str()), (405, Some("method-not-allowed")));

    assert_eq!(call(data, &token, "PUT", b"x").status, 201);
    assert_eq!(call(data, "nonsense", "GET", b"").status, 401);
    let metrics = request(member.logged("metrics"), "GET", "/metrics", &[], b"").expect("an answer");
    assert_eq!(metrics.status, 200);
    let text = metrics.text();
    for part in [
        "kvfleet_raft_is_leader 1",
        "kvfleet_ready 1",
        "kvfleet_log_fsyncs_total",
        "method=\"PUT\",status=\"201\"",
        "code=\"token-invalid\"",
    ] {
        assert!(text.contains(part), "`{part}` is missing in:\n{text}");
    }
}

#[test]
fn a_second_process_on_the_same_data_waits_and_may_be_ended() {
    let logs = directory();
    let mut first = Member::kvnode(logs.path(), "first", &["--dev", "--data-dir", "data", "--listen", "127.0.0.1:0"]);
    first.curl_line();
    let second = Member::kvnode(logs.path(), "second", &["--dev", "--data-dir", "data", "--listen", "127.0.0.1:0"]);
    eventually("the line about waiting", || {
        second.errors().contains("another process uses the data directory").then_some(())
    });
    let (status, took) = second.end();
    assert_eq!(status.code(), Some(0));
    assert!(took < Duration::from_secs(2), "{took:?}");

    let mut third = Member::kvnode(logs.path(), "third", &["--dev", "--data-dir", "data", "--listen", "127.0.0.1:0"]);
    eventually("the line about waiting", || {
        third.errors().contains("another process uses the data directory").then_some(())
    });
    first.signal("KILL");
    first.wait();
    third.curl_line();
}

#[test]
fn a_taken_port_is_named() {
    let logs = directory();
    let taken = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = taken.local_addr().expect("its address").to_string();
    let mut member = Member::kvnode(logs.path(), "dev", &["--dev", "--listen", &address]);
    assert_eq!(member.wait().code(), Some(1));
    assert!(
        member.errors().contains(&format!("listen: cannot listen on {address}")),
        "{}",
        member.errors()
    );
}

/// covers row 119
#[test]
fn another_clusters_directory_stops_the_start() {
    let logs = directory();
    let mut alone = Member::kvnode(logs.path(), "alone", &["--dev", "--data-dir", "data", "--listen", "127.0.0.1:0"]);
    alone.curl_line();
    assert_eq!(alone.end().0.code(), Some(0));
    let other = "00000000-0000-4000-8000-00000000000f";
    let arguments = [
        "--cluster-id",
        other,
        "--name",
        "a",
        "--data-dir",
        "data",
        "--tls-dir",
        "data/certs",
        "--token-keys",
        "data/certs/jwks.json",
        "--listen",
        "127.0.0.1:0",
        "--health-listen",
        "127.0.0.1:0",
        "--metrics-listen",
        "127.0.0.1:0",
        "--admin-listen",
        "127.0.0.1:0",
        "--peer-listen",
        "127.0.0.1:0",
    ];
    let mut member = Member::kvnode(logs.path(), "other", &arguments);
    assert_eq!(member.wait().code(), Some(1));
    let errors = member.errors();
    assert!(errors.contains("belongs to cluster") && errors.contains(other), "{errors}");
}

/// covers row 18
#[test]
fn the_log_is_json_and_names_tenant_code_and_trace() {
    let logs = directory();
    let arguments = ["--dev", "--listen", "127.0.0.1:0", "--log-format", "json", "--log-level", "info"];
    let mut member = Member::kvnode(logs.path(), "dev", &arguments);
    let (data, token) = parts(&member.curl_line());
    let refused = request(
        data,
        "GET",
        "/api/v1/tenants/demo/keys/a?misspelled=1",
        &[("authorization", &format!("Bearer {token}"))],
        b"",
    )
    .expect("an answer");
    assert_eq!(refused.status, 400);
    let trace = refused.json()["trace_id"].as_str().expect("a trace id").to_owned();
    eventually("a line with the trace id", || {
        let errors = member.errors();
        let lines: Vec<serde_json::Value> = errors
            .lines()
            .map(|line| serde_json::from_str(line).unwrap_or_else(|_| panic!("no JSON: {line}")))
            .collect();
        let line = lines.into_iter().find(|line| line["trace_id"] == trace.as_str())?;
        assert_eq!(
            (line["code"].as_str(), line["tenant"].as_str()),
            (Some("invalid-parameter"), Some("demo")),
            "{line}"
        );
        Some(())
    });
    assert!(!member.errors().contains(&token), "the token is in the log");
}
