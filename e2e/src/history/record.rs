//! One operation, as a client saw it.

use std::{
    collections::HashMap,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::Instant,
};

use kvfleet_api::error::Outcome;
use kvfleet_client::data::Error;

use crate::linearizability::{Answer, Call, Operation, Value};

/// What the client was told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Seen {
    /// The read found this value at this revision.
    Found {
        /// The value.
        value: Value,
        /// Its revision.
        revision: u64,
    },
    /// The read found nothing.
    Absent,
    /// The write took effect.
    Written {
        /// The record's new revision.
        revision: u64,
    },
    /// The delete took effect.
    Deleted {
        /// Whether there was a record.
        existed: bool,
    },
    /// The condition did not hold.
    Refused {
        /// The record's revision instead, 0 when it was absent.
        current: Option<u64>,
    },
    /// Certainly without effect, or a read that failed.
    Nothing,
    /// A write whose outcome is open.
    Unknown,
}

/// One operation.
#[derive(Clone, Debug)]
pub struct Record {
    /// Who asked.
    pub client: u32,
    /// Which member was asked.
    pub member: usize,
    /// The key.
    pub key: String,
    /// The question.
    pub call: Call,
    /// The answer.
    pub seen: Seen,
    /// When it was asked, nanoseconds since the run began.
    pub called: u64,
    /// When the answer was there, or the client gave up.
    pub answered: u64,
}

impl Record {
    /// As the checker takes it.
    pub(super) fn operation(&self, by_revision: &HashMap<u64, Value>) -> Operation {
        let (call, answer) = match self.seen {
            Seen::Found { value, .. } => (self.call, Answer::Found(Some(value))),
            Seen::Absent => (self.call, Answer::Found(None)),
            Seen::Written { .. } => (self.call, Answer::Written),
            Seen::Deleted { existed } => (self.call, Answer::Deleted { existed }),
            Seen::Refused { current: Some(0) } => (self.call, Answer::Refused(Some(None))),
            Seen::Refused { current } => {
                let found = current.and_then(|revision| by_revision.get(&revision));
                (self.call, Answer::Refused(found.map(|value| Some(*value))))
            }
            // A read without an answer says nothing, and so does what had no effect.
            Seen::Nothing => (Call::Get, Answer::Unknown),
            Seen::Unknown => (self.call, Answer::Unknown),
        };
        Operation {
            client: self.client,
            key: self.key.clone(),
            call,
            answer,
            called: self.called,
            answered: self.answered,
        }
    }
}

/// What a failed write amounts to.
pub(super) fn failed_write(error: &Error) -> Seen {
    if let Error::Refused(problem) = error
        && problem.status == 412
    {
        return Seen::Refused {
            current: problem.current_revision,
        };
    }
    match error.outcome() {
        Outcome::NotApplied => Seen::Nothing,
        Outcome::Unknown => Seen::Unknown,
    }
}

/// Takes records from many clients, with one clock.
#[derive(Clone, Debug)]
pub struct Recorder {
    begun: Instant,
    records: Arc<Mutex<Vec<Record>>>,
    clients: Arc<AtomicU64>,
}

impl Default for Recorder {
    fn default() -> Self {
        Self::new()
    }
}

impl Recorder {
    /// The clock begins now.
    pub fn new() -> Self {
        Recorder {
            begun: Instant::now(),
            records: Arc::default(),
            clients: Arc::default(),
        }
    }

    /// Nanoseconds since the beginning.
    pub fn now(&self) -> u64 {
        u64::try_from(self.begun.elapsed().as_nanos()).unwrap_or(u64::MAX)
    }

    /// The first of so many new client numbers.
    pub(super) fn clients(&self, count: u64) -> u64 {
        self.clients.fetch_add(count, Ordering::Relaxed)
    }

    /// Adds a record.
    pub fn add(&self, record: Record) {
        self.records.lock().unwrap_or_else(PoisonError::into_inner).push(record);
    }

    /// How many there are.
    pub fn count(&self) -> usize {
        self.records.lock().unwrap_or_else(PoisonError::into_inner).len()
    }

    /// Writes through these members that were asked for after a moment and acknowledged.
    pub fn written_since(&self, moment: u64, members: &[usize]) -> usize {
        let records = self.records.lock().unwrap_or_else(PoisonError::into_inner);
        let late = records
            .iter()
            .rev()
            .filter(|record| record.called >= moment && members.contains(&record.member));
        late.filter(|record| matches!(record.seen, Seen::Written { .. })).count()
    }

    /// All of them.
    pub fn history(&self) -> super::History {
        super::History {
            records: self.records.lock().unwrap_or_else(PoisonError::into_inner).clone(),
        }
    }
}
