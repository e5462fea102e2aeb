//! Bare processes whose group grows, loses a member with its disk, and shrinks, through the admin port, while a client writes.

use std::{
    io,
    net::SocketAddr,
    path::PathBuf,
    process::Command,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
};

use kvfleet_node::tls::TlsDirectory;
use serde_json::{Value, json};

use crate::{
    http::{Answer, exchange, request},
    member::{Member, eventually, free_ports},
};

/// Data, health, metrics, admin and peer port of each seat.
const PORTS: u16 = 5;

struct Fleet {
    base: u16,
    cluster: String,
    operator: TlsDirectory,
    seats: Vec<Option<Member>>,
    token: String,
    // Dropped last: the processes write into it until they are gone.
    directory: tempfile::TempDir,
}

impl Fleet {
    /// A group of one, which listens for others.
    fn of_one() -> Fleet {
        let directory = tempfile::tempdir().expect("a directory");
        let made = Command::new(env!("CARGO_BIN_EXE_kvnode"))
            .args(["certs", "--out"])
            .arg(directory.path().join("certs"))
            .output()
            .expect("starts");
        assert!(made.status.success(), "{made:?}");
        let cluster = String::from_utf8_lossy(&made.stdout).trim().to_owned();
        let as_operator = directory.path().join("operator");
        std::fs::create_dir(&as_operator).expect("made");
        for (from, to) in [("ca.crt", "ca.crt"), ("operator.crt", "tls.crt"), ("operator.key", "tls.key")] {
            std::fs::copy(directory.path().join("certs").join(from), as_operator.join(to)).expect("copied");
        }
        let operator = TlsDirectory::open(&as_operator, cluster.parse().expect("an id")).expect("the operator's files");
        std::fs::write(directory.path().join("tenants.yaml"), "tenants:\n  - name: acme\n").expect("written");
        let mut fleet = Fleet {
            base: free_ports(4 * PORTS),
            cluster,
            operator,
            seats: vec![None, None, None],
            token: String::new(),
            directory,
        };
        fleet.start(0);
        let token = fleet.path("tokens/acme.token");
        fleet.token = eventually("acme's token", || std::fs::read_to_string(&token).ok())
            .trim()
            .to_owned();
        fleet
    }

    fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    fn address(&self, seat: usize, port: u16) -> SocketAddr {
        let seat = u16::try_from(seat).expect("a few seats");
        ([127, 0, 0, 1], self.base + PORTS * seat + port).into()
    }

    fn start(&mut self, seat: usize) {
        let name = format!("m{seat}");
        let mut arguments = vec![
            "--cluster-id".to_owned(),
            self.cluster.clone(),
            "--name".to_owned(),
            name.clone(),
            "--data-dir".to_owned(),
            self.path(&name).display().to_string(),
            "--tls-dir".to_owned(),
            self.path("certs").display().to_string(),
            "--token-keys".to_owned(),
            self.path("certs/jwks.json").display().to_string(),
            "--drain-delay".to_owned(),
            "0s".to_owned(),
            "--log-format".to_owned(),
            "text".to_owned(),
        ];
        for (port, flag) in (0..).zip(["listen", "health-listen", "metrics-listen", "admin-listen", "peer-listen"]) {
            arguments.extend([format!("--{flag}"), self.address(seat, port).to_string()]);
        }
        if seat == 0 {
            arguments.extend([
                "--members".to_owned(),
                format!("m0={}", self.address(0, 4)),
                "--bootstrap=true".to_owned(),
                "--signing-key".to_owned(),
                self.path("certs/jwt.pem").display().to_string(),
                "--tenants".to_owned(),
                self.path("tenants.yaml").display().to_string(),
                "--credentials-dir".to_owned(),
                self.path("tokens").display().to_string(),
            ]);
        }
        let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
        self.seats[seat] = Some(Member::kvnode(self.directory.path(), &name, &arguments));
    }

    fn call(&self, seat: usize, method: &str, path: &str, body: Option<Value>) -> io::Result<Answer> {
        let socket = std::net::TcpStream::connect(self.address(seat, 3))?;
        let name = "localhost".try_into().expect("a name");
        let session = rustls::ClientConnection::new(Arc::clone(&self.operator.client()), name).map_err(io::Error::other)?;
        let body = body.map(|body| body.to_string()).unwrap_or_default();
        exchange(rustls::StreamOwned::new(session, socket), method, path, &[], body.as_bytes())
    }

    fn report(&self, seat: usize) -> Option<Value> {
        let answer = self.call(seat, "GET", "/admin/members", None).ok()?;
        (answer.status == 200).then(|| answer.json())
    }

    /// The id of a member that says that it is blank.
    fn blank(&self, seat: usize) -> String {
        eventually("a blank member", || {
            let report = self.report(seat)?;
            (report["state"] == "Blank").then(|| report["id"].as_str().expect("an id").to_owned())
        })
    }

    fn new_member(&self, seat: usize, id: &str) -> Value {
        json!({"id": id, "name": format!("m{seat}"), "peer": self.address(seat, 4).to_string()})
    }

    /// Repeats a call until it is answered as done.
    fn until_done(&self, seat: usize, method: &str, path: &str, body: Option<&Value>) -> Value {
        eventually(path, || {
            let answer = self.call(seat, method, path, body.cloned()).ok()?;
            match answer.status {
                200 => Some(answer.json()),
                202 if answer.json()["done"] == true => Some(answer.json()),
                202 => None,
                409 if answer.json()["retryable"] == true => None,
                _ => panic!("{method} {path}: {answer:?}"),
            }
        })
    }

