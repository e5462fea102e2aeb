//! What a data directory accepts and refuses.

use super::*;
use std::time::Duration;

const SHORT: Duration = Duration::from_millis(50);

fn cluster(last: u8) -> ClusterId {
    let mut bytes = [7; 16];
    if let Some(byte) = bytes.last_mut() {
        *byte = last;
    }
    ClusterId::from_bytes(bytes)
}

async fn open(path: &Path, id: Option<ClusterId>, shard: u32) -> Result<DataDir, DataDirError> {
    DataDir::open(acquire(path, SHORT).await?, id, shard)
}

#[tokio::test]
async fn an_identity_is_made_once_and_kept() {
    let directory = tempfile::tempdir().expect("a directory");
    let path = directory.path().join("new/data");
    let first = open(&path, Some(cluster(1)), 0).await.expect("an empty directory");
    let identity = first.identity();
    assert_ne!(identity.member, 0);
    assert_eq!(first.state_machine(), path.join("sm"));
    first.close();
    let again = open(&path, Some(cluster(1)), 0).await.expect("our own directory");
    assert_eq!(again.identity(), identity);
    assert_eq!(again.state_machine(), path.join("sm"));
}

#[tokio::test]
async fn two_members_never_share_an_id() {
    let directory = tempfile::tempdir().expect("a directory");
    let one = open(&directory.path().join("a"), None, 0).await.expect("a new member");
    let two = open(&directory.path().join("b"), None, 0).await.expect("a new member");
    assert_ne!(one.identity().member, two.identity().member);
    assert_ne!(one.identity().cluster, two.identity().cluster);
}

/// covers row 119
#[tokio::test]
async fn another_clusters_directory_is_refused_and_left_alone() {
    let directory = tempfile::tempdir().expect("a directory");
    open(directory.path(), Some(cluster(1)), 0).await.expect("a new member").close();
    let before = std::fs::read(directory.path().join("identity.json")).expect("written");
    let error = open(directory.path(), Some(cluster(2)), 0).await.expect_err("another cluster");
    let text = error.to_string();
    assert!(
        text.contains(&cluster(1).to_string()) && text.contains(&cluster(2).to_string()),
        "{text}"
    );
    let error = open(directory.path(), Some(cluster(1)), 3).await.expect_err("another shard");
    assert!(
        matches!(
            error,
            DataDirError::ForeignShard {
                found: 0,
                configured: 3,
                ..
            }
        ),
        "{error}"
    );
    assert_eq!(std::fs::read(directory.path().join("identity.json")).expect("still there"), before);
}

