//! One member: what survives its crashes, and one life of it.

use std::{
    sync::{Arc, Mutex},
    time::Duration,
};

use kvfleet_api::admin::{MemberAddress, MemberState, Role};
use tokio::time::Instant;
use turmoil::net::{TcpListener, TcpStream};

use super::{
    client,
    store::MemoryStore,
    world::{Standing, World},
};
use crate::{
    log::{
        Options, Wal,
        fake::{Dice, FakeDisk},
        task::Promised,
    },
    peer::{Transport, TransportSettings, simulated},
    raft::{
        Group,
        tests::fleet::{CLUSTER, settings_of},
    },
    runtime::{self, simulated::Process},
    state::{Machine, Supported, Views},
};

const PORT: u16 = 7000;
/// How often a member is looked at.
const LOOK: Duration = Duration::from_millis(20);
/// Clients of one member.
const CLIENTS: usize = 2;

/// A member's place: its disk and its name outlive it.
pub(super) struct Seat {
    pub(super) at: usize,
    pub(super) disk: FakeDisk,
    pub(super) store: MemoryStore,
    pub(super) promised: Arc<Mutex<Promised>>,
    pub(super) life: Mutex<Life>,
    seats: usize,
    seed: u64,
    world: Arc<World>,
}

#[derive(Default)]
pub(super) struct Life {
    pub(super) number: u64,
    pub(super) process: Option<Arc<Process>>,
    pub(super) ahead_ms: i64,
    /// The highest term that this member was in for a while, so that it must remember it.
    term: u64,
}

pub(super) fn name(at: usize) -> String {
    format!("m{at}")
}

pub(super) fn id(at: usize) -> u64 {
    0x1000 + at as u64
}

impl Seat {
    pub(super) fn new(at: usize, seats: usize, seed: u64, world: Arc<World>) -> Arc<Self> {
        Arc::new(Seat {
            at,
            disk: FakeDisk::new(),
            store: MemoryStore::default(),
            promised: Arc::default(),
            life: Mutex::default(),
            seats,
            seed,
            world,
        })
    }

    fn members(&self) -> Vec<MemberAddress> {
        (0..self.seats)
            .map(|at| MemberAddress {
                id: id(at),
                name: name(at),
                peer: format!("{}:{PORT}", name(at)),
                voter: true,
            })
            .collect()
    }

    /// A life, until the simulation ends it.
    pub(super) async fn live(self: Arc<Self>) -> turmoil::Result {
        let (process, life) = {
            let mut life = self.life.lock().unwrap();
            life.number += 1;
            let seed = self.seed ^ (life.number << 32) ^ (self.at as u64) << 56;
            let process = Process::new(Arc::clone(&self.world.now_ms), life.ahead_ms, seed);
            life.process = Some(Arc::clone(&process));
            (process, life.number)
        };
        let ended = runtime::simulated::within(process, Arc::clone(&self).start(life)).await;
        if ended.is_err() && !self.disk.has_power() {
            // Its power has been cut and it has noticed; the rest of it goes in the next milliseconds.
            return Ok(std::future::pending().await);
        }
        ended
    }

    async fn start(self: Arc<Self>, life: u64) -> turmoil::Result {
        let at = self.at;
        let mut dice = Dice::new(self.seed.wrapping_mul(31) ^ (life << 8) ^ at as u64);
        let world = Arc::clone(&self.world);
        let slow = if dice.roll(8) == 0 { 20_000 } else { 2_000 };
        let latency = {
            let world = Arc::clone(&world);
            move || {
                let micros = 50 + dice.roll(slow);
                world.note(format!("m{at} writes, {micros} us"));
                Duration::from_micros(micros)
            }
        };
        let options = Options {
            segment_bytes: 64 << 10,
            first_segment_bytes: 32 << 10,
            cache_bytes: 8 << 10,
            ..Options::default()
        };
        let wal = match Wal::open_as_task(Arc::new(self.disk.clone()), options, latency, Arc::clone(&self.promised)) {
            Ok(wal) => wal,
            // No damage: it was started a moment before its power was cut again.
            Err(error) if !self.disk.has_power() => return Err(error.into()),
            Err(error) => {
                world.note(format!("m{at} refuses its log: {error}"));
                world.state().refused.insert(at, error.to_string());
                return Ok(std::future::pending().await);
            }
        };
        self.check_recovered(&wal);
        let (machine, views) = Machine::open(self.store.clone())?;
        world.note(format!(
            "m{at} starts its life {life}: last {:?}, applied {:?}",
            wal.last(),
            machine.applied()
        ));

        let address = format!("{}:{PORT}", name(at));
        let settings = settings_of(id(at), &name(at), &address);
        let transport = self.listen(&address).await?;
        let group = Group::start(settings, wal.clone(), machine, views.clone(), transport).await?;
        for number in 0..CLIENTS {
            runtime::spawn(client::run(group.clone(), Arc::clone(&self), life, number));
        }
        self.look(&group, &wal, &views).await
    }

