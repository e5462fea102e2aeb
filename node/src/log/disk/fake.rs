//! A disk in memory that behaves as badly as a real one may: what was not flushed is lost, kept, or kept in part, sector by sector and
//! in any order, when the power goes.

use std::collections::BTreeMap;
use std::io;
use std::sync::{Arc, Mutex, MutexGuard};

use super::{Disk, File};

const SECTOR: usize = 512;

/// A small, fast, seeded generator (xorshift64*).
pub(crate) struct Dice(u64);

impl Dice {
    pub(crate) fn new(seed: u64) -> Self {
        Self(seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1)
    }

    pub(crate) fn roll(&mut self, sides: u64) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        (self.0.wrapping_mul(0x2545_F491_4F6C_DD1D) >> 33) % sides
    }
}

/// What a flush does.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Flush {
    Honest,
    /// Reports success and does nothing: the mutation that crash tests must notice.
    Ignored,
    Fails,
}

/// The disk; clones share it.
#[derive(Clone)]
pub(crate) struct FakeDisk(Arc<Mutex<World>>);

struct World {
    files: Vec<Content>,
    names: BTreeMap<String, usize>,
    durable_names: BTreeMap<String, usize>,
    name_changes: Vec<NameChange>,
    /// Handles of an earlier life are dead.
    life: u64,
    /// Operations until the power goes.
    operations_left: u64,
    flush: Flush,
    capacity: u64,
    /// Whether files can be made and opened.
    descriptors: bool,
    salts: u8,
}

#[derive(Default)]
struct Content {
    seen: Vec<u8>,
    durable: Vec<u8>,
    pending: Vec<(usize, Vec<u8>)>,
}

enum NameChange {
    Create(String, usize),
    Rename(String, String),
    Remove(String),
}

fn put(bytes: &mut Vec<u8>, offset: usize, new: &[u8]) {
    bytes.resize(bytes.len().max(offset + new.len()), 0);
    bytes[offset..offset + new.len()].copy_from_slice(new);
}

fn change(names: &mut BTreeMap<String, usize>, change: &NameChange) {
    match change {
        NameChange::Create(name, file) => drop(names.insert(name.clone(), *file)),
        NameChange::Rename(from, to) => {
            if let Some(file) = names.remove(from) {
                names.insert(to.clone(), file);
            }
        }
        NameChange::Remove(name) => drop(names.remove(name)),
    }
}

impl FakeDisk {
    pub(crate) fn new() -> Self {
        Self(Arc::new(Mutex::new(World {
            files: Vec::new(),
            names: BTreeMap::new(),
            durable_names: BTreeMap::new(),
            name_changes: Vec::new(),
            life: 0,
            operations_left: u64::MAX,
            flush: Flush::Honest,
            capacity: u64::MAX,
            descriptors: true,
            salts: 0,
        })))
    }

    fn world(&self) -> MutexGuard<'_, World> {
        self.0.lock().unwrap()
    }

    pub(crate) fn set_flush(&self, flush: Flush) {
        self.world().flush = flush;
    }

    /// The names that a power cut would leave.
    pub(crate) fn durable_names(&self) -> Vec<String> {
        self.world().durable_names.keys().cloned().collect()
    }

    /// How many bytes all files together may have.
    pub(crate) fn set_capacity(&self, capacity: u64) {
        self.world().capacity = capacity;
    }

    /// Whether the process has a descriptor for a further file.
    pub(crate) fn set_descriptors(&self, left: bool) {
        self.world().descriptors = left;
    }

    pub(crate) fn used(&self) -> u64 {
        let world = self.world();
        world.names.values().map(|file| world.files[*file].seen.len() as u64).sum()
    }

    /// Every operation after the next `count` fails, as if the power were gone.
    pub(crate) fn cut_after(&self, count: u64) {
        self.world().operations_left = count;
    }

    /// Whether operations still work.
    #[cfg(tokio_unstable)]
    pub(crate) fn has_power(&self) -> bool {
        self.world().operations_left > 0
    }

    /// Cuts the power and puts it back: of what was not flushed, chance decides.
    pub(crate) fn power_cycle(&self, dice: &mut Dice) {
        let mut world = self.world();
        let world = &mut *world;
        world.life += 1;
        world.operations_left = u64::MAX;
        // All lost, all kept, or each sector for itself.
        let mode = dice.roll(4);
        for file in &mut world.files {
            for (offset, bytes) in file.pending.drain(..) {
                let mut at = 0;
                while at < bytes.len() {
                    let end = bytes.len().min(at + SECTOR - (offset + at) % SECTOR);
                    let kept = match mode {
                        0 => false,
                        1 => true,
                        _ => dice.roll(2) == 0,
                    };
                    if kept {
                        put(&mut file.durable, offset + at, &bytes[at..end]);
                    }
                    at = end;
                }
            }
            file.seen = file.durable.clone();
        }
        // The file system's journal keeps the order of name changes.
        let kept = dice.roll(world.name_changes.len() as u64 + 1) as usize;
        for step in world.name_changes.drain(..).take(kept) {
            change(&mut world.durable_names, &step);
        }
        world.names = world.durable_names.clone();
    }

    /// The bytes of a file, to look at or to damage.
    pub(crate) fn bytes(&self, name: &str) -> Vec<u8> {
        let world = self.world();
        world.files[world.names[name]].seen.clone()
    }

    /// Replaces a file's bytes, durably.
    pub(crate) fn set_bytes(&self, name: &str, bytes: &[u8]) {
        let mut world = self.world();
        let file = world.names[name];
        world.files[file] = Content {
            seen: bytes.to_vec(),
            durable: bytes.to_vec(),
            pending: Vec::new(),
        };
    }

    /// A second disk with the same files, all durable.
    pub(crate) fn copy(&self) -> Self {
        let copy = Self::new();
        for name in self.names().unwrap() {
            copy.create(&name).unwrap();
            copy.set_bytes(&name, &self.bytes(&name));
        }
        copy.flush_names().unwrap();
        copy
    }
}

