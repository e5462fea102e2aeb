//! `kvnode`: one member of a kvfleet cluster.
//!
//! A request goes `http → app → raft → state → storage`. The arrows go one way: a layer names only the one below it, and this file is
//! the only place that knows them all.

pub mod admin;
pub mod app;
pub mod auth;
pub mod cluster_id;
pub mod config;
pub mod connections;
pub mod data_dir;
pub mod descriptors;
pub mod dump_log;
pub mod health;
pub mod http;
pub mod lifecycle;
pub mod log;
pub mod logging;
pub mod metrics;
pub mod panics;
pub mod peer;
pub mod problem;
pub mod raft;
pub mod runtime;
pub mod shares;
pub mod standalone;
pub mod state;
pub mod storage;
pub mod tls;
