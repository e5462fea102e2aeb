//! Linearizability by revision: every write has a revision of its own, and a read sees a prefix of them. Whatever was answered before
//! something else was asked has the smaller revision; a read sees at least what was acknowledged before it was asked.

use super::super::history::{Answer, Asked, History};

/// What an operation shows of the order.
struct Point {
    invoked: u64,
    answered: u64,
    /// A write's own revision, a read's last.
    revision: u64,
    write: bool,
}

pub(super) fn check(history: &History) -> Result<(), String> {
    let mut points: Vec<Point> = history.iter().filter_map(point).collect();
    points.sort_by_key(|point| point.invoked);
    let mut by_answer: Vec<&Point> = points.iter().collect();
    by_answer.sort_by_key(|point| point.answered);
    let mut before = by_answer.into_iter().peekable();
    let (mut newest, mut newest_write) = (None::<&Point>, 0);
    for point in &points {
        // Messages take at least a millisecond: within one, nothing is known to be before anything else.
        while let Some(earlier) = before.next_if(|earlier| earlier.answered < point.invoked) {
            if earlier.write {
                newest_write = earlier.revision.max(newest_write);
            }
            if newest.is_none_or(|newest| newest.revision < earlier.revision) {
                newest = Some(earlier);
            }
        }
        let Some(newest) = newest else { continue };
        let stale = point.revision < newest.revision || (point.write && point.revision == newest.revision);
        if stale {
            return Err(format!(
                "linearizable: a {} asked in millisecond {} has revision {}, and a {} answered in millisecond {} has {}",
                kind(point),
                point.invoked,
                point.revision,
                kind(newest),
                newest.answered,
                newest.revision
            ));
        }
    }
    Ok(())
}

fn kind(point: &Point) -> &'static str {
    if point.write { "write" } else { "read" }
}

fn point(operation: &super::super::history::Operation) -> Option<Point> {
    let (answered, answer) = operation.answered.as_ref()?;
    let (revision, write) = match (&operation.asked, answer) {
        (Asked::Read { .. }, Answer::Found(seen)) => (seen.revision, false),
        (_, Answer::Written(response)) => (response.done()?.revision()?, true),
        _ => return None,
    };
    Some(Point {
        invoked: operation.invoked,
        answered: *answered,
        revision,
        write,
    })
}
