//! Clients that read and write while something happens to the fleet.

use std::{
    collections::HashMap,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use anyhow::{Context, Result};
use kvfleet_client::data::{Client, Error, PutOptions};
use tokio::task::JoinHandle;

use super::record::{Record, Recorder, Seen, failed_write};
use crate::{
    dice::Dice,
    fleet::{Consistency, Fleet},
    linearizability::{Call, Condition, Value},
};

/// Keys that are in use at one time.
const KEYS: u64 = 8;
/// Operations after which the load goes on to new keys: few enough per key for the checker, enough to meet each other.
const ROUND: u64 = 2_400;

/// How long a load may be without enough answers.
const PATIENCE: Duration = Duration::from_secs(60);

/// What clients do, in percent; the rest are conditional writes.
#[derive(Clone, Copy, Debug)]
pub struct Mix {
    /// Reads.
    pub gets: u64,
    /// Writes whatever is there.
    pub puts: u64,
    /// Deletes.
    pub deletes: u64,
}

impl Mix {
    /// A bit of everything.
    pub const MIXED: Mix = Mix {
        gets: 45,
        puts: 33,
        deletes: 5,
    };
    /// Writes alone.
    pub const WRITES: Mix = Mix {
        gets: 0,
        puts: 100,
        deletes: 0,
    };
    /// Reads alone.
    pub const READS: Mix = Mix {
        gets: 100,
        puts: 0,
        deletes: 0,
    };
}

/// Which keys clients use.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Keys {
    /// A few at a time, all clients the same ones.
    Shared,
    /// A new one for each operation: what is acknowledged is never written over, so it must be there for good.
    Once,
}

/// Who is to do what.
#[derive(Clone, Copy, Debug)]
pub struct Plan<'a> {
    /// The members that are asked.
    pub members: &'a [usize],
    /// How many clients each of them has.
    pub clients: u32,
    /// What they do.
    pub mix: Mix,
    /// On which keys.
    pub keys: Keys,
    /// When a client gives up on a request.
    pub timeout: Duration,
    /// What the keys begin with.
    pub prefix: &'a str,
}

/// A set of running clients.
#[derive(Debug)]
pub struct Load {
    shared: Arc<Shared>,
    clients: Vec<JoinHandle<Result<()>>>,
}

#[derive(Debug)]
struct Shared {
    recorder: Recorder,
    stop: AtomicBool,
    started: AtomicU64,
    done: AtomicU64,
    prefix: String,
}

/// One client: it speaks to one member on a connection of its own.
struct Worker {
    shared: Arc<Shared>,
    number: u32,
    member: usize,
    client: Client,
    mix: Mix,
    keys: Keys,
    dice: Dice,
    values: u64,
    /// What it last learned of each key in use: value and revision, or that it was absent.
    learned: HashMap<String, Option<(Value, u64)>>,
}

impl Load {
    /// Starts clients. All loads of one history share its recorder.
    ///
    /// # Errors
    /// When a client cannot be made.
    pub fn start(fleet: &Fleet, plan: &Plan<'_>, dice: &Dice, recorder: &Recorder) -> Result<Self> {
        let Plan {
            members,
            clients,
            mix,
            keys,
            timeout,
            prefix,
        } = *plan;
        let shared = Arc::new(Shared {
            recorder: recorder.clone(),
            stop: AtomicBool::new(false),
            started: AtomicU64::new(0),
            done: AtomicU64::new(0),
            prefix: prefix.to_owned(),
        });
        let mut load = Load {
            shared,
            clients: Vec::new(),
        };
        // Clients of several loads of one history must differ, and so must their values.
        let first = u32::try_from(recorder.clients(u64::from(clients) * members.len() as u64)).context("too many clients")?;
        for (number, member) in (first..).zip(members.iter().copied().cycle().take(clients as usize * members.len())) {
            let worker = Worker {
                shared: load.shared.clone(),
                number,
                member,
                client: fleet.client(member, timeout)?,
                mix,
                keys,
                dice: dice.fork(u64::from(number)),
                values: 0,
                learned: HashMap::new(),
            };
            load.clients.push(tokio::spawn(worker.run()));
        }
        Ok(load)
    }

    /// Operations that had an answer (a refusal for want of a leader is none).
    pub fn done(&self) -> u64 {
        self.shared.done.load(Ordering::Relaxed)
    }

    /// Waits until this many more operations have had an answer.
    ///
    /// # Errors
    /// When they have not within a minute, or a client met something that no client should meet.
    pub async fn more(&mut self, count: u64) -> Result<()> {
        let wanted = self.done() + count;
        let begun = Instant::now();
        while self.done() < wanted {
            if let Some(ended) = self.clients.iter().position(JoinHandle::is_finished) {
                self.clients.swap_remove(ended).await??;
            }
            let done = self.done();
            anyhow::ensure!(
                begun.elapsed() < PATIENCE,
                "{done} operations were answered, then too few within {PATIENCE:?}"
            );
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        Ok(())
    }

    /// Lets every client finish what it is at.
    ///
    /// # Errors
    /// When one met something that no client should meet.
    pub async fn stop(self) -> Result<()> {
        self.shared.stop.store(true, Ordering::Relaxed);
        for client in self.clients {
            client.await??;
        }
        Ok(())
    }
}

impl Worker {
    async fn run(mut self) -> Result<()> {
        while !self.shared.stop.load(Ordering::Relaxed) {
            let key = self.key();
            let call = self.choose(&key);
            let called = self.shared.recorder.now();
            let seen = self.make(&key, call).await?;
            let answered = self.shared.recorder.now();
            match seen {
                Seen::Nothing | Seen::Unknown => {
                    // A refused connection must not become a busy loop.
                    tokio::time::sleep(Duration::from_millis(5 + self.dice.below(15))).await;
                }
                _ => {
                    self.shared.done.fetch_add(1, Ordering::Relaxed);
                }
            }
            self.learn(&key, call, seen);
            self.shared.recorder.add(Record {
                client: self.number,
                member: self.member,
                key,
                call: call.0,
                seen,
                called,
                answered,
            });
        }
        Ok(())
    }

