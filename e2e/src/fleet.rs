//! A fleet of real `kvnode` processes on this machine, without Kubernetes, to do harm to.
//!
//! In: how many members, and what kind of disks. Out: members that can be killed, stopped, cut off and deprived of power, and clients for each.
//! Every member runs in a network namespace of its own; with [`Disks::Volumes`] each has a file system of its own. All of it needs root, `ip`,
//! `nft` and loop devices, and fails where they are missing. Whatever is made is taken away on drop; the logs stay unless the test says that
//! it has passed ([`Fleet::finish`]).

mod clocks;
mod damage;
mod level;
mod membership;
mod memory;
mod network;
mod observe;
mod process;
mod program;
mod sweep;
mod tool;
mod volume;

use std::{
    net::SocketAddr,
    path::{Path, PathBuf},
    process::Command,
    sync::{
        Once,
        atomic::{AtomicU32, Ordering},
    },
    time::{Duration, Instant},
};

use anyhow::{Context, Result, bail};
pub use damage::Damage;
use kvfleet_client::data::Client;
pub use level::Levels;
pub use memory::Memory;
pub use network::Network;
pub use observe::{Consistency, Standing};
pub use process::Process;
pub use program::Program;
pub use volume::Volume;

/// How long a group may take to form, and a member to catch up, on a busy machine.
const PATIENCE: Duration = Duration::from_secs(60);

/// The tenant that every fleet has.
pub const TENANT: &str = "acme";

/// Where members keep their data.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Disks {
    /// In directories of the fleet's own directory.
    Shared,
    /// Each on an ext4 file system of its own, whose power can be cut.
    Volumes,
}

/// How a fleet is to be.
#[derive(Clone, Debug)]
pub struct Shape {
    /// How many members.
    pub members: usize,
    /// Their disks.
    pub disks: Disks,
    /// What they run at first; none: the program under test.
    pub program: Option<Program>,
    /// More arguments for every member.
    pub arguments: Vec<String>,
    /// How many files each may open; none: as many as the test itself.
    pub descriptors: Option<u32>,
    /// How much memory each member may have, bytes; none = all of the machine's.
    pub memory: Option<u64>,
    /// More tenants than [`TENANT`]: items of the file of `--tenants`.
    pub tenants: String,
    /// Whether the members' clocks can be set ([`Fleet::set_clock`]).
    pub clocks: bool,
}

impl Shape {
    /// Three members.
    pub fn three(disks: Disks) -> Self {
        Shape {
            members: 3,
            disks,
            program: None,
            arguments: Vec::new(),
            descriptors: None,
            memory: None,
            tenants: String::new(),
            clocks: false,
        }
    }
}

/// One member: its place, and its process while it runs.
#[derive(Debug)]
pub struct Member {
    /// `a`, `b`, `c`, …
    pub name: String,
    /// Its data directory.
    pub data: PathBuf,
    /// Its process; dropped before the file system under it.
    process: Option<Process>,
    /// Its own file system.
    pub volume: Option<Volume>,
    /// The limit of its memory.
    pub memory: Option<Memory>,
    program: Program,
    log: PathBuf,
}

/// A fleet; its processes, namespaces and mounts are gone when it is dropped.
#[derive(Debug)]
pub struct Fleet {
    /// The members. Dropped first: processes before what they run on.
    pub members: Vec<Member>,
    /// What is between them.
    pub network: Network,
    /// The token of [`TENANT`].
    pub token: String,
    /// The cluster's id.
    pub cluster_id: String,
    http: reqwest::Client,
    arguments: Vec<String>,
    descriptors: Option<u32>,
    clocks: bool,
    directory: PathBuf,
    certificates: PathBuf,
    finished: bool,
}

