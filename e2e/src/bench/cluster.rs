//! A system under load: its processes, who leads, and where it is asked.

use std::{
    fs, io,
    io::{Read, Write},
    net::{Ipv4Addr, SocketAddr, TcpStream},
    path::{Path, PathBuf},
    sync::atomic::{AtomicUsize, Ordering},
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, bail};

use super::{
    process::{Process, Usage},
    request::{Operation, Template},
    response,
};

/// A new group of members answers within seconds; this is for a machine that is busy with something else.
const PATIENCE: Duration = Duration::from_secs(60);
/// Between two questions whether it is there.
const PAUSE: Duration = Duration::from_millis(50);
/// A system is at rest when it uses less than this share of one processor.
const AT_REST: f64 = 0.08;

/// Which system.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, clap::ValueEnum)]
pub enum System {
    /// Ours.
    Kvfleet,
    /// etcd, 3.6 or newer.
    Etcd,
    /// An HTTP server that answers with 256 bytes and does nothing else: the most that any could reach.
    Bare,
}

impl System {
    /// As in `target/bench.json`.
    pub fn name(self) -> &'static str {
        match self {
            System::Kvfleet => "kvfleet",
            System::Etcd => "etcd",
            System::Bare => "bare",
        }
    }
}

/// A running system. Its processes end and its files go with this value.
pub struct Cluster {
    /// Which one.
    pub system: System,
    /// The members; the leader is one of them.
    pub members: Vec<Process>,
    /// Which of the members leads.
    pub leader: usize,
    /// The leader's data port.
    pub address: SocketAddr,
    /// Finds the leader and its data port; none while there is no leader.
    pub locate: Box<dyn Fn() -> Option<(usize, SocketAddr)>>,
    /// What a client shows; only kvfleet asks for one.
    pub token: String,
    /// Everything that it keeps. Dropped last.
    pub directory: Directory,
}

impl Cluster {
    /// Requests of this kind.
    pub fn template(&self, operation: Operation, keys: usize) -> Template {
        match self.system {
            System::Kvfleet | System::Bare => Template::kvfleet(operation, &self.token, keys),
            System::Etcd => Template::etcd(operation, keys),
        }
    }

    /// Turns to whoever leads now: on a busy machine leadership may have moved, and a follower would forward each request.
    ///
    /// # Errors
    /// When no leader is found in time.
    pub fn follow_leader(&mut self) -> Result<()> {
        let what = format!("{} has a leader", self.system.name());
        (self.leader, self.address) = await_answer(&what, &mut self.members, self.directory.path(), &self.locate)?;
        Ok(())
    }

    /// What each member has used so far, in their order.
    ///
    /// # Errors
    /// When one has ended.
    pub fn usage(&self) -> Result<Vec<Usage>> {
        self.members.iter().map(Process::usage).collect()
    }

    /// Waits until the system does next to nothing (what it has put off is done), 20 seconds at most. Returns whether it came to rest.
    ///
    /// # Errors
    /// When a member has ended.
    pub fn rest(&self) -> Result<bool> {
        let cpu = || -> Result<f64> { Ok(self.usage()?.iter().map(|usage| usage.cpu).sum()) };
        let patience = Instant::now() + Duration::from_secs(20);
        let span = Duration::from_millis(500);
        while Instant::now() < patience {
            let before = cpu()?;
            thread::sleep(span);
            if cpu()? - before < AT_REST * span.as_secs_f64() {
                return Ok(true);
            }
        }
        Ok(false)
    }
}

/// A directory that goes with this value.
pub struct Directory(PathBuf);

impl Directory {
    /// A new one below `parent`.
    ///
    /// # Errors
    /// When it cannot be made.
    pub fn new(parent: &Path, name: &str) -> Result<Directory> {
        // Several clusters of one system may run at once.
        static NUMBER: AtomicUsize = AtomicUsize::new(0);
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        let path = parent.join(format!("kvbench-{}-{number}-{name}", std::process::id()));
        if path.exists() {
            fs::remove_dir_all(&path)?;
        }
        fs::create_dir_all(&path).with_context(|| format!("cannot make {}", path.display()))?;
        Ok(Directory(path))
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.0
    }
}

impl Drop for Directory {
    fn drop(&mut self) {
        // What cannot be removed is below target/, where `cargo clean` finds it.
        let _ = fs::remove_dir_all(&self.0);
    }
}

/// Asks until there is an answer.
///
/// # Errors
/// When there is none in time or a member has ended; it names the end of the members' output.
pub fn await_answer<T>(what: &str, members: &mut [Process], logs: &Path, question: impl Fn() -> Option<T>) -> Result<T> {
    let begin = Instant::now();
    loop {
        if let Some(answer) = question() {
            return Ok(answer);
        }
        for member in members.iter_mut() {
            if member.ended()? {
                bail!("{} has ended; its output is\n{}", member.name, output(logs, &member.name));
            }
        }
        if begin.elapsed() > PATIENCE {
            bail!("{what}: not within {PATIENCE:?}");
        }
        thread::sleep(PAUSE);
    }
}

fn output(logs: &Path, name: &str) -> String {
    let text = fs::read_to_string(logs.join(format!("{name}.log"))).unwrap_or_default();
    let lines: Vec<&str> = text.lines().collect();
    lines
        .iter()
        .skip(lines.len().saturating_sub(10))
        .copied()
        .collect::<Vec<_>>()
        .join("\n")
}

/// One request, as a whole, and the body of its answer.
///
/// # Errors
/// When nobody is there, or the status is not 2xx.
pub fn ask(port: u16, request: &[u8]) -> Result<Vec<u8>> {
    let address = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
    let mut stream = TcpStream::connect_timeout(&address, Duration::from_secs(1))?;
    stream.set_read_timeout(Some(Duration::from_secs(10)))?;
    stream.write_all(request)?;
    let mut bytes = Vec::new();
    let mut part = [0; 4096];
    let answer = loop {
        if let Some(answer) = response::parse(&bytes)? {
            break answer;
        }
        match stream.read(&mut part)? {
            0 => return Err(io::Error::from(io::ErrorKind::UnexpectedEof).into()),
            read => bytes.extend_from_slice(part.get(..read).unwrap_or_default()),
        }
    };
    let body = bytes.get(answer.length - answer.body..answer.length).unwrap_or_default().to_vec();
    if !(200..300).contains(&answer.status) {
        bail!("{}: {}", answer.status, String::from_utf8_lossy(&body));
    }
    Ok(body)
}
