//! The data port: REST over HTTP/1.1 (docs/api.md).
//!
//! In: connections. Out: answers, each error a problem document. A handler parses strictly, has the caller authenticated by `auth` and
//! admitted by `app`, calls `app` and maps what comes back. Absent by design: storage, consensus, and every rule about limits.
//!
//! The path is read as it was sent, not as axum would take it apart: a key keeps its double slashes, dot segments and trailing slashes,
//! and `%2F` in it is a slash. So there is one handler and no router before it, and `route` is the list of resources.

mod answer;
mod body;
mod condition;
mod cursor;
mod delete;
mod describe;
mod expiry;
mod get;
mod handle;
mod idle;
mod item;
mod key;
mod kind;
mod metadata;
mod pages;
mod port;
mod put;
mod query;
mod refuse;
mod request;
mod route;
mod scan;
mod server;
mod streamed;
#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::indexing_slicing)]
mod tests;
mod time;
mod trace;

pub(crate) use idle::looks;
pub use port::Port;
pub use server::{Cut, Server, serve};
