//! From frames to a set of rows. Every frame is checked before its rows are written, and the whole before anything is answered; what was
//! received is removed again when it is refused or given up. Blocks on the disk: keep it off the async threads.

use std::sync::Arc;

use bytes::{Bytes, BytesMut};
use xxhash_rust::xxh3::Xxh3;

use super::{
    Heading, Level, MAX_FRAME_BYTES, Origin, SnapshotError,
    frame::{self, Counts, Frame, Unread},
};
use crate::{
    state::{Digest, tables},
    storage::{FORMAT, Incoming, Keyspace, Row, StoreError, keys},
};

/// Removes a set that was never made current.
pub type Discard = Arc<dyn Fn(u64) + Send + Sync>;

/// A snapshot that is being received.
pub struct Intake {
    heading: Heading,
    rows: Option<Box<dyn Incoming>>,
    discard: Discard,
    hasher: Box<Xxh3>,
    counts: Counts,
    sum: Digest,
    /// What the sender kept, from its `meta`.
    kept: Option<Digest>,
    applied_row: Option<Bytes>,
    /// The section that is being received, by its place among `counts`, and its last key.
    at: usize,
    last: Option<Bytes>,
    bytes: u64,
    received: Option<Received>,
}

/// A snapshot that is whole, checked and on disk. Dropped before it was installed, it is removed.
pub struct Received {
    /// What it is.
    pub heading: Heading,
    set: u64,
    discard: Option<Discard>,
}

impl Received {
    /// The set of rows, for [`Machine::replace`](crate::state::Machine::replace).
    pub fn set(&self) -> u64 {
        self.set
    }

    /// It is in use now.
    pub fn keep(mut self) {
        self.discard = None;
    }
}

impl Drop for Received {
    fn drop(&mut self) {
        let Some(discard) = self.discard.take() else { return };
        let set = self.set;
        // Removing files takes a while, and this may be an async thread. Left undone, the next start does it.
        let removal = std::thread::Builder::new().name("remove-store".to_owned());
        let _ = removal.spawn(move || discard(set));
    }
}

impl std::fmt::Debug for Received {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(formatter, "Received(set {}, {:?})", self.set, self.heading.applied)
    }
}

impl Intake {
    /// Begins with the first frame, for a program that knows levels up to `known`. `create` makes the place for the rows, once the frame
    /// has been accepted.
    ///
    /// # Errors
    /// [`SnapshotError`]; then nothing was made.
    pub fn begin(
        first: &Bytes,
        own: Origin,
        known: Level,
        create: impl FnOnce() -> Result<Box<dyn Incoming>, StoreError>,
        discard: Discard,
    ) -> Result<Self, SnapshotError> {
        let refused = |reason: &str| SnapshotError::Refused {
            at: 0,
            reason: reason.to_owned(),
        };
        let (frame, body) = frame::read(first).map_err(|unread| place(unread, 0))?;
        let Frame::Begin {
            origin,
            rows_format,
            sections,
            heading,
        } = frame
        else {
            return Err(refused("it does not start with a heading"));
        };
        if origin != own {
            return Err(SnapshotError::Foreign {
                found: origin.cluster,
                found_shard: origin.shard,
                own: own.cluster,
                own_shard: own.shard,
            });
        }
        match rows_format {
            FORMAT => {}
            found if found > FORMAT => return Err(SnapshotError::NewerFormat { found, known: FORMAT }),
            found => return Err(SnapshotError::OlderFormat { found, known: FORMAT }),
        }
        known.admits(heading.level)?;
        let mut hasher = Box::new(Xxh3::new());
        hasher.update(&body);
        Ok(Intake {
            heading,
            rows: Some(create()?),
            discard,
            hasher,
            counts: sections.into_iter().map(|section| (section, 0)).collect(),
            sum: Digest::default(),
            kept: None,
            applied_row: None,
            at: 0,
            last: None,
            bytes: first.len() as u64,
            received: None,
        })
    }

    /// What the sender says that it is.
    pub fn heading(&self) -> &Heading {
        &self.heading
    }

    /// How many bytes have come.
    pub fn bytes(&self) -> u64 {
        self.bytes
    }

