//! All connections of one port. In: a listener. Out: accepted streams, each with a seat, at once even when the port is full: then the connection
//! that is of least use goes. A client address that holds more than a quarter of the port is a crowd: its connections go before those of others
//! that are idle, slow or new. Of equals the oldest goes. So an address may fill a port that no other wants, and is the first to give.
//!
//! What it costs: a lock when a connection comes and when it goes; when the port is full, a look at all connections (at most 8,192: half a
//! millisecond) for up to [`CHOSEN`] of them that go.

use std::{
    collections::HashMap,
    net::{IpAddr, Ipv6Addr},
    sync::{
        Arc, Mutex, MutexGuard,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use tokio::{
    net::{TcpListener, TcpStream},
    sync::{OwnedSemaphorePermit, Semaphore},
    task::AbortHandle,
    time::Instant,
};

use super::activity::{Activity, Use};
use crate::{descriptors, logging::Sample};

/// How many are chosen at a look.
const CHOSEN: usize = 128;
/// For how long a choice holds: others may be of less use by then.
const FRESH: Duration = Duration::from_millis(100);
/// A connection that was let go leaves its seat when its task is next scheduled. After this time another one has to go.
const LEAVE: Duration = Duration::from_secs(1);
/// When every request of a full port makes progress: how soon that is looked at again.
const LOOK: Duration = Duration::from_millis(50);
/// How long after a failed `accept` (no file descriptors left, usually) the next is tried.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);
/// An address that holds more than one part in so many of a port goes first.
const CROWD: usize = 4;

/// A port's connections.
#[derive(Debug)]
pub struct Roster {
    port: &'static str,
    limit: usize,
    room: Arc<Semaphore>,
    epoch: Instant,
    seats: Mutex<Seats>,
    shed: AtomicU64,
    failed: Sample,
}

#[derive(Debug, Default)]
struct Seats {
    last: u64,
    taken: HashMap<u64, Taken>,
    addresses: HashMap<IpAddr, usize>,
    /// The least useful last.
    chosen: Vec<(Use, u64, u64)>,
    chosen_at: Option<Instant>,
}

#[derive(Debug)]
struct Taken {
    activity: Arc<Activity>,
    address: IpAddr,
    /// None before its task has begun.
    task: Option<AbortHandle>,
}

/// What a port's metrics show.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RosterFigures {
    /// `data`, `health`, …
    pub port: &'static str,
    /// Connections now.
    pub open: usize,
    /// The most at a time.
    pub limit: usize,
    /// Let go to make room, since the start.
    pub shed: u64,
}

/// A connection's place; whoever drops it gives the place up.
#[derive(Debug)]
pub struct Seat {
    roster: Arc<Roster>,
    number: u64,
    activity: Arc<Activity>,
    // After the number is struck off: fields are dropped after `drop`.
    _room: OwnedSemaphorePermit,
}

impl Seat {
    /// What happens on the connection.
    pub fn activity(&self) -> &Arc<Activity> {
        &self.activity
    }

    /// The name by which [`Roster::seated`] knows it.
    pub fn number(&self) -> u64 {
        self.number
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        self.roster.seats().leave(self.number);
    }
}

impl Roster {
    /// A port without connections. `limit` is at least 1.
    pub fn new(port: &'static str, limit: usize) -> Arc<Self> {
        Arc::new(Roster {
            port,
            limit,
            room: Arc::new(Semaphore::new(limit)),
            epoch: Instant::now(),
            seats: Mutex::default(),
            shed: AtomicU64::new(0),
            failed: Sample::new(),
        })
    }

    /// What the metrics show.
    pub fn figures(&self) -> RosterFigures {
        RosterFigures {
            port: self.port,
            open: self.limit.saturating_sub(self.room.available_permits()),
            limit: self.limit,
            shed: self.shed.load(Ordering::Relaxed),
        }
    }

    /// The next connection. May be dropped at any moment; one that was accepted and has no seat yet is closed then.
    pub async fn accept(self: &Arc<Self>, listener: &TcpListener) -> (TcpStream, std::net::SocketAddr, Seat) {
        loop {
            match listener.accept().await {
                Ok((stream, address)) => {
                    let seat = self.seat(address.ip()).await;
                    return (stream, address, seat);
                }
                Err(error) => {
                    if descriptors::ran_out(&error) {
                        self.let_one_go();
                    }
                    if let Some(left_out) = self.failed.due() {
                        tracing::warn!(%error, port = self.port, left_out, "a connection could not be accepted");
                    }
                    tokio::time::sleep(ACCEPT_PAUSE).await;
                }
            }
        }
    }

    /// A place for a connection from this address.
    async fn seat(self: &Arc<Self>, address: IpAddr) -> Seat {
        let room = loop {
            if let Ok(room) = Arc::clone(&self.room).try_acquire_owned() {
                break room;
            }
            let wait = if self.let_one_go() { LEAVE } else { LOOK };
            if let Ok(Ok(room)) = tokio::time::timeout(wait, Arc::clone(&self.room).acquire_owned()).await {
                break room;
            }
        };
        let activity = Arc::new(Activity::new(self.epoch));
        let number = self.seats().take(Arc::clone(&activity), network(address));
        Seat {
            roster: Arc::clone(self),
            number,
            activity,
            _room: room,
        }
    }

    /// Tells which task a seat's connection runs in: it is aborted when the connection has to go.
    pub fn seated(&self, number: u64, task: AbortHandle) {
        // A connection that has ended meanwhile has left.
        if let Some(taken) = self.seats().taken.get_mut(&number) {
            taken.task = Some(task);
        }
    }

    /// Whether there was one that may go.
    fn let_one_go(&self) -> bool {
        let mut seats = self.seats();
        let gone = seats.let_go(self.limit);
        drop(seats);
        if gone {
            self.shed.fetch_add(1, Ordering::Relaxed);
        }
        gone
    }

    fn seats(&self) -> MutexGuard<'_, Seats> {
        self.seats.lock().expect("nothing panics while it holds this lock")
    }
}

