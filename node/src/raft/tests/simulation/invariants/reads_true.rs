//! Every read, linearizable or not, finds what the log up to its view makes, as of its moment.

use super::{
    super::history::{Answer, Asked, History},
    Replay,
};

pub(super) fn check(replay: &Replay, history: &History) -> Result<(), String> {
    for operation in history.iter() {
        let (Asked::Read { key } | Asked::LocalRead { key }, Some((at, Answer::Found(seen)))) = (&operation.asked, &operation.answered)
        else {
            continue;
        };
        let Some(step) = replay.at(seen.applied) else {
            return Err(format!("reads true: a read saw entry {}, which nobody has", seen.applied));
        };
        let Some(tenant) = step.view.tenant("t") else {
            return Err(format!("reads true: a read saw a tenant at entry {}, which has none", seen.applied));
        };
        let expected = step.view.get(tenant.id, key, seen.now_ms).map_err(|error| error.to_string())?;
        let expected = expected.map(|record| (record.value.to_vec(), record.revision));
        let found = seen
            .record
            .as_ref()
            .map(|(value, revision, _)| (value.clone().into_bytes(), *revision));
        if expected != found || step.view.revision() != seen.revision {
            return Err(format!(
                "reads true: {key} at entry {}, answered in millisecond {at}: found {found:?}, the log has {expected:?}",
                seen.applied
            ));
        }
    }
    Ok(())
}
