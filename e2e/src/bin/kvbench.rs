//! `kvbench`: one point of the benchmark, or all of it (`make bench`).
//!
//!     cargo build --release -p kvfleet-node --bin kvnode && cargo build --release -p kvfleet-e2e --bin kvbench
//!     target/release/kvbench puts --connections 64 --seconds 5 --system kvfleet

use std::{
    env,
    path::{Path, PathBuf},
    time::Duration,
};

use anyhow::{Context, Result};
use clap::{Args, Parser, Subcommand};
use kvfleet_e2e::bench::{
    bare,
    cluster::{Cluster, System},
    etcd, kvfleet,
    point::{self, Shape},
    request::Operation,
};

#[derive(Parser)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Durable writes.
    Puts(Single),
    /// Linearizable reads.
    Gets(Single),
    /// Reads of what the asked member has.
    Any(Single),
    /// The handler that is the ceiling of reads.
    #[command(name = bare::COMMAND, hide = true)]
    ServeBare { port: u16 },
}

#[derive(Args)]
struct Single {
    /// Connections, each with one request at a time.
    #[arg(long, default_value_t = 64)]
    connections: usize,
    /// Seconds that are counted.
    #[arg(long, default_value_t = 5)]
    seconds: u64,
    /// Seconds of load before, not counted.
    #[arg(long, default_value_t = 1)]
    warm_up: u64,
    /// The system to load; it is started for the run.
    #[arg(long, value_enum, default_value = "kvfleet")]
    system: System,
    /// Members of it.
    #[arg(long, default_value_t = 3)]
    members: usize,
    /// How often to measure, on the same members.
    #[arg(long, default_value_t = 1)]
    runs: u32,
    /// Different keys.
    #[arg(long, default_value_t = 100_000)]
    keys: usize,
    /// Threads of the load.
    #[arg(long, default_value_t = 2)]
    threads: usize,
    #[command(flatten)]
    programs: Programs,
}

/// Where the programs are, and where they may write.
#[derive(Args)]
struct Programs {
    /// The member's program; unless set, the one beside this.
    #[arg(long, env = "KVNODE")]
    kvnode: Option<PathBuf>,
    /// etcd's server; unless set, where `e2e/cluster/build etcd` puts it.
    #[arg(long, env = "ETCD")]
    etcd: Option<PathBuf>,
    /// The disk under test; unless set, the one of this program.
    #[arg(long)]
    directory: Option<PathBuf>,
}

impl Programs {
    fn start(&self, system: System, members: usize) -> Result<Cluster> {
        let here = env::current_exe()?;
        let folder = here.parent().context("a program is in a folder")?;
        let directory = self.directory.as_deref().unwrap_or(folder);
        match system {
            System::Kvfleet => kvfleet::start(&or(self.kvnode.as_deref(), || folder.join("kvnode")), directory, members),
            System::Etcd => etcd::start(&or(self.etcd.as_deref(), etcd::built), directory, members),
            System::Bare => bare::start(directory),
        }
    }
}

fn or(given: Option<&Path>, otherwise: impl FnOnce() -> PathBuf) -> PathBuf {
    given.map_or_else(otherwise, Path::to_path_buf)
}

fn main() -> Result<()> {
    match Arguments::parse().command {
        Command::Puts(single) => run(&single, Operation::Puts),
        Command::Gets(single) => run(&single, Operation::Gets),
        Command::Any(single) => run(&single, Operation::Any),
        Command::ServeBare { port } => bare::serve(port),
    }
}

fn run(single: &Single, operation: Operation) -> Result<()> {
    let cluster = single.programs.start(single.system, single.members)?;
    if operation != Operation::Puts && single.system != System::Bare {
        point::fill(&cluster, single.keys)?;
        cluster.rest()?;
    }
    let shape = Shape {
        operation,
        connections: single.connections,
        threads: single.threads,
        keys: single.keys,
        warm_up: Duration::from_secs(single.warm_up),
        counted: Duration::from_secs(single.seconds),
    };
    for _ in 0..single.runs {
        let figures = point::measure(&cluster, &shape)?;
        println!("{} {operation:?} at {}: {figures}", single.system.name(), single.connections);
    }
    Ok(())
}
