//! A new process joins a group with a token that works once.

use std::{net::SocketAddr, process::Command};

use crate::{
    cluster::Cluster,
    http::request,
    member::{Member, eventually},
};

/// A fourth member beside the three of `examples/standalone`, on the ports behind theirs.
struct Fourth<'c> {
    cluster: &'c Cluster,
    base: u16,
}

impl Fourth<'_> {
    fn port(&self, offset: u16) -> SocketAddr {
        ([127, 0, 0, 1], self.base + offset).into()
    }

    /// Starts it in a directory of this name with this token.
    fn start(&self, directory: &str, name: &str, token: &str) -> Member {
        let home = self.cluster.home();
        let text = |path: &str| home.join(path).display().to_string();
        let port = |offset: u16| self.port(offset).to_string();
        let seed = self.cluster.port(0, 4).to_string();
        let arguments = [
            ("--cluster-id", self.cluster.cluster_id()),
            ("--name", name.to_owned()),
            ("--data-dir", text(directory)),
            ("--listen", port(0)),
            ("--health-listen", port(1)),
            ("--metrics-listen", port(2)),
            ("--admin-listen", port(3)),
            ("--peer-listen", port(4)),
            ("--peer-advertise", port(4)),
            ("--tls-dir", text("certs")),
            ("--token-keys", text("certs/jwks.json")),
            ("--discover", seed),
            ("--join-token", token.to_owned()),
            ("--log-format", "text".to_owned()),
        ];
        let arguments: Vec<&str> = arguments.iter().flat_map(|(flag, value)| [*flag, value.as_str()]).collect();
        Member::kvnode(&home, directory, &arguments)
    }

    fn is_ready(&self) -> bool {
        request(self.port(1), "GET", "/readyz", &[], b"").is_ok_and(|answer| answer.status == 200)
    }
}

fn join_token(cluster: &Cluster, key: &str, valid_for: &str) -> String {
    let made = Command::new(env!("CARGO_BIN_EXE_kvnode"))
        .args([
            "join-token",
            "--valid-for",
            valid_for,
            "--cluster-id",
            &cluster.cluster_id(),
            "--signing-key",
        ])
        .arg(cluster.home().join(key))
        .output()
        .expect("the program starts");
    assert!(made.status.success(), "{made:?}");
    String::from_utf8(made.stdout).expect("text").trim().to_owned()
}

/// What the log of a member that is not let in says.
fn refusal(member: &Member) -> String {
    eventually("a refusal", || {
        let log = member.errors();
        let line = log.lines().find(|line| line.contains("does not let this member in"))?;
        Some(line.to_owned())
    })
}

/// covers rows 107, 115, 116
#[test]
fn a_join_token_lets_one_process_in_and_no_other() {
    let cluster = Cluster::start("0s");
    cluster.write_until_acknowledged(&[0], "before");
    let fourth = Fourth {
        base: crate::member::free_ports(5),
        cluster: &cluster,
    };

    let expired = fourth.start("expired", "d", &join_token(&cluster, "certs/jwt.pem", "0s"));
    assert!(refusal(&expired).contains("the join token has expired"), "{}", refusal(&expired));
    expired.end();
    let made = Command::new(env!("CARGO_BIN_EXE_kvnode"))
        .args(["certs", "--out"])
        .arg(cluster.home().join("foreign"))
        .output()
        .expect("the program starts");
    assert!(made.status.success(), "{made:?}");
    let foreign = fourth.start("foreign-data", "d", &join_token(&cluster, "foreign/jwt.pem", "1h"));
    assert!(refusal(&foreign).contains("the join token is foreign"), "{}", refusal(&foreign));
    foreign.end();

    let token = join_token(&cluster, "certs/jwt.pem", "1h");
    let mut joined = fourth.start("d", "d", &token);
    eventually("a ready fourth member", || {
        joined.assert_running();
        fourth.is_ready().then_some(())
    });
    let headers = [("authorization", &*format!("Bearer {}", cluster.token))];
    let found = request(fourth.port(0), "GET", "/api/v1/tenants/acme/keys/before", &headers, b"").expect("an answer");
    assert_eq!(found.text(), "before");
    let members = cluster.admin(0, "GET", "/admin/members").json();
    let voters = members["members"]
        .as_array()
        .expect("a list")
        .iter()
        .filter(|member| member["voter"] == true);
    assert_eq!(voters.count(), 4, "{members}");

    // The same directory needs no token any more; another one is not let in by a token that was used: neither under another name, nor where
    // the member was that has used it, which would vote with nothing.
    joined.end();
    let mut again = fourth.start("d", "d", &token);
    eventually("the member again", || {
        again.assert_running();
        fourth.is_ready().then_some(())
    });
    again.end();
    for (directory, name) in [("e", "e"), ("d-lost", "d")] {
        let used = fourth.start(directory, name, &token);
        assert!(refusal(&used).contains("the join token has been used"), "{}", refusal(&used));
        assert!(!fourth.is_ready());
        used.end();
        cluster.write_until_acknowledged(&[0], directory);
    }

    // Nor when the member that used it has left.
    let id = &joined_as(&cluster, "d")["id"];
    let id = id.as_str().map_or_else(|| id.to_string(), str::to_owned);
    let removed = cluster.admin(0, "DELETE", &format!("/admin/members/{id}"));
    assert_eq!(removed.status, 200, "{}", removed.text());
    let left = fourth.start("f", "f", &token);
    assert!(refusal(&left).contains("the join token has been used"), "{}", refusal(&left));
    left.end();
}

fn joined_as(cluster: &Cluster, name: &str) -> serde_json::Value {
    let members = cluster.admin(0, "GET", "/admin/members").json();
    let found = members["members"]
        .as_array()
        .and_then(|all| all.iter().find(|member| member["name"] == name));
    found.unwrap_or_else(|| panic!("no member {name} in {members}")).clone()
}
