//! What was acknowledged on keys that are written once: it must be there for good.

use std::collections::BTreeMap;

use anyhow::Result;
use kvfleet_e2e::{
    fleet::{Consistency, Fleet},
    history::{Recorder, Seen},
    linearizability::{Call, Value},
};

/// Every acknowledged write of a run, over all its histories.
#[derive(Default)]
pub struct Ledger(BTreeMap<String, Value>);

impl Ledger {
    /// Adds a history's.
    pub fn enter(&mut self, recorder: &Recorder) {
        let history = recorder.history();
        let once = history.acknowledged().filter(|record| record.key.contains("/once/"));
        for record in once {
            if let (Call::Put(value, _), Seen::Written { .. }) = (record.call, record.seen) {
                self.0.insert(record.key.clone(), value);
            }
        }
    }

    /// How many there are.
    pub fn size(&self) -> usize {
        self.0.len()
    }

    /// Reads everything under the prefix through every member.
    pub async fn audit(&self, fleet: &Fleet, prefix: &str) -> Result<()> {
        let members: Vec<usize> = (0..fleet.size()).collect();
        self.audit_through(fleet, &members, prefix).await
    }

    /// Reads everything under the prefix through these members.
    pub async fn audit_through(&self, fleet: &Fleet, members: &[usize], prefix: &str) -> Result<()> {
        for member in members {
            let found = fleet.values(*member, prefix, Consistency::Linearizable).await?;
            self.compare(&found, prefix, *member)?;
        }
        Ok(())
    }

    /// Everything under the prefix must be among what was found.
    pub fn compare(&self, found: &BTreeMap<String, (String, u64)>, prefix: &str, member: usize) -> Result<()> {
        let wanted = self.0.iter().filter(|(key, _)| key.starts_with(prefix));
        let lost: Vec<&String> = wanted
            .filter(|(key, value)| found.get(*key).is_none_or(|(found, _)| *found != value.to_string()))
            .map(|(key, _)| key)
            .collect();
        let Some(first) = lost.first() else { return Ok(()) };
        anyhow::bail!(
            "{} acknowledged writes are lost, the first {first}, asked through member {member}",
            lost.len()
        )
    }
}
