//! Members of kvfleet, as `examples/standalone` starts them: mutual TLS between them, tokens checked, limits on.

use std::{
    fs::{self, File},
    net::{Ipv4Addr, SocketAddr},
    path::Path,
    process::{Command, Stdio},
};

use anyhow::{Context, Result, bail};

use super::{
    cluster::{Cluster, Directory, System, ask, await_answer},
    ports,
    process::Process,
    request::{Numbers, Operation, Template},
};

const NAMES: [&str; 3] = ["a", "b", "c"];
/// The quota is far above what the load writes, and is checked on every write like any.
const TENANTS: &str = "tenants:\n  - name: acme\n    quota: {storage: 100Gi, keys: 100000000}\n";

/// Starts `members` (1 or 3) new members, and waits until the leader takes a write.
///
/// # Errors
/// When the program is not there, or they do not come up.
pub fn start(program: &Path, parent: &Path, members: usize) -> Result<Cluster> {
    if !program.exists() {
        bail!(
            "{} is not there: cargo build --release --locked -p kvfleet-node --bin kvnode",
            program.display()
        );
    }
    let directory = Directory::new(parent, "kvfleet")?;
    let root = directory.path();
    let names = NAMES.get(..members).context("kvfleet runs with up to 3 members here")?;
    let certificates = root.join("certs");
    let made = Command::new(program)
        .args(["certs", "--out"])
        .arg(&certificates)
        .stderr(Stdio::inherit())
        .output()?;
    if !made.status.success() {
        bail!("kvnode certs: {}", made.status);
    }
    let cluster_id = String::from_utf8(made.stdout)?;
    let tenants = root.join("tenants.yaml");
    fs::write(&tenants, TENANTS)?;
    let base = ports::free(5 * members as u16, 0)?;
    let port = move |member: usize, which: u16| base + 5 * member as u16 + which;
    let address = |member: usize, which: u16| format!("127.0.0.1:{}", port(member, which));
    let group: Vec<String> = (names.iter().enumerate())
        .map(|(number, name)| format!("{name}={}", address(number, 4)))
        .collect();

    let mut processes = Vec::new();
    for (number, name) in names.iter().enumerate() {
        let log = File::create(root.join(format!("{name}.log")))?;
        let mut command = Command::new(program);
        command
            .args(["--cluster-id", cluster_id.trim(), "--name", name])
            .arg("--data-dir")
            .arg(root.join(name))
            .args(["--listen", &address(number, 0), "--health-listen", &address(number, 1)])
            .args(["--metrics-listen", &address(number, 2), "--admin-listen", &address(number, 3)])
            .args(["--peer-listen", &address(number, 4), "--members", &group.join(",")])
            .arg(format!("--bootstrap={}", number == 0))
            .arg("--tls-dir")
            .arg(&certificates)
            .arg("--token-keys")
            .arg(certificates.join("jwks.json"))
            .arg("--signing-key")
            .arg(certificates.join("jwt.pem"))
            .arg("--tenants")
            .arg(&tenants)
            .arg("--credentials-dir")
            .arg(root.join("tokens"))
            .args(["--log-format", "text"])
            .stdout(log.try_clone()?)
            .stderr(log)
            .stdin(Stdio::null());
        let child = command.spawn().with_context(|| format!("cannot start {}", program.display()))?;
        processes.push(Process::new(name, child));
    }

    let token_file = root.join("tokens/acme.token");
    let token = await_answer("kvfleet writes a token", &mut processes, root, || {
        fs::read_to_string(&token_file).ok()
    })?;
    let token = token.trim().to_owned();
    let locate = move || {
        let leader = (0..members).find(|member| leads(port(*member, 2)))?;
        Some((leader, SocketAddr::from((Ipv4Addr::LOCALHOST, port(leader, 0)))))
    };
    let (leader, address) = await_answer("kvfleet takes a write", &mut processes, root, || {
        let (leader, address) = locate()?;
        let mut put = Template::kvfleet(Operation::Puts, &token, 1);
        ask(address.port(), put.fill(0, &mut Numbers::new())).ok()?;
        Some((leader, address))
    })?;
    Ok(Cluster {
        system: System::Kvfleet,
        members: processes,
        leader,
        address,
        locate: Box::new(locate),
        token,
        directory,
    })
}

fn leads(metrics_port: u16) -> bool {
    let request = b"GET /metrics HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n";
    ask(metrics_port, request).is_ok_and(|body| {
        String::from_utf8_lossy(&body)
            .lines()
            .any(|line| line == "kvfleet_raft_is_leader 1")
    })
}
