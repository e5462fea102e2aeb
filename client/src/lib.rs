//! Rust client for kvfleet.
//!
//! [`data`] talks REST to a cluster's data port with a tenant's token; [`admin`] talks to the members' admin ports with the operator's certificate. Absent by design: Kubernetes, and any knowledge of how a member works inside.

pub mod admin;
pub mod data;
mod tls;

pub use tls::TlsError;
