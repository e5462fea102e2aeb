//! Three bare processes, started by the script of `examples/standalone`.

use std::{
    net::SocketAddr,
    path::{Path, PathBuf},
    process::{Command, ExitStatus},
    sync::atomic::{AtomicBool, AtomicUsize, Ordering},
    time::{Duration, Instant},
};

use kvfleet_node::tls::TlsDirectory;

use crate::{
    http::{Answer, exchange, request},
    member::{Member, eventually, free_ports},
};

pub const NAMES: [&str; 3] = ["a", "b", "c"];

/// Three members on this machine.
pub struct Cluster {
    base: u16,
    variables: Vec<(&'static str, &'static str)>,
    pub members: Vec<Option<Member>>,
    pub token: String,
    // Dropped last: the processes write into it until they are gone.
    directory: tempfile::TempDir,
}

impl Cluster {
    pub fn start(drain_delay: &'static str) -> Cluster {
        Cluster::start_with(drain_delay, &[])
    }

    /// With these variables for every member.
    pub fn start_with(drain_delay: &'static str, variables: &[(&'static str, &'static str)]) -> Cluster {
        Cluster::with(&[&[("KVNODE_DRAIN_DELAY", drain_delay)], variables].concat())
    }

    /// With these variables set for every member.
    fn with(variables: &[(&'static str, &'static str)]) -> Cluster {
        let directory = tempfile::tempdir().expect("a directory");
        let base = free_ports(40);
        let mut cluster = Cluster {
            directory,
            base,
            variables: variables.to_vec(),
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

    pub fn start_member(&mut self, number: usize) {
        self.start_member_with(number, &[]);
    }

    /// With these variables beside those of every member.
    pub fn start_member_with(&mut self, number: usize, more: &[(&str, &str)]) {
        let name = NAMES[number];
        let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("../examples/standalone/member");
        let mut command = Command::new(script);
        command
            .arg(name)
            .env("KVNODE", env!("CARGO_BIN_EXE_kvnode"))
            .env("KVFLEET_DIR", self.directory.path().join("data"))
            .env("KVFLEET_PORT", self.base.to_string())
            // The tests want no more than a few MB, however full the machine is.
            .env("KVNODE_DISK_RESERVE", "1Mi")
            .envs(self.variables.iter().copied())
            .envs(more.iter().copied());
        self.members[number] = Some(Member::start(self.directory.path(), name, &mut command));
    }

    pub fn port(&self, number: usize, offset: u16) -> SocketAddr {
        let member = u16::try_from(number).expect("three members") + 1;
        ([127, 0, 0, 1], self.base + 10 * member + offset).into()
    }

    pub fn wait_ready(&self, number: usize) {
        let health = self.port(number, 1);
        eventually("a ready member", || {
            request(health, "GET", "/readyz", &[], b"")
                .ok()
                .filter(|answer| answer.status == 200)
        });
    }

    pub fn call(&self, number: usize, method: &str, key: &str, body: &str) -> std::io::Result<Answer> {
        let headers = [("authorization", &*format!("Bearer {}", self.token))];
        request(
            self.port(number, 0),
            method,
            &format!("/api/v1/tenants/acme/keys/{key}"),
            &headers,
            body.as_bytes(),
        )
    }

    pub fn log_of(&self, number: usize) -> String {
        std::fs::read_to_string(self.directory.path().join(format!("{}.err", NAMES[number]))).expect("its log")
    }

    /// Certificates, keys, and a directory for each member.
    pub fn home(&self) -> PathBuf {
        self.directory.path().join("data")
    }

    pub fn data_dir(&self, number: usize) -> PathBuf {
        self.home().join(NAMES[number])
    }

    pub fn cluster_id(&self) -> String {
        std::fs::read_to_string(self.home().join("cluster-id"))
            .expect("the cluster's id")
            .trim()
            .to_owned()
    }

    /// Ends a member as a power cut does.
    pub fn kill(&mut self, number: usize) {
        let mut killed = self.members[number].take().expect("it runs");
        killed.signal("KILL");
        killed.wait();
    }

    /// Ends a member in good order.
    pub fn end(&mut self, number: usize) -> (ExitStatus, Duration) {
        self.members[number].take().expect("it runs").end()
    }

    /// A call of a member's admin port with the operator's certificate.
    pub fn admin(&self, number: usize, method: &str, path: &str) -> Answer {
        let certificates = self.directory.path().join("data/certs");
        let operator = self.directory.path().join("operator");
        std::fs::create_dir_all(&operator).expect("made");
        for (from, to) in [("ca.crt", "ca.crt"), ("operator.crt", "tls.crt"), ("operator.key", "tls.key")] {
            std::fs::copy(certificates.join(from), operator.join(to)).expect("copied");
        }
        let id = std::fs::read_to_string(self.directory.path().join("data/cluster-id")).expect("the cluster's id");
        let tls = TlsDirectory::open(&operator, id.trim().parse().expect("a UUID")).expect("the operator's files");
        eventually("an answer of the admin port", || {
            let socket = std::net::TcpStream::connect(self.port(number, 3)).ok()?;
            let name = "localhost".try_into().expect("a name");
            let session = rustls::ClientConnection::new(tls.client(), name).expect("a session");
            exchange(rustls::StreamOwned::new(session, socket), method, path, &[], b"").ok()
        })
    }

    /// The number of the member whose metrics say that it leads.
    pub fn leader(&self) -> usize {
        eventually("a leader", || {
            (0..3).find(|number| {
                let scraped = request(self.port(*number, 2), "GET", "/metrics", &[], b"");
                scraped.is_ok_and(|answer| answer.text().contains("kvfleet_raft_is_leader 1"))
            })
        })
    }

    /// Writes through the members that `through` names, one after the other, until one has acknowledged; every key so written is kept.
    pub fn write_until_acknowledged(&self, through: &[usize], key: &str) -> Duration {
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
    let mut cluster = Cluster::start("0s");
    for (number, name) in NAMES.iter().enumerate() {
        let put = cluster.call(number, "PUT", &format!("through-{number}"), "v").expect("an answer");
        assert_eq!(put.status, 201, "through {name}: {put:?}");
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

/// What one writer saw: when each write was acknowledged, and what was not.
#[derive(Default)]
struct Seen {
    acknowledged: Vec<Instant>,
    keys: Vec<String>,
    failed: Vec<String>,
}

/// covers row 55
#[test]
fn sigterm_on_the_leader_under_load_fails_no_request() {
    let mut cluster = Cluster::start("2s");
    let leader = cluster.leader();
    let leaving = cluster.members[leader].take().expect("it runs");
    let stop = AtomicBool::new(false);
    let acknowledged = AtomicUsize::new(0);
    let shared = &cluster;
    let seen: Vec<Seen> = std::thread::scope(|scope| {
        let write = |writer: usize| {
            let mut seen = Seen::default();
            // As a load balancer does: the member that leaves is used until it says that it is not ready.
            let mut through = writer % 3;
            for count in 0.. {
                if stop.load(Ordering::Relaxed) {
                    break;
                }
                let ready = request(shared.port(through, 1), "GET", "/readyz", &[], b"").is_ok_and(|answer| answer.status == 200);
                if !ready && through == leader {
                    through = (leader + 1) % 3;
                }
                let key = format!("w{writer}-{count}");
                match shared.call(through, "PUT", &key, "v") {
                    Ok(answer) if answer.status == 201 => {
                        seen.acknowledged.push(Instant::now());
                        acknowledged.fetch_add(1, Ordering::Relaxed);
                        seen.keys.push(key);
                    }
                    other => seen.failed.push(format!("through {}: {other:?}", NAMES[through])),
                }
            }
            seen
        };
        let writers: Vec<_> = (0..6).map(|writer| scope.spawn(move || write(writer))).collect();
        let more = |count: usize| {
            let wanted = acknowledged.load(Ordering::Relaxed) + count;
            eventually("more writes", || (acknowledged.load(Ordering::Relaxed) >= wanted).then_some(()));
        };
        more(50);
        let (status, took) = leaving.end();
        assert_eq!(status.code(), Some(0));
        assert!(took > Duration::from_secs(2) && took < Duration::from_secs(10), "{took:?}");
        more(50);
        stop.store(true, Ordering::Relaxed);
        writers.into_iter().map(|writer| writer.join().expect("no panic")).collect()
    });

    let failed: Vec<&String> = seen.iter().flat_map(|seen| &seen.failed).collect();
    assert!(failed.is_empty(), "{} writes failed: {failed:?}", failed.len());
    let mut moments: Vec<Instant> = seen.iter().flat_map(|seen| seen.acknowledged.iter().copied()).collect();
    moments.sort();
    let gap = moments.windows(2).map(|pair| pair[1] - pair[0]).max().expect("many writes");
    println!("{} writes, largest gap between two acknowledgements {gap:?}", moments.len());
    // An election takes 0.9 s at least: so there was none.
    assert!(gap < Duration::from_millis(700), "nobody was answered for {gap:?}");
    let other = (leader + 1) % 3;
    for key in seen.iter().flat_map(|seen| &seen.keys).step_by(17) {
        assert_eq!(cluster.call(other, "GET", key, "").expect("an answer").status, 200, "{key} is gone");
    }
    assert!(
        cluster.log_of(leader).contains("leadership handed over"),
        "{}",
        cluster.log_of(leader)
    );
}

/// What a member has sent to the others, and what that was before compression.
fn sent(cluster: &Cluster, number: usize) -> (u64, u64) {
    let scraped = request(cluster.port(number, 2), "GET", "/metrics", &[], b"")
        .expect("a scrape")
        .text();
    let figure = |name: &str| {
        let line = scraped.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
        line.unwrap_or_else(|| panic!("{name} is missing in:\n{scraped}"))
            .parse::<u64>()
            .expect("a number")
    };
    (
        figure("kvfleet_peer_sent_bytes_total"),
        figure("kvfleet_peer_sent_uncompressed_bytes_total"),
    )
}

/// covers row 117
#[test]
fn replication_is_compressed_above_the_threshold_and_only_if_that_is_wanted() {
    const VALUE: usize = 200_000;
    for (above, compressed) in [("4Ki", true), ("0", false), ("1Mi", false)] {
        let cluster = Cluster::with(&[("KVNODE_COMPRESS_ABOVE", above), ("KVNODE_DRAIN_DELAY", "0s")]);
        let leader = cluster.leader();
        let before = sent(&cluster, leader);
        for number in 0..5 {
            let put = cluster.call(
                leader,
                "PUT",
                &format!("text-{number}"),
                &"a text that repeats itself; ".repeat(VALUE / 28),
            );
            assert_eq!(put.expect("an answer").status, 201);
        }
        for number in 0..3 {
            let read = cluster.call(number, "GET", "text-4", "").expect("an answer");
            assert_eq!(read.body.len(), VALUE / 28 * 28, "through {number}");
        }
        let after = sent(&cluster, leader);
        let (wire, plain) = (after.0 - before.0, after.1 - before.1);
        println!("compressAbove {above}: {wire} bytes sent for {plain}");
        // A quorum has them for certain: one other member.
        assert!(plain > 5 * VALUE as u64 * 9 / 10, "{above}: {plain}");
        if compressed {
            assert!(wire < plain / 5, "{above}: {wire} bytes sent for {plain}");
        } else {
            assert_eq!(wire, plain, "{above}");
        }
    }
}
