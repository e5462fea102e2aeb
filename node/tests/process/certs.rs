//! `kvnode certs`.

use std::{os::unix::fs::PermissionsExt, path::Path, process::Command};

fn certs(out: &Path, more: &[&str]) -> std::process::Output {
    Command::new(env!("CARGO_BIN_EXE_kvnode"))
        .args(["certs", "--out"])
        .arg(out)
        .args(more)
        .output()
        .expect("the program starts")
}

/// covers row 114
#[test]
fn a_set_is_made_once_and_its_keys_are_private() {
    let directory = tempfile::tempdir().expect("a directory");
    let out = directory.path().join("new/certs");
    let id = "7b0c5a1e-0b7d-4f5c-9d3b-2f6f6c0f7a11";
    let made = certs(&out, &["--cluster-id", id, "--host", "node-1.example"]);
    assert!(made.status.success(), "{made:?}");
    assert_eq!(String::from_utf8_lossy(&made.stdout).trim(), id);
    for (name, mode) in [
        ("ca.crt", 0o644),
        ("ca.key", 0o600),
        ("tls.crt", 0o644),
        ("tls.key", 0o600),
        ("operator.crt", 0o644),
        ("operator.key", 0o600),
        ("jwt.pem", 0o600),
        ("jwks.json", 0o644),
    ] {
        let found = std::fs::metadata(out.join(name))
            .unwrap_or_else(|error| panic!("{name}: {error}"))
            .permissions()
            .mode()
            & 0o777;
        assert_eq!(found & 0o077 & !mode, 0, "{name} has mode {found:o}");
    }
    let before = std::fs::read(out.join("ca.crt")).expect("made");
    let again = certs(&out, &["--cluster-id", id]);
    assert_eq!(again.status.code(), Some(1));
    assert!(String::from_utf8_lossy(&again.stderr).contains("is there already"), "{again:?}");
    assert_eq!(std::fs::read(out.join("ca.crt")).expect("kept"), before);
}

#[test]
fn what_cannot_be_in_a_certificate_is_named() {
    let directory = tempfile::tempdir().expect("a directory");
    let out = directory.path().join("certs");
    let bad = certs(&out, &["--cluster-id", "prod"]);
    assert_eq!(bad.status.code(), Some(2));
    assert!(String::from_utf8_lossy(&bad.stderr).contains("--cluster-id"), "{bad:?}");
    let bad = certs(&out, &["--host", "bücher.example"]);
    assert_eq!(bad.status.code(), Some(1));
    assert!(String::from_utf8_lossy(&bad.stderr).contains("bücher.example"), "{bad:?}");
    assert!(!out.exists(), "nothing is half done");
}
