//! What a member counts, and the port that shows it.
//!
//! In: [`Requests`], into which the data port reports every answered request, and a [`Source`] that is asked at each scrape. Out:
//! `GET /metrics` in the OpenMetrics text format. Absent by design: a label per tenant, key or client (a label's values must be few, and
//! known when the program is built, and none may change its value from scrape to scrape: each value is a time series for as long as the reader keeps them);
//! state of its own: apart from the request counters every figure is read when it is asked for; and any work that a scrape could wait for: whoever
//! reaches the port may ask as often as they like.

mod member;
mod ports;
mod process;
mod requests;
mod server;

pub use member::{LogCounters, MemberFigures, PeerCounters, Source};
pub use process::resident_bytes;
pub use requests::{Observation, Requests};
pub(crate) use server::render;
pub use server::{exposition, registry, router};
