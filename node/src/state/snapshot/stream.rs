//! From a view to frames. Blocks on the store at every step: keep it off the async threads.

use std::sync::Arc;

use bytes::Bytes;
use xxhash_rust::xxh3::Xxh3;

use super::{
    Heading, Origin, SnapshotError,
    frame::{self, Counts, Gathered},
};
use crate::{
    state::{Digest, Header, View, tables::damaged},
    storage::{Keyspace, Rows, StoreError},
};

/// A frame is closed when its rows have this many bytes.
const FRAME_BYTES: usize = 1 << 20;

/// The frames of a view, in order. Before the last one it is known that the rows are those that were written: damage is not passed on.
pub struct Frames {
    view: Arc<View>,
    origin: Origin,
    step: Step,
    hasher: Box<Xxh3>,
    counts: Counts,
    /// Of the rows, as the state counts them.
    sum: Digest,
    /// What is left of the section.
    rows: Option<Rows>,
    /// What large values must be.
    values: Values,
}

enum Step {
    Begin,
    Section(usize),
    End,
    Over,
}

impl Frames {
    /// # Errors
    /// [`SnapshotError::Store`] when nothing was ever applied: there is no state then.
    pub fn new(view: Arc<View>, origin: Origin) -> Result<Self, SnapshotError> {
        if view.applied().is_none() {
            return Err(StoreError::Closed.into());
        }
        Ok(Frames {
            origin,
            step: Step::Begin,
            hasher: Box::new(Xxh3::new()),
            counts: sections(&view)?.into_iter().map(|section| (section, 0)).collect(),
            sum: Digest::default(),
            rows: None,
            values: Values::new(&view),
            view,
        })
    }

    fn advance(&mut self) -> Result<Option<Bytes>, SnapshotError> {
        loop {
            match self.step {
                Step::Begin => {
                    self.step = Step::Section(0);
                    return Ok(Some(self.begin()?));
                }
                Step::Section(at) => match self.counts.get(at).map(|(section, _)| *section) {
                    Some(section) => {
                        if let Some(frame) = self.gather(at, section)? {
                            return Ok(Some(frame));
                        }
                        self.step = Step::Section(at + 1);
                    }
                    None => self.step = Step::End,
                },
                Step::End => {
                    self.step = Step::Over;
                    self.view.compare(self.sum)?;
                    self.values.end()?;
                    return Ok(Some(frame::end(&self.counts, self.hasher.digest128())));
                }
                Step::Over => return Ok(None),
            }
        }
    }

    fn begin(&mut self) -> Result<Bytes, SnapshotError> {
        let applied = self.view.applied().ok_or(StoreError::Closed)?;
        let heading = Heading {
            applied,
            level: self.view.level(),
            membership: self.view.membership(),
        };
        let sections: Vec<_> = self.counts.iter().map(|(section, _)| *section).collect();
        let (body, frame) = frame::begin(self.origin, &sections, &heading);
        self.hasher.update(&body);
        Ok(frame)
    }

    /// The next frame of a section; none when it has no more rows.
    fn gather(&mut self, at: usize, keyspace: Keyspace) -> Result<Option<Bytes>, SnapshotError> {
        if self.rows.is_none() {
            self.hasher.update(&[keyspace.code()]);
        }
        let view = &self.view;
        let rows = self.rows.get_or_insert_with(|| view.rows(keyspace));
        let mut gathered = Gathered::new(keyspace);
        let mut count = 0;
        for row in rows.by_ref() {
            let (key, value) = row?;
            gathered.push(&key, &value);
            frame::sum(&mut self.sum, keyspace, &key, &value);
            if keyspace == Keyspace::Values {
                self.values.check(&key, &value)?;
            }
            count += 1;
            if gathered.bytes().len() >= FRAME_BYTES {
                break;
            }
        }
        let total = self.counts.get_mut(at).map(|(_, total)| {
            *total += count;
            *total
        });
        self.hasher.update(gathered.bytes());
        if gathered.is_empty() {
            self.rows = None;
            self.hasher.update(&total.unwrap_or(0).to_be_bytes());
            return Ok(None);
        }
        Ok(Some(gathered.seal()))
    }
}

/// The keyspaces that have rows, in order.
fn sections(view: &View) -> Result<Vec<Keyspace>, StoreError> {
    let mut sections = Vec::new();
    for keyspace in Keyspace::ALL {
        if view.rows(keyspace).next().transpose()?.is_some() {
            sections.push(keyspace);
        }
    }
    Ok(sections)
}

/// Compares values with their headers: both come in the order of the same keys.
struct Values {
    headers: Rows,
}

impl Values {
    fn new(view: &View) -> Self {
        Values {
            headers: view.rows(Keyspace::Records),
        }
    }

    /// The next header whose value lies apart, and its key.
    fn next(&mut self) -> Result<Option<(Bytes, Header)>, StoreError> {
        for row in self.headers.by_ref() {
            let (key, row) = row?;
            let header = Header::decode(&row).map_err(|error| damaged(Keyspace::Records, error))?;
            if header.is_apart() {
                return Ok(Some((key, header)));
            }
        }
        Ok(None)
    }

    fn check(&mut self, key: &Bytes, value: &Bytes) -> Result<(), StoreError> {
        let reason = match self.next()? {
            None => Some("a value without a record".to_owned()),
            Some((expected, _)) if expected > *key => Some("a value without a record".to_owned()),
            Some((expected, _)) if expected < *key => Some("the value of a record is missing".to_owned()),
            Some((_, header)) => header.refuse(Some(value)),
        };
        reason.map_or(Ok(()), |reason| Err(damaged(Keyspace::Values, reason)))
    }

    /// No header may be left.
    fn end(&mut self) -> Result<(), StoreError> {
        match self.next()? {
            None => Ok(()),
            Some(_) => Err(damaged(Keyspace::Values, "the value of a record is missing")),
        }
    }
}

impl Iterator for Frames {
    type Item = Result<Bytes, SnapshotError>;

    fn next(&mut self) -> Option<Self::Item> {
        let next = self.advance().transpose();
        if matches!(next, Some(Err(_))) {
            self.step = Step::Over;
        }
        next
    }
}

impl View {
    /// The digest of everything in it, rows and counters: equal on members that have applied the same entries, whatever the batches.
    /// Reads every row. Blocks, for long.
    ///
    /// # Errors
    /// As [`View::scrub`].
    pub fn whole_digest(self: &Arc<Self>, origin: Origin) -> Result<u128, SnapshotError> {
        let mut frames = Frames::new(Arc::clone(self), origin)?;
        for frame in frames.by_ref() {
            frame?;
        }
        Ok(frames.hasher.digest128())
    }
}