    async fn listen(&self, address: &str) -> turmoil::Result<Transport> {
        let answering = simulated::Answering::new(TransportSettings {
            cluster: CLUSTER,
            shard: 0,
            id: id(self.at),
            name: name(self.at),
            compress_above: 4 << 10,
            levels: Supported::ALL.into(),
        });
        let listener = TcpListener::bind(("0.0.0.0", PORT)).await?;
        let local = listener.local_addr()?;
        let accepting = {
            let answering = answering.clone();
            runtime::spawn(async move {
                while let Ok((stream, _)) = listener.accept().await {
                    let answering = answering.clone();
                    runtime::spawn(async move { answering.serve(stream).await });
                }
            })
        };
        let _ = address;
        Ok(answering.transport(Sockets, local, accepting))
    }

    /// What was promised before the crash must still be there.
    fn check_recovered(&self, wal: &Wal) {
        let promised = *self.promised.lock().unwrap();
        let term = self.life.lock().unwrap().term;
        self.world
            .check(super::invariants::promises_kept::check(self.at, &promised, term, wal));
    }

    /// Looks at this member again and again.
    async fn look(&self, group: &Group, wal: &Wal, views: &Views) -> turmoil::Result {
        let at = self.at;
        let world = &self.world;
        let mut checked = 0;
        let mut before = None;
        let mut term_before = 0;
        let mut asked = Instant::now();
        loop {
            let status = group.status();
            if at == 0 && status.state == MemberState::Blank && asked.elapsed() > Duration::from_millis(100) {
                asked = Instant::now();
                let outcome = group.initialize(self.members()).await;
                world.note(format!("m{at} forms the group: {outcome:?}"));
            }
            // A term seen twice was not only being saved.
            if status.term == term_before {
                let mut life = self.life.lock().unwrap();
                life.term = life.term.max(status.term);
            }
            term_before = status.term;
            let view = views.latest();
            let applied = view.applied().map_or(0, |applied| applied.index);
            // Before the first entry is applied that is none: it must not count as looked at.
            let applied_end = view.applied().map_or(0, |applied| applied.index + 1);
            let seen = (status.term, status.role, status.leader.as_ref().map(|leader| leader.id));
            let leads = status.role == Some(Role::Primary);
            let digest = self.store.digest();
            let entries = wal.read(checked..applied_end, usize::MAX)?;
            checked = applied_end;
            {
                let mut state = world.state();
                if before.as_ref() != Some(&seen) {
                    state.trace.note(format!("m{at} term {} {:?} leader {:x?}", seen.0, seen.1, seen.2));
                    before = Some(seen);
                }
                state.standing.insert(
                    at,
                    Standing {
                        leader: seen.2,
                        applied,
                        last: status.last_log_index.unwrap_or(0),
                        ready: group.is_ready(),
                        digest,
                    },
                );
            }
            let outcome = {
                let observed = &mut world.state().observed;
                observed.look(at, seen.0, leads, entries, applied_end, digest)
            };
            world.check(outcome);
            if applied > 0 {
                client::make_tenant(group, &view, world).await;
            }
            tokio::time::sleep(LOOK).await;
        }
    }

    pub(super) fn world(&self) -> &Arc<World> {
        &self.world
    }

    pub(super) fn seed(&self) -> u64 {
        self.seed
    }
}

struct Sockets;

impl simulated::Connect for Sockets {
    type Stream = TcpStream;

    async fn connect(&self, address: &str) -> std::io::Result<TcpStream> {
        TcpStream::connect(address).await
    }
}
