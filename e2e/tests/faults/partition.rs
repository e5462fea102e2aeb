//! A partition that lasts: both sides go on as they can, and agree soon after it is healed.

use std::time::{Duration, Instant};

use kvfleet_e2e::{
    dice::{self, Dice},
    fleet::{Disks, Fleet, Shape},
    history::{Keys, Load, Mix, Plan, Recorder},
};

use crate::verdict;

/// covers row 102
#[test]
fn members_agree_within_ten_seconds_of_a_long_partition() {
    let lasts = Duration::from_secs(dice::count("KVFLEET_PARTITION_SECONDS", 4) as u64);
    let seed = dice::seed();
    println!("partitions of {lasts:?}: KVFLEET_SEED={seed}");
    verdict::run(async {
        let mut fleet = Fleet::start(Shape::three(Disks::Shared)).await?;
        let dice = Dice::new(seed);
        for (number, of_leader) in [(0, false), (1, true)] {
            let recorder = Recorder::new();
            let prefix = format!("partition-{number}");
            let plan = Plan {
                members: &[0, 1, 2],
                clients: 4,
                mix: Mix::MIXED,
                keys: Keys::Shared,
                timeout: Duration::from_millis(1_500),
                prefix: &prefix,
            };
            let mut load = Load::start(&fleet, &plan, &dice.fork(number), &recorder)?;
            load.more(200).await?;
            let leader = fleet.leader().await?;
            let alone = if of_leader { leader } else { (leader + 1) % 3 };
            let begun = Instant::now();
            fleet.network.isolate(alone)?;
            tokio::time::sleep(lasts / 2).await;
            // The majority serves meanwhile.
            load.more(200).await?;
            tokio::time::sleep(lasts.saturating_sub(begun.elapsed())).await;
            load.stop().await?;
            fleet.network.heal()?;
            let healed = fleet.converge(&prefix, Duration::from_secs(10)).await?;
            let who = if of_leader { "the leader" } else { "a follower" };
            println!("{who} alone for {lasts:?}: all agree {healed:.2?} after healing");
            verdict::judge(&mut fleet, &prefix, &recorder, &format!("partition of {who}")).await;
        }
        fleet.finish();
        Ok(())
    });
}