    fn key(&mut self) -> String {
        let prefix = &self.shared.prefix;
        let started = self.shared.started.fetch_add(1, Ordering::Relaxed);
        match self.keys {
            Keys::Shared => format!("{prefix}/{}/{}", started / ROUND, self.dice.below(KEYS)),
            Keys::Once => format!("{prefix}/once/{}-{started}", self.number),
        }
    }

    /// What to do next, with the revision that a condition names.
    fn choose(&mut self, key: &str) -> (Call, Option<u64>) {
        let drawn = self.dice.below(100);
        let Mix { gets, puts, deletes } = self.mix;
        if drawn < gets {
            return (Call::Get, None);
        }
        if drawn < gets + deletes {
            return (Call::Delete, None);
        }
        self.values += 1;
        let value = u64::from(self.number) * 1_000_000 + self.values;
        if drawn < gets + deletes + puts {
            return (Call::Put(value, Condition::None), None);
        }
        match self.learned.get(key) {
            Some(Some((held, revision))) => (Call::Put(value, Condition::Holds(*held)), Some(*revision)),
            Some(None) | None => (Call::Put(value, Condition::Absent), Some(0)),
        }
    }

    async fn make(&self, key: &str, (call, if_revision): (Call, Option<u64>)) -> Result<Seen> {
        Ok(match call {
            Call::Get => match self.client.get(key).await {
                Ok(Some(item)) => {
                    let value = value_of(&item.value)?;
                    let revision = item.revision;
                    Seen::Found { value, revision }
                }
                Ok(None) => Seen::Absent,
                Err(error) => failed(&error, Seen::Nothing)?,
            },
            Call::Put(value, _) => {
                let options = PutOptions {
                    if_revision,
                    ..PutOptions::default()
                };
                match self.client.put(key, value.to_string(), &options).await {
                    Ok(written) => Seen::Written {
                        revision: written.revision,
                    },
                    Err(error) => failed(&error, failed_write(&error))?,
                }
            }
            Call::Delete => match self.client.delete(key).await {
                Ok(existed) => Seen::Deleted { existed },
                Err(error) => failed(&error, failed_write(&error))?,
            },
        })
    }

    fn learn(&mut self, key: &str, (call, _): (Call, Option<u64>), seen: Seen) {
        let known = match (call, seen) {
            (_, Seen::Found { value, revision }) | (Call::Put(value, _), Seen::Written { revision }) => Some((value, revision)),
            (_, Seen::Absent | Seen::Deleted { .. }) => None,
            _ => return,
        };
        if self.learned.len() as u64 > KEYS {
            self.learned.clear();
        }
        self.learned.insert(key.to_owned(), known);
    }
}

/// Reads every key of the history once through a member, linearizably and a page at a time, and records it. Nobody may write meanwhile. A member that
/// refuses is asked again.
///
/// # Errors
/// When it goes on refusing.
pub async fn read_all(fleet: &Fleet, member: usize, prefix: &str, recorder: &Recorder) -> Result<()> {
    let number = u32::try_from(recorder.clients(1)).context("too many clients")?;
    let mut keys: Vec<String> = recorder.history().records.into_iter().map(|record| record.key).collect();
    keys.sort_unstable();
    keys.dedup();
    let begun = Instant::now();
    let (called, found) = loop {
        let called = recorder.now();
        match fleet.values(member, prefix, Consistency::Linearizable).await {
            Ok(found) => break (called, found),
            Err(error) if begun.elapsed() > Duration::from_secs(20) => return Err(error),
            Err(_) => tokio::time::sleep(Duration::from_millis(20)).await,
        }
    };
    let answered = recorder.now();
    for key in keys {
        let seen = match found.get(&key) {
            Some((value, revision)) => Seen::Found {
                value: value_of(value.as_bytes())?,
                revision: *revision,
            },
            None => Seen::Absent,
        };
        recorder.add(Record {
            client: number,
            member,
            key,
            call: Call::Get,
            seen,
            called,
            answered,
        });
    }
    Ok(())
}

/// Passes on what a failure amounts to, unless it is one that no fault explains.
fn failed(error: &Error, seen: Seen) -> Result<Seen> {
    match error {
        Error::Refused(problem) if matches!(problem.status, 401 | 403) => {
            anyhow::bail!("the tenant and its token were acknowledged, and are forgotten: {}", problem.detail)
        }
        _ => Ok(seen),
    }
}

fn value_of(bytes: &[u8]) -> Result<Value> {
    let text = String::from_utf8_lossy(bytes);
    text.parse().with_context(|| format!("a value that nobody wrote: `{text}`"))
}
