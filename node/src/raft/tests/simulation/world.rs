//! What the simulation knows and no member does: everything that was asked, answered, promised and seen.

use std::{
    collections::BTreeMap,
    sync::{
        Arc, Mutex, MutexGuard,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
};

use super::{history::History, invariants::Observed, trace::Trace};

/// Noon of some day, Unix milliseconds.
pub(super) const NOON: u64 = 1_800_000_000_000;

/// Shared by everything in one simulation.
pub(super) struct World {
    /// The true time, Unix milliseconds.
    pub(super) now_ms: Arc<AtomicU64>,
    /// Clients stop when it is set.
    pub(super) quiet: AtomicBool,
    state: Mutex<State>,
}

#[derive(Default)]
pub(super) struct State {
    pub(super) trace: Trace,
    pub(super) history: History,
    pub(super) observed: Observed,
    /// The first invariant broken.
    pub(super) violation: Option<String>,
    /// When members were killed or lost power.
    pub(super) crashes: Vec<u64>,
    /// Members that have found their own log damaged.
    pub(super) refused: BTreeMap<usize, String>,
    /// What each running member has last said of itself.
    pub(super) standing: BTreeMap<usize, Standing>,
}

/// A member as it was a moment ago.
#[derive(Clone, Debug)]
pub(super) struct Standing {
    pub(super) leader: Option<u64>,
    pub(super) applied: u64,
    pub(super) last: u64,
    pub(super) ready: bool,
    /// Of its rows.
    pub(super) digest: u64,
}

impl World {
    pub(super) fn new() -> Arc<Self> {
        Arc::new(World {
            now_ms: Arc::new(AtomicU64::new(NOON)),
            quiet: AtomicBool::new(false),
            state: Mutex::default(),
        })
    }

    pub(super) fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap()
    }

    pub(super) fn tick(&self) -> u64 {
        self.now_ms.load(Ordering::Relaxed) - NOON
    }

    pub(super) fn is_quiet(&self) -> bool {
        self.quiet.load(Ordering::Relaxed)
    }

    pub(super) fn note(&self, event: String) {
        self.state().trace.note(event);
    }

    pub(super) fn check(&self, outcome: Result<(), String>) {
        if let Err(violation) = outcome {
            let mut state = self.state();
            state.trace.note(format!("VIOLATION {violation}"));
            state.violation.get_or_insert(violation);
        }
    }
}
