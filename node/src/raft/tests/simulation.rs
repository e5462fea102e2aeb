//! The real consensus, log, state and transport code on a simulated machine: disks that lose what was not flushed, a network that delays,
//! loses and cuts, processes that are killed and paused, clocks that are wrong. One thread runs a whole cluster, in simulated time, and a
//! seed decides everything that happens, so a seed that fails fails again.
//!
//! Real: [`Group`](crate::raft::Group), openraft, the log down to [`Disk`](crate::log::Disk), the transport above its sockets, the state
//! machine down to [`Store`](crate::storage::Store). Simulated: what is below (`log::disk::fake`, `store`, turmoil's sockets), threads (they
//! are tasks), the time of day. Absent: HTTP, TLS, fjall and the file system; `make test-faults` has the real ones.
//!
//! `SEED=7 make test-simulation` runs one seed and prints what happened; `SEEDS=2000` many.

mod client;
mod cluster;
mod faults;
mod history;
mod invariants;
mod member;
mod runtime;
mod store;
mod trace;
mod world;

use std::{collections::BTreeMap, time::Duration};

pub use runtime::Runtime;

use self::{
    cluster::{FAULTS, FLUSHES, IGNORED, NONE, run},
    history::Totals,
};

/// How many seeds a run of all tests tries.
const SEEDS: u64 = 60;

fn number(name: &str) -> Option<u64> {
    let given = std::env::var(name).ok().filter(|given| !given.is_empty())?;
    Some(given.parse().unwrap_or_else(|_| panic!("{name}={given} is not a number")))
}

/// Runs a seed in a process of its own, and returns what it printed: tokio numbers all tasks of a process, and the order in which the
/// tasks of a killed member are dropped depends on the numbers.
fn in_own_process(seed: u64, lines: usize, environment: &[(&str, &str)]) -> Result<String, String> {
    let output = std::process::Command::new(std::env::current_exe().unwrap())
        .args([
            "raft::tests::simulation::no_seed_breaks_an_invariant",
            "--exact",
            "--nocapture",
            "--test-threads=1",
        ])
        .env("SEED", seed.to_string())
        .env("TRACE", lines.to_string())
        .envs(environment.iter().copied())
        .output()
        .unwrap();
    let printed = String::from_utf8(output.stdout).unwrap();
    // The rest is the test harness's, and says how long it took.
    let printed = printed.split_once(BEGIN).map_or(printed.as_str(), |(_, printed)| printed);
    let printed = printed.split_once(END).map_or(printed, |(printed, _)| printed).to_owned();
    if output.status.success() {
        Ok(printed)
    } else {
        Err(format!("{printed}{}", String::from_utf8_lossy(&output.stderr)))
    }
}

/// A task that never waits stops simulated time for ever.
fn end_after(limit: Duration) {
    std::thread::spawn(move || {
        std::thread::sleep(limit);
        eprintln!("the seed has not ended after {limit:?}: a task that never waits stops simulated time; a debugger shows which");
        std::process::exit(1);
    });
}

/// A seed takes about a second.
const LIMIT: Duration = Duration::from_secs(180);

const BEGIN: &str = "-- begin\n";
const END: &str = "-- end\n";

#[test]
fn no_seed_breaks_an_invariant() {
    if let Some(seed) = number("SEED") {
        end_after(LIMIT);
        let outcome = run(seed);
        print!("{BEGIN}");
        outcome.print();
        print!("{END}");
        assert!(
            outcome.violation.is_none(),
            "seed {seed}: {}",
            outcome.violation.unwrap_or_default()
        );
        return;
    }
    let first = number("FIRST_SEED").unwrap_or(1);
    let last = first + number("SEEDS").unwrap_or(SEEDS) - 1;
    let next = std::sync::atomic::AtomicU64::new(first);
    let work = || {
        let mut totals = Totals::default();
        let mut failed = BTreeMap::new();
        loop {
            let seed = next.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
            if seed > last {
                return (totals, failed);
            }
            match in_own_process(seed, 40, &[]) {
                Ok(printed) => totals.add(&Totals::parse(&printed)),
                Err(printed) => {
                    println!("SEED={seed} make test-simulation   # fails");
                    failed.insert(seed, printed);
                }
            }
        }
    };
    let mut totals = Totals::default();
    let mut failed = BTreeMap::new();
    let threads = std::thread::available_parallelism().map_or(1, usize::from);
    std::thread::scope(|scope| {
        let workers: Vec<_> = (0..threads).map(|_| scope.spawn(work)).collect();
        for worker in workers {
            let (mine, outcomes) = worker.join().unwrap();
            totals.add(&mine);
            failed.extend(outcomes);
        }
    });
    println!("seeds {first} to {last}: {totals}");
    if let Some((seed, printed)) = failed.first_key_value() {
        println!("{printed}");
        let seeds: Vec<_> = failed.keys().collect();
        panic!("seeds {seeds:?} break an invariant; replay one: SEED={seed} make test-simulation");
    }
    totals.assert_plausible(last - first + 1);
}

#[test]
fn a_seed_replays_bit_for_bit() {
    for seed in [3, 42] {
        let run = || in_own_process(seed, usize::MAX, &[]).unwrap();
        let (first, second) = (run(), run());
        assert!(first.lines().count() > 1_000, "the trace of seed {seed} is empty: {first}");
        let difference = first.lines().zip(second.lines()).find(|(first, second)| first != second);
        assert_eq!(difference, None, "seed {seed} differs from itself");
        assert_eq!(first, second);
    }
}

/// Members that never restart are looked at from their first entry on, too.
#[test]
fn a_cluster_without_faults_breaks_no_invariant() {
    let printed = in_own_process(1, 40, &[(FAULTS, NONE)]).unwrap();
    let totals = Totals::parse(&printed);
    assert_eq!((totals.faults, totals.crashes), (0, 0));
    assert!(totals.written > 100, "hardly anything was written: {totals}");
}

/// The twin of the whole: on disks that report flushes and do none, acknowledged writes and votes are lost, and that is seen.
#[test]
fn disks_that_ignore_flushes_are_seen() {
    let seen = (1..=SEEDS).find_map(|seed| in_own_process(seed, 0, &[(FLUSHES, IGNORED)]).err());
    let seen = seen.expect("no seed has noticed that nothing was flushed");
    assert!(seen.contains("breaks an invariant"), "{seen}");
}
