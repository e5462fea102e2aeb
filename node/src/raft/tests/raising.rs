//! The feature level of a group of real members.

use kvfleet_api::admin::Settings;
use openraft::async_runtime::watch::WatchReceiver as _;

use super::fleet::{Fleet, LIMIT, soon};
use crate::{
    raft::{Change, Group, MembershipError, MembershipRefusal as Refusal, types::Data},
    state::{Command, Level, Proposal, Response, Supported},
};

const OLD: Supported = Supported {
    highest: Level::FIRST,
    holds: false,
};
const HOLDS: Supported = Supported {
    holds: true,
    ..Supported::ALL
};
const WORDS: &str = "this data is of feature level 2, this program knows up to 1: run kvnode of a version that knows level 2";

fn level(group: &Group) -> Level {
    group.inner.views.latest().level()
}

async fn restart(fleet: &mut Fleet, at: usize, levels: Supported) {
    fleet.stop(at).await;
    fleet.seats[at].levels = levels;
    fleet.start(at).await;
    fleet.until(at, "ready", |group| group.is_ready()).await;
}

async fn until_level(fleet: &Fleet, wanted: Level) {
    for at in fleet.running() {
        fleet.until(at, "at the level", |group| level(group) == wanted).await;
    }
}

/// Waits until a leader has looked and found this, and nothing else, in its way.
async fn until_held(fleet: &Fleet, by: &str) {
    let limit = soon();
    loop {
        let leader = fleet.leader().await;
        let held = fleet.group(leader).level_held_by();
        if held == [by] {
            return;
        }
        assert!(tokio::time::Instant::now() < limit, "held by {held:?} and not by {by}");
        let mut news = fleet.group(leader).inner.level_held_by.subscribe();
        let _ = tokio::time::timeout(LIMIT / 100, news.changed()).await;
    }
}

async fn hold(fleet: &Fleet, hold_level: bool) {
    let settings = Settings {
        hold_level,
        ..Settings::default()
    };
    let answer = fleet.group(0).propose(Command::PutSettings(settings), soon()).await;
    assert!(matches!(answer, Ok(Response::Settings(_))), "{answer:?}");
}

/// Writes the entry as a leader that asked no member would.
async fn raise_unasked(fleet: &Fleet, leader: usize) {
    let command = Command::RaiseLevel { level: Level(2) };
    let proposal = Proposal { stamp_ms: 1, command };
    let written = fleet.group(leader).inner.raft.client_write(Data(proposal.encode())).await;
    assert_eq!(written.unwrap().data.0, [Response::Level(Level(2))]);
}

