//! What a user does with a cluster, one topic per file. These tests run side by side, each in a namespace of its own.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, missing_docs)]

mod deletion;
mod failover;
mod idle;
mod images;
mod keys;
mod limits;
mod names;
mod refusals;
mod scaling;
mod tenants;
mod tokens;
mod truth;
mod volumes;
