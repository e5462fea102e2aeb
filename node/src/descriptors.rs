//! File descriptors: how many the process has, and who may use how many. In: the system's limits. Out: the shares. Absent: what is done when a
//! share is used up (`connections` lets the least useful connection go, the log and the store wait as they do for disk space).
//!
//! A connection costs a descriptor and needs no token, so without shares any client could take the descriptors that the log and the
//! store open their files with, and end the member.

use std::{io, os::fd::AsRawFd};

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

/// With fewer the member would serve a handful of clients and wait for descriptors all day.
const LEAST: u64 = 512;
/// More than all shares together at their largest; the soft limit is not raised beyond it.
const ENOUGH: u64 = 65_536;
/// What the storage engine keeps open at most: its own default.
const STORE_MOST: u64 = 900;
/// Segments of the log (4 GiB are 64), journals, files that are being written, certificates, connections to other members, epoll.
const FILES_MOST: u64 = 1_024;
/// Connections of the data port.
const DATA_MOST: u64 = 8_192;
/// Connections of each other port.
const OTHER_MOST: u64 = 256;
/// Health, metrics, admin; the peer port's callers without and with a certificate.
const OTHERS: u64 = 5;
/// A lowest free descriptor this close to the limit means that files can hardly be opened any more.
const SHORT: u64 = 16;

/// The limit is too low to run with.
#[derive(Debug, thiserror::Error)]
#[error(
    "the process may open {0} files, and needs at least {LEAST} (`ulimit -n`, LimitNOFILE= of systemd, the container runtime's limit): raise it"
)]
pub struct TooFewDescriptors(u64);

/// Who may have how many descriptors. Together they stay below the limit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Shares {
    /// All of the process.
    pub limit: u64,
    /// Files that the storage engine keeps open, for each of two stores: a received snapshot is one beside that in use.
    pub store: usize,
    /// Connections of the data port.
    pub data: usize,
    /// Connections of each other port; on the peer port this many callers without a certificate and as many with one.
    pub other: usize,
}

impl Shares {
    fn of(limit: u64) -> Shares {
        let store = (limit / 8).min(STORE_MOST);
        let files = (limit / 6).min(FILES_MOST);
        // Each port holds one connection more while it makes room for it.
        let connections = limit.saturating_sub(2 * store + files + SHORT + OTHERS + 1);
        let other = (connections / 12).clamp(1, OTHER_MOST);
        let data = connections.saturating_sub(OTHERS * other).clamp(1, DATA_MOST);
        let count = |share: u64| usize::try_from(share).unwrap_or(usize::MAX);
        Shares {
            limit,
            store: count(store),
            data: count(data),
            other: count(other),
        }
    }

    /// As the limit is now.
    pub fn now() -> Shares {
        Shares::of(soft())
    }
}

fn soft() -> u64 {
    // None is a limit too: that there is none.
    getrlimit(Resource::Nofile).current.unwrap_or(ENOUGH)
}

/// Raises the soft limit as far as it is useful and allowed, and shares it out.
///
/// # Errors
/// When even the hard limit is too low.
pub fn raise() -> Result<Shares, TooFewDescriptors> {
    let Rlimit { current, maximum } = getrlimit(Resource::Nofile);
    let wanted = maximum.map_or(ENOUGH, |maximum| maximum.min(ENOUGH));
    if let Some(current) = current.filter(|current| *current < wanted) {
        let raised = Rlimit {
            current: Some(wanted),
            maximum,
        };
        if let Err(error) = setrlimit(Resource::Nofile, raised) {
            tracing::warn!(%error, current, wanted, "the limit of open files could not be raised");
        }
    }
    let shares = Shares::now();
    if shares.limit < LEAST {
        return Err(TooFewDescriptors(shares.limit));
    }
    let Shares { limit, store, data, other } = shares;
    tracing::info!(limit, store, data, other, "file descriptors are shared out");
    Ok(shares)
}

/// Whether an error says that the process, or the system, has no descriptor left. It passes, as a full disk does.
pub fn ran_out(error: &io::Error) -> bool {
    use rustix::io::Errno;
    let codes = [Errno::MFILE, Errno::NFILE].map(Errno::raw_os_error);
    error.raw_os_error().is_some_and(|code| codes.contains(&code))
}

/// Whether files can hardly be opened at this moment. The system gives the lowest number that is free: one look tells.
pub fn short() -> bool {
    use std::os::fd::AsFd;
    match io::stderr().as_fd().try_clone_to_owned() {
        Ok(lowest) => u64::try_from(lowest.as_raw_fd()).is_ok_and(|lowest| lowest + SHORT >= soft()),
        Err(error) => ran_out(&error),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_shares_stay_below_every_limit_that_is_enough() {
        for limit in (LEAST..20_000).chain([65_536, 1 << 20, 1 << 30]) {
            let shares = Shares::of(limit);
            let connections = shares.data as u64 + OTHERS * shares.other as u64 + OTHERS + 1;
            let used = connections + 2 * shares.store as u64 + (limit / 6).min(FILES_MOST);
            assert!(used <= limit, "{shares:?}");
            assert!(shares.data >= 100 && shares.other >= 20 && shares.store >= 64, "{shares:?}");
        }
        let large = Shares::of(ENOUGH);
        assert_eq!((large.store, large.data, large.other), (900, 8_192, 256), "docs/operations.md");
        let small = Shares::of(1_024);
        assert_eq!((small.store, small.data, small.other), (128, 336, 48), "docs/operations.md");
    }

    #[test]
    fn too_many_open_files_is_told_from_other_errors() {
        assert!(ran_out(&io::Error::from_raw_os_error(24)) && ran_out(&io::Error::from_raw_os_error(23)));
        assert!(!ran_out(&io::Error::from_raw_os_error(5)) && !ran_out(&io::ErrorKind::StorageFull.into()));
        assert!(!short(), "a test process has files to spare");
    }
}