/// A network that one client may have whole: an IPv6 client chooses among 2^64 addresses.
fn network(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V6(address) => IpAddr::V6(Ipv6Addr::from_bits(address.to_bits() & !u128::from(u64::MAX))),
        address => address,
    }
}

impl Seats {
    fn take(&mut self, activity: Arc<Activity>, address: IpAddr) -> u64 {
        self.last += 1;
        *self.addresses.entry(address).or_default() += 1;
        let taken = Taken {
            activity,
            address,
            task: None,
        };
        self.taken.insert(self.last, taken);
        self.last
    }

    fn leave(&mut self, number: u64) {
        let Some(Taken { address, .. }) = self.taken.remove(&number) else {
            return;
        };
        if let Some(count) = self.addresses.get_mut(&address) {
            *count -= 1;
            if *count == 0 {
                self.addresses.remove(&address);
            }
        }
    }

    fn let_go(&mut self, limit: usize) -> bool {
        if self.chosen_at.is_none_or(|at| at.elapsed() >= FRESH) {
            self.chosen.clear();
        }
        for attempt in 0..2 {
            while let Some((class, since, number)) = self.chosen.pop() {
                if let Some(Taken {
                    activity,
                    task: Some(task),
                    ..
                }) = self.taken.get(&number)
                    && activity.shed(class, since)
                {
                    task.abort();
                    return true;
                }
            }
            if attempt == 0 {
                self.choose(limit);
            }
        }
        false
    }