/// covers row 16
#[tokio::test]
async fn a_newer_format_is_refused() {
    let directory = tempfile::tempdir().expect("a directory");
    std::fs::write(directory.path().join("identity.json"), r#"{"format": 2, "somethingNew": {}}"#).expect("written");
    let error = open(directory.path(), None, 0).await.expect_err("a newer format");
    assert!(
        matches!(
            error,
            DataDirError::NewerFormat {
                found: 2,
                known: FORMAT,
                ..
            }
        ),
        "{error}"
    );
}

#[tokio::test]
async fn damage_is_told_from_absence() {
    let directory = tempfile::tempdir().expect("a directory");
    std::fs::write(directory.path().join("identity.json"), "").expect("written");
    let error = open(directory.path(), None, 0).await.expect_err("an empty file");
    assert!(matches!(error, DataDirError::BadIdentity { .. }), "{error}");
    std::fs::remove_file(directory.path().join("identity.json")).expect("removed");
    std::fs::create_dir(directory.path().join("raft")).expect("made");
    let error = open(directory.path(), None, 0).await.expect_err("a log without an identity");
    assert!(matches!(error, DataDirError::IdentityLost { part: "raft", .. }), "{error}");
}

#[tokio::test]
async fn damage_is_noted_for_the_next_start() {
    let directory = tempfile::tempdir().expect("a directory");
    let opened = open(directory.path(), None, 0).await.expect("a new member");
    opened.quarantine("a \"row\" has changed").expect("written");
    opened.close();
    let error = open(directory.path(), None, 0).await.expect_err("quarantined");
    assert!(
        matches!(&error, DataDirError::Quarantined { reason, .. } if reason == "a \"row\" has changed"),
        "{error}"
    );
}

#[tokio::test]
async fn a_second_process_waits_for_the_first() {
    let directory = tempfile::tempdir().expect("a directory");
    let first = open(directory.path(), None, 0).await.expect("a new member");
    let error = open(directory.path(), None, 0).await.expect_err("it is in use");
    assert!(matches!(error, DataDirError::Locked { .. }), "{error}");
    let waiting = tokio::spawn({
        let path = directory.path().to_owned();
        async move { acquire(&path, Duration::from_secs(60)).await }
    });
    tokio::task::yield_now().await;
    first.close();
    waiting.await.expect("no panic").expect("the lock is free");
}

const SUCCESSOR: Successor = Successor {
    cluster: ClusterId::from_bytes([7; 16]),
    shard: 0,
    replaces: Some(42),
};

/// A member with something in every part.
async fn member(path: &Path) -> Identity {
    let opened = open(path, Some(SUCCESSOR.cluster), 0).await.expect("a new member");
    std::fs::write(path.join("raft/log"), "old").expect("written");
    std::fs::write(path.join("sm/CURRENT"), "0").expect("written");
    remember_members(path, &[]).expect("written");
    quarantine(path, "a row is damaged").expect("written");
    opened.identity()
}

/// What is there after the data was put aside, however often that was interrupted.
async fn assert_put_aside(path: &Path, old: Identity) -> Identity {
    let opened = open(path, Some(SUCCESSOR.cluster), 0).await.expect("a new member");
    let new = opened.identity();
    assert_ne!(new.member, old.member);
    assert_eq!(new.replaces, SUCCESSOR.replaces);
    assert!(!was_member(path) && !path.join("aside.json").exists() && !path.join("raft/log").exists());
    let aside: Vec<_> = std::fs::read_dir(path)
        .expect("listed")
        .map(|item| item.expect("an item").path())
        .filter(|path| path.file_name().is_some_and(|name| name.to_string_lossy().starts_with("damaged-")))
        .collect();
    let [aside] = aside.as_slice() else {
        panic!("one directory, not {aside:?}")
    };
    assert_eq!(std::fs::read_to_string(aside.join("raft/log")).expect("kept"), "old");
    assert_eq!(DataDir::last_identity(aside), Some(old));
    assert!(matches!(DataDir::last_identity_of(aside, old.cluster, old.shard), Ok(Some(found)) if found == old));
    let other = DataDir::last_identity_of(aside, old.cluster, old.shard + 1);
    assert!(matches!(other, Err(DataDirError::ForeignShard { .. })), "{other:?}");
    new
}

#[tokio::test]
async fn a_quarantined_member_is_refused_and_put_aside_becomes_another() {
    let directory = tempfile::tempdir().expect("a directory");
    let old = member(directory.path()).await;
    let error = open(directory.path(), Some(SUCCESSOR.cluster), 0).await.expect_err("quarantined");
    assert!(error.is_damage() && error.to_string().contains("a row is damaged"), "{error}");
    let error = open(directory.path(), Some(cluster(1)), 0).await.expect_err("another cluster's");
    assert!(!error.is_damage(), "a foreign directory is never touched: {error}");

    let lock = acquire(directory.path(), SHORT).await.expect("the lock");
    let made = put_aside(&lock, Cause::Damaged, SUCCESSOR).expect("put aside");
    drop(lock);
    assert_eq!(assert_put_aside(directory.path(), old).await, made);
    // And it is a member like any other.
    DataDir::set_replaces(directory.path(), made, None).expect("written");
    let again = open(directory.path(), Some(SUCCESSOR.cluster), 0).await.expect("its own directory");
    assert_eq!(again.identity(), Identity { replaces: None, ..made });
}

/// Wherever a crash falls, the next start ends with the old member whole beside the new one.
#[tokio::test]
async fn putting_aside_goes_on_after_a_crash_between_any_two_steps() {
    const PARTS: [&str; 5] = ["quarantine.json", "members.json", "raft", "sm", "identity.json"];
    for moved in 0..=PARTS.len() + 1 {
        let directory = tempfile::tempdir().expect("a directory");
        let path = directory.path();
        let old = member(path).await;
        std::fs::write(
            path.join("aside.json"),
            format!(
                r#"{{"into": "damaged-7", "clusterId": "{}", "shard": 0, "memberId": "9", "replaces": "42"}}"#,
                SUCCESSOR.cluster
            ),
        )
        .expect("written");
        let target = path.join("damaged-7");
        if moved > 0 {
            std::fs::create_dir(&target).expect("made");
        }
        for part in PARTS.into_iter().take(moved) {
            std::fs::rename(path.join(part), target.join(part)).expect("moved");
        }
        if moved > PARTS.len() {
            let new = Identity {
                member: 9,
                replaces: SUCCESSOR.replaces,
                ..old
            };
            new.write(path).expect("written");
        }
        let new = assert_put_aside(path, old).await;
        assert_eq!(new.member, 9, "after {moved} steps");
    }
}

#[tokio::test]
async fn only_the_newest_data_is_kept_aside() {
    let directory = tempfile::tempdir().expect("a directory");
    let path = directory.path();
    for name in ["damaged-1", "removed-2", "damaged-by-me", "damaged-"] {
        std::fs::create_dir(path.join(name)).expect("made");
    }
    let old = member(path).await;
    let lock = acquire(path, SHORT).await.expect("the lock");
    put_aside(&lock, Cause::Damaged, SUCCESSOR).expect("put aside");
    drop(lock);
    let left = |name: &str| path.join(name).exists();
    assert!(!left("damaged-1") && !left("removed-2"));
    assert!(left("damaged-by-me") && left("damaged-"), "a person's own names are left alone");
    std::fs::remove_dir(path.join("damaged-by-me")).expect("removed");
    std::fs::remove_dir(path.join("damaged-")).expect("removed");
    assert_put_aside(path, old).await;
}

/// Every byte of every small file, flipped: read as before, or damage; never another member's identity, and never an error that a restart
/// would not mend.
#[tokio::test]
async fn a_flipped_bit_in_a_small_file_is_found_or_harmless() {
    let directory = tempfile::tempdir().expect("a directory");
    let path = directory.path();
    let identity = open(path, Some(SUCCESSOR.cluster), 0).await.expect("a new member").identity();
    let file = path.join("identity.json");
    let whole = std::fs::read(&file).expect("the file");
    for at in 0..whole.len() {
        for bit in [0, 3, 7] {
            let mut bytes = whole.clone();
            bytes[at] ^= 1 << bit;
            std::fs::write(&file, &bytes).expect("written");
            match open(path, Some(SUCCESSOR.cluster), 0).await {
                Ok(opened) => assert_eq!(opened.identity(), identity, "byte {at} bit {bit}"),
                // A digit of the format: whoever wrote that format knows how to check it.
                Err(DataDirError::NewerFormat { .. }) => {}
                Err(error) => assert!(error.is_damage(), "byte {at} bit {bit}: {error}"),
            }
        }
    }
}
