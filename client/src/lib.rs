//! Rust client for kvfleet.
//!
//! [`data`] talks REST to a cluster's data port with a tenant's token. Absent by design: Kubernetes, and any knowledge of how a member works inside.

pub mod data;
