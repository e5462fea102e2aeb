//! Every acknowledged write is in the log that all agree on, with the answer that its client was given; and no write is there twice.

use super::{
    super::history::{Answer, Asked, History},
    Replay,
};
use crate::state::{Deletion, Done, Operation};

pub(super) fn check(replay: &Replay, history: &History) -> Result<(), String> {
    for operation in history.iter() {
        let Asked::Write(command) = &operation.asked else { continue };
        let found: Vec<_> = replay.of(command).map(|step| &step.response).collect();
        if matches!(command.operation(), Some(Operation::Put(_))) && found.len() > 1 {
            return Err(format!(
                "nothing lost: {command:?} was proposed once and is in the log {} times",
                found.len()
            ));
        }
        let Some((_, Answer::Written(told))) = &operation.answered else {
            continue;
        };
        // A deletion that found nothing has no revision to tell it from another one.
        if told.done() == Some(Done::Deleted(Deletion { revision: None })) || found.contains(&told) {
            continue;
        }
        return Err(format!(
            "nothing lost: a client of m{} was told {told:?} in millisecond {:?}; the log has {found:?} for {command:?}",
            operation.member,
            operation.answered.as_ref().map(|(at, _)| at)
        ));
    }
    Ok(())
}
