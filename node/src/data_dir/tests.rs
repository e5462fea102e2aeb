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
    let noted = std::fs::read_to_string(directory.path().join("quarantine.json")).expect("it is there");
    assert_eq!(noted, r#"{"reason":"a \"row\" has changed"}"#);
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
