//! Once healed, every member has applied everything, and has the rows that everything committed makes when one member applies it alone.

use super::{Final, Replay};

pub(super) fn check(replay: &Replay, last: &Final) -> Result<(), String> {
    for (at, standing) in last {
        if standing.applied != replay.applied() {
            return Err(format!(
                "converged: m{at} has applied up to {}, the group up to {}",
                standing.applied,
                replay.applied()
            ));
        }
        if standing.digest != replay.digest {
            return Err(format!("converged: the rows of m{at} are not those that its log makes"));
        }
    }
    Ok(())
}
