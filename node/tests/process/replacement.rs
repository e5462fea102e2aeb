//! Members that lose their data come back as new ones, and nobody has to do anything; and where somebody decides, the group is asked first.

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
};

use crate::{cluster::Cluster, http::request, member::eventually, quarantine::damage_log};

const SELF_REPLACE: &[(&str, &str)] = &[("KVNODE_SELF_REPLACE", "true")];

fn identity(cluster: &Cluster, number: usize) -> Option<serde_json::Value> {
    let text = std::fs::read(cluster.data_dir(number).join("identity.json")).ok()?;
    serde_json::from_slice(&text).ok()
}

fn id(cluster: &Cluster, number: usize) -> String {
    identity(cluster, number).expect("an identity")["memberId"]
        .as_str()
        .expect("text")
        .to_owned()
}

/// What was put aside in this directory.
fn aside(directory: &Path, prefix: &str) -> Vec<PathBuf> {
    let items = std::fs::read_dir(directory).expect("the directory");
    let paths = items.map(|item| item.expect("an item").path());
    paths
        .filter(|path| path.file_name().is_some_and(|name| name.to_string_lossy().starts_with(prefix)))
        .collect()
}

struct Written(BTreeMap<String, String>);

impl Written {
    fn write(&mut self, cluster: &Cluster, through: &[usize], count: usize) {
        for _ in 0..count {
            let key = format!("k{}", self.0.len());
            cluster.write_until_acknowledged(through, &key);
            self.0.insert(key.clone(), key);
        }
    }

    fn assert_on(&self, cluster: &Cluster, number: usize) {
        for (key, value) in &self.0 {
            assert_eq!(
                cluster.call(number, "GET", key, "").expect("an answer").text(),
                *value,
                "{key} through {number}"
            );
        }
    }
}

/// The member votes under this or that id, and `gone` is no member any more.
fn wait_replaced(cluster: &Cluster, number: usize, gone: &str) -> String {
    eventually("a replaced member", || {
        let found = identity(cluster, number)?;
        let id = found["memberId"].as_str()?.to_owned();
        let settled = id != gone && found.get("replaces").is_none_or(serde_json::Value::is_null);
        let ready = request(cluster.port(number, 1), "GET", "/readyz", &[], b"").is_ok_and(|answer| answer.status == 200);
        (settled && ready).then_some(id)
    })
}

fn voters(cluster: &Cluster, through: usize) -> Vec<String> {
    let report = cluster.admin(through, "GET", "/admin/members").json();
    let members = report["members"].as_array().expect("a list").clone();
    let voters = members.into_iter().filter(|member| member["voter"] == true);
    voters.map(|member| member["id"].as_str().expect("text").to_owned()).collect()
}

/// covers rows 67, 111
#[test]
fn a_damaged_member_is_replaced_and_nobody_has_to_do_anything() {
    let mut cluster = Cluster::start_with("0s", SELF_REPLACE);
    let mut written = Written(BTreeMap::new());
    written.write(&cluster, &[0, 1, 2], 20);
    let victim = (cluster.leader() + 1) % 3;
    let others: Vec<usize> = (0..3).filter(|number| *number != victim).collect();
    let old = id(&cluster, victim);
    cluster.kill(victim);
    damage_log(&cluster.data_dir(victim));
    cluster.start_member(victim);
    written.write(&cluster, &others, 10);

    let new = wait_replaced(&cluster, victim, &old);
    written.write(&cluster, &[victim], 5);
    written.assert_on(&cluster, victim);
    let now = voters(&cluster, victim);
    assert!(now.len() == 3 && now.contains(&new) && !now.contains(&old), "{now:?}");
    assert_eq!(aside(&cluster.data_dir(victim), "damaged-").len(), 1);

    // It counts: with another member gone the two are a majority.
    cluster.kill(others[0]);
    written.write(&cluster, &[victim, others[1]], 5);
    cluster.start_member(others[0]);
    cluster.wait_ready(others[0]);
    written.assert_on(&cluster, others[0]);
}

