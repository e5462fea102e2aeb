//! The objects of a Tenant.
//!
//! In: names, the tenant as the log has it, the key that signs. Out: typed objects; equal inputs give equal objects. Absent: a client.

mod role_binding;
mod secret;

pub use role_binding::role_binding;
pub use secret::{Credentials, secret};
