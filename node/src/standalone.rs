//! What an operator does for a member on Kubernetes, for a member without one.
//!
//! In: the `Standalone` part of the configuration. Out: a formed group, tenants in force, tokens in files. Absent by design: anything that
//! runs on Kubernetes; there all of this stays idle.

pub mod certificates;
pub mod discovery;
pub mod formation;
pub mod join_token;
pub mod provision;
pub mod signing;
pub mod tenants;
pub mod welcome;
