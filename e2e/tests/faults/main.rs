//! The proof with real processes: what is acknowledged stays, what is read is not stale, whatever happens to processes, networks and disks.
//!
//! `make faults` runs each of these quickly, `make test-faults` at full length (variables `KVFLEET_HISTORIES`, `KVFLEET_FREEZES`,
//! `KVFLEET_GAPS`, `KVFLEET_CUTS`, `KVFLEET_CORRUPTIONS`, `KVFLEET_OVERWRITES`, `KVFLEET_AWAY_SECONDS`, `KVFLEET_DELETIONS`). Every run prints its seed; `KVFLEET_SEED` repeats it: the same faults in the same
//! order, though not the same interleaving. Root, loop devices and network namespaces are needed, and missing ones fail the test.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, missing_docs)]

mod clocks;
mod corruption;
mod deletions;
mod frozen;
mod full_disks;
mod gaps;
mod histories;
mod ledger;
mod log_size;
mod partition;
mod power;
mod strangers;

use kvfleet_e2e::verdict;
