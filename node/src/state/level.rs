//! The feature level of a group: which commands, rows and calls every member of it understands.
//!
//! It is part of the replicated state. A program says which levels it knows; the leader raises the group's level by a log entry when every
//! member knows the next one and nothing holds it. Until then a member's program can be taken back to the one before.

use std::fmt;

use bytes::Bytes;
use kvfleet_api::admin::LevelRange;
use prost::encoding::WireType;

use super::{
    DecodeError,
    codec::fields::{self, Field},
};
use crate::storage::StoreError;

/// A feature level. Levels only rise.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Level(pub u32);

impl Level {
    /// Of a group that was just formed.
    pub const FIRST: Level = Level(1);
    /// One entry of the log may hold many writes.
    pub const MANY_WRITES: Level = Level(2);
    /// The newest that this program knows.
    pub const NEWEST: Level = Level::MANY_WRITES;

    /// The one after this.
    pub fn next(self) -> Level {
        Level(self.0.saturating_add(1))
    }

    /// The level `found`, if a program that knows up to this one may go on with data of it.
    ///
    /// # Errors
    /// [`StoreError::NewerLevel`] when it is above this one.
    pub fn admits(self, found: Level) -> Result<Level, StoreError> {
        if found > self {
            return Err(StoreError::NewerLevel { found, known: self });
        }
        Ok(found)
    }
}

/// What a program, as it was started, knows of levels and asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Supported {
    /// The newest level that it knows, or pretends to.
    pub highest: Level,
    /// Whether it asks the group not to raise its level.
    pub holds: bool,
}

impl Supported {
    /// All that this program knows.
    pub const ALL: Supported = Supported {
        highest: Level::NEWEST,
        holds: false,
    };

    /// As the admin port tells it.
    pub fn range(self) -> LevelRange {
        LevelRange {
            lowest: Level::FIRST.0,
            highest: self.highest.0,
        }
    }
}

/// As a field: its number.
impl Field for Level {
    fn length(&self, number: u32) -> usize {
        self.0.length(number)
    }

    fn put(&self, number: u32, bytes: &mut Vec<u8>) {
        self.0.put(number, bytes);
    }

    fn take(place: &mut Option<Self>, wire: WireType, bytes: &mut Bytes) -> Result<(), DecodeError> {
        *place = Some(Level(fields::value("level", wire, bytes)?));
        Ok(())
    }
}

impl fmt::Display for Level {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&self.0, formatter)
    }
}
