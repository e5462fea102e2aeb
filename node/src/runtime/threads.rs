//! Which threads run what. In: nothing. Out: three tokio runtimes, and for every thread of them where the tasks of consensus run.
//!
//! - `raft`: openraft's core, replication, heartbeats, the peers' connections, the reads' and the writes' ways to the leader. Nothing runs there
//!   that a tenant can make long.
//! - `tenants`: the data port, and everything that a tenant's request does. It may be busy without end: a heartbeat never waits in its queue.
//! - `member`: the process itself, and the ports by which it is looked after (health, metrics, admin). It answers when tenants fill theirs.
//!
//! They meet in channels. The operating system shares the processors among the threads: one that has slept, as Raft's mostly has, comes
//! before those that have not. Figures: docs/adr/0023.

use std::{
    cell::RefCell,
    io,
    sync::atomic::{AtomicUsize, Ordering},
    time::Duration,
};

use tokio::runtime::{Builder, Handle, Runtime};

/// One: openraft's core is one task that everything else of Raft waits for, so a second thread would mostly pass it work; each such pass is a
/// system call. A second only helps where packing or TLS fill the first, and the former is done aside.
const RAFT_WORKERS: usize = 1;

/// Health, metrics and admin together: few requests, and none of a tenant.
const MEMBER_WORKERS: usize = 1;

/// Raft's threads for calls that block: one log read and one snapshot step for each of at most seven members, a scrub, and bodies that are packed.
/// Those of tenants are bounded by their lanes (`app::blocking`).
const RAFT_BLOCKING: usize = 64;

/// A disk that hangs must not keep a failed member from ending.
const PATIENCE: Duration = Duration::from_millis(200);

thread_local! {
    /// Where Raft's tasks run, on a thread that is none of Raft's.
    static HOME: RefCell<Option<Handle>> = const { RefCell::new(None) };
}

/// Where Raft's tasks run, unless that is here.
#[cfg_attr(all(test, tokio_unstable), allow(dead_code))]
pub(super) fn home() -> Option<Handle> {
    HOME.try_with(|home| home.borrow().clone()).ok().flatten()
}

fn settle(home: Option<Handle>) {
    HOME.set(home);
}

/// The threads of a process.
pub struct Runtimes {
    raft: Runtime,
    tenants: Runtime,
    member: Runtime,
}

impl Runtimes {
    /// Starts them.
    ///
    /// # Errors
    /// When the system gives no threads.
    pub fn start() -> io::Result<Self> {
        let mut builder = Builder::new_multi_thread();
        let raft = named("raft", builder.worker_threads(RAFT_WORKERS).max_blocking_threads(RAFT_BLOCKING))?;
        let home = raft.handle().clone();
        let away = |name, builder: &mut Builder| {
            let home = home.clone();
            named(name, builder.on_thread_start(move || settle(Some(home.clone()))))
        };
        // As many as there are processors: tokio's own choice.
        let tenants = away("tenants", &mut Builder::new_multi_thread())?;
        let member = away("member", Builder::new_multi_thread().worker_threads(MEMBER_WORKERS))?;
        Ok(Runtimes { raft, tenants, member })
    }

    /// Where tenants' requests run.
    pub fn tenants(&self) -> Handle {
        self.tenants.handle().clone()
    }

    /// Runs the process's life on this thread.
    pub fn block_on<F: Future>(&self, life: F) -> F::Output {
        settle(Some(self.raft.handle().clone()));
        let lived = self.member.block_on(life);
        settle(None);
        lived
    }

    /// Ends them, without waiting for what blocks.
    pub fn end(self) {
        self.tenants.shutdown_timeout(PATIENCE);
        self.member.shutdown_timeout(PATIENCE);
        self.raft.shutdown_timeout(PATIENCE);
    }
}

/// `raft-0`, `raft-1`, …: workers first.
fn named(name: &'static str, builder: &mut Builder) -> io::Result<Runtime> {
    let next = AtomicUsize::new(0);
    builder
        .enable_all()
        .thread_name_fn(move || format!("{name}-{}", next.fetch_add(1, Ordering::Relaxed)))
        .build()
}
