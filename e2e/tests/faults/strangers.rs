//! Strangers at every port of every member, more of them than it has room for, while clients read and write.

use std::{
    collections::VecDeque,
    net::{Ipv4Addr, SocketAddr},
    process::Command,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread::JoinHandle,
    time::Duration,
};

use anyhow::{Context, Result, ensure};
use kvfleet_e2e::{
    dice::{self, Dice},
    fleet::{Disks, Fleet, Shape},
    history::{Keys, Load, Mix, Plan, Recorder},
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};

use crate::verdict;

/// The ports of a member, by the names of its metrics, with more strangers than each has room for when the member may open [`DESCRIPTORS`] files.
const PORTS: [(&str, u16, usize); 5] = [
    ("data", 8080, 400),
    ("health", 8081, 60),
    ("metrics", 9090, 60),
    ("admin", 9443, 60),
    ("peer", 7400, 60),
];
const DESCRIPTORS: u32 = 512;
/// Answers that clients must have while the strangers come and go.
const OPERATIONS: u64 = 1_500;

/// Connections that say nothing; the oldest go, and new ones come, until it is stopped.
struct Crowd {
    stop: Arc<AtomicBool>,
    threads: Vec<JoinHandle<usize>>,
}

impl Crowd {
    fn gather(members: &[Ipv4Addr]) -> Crowd {
        let stop = Arc::new(AtomicBool::new(false));
        let ports = members
            .iter()
            .flat_map(|member| PORTS.map(|(_, port, count)| (SocketAddr::from((*member, port)), count)));
        let threads = ports.map(|(address, count)| {
            let stop = Arc::clone(&stop);
            std::thread::spawn(move || come_and_go(address, count, &stop))
        });
        let threads = threads.collect();
        Crowd { stop, threads }
    }

    /// How many there were in all.
    fn disperse(self) -> usize {
        self.stop.store(true, Ordering::Relaxed);
        self.threads.into_iter().map(|thread| thread.join().unwrap()).sum()
    }
}

fn come_and_go(address: SocketAddr, count: usize, stop: &AtomicBool) -> usize {
    let mut connections = VecDeque::new();
    let mut came = 0;
    while !stop.load(Ordering::Relaxed) {
        if let Ok(connection) = std::net::TcpStream::connect_timeout(&address, Duration::from_secs(1)) {
            connections.push_back(connection);
            came += 1;
        }
        if connections.len() > count {
            connections.pop_front();
            // As fast as strangers who leave the machine some time for everything else.
            std::thread::sleep(Duration::from_millis(10));
        }
    }
    came
}

/// How many connections of a port a member has let go.
async fn shed(member: Ipv4Addr, port: &str) -> Result<u64> {
    let mut stream = TcpStream::connect((member, 9090)).await?;
    stream
        .write_all(b"GET /metrics HTTP/1.1\r\nhost: m\r\nconnection: close\r\n\r\n")
        .await?;
    let mut text = String::new();
    stream.read_to_string(&mut text).await?;
    let name = format!("kvfleet_connections_shed_total{{port=\"{port}\"}} ");
    let (_, rest) = text.split_once(&name).with_context(|| format!("no {name} in {text}"))?;
    Ok(rest.lines().next().unwrap_or_default().parse()?)
}

#[test]
fn strangers_end_no_member_and_cost_no_write() {
    // The strangers are files of this process.
    let own = std::process::id().to_string();
    let raised = Command::new("prlimit").args(["--pid", &own, "--nofile=8192:"]).status().unwrap();
    assert!(raised.success(), "prlimit of util-linux");
    verdict::run(async {
        let seed = dice::seed();
        let shape = Shape {
            descriptors: Some(DESCRIPTORS),
            ..Shape::three(Disks::Shared)
        };
        let mut fleet = Fleet::start(shape).await?;
        println!("KVFLEET_SEED={seed}, logs in {}", fleet.logs());
        let recorder = Recorder::new();
        let prefix = format!("strangers-{seed}");
        let plan = Plan {
            members: &[0, 1, 2],
            clients: 4,
            mix: Mix::MIXED,
            keys: Keys::Shared,
            timeout: Duration::from_secs(5),
            prefix: &prefix,
        };
        let mut load = Load::start(&fleet, &plan, &Dice::new(seed), &recorder)?;
        load.more(100).await?;
        let addresses = [0, 1, 2].map(|number| fleet.network.address(number));
        let crowd = Crowd::gather(&addresses);
        load.more(OPERATIONS).await?;
        for member in &fleet.members {
            let said = member.said();
            let lives = !said.contains("the process ends") && !said.contains("Too many open files");
            ensure!(lives, "member {}: {said}", member.name);
        }
        for address in addresses {
            for (port, _, _) in PORTS.into_iter().filter(|(name, ..)| *name != "peer") {
                let shed = shed(address, port).await?;
                ensure!(shed > 0, "{address}: {port} was never full, so this proves nothing");
            }
        }
        let came = crowd.disperse();
        load.stop().await?;
        let what = format!("seed {seed}: {came} strangers");
        verdict::judge(&mut fleet, &prefix, &recorder, &what).await;
        fleet.finish();
        Ok(())
    });
}
