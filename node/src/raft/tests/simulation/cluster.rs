//! One seed: a cluster is formed, things go wrong for a while, everything is healed, and what is left is verified.

use std::{
    cell::Cell,
    collections::BTreeSet,
    panic::{AssertUnwindSafe, catch_unwind},
    sync::{Arc, atomic::Ordering},
    time::Duration,
};

use super::{
    faults::Faults,
    history::Totals,
    invariants::{self, Final},
    member::{Seat, id, name},
    trace::Trace,
    world::World,
};
use crate::{
    log::fake::{Dice, Flush},
    runtime::simulated::Process,
};

/// The turn of the simulated network.
const TICK: Duration = Duration::from_millis(1);
/// How long things go wrong, milliseconds.
const TROUBLE_MS: u64 = 10_000;
/// How long forming and healing may take, milliseconds.
const LIMIT_MS: u64 = 30_000;

/// The variable that says what flushes do, and its one value: they are reported done, and are not.
pub(super) const FLUSHES: &str = "FLUSHES";
pub(super) const IGNORED: &str = "ignored";
/// The variable that says what goes wrong, and its one value: nothing does.
pub(super) const FAULTS: &str = "FAULTS";
pub(super) const NONE: &str = "none";

/// What a seed has shown.
pub(super) struct Outcome {
    pub(super) seed: u64,
    pub(super) violation: Option<String>,
    pub(super) trace: Trace,
    pub(super) totals: Totals,
}

impl Outcome {
    pub(super) fn print(&self) {
        self.trace.print_last(number_of_lines());
        println!("seed {}: {}", self.seed, self.totals);
        self.totals.print();
        if let Some(violation) = &self.violation {
            println!("seed {} breaks an invariant: {violation}", self.seed);
            println!("replay it: SEED={} make test-simulation", self.seed);
        }
    }
}

fn number_of_lines() -> usize {
    std::env::var("TRACE").ok().and_then(|lines| lines.parse().ok()).unwrap_or(60)
}

/// Runs one seed.
pub(super) fn run(seed: u64) -> Outcome {
    let world = World::new();
    let ran = catch_unwind(AssertUnwindSafe(|| simulate(seed, &world)));
    let mut state = world.state();
    let mut totals = state.history.totals();
    totals.leaders = state.observed.leaders();
    totals.refused_logs = state.refused.len() as u64;
    let violation = match ran {
        Ok(faults) => {
            totals.faults = faults.count;
            totals.crashes = faults.crashes;
            totals.damaged = faults.damaged;
            state.violation.take()
        }
        Err(panic) => {
            let text = panic.downcast_ref::<String>().cloned();
            let text = text.or_else(|| panic.downcast_ref::<&str>().map(|text| (*text).to_owned()));
            Some(format!("something panicked: {}", text.unwrap_or_default()))
        }
    };
    Outcome {
        seed,
        violation,
        trace: std::mem::take(&mut state.trace),
        totals,
    }
}

fn simulate(seed: u64, world: &Arc<World>) -> Faults {
    let mut dice = Dice::new(seed.wrapping_mul(0x2545_F491_4F6C_DD1D).rotate_left(17));
    let mut faults = Faults::default();
    let mut cluster = Cluster::new(seed, &mut dice, world);
    let formed = |cluster: &Cluster<'_>| cluster.all_ready();
    if !cluster.step_until(LIMIT_MS, formed) {
        cluster.violation("the group was never formed");
        return faults;
    }
    let calm = std::env::var(FAULTS).is_ok_and(|faults| faults == NONE);
    let until = world.tick() + TROUBLE_MS;
    while world.tick() < until && !cluster.is_over() {
        if !calm {
            faults.step(&mut cluster, &mut dice, world.tick());
        }
        cluster.step();
    }
    faults.heal(&mut cluster);
    cluster.note("everything is healed".to_owned());
    cluster.step_by(Duration::from_millis(1_500));
    world.quiet.store(true, Ordering::Relaxed);
    // For longer than it takes to look at every member again.
    let calm_for = Cell::new(0);
    let calm = |cluster: &Cluster<'_>| {
        calm_for.set(if cluster.is_calm() { calm_for.get() + 1 } else { 0 });
        calm_for.get() > 100
    };
    if !cluster.step_until(LIMIT_MS, calm) {
        let standing = format!("{:?}", world.state().standing);
        cluster.violation(&format!("healed, and no calm within {LIMIT_MS} ms: {standing}"));
    }
    if !cluster.is_over() {
        let last: Final = {
            let healthy = cluster.healthy();
            let state = world.state();
            let standing = |at: &usize| Some((*at, state.standing.get(at)?.clone()));
            healthy.iter().filter_map(standing).collect()
        };
        let verified = {
            let state = world.state();
            invariants::verify(&state.observed, &state.history, &state.crashes, &last)
        };
        if let Err(violation) = verified {
            cluster.violation(&violation);
        }
    }
    faults
}

