//! `kvnode`: one member of a kvfleet cluster.
//!
//! A request goes `http → app → raft → state → storage`. The arrows go one way: a layer names only the one below it, and this file is
//! the only place that knows them all.

pub mod app;
pub mod auth;
pub mod cluster_id;
pub mod http;
pub mod log;
pub mod metrics;
pub mod peer;
pub mod problem;
pub mod raft;
pub mod state;
pub mod storage;
pub mod tls;