/// covers rows 67, 113
#[test]
fn an_empty_volume_is_a_new_member_in_the_old_place() {
    let mut cluster = Cluster::start_with("0s", SELF_REPLACE);
    let mut written = Written(BTreeMap::new());
    written.write(&cluster, &[0, 1, 2], 20);
    // Number 0 is the one with --bootstrap: it must not form another group.
    for victim in [0, 2] {
        let old = id(&cluster, victim);
        cluster.kill(victim);
        std::fs::remove_dir_all(cluster.data_dir(victim)).expect("removed");
        cluster.start_member(victim);
        let new = wait_replaced(&cluster, victim, &old);
        written.assert_on(&cluster, victim);
        let now = voters(&cluster, victim);
        assert!(now.len() == 3 && now.contains(&new) && !now.contains(&old), "{now:?}");
    }
}

/// Killed again and again on its way: it always goes on.
#[test]
fn a_replacement_survives_its_own_crashes() {
    let mut cluster = Cluster::start_with("0s", SELF_REPLACE);
    let mut written = Written(BTreeMap::new());
    written.write(&cluster, &[0, 1, 2], 20);
    let victim = (cluster.leader() + 1) % 3;
    let old = id(&cluster, victim);
    cluster.kill(victim);
    damage_log(&cluster.data_dir(victim));
    let directory = cluster.data_dir(victim);
    // Each life ends as soon as it has come a step further.
    let steps: [fn(&Path) -> bool; 3] = [
        |directory| directory.join("aside.json").exists() || !aside(directory, "damaged-").is_empty(),
        |directory| std::fs::read_to_string(directory.join("identity.json")).is_ok_and(|text| text.contains("replaces")),
        |directory| directory.join("members.json").exists(),
    ];
    for step in steps {
        cluster.start_member(victim);
        eventually("a step of the replacement", || step(&directory).then_some(()));
        cluster.kill(victim);
    }
    cluster.start_member(victim);
    wait_replaced(&cluster, victim, &old);
    written.assert_on(&cluster, victim);
    assert_eq!(voters(&cluster, victim).len(), 3);
}

/// Nobody wipes itself, and the group is asked before the operator's word counts.
#[test]
fn the_operator_releases_a_member_when_the_group_can_spare_it() {
    let mut cluster = Cluster::start("0s");
    let mut written = Written(BTreeMap::new());
    written.write(&cluster, &[0, 1, 2], 20);
    let not_quarantined = cluster.admin(0, "POST", "/admin/release");
    assert_eq!(not_quarantined.status, 409, "{not_quarantined:?}");
    let leader = cluster.leader();
    let (victim, other) = ((leader + 1) % 3, (leader + 2) % 3);
    let old = id(&cluster, victim);
    cluster.kill(victim);
    damage_log(&cluster.data_dir(victim));
    cluster.start_member(victim);
    eventually("the quarantine", || {
        (cluster.admin(victim, "GET", "/admin/members").json()["state"] == "Quarantined").then_some(())
    });

    // With another voter away no copy can be spared.
    cluster.kill(other);
    let refused = cluster.admin(victim, "POST", "/admin/release");
    assert_eq!(
        (refused.status, refused.json()["code"].as_str()),
        (409, Some("conflict")),
        "{refused:?}"
    );
    assert_eq!(id(&cluster, victim), old);
    assert!(aside(&cluster.data_dir(victim), "damaged-").is_empty());

    cluster.start_member(other);
    cluster.wait_ready(other);
    let released = eventually("the release", || {
        Some(cluster.admin(victim, "POST", "/admin/release")).filter(|answer| answer.status == 200)
    });
    let new = wait_replaced(&cluster, victim, &old);
    assert_eq!(released.json()["id"], new);
    written.assert_on(&cluster, victim);
}

/// covers row 113
#[test]
fn a_member_that_was_removed_while_it_was_away_comes_back_as_a_new_one() {
    let mut cluster = Cluster::start("0s");
    let mut written = Written(BTreeMap::new());
    written.write(&cluster, &[0, 1, 2], 5);
    let victim = (cluster.leader() + 1) % 3;
    let others: Vec<usize> = (0..3).filter(|number| *number != victim).collect();
    let old = id(&cluster, victim);
    cluster.kill(victim);
    let removed = cluster.admin(others[0], "DELETE", &format!("/admin/members/{old}"));
    assert!(removed.status < 300, "{removed:?}");
    cluster.start_member(victim);
    let report = eventually("a blank member", || {
        let report = cluster.admin(victim, "GET", "/admin/members").json();
        (report["state"] == "Blank" && report["id"] != old).then_some(report)
    });
    assert_eq!(report["id"], id(&cluster, victim));
    assert_eq!(aside(&cluster.data_dir(victim), "removed-").len(), 1);
    written.assert_on(&cluster, others[0]);
}

