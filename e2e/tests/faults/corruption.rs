//! One member's files are damaged while it is down, and the others alone could not make up for what it might forget.
//!
//! Three members; one is away while clients write, so that what is acknowledged is on the two others only. Both of these are killed, one file of
//! the first is damaged, and it is started with the one that was away. If it took part with a log that has lost something, these two would be a
//! quorum without it, and the loss is seen at once. Either it has everything, or it does not take part.

use std::{
    collections::BTreeMap,
    time::{Duration, Instant},
};

use anyhow::{Result, bail};
use kvfleet_e2e::{
    dice::{self, Dice},
    fleet::{Consistency, Damage, Disks, Fleet, Shape},
    history::{Keys, Load, Mix, Plan, Recorder},
};

use crate::{ledger::Ledger, verdict};

/// How long a member may take to find out that it cannot go on, or a quorum to form.
const PATIENCE: Duration = Duration::from_secs(30);

/// What came of a damage.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Fate {
    /// The member did not take part, and was replaced by a new one without a person.
    Replaced,
    /// It did not even start: a person puts it right.
    Ended,
    /// It took part, and had everything.
    Harmless,
    /// It took part with an intact log, and met a damaged row of its state when it read it.
    MetLater,
}

/// covers row 111
#[test]
fn a_damaged_member_does_not_take_part_or_has_everything() {
    let rounds = dice::count("KVFLEET_CORRUPTIONS", 5);
    let first = dice::seed();
    verdict::run(async {
        let shape = Shape {
            arguments: vec!["--self-replace=true".to_owned()],
            ..Shape::three(Disks::Shared)
        };
        let mut fleet = Fleet::start(shape).await?;
        let mut ledger = Ledger::default();
        let mut fates: BTreeMap<String, BTreeMap<Fate, u32>> = BTreeMap::new();
        for number in 0..rounds as u64 {
            let seed = first + number;
            println!("damage {} of {rounds}: KVFLEET_SEED={seed}, logs in {}", number + 1, fleet.logs());
            let (kind, fate) = one(&mut fleet, seed, &mut ledger).await?;
            *fates.entry(kind).or_default().entry(fate).or_default() += 1;
        }
        ledger.audit(&fleet, "damage-").await?;
        println!("{rounds} damaged files, {} acknowledged writes, none lost", ledger.size());
        for (kind, fates) in fates {
            println!("  {kind}: {fates:?}");
        }
        fleet.finish();
        Ok(())
    });
}

async fn one(fleet: &mut Fleet, seed: u64, ledger: &mut Ledger) -> Result<(String, Fate)> {
    let mut dice = Dice::new(seed);
    let victim = dice.index(3);
    let away = (victim + 1 + dice.index(2)) % 3;
    let other = 3 - victim - away;

    fleet.member(away).kill()?;
    let recorder = Recorder::new();
    let prefix = format!("damage-{seed}");
    let plan = Plan {
        members: &[victim, other],
        clients: 4,
        mix: Mix::WRITES,
        keys: Keys::Once,
        timeout: Duration::from_secs(3),
        prefix: &prefix,
    };
    let mut load = Load::start(fleet, &plan, &dice.fork(0), &recorder)?;
    load.more(50 + dice.below(150)).await?;
    // Some are killed in the middle of a write, some leave in good order.
    if dice.percent(50) {
        fleet.member(victim).kill()?;
        fleet.member(other).kill()?;
        load.stop().await?;
    } else {
        load.stop().await?;
        fleet.member(victim).terminate()?;
        fleet.member(other).kill()?;
    }
    ledger.enter(&recorder);

    let damage = Damage::strike(&fleet.member(victim).data, &mut dice)?;
    let said = fleet.member(victim).said().len();
    fleet.start_member(victim)?;
    fleet.start_member(away)?;
    let mut fate = fate(fleet, victim, ledger, &prefix).await?;
    println!("  {} of member {victim}: {fate:?}", damage.description);
    let begun = Instant::now();
    fleet.start_member(other)?;
    if matches!(fate, Fate::Replaced | Fate::Ended) {
        // The two others must be enough, whatever becomes of it.
        fleet.ready(away).await?;
        fleet.ready(other).await?;
        ledger.audit_through(fleet, &[away, other], &prefix).await?;
    }
    if fate == Fate::Ended {
        let _ = fleet.member(victim).take()?.wait()?;
        damage.undo()?;
        fleet.start_member(victim)?;
    }
    let what = format!("damage {seed}");
    if let Err(error) = agree(fleet, victim, &prefix).await {
        // A row of its state machine may be met only when it is read. The log is what it votes with, and that is not read by halves.
        let ended = fleet.member(victim).process()?.ended()?.is_some();
        if !(ended && damage.kind.starts_with("sm/") && fate == Fate::Harmless) {
            return Err(error.context(format!("{what}: {}", damage.description)));
        }
        fate = Fate::MetLater;
        fleet.member(victim).kill()?;
        fleet.start_member(victim)?;
        agree(fleet, victim, &prefix).await?;
    }
    if fate != Fate::Harmless {
        println!("  all three agree again after {:.1?}", begun.elapsed());
    }
    let said = fleet.member(victim).said().split_off(said);
    anyhow::ensure!(!said.contains("panicked at"), "{what}: {}: the member panicked", damage.description);
    verdict::judge(fleet, &prefix, &recorder, &what).await;
    Ok((damage.kind, fate))
}

async fn agree(fleet: &mut Fleet, victim: usize, prefix: &str) -> Result<()> {
    fleet.all_ready().await?;
    let agreed = fleet.converge(prefix, Duration::from_secs(10)).await.map(drop);
    // One that has ended in between says so.
    fleet.ready(victim).await?;
    agreed
}

/// Awaits what the victim does; the member that was away is its only company.
async fn fate(fleet: &mut Fleet, victim: usize, ledger: &Ledger, prefix: &str) -> Result<Fate> {
    let begun = Instant::now();
    loop {
        if let Some(status) = fleet.member(victim).process()?.ended()? {
            anyhow::ensure!(!status.success(), "the damaged member ended with success");
            return Ok(Fate::Ended);
        }
        let standing = fleet.standing(victim).await.unwrap_or_default();
        if standing.quarantined {
            return Ok(Fate::Replaced);
        }
        if standing.ready {
            // The two are a quorum, so everything must be here. The member may still end on a row that it cannot read.
            match fleet.values(victim, prefix, Consistency::Linearizable).await {
                Ok(found) => {
                    ledger.compare(&found, prefix, victim)?;
                    return Ok(Fate::Harmless);
                }
                Err(_) => tokio::time::sleep(Duration::from_millis(50)).await,
            }
        }
        if begun.elapsed() > PATIENCE {
            bail!("the damaged member {victim} neither serves nor refuses within {PATIENCE:?}");
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}
