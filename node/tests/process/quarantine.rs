//! A member that cannot vouch for its data: it stays up, says why, and takes no part.

use std::path::Path;

use crate::{cluster::Cluster, http::request, member::eventually};

/// Spoils the newest record that the log of this member holds, as a disk that loses a sector does.
pub fn damage_log(data_dir: &Path) {
    let dumped = std::process::Command::new(env!("CARGO_BIN_EXE_kvnode"))
        .args(["dump-log", "--data-dir"])
        .arg(data_dir)
        .output()
        .expect("the program starts");
    let lines = String::from_utf8(dumped.stdout).expect("text");
    let entries: Vec<serde_json::Value> = lines
        .lines()
        .map(|line| serde_json::from_str(line).expect("JSON"))
        .filter(|line: &serde_json::Value| line["index"].is_u64())
        .collect();
    let entry = &entries[entries.len() / 2];
    let segment = data_dir.join("raft").join(entry["segment"].as_str().expect("a name"));
    let offset = usize::try_from(entry["offset"].as_u64().expect("a number")).expect("small");
    let mut bytes = std::fs::read(&segment).expect("the segment");
    bytes[offset..offset + 16].fill(0);
    std::fs::write(&segment, bytes).expect("written");
}

/// covers rows 41, 111
#[test]
fn a_damaged_log_is_quarantined_and_never_votes() {
    let mut cluster = Cluster::start("0s");
    let mut keys = Vec::new();
    for count in 0..20 {
        let key = format!("k{count}");
        cluster.write_until_acknowledged(&[0, 1, 2], &key);
        keys.push(key);
    }
    let leader = cluster.leader();
    let victim = (leader + 1) % 3;
    let other = (leader + 2) % 3;
    cluster.kill(victim);
    damage_log(&cluster.data_dir(victim));
    cluster.start_member(victim);

    let not_ready = eventually("the reason on the health port", || {
        let answer = request(cluster.port(victim, 1), "GET", "/readyz", &[], b"").ok()?;
        answer.text().contains("quarantined").then_some(answer)
    });
    assert_eq!((not_ready.status, not_ready.json()["code"].as_str()), (503, Some("quarantined")));
    assert!(not_ready.text().contains("damaged in"), "{not_ready:?}");
    for path in ["/livez", "/startupz"] {
        assert_eq!(
            request(cluster.port(victim, 1), "GET", path, &[], b"").expect("an answer").status,
            200,
            "{path}"
        );
    }
    let scraped = request(cluster.port(victim, 2), "GET", "/metrics", &[], b"")
        .expect("an answer")
        .text();
    assert!(
        scraped.contains("kvfleet_quarantined 1") && !scraped.contains("kvfleet_raft_term"),
        "{scraped}"
    );
    let refused = cluster.call(victim, "GET", "k0", "").expect("an answer");
    assert_eq!((refused.status, refused.json()["code"].as_str()), (503, Some("quarantined")));

    let report = cluster.admin(victim, "GET", "/admin/members");
    assert_eq!((report.status, report.json()["state"].as_str()), (200, Some("Quarantined")));
    assert!(
        report.json()["reason"].as_str().is_some_and(|reason| reason.contains("damaged in")),
        "{report:?}"
    );
    assert_eq!(cluster.admin(victim, "GET", "/admin/stats").json()["state"], "Quarantined");
    let write = cluster.admin(victim, "PUT", "/admin/tenants/acme");
    assert_eq!((write.status, write.json()["code"].as_str()), (503, Some("quarantined")));

    // The two others hold everything, and lose their quorum when one of them goes: the quarantined one helps nobody to be elected.
    for key in &keys {
        assert_eq!(cluster.call(other, "GET", key, "").expect("an answer").text(), *key);
    }
    cluster.kill(leader);
    // It waits for a leader as long as a request may take: several elections.
    let refused = cluster.call(other, "PUT", "nobody", "v").expect("an answer");
    assert!(matches!(refused.status, 503 | 504), "{refused:?}");
    let scraped = request(cluster.port(other, 2), "GET", "/metrics", &[], b"")
        .expect("an answer")
        .text();
    assert!(scraped.contains("kvfleet_raft_is_leader 0"), "{scraped}");
    cluster.start_member(leader);
    cluster.wait_ready(leader);
    cluster.wait_ready(other);
    for key in &keys {
        assert_eq!(cluster.call(other, "GET", key, "").expect("an answer").text(), *key);
    }

    let (status, _) = cluster.end(victim);
    assert_eq!(status.code(), Some(0), "SIGTERM ends a quarantined member well");
}
