//! From a view to frames. Blocks on the store at every step: keep it off the async threads.

use std::sync::Arc;

use bytes::Bytes;
use xxhash_rust::xxh3::Xxh3;

use super::{
    Heading, Origin, SnapshotError,
    frame::{self, Counts, Gathered},
};
use crate::{
    state::{Digest, View},
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
    /// What is left of the keyspace.
    rows: Option<Rows>,
}

enum Step {
    Begin,
    Keyspace(usize),
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
            view,
            origin,
            step: Step::Begin,
            hasher: Box::new(Xxh3::new()),
            counts: Counts::default(),
            sum: Digest::default(),
            rows: None,
        })
    }

    fn advance(&mut self) -> Result<Option<Bytes>, SnapshotError> {
        loop {
            match self.step {
                Step::Begin => {
                    self.step = Step::Keyspace(0);
                    return Ok(Some(self.begin()?));
                }
                Step::Keyspace(at) => match Keyspace::ALL.get(at) {
                    Some(keyspace) => {
                        if let Some(frame) = self.gather(at, *keyspace)? {
                            return Ok(Some(frame));
                        }
                        self.step = Step::Keyspace(at + 1);
                    }
                    None => self.step = Step::End,
                },
                Step::End => {
                    self.step = Step::Over;
                    self.view.compare(self.sum)?;
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
        let (body, frame) = frame::begin(self.origin, &heading);
        self.hasher.update(&body);
        Ok(frame)
    }

    /// The next frame of a keyspace; none when it has no more rows.
    fn gather(&mut self, at: usize, keyspace: Keyspace) -> Result<Option<Bytes>, SnapshotError> {
        if self.rows.is_none() {
            self.hasher.update(&[frame::code(keyspace)]);
        }
        let view = &self.view;
        let rows = self.rows.get_or_insert_with(|| view.rows(keyspace));
        let mut gathered = Gathered::new(keyspace);
        let mut count = 0;
        for row in rows.by_ref() {
            let (key, value) = row?;
            gathered.push(&key, &value);
            frame::sum(&mut self.sum, keyspace, &key, &value);
            count += 1;
            if gathered.bytes().len() >= FRAME_BYTES {
                break;
            }
        }
        let total = self.counts.get_mut(at).map(|total| {
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
