//! Bytes that are kept in `tests/golden`, a line each: its name, and its bytes in hexadecimal.

use std::{fmt::Write, path::Path};

/// Compares with the file; `KVNODE_BLESS=1` writes it.
pub(crate) fn check<'s>(file: &str, samples: impl Iterator<Item = (&'s str, &'s [u8])>) {
    let mut lines = String::new();
    for (name, bytes) in samples {
        let hex: String = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
        writeln!(lines, "{name}: {hex}").unwrap();
    }
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("tests/golden/{file}.txt"));
    if std::env::var_os("KVNODE_BLESS").is_some() {
        std::fs::write(&path, &lines).unwrap();
    }
    let kept = std::fs::read_to_string(&path).unwrap_or_default();
    assert_eq!(lines, kept, "KVNODE_BLESS=1 cargo test -p kvfleet-node --lib golden");
}
