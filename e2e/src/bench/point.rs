//! One point of the benchmark: a system, an operation, a number of connections; and the figures of one run.

use std::{collections::BTreeMap, fmt, time::Duration};

use anyhow::{Result, bail};
use serde::Serialize;

use super::{
    cluster::Cluster,
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
#[derive(Clone, Debug, Serialize)]
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
    /// Bytes that a member wrote to its disk for each byte of key and value that it stored; none for reads.
    pub written_per_stored: Option<f64>,
}

impl Figures {
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

/// Writes every key once.
///
/// # Errors
/// When any write fails.
pub fn fill(cluster: &Cluster, keys: usize) -> Result<()> {
    let load = Load {
        address: cluster.address,
        template: cluster.template(Operation::Puts, keys),
        connections: 64,
        threads: 2,
        until: Until::EachKey,
    };
    let (tally, (), ()) = load::run(&load, || Ok(()))?;
    if !tally.errors.is_empty() {
        bail!("{}: writing {keys} keys: {:?}", cluster.system.name(), tally.errors);
    }
    Ok(())
}

/// Loads the system and measures.
///
/// # Errors
/// When it cannot be reached, or a member ends.
pub fn measure(cluster: &Cluster, shape: &Shape) -> Result<Figures> {
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
    let (tally, before, after) = load::run(&load, || Ok((cluster.usage()?, process::own()?)))?;
    let answered = tally.answered.max(1) as f64;
    let mut members: Vec<(Usage, Usage)> = before.0.into_iter().zip(after.0).collect();
    if cluster.leader < members.len() {
        members.swap(0, cluster.leader);
    }
    let written: u64 = members.iter().map(|(before, after)| after.written - before.written).sum();
    let stored = answered * (KEY + VALUE) as f64 * members.len() as f64;
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
        written_per_stored: (shape.operation == Operation::Puts).then_some(written as f64 / stored),
    })
}
