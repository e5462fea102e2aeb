//! The feature level of a group: which commands, rows and calls every member of it understands.
//!
//! It is part of the replicated state. A program says which levels it knows; the leader raises the group's level by a log entry when every
//! member knows the next one and nothing holds it. Until then a member's program can be taken back to the one before.

use std::fmt;

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
}

impl fmt::Display for Level {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&self.0, formatter)
    }
}