    /// Takes the next frame. After the last one everything is durable.
    ///
    /// # Errors
    /// [`SnapshotError`]; then this is of no more use.
    pub fn take(&mut self, bytes: &Bytes) -> Result<(), SnapshotError> {
        if bytes.len() > MAX_FRAME_BYTES {
            return Err(self.refused(format!("a frame of {} bytes: at most {MAX_FRAME_BYTES} are taken", bytes.len())));
        }
        let at = self.bytes;
        let (frame, _) = frame::read(bytes).map_err(|unread| place(unread, at))?;
        if self.received.is_some() {
            return Err(self.refused("it goes on after its end"));
        }
        match frame {
            Frame::Begin { .. } => return Err(self.refused("it begins twice")),
            Frame::Rows { keyspace, rows } => self.take_rows(keyspace, rows)?,
            Frame::End { counts, digest } => self.take_end(counts, digest)?,
        }
        self.bytes += bytes.len() as u64;
        Ok(())
    }

    /// The whole.
    ///
    /// # Errors
    /// [`SnapshotError::Refused`] when its end has not come.
    pub fn finish(mut self) -> Result<Received, SnapshotError> {
        match self.received.take() {
            Some(received) => Ok(received),
            None => Err(self.refused("it ends before its last frame")),
        }
    }

    fn refused(&self, reason: impl Into<String>) -> SnapshotError {
        SnapshotError::Refused {
            at: self.bytes,
            reason: reason.into(),
        }
    }

    fn take_rows(&mut self, keyspace: Keyspace, rows: Vec<Row>) -> Result<(), SnapshotError> {
        let Some(place) = self.counts.iter().position(|(section, _)| *section == keyspace) else {
            return Err(self.refused(format!("rows of {}, which its heading does not name", keyspace.name())));
        };
        if place < self.at {
            return Err(self.refused(format!("rows of {} after those of a later keyspace", keyspace.name())));
        }
        if rows.is_empty() {
            return Err(self.refused("a frame without rows"));
        }
        while self.at < place {
            self.close_keyspace();
        }
        if self.counts.get(place) == Some(&(keyspace, 0)) {
            self.hasher.update(&[keyspace.code()]);
        }
        let mut hashed = BytesMut::new();
        for (key, value) in &rows {
            if self.last.as_ref().is_some_and(|last| last >= key) {
                return Err(self.refused(format!("rows of {} that do not ascend", keyspace.name())));
            }
            self.last = Some(key.clone());
            frame::put_row(&mut hashed, key, value);
            frame::sum(&mut self.sum, keyspace, key, value);
            if keyspace == Keyspace::Meta && key.as_ref() == keys::DIGEST {
                let kept = Digest::decode(value).map_err(|error| self.refused(format!("its digest cannot be read: {error}")))?;
                self.kept = Some(kept);
            }
            if keyspace == Keyspace::Meta && key.as_ref() == keys::APPLIED {
                self.applied_row = Some(value.clone());
            }
        }
        self.hasher.update(&hashed);
        if let Some((_, count)) = self.counts.get_mut(place) {
            *count += rows.len() as u64;
        }
        match &mut self.rows {
            Some(incoming) => Ok(incoming.write(keyspace, rows)?),
            None => Err(self.refused("it goes on after its end")),
        }
    }

    fn close_keyspace(&mut self) {
        if let Some((section, count)) = self.counts.get(self.at) {
            if *count == 0 {
                self.hasher.update(&[section.code()]);
            }
            self.hasher.update(&count.to_be_bytes());
        }
        self.at += 1;
        self.last = None;
    }

    fn take_end(&mut self, counts: Counts, digest: u128) -> Result<(), SnapshotError> {
        while self.at < self.counts.len() {
            self.close_keyspace();
        }
        if counts != self.counts {
            return Err(self.refused(format!("{:?} rows were sent and {:?} have come", counts, self.counts)));
        }
        let found = self.hasher.digest128();
        if found != digest {
            return Err(self.refused(format!("its digest is {digest:032x}, and what has come gives {found:032x}")));
        }
        if self.kept.is_some_and(|kept| kept != self.sum) {
            return Err(self.refused(format!(
                "its records give digest {}, and the sender kept {}: the sender is damaged",
                self.sum,
                self.kept.unwrap_or_default()
            )));
        }
        if self.applied_row != Some(tables::encode_applied(self.heading.applied)) {
            return Err(self.refused("its rows are of another moment than its heading"));
        }
        let Some(incoming) = self.rows.take() else {
            return Err(self.refused("it ends twice"));
        };
        self.received = Some(Received {
            heading: self.heading.clone(),
            set: incoming.finish()?,
            discard: Some(Arc::clone(&self.discard)),
        });
        Ok(())
    }
}

fn place(Unread(reason): Unread, at: u64) -> SnapshotError {
    SnapshotError::Refused { at, reason }
}
