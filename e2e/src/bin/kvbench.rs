//! `kvbench`: one point of the benchmark, or all of it (`make bench`).
//!
//!     cargo build --release -p kvfleet-node --bin kvnode && cargo build --release -p kvfleet-e2e --bin kvbench
//!     target/release/kvbench puts --connections 64 --seconds 5 --system kvfleet

use std::{
    fs,
    path::{Path, PathBuf},
    time::Duration,
};

use anyhow::{Context, Result};
use clap::{Args, Parser, Subcommand};
use kvfleet_e2e::bench::{
    bare,
    cluster::System,
    point::{self, Shape},
    programs::Programs,
    request::Operation,
    suite::{self, Plan},
};
use serde_json::Value;

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
    /// Reads by the leader's lease (kvfleet).
    Leader(Single),
    /// Writes that every member holds before they are acknowledged (kvfleet).
    PutsEverywhere(Single),
    /// Everything, as `make bench`.
    All(All),
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

#[derive(Args)]
struct All {
    #[command(flatten)]
    plan: Plan,
    #[command(flatten)]
    programs: Programs,
    /// What `cargo bench --bench log` wrote.
    #[arg(long)]
    log: Option<PathBuf>,
    /// What `cargo bench --bench reads` wrote.
    #[arg(long)]
    point_reads: Option<PathBuf>,
    /// Where the figures go, as JSON.
    #[arg(long, default_value = "target/bench.json")]
    output: PathBuf,
}

fn main() -> Result<()> {
    match Arguments::parse().command {
        Command::Puts(single) => run(&single, Operation::Puts),
        Command::Gets(single) => run(&single, Operation::Gets),
        Command::Any(single) => run(&single, Operation::Any),
        Command::Leader(single) => run(&single, Operation::Leader),
        Command::PutsEverywhere(single) => run(&single, Operation::PutsEverywhere),
        Command::All(all) => everything(&all),
        Command::ServeBare { port } => bare::serve(port),
    }
}

fn run(single: &Single, operation: Operation) -> Result<()> {
    let mut cluster = single.programs.start(single.system, single.members)?;
    if !operation.writes() && single.system != System::Bare {
        point::fill(&mut cluster, single.keys)?;
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
        let figures = point::measure(&mut cluster, &shape)?;
        println!("{} {operation:?} at {}: {figures}", single.system.name(), single.connections);
    }
    Ok(())
}

fn everything(all: &All) -> Result<()> {
    let read = |path: &Path| -> Result<Value> {
        Ok(serde_json::from_slice(
            &fs::read(path).with_context(|| format!("cannot read {}", path.display()))?,
        )?)
    };
    // Read first: a wrong path should not cost the run.
    let log = all.log.as_deref().map(read).transpose()?;
    let point_reads = all.point_reads.as_deref().map(read).transpose()?;
    let mut report = suite::run(&all.programs, &all.plan)?;
    report.log = log;
    report.point_reads = point_reads;
    fs::write(&all.output, serde_json::to_string_pretty(&report)?).with_context(|| format!("cannot write {}", all.output.display()))?;
    println!("{report}");
    Ok(())
}
