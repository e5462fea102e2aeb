//! One point of the benchmark: a system, an operation, a number of connections; and the figures of one run.

use std::{
    collections::BTreeMap,
    fmt,
    time::{Duration, Instant},
};

use anyhow::{Result, bail};
use serde::{Deserialize, Serialize};

use super::{
    cluster::Cluster,
    disk,
    load::{self, Load, Until},
    process::{self, Usage},
    request::{KEY, Operation, VALUE},
};

/// How a point is loaded.
#[derive(Clone, Copy, Debug)]
pub struct Shape {
    /// What is asked.
    pub operation: Operation,
    /// Connections.
    pub connections: usize,
    /// Threads of the load.
    pub threads: usize,
    /// Different keys.
    pub keys: usize,
    /// Load that is not counted.
    pub warm_up: Duration,
    /// Load that is.
    pub counted: Duration,
}

/// What one run measured.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct Figures {
    /// Good answers per second.
    pub rate: f64,
    /// Latency of good answers, milliseconds.
    pub p50_ms: f64,
    /// Likewise.
    pub p99_ms: f64,
    /// Likewise.
    pub p999_ms: f64,
    /// Likewise.
    pub max_ms: f64,
    /// Answers that were none, by kind.
    pub errors: BTreeMap<String, u64>,
    /// Processor seconds of each member per 1,000 requests; the leader's is first.
    pub member_cpu_per_1000: Vec<f64>,
    /// Processor seconds of the load per 1,000 requests.
    pub load_cpu_per_1000: f64,
    /// Bytes resident in each member at the end; the leader's is first.
    pub resident: Vec<u64>,
    /// Bytes that the disk wrote for each byte of key and value that a member stored, until the system was at rest again. None for reads and
    /// in memory. Whatever else the machine wrote meanwhile is in it.
    pub written_per_stored: Option<f64>,
}

/// The middle one; 0 of none.
pub fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).copied().unwrap_or_default()
}

impl Figures {
    /// The median of each figure over several runs; errors are summed.
    pub fn median(runs: &[Figures]) -> Figures {
        let of = |figure: &dyn Fn(&Figures) -> f64| median(runs.iter().map(figure).collect());
        let members = runs.first().map_or(0, |run| run.resident.len());
        let mut errors = BTreeMap::new();
        for (kind, count) in runs.iter().flat_map(|run| &run.errors) {
            *errors.entry(kind.clone()).or_default() += count;
        }
        Figures {
            rate: of(&|run| run.rate),
            p50_ms: of(&|run| run.p50_ms),
            p99_ms: of(&|run| run.p99_ms),
            p999_ms: of(&|run| run.p999_ms),
            max_ms: of(&|run| run.max_ms),
            errors,
            member_cpu_per_1000: (0..members)
                .map(|member| of(&|run| run.member_cpu_per_1000.get(member).copied().unwrap_or_default()))
                .collect(),
            load_cpu_per_1000: of(&|run| run.load_cpu_per_1000),
            resident: (0..members)
                .map(|member| of(&|run| run.resident.get(member).copied().unwrap_or_default() as f64) as u64)
                .collect(),
            written_per_stored: runs
                .iter()
                .all(|run| run.written_per_stored.is_some())
                .then(|| of(&|run| run.written_per_stored.unwrap_or_default())),
        }
    }

    /// Processor seconds of all members per 1,000 requests.
    pub fn members_cpu(&self) -> f64 {
        self.member_cpu_per_1000.iter().sum()
    }

    /// The largest member, bytes.
    pub fn largest_resident(&self) -> u64 {
        self.resident.iter().copied().max().unwrap_or_default()
    }

    /// Answers that were none.
    pub fn failed(&self) -> u64 {
        self.errors.values().sum()
    }
}

impl fmt::Display for Figures {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            formatter,
            "{:.0}/s, p50 {:.2} ms, p99 {:.2}, p99.9 {:.2}, max {:.1}; errors {}",
            self.rate,
            self.p50_ms,
            self.p99_ms,
            self.p999_ms,
            self.max_ms,
            self.failed()
        )?;
        if !self.errors.is_empty() {
            write!(formatter, " {:?}", self.errors)?;
        }
        let each: Vec<String> = self.member_cpu_per_1000.iter().map(|cpu| format!("{:.0}", cpu * 1e3)).collect();
        let resident: Vec<String> = self.resident.iter().map(|bytes| (bytes >> 20).to_string()).collect();
        write!(
            formatter,
            "; CPU µs per request: members {} (leader first), load {:.0}; resident MiB {}",
            each.join(" + "),
            self.load_cpu_per_1000 * 1e3,
            resident.join("/")
        )?;
        match self.written_per_stored {
            Some(bytes) => write!(formatter, "; written per byte stored {bytes:.1}"),
            None => Ok(()),
        }
    }
}

/// Writes every key once, and tells how many a second.
///
/// # Errors
/// When any write fails.
pub fn fill(cluster: &mut Cluster, keys: usize) -> Result<f64> {
    cluster.follow_leader()?;
    let load = Load {
        address: cluster.address,
        template: cluster.template(Operation::Puts, keys),
        connections: 64,
        threads: 2,
        until: Until::EachKey,
    };
    let (tally, begin, end) = load::run(&load, || Ok(Instant::now()))?;
    if !tally.errors.is_empty() {
        bail!("{}: writing {keys} keys: {:?}", cluster.system.name(), tally.errors);
    }
    Ok(tally.answered as f64 / (end - begin).as_secs_f64())
}

/// Loads the system and measures.
///
/// # Errors
/// When it cannot be reached, or a member ends.
pub fn measure(cluster: &mut Cluster, shape: &Shape) -> Result<Figures> {
    cluster.follow_leader()?;
    let load = Load {
        address: cluster.address,
        template: cluster.template(shape.operation, shape.keys),
        connections: shape.connections,
        // One connection has nothing to share among threads.
        threads: shape.threads.min(shape.connections),
        until: Until::Time {
            warm_up: shape.warm_up,
            counted: shape.counted,
        },
    };
    let disk_before = disk::written(cluster.directory.path())?;
    let (tally, before, after) = load::run(&load, || Ok((cluster.usage()?, process::own()?)))?;
    // What it has put off is its work too, and must not fall into the next measurement.
    cluster.rest()?;
    let disk_after = disk::written(cluster.directory.path())?;
    let answered = tally.answered.max(1) as f64;
    let mut members: Vec<(Usage, Usage)> = before.0.into_iter().zip(after.0).collect();
    if cluster.leader < members.len() {
        members.swap(0, cluster.leader);
    }
    let stored = (tally.total.max(1) * (KEY + VALUE) as u64 * members.len() as u64) as f64;
    let written = disk_before.zip(disk_after).map(|(before, after)| (after - before) as f64);
    Ok(Figures {
        rate: tally.answered as f64 / shape.counted.as_secs_f64(),
        p50_ms: tally.latencies.quantile_ms(0.5),
        p99_ms: tally.latencies.quantile_ms(0.99),
        p999_ms: tally.latencies.quantile_ms(0.999),
        max_ms: tally.latencies.max_ms(),
        errors: tally.errors,
        member_cpu_per_1000: members
            .iter()
            .map(|(before, after)| (after.cpu - before.cpu) * 1e3 / answered)
            .collect(),
        load_cpu_per_1000: (after.1.cpu - before.1.cpu) * 1e3 / answered,
        resident: members.iter().map(|(_, after)| after.resident).collect(),
        written_per_stored: written.filter(|_| shape.operation.writes()).map(|written| written / stored),
    })
}
