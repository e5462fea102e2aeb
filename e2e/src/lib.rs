//! Black-box tests of kvfleet: on a real cluster, and with bare processes under faults.
//!
//! A test gets a namespace of its own ([`namespace::Namespace`]), applies manifests with `kubectl` as a user would, and speaks to the
//! cluster from a pod ([`probe::Probe`]) or through a port-forward. What it waits for it awaits; nothing sleeps. When a test fails, the namespace's
//! objects, events and logs are printed. Absent by design: the operator's and the node's code.

pub mod bench;
pub mod dice;
pub mod fleet;
pub mod history;
pub mod kubectl;
pub mod linearizability;
pub mod load;
pub mod manifest;
pub mod mutation;
pub mod namespace;
pub mod nemesis;
pub mod probe;
pub mod verdict;
pub mod wait;
