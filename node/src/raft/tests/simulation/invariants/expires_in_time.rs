//! A record with an expiry is found until its time has come, and is absent soon after, whatever one clock says: the shard's time neither jumps
//! nor stands still.
//!
//! The bounds are wide because time may stand still with the processes (ADR 0016): a leader that was started a moment ago, and hears one right
//! and one wrong clock, goes on from the last stamp in its log, and catches up when it hears the third. Each acknowledged write left a stamp in
//! the logs of a quorum, so time can have stood still only while none was acknowledged, and no longer than that: [`Standstills`]. A record that
//! was there meanwhile lives longer by as much; one that was put while time lagged may end early by as much when it catches up. Of two members
//! whose clocks disagree neither is believed, so there it may take until the clock is right again; what is left to see is a jump by a day.

use std::collections::{BTreeMap, HashMap};

use super::{
    super::history::{Answer, Asked, History, Operation},
    Replay,
};
use crate::state::{self, Command, Delete, Deletion, Done, Put, Ttl};

/// How much may be missing when a record is gone …
const EARLY: u64 = 8_000;
/// … and how much over when it is still there, milliseconds: for as long one member may be down. When the group was for longer, that counts.
const LATE: u64 = 5_000;
/// Both, of two members: longer than anything goes wrong.
const OF_TWO: u64 = 15_000;

/// What was last done to a key at an entry: the value put and how long it was to live, or none for a deletion.
type Change<'r> = (u64, Option<(&'r [u8], Ttl)>);

pub(super) fn check(replay: &Replay, history: &History, members: usize) -> Result<(), String> {
    let (early, late) = if members > 2 { (EARLY, LATE) } else { (OF_TWO, OF_TWO) };
    let standstills = Standstills::of(history);
    let changes = changes(replay);
    let puts = puts(history);
    for operation in history.iter() {
        let (Asked::Read { key } | Asked::LocalRead { key }, Some((answered, Answer::Found(seen)))) =
            (&operation.asked, &operation.answered)
        else {
            continue;
        };
        let last = changes.get(key.as_str()).and_then(|changes| {
            let end = changes.partition_point(|(index, _)| *index <= seen.applied);
            changes[..end].last()
        });
        let Some((_, Some((value, Ttl::For(length))))) = last else {
            continue;
        };
        let Some(put) = puts.get(value) else { continue };
        // It was put before this answer, whether or not its client was told.
        if seen.record.is_none() && answered + early.max(standstills.within(0, *answered)) < put.invoked + length {
            return Err(format!(
                "expires in time: {key} was put in millisecond {} for {length} ms, and was gone in millisecond {answered}",
                put.invoked
            ));
        }
        // Time that was ahead passes slower by a tenth until it is right.
        if let (Some(_), Some((written, _))) = (&seen.record, &put.answered)
            && operation.invoked > written + length + length / 9 + late.max(standstills.within(*written, operation.invoked))
        {
            return Err(format!(
                "expires in time: {key} was put before millisecond {written} for {length} ms, and was there in millisecond {}",
                operation.invoked
            ));
        }
    }
    Ok(())
}

/// When time may have stood still: between two acknowledged writes that are further apart than any new leader takes at least. One that loses
/// time was elected after the last stamp; one that leadership was handed to has heard it.
struct Standstills(Vec<(u64, u64)>);

impl Standstills {
    /// The shortest election: a third of the timeout of `settings_of`.
    const LEAST: u64 = 300;

    fn of(history: &History) -> Self {
        let acknowledged = history.iter().filter_map(|operation| match &operation.answered {
            Some((at, Answer::Written(_))) => Some(*at),
            _ => None,
        });
        Self::between(acknowledged.collect())
    }

    fn between(mut acknowledged: Vec<u64>) -> Self {
        acknowledged.sort_unstable();
        let next = acknowledged.iter().skip(1).copied().chain([u64::MAX]);
        let pairs = acknowledged.iter().copied().zip(next);
        Standstills(pairs.filter(|(last, next)| next - last >= Self::LEAST).collect())
    }

    /// How long it may have stood still between two moments.
    fn within(&self, from: u64, to: u64) -> u64 {
        let parts = self.0.iter().map(|(last, next)| (*next).min(to).saturating_sub((*last).max(from)));
        parts.sum()
    }
}

#[test]
fn time_stands_still_only_while_nothing_is_acknowledged() {
    let standstills = Standstills::between(vec![9_681, 663, 700, 756, 9_700]);
    assert_eq!(standstills.within(663, 9_717), 9_681 - 756 + 17, "the last one is open");
    assert_eq!(standstills.within(663, 756), 0);
    assert_eq!(standstills.within(1_000, 3_000), 2_000, "what is inside only");
    let busy = Standstills::between((0..100).map(|turn| turn * 299).collect());
    assert_eq!(busy.within(0, 29_000), 0);
}

fn changes(replay: &Replay) -> BTreeMap<&str, Vec<Change<'_>>> {
    let mut changes: BTreeMap<&str, Vec<Change<'_>>> = BTreeMap::new();
    for step in &replay.steps {
        match (step.command.as_ref().and_then(Command::operation), step.response.done()) {
            (Some(state::Operation::Put(Put { key, value, ttl, .. })), Some(Done::Put(_))) => {
                changes.entry(key).or_default().push((step.index, Some((value, *ttl))));
            }
            (Some(state::Operation::Delete(Delete { key, .. })), Some(Done::Deleted(Deletion { revision: Some(_) }))) => {
                changes.entry(key).or_default().push((step.index, None));
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
            Asked::Write(command) => {
                let Some(state::Operation::Put(put)) = command.operation() else {
                    return None;
                };
                Some((put.value.as_ref(), operation))
            }
            _ => None,
        })
        .collect()
}
