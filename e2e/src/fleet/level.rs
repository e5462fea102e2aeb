//! Feature levels, as a member's admin port tells them.

use anyhow::{Context, Result};

use super::{Fleet, membership::eventually};

/// What a member says of levels.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Levels {
    /// The level that its rows are at.
    pub level: u64,
    /// The highest that its program knows.
    pub highest: u64,
}

impl Fleet {
    /// A member's levels, as soon as it answers.
    ///
    /// # Errors
    /// When it does not, or tells none.
    pub async fn levels(&self, number: usize) -> Result<Levels> {
        let admin = self.admin()?;
        let report = eventually("a member's levels", || admin.members(self.admin_port(number))).await?;
        let report = serde_json::to_value(report)?;
        let read = |pointer: &str| {
            let found = report.pointer(pointer).and_then(serde_json::Value::as_u64);
            found.with_context(|| format!("member {number} tells no {pointer}"))
        };
        Ok(Levels {
            level: read("/level")?,
            highest: read("/supportedLevels/highest")?,
        })
    }
}
