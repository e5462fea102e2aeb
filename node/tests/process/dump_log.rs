//! `kvnode dump-log` on the log of a member that was killed.

use std::process::{Command, Output};

use crate::{
    http::request,
    member::{Member, parts},
};

fn dump(directory: &std::path::Path) -> Output {
    Command::new(env!("CARGO_BIN_EXE_kvnode"))
        .args(["dump-log", "--values", "--data-dir"])
        .arg(directory)
        .output()
        .expect("the program starts")
}

/// covers row 39
#[test]
fn what_was_written_is_in_the_log_and_damage_is_told_with_file_and_byte() {
    let logs = tempfile::tempdir().expect("a directory");
    let data = logs.path().join("data");
    let mut member = Member::kvnode(logs.path(), "a", &["--dev", "--data-dir", "data", "--listen", "127.0.0.1:0"]);
    let (address, token) = parts(&member.curl_line());
    let headers = [("authorization", &*format!("Bearer {token}"))];
    let put = request(address, "PUT", "/api/v1/tenants/demo/keys/found", &headers, b"again").expect("an answer");
    assert_eq!(put.status, 201);

    let running = dump(&data);
    assert!(!running.status.success());
    assert!(
        String::from_utf8_lossy(&running.stderr).contains("a running process uses it"),
        "{running:?}"
    );

    member.signal("KILL");
    member.wait();
    let whole = dump(&data);
    assert!(whole.status.success(), "{whole:?}");
    let lines = String::from_utf8(whole.stdout).expect("text");
    let found = lines
        .lines()
        .map(|line| serde_json::from_str::<serde_json::Value>(line).expect("JSON in every line"))
        .find(|line| line["command"]["operations"][0]["key"] == "found")
        .expect("the put");
    assert_eq!(found["command"]["operations"][0]["value"], "again");
    assert!(
        lines
            .trim_end()
            .lines()
            .last()
            .is_some_and(|line| line.starts_with(r#"{"record":"end","vote":{"term":"#))
    );

    let segment = data.join("raft").join(found["segment"].as_str().expect("a name"));
    let offset = found["offset"].as_u64().expect("a number");
    let mut bytes = std::fs::read(&segment).expect("the segment");
    bytes[usize::try_from(offset).expect("small") + 20] ^= 1;
    std::fs::write(&segment, bytes).expect("written");
    let damaged = dump(&data);
    assert_eq!(damaged.status.code(), Some(1));
    let told = String::from_utf8_lossy(&damaged.stderr).into_owned();
    assert!(
        told.contains(&format!("damaged in {} at byte {offset}", segment.display())),
        "{told}"
    );
    assert!(!damaged.stdout.is_empty());
}
