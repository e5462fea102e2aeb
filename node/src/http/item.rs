//! A record's envelope. In: a record and the moment of the read. Out: JSON, written piece by piece, because a JSON value goes into it as it
//! was sent: parsing it would change its numbers.

use base64::{Engine, engine::general_purpose::STANDARD};

use super::{kind, time};
use crate::state::{Kind, Record};

/// Everything of the record.
pub(super) fn of(key: &str, record: &Record, now_ms: u64) -> Vec<u8> {
    let mut json = Vec::with_capacity(256 + record.value.len());
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

/// Appends an envelope.
pub(super) fn write(json: &mut Vec<u8>, key: &str, record: &Record, now_ms: u64, part: Part) {
    json.extend_from_slice(b"{\"key\":");
    text(json, key);
    member(json, "kind");
    text(json, kind::name(record.kind));
    if part == Part::Whole {
        value(json, record);
    }
    for (name, number) in [("revision", record.revision), ("create_revision", record.create_revision)] {
        member(json, name);
        json.extend_from_slice(number.to_string().as_bytes());
    }
    for (name, moment) in [("created_at", record.created_at_ms), ("updated_at", record.updated_at_ms)] {
        member(json, name);
        text(json, &time::to_text(moment));
    }
    member(json, "ttl_seconds");
    match record.expires_at_ms {
        // Rounded up: what is still there has time left.
        Some(moment) => json.extend_from_slice(moment.saturating_sub(now_ms).div_ceil(1_000).to_string().as_bytes()),
        None => json.extend_from_slice(b"null"),
    }
    member(json, "expires_at");
    match record.expires_at_ms {
        Some(moment) => text(json, &time::to_text(moment)),
        None => json.extend_from_slice(b"null"),
    }
    if part == Part::Whole {
        member(json, "meta");
        let mut separator = b'{';
        for (name, value) in &record.metadata {
            json.push(separator);
            separator = b',';
            text(json, name);
            json.push(b':');
            text(json, value);
        }
        json.extend_from_slice(if separator == b'{' { b"{}" } else { b"}" });
    }
    json.push(b'}');
}

fn value(json: &mut Vec<u8>, record: &Record) {
    match (record.kind, std::str::from_utf8(&record.value)) {
        (Kind::Json, Ok(raw)) => {
            member(json, "value");
            json.extend_from_slice(raw.as_bytes());
        }
        (Kind::String | Kind::Bytes, Ok(value)) => {
            member(json, "value");
            text(json, value);
        }
        (_, Err(_)) => {
            member(json, "value_base64");
            text(json, &STANDARD.encode(&record.value));
        }
    }
}

fn member(json: &mut Vec<u8>, name: &str) {
    json.push(b',');
    text(json, name);
    json.push(b':');
}

/// A JSON string. Writing into memory does not fail.
pub(super) fn text(json: &mut Vec<u8>, text: &str) {
    let _ = serde_json::to_writer(json, text);
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::indexing_slicing)]
mod tests {
    use bytes::Bytes;

    use super::*;

    fn record(kind: Kind, value: &'static [u8]) -> Record {
        Record {
            value: Bytes::from_static(value),
            kind,
            content_type: None,
            metadata: vec![("a".into(), "1".into()), ("b".into(), "\"".into())],
            revision: 42,
            create_revision: 7,
            created_at_ms: 1_795_262_400_000,
            updated_at_ms: 1_795_262_401_000,
            expires_at_ms: Some(1_795_262_410_500),
        }
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
    fn a_value_goes_in_by_its_kind() {
        let raw = b" {\"n\": 1.000000000000000000001} ";
        let json = String::from_utf8(of("k", &record(Kind::Json, raw), 0)).unwrap();
        assert!(json.contains("1.000000000000000000001"), "{json}");
        let whole = |kind, value| serde_json::from_slice::<serde_json::Value>(&of("k", &record(kind, value), 0)).unwrap();
        assert_eq!(whole(Kind::Bytes, b"ab")["value"], "ab");
        assert_eq!(whole(Kind::Bytes, b"\xff\x00")["value_base64"], "/wA=");
        assert_eq!(whole(Kind::Bytes, b"\xff\x00").get("value"), None);
        let mut lasting = record(Kind::Bytes, b"");
        lasting.expires_at_ms = None;
        lasting.metadata.clear();
        let found: serde_json::Value = serde_json::from_slice(&of("k", &lasting, 0)).unwrap();
        assert_eq!(
            (&found["ttl_seconds"], &found["expires_at"]),
            (&serde_json::Value::Null, &serde_json::Value::Null)
        );
        assert_eq!(found["meta"], serde_json::json!({}));
    }
}
