//! One clock is stepped under load: whichever, however far, and however many members there are, no record ends before its time, and new ones
//! still end in time.

use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use kvfleet_client::data::{Client, Consistency, GetOptions, PutOptions};
use kvfleet_e2e::{
    dice::{self, Dice},
    fleet::{Disks, Fleet, Shape},
    history::{Keys, Load, Mix, Plan, Recorder},
};

use crate::verdict;

const HOUR_MS: i64 = 3_600_000;
const DAY_MS: i64 = 24 * HOUR_MS;
/// How long a short-lived record lives …
const SHORT: Duration = Duration::from_secs(2);
/// … may live at least: time runs faster by a hundredth, and is told in milliseconds …
const EARLIEST: Duration = Duration::from_millis(1_950);
/// … and at most on a busy machine: time runs slower by a tenth.
const LATEST: Duration = Duration::from_secs(6);
/// A leader whose clock is wrong hands over after 3 s.
const HANDED_OVER: Duration = Duration::from_secs(15);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Whose {
    Leaders,
    Followers,
}

#[test]
fn no_clock_of_three_expires_anything_or_stops_time() {
    let steps = [
        (Whose::Leaders, 2 * HOUR_MS),
        (Whose::Leaders, -DAY_MS),
        (Whose::Followers, DAY_MS),
        (Whose::Followers, -10_000),
    ];
    verdict::run(rounds(3, 3, &steps));
}

#[test]
fn no_clock_of_two_that_are_left_of_three_expires_anything_or_stops_time() {
    verdict::run(rounds(3, 2, &[(Whose::Leaders, DAY_MS), (Whose::Leaders, -DAY_MS)]));
}

#[test]
fn the_clock_of_a_member_alone_expires_nothing_and_stops_no_time() {
    verdict::run(rounds(1, 1, &[(Whose::Leaders, 2 * HOUR_MS), (Whose::Leaders, -DAY_MS)]));
}

async fn rounds(members: usize, running: usize, steps: &[(Whose, i64)]) -> Result<()> {
    let seed = dice::seed();
    println!("{running} of {members} members, {} steps: KVFLEET_SEED={seed}", steps.len());
    let shape = Shape {
        members,
        clocks: true,
        ..Shape::three(Disks::Shared)
    };
    let mut fleet = Fleet::start(shape).await?;
    // The last ones are away.
    for number in running..members {
        fleet.member(number).kill()?;
    }
    let clients = (0..running).map(|number| fleet.client(number, Duration::from_secs(5)));
    let clients = clients.collect::<Result<Vec<_>>>()?;
    let all: Vec<usize> = (0..running).collect();
    let recorder = Recorder::new();
    let plan = Plan {
        members: &all,
        clients: 3,
        mix: Mix::MIXED,
        keys: Keys::Shared,
        timeout: Duration::from_millis(1_500),
        prefix: "clocks",
    };
    let mut load = Load::start(&fleet, &plan, &Dice::new(seed), &recorder)?;
    load.more(50).await?;
    for (number, (whose, step)) in steps.iter().enumerate() {
        let leader = fleet.leader().await?;
        let wrong = match whose {
            Whose::Leaders => leader,
            Whose::Followers => (leader + 1) % running,
        };
        let long = format!("hour-{number}");
        put(&clients[leader], &long, Duration::from_secs(3_600)).await?;
        fleet.set_clock(wrong, *step)?;
        let lived = short_lived(&clients, &format!("short-{number}")).await?;
        println!("{running} of {members} members, {whose:?} clock stepped by {step} ms: a record of {SHORT:?} lived {lived:.2?}");
        present(&clients, &long).await?;
        if running == 3 && number == 0 {
            handed_over(&fleet, leader).await?;
            present(&clients, &long).await?;
        }
        fleet.set_clock(wrong, 0)?;
        load.more(50).await?;
        present(&clients, &long).await?;
        put(&clients[wrong], &long, Duration::ZERO).await?;
    }
    load.stop().await?;
    for number in 0..running {
        let member = fleet.member(number);
        anyhow::ensure!(member.process()?.ended()?.is_none(), "member {} has ended", member.name);
    }
    for number in running..members {
        fleet.start_member(number)?;
    }
    verdict::judge(
        &mut fleet,
        "clocks",
        &recorder,
        &format!("{running} of {members} members whose clocks were stepped"),
    )
    .await;
    fleet.finish();
    Ok(())
}

async fn put(client: &Client, key: &str, ttl: Duration) -> Result<()> {
    let options = PutOptions {
        ttl: Some(ttl),
        ..PutOptions::default()
    };
    client.put(key, "v", &options).await.with_context(|| key.to_owned())?;
    Ok(())
}

/// Every member has the record, whether it asks the others or not.
async fn present(clients: &[Client], key: &str) -> Result<()> {
    for (number, client) in clients.iter().enumerate() {
        for consistency in [Consistency::Linearizable, Consistency::Any] {
            let options = GetOptions {
                consistency,
                ..GetOptions::default()
            };
            let found = client.get_with(key, &options).await?;
            anyhow::ensure!(
                found.is_some(),
                "member {number} says by a read {consistency:?} that {key} has expired: early"
            );
        }
    }
    Ok(())
}

/// Puts a record that is to live for [`SHORT`], and says for how long some member had it.
async fn short_lived(clients: &[Client], key: &str) -> Result<Duration> {
    let asked = Instant::now();
    put(&clients[0], key, SHORT).await?;
    loop {
        // When the question was asked, it was there; when the answer has come, it is gone.
        let mut gone = 0;
        let before = asked.elapsed();
        for client in clients {
            gone += usize::from(client.get(key).await?.is_none());
        }
        anyhow::ensure!(
            gone == 0 || asked.elapsed() >= EARLIEST,
            "{key} was gone after {:?}",
            asked.elapsed()
        );
        anyhow::ensure!(before < LATEST, "{key} is still there after {before:?}");
        if gone == clients.len() {
            return Ok(asked.elapsed());
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

async fn handed_over(fleet: &Fleet, from: usize) -> Result<()> {
    let begun = Instant::now();
    while fleet.leader().await? == from {
        anyhow::ensure!(begun.elapsed() < HANDED_OVER, "member {from} still leads, with a wrong clock");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    Ok(())
}