impl World {
    fn open_one(&self) -> io::Result<()> {
        // EMFILE
        if self.descriptors {
            Ok(())
        } else {
            Err(io::Error::from_raw_os_error(24))
        }
    }

    fn step(&mut self, life: u64) -> io::Result<()> {
        if life != self.life || self.operations_left == 0 {
            return Err(io::Error::other("the power is gone"));
        }
        self.operations_left -= 1;
        Ok(())
    }

    fn flush_result(&self) -> io::Result<bool> {
        match self.flush {
            Flush::Honest => Ok(true),
            Flush::Ignored => Ok(false),
            Flush::Fails => Err(io::Error::other("input/output error")),
        }
    }
}

struct FakeFile {
    disk: FakeDisk,
    file: usize,
    life: u64,
}

impl File for FakeFile {
    fn length(&self) -> io::Result<u64> {
        Ok(self.disk.world().files[self.file].seen.len() as u64)
    }

    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<()> {
        let mut world = self.disk.world();
        world.step(self.life)?;
        let start = offset as usize;
        let bytes = world.files[self.file]
            .seen
            .get(start..start + buffer.len())
            .ok_or(io::ErrorKind::UnexpectedEof)?;
        buffer.copy_from_slice(bytes);
        Ok(())
    }

    fn write_at(&self, bytes: &[u8], offset: u64) -> io::Result<()> {
        let mut world = self.disk.world();
        world.step(self.life)?;
        let used: u64 = world.names.values().map(|file| world.files[*file].seen.len() as u64).sum();
        let capacity = world.capacity;
        let file = &mut world.files[self.file];
        let growth = (offset + bytes.len() as u64).saturating_sub(file.seen.len() as u64);
        if used + growth > capacity && growth > 0 {
            return Err(io::ErrorKind::StorageFull.into());
        }
        put(&mut file.seen, offset as usize, bytes);
        file.pending.push((offset as usize, bytes.to_vec()));
        Ok(())
    }

    fn flush(&self) -> io::Result<()> {
        let mut world = self.disk.world();
        world.step(self.life)?;
        if world.flush_result()? {
            let file = &mut world.files[self.file];
            for (offset, bytes) in std::mem::take(&mut file.pending) {
                put(&mut file.durable, offset, &bytes);
            }
        }
        Ok(())
    }
}

impl Disk for FakeDisk {
    fn describe(&self, name: &str) -> String {
        format!("fake/{name}")
    }

    fn names(&self) -> io::Result<Vec<String>> {
        Ok(self.world().names.keys().cloned().collect())
    }

    fn create(&self, name: &str) -> io::Result<Arc<dyn File>> {
        let mut world = self.world();
        let life = world.life;
        world.step(life)?;
        world.open_one()?;
        world.files.push(Content::default());
        let file = world.files.len() - 1;
        let step = NameChange::Create(name.to_owned(), file);
        change(&mut world.names, &step);
        world.name_changes.push(step);
        Ok(Arc::new(FakeFile {
            disk: self.clone(),
            file,
            life,
        }))
    }

    fn open(&self, name: &str) -> io::Result<Arc<dyn File>> {
        let world = self.world();
        world.open_one()?;
        let file = *world.names.get(name).ok_or(io::ErrorKind::NotFound)?;
        Ok(Arc::new(FakeFile {
            disk: self.clone(),
            file,
            life: world.life,
        }))
    }

    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        let mut world = self.world();
        let life = world.life;
        world.step(life)?;
        let step = NameChange::Rename(from.to_owned(), to.to_owned());
        change(&mut world.names, &step);
        world.name_changes.push(step);
        Ok(())
    }

    fn remove(&self, name: &str) -> io::Result<()> {
        let mut world = self.world();
        let life = world.life;
        world.step(life)?;
        let step = NameChange::Remove(name.to_owned());
        change(&mut world.names, &step);
        world.name_changes.push(step);
        Ok(())
    }

    fn flush_names(&self) -> io::Result<()> {
        let mut world = self.world();
        let world = &mut *world;
        world.step(world.life)?;
        if world.flush_result()? {
            for step in std::mem::take(&mut world.name_changes) {
                change(&mut world.durable_names, &step);
            }
        }
        Ok(())
    }

    fn salt(&self) -> io::Result<[u8; 16]> {
        let mut world = self.world();
        world.salts += 1;
        Ok([world.salts; 16])
    }
}
