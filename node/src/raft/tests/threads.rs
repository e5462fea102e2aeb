//! Tenants may fill their threads; the group goes on.

use std::{
    sync::mpsc,
    thread::available_parallelism,
    time::{Duration, Instant},
};

use super::fleet::{Fleet, put, soon};
use crate::runtime::Runtimes;

/// Longer than three elections take.
const BLOCKED: Duration = Duration::from_secs(3);

/// Everything is started by tasks of the tenants' runtime, as if a member did not know its threads, and then none of these is free. With
/// Raft's tasks among them no member would hear a heartbeat.
#[test]
fn a_leader_stays_while_no_thread_of_tenants_is_free() {
    let runtimes = Runtimes::start().unwrap();
    let tenants = runtimes.tenants();
    let fleet = runtimes.block_on(tenants.spawn(Fleet::formed(3))).unwrap();
    runtimes.block_on(async {
        let leader = fleet.leader().await;
        let terms = || (0..3).map(|at| fleet.group(at).status().term).collect::<Vec<_>>();
        let before = terms();

        let (blocked, blocking) = mpsc::channel();
        let workers = available_parallelism().unwrap().get();
        let until = Instant::now() + BLOCKED;
        for _ in 0..workers {
            let blocked = blocked.clone();
            drop(tenants.spawn(async move {
                blocked.send(()).unwrap();
                std::thread::sleep(until.saturating_duration_since(Instant::now()));
            }));
        }
        for _ in 0..workers {
            blocking.recv().unwrap();
        }
        let mut writes = 0;
        while Instant::now() < until {
            fleet.group(leader).propose(put("k", "v"), soon()).await.unwrap();
            fleet.group(leader).read_leased(soon()).await.unwrap();
            fleet.group((leader + 1) % 3).read_barrier(soon()).await.unwrap();
            writes += 1;
        }
        assert!(writes > 100, "{writes} writes in {BLOCKED:?}: they waited for the tenants' threads");
        assert_eq!(terms(), before, "no member has stood for election");
        assert_eq!(fleet.leader().await, leader);
    });
    drop(runtimes.block_on(tenants.spawn(async move { drop(fleet) })));
    runtimes.end();
}
