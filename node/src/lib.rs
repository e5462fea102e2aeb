//! `kvnode`: one member of a kvfleet cluster.
//!
//! A request goes `http → app → raft → state → storage`. The arrows go one way: a layer names only the one below it, and this file is
//! the only place that knows them all.

pub mod cluster_id;
pub mod log;
pub mod peer;
pub mod raft;
pub mod state;
pub mod storage;
pub mod tls;
