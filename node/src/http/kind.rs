//! The kind of a value. In: `KV-Kind`, else `Content-Type`; and the value. Out: the kind, when the value fits it. The value is never
//! changed: JSON is only looked at.

use axum::http::{HeaderMap, HeaderName, header};
use kvfleet_api::{Code, header as kv};
use serde::de::IgnoredAny;

use super::{refuse, request::header_text};
use crate::{problem::Failure, state::Kind};

/// The media type of an envelope.
pub(super) const ITEM: &str = "application/vnd.kv.item+json";

/// A media type is kept with the record and charged to nobody, so it is short.
const LONGEST_TYPE: usize = 256;

/// What the head of a write says of its value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Declared {
    pub(super) kind: Kind,
    pub(super) content_type: Option<String>,
}

impl Declared {
    /// Before the body is read.
    pub(super) fn of(headers: &HeaderMap) -> Result<Self, Failure> {
        if let Some(coding) = header_text(headers, &header::CONTENT_ENCODING)?.filter(|coding| !coding.eq_ignore_ascii_case("identity")) {
            let detail = format!(
                "the coding {coding} is not understood here; send the value as it is, or keep it compressed under a media type of its own"
            );
            return Err(refuse::pointed(Code::UnsupportedMediaType, "Content-Encoding", detail));
        }
        let content_type = header_text(headers, &header::CONTENT_TYPE)?;
        if content_type.is_some_and(|text| text.len() > LONGEST_TYPE) {
            return Err(refuse::parameter(
                "Content-Type",
                format!("it may have at most {LONGEST_TYPE} characters"),
            ));
        }
        let media = content_type.map(media_type).unwrap_or_default();
        if media == ITEM {
            let detail = "a write takes the value itself, not an envelope";
            return Err(refuse::pointed(Code::UnsupportedMediaType, "Content-Type", detail));
        }
        let kind = match header_text(headers, &HeaderName::from_static(kv::KIND))? {
            None => of_media(&media),
            Some("string") => Kind::String,
            Some("json") => Kind::Json,
            Some("bytes") => Kind::Bytes,
            Some(_) => return Err(refuse::parameter("KV-Kind", "it is string, json or bytes")),
        };
        Ok(Declared {
            kind,
            content_type: content_type.map(str::to_owned),
        })
    }

    /// Whether the value is of its kind.
    pub(super) fn check(&self, value: &[u8]) -> Result<(), Failure> {
        let refuse = |detail: String| Err(refuse::pointed(Code::InvalidBody, "", detail));
        let text = match self.kind {
            Kind::Bytes => return Ok(()),
            Kind::String | Kind::Json => match std::str::from_utf8(value) {
                Ok(text) => text,
                Err(error) => {
                    let at = error.valid_up_to();
                    return refuse(format!(
                        "the value is not UTF-8 (byte {at}); send it with KV-Kind: bytes, or convert it"
                    ));
                }
            },
        };
        if self.kind == Kind::Json
            && let Err(error) = serde_json::from_str::<IgnoredAny>(text)
        {
            return refuse(format!(
                "the value is no JSON: {error}; send it with KV-Kind: string, or correct it"
            ));
        }
        Ok(())
    }
}

/// The type without its parameters, lower case.
pub(super) fn media_type(text: &str) -> String {
    text.split(';').next().unwrap_or_default().trim().to_ascii_lowercase()
}

fn of_media(media: &str) -> Kind {
    if media.starts_with("text/") {
        Kind::String
    } else if media == "application/json" || media.ends_with("+json") {
        Kind::Json
    } else {
        Kind::Bytes
    }
}

/// The kind's name.
pub(super) fn name(kind: Kind) -> &'static str {
    match kind {
        Kind::String => "string",
        Kind::Json => "json",
        Kind::Bytes => "bytes",
    }
}

/// The media type of a value that was sent without one.
pub(super) fn default_type(kind: Kind) -> &'static str {
    match kind {
        Kind::String => "text/plain; charset=utf-8",
        Kind::Json => "application/json",
        Kind::Bytes => "application/octet-stream",
    }
}

#[cfg(test)]
mod tests {
    use axum::http::HeaderValue;

    use super::*;

    fn declared(pairs: &[(&'static str, &'static str)]) -> Result<Kind, Code> {
        let headers = pairs
            .iter()
            .map(|(name, value)| (HeaderName::from_static(name), HeaderValue::from_static(value)));
        Declared::of(&headers.collect())
            .map(|declared| declared.kind)
            .map_err(|failure| failure.0.code)
    }

    #[test]
    fn the_header_wins_over_the_media_type() {
        for (pairs, wanted) in [
            (&[][..], Ok(Kind::Bytes)),
            (&[("content-type", "text/plain")], Ok(Kind::String)),
            (&[("content-type", "Text/HTML; charset=utf-8")], Ok(Kind::String)),
            (&[("content-type", "application/json")], Ok(Kind::Json)),
            (&[("content-type", "application/json; charset=utf-8")], Ok(Kind::Json)),
            (&[("content-type", "application/problem+json")], Ok(Kind::Json)),
            (&[("content-type", "application/octet-stream")], Ok(Kind::Bytes)),
            (&[("content-type", "image/png")], Ok(Kind::Bytes)),
            (&[("content-type", "text/plain"), ("kv-kind", "bytes")], Ok(Kind::Bytes)),
            (&[("kv-kind", "json")], Ok(Kind::Json)),
            (&[("kv-kind", "string")], Ok(Kind::String)),
            (&[("kv-kind", "list")], Err(Code::InvalidParameter)),
            (&[("content-encoding", "gzip")], Err(Code::UnsupportedMediaType)),
            (&[("content-encoding", "identity")], Ok(Kind::Bytes)),
            (&[("content-type", ITEM)], Err(Code::UnsupportedMediaType)),
        ] {
            assert_eq!(declared(pairs), wanted, "{pairs:?}");
        }
    }

    /// covers row 44
    #[test]
    fn a_value_must_fit_its_kind() {
        let fits = |kind, value: &[u8]| Declared { kind, content_type: None }.check(value).is_ok();
        assert!(fits(Kind::String, "ü".as_bytes()) && fits(Kind::String, b"") && fits(Kind::Bytes, &[0xff]));
        assert!(fits(Kind::Json, b" {\"a\": 1e999, \"a\": 2} ") && fits(Kind::Json, b"null"));
        for (kind, value) in [
            (Kind::String, &[0xff][..]),
            (Kind::Json, b""),
            (Kind::Json, b"{"),
            (Kind::Json, b"{} x"),
            (Kind::Json, b"\"\xff\""),
        ] {
            assert!(!fits(kind, value), "{kind:?} {value:?}");
        }
    }
}
