//! The operator of kvfleet: reconciles `KvCluster` and `Tenant`.
//!
//! In: the configuration and the API server's objects. Out: objects, formed groups, placed tenants, honest status. [`cluster`] and `tenant`
//! are the two controllers; [`lease`] makes one replica the active one. Absent: the data path, which goes on without an operator.

pub mod apply;
pub mod caches;
pub mod config;
pub mod context;
pub mod error;
pub mod hash;
pub mod lease;
pub mod lift_finalizers;
pub mod tenant;
pub mod token;