impl Fleet {
    /// Starts a fleet and waits until every member is ready.
    ///
    /// # Errors
    /// When something that it needs is missing, or the group does not form.
    pub async fn start(shape: Shape) -> Result<Self> {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        static SWEPT: Once = Once::new();
        let folder = std::env::var_os("KVFLEET_FAULTS_DIR").map_or_else(std::env::temp_dir, PathBuf::from);
        SWEPT.call_once(|| sweep::sweep(&folder));
        let name = format!(
            "{}{:x}-{}",
            sweep::PREFIX,
            std::process::id(),
            COUNT.fetch_add(1, Ordering::Relaxed)
        );
        let program = shape.program.map_or_else(Program::under_test, Ok)?;
        let directory = folder.join(&name);
        std::fs::create_dir_all(&directory).with_context(|| directory.display().to_string())?;
        let mut fleet = Fleet {
            members: Vec::new(),
            network: Network::new(&name, shape.members)?,
            token: String::new(),
            cluster_id: String::new(),
            http: observe::client()?,
            arguments: shape.arguments,
            descriptors: shape.descriptors,
            clocks: shape.clocks,
            certificates: directory.join("certs"),
            directory,
            finished: false,
        };
        fleet.make_certificates(&program)?;
        if fleet.clocks {
            clocks::prepare(&fleet.directory, shape.members)?;
        }
        let tenants = format!("tenants:\n- name: {TENANT}\n{}", shape.tenants);
        std::fs::write(fleet.directory.join("tenants.yaml"), tenants)?;
        for number in 0..shape.members {
            let group = format!("{name}-{}", member_name(number));
            let memory = shape.memory.map(|bytes| Memory::new(&group, bytes)).transpose()?;
            let name = member_name(number);
            let volume = match shape.disks {
                Disks::Shared => None,
                Disks::Volumes => Some(Volume::new(&fleet.directory, &name)?),
            };
            let home = volume
                .as_ref()
                .map_or_else(|| fleet.directory.join(&name), |volume| volume.path().to_owned());
            fleet.members.push(Member {
                data: home.join("data"),
                log: fleet.directory.join(format!("{name}.log")),
                name,
                volume,
                memory,
                program: program.clone(),
                process: None,
            });
        }
        for number in 0..shape.members {
            fleet.start_member(number)?;
        }
        fleet.token = fleet.token_of(TENANT).await?;
        fleet.all_ready().await?;
        Ok(fleet)
    }

