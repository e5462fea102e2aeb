//! A write that a client was told was not applied is in no log.

use super::{
    super::history::{Answer, Asked, History},
    Replay,
};
use crate::state::Operation;

pub(super) fn check(replay: &Replay, history: &History) -> Result<(), String> {
    for operation in history.iter() {
        let (Asked::Write(command), Some((_, answer @ Answer::Refused(refusal)))) = (&operation.asked, &operation.answered) else {
            continue;
        };
        let put = matches!(command.operation(), Some(Operation::Put(_)));
        if put && !answer.is_unknown() && replay.of(command).next().is_some() {
            return Err(format!(
                "refusals untouched: a client was told {refusal:?} and {command:?} was applied"
            ));
        }
    }
    Ok(())
}
