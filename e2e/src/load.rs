//! Writes under load, and what became of each of them.
//!
//! Every worker writes keys of its own, one after the other, and notes which were acknowledged. Afterwards every acknowledged key must be
//! there. The largest gap is the longest time in which no worker's write was acknowledged: what a user sees of a failover.

use std::{
    collections::BTreeMap,
    time::{Duration, Instant},
};

use anyhow::Result;
use futures::future;
use kvfleet_client::data::{Client, Error, PutOptions};
use serde::{Deserialize, Serialize};
use tokio::sync::watch;

/// What a load run saw.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct Report {
    /// Writes that were acknowledged.
    pub acknowledged: u64,
    /// Writes that failed, by error code, `connect` or `broken`.
    pub failed: BTreeMap<String, u64>,
    /// The longest time without an acknowledged write, milliseconds.
    pub largest_gap_ms: f64,
    /// The longest time that a single write took to be answered, milliseconds.
    pub slowest_ms: f64,
    /// Acknowledged keys that were absent or had another value afterwards.
    pub lost: Vec<String>,
}

/// How much to write.
#[derive(Clone, Copy, Debug)]
pub struct Shape {
    /// How many workers write side by side, each on a connection of its own.
    pub workers: u32,
    /// For how long.
    pub duration: Duration,
}

struct Worker {
    acknowledged: Vec<(String, Instant)>,
    failed: BTreeMap<String, u64>,
    slowest: Duration,
}

/// Writes keys that begin with `prefix`, then reads back every one that was acknowledged. `started` runs once, at the first acknowledgement.
///
/// # Errors
/// When the endpoint is no endpoint, or a key cannot be read back within a minute.
pub async fn run(endpoint: &str, token: &str, prefix: &str, shape: Shape, started: impl FnOnce() + Send + 'static) -> Result<Report> {
    let begin = Instant::now();
    let end = begin + shape.duration;
    let (first, mut firsts) = watch::channel(false);
    let announce = tokio::spawn(async move {
        if firsts.wait_for(|seen| *seen).await.is_ok() {
            started();
        }
    });
    let workers = (0..shape.workers).map(|number| write(endpoint, token, format!("{prefix}/{number}"), end, first.clone()));
    let workers: Vec<Worker> = future::try_join_all(workers).await?;
    drop(first);
    announce.await?;

    let mut report = Report::default();
    let mut times = Vec::new();
    for worker in &workers {
        for (code, count) in &worker.failed {
            *report.failed.entry(code.clone()).or_default() += count;
        }
        report.slowest_ms = report.slowest_ms.max(worker.slowest.as_secs_f64() * 1e3);
        times.extend(worker.acknowledged.iter().map(|(_, when)| *when));
    }
    times.sort_unstable();
    report.acknowledged = times.len() as u64;
    let gap = times
        .windows(2)
        .filter_map(|pair| Some(pair.last()?.duration_since(*pair.first()?)))
        .max();
    // A run that ends in silence counts that silence too.
    let tail = times.last().map(|last| end.saturating_duration_since(*last));
    report.largest_gap_ms = gap.max(tail).unwrap_or(shape.duration).as_secs_f64() * 1e3;

    let client = Client::new(endpoint, token)?;
    let keys = workers.into_iter().flat_map(|worker| worker.acknowledged).map(|(key, _)| key);
    for key in keys {
        if !holds(&client, &key).await? {
            report.lost.push(key);
        }
    }
    Ok(report)
}

async fn write(endpoint: &str, token: &str, prefix: String, end: Instant, first: watch::Sender<bool>) -> Result<Worker> {
    // A client of its own, so a connection of its own: workers do not all hang on one member.
    let client = Client::new(endpoint, token)?;
    let mut worker = Worker {
        acknowledged: Vec::new(),
        failed: BTreeMap::new(),
        slowest: Duration::ZERO,
    };
    let mut number = 0_u64;
    while Instant::now() < end {
        let key = format!("{prefix}/{number}");
        let asked = Instant::now();
        let answer = client.put(&key, key.clone(), &PutOptions::default()).await;
        worker.slowest = worker.slowest.max(asked.elapsed());
        match answer {
            Ok(_) => {
                worker.acknowledged.push((key, Instant::now()));
                first.send_replace(true);
                number += 1;
            }
            Err(error) => {
                let code = match &error {
                    Error::Refused(problem) => problem.code.as_str().to_owned(),
                    Error::Unexpected { status, .. } => status.to_string(),
                    Error::Transport(error) if error.is_connect() => "connect".to_owned(),
                    Error::Transport(_) => "broken".to_owned(),
                    Error::Endpoint(_) | Error::Tls(_) => return Err(error.into()),
                };
                *worker.failed.entry(code).or_default() += 1;
                // The next key: the outcome of this one may be unknown. The pause keeps a refused connection from becoming a busy loop.
                number += 1;
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        }
    }
    Ok(worker)
}

async fn holds(client: &Client, key: &str) -> Result<bool> {
    let patience = Instant::now() + Duration::from_secs(60);
    loop {
        match client.get(key).await {
            Ok(item) => return Ok(item.is_some_and(|item| item.value == key.as_bytes())),
            Err(error) if error.is_retryable() && Instant::now() < patience => tokio::time::sleep(Duration::from_millis(50)).await,
            Err(error) => return Err(error.into()),
        }
    }
}
