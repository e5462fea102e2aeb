//! What must hold, one file each. Those of [`Observed`] are checked whenever a member is looked at, those of [`verify`] at the end, when
//! everything committed is known.

mod converged;
mod election_safety;
mod expired_stays_absent;
mod expires_in_time;
mod linearizable;
mod local_reads_monotonic;
mod log_matching;
mod nothing_lost;
pub(super) mod promises_kept;
mod reads_true;
mod refusals_untouched;
mod state_digests;

use std::collections::BTreeMap;

use self::{election_safety::ElectionSafety, log_matching::LogMatching, state_digests::StateDigests};
use super::{history::History, store::MemoryStore, world::Standing};
use crate::{
    log::Entry,
    raft::{apply::input, log_store::from_stored},
    state::{Body, Command, Machine, Response, View},
};

/// What was seen of all members so far.
#[derive(Default)]
pub(super) struct Observed {
    leaders: ElectionSafety,
    logs: LogMatching,
    digests: StateDigests,
}

impl Observed {
    pub(super) fn look(&mut self, at: usize, term: u64, leads: bool, entries: Vec<Entry>, end: u64, digest: u64) -> Result<(), String> {
        if leads {
            self.leaders.see(at, term)?;
        }
        for entry in entries {
            self.logs.see(at, entry)?;
        }
        self.digests.see(at, end, digest)
    }

    pub(super) fn leaders(&self) -> u64 {
        self.leaders.count()
    }
}

/// Everything committed, applied by one member alone, one entry after the other.
pub(super) struct Replay {
    steps: Vec<Step>,
    applied: u64,
    digest: u64,
}

/// One command, or an entry that holds none.
pub(super) struct Step {
    index: u64,
    command: Option<Command>,
    response: Response,
    /// The state after its entry.
    view: std::sync::Arc<View>,
}

impl Replay {
    fn new(logs: &LogMatching) -> Result<Self, String> {
        let store = MemoryStore::default();
        let (mut machine, views) = Machine::open(store.clone()).map_err(|error| error.to_string())?;
        let (mut steps, mut applied) = (Vec::new(), 0);
        for entry in logs.entries()? {
            let index = entry.id.index;
            let input = from_stored(entry)
                .and_then(|entry| input(&entry))
                .map_err(|error| error.to_string())?;
            let commands = match &input.body {
                Body::Proposal(proposal) => vec![Some(proposal.command.clone())],
                Body::Writes(writes) => writes.iter().map(|write| Some(write.command.clone())).collect(),
                Body::Blank | Body::Membership(_) => vec![None],
            };
            let responses = machine
                .apply(vec![input])
                .map_err(|error| format!("entry {index} cannot be applied again: {error}"))?;
            applied = index;
            for (command, response) in commands.into_iter().zip(responses) {
                steps.push(Step {
                    index,
                    command,
                    response,
                    view: views.latest(),
                });
            }
        }
        Ok(Replay {
            steps,
            applied,
            digest: store.digest(),
        })
    }

    fn applied(&self) -> u64 {
        self.applied
    }

    /// The last step of an entry.
    fn at(&self, index: u64) -> Option<&Step> {
        let end = self.steps.partition_point(|step| step.index <= index);
        let step = self.steps.get(end.checked_sub(1)?)?;
        (step.index == index).then_some(step)
    }

    /// The entries that hold this very command. Values are unique, so a put has one at most.
    fn of<'r>(&'r self, command: &'r Command) -> impl Iterator<Item = &'r Step> {
        self.steps.iter().filter(move |step| step.command.as_ref() == Some(command))
    }
}

/// What all members have come to.
pub(super) type Final = BTreeMap<usize, Standing>;

/// Checks what can be known only at the end.
pub(super) fn verify(observed: &Observed, history: &History, crashes: &[u64], last: &Final) -> Result<(), String> {
    let replay = Replay::new(&observed.logs)?;
    converged::check(&replay, last)?;
    nothing_lost::check(&replay, history)?;
    refusals_untouched::check(&replay, history)?;
    linearizable::check(history)?;
    reads_true::check(&replay, history)?;
    local_reads_monotonic::check(history)?;
    expired_stays_absent::check(history, crashes)?;
    // A member that has refused its log is none.
    expires_in_time::check(&replay, history, last.len())
}
