//! Histories of clients at every member while faults of every kind go on.

use std::{collections::BTreeMap, time::Duration};

use anyhow::Result;
use kvfleet_e2e::{
    dice::{self, Dice},
    fleet::{Disks, Fleet, Shape},
    history::{Keys, Load, Mix, Plan, Recorder},
    nemesis::Fault,
};

use crate::verdict;

/// A history has at least so many operations that were answered.
const OPERATIONS: u64 = 20_000;

/// covers rows 92, 102
#[test]
fn every_history_under_mixed_faults_is_linearizable() {
    let count = dice::count("KVFLEET_HISTORIES", 2);
    let first = dice::seed();
    verdict::run(async {
        let mut fleet = Fleet::start(Shape::three(Disks::Shared)).await?;
        let mut struck = BTreeMap::new();
        for number in 0..count as u64 {
            let seed = first + number;
            println!("history {} of {count}: KVFLEET_SEED={seed}, logs in {}", number + 1, fleet.logs());
            one(&mut fleet, seed, &mut struck).await?;
        }
        println!("faults: {struck:?}");
        fleet.finish();
        Ok(())
    });
}

async fn one(fleet: &mut Fleet, seed: u64, struck: &mut BTreeMap<Fault, u32>) -> Result<()> {
    let mut dice = Dice::new(seed);
    let recorder = Recorder::new();
    let prefix = format!("history-{seed}");
    let plan = Plan {
        members: &[0, 1, 2],
        clients: 8,
        mix: Mix::MIXED,
        keys: Keys::Shared,
        timeout: Duration::from_millis(1_500),
        prefix: &prefix,
    };
    let mut load = Load::start(fleet, &plan, &dice.fork(0), &recorder)?;
    load.more(500).await?;
    let mut faults = 0;
    while load.done() < OPERATIONS || faults < 5 {
        let fault = Fault::draw(&mut dice);
        fault.strike(fleet, &mut dice).await?;
        faults += 1;
        *struck.entry(fault).or_default() += 1;
        // Some faults meet a fleet that has recovered from the last, some do not.
        if dice.percent(60) {
            fleet.all_ready().await?;
            load.more(1_500).await?;
        }
    }
    load.stop().await?;
    verdict::judge(fleet, &prefix, &recorder, &format!("history {seed}, {faults} faults")).await;
    Ok(())
}
