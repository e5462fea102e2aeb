//! What a member asks of its machine besides files and sockets: tasks, threads for work that blocks, the time of day. In: futures and
//! closures. Out: tokio and the operating system. Absent: any choice about what runs where, but for one: consensus has threads of its own
//! (`threads`), and its tasks run there from whichever thread they are asked for.
//!
//! It is one place so that the simulation (`raft/tests/simulation`) can put another machine underneath: one thread for everything, a
//! process that can be paused, and a clock that can be wrong.

#[cfg(not(all(test, tokio_unstable)))]
mod machine;
#[cfg(all(test, tokio_unstable))]
pub(crate) mod simulated;
mod threads;

#[cfg(not(all(test, tokio_unstable)))]
pub(crate) use machine::{at_home, blocking, spawn, thread, wall_ms};
#[cfg(all(test, tokio_unstable))]
pub(crate) use simulated::{at_home, blocking, spawn, thread, wall_ms};
pub use threads::Runtimes;
