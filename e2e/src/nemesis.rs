//! What is done to a fleet, chosen by dice. Every fault is undone before it returns.

use std::time::Duration;

use anyhow::{Context, Result};

use crate::{dice::Dice, fleet::Fleet};

/// One kind of harm.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Fault {
    /// SIGKILL of the leader.
    KillLeader,
    /// SIGKILL of another member.
    KillFollower,
    /// SIGKILL of all members at once.
    KillAll,
    /// SIGSTOP of the leader for a while, SIGCONT.
    FreezeLeader,
    /// SIGSTOP of another member for a while, SIGCONT.
    FreezeFollower,
    /// Nothing passes between the leader and the others.
    IsolateLeader,
    /// Nothing passes between another member and the rest.
    IsolateFollower,
    /// The leader is not heard by the others.
    MuteLeader,
    /// The leader does not hear the others.
    DeafenLeader,
    /// Leader and one follower do not see each other, and both see the third.
    Bridge,
    /// SIGTERM of the leader: it hands over and ends.
    TerminateLeader,
    /// Leadership is handed over.
    MoveLeadership,
    /// A member is removed and added again, under a new id.
    RemoveAndAdd,
    /// A member's data is gone for good; a new one takes its place.
    LoseVolume,
}

impl Fault {
    /// All of them.
    pub const ALL: [Fault; 14] = [
        Fault::KillLeader,
        Fault::KillFollower,
        Fault::KillAll,
        Fault::FreezeLeader,
        Fault::FreezeFollower,
        Fault::IsolateLeader,
        Fault::IsolateFollower,
        Fault::MuteLeader,
        Fault::DeafenLeader,
        Fault::Bridge,
        Fault::TerminateLeader,
        Fault::MoveLeadership,
        Fault::RemoveAndAdd,
        Fault::LoseVolume,
    ];

    /// One of them.
    pub fn draw(dice: &mut Dice) -> Fault {
        Fault::ALL.get(dice.index(Fault::ALL.len())).copied().unwrap_or(Fault::KillLeader)
    }

    /// Does it to a fleet of three, waits, and undoes it. The members are running again afterwards, not necessarily ready.
    ///
    /// # Errors
    /// When no leader comes, or a member cannot be started.
    pub async fn strike(self, fleet: &mut Fleet, dice: &mut Dice) -> Result<()> {
        let leader = fleet.leader().await?;
        let others: Vec<usize> = (0..fleet.size()).filter(|number| *number != leader).collect();
        let follower = others
            .get(dice.index(others.len()))
            .copied()
            .context("a fleet of one has no follower")?;
        // Short ones end before anybody notices, long ones after an election.
        let span = dice.between(Duration::from_millis(50), Duration::from_millis(2_200));
        match self {
            Fault::KillLeader => restart(fleet, &[leader], span).await?,
            Fault::KillFollower => restart(fleet, &[follower], span).await?,
            Fault::KillAll => restart(fleet, &[0, 1, 2], Duration::ZERO).await?,
            Fault::FreezeLeader => freeze(fleet, leader, span).await?,
            Fault::FreezeFollower => freeze(fleet, follower, span).await?,
            Fault::IsolateLeader => cut(fleet, span, |fleet| fleet.network.isolate(leader)).await?,
            Fault::IsolateFollower => cut(fleet, span, |fleet| fleet.network.isolate(follower)).await?,
            Fault::MuteLeader => {
                cut(fleet, span, |fleet| {
                    others.iter().try_for_each(|other| fleet.network.cut(leader, *other))
                })
                .await?
            }
            Fault::DeafenLeader => {
                cut(fleet, span, |fleet| {
                    others.iter().try_for_each(|other| fleet.network.cut(*other, leader))
                })
                .await?
            }
            Fault::Bridge => {
                let both = |fleet: &Fleet| {
                    fleet.network.cut(leader, follower)?;
                    fleet.network.cut(follower, leader)
                };
                cut(fleet, span, both).await?;
            }
            Fault::TerminateLeader => {
                // Its end is awaited while the others go on; nothing here blocks them.
                fleet.member(leader).terminate()?;
                fleet.start_member(leader)?;
            }
            Fault::MoveLeadership => fleet.move_leadership().await?,
            // Any member, the leader too.
            Fault::RemoveAndAdd => fleet.remove_and_add(dice.index(3)).await?,
            Fault::LoseVolume => {
                // A volume that goes while the others are behind is more than three members can bear.
                fleet.all_ready().await?;
                fleet.lose_volume(follower).await?;
            }
        }
        Ok(())
    }
}

async fn restart(fleet: &mut Fleet, members: &[usize], after: Duration) -> Result<()> {
    // All signals before the first wait: they die together.
    for number in members {
        fleet.member(*number).process()?.signal("KILL")?;
    }
    for number in members {
        fleet.member(*number).kill()?;
    }
    tokio::time::sleep(after).await;
    members.iter().try_for_each(|number| fleet.start_member(*number))
}

async fn freeze(fleet: &mut Fleet, number: usize, span: Duration) -> Result<()> {
    fleet.member(number).process()?.signal("STOP")?;
    tokio::time::sleep(span).await;
    fleet.member(number).process()?.signal("CONT")
}

async fn cut(fleet: &mut Fleet, span: Duration, how: impl FnOnce(&Fleet) -> Result<()>) -> Result<()> {
    how(fleet)?;
    tokio::time::sleep(span).await;
    fleet.network.heal()
}
