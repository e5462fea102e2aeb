//! The feature level: it rises one by one, and a program goes on with no data above what it knows.

use super::*;
use crate::{
    cluster_id::ClusterId,
    state::snapshot::{Frames, Intake, Origin, SnapshotError},
};

const WORDS: &str = "this data is of feature level 2, this program knows up to 1: run kvnode of a version that knows level 2";

fn raise(level: u32) -> Command {
    Command::RaiseLevel { level: Level(level) }
}

/// A machine that knows up to this level, over what is in the directory.
fn knowing(directory: &Path, level: Level) -> Result<(Machine<FjallStore>, Views), StoreError> {
    Machine::open_knowing(FjallStore::open(directory).unwrap(), level)
}

#[test]
fn a_new_group_is_of_the_first_level_and_rises_one_by_one() {
    let mut shard = Shard::new();
    assert_eq!(shard.view().level(), Level::FIRST);
    assert_eq!(shard.run(raise(3)), refused(Refusal::LevelSkipped { level: Level(1) }));
    assert_eq!(shard.run(raise(1)), Response::Level(Level(1)));
    assert_eq!(shard.run(raise(2)), Response::Level(Level(2)));
    assert_eq!(shard.run(raise(1)), Response::Level(Level(2)), "it never falls");
    assert_eq!(shard.run(raise(2)), Response::Level(Level(2)));
    assert_eq!(shard.view().level(), Level(2));
    assert_eq!(shard.view().revision(), 0, "a level is no write");
    assert_eq!(shard.reopen().view().level(), Level(2));
}

#[test]
fn rows_of_a_higher_level_are_refused_and_stay_as_they_are() {
    let mut shard = Shard::with(TenantLimits::default());
    shard.put("k", "v");
    shard.run(raise(2));
    let Shard {
        directory, machine, views, ..
    } = shard;
    drop((machine, views));
    let before = dump(directory.path());
    for _ in 0..2 {
        let error = knowing(directory.path(), Level::FIRST).err().unwrap();
        assert_eq!(error.to_string(), WORDS);
        assert!(!error.is_damage(), "a newer program reads it");
        assert_eq!(dump(directory.path()), before);
    }
    let (_machine, views) = knowing(directory.path(), Level::NEWEST).unwrap();
    assert_eq!(views.latest().level(), Level(2));
}

#[test]
fn an_entry_that_raises_above_what_is_known_is_not_applied() {
    let directory = tempfile::tempdir().unwrap();
    let (mut machine, views) = knowing(directory.path(), Level::FIRST).unwrap();
    let first = entry(1, START, put_tenant("acme", TenantLimits::default()));
    machine.apply(vec![first]).unwrap();
    drop((machine, views));
    let before = dump(directory.path());
    let entries = || {
        vec![
            entry(2, START, put("k", "v")),
            entry(3, START, raise(2)),
            entry(4, START, put("l", "v")),
        ]
    };
    // The same again when it is started again.
    for _ in 0..2 {
        let (mut machine, views) = knowing(directory.path(), Level::FIRST).unwrap();
        assert_eq!(machine.apply(entries()).unwrap_err().to_string(), WORDS);
        assert_eq!(views.latest().applied().unwrap().index, 1);
        assert!(machine.apply(entries()).is_err(), "it takes no more");
        drop((machine, views));
        assert_eq!(dump(directory.path()), before);
    }
    let (mut machine, views) = knowing(directory.path(), Level::NEWEST).unwrap();
    machine.apply(entries()).unwrap();
    assert_eq!((views.latest().level(), views.latest().revision()), (Level(2), 3));
}

#[test]
fn a_snapshot_of_a_higher_level_is_refused_by_its_heading() {
    let origin = Origin {
        cluster: ClusterId::from_bytes([7; 16]),
        shard: 3,
    };
    let mut shard = Shard::with(TenantLimits::default());
    shard.run(raise(2));
    let heading = Frames::new(shard.view(), origin).unwrap().next().unwrap().unwrap();
    let begin = |known| {
        let mut made = false;
        let create = || {
            made = true;
            Err(StoreError::Alone)
        };
        let begun = Intake::begin(&heading, origin, known, create, Arc::new(|_| ()));
        (begun.err().unwrap(), made)
    };
    let (error, made) = begin(Level::FIRST);
    assert_eq!(error.to_string(), WORDS);
    assert!(!made, "no place was made for its rows");
    assert!(matches!(begin(Level::NEWEST), (SnapshotError::Store(StoreError::Alone), true)));
}