/// The members, their machine, and what happens to them from outside.
pub(super) struct Cluster<'s> {
    pub(super) sim: turmoil::Sim<'s>,
    pub(super) seats: Vec<Arc<Seat>>,
    pub(super) world: Arc<World>,
    /// Links that something is wrong with.
    pub(super) busy: BTreeSet<(usize, usize)>,
    up: Vec<bool>,
}

impl Cluster<'_> {
    fn new(seed: u64, dice: &mut Dice, world: &Arc<World>) -> Self {
        let slowest = Duration::from_millis(1 + dice.roll(20));
        let mut sim = turmoil::Builder::new()
            .rng_seed(seed)
            .tick_duration(TICK)
            .simulation_duration(Duration::from_secs(3_600))
            .min_message_latency(Duration::from_micros(100))
            .max_message_latency(slowest)
            .tcp_capacity(4_096)
            .enable_random_order()
            .build();
        let count = match dice.roll(8) {
            0 => 2,
            1 | 2 => 5,
            _ => 3,
        };
        let seats: Vec<_> = (0..count).map(|at| Seat::new(at, count, seed, Arc::clone(world))).collect();
        if std::env::var(FLUSHES).is_ok_and(|flushes| flushes == IGNORED) {
            for seat in &seats {
                seat.disk.set_flush(Flush::Ignored);
            }
        }
        for seat in &seats {
            let seat = Arc::clone(seat);
            sim.host(name(seat.at), move || Arc::clone(&seat).live());
        }
        Cluster {
            sim,
            up: vec![true; seats.len()],
            seats,
            world: Arc::clone(world),
            busy: BTreeSet::new(),
        }
    }

    pub(super) fn note(&self, event: String) {
        self.world.state().trace.note_at(self.sim.elapsed(), event);
    }

    fn violation(&self, violation: &str) {
        self.note(format!("VIOLATION {violation}"));
        self.world.state().violation.get_or_insert_with(|| violation.to_owned());
    }

    pub(super) fn is_over(&self) -> bool {
        self.world.state().violation.is_some()
    }

    pub(super) fn step(&mut self) {
        if let Err(error) = self.sim.step() {
            self.violation(&format!("a member has ended: {error}"));
        }
        self.world.now_ms.fetch_add(1, Ordering::Relaxed);
    }

    pub(super) fn step_by(&mut self, time: Duration) {
        for _ in 0..time.as_millis() {
            self.step();
        }
    }

    fn step_until(&mut self, limit_ms: u64, reached: impl Fn(&Self) -> bool) -> bool {
        for _ in 0..limit_ms {
            if self.is_over() || reached(self) {
                return true;
            }
            self.step();
        }
        false
    }

    pub(super) fn is_up(&self, at: usize) -> bool {
        self.up[at]
    }

    pub(super) fn crash(&mut self, at: usize) {
        self.up[at] = false;
        self.sim.crash(name(at));
        let mut state = self.world.state();
        state.standing.remove(&at);
        state.crashes.push(self.world.tick());
        state.history.lose(at);
        drop(state);
        self.seats[at].life.lock().unwrap().process = None;
    }

    pub(super) fn start(&mut self, at: usize) {
        self.note(format!("m{at} is started"));
        self.up[at] = true;
        self.sim.bounce(name(at));
    }

    pub(super) fn process(&self, at: usize, act: impl FnOnce(&Process)) {
        if let Some(process) = &self.seats[at].life.lock().unwrap().process {
            act(process);
        }
    }

    /// A member that some member takes for the leader.
    pub(super) fn leader(&self) -> Option<usize> {
        let state = self.world.state();
        let leader = state.standing.values().find_map(|standing| standing.leader)?;
        (0..self.seats.len()).find(|at| id(*at) == leader)
    }

    pub(super) fn set_ahead(&self, at: usize, ahead_ms: i64) {
        self.seats[at].life.lock().unwrap().ahead_ms = ahead_ms;
        self.process(at, |process| process.set_ahead(ahead_ms));
    }

    /// Members that have not found their log damaged.
    fn healthy(&self) -> Vec<usize> {
        let state = self.world.state();
        (0..self.seats.len()).filter(|at| !state.refused.contains_key(at)).collect()
    }

    fn all_ready(&self) -> bool {
        let state = self.world.state();
        (0..self.seats.len()).all(|at| {
            state
                .standing
                .get(&at)
                .is_some_and(|standing| standing.ready && standing.applied > 2)
        })
    }

    /// One leader, and everything applied everywhere.
    fn is_calm(&self) -> bool {
        let healthy = self.healthy();
        let state = self.world.state();
        let mut standing = healthy.iter().map(|at| state.standing.get(at));
        let Some(Some(first)) = standing.next() else { return false };
        let calm = |other: Option<&super::world::Standing>| {
            other.is_some_and(|other| {
                other.leader.is_some() && other.leader == first.leader && other.applied == first.last && other.last == first.last
            })
        };
        calm(Some(first)) && standing.all(calm) && !state.history.is_open()
    }
}
