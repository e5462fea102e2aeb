//! Who is at the other end of a peer or admin connection.
//!
//! In: a directory with `ca.crt`, `tls.crt` and `tls.key`, read again when the files change. Out: rustls configurations that accept a
//! certificate only if it chains to the CA *and* its URI name is `kvfleet://<clusterId>/<role>` with a role that the port takes; TLS 1.3
//! only. Absent: host names. A pod moves and an address lies, so nobody is believed because of where he answers.

pub mod issue;

mod identity;
mod material;
mod verifier;

pub use identity::{Identity, IdentityError, Role};
pub use material::{TlsDirectory, TlsError};
