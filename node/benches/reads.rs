//! Point reads from a small and from a large state: keys in random order, through the published view, as a GET reads. Prints one table;
//! `cargo bench --bench reads [-- DIRECTORY] [--json FILE] [--keys 10000,10000000]`.
//!
//! The cost should hardly depend on the number of keys (covers row 112). Values are 64 bytes, so that ten million keys fit into the page
//! cache: what is measured is the index, not the disk.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use bytes::Bytes;
use kvfleet_api::tenant::{TenantConfig, TenantLimits};
use kvfleet_node::state::{
    Applied, Body, Command, Condition, Done, Input, Kind, Machine, Operation, Proposal, Put, Response, TenantId, Ttl, Views,
};
use kvfleet_node::storage::FjallStore;

const VALUE: usize = 64;
const BATCH: u64 = 1024;
const NOW_MS: u64 = 1_700_000_000_000;
const ROUNDS: usize = 11;
const ROUND: Duration = Duration::from_millis(500);

fn main() -> io::Result<()> {
    let mut directory = std::env::temp_dir();
    let mut json = None;
    let mut counts = vec![10_000, 100_000, 1_000_000, 10_000_000];
    let mut arguments = std::env::args().skip(1);
    while let Some(argument) = arguments.next() {
        match argument.as_str() {
            "--json" => json = arguments.next(),
            "--keys" => {
                let list = arguments.next().unwrap_or_default();
                counts = list
                    .split(',')
                    .map(|count| count.parse().map_err(io::Error::other))
                    .collect::<io::Result<_>>()?;
            }
            // cargo passes this one.
            "--bench" => {}
            _ => directory = PathBuf::from(argument),
        }
    }
    let directory = directory.join(format!("reads-bench-{}", std::process::id()));
    fs::create_dir_all(&directory)?;
    let outcome = run(&directory, &counts);
    fs::remove_dir_all(&directory)?;
    let found = outcome?;
    json.map_or(Ok(()), |path| fs::write(path, found.to_string()))
}

fn run(directory: &Path, counts: &[u64]) -> io::Result<serde_json::Value> {
    println!(
        "{:>10} {:>12} {:>14} {:>14} {:>9}",
        "keys", "puts/s", "µs per read", "µs per miss", "MiB"
    );
    let mut rows = Vec::new();
    for &count in counts {
        let path = directory.join(count.to_string());
        let store = FjallStore::open(&path).map_err(io::Error::other)?;
        let (mut machine, views) = Machine::open(store).map_err(io::Error::other)?;
        let started = Instant::now();
        let tenant = fill(&mut machine, count)?;
        let puts = count as f64 / started.elapsed().as_secs_f64();
        machine.persist().map_err(io::Error::other)?;
        let found = per_read(&views, tenant, count, 0)?;
        let missed = per_read(&views, tenant, count, count)?;
        let bytes = machine.disk_bytes().map_err(io::Error::other)? >> 20;
        println!("{count:>10} {puts:>12.0} {found:>14.2} {missed:>14.2} {bytes:>9}");
        rows.push(serde_json::json!({
            "keys": count, "puts/s while filling": puts.round(), "µs per read": found, "µs per absent key": missed, "MiB on disk": bytes,
        }));
        drop((machine, views));
        fs::remove_dir_all(path)?;
    }
    Ok(serde_json::json!({"rows": rows}))
}

fn key(number: u64) -> String {
    // Spread over the key space, as real keys are, and dense enough to be found again from their number.
    format!("k{:016x}", number.wrapping_mul(0x9E37_79B9_7F4A_7C15))
}

fn fill(machine: &mut Machine<FjallStore>, count: u64) -> io::Result<TenantId> {
    let mut index = 0;
    let limits = TenantLimits {
        quota_keys: u64::MAX >> 1,
        quota_storage: u64::MAX >> 1,
        ..TenantLimits::default()
    };
    let config = TenantConfig {
        uid: "bench".to_owned(),
        owner: "bench/acme".to_owned(),
        generation: 1,
        cluster_generation: 1,
        credential_generation: 1,
        limits,
    };
    let mut apply = |commands: Vec<Command>| {
        let inputs = commands
            .into_iter()
            .map(|command| {
                index += 1;
                Input {
                    id: Applied { term: 1, index },
                    body: Body::Proposal(Proposal { stamp_ms: NOW_MS, command }),
                }
            })
            .collect();
        machine.apply(inputs).map_err(io::Error::other)
    };
    let made = apply(vec![Command::PutTenant {
        name: "acme".to_owned(),
        config,
    }])?;
    let Some(Response::Tenant(status)) = made.first() else {
        return Err(io::Error::other(format!("no tenant was made: {made:?}")));
    };
    let tenant = TenantId(status.id);
    let value = Bytes::from(vec![b'v'; VALUE]);
    for first in (0..count).step_by(BATCH as usize) {
        let puts = (first..count.min(first + BATCH))
            .map(|number| {
                Command::one(
                    tenant,
                    Operation::Put(Put {
                        key: key(number),
                        value: value.clone(),
                        kind: Kind::Bytes,
                        content_type: None,
                        metadata: Vec::new(),
                        ttl: Ttl::Default,
                        condition: Condition::None,
                    }),
                )
            })
            .collect();
        let answers = apply(puts)?;
        if let Some(refused) = answers.iter().find(|answer| !matches!(answer.done(), Some(Done::Put(_)))) {
            return Err(io::Error::other(format!("a put was refused: {refused:?}")));
        }
    }
    Ok(tenant)
}

/// Microseconds per read of a random key whose number is at least `from`, the median of several rounds.
fn per_read(views: &Views, tenant: TenantId, count: u64, from: u64) -> io::Result<f64> {
    let view = views.latest();
    let present = from == 0;
    let mut state = 0x9E37_79B9_7F4A_7C15_u64;
    let mut rounds = Vec::new();
    for _ in 0..ROUNDS {
        let started = Instant::now();
        let mut reads = 0_u64;
        while started.elapsed() < ROUND {
            for _ in 0..64 {
                state ^= state << 13;
                state ^= state >> 7;
                state ^= state << 17;
                let found = view.get(tenant, &key(from + state % count), NOW_MS).map_err(io::Error::other)?;
                if found.is_some() != present {
                    return Err(io::Error::other("a key is there that should not be, or the reverse"));
                }
            }
            reads += 64;
        }
        rounds.push(started.elapsed().as_secs_f64() * 1e6 / reads as f64);
    }
    rounds.sort_by(f64::total_cmp);
    rounds.get(ROUNDS / 2).copied().ok_or_else(|| io::Error::other("no rounds"))
}
