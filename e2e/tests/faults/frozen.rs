//! A leader that is stopped, replaced and goes on: it must not answer from the past.

use std::time::Duration;

use anyhow::Result;
use kvfleet_e2e::{
    dice::{self, Dice},
    fleet::{Disks, Fleet, Shape},
    history::{Keys, Load, Mix, Plan, Recorder},
    linearizability::Call,
};

use crate::verdict;

/// Freezes that one history holds.
const PER_HISTORY: usize = 10;

/// covers row 92
#[test]
fn a_leader_that_was_stopped_serves_no_stale_read() {
    let mut left = dice::count("KVFLEET_FREEZES", 5);
    let mut seed = dice::seed();
    verdict::run(async {
        let mut fleet = Fleet::start(Shape::three(Disks::Shared)).await?;
        while left > 0 {
            let freezes = left.min(PER_HISTORY);
            println!("{left} freezes left: KVFLEET_SEED={seed}, logs in {}", fleet.logs());
            several(&mut fleet, seed, freezes).await?;
            left -= freezes;
            seed += 1;
        }
        fleet.finish();
        Ok(())
    });
}

async fn several(fleet: &mut Fleet, seed: u64, freezes: usize) -> Result<()> {
    let mut dice = Dice::new(seed);
    let recorder = Recorder::new();
    let prefix = format!("frozen-{seed}");
    // Readers wait out the freeze: their questions lie in the frozen process's sockets when it goes on, and these are the answers in doubt.
    let readers = Plan {
        members: &[0, 1, 2],
        clients: 4,
        mix: Mix::READS,
        keys: Keys::Shared,
        timeout: Duration::from_secs(10),
        prefix: &prefix,
    };
    let writers = Plan {
        clients: 2,
        mix: Mix {
            gets: 0,
            puts: 95,
            deletes: 5,
        },
        timeout: Duration::from_millis(1_500),
        ..readers
    };
    let mut readers = Load::start(fleet, &readers, &dice.fork(0), &recorder)?;
    let mut writers = Load::start(fleet, &writers, &dice.fork(1), &recorder)?;
    let mut replaced = 0;
    for _ in 0..freezes {
        writers.more(100).await?;
        let leader = fleet.leader().await?;
        fleet.member(leader).process()?.signal("STOP")?;
        // Until the others have elected one of themselves and taken writes: only then is there anything newer to miss.
        let written = writers.done();
        let elected = async {
            while writers.done() < written + 30 {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        };
        let limit = dice.between(Duration::from_millis(1_500), Duration::from_secs(4));
        replaced += usize::from(tokio::time::timeout(limit, elected).await.is_ok());
        fleet.member(leader).process()?.signal("CONT")?;
        readers.more(50).await?;
    }
    readers.stop().await?;
    writers.stop().await?;
    let reads = verdict::answered(&recorder, |call| *call == Call::Get);
    assert!(reads > freezes * 50, "{reads} reads");
    assert!(
        replaced * 2 >= freezes,
        "in {replaced} of {freezes} freezes another leader took writes"
    );
    let what = format!("seed {seed}: {freezes} freezes, {replaced} with another leader's writes in between, {reads} reads");
    verdict::judge(fleet, &prefix, &recorder, &what).await;
    Ok(())
}