    fn choose(&mut self, limit: usize) {
        let crowded = |address| self.addresses.get(address).is_some_and(|count| count * CROWD > limit);
        let mut found: Vec<_> = self
            .taken
            .iter()
            .filter(|(_, taken)| taken.task.is_some())
            .filter_map(|(number, taken)| {
                let (class, since) = taken.activity.standing()?;
                let crowded = crowded(&taken.address);
                Some((class >= Use::Idle && !crowded, class, !crowded, since, *number))
            })
            .collect();
        if found.len() > CHOSEN {
            found.select_nth_unstable(CHOSEN);
            found.truncate(CHOSEN);
        }
        found.sort_unstable();
        // While there are some of a crowd, or of no use, those of others are not even considered: more of the former may come before they all are gone.
        if let Some((spared, ..)) = found.first().copied() {
            found.retain(|candidate| candidate.0 == spared);
        }
        self.chosen = found
            .into_iter()
            .rev()
            .map(|(_, class, _, since, number)| (class, since, number))
            .collect();
        self.chosen_at = Some(Instant::now());
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use std::future::pending;

    use super::*;

    const HERE: [u8; 4] = [10, 0, 0, 1];
    const THERE: [u8; 4] = [10, 0, 0, 2];

    /// A connection's task ends when it is let go; `watch` tells.
    struct Guest {
        activity: Arc<Activity>,
        task: tokio::task::JoinHandle<()>,
    }

    impl Guest {
        async fn come(roster: &Arc<Roster>, address: [u8; 4]) -> Guest {
            let seat = roster.seat(address.into()).await;
            let (number, activity) = (seat.number(), Arc::clone(seat.activity()));
            let task = tokio::spawn(async move {
                let _seat = seat;
                pending().await
            });
            roster.seated(number, task.abort_handle());
            Guest { activity, task }
        }

        async fn gone(&self) -> bool {
            // Aborted tasks go when the runtime comes round to them.
            for _ in 0..10 {
                tokio::task::yield_now().await;
            }
            self.task.is_finished()
        }

        fn serve(&self) {
            assert!(self.activity.begin());
            self.activity.answered();
            self.activity.flushed();
        }
    }

    async fn second() {
        tokio::time::advance(Duration::from_secs(1)).await;
    }

    #[tokio::test(start_paused = true)]
    async fn the_least_useful_goes_first_and_the_oldest_of_equals() {
        let roster = Roster::new("test", 5);
        let stuck = Guest::come(&roster, HERE).await;
        assert!(stuck.activity.begin());
        stuck.activity.write_waits();
        second().await;
        let idle_long = Guest::come(&roster, HERE).await;
        idle_long.serve();
        second().await;
        let idle = Guest::come(&roster, HERE).await;
        idle.serve();
        let busy = Guest::come(&roster, HERE).await;
        assert!(busy.activity.begin());
        let silent = Guest::come(&roster, HERE).await;
        tokio::time::advance(Duration::from_secs(5)).await;

        let mut newcomers = Vec::new();
        for (name, expected) in [
            ("silent", &silent),
            ("stuck", &stuck),
            ("idle for longest", &idle_long),
            ("idle", &idle),
        ] {
            assert!(!expected.gone().await, "{name} went too early");
            newcomers.push(Guest::come(&roster, HERE).await);
            assert!(expected.gone().await, "{name} is to go");
        }
        // Four that have just come are left, and the one with a request under way stays whatever happens.
        newcomers.push(Guest::come(&roster, HERE).await);
        assert!(newcomers.first().unwrap().gone().await && !busy.gone().await);
        assert_eq!(roster.figures().shed, 5);
        assert_eq!((roster.figures().open, roster.figures().limit), (5, 5));
    }

    #[tokio::test(start_paused = true)]
    async fn an_address_that_holds_more_than_its_part_gives_first() {
        let roster = Roster::new("test", 8);
        let rare = Guest::come(&roster, THERE).await;
        rare.serve();
        second().await;
        let mut crowd = Vec::new();
        for _ in 0..7 {
            let guest = Guest::come(&roster, HERE).await;
            guest.serve();
            crowd.push(guest);
        }
        let newcomer = Guest::come(&roster, THERE).await;
        assert!(!rare.gone().await && !newcomer.gone().await);
        assert!(crowd.first().unwrap().gone().await);
        newcomer.serve();
        // Also when the crowd's are all new, and others are idle.
        for _ in 0..20 {
            crowd.push(Guest::come(&roster, HERE).await);
        }
        assert!(!rare.gone().await && !newcomer.gone().await);
    }

    #[tokio::test(start_paused = true)]
    async fn a_full_port_of_requests_under_way_waits_for_the_first_that_ends() {
        let roster = Roster::new("test", 1);
        let busy = Guest::come(&roster, HERE).await;
        assert!(busy.activity.begin());
        let waiting = tokio::time::timeout(Duration::from_secs(60), roster.seat(HERE.into())).await;
        assert!(waiting.is_err() && !busy.gone().await);
        busy.activity.answered();
        busy.activity.flushed();
        roster.seat(HERE.into()).await;
        assert!(busy.gone().await);
        assert_eq!(roster.seats().addresses.len(), 0, "nothing is kept of those that have left");
    }

    #[tokio::test]
    async fn nine_thousand_that_come_and_stay_cost_little() {
        let roster = Roster::new("test", 8_192);
        let mut guests = Vec::new();
        for _ in 0..8_192 {
            guests.push(Guest::come(&roster, HERE).await);
        }
        let begun = std::time::Instant::now();
        for _ in 0..800 {
            guests.push(Guest::come(&roster, HERE).await);
        }
        // Measured: 30 ms in a debug build. One look for each would be seconds.
        assert!(begun.elapsed() < Duration::from_secs(2), "{:?}", begun.elapsed());
        assert_eq!(roster.figures().shed, 800);
    }

    #[test]
    fn a_network_of_ipv6_counts_as_one_address() {
        let of = |text: &str| network(text.parse().unwrap());
        assert_eq!(of("2001:db8::1"), of("2001:db8::ffff:2"));
        assert_ne!(of("2001:db8::1"), of("2001:db8:0:1::1"));
        assert_ne!(of("10.0.0.1"), of("10.0.0.2"));
        assert_eq!(of("::ffff:10.0.0.1"), of("10.0.0.1"));
    }
}
