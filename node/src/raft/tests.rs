//! Groups of real members in one process: real sockets on loopback with mutual TLS, real logs and real state machines in temporary
//! directories. Nothing waits for a fixed time; conditions are awaited, with a limit that fails the test.

mod changing;
mod consistency;
mod disks;
mod fleet;
mod forming;
mod gate;
mod grouping;
mod inflow;
mod losing;
mod raising;
mod reading;
mod refusing;
mod retaining;
#[cfg(tokio_unstable)]
pub(super) mod simulation;
mod snapshotting;
mod storage_suite;
#[cfg(not(tokio_unstable))]
mod threads;
mod transferring;
