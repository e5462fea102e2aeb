//! A record's envelope. In: a record and the moment of the read. Out: JSON, written piece by piece, because a JSON value goes into it as it
//! was sent: parsing it would change its numbers.
//!
//! An envelope may have six times the bytes of its record (a control character is `\u0001` in JSON). So its length can be had before it is
//! written, by the same code: a page is cut by it, and memory is asked for by it.

use std::io::{self, Write};

use base64::{engine::general_purpose::STANDARD, write::EncoderWriter};

use super::{kind, time};
use crate::state::{Kind, Record};

/// Everything of the record.
pub(super) fn of(key: &str, record: &Record, now_ms: u64) -> Vec<u8> {
    let length = length(key, record, now_ms, Part::Whole);
    let mut json = Vec::with_capacity(usize::try_from(length).unwrap_or_default());
    write(&mut json, key, record, now_ms, Part::Whole);
    json
}

/// How much of a record an envelope shows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Part {
    /// All of it.
    Whole,
    /// Neither value nor metadata.
    Key,
}

/// The bytes of an envelope.
pub(super) fn length(key: &str, record: &Record, now_ms: u64, part: Part) -> u64 {
    let mut length = Length(0);
    write(&mut length, key, record, now_ms, part);
    length.0
}

/// Counts what is written.
struct Length(u64);

impl Write for Length {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0 += bytes.len() as u64;
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Appends an envelope to what is in memory: writing there does not fail.
pub(super) fn write(json: &mut impl Write, key: &str, record: &Record, now_ms: u64, part: Part) {
    raw(json, b"{\"key\":");
    text(json, key);
    member(json, "kind");
    text(json, kind::name(record.kind));
    if part == Part::Whole {
        value(json, record);
    }
    for (name, number) in [("revision", record.revision), ("create_revision", record.create_revision)] {
        member(json, name);
        raw(json, number.to_string().as_bytes());
    }
    for (name, moment) in [("created_at", record.created_at_ms), ("updated_at", record.updated_at_ms)] {
        member(json, name);
        text(json, &time::to_text(moment));
    }
    member(json, "ttl_seconds");
    match record.expires_at_ms {
        // Rounded up: what is still there has time left.
        Some(moment) => raw(json, moment.saturating_sub(now_ms).div_ceil(1_000).to_string().as_bytes()),
        None => raw(json, b"null"),
    }
    member(json, "expires_at");
    match record.expires_at_ms {
        Some(moment) => text(json, &time::to_text(moment)),
        None => raw(json, b"null"),
    }
    if part == Part::Whole {
        member(json, "meta");
        let mut separator = b"{";
        for (name, value) in &record.metadata {
            raw(json, separator);
            separator = b",";
            text(json, name);
            raw(json, b":");
            text(json, value);
        }
        raw(json, if separator == b"{" { b"{}" } else { b"}" });
    }
    raw(json, b"}");
}

fn value(json: &mut impl Write, record: &Record) {
    match (record.kind, std::str::from_utf8(&record.value)) {
        (Kind::Json, Ok(json_value)) => {
            member(json, "value");
            raw(json, json_value.as_bytes());
        }
        (Kind::String | Kind::Bytes, Ok(value)) => {
            member(json, "value");
            text(json, value);
        }
        (_, Err(_)) => {
            member(json, "value_base64");
            raw(json, b"\"");
            let mut encoded = EncoderWriter::new(&mut *json, &STANDARD);
            let _ = encoded.write_all(&record.value);
            let _ = encoded.finish();
            drop(encoded);
            raw(json, b"\"");
        }
    }
}

fn member(json: &mut impl Write, name: &str) {
    raw(json, b",");
    text(json, name);
    raw(json, b":");
}

fn raw(json: &mut impl Write, bytes: &[u8]) {
    let _ = json.write_all(bytes);
}

/// A JSON string.
pub(super) fn text(json: &mut impl Write, text: &str) {
    let _ = serde_json::to_writer(json, text);
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::indexing_slicing)]
mod tests {
    use bytes::Bytes;

    use super::*;
    use crate::state::{Header, ValuePlace};

    fn record(kind: Kind, value: &'static [u8]) -> Record {
        let value = Bytes::from_static(value);
        let header = Header {
            value: ValuePlace::of(&value),
            kind,
            content_type: None,
            metadata: vec![("a".into(), "1".into()), ("b".into(), "\"".into())],
            revision: 42,
            create_revision: 7,
            created_at_ms: 1_795_262_400_000,
            updated_at_ms: 1_795_262_401_000,
            expires_at_ms: Some(1_795_262_410_500),
        };
        Record { header, value }
    }

    /// covers row 29
    #[test]
    fn an_envelope_has_everything() {
        let json = of("k\"", &record(Kind::String, "ü\n".as_bytes()), 1_795_262_400_000);
        let found: serde_json::Value = serde_json::from_slice(&json).unwrap();
        let wanted = serde_json::json!({
            "key": "k\"", "kind": "string", "value": "ü\n", "revision": 42, "create_revision": 7,
            "created_at": "2026-11-21T12:00:00Z", "updated_at": "2026-11-21T12:00:01Z",
            "ttl_seconds": 11, "expires_at": "2026-11-21T12:00:10.5Z", "meta": {"a": "1", "b": "\""},
        });
        assert_eq!(found, wanted);
    }

    #[test]
    fn the_length_is_known_before() {
        let control = vec![1; 10_000];
        for (kind, value) in [
            (Kind::String, "\u{1}\n\"\\ü\u{7f} plain".as_bytes()),
            (Kind::String, control.as_slice()),
            (Kind::Json, b" {\"n\": 1.0}"),
            (Kind::Bytes, b"\xff\x00"),
            (Kind::Bytes, b""),
        ] {
            let mut record = record(kind, b"");
            record.value = Bytes::copy_from_slice(value);
            for part in [Part::Whole, Part::Key] {
                let mut json = Vec::new();
                write(&mut json, "k\u{1}", &record, 5, part);
                assert_eq!(length("k\u{1}", &record, 5, part), json.len() as u64, "{kind:?} {part:?}");
            }
            let whole = of("k", &record, 5);
            assert_eq!(whole.capacity(), whole.len(), "nothing to spare");
        }
        let mut record = record(Kind::String, b"");
        record.value = control.into();
        assert!(length("k", &record, 0, Part::Whole) > 60_000, "six times the value");
    }

    #[test]
    fn a_value_goes_in_by_its_kind() {
        let raw = b" {\"n\": 1.000000000000000000001} ";
        let json = String::from_utf8(of("k", &record(Kind::Json, raw), 0)).unwrap();
        assert!(json.contains("1.000000000000000000001"), "{json}");
        let whole = |kind, value| serde_json::from_slice::<serde_json::Value>(&of("k", &record(kind, value), 0)).unwrap();
        assert_eq!(whole(Kind::Bytes, b"ab")["value"], "ab");
        assert_eq!(whole(Kind::Bytes, b"\xff\x00")["value_base64"], "/wA=");
        assert_eq!(whole(Kind::Bytes, b"\xff\x00").get("value"), None);
        let mut lasting = record(Kind::Bytes, b"");
        lasting.header.expires_at_ms = None;
        lasting.header.metadata.clear();
        let found: serde_json::Value = serde_json::from_slice(&of("k", &lasting, 0)).unwrap();
        assert_eq!(
            (&found["ttl_seconds"], &found["expires_at"]),
            (&serde_json::Value::Null, &serde_json::Value::Null)
        );
        assert_eq!(found["meta"], serde_json::json!({}));
    }
}
