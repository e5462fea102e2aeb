//! The register and its operations.

use std::fmt;

/// A value that is written at most once in a history.
pub type Value = u64;

/// What a write requires of what is there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Condition {
    /// Nothing.
    None,
    /// The register is empty.
    Absent,
    /// The register holds this value.
    Holds(Value),
}

impl Condition {
    fn allows(self, register: Option<Value>) -> bool {
        match self {
            Condition::None => true,
            Condition::Absent => register.is_none(),
            Condition::Holds(value) => register == Some(value),
        }
    }
}

/// What a client asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Call {
    /// Read the register.
    Get,
    /// Write the value if the condition holds.
    Put(Value, Condition),
    /// Empty the register.
    Delete,
}

/// What the client was told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Answer {
    /// The read found this.
    Found(Option<Value>),
    /// The write took effect.
    Written,
    /// The condition did not hold; what was there instead, where the client knows it.
    Refused(Option<Option<Value>>),
    /// The register is empty now; whether it held something before.
    Deleted {
        /// Whether it did.
        existed: bool,
    },
    /// No answer, or one that leaves the outcome open: it may take effect at any time after the call, or never.
    Unknown,
}

/// One operation of a history.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Operation {
    /// Who asked: a client does one thing at a time.
    pub client: u32,
    /// The register.
    pub key: String,
    /// The question.
    pub call: Call,
    /// The answer.
    pub answer: Answer,
    /// When the client asked, nanoseconds of the history's clock.
    pub called: u64,
    /// When it had the answer, or stopped waiting.
    pub answered: u64,
}

impl Operation {
    /// The value whose presence at one moment between call and answer this operation witnessed.
    pub(super) fn witnessed(&self) -> Option<Value> {
        match (self.call, self.answer) {
            (Call::Get, Answer::Found(value)) => value,
            (Call::Put(_, Condition::Holds(value)), Answer::Written) => Some(value),
            (Call::Put(..), Answer::Refused(Some(found))) => found,
            _ => None,
        }
    }

    /// What the register holds after this operation took effect on it; none when it cannot have been so answered there.
    pub(super) fn apply(&self, register: Option<Value>) -> Option<Option<Value>> {
        match (self.call, self.answer) {
            (Call::Get, Answer::Found(found)) => (found == register).then_some(register),
            (Call::Put(value, condition), Answer::Written) => condition.allows(register).then_some(Some(value)),
            (Call::Put(_, condition), Answer::Refused(found)) => {
                let fits = !condition.allows(register) && found.is_none_or(|found| found == register);
                fits.then_some(register)
            }
            (Call::Delete, Answer::Deleted { existed }) => (existed == register.is_some()).then_some(None),
            // Its outcome was seen by nobody: it may have been refused.
            (Call::Put(value, condition), Answer::Unknown) => Some(if condition.allows(register) { Some(value) } else { register }),
            (Call::Delete, Answer::Unknown) => Some(None),
            (Call::Get, Answer::Unknown) => Some(register),
            // An answer to another question.
            _ => None,
        }
    }
}

impl fmt::Display for Operation {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let milliseconds = |nanoseconds: u64| nanoseconds as f64 / 1e6;
        write!(formatter, "{:>11.3} .. ", milliseconds(self.called))?;
        match self.answer {
            Answer::Unknown => write!(formatter, "{:>11} ms", "?")?,
            _ => write!(formatter, "{:>11.3} ms", milliseconds(self.answered))?,
        }
        write!(formatter, "  client {:<3} ", self.client)?;
        match self.call {
            Call::Get => write!(formatter, "get")?,
            Call::Put(value, Condition::None) => write!(formatter, "put {value}")?,
            Call::Put(value, Condition::Absent) => write!(formatter, "put {value} if absent")?,
            Call::Put(value, Condition::Holds(held)) => write!(formatter, "put {value} if {held}")?,
            Call::Delete => write!(formatter, "delete")?,
        }
        match self.answer {
            Answer::Found(None) => write!(formatter, " -> absent"),
            Answer::Found(Some(value)) => write!(formatter, " -> {value}"),
            Answer::Written => write!(formatter, " -> written"),
            Answer::Refused(None) => write!(formatter, " -> refused"),
            Answer::Refused(Some(None)) => write!(formatter, " -> refused, absent"),
            Answer::Refused(Some(Some(value))) => write!(formatter, " -> refused, holds {value}"),
            Answer::Deleted { existed: true } => write!(formatter, " -> deleted"),
            Answer::Deleted { existed: false } => write!(formatter, " -> was absent"),
            Answer::Unknown => write!(formatter, " -> unknown"),
        }
    }
}
