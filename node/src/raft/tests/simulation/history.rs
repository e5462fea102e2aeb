//! What clients asked and were told.

use std::{collections::BTreeMap, fmt};

use kvfleet_api::error::Outcome;

use crate::{
    raft::ProposeError,
    state::{Command, Response},
};

/// One request of one client.
#[derive(Clone, Debug)]
pub(super) struct Operation {
    /// The member that was asked.
    pub(super) member: usize,
    pub(super) asked: Asked,
    /// The millisecond in which it was asked.
    pub(super) invoked: u64,
    /// The millisecond in which it was answered, and the answer. None when the answer was lost with the member.
    pub(super) answered: Option<(u64, Answer)>,
    /// The member died with the question.
    lost: bool,
}

#[derive(Clone, Debug)]
pub(super) enum Asked {
    /// A put, a delete or whatever else goes through the log.
    Write(Command),
    /// A linearizable read.
    Read { key: String },
    /// A read of what the member has.
    LocalRead { key: String },
}

#[derive(Clone, Debug)]
pub(super) enum Answer {
    Written(Response),
    Refused(ProposeError),
    Found(Seen),
    Unread,
}

/// What a read saw.
#[derive(Clone, Debug)]
pub(super) struct Seen {
    /// The last revision in the view.
    pub(super) revision: u64,
    /// The last entry in the view.
    pub(super) applied: u64,
    /// The moment as of which it was read.
    pub(super) now_ms: u64,
    /// The record's value, revision and expiry.
    pub(super) record: Option<(String, u64, Option<u64>)>,
}

impl Answer {
    /// Whether the write may still take effect, or has without anybody being told.
    pub(super) fn is_unknown(&self) -> bool {
        match self {
            Answer::Refused(ProposeError::NoLeader { outcome } | ProposeError::Deadline { outcome }) => *outcome == Outcome::Unknown,
            Answer::Refused(ProposeError::Failed(_)) => true,
            Answer::Refused(ProposeError::Draining | ProposeError::TooLarge) => false,
            #[allow(unreachable_patterns)]
            Answer::Refused(_) => true,
            Answer::Written(_) | Answer::Found(_) | Answer::Unread => false,
        }
    }
}

#[derive(Default)]
pub(super) struct History {
    operations: BTreeMap<usize, Operation>,
}

impl History {
    pub(super) fn ask(&mut self, member: usize, asked: Asked, invoked: u64) -> usize {
        let number = self.operations.len();
        self.operations.insert(
            number,
            Operation {
                member,
                asked,
                invoked,
                answered: None,
                lost: false,
            },
        );
        number
    }

    /// A member has crashed.
    pub(super) fn lose(&mut self, member: usize) {
        for operation in self.operations.values_mut().filter(|operation| operation.member == member) {
            operation.lost |= operation.answered.is_none();
        }
    }

    /// Whether an answer is still to come.
    pub(super) fn is_open(&self) -> bool {
        self.iter().any(|operation| operation.answered.is_none() && !operation.lost)
    }

    pub(super) fn answer(&mut self, number: usize, at: u64, answer: Answer) {
        if let Some(operation) = self.operations.get_mut(&number) {
            operation.answered = Some((at, answer));
        }
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = &Operation> {
        self.operations.values()
    }

    pub(super) fn totals(&self) -> Totals {
        let mut totals = Totals::default();
        for operation in self.iter() {
            let count = match &operation.answered {
                None => &mut totals.unknown,
                Some((_, answer)) if answer.is_unknown() => &mut totals.unknown,
                Some((_, Answer::Written(_))) => &mut totals.written,
                Some((_, Answer::Refused(_) | Answer::Unread)) => &mut totals.refused,
                Some((_, Answer::Found(_))) => match operation.asked {
                    Asked::LocalRead { .. } => &mut totals.local_reads,
                    _ => &mut totals.reads,
                },
            };
            *count += 1;
        }
        totals
    }
}

/// How much happened: a simulation in which nothing happens proves nothing.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub(super) struct Totals {
    pub(super) written: u64,
    pub(super) reads: u64,
    pub(super) local_reads: u64,
    pub(super) refused: u64,
    pub(super) unknown: u64,
    pub(super) faults: u64,
    pub(super) crashes: u64,
    pub(super) leaders: u64,
    pub(super) damaged: u64,
    pub(super) refused_logs: u64,
}

impl Totals {
    pub(super) fn add(&mut self, other: &Totals) {
        let Totals {
            written,
            reads,
            local_reads,
            refused,
            unknown,
            faults,
            crashes,
            leaders,
            damaged,
            refused_logs,
        } = other;
        self.written += written;
        self.reads += reads;
        self.local_reads += local_reads;
        self.refused += refused;
        self.unknown += unknown;
        self.faults += faults;
        self.crashes += crashes;
        self.leaders += leaders;
        self.damaged += damaged;
        self.refused_logs += refused_logs;
    }

    /// The numbers as another process has printed them in a line of their own.
    pub(super) fn parse(printed: &str) -> Self {
        let line = printed.lines().find_map(|line| line.strip_prefix(Self::LINE)).unwrap();
        serde_json::from_str(line).unwrap()
    }

    pub(super) fn print(&self) {
        println!("{}{}", Self::LINE, serde_json::to_string(self).unwrap());
    }

    const LINE: &str = "totals:";

    /// The mix of events that the invariants are worth something for.
    pub(super) fn assert_plausible(&self, seeds: u64) {
        assert!(self.written > 100 * seeds, "hardly anything was written: {self}");
        assert!(self.reads > 50 * seeds, "hardly anything was read: {self}");
        assert!(self.crashes > seeds, "hardly any member crashed: {self}");
        assert!(self.leaders > 2 * seeds, "hardly any leader was replaced: {self}");
        assert!(seeds < 30 || self.unknown > 0, "no outcome was ever unknown: {self}");
        assert!(seeds < 30 || self.refused_logs > 0, "no damaged log was ever refused: {self}");
    }
}

impl fmt::Display for Totals {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            formatter,
            "{} writes acknowledged, {} linearizable and {} local reads, {} refused, {} of unknown outcome; {} faults, among them {} crashes \
             and {} damaged logs ({} refused at start); {} terms with a leader",
            self.written,
            self.reads,
            self.local_reads,
            self.refused,
            self.unknown,
            self.faults,
            self.crashes,
            self.damaged,
            self.refused_logs,
            self.leaders
        )
    }
}
