//! The Kubernetes contract of kvfleet: the custom resources `KvCluster` and `Tenant` of
//! `kvfleet.dev/v1alpha1`.
//!
//! In: nothing. Out: the typed resources, the conditions and reasons of their status, the names and
//! labels of every object made for them, the parsers of quantities and durations, and (through the
//! binary `crdgen`) the CustomResourceDefinitions themselves.
//!
//! Absent: a Kubernetes client, and the wire types of the data and admin ports (`kvfleet-api`).
//! A field is in the schema only if this release obeys it: the API server refuses the rest.

pub mod cluster;
pub mod conditions;
pub mod definition;
pub mod duration;
pub mod names;
pub mod quantity;
pub mod reference;
mod rules;
pub mod tenant;

pub use cluster::{KvCluster, KvClusterSpec, KvClusterStatus};
pub use tenant::{Tenant, TenantSpec, TenantStatus};

/// The API group of both resources.
pub const GROUP: &str = "kvfleet.dev";

/// The API version of both resources.
pub const VERSION: &str = "v1alpha1";
