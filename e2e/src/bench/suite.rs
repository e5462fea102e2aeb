//! The whole benchmark: every point, in rounds, the systems in turns.
//!
//! All systems under comparison run beside each other the whole time and only one is loaded. Before each point the last one has come to
//! rest. So a drift of the machine meets all alike, and each carries the same small burden: the others' heartbeats.

use std::{collections::BTreeMap, path::Path, time::Duration};

use anyhow::Result;

use super::{
    cluster::{Cluster, System},
    point::{self, Figures, Shape},
    programs::Programs,
    report::{Comparison, Machine, Report, Row},
    request::Operation,
};

/// How much to measure.
#[derive(Clone, Debug, clap::Args)]
pub struct Plan {
    /// Connections of the points.
    #[arg(long, value_delimiter = ',', default_values_t = [1, 16, 64, 256])]
    pub connections: Vec<usize>,
    /// How often each point is measured; the median counts.
    #[arg(long, env = "BENCH_ROUNDS", default_value_t = 3)]
    pub rounds: u32,
    /// Seconds of each measurement.
    #[arg(long, env = "BENCH_SECONDS", default_value_t = 5)]
    pub seconds: u64,
    /// Different keys.
    #[arg(long, default_value_t = 100_000)]
    pub keys: usize,
    /// Threads of the load.
    #[arg(long, default_value_t = 2)]
    pub threads: usize,
}

/// A directory in memory, where Linux has one.
const MEMORY: &str = "/dev/shm";
/// Where several ways are compared at one load, it is this one.
const CONNECTIONS: usize = 64;

/// How fresh a read is, and how many members hold a write before it is acknowledged.
const WAYS: [Operation; 5] = [
    Operation::Gets,
    Operation::Leader,
    Operation::Any,
    Operation::Puts,
    Operation::PutsEverywhere,
];

struct Series<'a> {
    plan: &'a Plan,
    runs: BTreeMap<(Operation, usize, System), Vec<Figures>>,
}

impl Series<'_> {
    fn shape(&self, operation: Operation, connections: usize) -> Shape {
        Shape {
            operation,
            connections,
            threads: self.plan.threads,
            keys: self.plan.keys,
            warm_up: Duration::from_secs(1),
            counted: Duration::from_secs(self.plan.seconds),
        }
    }

    fn measure(&mut self, cluster: &mut Cluster, operation: Operation, connections: usize) -> Result<()> {
        let figures = point::measure(cluster, &self.shape(operation, connections))?;
        eprintln!("{operation:?} at {connections}: {} {figures}", cluster.system.name());
        self.runs.entry((operation, connections, cluster.system)).or_default().push(figures);
        Ok(())
    }

    fn of(&self, operation: Operation, connections: usize, system: System) -> &[Figures] {
        self.runs.get(&(operation, connections, system)).map_or(&[], Vec::as_slice)
    }

    fn comparisons(&self, operation: Operation) -> BTreeMap<usize, Comparison> {
        let systems = [System::Kvfleet, System::Etcd, System::Bare];
        self.plan
            .connections
            .iter()
            .map(|&connections| {
                let runs = systems.map(|system| (system, self.of(operation, connections, system)));
                (connections, Comparison::of(runs.into_iter().filter(|(_, runs)| !runs.is_empty())))
            })
            .collect()
    }
}

/// Measures everything that needs whole systems.
///
/// # Errors
/// When a system cannot be started or measured.
pub fn run(programs: &Programs, plan: &Plan) -> Result<Report> {
    let mut series = Series {
        plan,
        runs: BTreeMap::new(),
    };
    let mut rows = Vec::new();
    let mut systems = [
        programs.start(System::Kvfleet, 3)?,
        programs.start(System::Etcd, 3)?,
        programs.start(System::Bare, 1)?,
    ];
    let mut creates = BTreeMap::new();
    for cluster in systems.iter_mut().filter(|cluster| cluster.system != System::Bare) {
        creates.insert(cluster.system.name().to_owned(), point::fill(cluster, plan.keys)?);
        cluster.rest()?;
    }
    for round in 0..plan.rounds {
        eprintln!("round {} of {}", round + 1, plan.rounds);
        for &connections in &plan.connections {
            for operation in [Operation::Puts, Operation::Gets, Operation::Any] {
                for cluster in &mut systems {
                    // The bare handler knows only reads, and no difference between them.
                    if cluster.system != System::Bare || operation == Operation::Any {
                        series.measure(cluster, operation, connections)?;
                    }
                }
            }
        }
    }
    let [mut kvfleet, etcd, bare] = systems;
    drop((etcd, bare));
    let mut ways: BTreeMap<Operation, Vec<Figures>> = BTreeMap::new();
    for _ in 0..plan.rounds {
        for operation in WAYS {
            let figures = point::measure(&mut kvfleet, &series.shape(operation, CONNECTIONS))?;
            eprintln!("{operation:?} at {CONNECTIONS}: {figures}");
            ways.entry(operation).or_default().push(figures);
        }
    }
    for (operation, runs) in ways {
        rows.push(Row::new("freshness and durability", operation.title(), CONNECTIONS, &runs));
    }

    // One member against three, and memory against disk: three members on the disk are still there.
    let mut alone = programs.start(System::Kvfleet, 1)?;
    let mut in_memory = match Path::new(MEMORY) {
        memory if memory.is_dir() => Some(programs.start_on(memory, System::Kvfleet, 3)?),
        _ => None,
    };
    let mut both: BTreeMap<(&str, &str, usize), Vec<Figures>> = BTreeMap::new();
    for _ in 0..plan.rounds {
        for connections in [1, CONNECTIONS] {
            let shape = series.shape(Operation::Puts, connections);
            let one = point::measure(&mut alone, &shape)?;
            let three = point::measure(&mut kvfleet, &shape)?;
            eprintln!("one member at {connections}: {one}\nthree members at {connections}: {three}");
            both.entry(("one member and three", "1 member", connections)).or_default().push(one);
            both.entry(("one member and three", "3 members", connections))
                .or_default()
                .push(three.clone());
            if let Some(cluster) = &mut in_memory {
                let memory = point::measure(cluster, &shape)?;
                eprintln!("in memory at {connections}: {memory}");
                both.entry(("disk and memory", "file engine in memory (tmpfs)", connections))
                    .or_default()
                    .push(memory);
                both.entry(("disk and memory", "file engine on the disk", connections))
                    .or_default()
                    .push(three);
            }
        }
    }
    for ((section, name, connections), runs) in both {
        rows.push(Row::new(section, name, connections, &runs));
    }
    Ok(Report {
        machine: Machine::here()?,
        rounds: plan.rounds,
        seconds: plan.seconds,
        puts: series.comparisons(Operation::Puts),
        gets: series.comparisons(Operation::Gets),
        any: series.comparisons(Operation::Any),
        creates,
        rows,
        log: None,
        point_reads: None,
    })
}
