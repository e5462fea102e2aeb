//! Harm to one file of a member that does not run: what a failing disk does.

use std::{
    fs::{self, OpenOptions},
    os::unix::fs::FileExt,
    path::{Path, PathBuf},
};

use anyhow::{Context, Result};

use crate::dice::Dice;

/// So many bytes at the end of what is used hold the last records.
const LAST: usize = 600;

/// What is done to the file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum How {
    /// Everything from the offset on is gone.
    Truncated,
    /// Everything from the offset on is zero: a disk has lost the last that it said it had written.
    ZeroedTail,
    /// A sector is zero.
    ZeroedSector,
    /// A page is zero.
    ZeroedPage,
    /// One bit is another.
    FlippedBit,
    /// Some bits are others.
    FlippedBits,
}

/// A file that was damaged, and what it was before.
#[derive(Debug)]
pub struct Damage {
    /// What kind of file it is.
    pub kind: String,
    /// Where, what and how, for a person.
    pub description: String,
    path: PathBuf,
    intact: Vec<u8>,
}

impl Damage {
    /// Damages one file under a data directory: first a kind is drawn, then a file of it, then a place in what is used of it. The file differs
    /// afterwards.
    ///
    /// # Errors
    /// When there is none, or it cannot be read or written.
    pub fn strike(data: &Path, dice: &mut Dice) -> Result<Damage> {
        let mut files = Vec::new();
        walk(data, &mut files)?;
        let mut kinds: Vec<String> = files.iter().map(|file| kind(data, file)).collect();
        kinds.sort_unstable();
        kinds.dedup();
        // What a member votes with is what matters most, and is one kind among many.
        let (log, others): (Vec<String>, Vec<String>) = kinds.into_iter().partition(|kind| kind.starts_with("raft/"));
        loop {
            let kinds = if others.is_empty() || dice.percent(40) { &log } else { &others };
            let wanted = kinds.get(dice.index(kinds.len())).context("a data directory without a log")?;
            let of_kind: Vec<&PathBuf> = files.iter().filter(|file| kind(data, file) == *wanted).collect();
            let path = of_kind.get(dice.index(of_kind.len())).context("a kind without files")?;
            if let Some(damage) = strike_file(data, path, wanted, dice)? {
                return Ok(damage);
            }
        }
    }

    /// Puts the file back as it was.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn undo(&self) -> Result<()> {
        fs::write(&self.path, &self.intact).with_context(|| self.path.display().to_string())
    }
}

fn strike_file(data: &Path, path: &Path, kind: &str, dice: &mut Dice) -> Result<Option<Damage>> {
    let intact = fs::read(path).with_context(|| path.display().to_string())?;
    // Files are made long before they are full. What was written last is struck more often than its share, what was never written less.
    let used = intact.iter().rposition(|byte| *byte != 0).map_or(0, |last| last + 1);
    let (from, until) = match dice.below(100) {
        0..30 => (used.saturating_sub(LAST), used),
        30..90 => (0, used),
        _ => (0, intact.len()),
    };
    let offset = from + dice.index(until - from);
    let how = [
        How::Truncated,
        How::ZeroedTail,
        How::ZeroedSector,
        How::ZeroedPage,
        How::FlippedBit,
        How::FlippedBits,
    ];
    let how = how.get(dice.index(how.len())).copied().unwrap_or(How::FlippedBit);
    let mut damaged = intact.clone();
    let zero = |damaged: &mut Vec<u8>, size: usize| {
        let from = offset / size * size;
        damaged.iter_mut().skip(from).take(size).for_each(|byte| *byte = 0);
    };
    match how {
        How::Truncated => damaged.truncate(offset),
        How::ZeroedTail => damaged.iter_mut().skip(offset).for_each(|byte| *byte = 0),
        How::ZeroedSector => zero(&mut damaged, 512),
        How::ZeroedPage => zero(&mut damaged, 4_096),
        How::FlippedBit => flip(&mut damaged, offset, dice),
        How::FlippedBits => (0..3 + dice.below(30)).for_each(|step| {
            let at = offset + usize::try_from(step).unwrap_or(0) * dice.index(40);
            flip(&mut damaged, at, dice);
        }),
    }
    if damaged == intact {
        return Ok(None);
    }
    let file = OpenOptions::new().write(true).open(path)?;
    file.set_len(damaged.len() as u64)?;
    file.write_all_at(&damaged, 0)?;
    let shown = path.strip_prefix(data).unwrap_or(path).display();
    Ok(Some(Damage {
        kind: kind.to_owned(),
        description: format!("{shown}: {how:?} at {offset} of {} ({used} in use)", intact.len()),
        path: path.to_owned(),
        intact,
    }))
}

fn flip(bytes: &mut [u8], at: usize, dice: &mut Dice) {
    if let Some(byte) = bytes.get_mut(at) {
        *byte ^= 1 << dice.below(8);
    }
}

fn walk(directory: &Path, files: &mut Vec<PathBuf>) -> Result<()> {
    for entry in fs::read_dir(directory).with_context(|| directory.display().to_string())? {
        let path = entry?.path();
        // Data that was put aside is nobody's any more.
        let aside = path.file_name().is_some_and(|name| name.to_string_lossy().starts_with("damaged-"));
        if path.is_dir() && !aside {
            walk(&path, files)?;
        } else if path.is_file() && fs::metadata(&path)?.len() > 0 {
            files.push(path);
        }
    }
    files.sort();
    Ok(())
}

/// A file's kind: its place, with what is numbered left out.
fn kind(data: &Path, file: &Path) -> String {
    let place = file.strip_prefix(data).unwrap_or(file);
    let parts = place.components().map(|part| {
        let part = part.as_os_str().to_string_lossy();
        part.replace(|character: char| character.is_ascii_digit(), "#")
    });
    let joined = parts.collect::<Vec<_>>().join("/");
    let mut short = String::new();
    for character in joined.chars() {
        if character != '#' || !short.ends_with('#') {
            short.push(character);
        }
    }
    short
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    #[test]
    fn a_damaged_file_differs_and_can_be_put_back() {
        let directory = std::env::temp_dir().join(format!("kvfleet-damage-{}", std::process::id()));
        fs::create_dir_all(directory.join("raft")).unwrap();
        let path = directory.join("raft/00000000000000000001.seg");
        let mut intact = vec![7; 9_000];
        intact.extend([0; 9_000]);
        fs::write(&path, &intact).unwrap();
        for seed in 0..60 {
            let damage = Damage::strike(&directory, &mut Dice::new(seed)).unwrap();
            assert_eq!(damage.kind, "raft/#.seg");
            assert_ne!(fs::read(&path).unwrap(), intact, "{}", damage.description);
            damage.undo().unwrap();
            assert_eq!(fs::read(&path).unwrap(), intact);
        }
        fs::remove_dir_all(&directory).unwrap();
    }
}
