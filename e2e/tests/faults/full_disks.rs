//! File systems that run full under three members: nothing acknowledged is lost, reads go on, and writes come back by themselves.

use std::{
    collections::BTreeMap,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, ensure};
use kvfleet_api::{Code, error::Outcome};
use kvfleet_client::data::{Client, Error, PutOptions};
use kvfleet_e2e::{
    dice::{self, Dice},
    fleet::{Disks, Fleet, Shape},
};

use crate::verdict;

/// For what takes a second on a quiet machine.
const PATIENCE: Duration = Duration::from_secs(60);
/// For one request.
const REQUEST: Duration = Duration::from_secs(10);
/// Below the reserve that the members choose for disks of this size, and more than they need to go on.
const SHORT: u64 = 150 << 20;

fn clients(fleet: &Fleet) -> Result<Vec<Client>> {
    (0..fleet.size()).map(|number| fleet.client(number, REQUEST)).collect()
}

async fn put(client: &Client, key: &str, value: &[u8]) -> Result<(), Error> {
    client.put(key, value.to_vec(), &PutOptions::default()).await.map(drop)
}

fn is_full(outcome: &Result<(), Error>) -> bool {
    matches!(outcome, Err(Error::Refused(problem)) if problem.code == Code::InsufficientStorage && problem.status == 507)
}

/// Puts until the outcome is as wanted; says how long that took.
async fn put_until(client: &Client, key: &str, wanted: impl Fn(&Result<(), Error>) -> bool) -> Result<Duration> {
    let begun = Instant::now();
    loop {
        let outcome = put(client, key, b"v").await;
        if wanted(&outcome) {
            return Ok(begun.elapsed());
        }
        ensure!(begun.elapsed() < PATIENCE, "{key}: {outcome:?} after {PATIENCE:?}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

/// Every record as it was acknowledged, read through every member.
async fn holds(clients: &[Client], written: &BTreeMap<String, Vec<u8>>) -> Result<()> {
    for (number, client) in clients.iter().enumerate() {
        for (key, value) in written {
            let found = client.get(key).await.with_context(|| format!("{key} through member {number}"))?;
            let same = found.is_some_and(|item| item.value == *value);
            ensure!(same, "{key} was acknowledged and is not what member {number} reads");
        }
    }
    Ok(())
}

#[test]
fn below_the_reserve_growth_is_refused_and_comes_back_by_itself() {
    verdict::run(async {
        let mut fleet = Fleet::start(Shape::three(Disks::Volumes)).await?;
        let clients = clients(&fleet)?;
        let mut written = BTreeMap::new();
        for number in 0..60_usize {
            let key = format!("before-{number}");
            put(&clients[number % 3], &key, key.as_bytes()).await?;
            written.insert(key.clone(), key.into_bytes());
        }
        let leader = fleet.leader().await?;

        // The leader alone: another one leads, and nobody is refused anything.
        fleet.member(leader).volume.as_ref().context("a volume")?.fill(SHORT)?;
        let begun = Instant::now();
        while fleet.leader_now().await.is_none_or(|now| now == leader) {
            ensure!(begun.elapsed() < PATIENCE, "a leader without room still leads");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        println!("a leader alone short of room: another led after {:.2?}", begun.elapsed());
        put_until(&clients[leader], "through-the-short-one", Result::is_ok).await?;
        written.insert("through-the-short-one".to_owned(), b"v".to_vec());

        for number in (0..3).filter(|number| *number != leader) {
            fleet.member(number).volume.as_ref().context("a volume")?.fill(SHORT)?;
        }
        for (number, client) in clients.iter().enumerate() {
            let took = put_until(client, "refused", is_full).await?;
            println!("507 through member {number} after {took:.2?}");
        }
        for (number, client) in clients.iter().enumerate() {
            let refused = put(client, "refused", b"v").await;
            ensure!(is_full(&refused), "through {number}: {refused:?}");
            ensure!(
                refused
                    .err()
                    .is_some_and(|error| error.outcome() == Outcome::NotApplied && error.is_retryable()),
                "it says so"
            );
            ensure!(client.get("before-7").await?.is_some(), "reads go on");
            let key = format!("before-{number}");
            ensure!(client.delete(&key).await?, "deletions go on");
            written.remove(&key);
        }
        holds(&clients, &written).await?;

        for number in 0..3 {
            fleet.member(number).volume.as_ref().context("a volume")?.make_room()?;
        }
        let took = put_until(&clients[0], "after", Result::is_ok).await?;
        println!("writes came back {took:.2?} after there was room");
        ensure!(took < Duration::from_secs(5), "writes came back only after {took:?}");
        written.insert("after".to_owned(), b"v".to_vec());
        holds(&clients, &written).await?;
        fleet.converge("", Duration::from_secs(10)).await?;
        for number in 0..3 {
            ensure!(fleet.member(number).process()?.ended()?.is_none(), "no process has ended");
        }
        fleet.finish();
        Ok(())
    });
}

/// Without a reserve the log and the state machine meet the end of the disk themselves.
#[test]
fn a_disk_that_is_full_to_the_last_byte_loses_nothing_acknowledged() {
    verdict::run(async {
        let seed = dice::seed();
        println!("KVFLEET_SEED={seed}");
        let mut dice = Dice::new(seed);
        let shape = Shape {
            arguments: vec!["--disk-reserve=0".to_owned()],
            ..Shape::three(Disks::Volumes)
        };
        let mut fleet = Fleet::start(shape).await?;
        let clients = clients(&fleet)?;
        for number in 0..3 {
            fleet.member(number).volume.as_ref().context("a volume")?.fill(40 << 20)?;
        }
        // Values that no compression makes smaller, until nothing has been acknowledged for a while.
        let mut written = BTreeMap::new();
        let mut last = Instant::now();
        for number in 0.. {
            let key = format!("k{number}");
            let value: Vec<u8> = (0..8_192).flat_map(|_| dice.throw().to_be_bytes()).collect();
            let outcome = put(&clients[number % 3], &key, &value).await;
            if outcome.is_ok() {
                written.insert(key, value);
                last = Instant::now();
            }
            ensure!(number < 20_000, "the disks took more than they have");
            if last.elapsed() > Duration::from_secs(3) {
                println!("{} values of 64 KiB acknowledged; then {outcome:?}", written.len());
                break;
            }
        }
        ensure!(!written.is_empty(), "something was acknowledged before");
        for number in 0..3 {
            ensure!(fleet.member(number).process()?.ended()?.is_none(), "member {number} has not ended");
            fleet.member(number).volume.as_ref().context("a volume")?.make_room()?;
        }
        let took = put_until(&clients[0], "after", Result::is_ok).await?;
        println!("writes came back {took:.2?} after there was space");
        written.insert("after".to_owned(), b"v".to_vec());
        fleet.all_ready().await?;
        holds(&clients, &written).await?;
        fleet.converge("", Duration::from_secs(20)).await?;
        for number in 0..3 {
            ensure!(fleet.member(number).process()?.ended()?.is_none(), "no process has ended");
        }
        // What was said and what is on the disk are the same after a restart, too.
        for number in 0..3 {
            fleet.member(number).kill()?;
        }
        for number in 0..3 {
            fleet.start_member(number)?;
        }
        fleet.all_ready().await?;
        holds(&clients, &written).await?;
        fleet.finish();
        Ok(())
    });
}
