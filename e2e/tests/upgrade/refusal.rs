//! The program before on data of a level that it does not know: it ends, says so, and has touched nothing.

use std::{
    collections::BTreeMap,
    hash::{DefaultHasher, Hash, Hasher},
    path::{Path, PathBuf},
};

use anyhow::{Context, Result, ensure};
use kvfleet_e2e::fleet::{Fleet, Program};

/// Every file below a folder, with a digest of what is in it.
type Files = BTreeMap<PathBuf, u64>;

/// Takes a member down, starts the program before in its place, and then this one again.
pub async fn refused(fleet: &mut Fleet, number: usize, (before, this): (&Program, &Program), (known, level): (u64, u64)) -> Result<()> {
    fleet.all_ready().await?;
    let member = fleet.member(number);
    member.terminate()?;
    let rows = member.data.join("sm");
    let (files, said) = (read(&rows)?, member.said().len());
    fleet.install(number, before);
    fleet.start_member(number)?;
    let member = fleet.member(number);
    let status = member
        .take()?
        .wait()
        .context("the program before goes on with data of a newer level")?;
    let said = member.said().split_off(said);
    println!("refused: {status}: {}", said.lines().last().unwrap_or_default());
    ensure!(!status.success(), "the program before ended with {status}");
    for word in [format!("feature level {level}"), format!("up to {known}")] {
        ensure!(said.contains(&word), "the program before does not say `{word}`: {said}");
    }
    let found = read(&rows)?;
    let changed = difference(&files, &found);
    ensure!(changed.is_empty(), "the program before has changed {changed:?}");
    fleet.install(number, this);
    fleet.start_member(number)?;
    fleet.ready(number).await?;
    Ok(())
}

fn read(folder: &Path) -> Result<Files> {
    let mut files = Files::new();
    let mut folders = vec![folder.to_owned()];
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(&folder).with_context(|| folder.display().to_string())? {
            let path = entry?.path();
            if path.is_dir() {
                folders.push(path);
            } else {
                let mut hasher = DefaultHasher::new();
                std::fs::read(&path)?.hash(&mut hasher);
                files.insert(path, hasher.finish());
            }
        }
    }
    Ok(files)
}

/// Which files are there no more, are new, or have changed.
fn difference<'a>(old: &'a Files, new: &'a Files) -> Vec<&'a PathBuf> {
    let all = old.keys().chain(new.keys().filter(|path| !old.contains_key(*path)));
    all.filter(|path| old.get(*path) != new.get(*path)).collect()
}