    fn wait_ready(&self, seat: usize) {
        eventually("a ready member", || {
            let answer = request(self.address(seat, 1), "GET", "/readyz", &[], b"").ok()?;
            (answer.status == 200).then_some(())
        });
    }

    fn key(&self, seat: usize, method: &str, key: &str, value: &str) -> io::Result<Answer> {
        let headers = [("authorization", &*format!("Bearer {}", self.token))];
        let path = format!("/api/v1/tenants/acme/keys/{key}");
        request(self.address(seat, 0), method, &path, &headers, value.as_bytes())
    }

    fn voters(&self, seat: usize) -> usize {
        let report = self.report(seat).expect("an answer");
        let members = report["members"].as_array().expect("a list");
        members.iter().filter(|member| member["voter"] == true).count()
    }
}

/// covers rows 67, 70, 113
#[test]
fn a_group_of_processes_grows_is_repaired_and_shrinks() {
    let mut fleet = Fleet::of_one();
    fleet.wait_ready(0);
    let stop = AtomicBool::new(false);

    // One becomes three.
    for seat in [1, 2] {
        fleet.start(seat);
        let id = fleet.blank(seat);
        let early = fleet
            .call(0, "POST", &format!("/admin/members/{id}/promote"), None)
            .expect("an answer");
        assert_eq!((early.status, early.json()["code"].as_str()), (409, Some("conflict")), "{early:?}");
        let added = fleet.until_done(0, "POST", "/admin/members", Some(&fleet.new_member(seat, &id)));
        assert!(added["note"].as_str().is_some_and(|note| note.contains("learner")), "{added}");
        let promoted = fleet.until_done(seat, "POST", &format!("/admin/members/{id}/promote"), None);
        let voters = seat + 1;
        let note = promoted["note"].as_str();
        assert_eq!(note.is_some(), voters == 2, "an even number is remarked on: {promoted}");
        fleet.wait_ready(seat);
    }
    eventually("three voters", || (fleet.voters(0) == 3).then_some(()));

    let written = std::thread::scope(|scope| {
        let (stop, port, token) = (&stop, fleet.address(0, 0), fleet.token.clone());
        let writer = scope.spawn(move || {
            let headers = [("authorization", &*format!("Bearer {token}"))];
            let mut written = Vec::new();
            for number in 0.. {
                if stop.load(Ordering::Relaxed) {
                    break;
                }
                let key = format!("k{number}");
                let path = format!("/api/v1/tenants/acme/keys/{key}");
                let answer = request(port, "PUT", &path, &headers, key.as_bytes());
                if answer.is_ok_and(|answer| answer.status == 201) {
                    written.push(key);
                }
            }
            written
        });

        // The third dies and its disk with it: another one takes its place, at its address.
        let old = fleet.report(2).expect("an answer")["id"].as_str().expect("an id").to_owned();
        let mut dead = fleet.seats[2].take().expect("it runs");
        dead.signal("KILL");
        dead.wait();
        std::fs::remove_dir_all(fleet.path("m2")).expect("removed");
        fleet.start(2);
        let new = fleet.blank(2);
        assert_ne!(new, old);
        let body = fleet.new_member(2, &new);
        let taken = fleet.call(1, "POST", "/admin/members", Some(body.clone())).expect("an answer");
        assert_eq!(taken.status, 409, "the lost one still has its address: {taken:?}");
        fleet.until_done(1, "POST", &format!("/admin/members/{old}/replace"), Some(&body));
        fleet.wait_ready(2);
        let members = fleet.report(0).expect("an answer")["members"].clone();
        assert!(!members.to_string().contains(&old), "{members}");
        assert_eq!(fleet.voters(0), 3);

        // Three become two and one; whoever left is blank again, under another id, and its data is beside it.
        for seat in [2, 1] {
            let id = fleet.report(seat).expect("an answer")["id"].as_str().expect("an id").to_owned();
            fleet.until_done(0, "DELETE", &format!("/admin/members/{id}"), None);
            assert_ne!(fleet.blank(seat), id, "an id is never used again");
            let kept = std::fs::read_dir(fleet.path(&format!("m{seat}"))).expect("its directory");
            let kept = kept
                .flatten()
                .any(|item| item.file_name().to_string_lossy().starts_with("removed-"));
            assert!(kept, "what it held is set aside");
        }
        let own = fleet.report(0).expect("an answer")["id"].as_str().expect("an id").to_owned();
        let last = fleet.call(0, "DELETE", &format!("/admin/members/{own}"), None).expect("an answer");
        assert_eq!((last.status, last.json()["retryable"].as_bool()), (409, Some(false)), "{last:?}");

        // And whoever left may come back, as another.
        let id = fleet.blank(1);
        fleet.until_done(0, "POST", "/admin/members", Some(&fleet.new_member(1, &id)));
        fleet.until_done(0, "POST", &format!("/admin/members/{id}/promote"), None);
        fleet.wait_ready(1);
        stop.store(true, Ordering::Relaxed);
        writer.join().expect("no panic")
    });
    assert!(written.len() > 50, "{} writes", written.len());
    for key in written.iter().step_by(7).chain(written.last()) {
        let found = fleet.key(1, "GET", key, "").expect("an answer");
        assert_eq!(found.text(), *key);
    }
}
