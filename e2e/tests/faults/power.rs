//! Power cuts on real file systems: one member's, or all members' at once, while clients write.

use std::time::Instant;

use anyhow::Result;
use kvfleet_e2e::{
    dice::{self, Dice},
    fleet::{Disks, Fleet, Shape, Volume},
    history::{Keys, Load, Mix, Plan, Recorder},
};

use crate::{ledger::Ledger, verdict};

/// After so many cuts everything that was ever acknowledged is looked for; at the end too.
const AUDIT: usize = 25;

/// covers row 109
#[test]
fn a_power_cut_loses_no_acknowledged_write() {
    let cuts = dice::count("KVFLEET_CUTS", 6);
    let first = dice::seed();
    verdict::run(async {
        let mut fleet = Fleet::start(Shape::three(Disks::Volumes)).await?;
        let mut ledger = Ledger::default();
        let mut slowest = std::time::Duration::ZERO;
        for number in 0..cuts {
            let seed = first + number as u64;
            println!("cut {} of {cuts}: KVFLEET_SEED={seed}, logs in {}", number + 1, fleet.logs());
            let begun = Instant::now();
            one(&mut fleet, seed, number % 3 == 0, &mut ledger).await?;
            slowest = slowest.max(begun.elapsed());
            if number % AUDIT == AUDIT - 1 || number + 1 == cuts {
                ledger.audit(&fleet, "cut-").await?;
            }
        }
        println!(
            "{cuts} cuts, {} acknowledged writes, none lost; the slowest round took {slowest:.1?}",
            ledger.size()
        );
        fleet.finish();
        Ok(())
    });
}

/// One cut of the power of all members, or of one that the seed chooses.
async fn one(fleet: &mut Fleet, seed: u64, all: bool, ledger: &mut Ledger) -> Result<()> {
    let mut dice = Dice::new(seed);
    let recorder = Recorder::new();
    let prefix = format!("cut-{seed}");
    let once = Plan {
        members: &[0, 1, 2],
        clients: 5,
        mix: Mix::WRITES,
        keys: Keys::Once,
        timeout: std::time::Duration::from_millis(1_500),
        prefix: &prefix,
    };
    let shared = Plan {
        clients: 2,
        mix: Mix::MIXED,
        keys: Keys::Shared,
        ..once
    };
    // Older data has reached the disk by itself when the power goes, or has not.
    if dice.percent(50) {
        fleet
            .members
            .iter()
            .filter_map(|member| member.volume.as_ref())
            .try_for_each(Volume::write_back)?;
    }
    let mut once = Load::start(fleet, &once, &dice.fork(0), &recorder)?;
    let shared = Load::start(fleet, &shared, &dice.fork(1), &recorder)?;
    once.more(100 + dice.below(300)).await?;
    let leader = fleet.leader().await?;
    let (victims, whose) = if all {
        (vec![0, 1, 2], "all members")
    } else if dice.percent(50) {
        (vec![leader], "the leader")
    } else {
        (vec![(leader + 1 + dice.index(2)) % 3], "a follower")
    };
    cut(fleet, &victims)?;
    fleet.all_ready().await?;
    once.more(50).await?;
    once.stop().await?;
    shared.stop().await?;
    verdict::judge(fleet, &prefix, &recorder, &format!("cut {seed} of {whose}")).await;
    ledger.enter(&recorder);
    Ok(())
}

/// Off, dead, on again, started again.
fn cut(fleet: &mut Fleet, victims: &[usize]) -> Result<()> {
    let volume = |fleet: &Fleet, number: usize| fleet.members[number].volume.as_ref().expect("a volume").cut_power();
    victims.iter().try_for_each(|number| volume(fleet, *number))?;
    for number in victims {
        fleet.member(*number).kill()?;
    }
    for number in victims {
        fleet.members[*number].volume.as_ref().expect("a volume").restore_power()?;
        fleet.start_member(*number)?;
    }
    Ok(())
}
