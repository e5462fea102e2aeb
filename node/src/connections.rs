//! Who is connected to a port, and who has to go when it is full.
//!
//! In: accepted connections, and what happens on them. Out: a [`Seat`] for each, after another one was let go if there was none left. Absent:
//! protocols; a port says when a request begins and when it is answered, the stream itself shows whether the client reads.
//!
//! A port's connections are bounded by its share of the process's descriptors ([`descriptors`](crate::descriptors)), and anybody who
//! reaches the port can open one. So a full port never shuts its door: it lets the connection go that is of least use (`activity`). Nothing of
//! it is paid for by requests: they change two words of their own connection, and only a full port looks at all of them.

mod activity;
mod roster;
mod watched;

use std::{io, os::fd::AsFd, time::Duration};

pub use activity::Activity;
pub use roster::{Roster, RosterFigures, Seat};
pub(crate) use watched::Watched;

/// A client that has vanished (its machine lost power, a cable was pulled) is asked for after so much silence, …
const SILENCE: Duration = Duration::from_secs(60);
/// … this often, …
const INTERVAL: Duration = Duration::from_secs(15);
/// … and given up when it does not answer, or does not confirm what it was sent, for about this long in all.
const ABSENT: Duration = Duration::from_secs(60);

/// Connections that wait in the kernel while others are let go; it takes no more than `net.core.somaxconn`.
const BACKLOG: i32 = 4_096;

/// Lets the kernel keep a burst of new clients, and find out about those that are gone without a word. Accepted connections have the listener's
/// options.
///
/// # Errors
/// When the socket takes none of them.
pub(crate) fn prepare(listener: impl AsFd) -> io::Result<()> {
    use rustix::net::sockopt;
    let listener = listener.as_fd();
    rustix::net::listen(listener, BACKLOG)?;
    sockopt::set_socket_keepalive(listener, true)?;
    sockopt::set_tcp_keepidle(listener, SILENCE)?;
    sockopt::set_tcp_keepintvl(listener, INTERVAL)?;
    sockopt::set_tcp_user_timeout(listener, u32::try_from(ABSENT.as_millis()).unwrap_or(u32::MAX))?;
    Ok(())
}
