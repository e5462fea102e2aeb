//! A record with an expiry is found until its time has come, and is absent soon after, whatever one clock says: the shard's time neither jumps
//! nor stands still.
//!
//! The bounds are wide because time may stand still with the processes: a leader that was started a moment ago, and hears one right and one
//! wrong clock, goes on from the last stamp in its log, and catches up when it hears the third. Of two members whose clocks disagree neither
//! is believed, so there it may take until the clock is right again; what is left to see is a jump by a day.

use std::collections::{BTreeMap, HashMap};

use super::{
    super::history::{Answer, Asked, History, Operation},
    Replay,
};
use crate::state::{Command, Response, Ttl};

/// How much may be missing when a record is gone …
const EARLY: u64 = 8_000;
/// … and how much over when it is still there, milliseconds: for as long the group may be down.
const LATE: u64 = 5_000;
/// Both, of two members: longer than anything goes wrong.
const OF_TWO: u64 = 15_000;

/// What was last done to a key at an entry: the value put and how long it was to live, or none for a deletion.
type Change<'r> = (usize, Option<(&'r [u8], Ttl)>);

pub(super) fn check(replay: &Replay, history: &History, members: usize) -> Result<(), String> {
    let (early, late) = if members > 2 { (EARLY, LATE) } else { (OF_TWO, OF_TWO) };
    let changes = changes(replay);
    let puts = puts(history);
    for operation in history.iter() {
        let (Asked::Read { key } | Asked::LocalRead { key }, Some((answered, Answer::Found(seen)))) =
            (&operation.asked, &operation.answered)
        else {
            continue;
        };
        let last = changes.get(key.as_str()).and_then(|changes| {
            let end = changes.partition_point(|(index, _)| *index as u64 <= seen.applied);
            changes[..end].last()
        });
        let Some((_, Some((value, Ttl::For(length))))) = last else {
            continue;
        };
        let Some(put) = puts.get(value) else { continue };
        if seen.record.is_none() && answered + early < put.invoked + length {
            return Err(format!(
                "expires in time: {key} was put in millisecond {} for {length} ms, and was gone in millisecond {answered}",
                put.invoked
            ));
        }
        // Time that was ahead passes slower by a tenth until it is right.
        if let (Some(_), Some((written, _))) = (&seen.record, &put.answered)
            && operation.invoked > written + length + length / 9 + late
        {
            return Err(format!(
                "expires in time: {key} was put before millisecond {written} for {length} ms, and was there in millisecond {}",
                operation.invoked
            ));
        }
    }
    Ok(())
}

fn changes(replay: &Replay) -> BTreeMap<&str, Vec<Change<'_>>> {
    let mut changes: BTreeMap<&str, Vec<Change<'_>>> = BTreeMap::new();
    for (index, step) in replay.steps.iter().enumerate() {
        match (&step.command, &step.response) {
            (Some(Command::Put { key, value, ttl, .. }), Response::Put { .. }) => {
                changes.entry(key).or_default().push((index, Some((value, *ttl))));
            }
            (Some(Command::Delete { key, .. }), Response::Deleted { revision: Some(_) }) => {
                changes.entry(key).or_default().push((index, None));
            }
            _ => {}
        }
    }
    changes
}

/// Who asked for what; values are unique.
fn puts(history: &History) -> HashMap<&[u8], &Operation> {
    history
        .iter()
        .filter_map(|operation| match &operation.asked {
            Asked::Write(Command::Put { value, .. }) => Some((value.as_ref(), operation)),
            _ => None,
        })
        .collect()
}