/// What a disk may do to the files of one member, and whether it can go on with them.
struct Kind {
    name: &'static str,
    damage: fn(&Path),
    /// Whether the member must come back under another id.
    replaced: bool,
}

fn files(directory: &Path, extension: &str) -> Vec<PathBuf> {
    let items = std::fs::read_dir(directory).expect("the directory");
    let mut paths: Vec<PathBuf> = items.map(|item| item.expect("an item").path()).collect();
    paths.retain(|path| path.extension().is_some_and(|found| found == extension));
    paths.sort();
    paths
}

fn change(path: &Path, change: impl FnOnce(&mut Vec<u8>)) {
    let mut bytes = std::fs::read(path).expect("the file");
    change(&mut bytes);
    std::fs::write(path, bytes).expect("written");
}

fn empty(directory: &Path) {
    std::fs::remove_dir_all(directory).expect("removed");
    std::fs::create_dir(directory).expect("made");
}

const KINDS: &[Kind] = &[
    Kind {
        name: "both marks are zeroed",
        damage: |path| {
            let segments = files(&path.join("raft"), "seg");
            change(segments.last().expect("a segment"), |bytes| bytes[4096..12288].fill(0));
        },
        replaced: true,
    },
    Kind {
        name: "the newest segment is cut off",
        damage: |path| {
            let segments = files(&path.join("raft"), "seg");
            change(segments.last().expect("a segment"), |bytes| bytes.truncate(12288 + 400));
        },
        replaced: true,
    },
    Kind {
        name: "the log is gone",
        damage: |path| empty(&path.join("raft")),
        replaced: true,
    },
    Kind {
        name: "log and state machine are gone",
        damage: |path| {
            empty(&path.join("raft"));
            empty(&path.join("sm"));
        },
        replaced: true,
    },
    Kind {
        name: "CURRENT is empty",
        damage: |path| change(&path.join("sm/CURRENT"), Vec::clear),
        replaced: true,
    },
    Kind {
        name: "a digit of the id is flipped",
        damage: |path| {
            change(&path.join("identity.json"), |bytes| {
                let text = String::from_utf8(bytes.clone()).expect("text");
                let at = text.find("memberId").expect("the field") + "memberId\": \"".len();
                bytes[at] ^= 1;
            });
        },
        replaced: true,
    },
    Kind {
        name: "the state machine is gone: the log has everything",
        damage: |path| empty(&path.join("sm")),
        replaced: false,
    },
    Kind {
        name: "spare segments hold nonsense",
        damage: |path| {
            for spare in files(&path.join("raft"), "spare") {
                change(&spare, |bytes| bytes[4096..8192].fill(0xa5));
            }
        },
        replaced: false,
    },
];

/// covers row 111
#[test]
fn whatever_happens_to_one_members_files_nothing_is_lost() {
    let mut cluster = Cluster::start_with("0s", SELF_REPLACE);
    let mut written = Written(BTreeMap::new());
    written.write(&cluster, &[0, 1, 2], 20);
    for (round, Kind { name, damage, replaced }) in KINDS.iter().enumerate() {
        let victim = round % 3;
        let others: Vec<usize> = (0..3).filter(|number| *number != victim).collect();
        let old = id(&cluster, victim);
        cluster.kill(victim);
        damage(&cluster.data_dir(victim));
        cluster.start_member(victim);
        written.write(&cluster, &others, 3);
        if *replaced {
            wait_replaced(&cluster, victim, &old);
        } else {
            cluster.wait_ready(victim);
            assert_eq!(id(&cluster, victim), old, "{name}");
        }
        written.write(&cluster, &[victim], 3);
        written.assert_on(&cluster, victim);
        assert_eq!(voters(&cluster, victim).len(), 3, "{name}");
    }
}
