//! One round: up, back down, up again, let go, refused, back in place.

use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use kvfleet_e2e::fleet::Program;

use crate::{refusal, rolling::Group};

/// How long the leader may take to raise the level once nothing holds it.
const RAISING: Duration = Duration::from_secs(30);

/// The two programs.
pub struct Programs {
    /// The older one, or what stands in for it.
    pub before: Program,
    /// The one under test.
    pub this: Program,
}

/// Runs a round in which both programs are in the group for about `mixed`.
pub async fn run(programs: &Programs, seed: u64, mixed: Duration) -> Result<()> {
    let Programs { before, this } = programs;
    let held = this.clone().with(["--hold-level"]);
    // Each way of the whole group has two stretches with both programs, and there are three ways.
    let mut group = Group::start(before, seed, mixed / 6).await?;
    let old = group.fleet.levels(0).await?.highest;
    reach(&group, old).await?;

    group.roll(&held, old).await?;
    let new = group.fleet.levels(0).await?.highest;
    ensure!(
        new >= old,
        "the program before knows level {old}, this one {new}: no program forgets a level"
    );
    group.roll(before, old).await?;
    group.roll(&held, old).await?;

    let mut what = format!("seed {seed}: both know level {old}");
    if let Some(took) = let_go(&mut group, this, (old, new)).await? {
        let number = group.any_member();
        refusal::refused(&mut group.fleet, number, (before, this), (old, new)).await?;
        group.stretch().await?;
        what = format!("seed {seed}: level {old} to {new}, at all members {took:.1?} after the last let go");
    }
    group.judge(&what).await
}

/// Lets the level go, member by member, and waits until it is raised: how long that took. None when there is none to raise.
async fn let_go(group: &mut Group, this: &Program, (old, new): (u64, u64)) -> Result<Option<Duration>> {
    for number in group.order() {
        group.replace(number, this).await?;
    }
    let begun = Instant::now();
    // What is asked of a group that raises its level is what is asked of it at any other time.
    group.stretch().await?;
    reach(group, new).await?;
    let took = begun.elapsed();
    group.load.more(300).await?;
    Ok((new > old).then_some(took))
}

/// Waits until all members are at a level.
async fn reach(group: &Group, level: u64) -> Result<()> {
    let begun = Instant::now();
    for number in 0..group.fleet.size() {
        loop {
            let found = group.fleet.levels(number).await?;
            if found.level == level {
                break;
            }
            ensure!(
                begun.elapsed() < RAISING,
                "member {number} is at {found:?} after {RAISING:?}, not at level {level}"
            );
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }
    Ok(())
}
