//! Members of etcd, with the settings of its own guide for a local cluster, asked through its JSON gateway.

use std::{
    env,
    fs::File,
    net::{Ipv4Addr, SocketAddr},
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use anyhow::{Context, Result, bail};
use serde::Deserialize;

use super::{
    cluster::{Cluster, Directory, System, ask, await_answer},
    ports,
    process::Process,
    request::{Numbers, Operation, Template},
};

/// Where `e2e/cluster/build etcd` puts the server.
pub fn built() -> PathBuf {
    let cache = env::var_os("KIND_CACHE").map(PathBuf::from).unwrap_or_else(|| {
        let caches = env::var_os("XDG_CACHE_HOME").map(PathBuf::from);
        let home = env::var_os("HOME").map(PathBuf::from).unwrap_or_default();
        caches.unwrap_or_else(|| home.join(".cache")).join("kvfleet-kind")
    });
    cache.join("etcd/server")
}

#[derive(Deserialize)]
struct Status {
    header: Header,
    #[serde(default)]
    leader: String,
    version: String,
}

#[derive(Deserialize)]
struct Header {
    member_id: String,
}

/// Starts new members, and waits until the leader takes a write.
///
/// # Errors
/// When the program is not there or is older than 3.6, or they do not come up.
pub fn start(program: &Path, parent: &Path, members: usize) -> Result<Cluster> {
    if !program.exists() {
        bail!("{} is not there: e2e/cluster/build etcd", program.display());
    }
    let directory = Directory::new(parent, "etcd")?;
    let root = directory.path();
    let base = ports::free(2 * members as u16, 9_000)?;
    let client = move |member: usize| base + 2 * member as u16;
    let peer = |member: usize| format!("http://127.0.0.1:{}", client(member) + 1);
    let name = |member: usize| format!("n{}", member + 1);
    let group: Vec<String> = (0..members).map(|member| format!("{}={}", name(member), peer(member))).collect();

    let mut processes = Vec::new();
    for member in 0..members {
        let log = File::create(root.join(format!("{}.log", name(member))))?;
        let here = format!("http://127.0.0.1:{}", client(member));
        let child = Command::new(program)
            .args(["--name", &name(member), "--data-dir"])
            .arg(root.join(name(member)))
            .args(["--listen-client-urls", &here, "--advertise-client-urls", &here])
            .args(["--listen-peer-urls", &peer(member), "--initial-advertise-peer-urls", &peer(member)])
            .args(["--initial-cluster", &group.join(","), "--initial-cluster-state", "new"])
            .args(["--initial-cluster-token", "t1", "--quota-backend-bytes", "4294967296"])
            .args(["--logger", "zap", "--log-level", "error"])
            .stdout(log.try_clone()?)
            .stderr(log)
            .stdin(Stdio::null())
            .spawn()
            .with_context(|| format!("cannot start {}", program.display()))?;
        processes.push(Process::new(&name(member), child));
    }

    let locate = move || {
        let leader = (0..members).find(|member| status(client(*member)).is_ok_and(|status| status.leader == status.header.member_id))?;
        Some((leader, SocketAddr::from((Ipv4Addr::LOCALHOST, client(leader)))))
    };
    let (leader, address) = await_answer("etcd takes a write", &mut processes, root, || {
        let (leader, address) = locate()?;
        let mut put = Template::etcd(Operation::Puts, 1);
        ask(address.port(), put.fill(0, &mut Numbers::new())).ok()?;
        Some((leader, address))
    })?;
    let version = status(address.port())?.version;
    let mut parts = version.split('.').map(|part| part.parse::<u32>().unwrap_or_default());
    if (parts.next(), parts.next()) < (Some(3), Some(6)) {
        bail!("{} is etcd {version}; the benchmark wants 3.6 or newer", program.display());
    }
    Ok(Cluster {
        system: System::Etcd,
        members: processes,
        leader,
        address,
        locate: Box::new(locate),
        token: String::new(),
        directory,
    })
}

fn status(port: u16) -> Result<Status> {
    let request = b"POST /v3/maintenance/status HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: 2\r\n\r\n{}";
    Ok(serde_json::from_slice(&ask(port, request)?)?)
}
