//! A tenant with much data is deleted while another one writes: members with little memory work it off, and the other hardly notices.

use std::{
    collections::BTreeMap,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use anyhow::{Context, Result, bail, ensure};
use kvfleet_api::tenant::DeleteMode;
use kvfleet_client::data::PutOptions;
use kvfleet_e2e::{
    dice::{self, Dice},
    fleet::{Consistency, Disks, Fleet, Shape},
};

use crate::verdict;

const MIB: u64 = 1 << 20;
/// For what takes seconds on a quiet machine.
const PATIENCE: Duration = Duration::from_secs(300);
/// The other tenant's writes may take this long at most, on a machine that does nothing else: judged with `KVFLEET_DELETIONS`.
const BAR: Duration = Duration::from_millis(100);
/// Without it the figure is printed, and what no busy machine explains fails.
const LOOSE_BAR: Duration = Duration::from_secs(5);
/// So many clients of the other tenant, spread over the members.
const WRITERS: usize = 6;

/// What is deleted, in how much memory per member.
#[derive(Clone, Copy, Debug)]
struct Doomed {
    rows: u64,
    bytes: u64,
    memory: u64,
}

#[test]
fn a_tenant_of_values_of_a_megabyte_is_deleted_beside_another() {
    delete(Doomed {
        rows: if judged() { 1_000 } else { 352 },
        bytes: MIB,
        memory: memory(),
    });
}

#[test]
fn a_tenant_of_values_of_four_megabytes_is_deleted_beside_another() {
    delete(Doomed {
        rows: if judged() { 1_001 } else { 88 },
        bytes: 4 * MIB,
        memory: memory(),
    });
}

fn judged() -> bool {
    std::env::var_os("KVFLEET_DELETIONS").is_some()
}

/// Less than the tenant has in either round, and enough for a member: its bounds on bodies, frames, rows and memtables come to almost as much.
fn memory() -> u64 {
    if judged() { 512 * MIB } else { 320 * MIB }
}

fn delete(doomed: Doomed) {
    let seed = dice::seed();
    println!("{doomed:?}: KVFLEET_SEED={seed}");
    verdict::run(async {
        let shape = Shape {
            memory: Some(doomed.memory),
            tenants: "- name: doomed\n  quota: {storage: 8Gi}\n  limits: {maxValueSize: 4Mi}\n".to_owned(),
            ..Shape::three(Disks::Shared)
        };
        let mut fleet = Fleet::start(shape).await?;
        let begun = Instant::now();
        fill(&fleet, doomed, seed).await?;
        println!(
            "{} values of {} bytes written in {:.1?}",
            doomed.rows,
            doomed.bytes,
            begun.elapsed()
        );

        let writers = Writers::start(&fleet)?;
        writers.more(200, &mut fleet).await?;
        writers.slowest.store(0, Ordering::Relaxed);
        let leader = fleet.leader().await?;
        let deleted = Instant::now();
        let admin = fleet.admin()?;
        admin
            .delete_tenant(fleet.admin_port(leader), "doomed", "standalone", DeleteMode::Delete)
            .await?;
        // The members work it off beside these writes, in steps of 500 rows; the log of a leader that has nothing left to do is quiet below.
        writers.more(1_000, &mut fleet).await?;
        let (slowest, kept) = writers.stop().await?;
        quiet(&fleet, leader).await?;
        let peaks = fleet.members.iter().map(|member| member.memory.as_ref().context("a limit")?.peak());
        let peaks = peaks.collect::<Result<Vec<_>>>()?;
        println!(
            "deleted in {:.1?} beside {} writes, the slowest took {slowest:.1?}; {:?} MiB of memory at most, the page cache included",
            deleted.elapsed(),
            kept.len(),
            peaks.iter().map(|peak| peak / MIB).collect::<Vec<_>>(),
        );
        holds(&fleet, &kept).await?;
        // A member that reads its log again meets the same entries.
        for number in 0..fleet.size() {
            fleet.member(number).kill()?;
            fleet.start_member(number)?;
        }
        fleet.all_ready().await?;
        fleet.converge("", Duration::from_secs(20)).await?;
        holds(&fleet, &kept).await?;
        let allowed = if judged() { BAR } else { LOOSE_BAR };
        if slowest > allowed {
            bail!("a write of another tenant took {slowest:?}, more than {allowed:?}");
        }
        fleet.finish();
        Ok(())
    });
}

/// Waits until the log has not grown for a second: then every step has been made.
async fn quiet(fleet: &Fleet, member: usize) -> Result<()> {
    let begun = Instant::now();
    let (mut last, mut since) = (0, Instant::now());
    while since.elapsed() < Duration::from_secs(1) {
        ensure!(begun.elapsed() < PATIENCE, "the log still grows {PATIENCE:?} after the last write");
        tokio::time::sleep(Duration::from_millis(50)).await;
        let now = fleet.standing(member).await.map_or(0, |standing| standing.last_log_index);
        if now != last {
            (last, since) = (now, Instant::now());
        }
    }
    Ok(())
}

fn no_member_has_ended(fleet: &mut Fleet) -> Result<()> {
    for number in 0..fleet.size() {
        if let Some(status) = fleet.member(number).process()?.ended()? {
            bail!("member {number} ended with {status}");
        }
    }
    Ok(())
}

/// Writes the tenant's values, which no compression makes smaller, through the leader.
async fn fill(fleet: &Fleet, doomed: Doomed, seed: u64) -> Result<()> {
    let leader = fleet.leader().await?;
    let next = Arc::new(AtomicU64::new(0));
    let mut clients = Vec::new();
    for number in 0..4 {
        let client = fleet.client_of("doomed", leader, Duration::from_secs(60)).await?;
        let (next, dice) = (Arc::clone(&next), Dice::new(seed).fork(number));
        clients.push(tokio::spawn(async move {
            let mut dice = dice;
            let value: Vec<u8> = (0..doomed.bytes / 8).flat_map(|_| dice.throw().to_be_bytes()).collect();
            loop {
                let row = next.fetch_add(1, Ordering::Relaxed);
                if row >= doomed.rows {
                    return anyhow::Ok(());
                }
                let key = format!("k{row:05}");
                let begun = Instant::now();
                while let Err(error) = client.put(&key, value.clone(), &PutOptions::default()).await {
                    ensure!(error.is_retryable() && begun.elapsed() < PATIENCE, "{key}: {error}");
                    tokio::time::sleep(Duration::from_millis(50)).await;
                }
            }
        }));
    }
    for client in clients {
        client.await??;
    }
    Ok(())
}

/// Clients of the other tenant, each on keys of its own.
struct Writers {
    stop: Arc<AtomicBool>,
    done: Arc<AtomicU64>,
    /// Microseconds.
    slowest: Arc<AtomicU64>,
    clients: Vec<tokio::task::JoinHandle<Result<BTreeMap<String, String>>>>,
}

impl Writers {
    fn start(fleet: &Fleet) -> Result<Self> {
        let mut writers = Writers {
            stop: Arc::default(),
            done: Arc::default(),
            slowest: Arc::default(),
            clients: Vec::new(),
        };
        for number in 0..WRITERS {
            let client = fleet.client(number % fleet.size(), Duration::from_secs(30))?;
            let (stop, done, slowest) = (Arc::clone(&writers.stop), Arc::clone(&writers.done), Arc::clone(&writers.slowest));
            writers.clients.push(tokio::spawn(async move {
                let mut kept = BTreeMap::new();
                for round in 0_u64.. {
                    if stop.load(Ordering::Relaxed) {
                        break;
                    }
                    let (key, value) = (format!("w{number}/{}", round % 50), format!("{round}"));
                    let begun = Instant::now();
                    // Nothing that is deleted is a reason to refuse this one anything.
                    client
                        .put(&key, value.clone(), &PutOptions::default())
                        .await
                        .with_context(|| key.clone())?;
                    let took = u64::try_from(begun.elapsed().as_micros()).unwrap_or(u64::MAX);
                    slowest.fetch_max(took, Ordering::Relaxed);
                    done.fetch_add(1, Ordering::Relaxed);
                    kept.insert(key, value);
                    tokio::time::sleep(Duration::from_millis(5)).await;
                }
                Ok(kept)
            }));
        }
        Ok(writers)
    }

    /// Waits for so many more writes.
    async fn more(&self, count: u64, fleet: &mut Fleet) -> Result<()> {
        let (wanted, begun) = (self.done.load(Ordering::Relaxed) + count, Instant::now());
        while self.done.load(Ordering::Relaxed) < wanted {
            no_member_has_ended(fleet)?;
            ensure!(begun.elapsed() < PATIENCE, "{count} writes were not made within {PATIENCE:?}");
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        Ok(())
    }

    /// The slowest write, and what must be there.
    async fn stop(self) -> Result<(Duration, BTreeMap<String, String>)> {
        self.stop.store(true, Ordering::Relaxed);
        let mut kept = BTreeMap::new();
        for client in self.clients {
            kept.append(&mut client.await??);
        }
        Ok((Duration::from_micros(self.slowest.load(Ordering::Relaxed)), kept))
    }
}

/// Every acknowledged write is there, through every member.
async fn holds(fleet: &Fleet, kept: &BTreeMap<String, String>) -> Result<()> {
    for number in 0..fleet.size() {
        let found = fleet.values(number, "w", Consistency::Linearizable).await?;
        let found: BTreeMap<_, _> = found.into_iter().map(|(key, (value, _))| (key, value)).collect();
        ensure!(
            found == *kept,
            "member {number} has {} records, and {} were acknowledged",
            found.len(),
            kept.len()
        );
    }
    Ok(())
}
