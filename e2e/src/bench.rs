//! `make bench`: kvfleet and etcd under one load, on one machine, in turns.
//!
//! In: two programs, `kvnode` and etcd's server. Out: rates, latencies, processor time, memory and bytes written, side by side
//! ([`report`]). The load ([`load`]) is ours, because no other generator costs as little and speaks to both; it is a closed loop, so a
//! connection that waits sends nothing: latencies are what such a client sees, not what a fixed rate would meet. Both systems share
//! the machine with the load. Absolute figures are those of the machine; the ratio is what is compared. Absent: Kubernetes.

pub mod bare;
pub mod cluster;
pub mod disk;
pub mod etcd;
pub mod histogram;
pub mod kvfleet;
pub mod load;
pub mod point;
pub mod ports;
pub mod process;
pub mod programs;
pub mod report;
pub mod request;
pub mod response;
pub mod suite;
