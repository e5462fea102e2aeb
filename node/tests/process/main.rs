//! The real program, from outside: started, asked over its ports, ended and killed.

#![allow(
    clippy::indexing_slicing,
    clippy::unwrap_used,
    reason = "a test may panic; its helper functions are not seen as tests"
)]

mod admin;
mod alone;
mod certs;
mod cluster;
mod dump_log;
mod http;
mod joining;
mod levels;
mod member;
mod membership;
mod neighbours;
mod quarantine;
mod reads;
mod replacement;
mod strangers;
mod threads;