/// A leader that is not `other`.
async fn lead_elsewhere(fleet: &Fleet, other: usize) -> usize {
    loop {
        let leader = fleet.leader().await;
        if leader != other {
            return leader;
        }
        // It may fail when the others are not caught up yet.
        let _ = fleet.group(other).transfer_leadership(soon()).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn the_level_rises_when_the_last_member_knows_the_next_one() {
    let mut fleet = Fleet::formed_of([Supported::ALL, Supported::ALL, OLD]).await;
    lead_elsewhere(&fleet, 2).await;
    until_held(&fleet, "m3 knows up to level 1").await;
    until_level(&fleet, Level(1)).await;
    restart(&mut fleet, 2, Supported::ALL).await;
    until_level(&fleet, Level(2)).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_voter_or_the_settings_hold_the_level() {
    let mut fleet = Fleet::formed_of([HOLDS, Supported::ALL, Supported::ALL]).await;
    until_held(&fleet, "m1 was started with --hold-level").await;
    hold(&fleet, true).await;
    restart(&mut fleet, 0, Supported::ALL).await;
    until_held(&fleet, "the settings hold it (holdLevel)").await;
    until_level(&fleet, Level(1)).await;
    hold(&fleet, false).await;
    until_level(&fleet, Level(2)).await;
}

/// What a member said before it was rolled back is worth nothing.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_member_that_was_rolled_back_is_asked_again() {
    let mut fleet = Fleet::formed_of([Supported::ALL, HOLDS, Supported::ALL]).await;
    // A look has been made, at which all knew the next level.
    until_held(&fleet, "m2 was started with --hold-level").await;
    lead_elsewhere(&fleet, 2).await;
    restart(&mut fleet, 2, OLD).await;
    lead_elsewhere(&fleet, 2).await;
    restart(&mut fleet, 1, Supported::ALL).await;
    lead_elsewhere(&fleet, 2).await;
    until_held(&fleet, "m3 knows up to level 1").await;
    until_level(&fleet, Level(1)).await;
    fleet.put(2, "k", "v").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_newcomer_that_does_not_know_the_level_is_not_taken_in() {
    let mut fleet = Fleet::formed(1).await;
    until_level(&fleet, Level(2)).await;
    let at = fleet.join().await;
    fleet.stop(at).await;
    fleet.seats[at].levels = OLD;
    fleet.start(at).await;
    let refused = fleet.group(0).change_members(Change::AddLearner(fleet.learner(at)), soon()).await;
    let Err(MembershipError::Refused { refusal, detail }) = refused else {
        panic!("{refused:?}");
    };
    assert_eq!(refusal, Refusal::LevelUnknown);
    assert!(
        detail.contains("knows the levels 1 to 1: start it with a kvnode that knows level 2"),
        "{detail}"
    );
    assert_eq!(fleet.group(0).status().members.len(), 1);
    fleet.stop(at).await;
    fleet.seats[at].levels = Supported::ALL;
    fleet.start(at).await;
    let change = Change::AddLearner(fleet.learner(at));
    fleet.group(0).change_members(change, soon()).await.unwrap();
}

/// It stops before it has touched a row, says so again when it is started again, and goes on with the newer program.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_member_above_whose_level_the_group_goes_stops() {
    let mut fleet = Fleet::formed_of([HOLDS, HOLDS, OLD]).await;
    let leader = lead_elsewhere(&fleet, 2).await;
    let revision = fleet.put(leader, "before", "v").await;
    fleet
        .until(2, "caught up", |group| group.inner.views.latest().revision() == revision)
        .await;
    raise_unasked(&fleet, leader).await;
    let reason = tokio::time::timeout(LIMIT, fleet.group(2).failed()).await.unwrap();
    assert_eq!(
        fleet.group(2).too_new().map(|error| error.to_string()).as_deref(),
        Some(WORDS),
        "{reason}"
    );
    assert_eq!(level(fleet.group(2)), Level(1));
    fleet.put(leader, "meanwhile", "v").await;
    fleet.stop(2).await;
    match fleet.try_start(2).await {
        Err(error) => assert_eq!(error.to_string(), WORDS),
        Ok(()) => {
            tokio::time::timeout(LIMIT, fleet.group(2).failed()).await.unwrap();
            assert_eq!(fleet.group(2).too_new().map(|error| error.to_string()).as_deref(), Some(WORDS));
            fleet.stop(2).await;
        }
    }
    fleet.seats[2].levels = Supported::ALL;
    fleet.start(2).await;
    until_level(&fleet, Level(2)).await;
    for key in ["before", "meanwhile"] {
        assert_eq!(fleet.get(2, key).await.as_deref(), Some("v"));
    }
}

/// The rows of a higher level do not come in by a snapshot either.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_member_that_missed_the_raise_takes_no_snapshot_of_it() {
    let mut fleet = Fleet::formed_of([HOLDS, HOLDS, OLD]).await;
    let leader = lead_elsewhere(&fleet, 2).await;
    fleet.stop(2).await;
    raise_unasked(&fleet, leader).await;
    fleet.put(leader, "k", "v").await;
    let inner = &fleet.group(leader).inner;
    inner.flush().await.unwrap();
    let upto = inner.raft.metrics().borrow_watched().snapshot.unwrap().index;
    inner.raft.trigger().purge_log(upto).await.unwrap();
    inner
        .raft
        .wait(Some(LIMIT))
        .metrics(|now| now.purged.is_some_and(|purged| purged.index >= upto), "purged")
        .await
        .unwrap();
    fleet.start(2).await;
    let reason = tokio::time::timeout(LIMIT, fleet.group(2).failed()).await.unwrap();
    assert_eq!(reason, WORDS);
    assert_eq!((level(fleet.group(2)), fleet.group(2).snapshots().received), (Level(1), 0));
    fleet.stop(2).await;
    fleet.seats[2].levels = Supported::ALL;
    fleet.start(2).await;
    until_level(&fleet, Level(2)).await;
    assert_eq!(fleet.get(2, "k").await.as_deref(), Some("v"));
}
