//! What a member asks of its machine besides files and sockets: tasks, threads for work that blocks, the time of day. In: futures and
//! closures. Out: tokio and the operating system. Absent: any choice about what runs where; the callers make it.
//!
//! It is one place so that the simulation (`raft/tests/simulation`) can put another machine underneath: one thread for everything, a
//! process that can be paused, and a clock that can be wrong.

#[cfg(not(all(test, tokio_unstable)))]
mod machine;
#[cfg(all(test, tokio_unstable))]
pub(crate) mod simulated;

#[cfg(not(all(test, tokio_unstable)))]
pub(crate) use machine::{blocking, spawn, thread, wall_ms};
#[cfg(all(test, tokio_unstable))]
pub(crate) use simulated::{blocking, spawn, thread, wall_ms};
