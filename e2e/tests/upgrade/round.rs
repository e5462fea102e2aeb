//! One round: up, back down, up again, let go, refused, back in place.

use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use kvfleet_e2e::fleet::{Levels, Program};

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
    let old = group.fleet.levels(0).await?;
    ensure!(
        old.level == old.highest,
        "a new group is at {old:?}: the level is the highest that its members know"
    );

    group.roll(&held, old.level).await?;
    let new = group.fleet.levels(0).await?;
    ensure!(new.highest >= old.highest, "the program before knows {old:?}, this one {new:?}");
    group.roll(before, old.level).await?;
    group.roll(&held, old.level).await?;

    let raised = raise(&mut group, this, (old, new)).await?;
    if new.highest > old.highest {
        let number = group.any_member();
        refusal::refused(&mut group.fleet, number, (before, this), (old.highest, new.highest)).await?;
        group.stretch().await?;
    }
    let what = format!(
        "seed {seed}: level {} to {} {raised:.1?} after it was let go",
        old.level, new.highest
    );
    group.judge(&what).await
}

/// Lets the level go, member by member; waits until all are at the highest, and says how long that took. None when there is none to raise.
async fn raise(group: &mut Group, this: &Program, (old, new): (Levels, Levels)) -> Result<Option<Duration>> {
    for number in group.order() {
        group.replace(number, this).await?;
    }
    if new.highest == old.highest {
        return Ok(None);
    }
    let begun = Instant::now();
    // What is asked of a group that raises its level is what is asked of it at any other time.
    group.stretch().await?;
    for number in 0..group.fleet.size() {
        loop {
            let found = group.fleet.levels(number).await?;
            if found.level == new.highest {
                break;
            }
            ensure!(begun.elapsed() < RAISING, "member {number} is still at {found:?} after {RAISING:?}");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }
    group.load.more(300).await?;
    Ok(Some(begun.elapsed()))
}
