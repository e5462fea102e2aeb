//! The feature level: a program that knows less than the group uses stops before it has touched anything.

use std::path::Path;

use kvfleet_node::storage::{Direction, FjallStores, KeyRange, Keyspace, Store};

use crate::{
    cluster::Cluster,
    member::{Member, eventually},
};

const WORDS: &str = "this data is of feature level 2, this program knows up to 1: run kvnode of a version that knows level 2";

/// The level, as every member that is asked tells it.
fn wait_level(cluster: &Cluster, level: u64) {
    for number in 0..3 {
        eventually("the level", || {
            let report = cluster.admin(number, "GET", "/admin/members").json();
            (report["level"] == level).then_some(())
        });
    }
}

/// The rows of a member that is stopped.
fn rows(data_dir: &Path) -> Vec<(Vec<u8>, Vec<u8>)> {
    let reader = FjallStores::open(&data_dir.join("sm")).expect("a store").reader();
    let all = Keyspace::ALL.into_iter().flat_map(|keyspace| {
        let rows = reader.range(keyspace, KeyRange::ALL, Direction::Ascending);
        rows.map(|row| row.expect("a row"))
            .map(|(key, value)| (key.to_vec(), value.to_vec()))
    });
    all.collect()
}

#[test]
fn a_program_that_knows_less_than_the_group_uses_refuses_its_data() {
    let mut cluster = Cluster::start("0s");
    cluster.write_until_acknowledged(&[0], "before");
    wait_level(&cluster, 2);
    let report = cluster.admin(0, "GET", "/admin/members").json();
    assert_eq!(
        report["supportedLevels"],
        serde_json::json!({"lowest": 1, "highest": 2}),
        "{report}"
    );
    let stats = cluster.admin(0, "GET", "/admin/stats").json();
    assert_eq!(
        (&stats["level"], &stats["supportedLevels"]["highest"]),
        (&2.into(), &2.into()),
        "{stats}"
    );

    cluster.end(2);
    let before = rows(&cluster.data_dir(2));
    for _ in 0..2 {
        cluster.start_member_with(2, &[("KVNODE_MAX_LEVEL", "1")]);
        let status = cluster.members[2].as_mut().expect("it was started").wait();
        assert_eq!(status.code(), Some(1), "{}", cluster.log_of(2));
        assert!(cluster.log_of(2).contains(WORDS), "{}", cluster.log_of(2));
        assert_eq!(rows(&cluster.data_dir(2)), before);
    }
    cluster.write_until_acknowledged(&[0], "meanwhile");
    cluster.start_member(2);
    cluster.wait_ready(2);
    for key in ["before", "meanwhile"] {
        assert_eq!(cluster.call(2, "GET", key, "").expect("an answer").text(), key);
    }
}

/// Until the level is raised a program can be put back: that is what a hold is for.
#[test]
fn a_group_that_holds_its_level_runs_with_the_older_program() {
    let mut cluster = Cluster::start_with("0s", &[("KVNODE_HOLD_LEVEL", "true")]);
    eventually("a leader that says what holds the level", || {
        let report = cluster.admin(cluster.leader(), "GET", "/admin/members").json();
        let held_by = report["levelHeldBy"].as_array()?;
        held_by.iter().any(|by| by == "a was started with --hold-level").then_some(())
    });
    wait_level(&cluster, 1);
    cluster.end(2);
    cluster.start_member_with(2, &[("KVNODE_MAX_LEVEL", "1")]);
    cluster.wait_ready(2);
    cluster.write_until_acknowledged(&[2], "put-back");
    let report = cluster.admin(2, "GET", "/admin/members").json();
    assert_eq!(
        (&report["level"], &report["supportedLevels"]["highest"]),
        (&1.into(), &1.into()),
        "{report}"
    );
}

#[test]
fn a_level_that_the_program_does_not_know_cannot_be_pretended() {
    let logs = tempfile::tempdir().expect("a directory");
    for level in ["0", "9"] {
        let mut member = Member::kvnode(logs.path(), "dev", &["--dev", "--max-level", level]);
        assert_eq!(member.wait().code(), Some(2));
        assert!(
            member.errors().contains("must be a feature level between 1 and 2"),
            "{}",
            member.errors()
        );
    }
}
