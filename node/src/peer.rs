//! Calls between the members of a shard, over mutual TLS.
//!
//! In: bodies of bytes for a member, with a deadline; and, from other members, requests for the [`Service`] of this one. Out: answers, or
//! an error that says whether the other end can have seen the request. Absent by design: what the bodies mean (`raft` encodes them), and
//! trust in addresses: a certificate of the cluster is needed to be heard at all, and a frame is for the member whose id it names, not
//! for whoever listens at its address.
//!
//! A member keeps up to four connections to each other one, a [`Lane`] each, so that votes and heartbeats never queue behind a large append
//! or a snapshot.
//! Requests on a lane are pipelined; answers come in any order. Every frame carries its sender's clock and the last stamp that it knows
//! ([`Clock`]), and what room its disk has ([`Rooms`]). Long bodies
//! travel compressed where that makes them shorter.

mod budget;
mod carried;
mod clock;
mod connection;
mod error;
mod frame;
#[cfg(test)]
#[allow(clippy::unwrap_used)]
pub(crate) mod golden;
mod hello;
mod link;
mod listener;
mod packing;
mod rooms;
mod session;
#[cfg(all(test, tokio_unstable))]
pub(crate) mod simulated;
#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::indexing_slicing)]
mod tests;
mod tls_dialer;
mod transport;

pub use clock::Clock;
pub use error::{CallError, Refusal};
pub use frame::{MAX_FRAME_BYTES, Method};
pub use link::{Lane, PeerAddress};
pub use packing::Traffic;
pub use rooms::Rooms;
pub use session::{Reply, Request, Service};
pub use transport::{Identified, Levels, Transport, TransportError, TransportSettings};

pub(crate) use {connection::Pending, session::LOG_STREAM};
