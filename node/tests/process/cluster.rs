//! Three bare processes, started by the script of `examples/standalone`.

use std::{
    net::SocketAddr,
    path::{Path, PathBuf},
    process::Command,
    time::{Duration, Instant},
};

use crate::{
    http::{Answer, request},
    member::{Member, eventually, free_ports},
};

const NAMES: [&str; 3] = ["a", "b", "c"];

struct Cluster {
    base: u16,
    members: Vec<Option<Member>>,
    token: String,
    // Dropped last: the processes write into it until they are gone.
    directory: tempfile::TempDir,
}

impl Cluster {
    fn start() -> Cluster {
        let directory = tempfile::tempdir().expect("a directory");
        let base = free_ports(40);
        let mut cluster = Cluster {
            directory,
            base,
            members: vec![None, None, None],
            token: String::new(),
        };
        for number in 0..3 {
            cluster.start_member(number);
        }
        let path = cluster.directory.path().join("data/tokens/acme.token");
        cluster.token = eventually("acme's token", || std::fs::read_to_string(&path).ok()).trim().to_owned();
        for number in 0..3 {
            cluster.wait_ready(number);
        }
        cluster
    }

    fn start_member(&mut self, number: usize) {
        let name = NAMES[number];
        let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("../examples/standalone/member");
        let mut command = Command::new(script);
        command
            .arg(name)
            .env("KVNODE", env!("CARGO_BIN_EXE_kvnode"))
            .env("KVFLEET_DIR", self.directory.path().join("data"))
            .env("KVFLEET_PORT", self.base.to_string());
        self.members[number] = Some(Member::start(self.directory.path(), name, &mut command));
    }

    fn port(&self, number: usize, offset: u16) -> SocketAddr {
        let member = u16::try_from(number).expect("three members") + 1;
        ([127, 0, 0, 1], self.base + 10 * member + offset).into()
    }

    fn wait_ready(&self, number: usize) {
        let health = self.port(number, 1);
        eventually("a ready member", || {
            request(health, "GET", "/readyz", &[], b"")
                .ok()
                .filter(|answer| answer.status == 200)
        });
    }

    fn call(&self, number: usize, method: &str, key: &str, body: &str) -> std::io::Result<Answer> {
        let headers = [("authorization", &*format!("Bearer {}", self.token))];
        request(
            self.port(number, 0),
            method,
            &format!("/api/v1/tenants/acme/keys/{key}"),
            &headers,
            body.as_bytes(),
        )
    }

    /// The number of the member whose metrics say that it leads.
    fn leader(&self) -> usize {
        eventually("a leader", || {
            (0..3).find(|number| {
                let scraped = request(self.port(*number, 2), "GET", "/metrics", &[], b"");
                scraped.is_ok_and(|answer| answer.text().contains("kvfleet_raft_is_leader 1"))
            })
        })
    }

    /// Writes through the members that `through` names, one after the other, until one has acknowledged; every key so written is kept.
    fn write_until_acknowledged(&self, through: &[usize], key: &str) -> Duration {
        let begun = Instant::now();
        eventually("an acknowledged write", || {
            through
                .iter()
                .find_map(|number| self.call(*number, "PUT", key, key).ok().filter(|answer| answer.status < 300))
        });
        begun.elapsed()
    }
}

/// covers rows 68, 69, 70, 106, 108
#[test]
fn three_processes_survive_the_loss_of_their_leader() {
    let mut cluster = Cluster::start();
    for number in 0..3 {
        let put = cluster.call(number, "PUT", &format!("through-{number}"), "v").expect("an answer");
        assert_eq!(put.status, 201, "through {}: {put:?}", NAMES[number]);
    }
    for number in 0..3 {
        for key in 0..3 {
            assert_eq!(
                cluster
                    .call(number, "GET", &format!("through-{key}"), "")
                    .expect("an answer")
                    .text(),
                "v"
            );
        }
    }

    let leader = cluster.leader();
    let mut killed = cluster.members[leader].take().expect("it runs");
    killed.signal("KILL");
    killed.wait();
    let others: Vec<usize> = (0..3).filter(|number| *number != leader).collect();
    let mut acknowledged = Vec::new();
    for count in 0..20 {
        let key = format!("after-{count}");
        cluster.write_until_acknowledged(&others, &key);
        acknowledged.push(key);
    }

    cluster.start_member(leader);
    cluster.wait_ready(leader);
    for key in &acknowledged {
        assert_eq!(
            cluster.call(leader, "GET", key, "").expect("an answer").text(),
            *key,
            "through the member that came back"
        );
    }
    assert_eq!(cluster.call(leader, "GET", "through-0", "").expect("an answer").text(), "v");
}

/// covers row 55
#[test]
fn sigterm_on_the_leader_loses_no_request() {
    let mut cluster = Cluster::start();
    let leader = cluster.leader();
    let others: Vec<usize> = (0..3).filter(|number| *number != leader).collect();
    let through = others[0];
    let leaving = cluster.members[leader].take().expect("it runs");
    leaving.signal("TERM");
    // Clients of the other members see a pause at most: every call is answered, and answered well.
    let mut longest = Duration::ZERO;
    for count in 0..200 {
        let begun = Instant::now();
        let put = cluster.call(through, "PUT", &format!("k{count}"), "v").expect("an answer");
        assert_eq!(put.status, 201, "{put:?}");
        longest = longest.max(begun.elapsed());
    }
    let mut leaving = leaving;
    assert_eq!(leaving.wait().code(), Some(0));
    // An election takes 0.9 s at least: so this was none.
    assert!(longest < Duration::from_millis(800), "a write took {longest:?}");
    let log = std::fs::read_to_string(log_of(&cluster, leader)).expect("its log");
    assert!(log.contains("leadership handed over"), "{log}");
}

fn log_of(cluster: &Cluster, number: usize) -> PathBuf {
    cluster.directory.path().join(format!("{}.err", NAMES[number]))
}