    /// The token of a tenant, when the group has formed and taken it.
    async fn token_of(&self, tenant: &str) -> Result<String> {
        let path = self.directory.join("tokens").join(format!("{tenant}.token"));
        let begun = Instant::now();
        loop {
            let token = std::fs::read_to_string(&path).unwrap_or_default().trim().to_owned();
            if !token.is_empty() {
                return Ok(token);
            }
            let logs = self.logs();
            anyhow::ensure!(begun.elapsed() < PATIENCE, "no group has formed within {PATIENCE:?}: see {logs}");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    /// The test has passed: everything goes, the logs too.
    pub fn finish(mut self) {
        self.finished = true;
    }

    /// How many members it has, running or not.
    pub fn size(&self) -> usize {
        self.members.len()
    }

    /// Where its logs are.
    pub fn logs(&self) -> String {
        self.directory.display().to_string()
    }

    /// Its directory.
    pub fn directory(&self) -> &Path {
        &self.directory
    }

    /// A member.
    ///
    /// # Panics
    /// When there is none of that number.
    pub fn member(&mut self, number: usize) -> &mut Member {
        self.members.get_mut(number).expect("a member of the fleet")
    }

    /// Starts a member that does not run.
    ///
    /// # Errors
    /// When the program cannot be started.
    pub fn start_member(&mut self, number: usize) -> Result<()> {
        let mut arguments = self.member_arguments(number);
        let net = self.network.path(number);
        let descriptors = self.descriptors;
        let environment = self.clocks.then(|| clocks::environment(&self.directory, number));
        let member = self.member(number);
        anyhow::ensure!(member.process.is_none(), "member {} runs already", member.name);
        let door = member.memory.as_ref().map(Memory::door);
        let surroundings = process::Surroundings {
            net: &net,
            descriptors,
            group: door.as_deref(),
            environment: environment.as_slice().as_flattened(),
        };
        arguments.extend(member.program.arguments.iter().cloned());
        member.process = Some(Process::start(&member.program.path, &surroundings, &arguments, &member.log)?);
        Ok(())
    }

    fn member_arguments(&self, number: usize) -> Vec<String> {
        let members = (0..self.members.len()).map(|other| format!("{}={}:7400", member_name(other), self.network.address(other)));
        let members = members.collect::<Vec<_>>().join(",");
        let data = self
            .members
            .get(number)
            .map(|member| member.data.display().to_string())
            .unwrap_or_default();
        let in_directory = |name: &str| self.directory.join(name).display().to_string();
        let in_certificates = |name: &str| self.certificates.join(name).display().to_string();
        let settings = [
            ("--cluster-id", self.cluster_id.clone()),
            ("--name", member_name(number)),
            ("--data-dir", data),
            ("--members", members),
            ("--bootstrap", (number == 0).to_string()),
            ("--tls-dir", self.certificates.display().to_string()),
            ("--token-keys", in_certificates("jwks.json")),
            ("--signing-key", in_certificates("jwt.pem")),
            ("--tenants", in_directory("tenants.yaml")),
            ("--credentials-dir", in_directory("tokens")),
            ("--drain-delay", "0s".to_owned()),
            ("--log-format", "text".to_owned()),
        ];
        let mut settings = settings.to_vec();
        if self.members.get(number).is_some_and(|member| member.volume.is_none()) {
            // How full this machine's disk is has no part in it.
            settings.push(("--disk-reserve", "16Mi".to_owned()));
        }
        let settings = settings.into_iter().map(|(flag, value)| format!("{flag}={value}"));
        settings.chain(self.arguments.iter().cloned()).collect()
    }

    fn make_certificates(&mut self, program: &Program) -> Result<()> {
        let output = Command::new(&program.path)
            .args(["certs", "--out"])
            .arg(&self.certificates)
            .output()
            .with_context(|| program.path.display().to_string())?;
        if !output.status.success() {
            bail!("kvnode certs: {}", String::from_utf8_lossy(&output.stderr));
        }
        self.cluster_id = String::from_utf8_lossy(&output.stdout).trim().to_owned();
        Ok(())
    }

    /// The address of a member's data port.
    pub fn data_port(&self, number: usize) -> SocketAddr {
        (self.network.address(number), 8080).into()
    }

    /// The URL of [`TENANT`] at a member.
    pub fn endpoint(&self, number: usize) -> String {
        format!("http://{}/api/v1/tenants/{TENANT}", self.data_port(number))
    }

    /// A client with one connection to a member, which gives up after `timeout`.
    ///
    /// # Errors
    /// When it cannot be made.
    pub fn client(&self, number: usize, timeout: Duration) -> Result<Client> {
        let http = observe::builder()?.timeout(timeout).pool_max_idle_per_host(1).build()?;
        Ok(Client::with_http(&self.endpoint(number), &self.token, http)?)
    }

    /// The same for another tenant of the shape.
    ///
    /// # Errors
    /// When it cannot be made, or the group has not taken the tenant.
    pub async fn client_of(&self, tenant: &str, number: usize, timeout: Duration) -> Result<Client> {
        let http = observe::builder()?.timeout(timeout).pool_max_idle_per_host(1).build()?;
        let endpoint = format!("http://{}/api/v1/tenants/{tenant}", self.data_port(number));
        Ok(Client::with_http(&endpoint, &self.token_of(tenant).await?, http)?)
    }
}

impl Member {
    /// Whether its process was started and not taken down.
    pub fn runs(&self) -> bool {
        self.process.is_some()
    }

    /// Its process.
    ///
    /// # Errors
    /// When it does not run.
    pub fn process(&mut self) -> Result<&mut Process> {
        self.process.as_mut().with_context(|| format!("member {} does not run", self.name))
    }

    /// SIGKILL.
    ///
    /// # Errors
    /// When it does not run.
    pub fn kill(&mut self) -> Result<()> {
        self.take()?.kill()
    }

    /// SIGTERM, and waits for its end.
    ///
    /// # Errors
    /// When it does not end, or not with status 0.
    pub fn terminate(&mut self) -> Result<()> {
        let process = self.take()?;
        process.signal("TERM")?;
        let status = process.wait()?;
        anyhow::ensure!(status.success(), "after SIGTERM member {} ended with {status}", self.name);
        Ok(())
    }

    /// Takes the process out, to end it elsewhere.
    ///
    /// # Errors
    /// When it does not run.
    pub fn take(&mut self) -> Result<Process> {
        self.process.take().with_context(|| format!("member {} does not run", self.name))
    }

    /// What it has said since it was first started.
    pub fn said(&self) -> String {
        std::fs::read_to_string(&self.log).unwrap_or_default()
    }
}

impl Drop for Fleet {
    fn drop(&mut self) {
        if !self.finished {
            for member in &self.members {
                let said = member.said();
                let from = said.lines().count().saturating_sub(15);
                eprintln!("--- the end of {}", member.log.display());
                said.lines().skip(from).for_each(|line| eprintln!("{line}"));
            }
            eprintln!("--- the logs are in {}", self.logs());
        }
        for member in &mut self.members {
            // A process that waits for a frozen file system cannot be killed. This fails when it is not frozen.
            let _ = member.volume.as_ref().map(Volume::thaw);
            member.process = None;
        }
        self.members.clear();
        if self.finished && std::env::var_os("KVFLEET_KEEP_LOGS").is_none() {
            let _ = std::fs::remove_dir_all(&self.directory);
        }
    }
}

fn member_name(number: usize) -> String {
    char::from(b'a' + u8::try_from(number).unwrap_or(25)).to_string()
}
