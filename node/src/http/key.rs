//! Keys as they come in. In: a path's rest, or the query. Out: the key. Absent: the tenant's limit on its length.

use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use kvfleet_api::{Code, Problem};
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, percent_decode_str, utf8_percent_encode};

use super::{query::Query, refuse};
use crate::problem::Failure;

/// Everything but RFC 3986's unreserved characters and `/`.
const IN_PATH: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'_').remove(b'.').remove(b'~').remove(b'/');

/// The key that a request for one record names: in its path, or as `key=`; as base64url with `key_encoding=base64url`.
pub(super) fn of(in_path: Option<&str>, query: &mut Query) -> Result<String, Failure> {
    let named = query.take("key")?;
    let encoding = query.take("key_encoding")?;
    let text = match (in_path, named) {
        (Some(raw), None) => decode(raw)?,
        (None, Some(key)) => key,
        (Some(_), Some(_)) => return Err(refuse::parameter("key", "the path names a key already; leave key= out")),
        (None, None) => {
            let detail = "this call is for one record: put its key after /keys/, or give it as key=";
            return Err(refuse::parameter("key", detail));
        }
    };
    let key = match encoding.as_deref() {
        None => text,
        Some("base64url") => {
            let bytes = URL_SAFE_NO_PAD
                .decode(text.trim_end_matches('='))
                .map_err(|_| invalid("the key is no base64url, as key_encoding says"))?;
            String::from_utf8(bytes).map_err(|_| invalid("the key must be UTF-8"))?
        }
        Some(_) => return Err(refuse::parameter("key_encoding", "the only encoding is base64url")),
    };
    check(key)
}

/// A key or a bound of a scan: what every tenant's keys have in common.
fn check(key: String) -> Result<String, Failure> {
    if key.is_empty() {
        return Err(invalid("the key is empty; it has at least one character"));
    }
    if key.contains('\0') {
        return Err(invalid("the key must not contain NUL (%00)"));
    }
    Ok(key)
}

/// Percent-decodes once. `+` is itself: this is a path, no form.
pub(super) fn decode(raw: &str) -> Result<String, Failure> {
    if !escapes_are_whole(raw) {
        return Err(invalid(
            "a `%` in the path must be followed by two hexadecimal digits; `%` itself is %25",
        ));
    }
    let decoded = percent_decode_str(raw)
        .decode_utf8()
        .map_err(|_| invalid("the key must be UTF-8"))?;
    Ok(decoded.into_owned())
}

/// Whether every `%` is followed by two hexadecimal digits.
pub(super) fn escapes_are_whole(raw: &str) -> bool {
    raw.split('%').skip(1).all(|after| {
        let digits = after.as_bytes().get(..2);
        digits.is_some_and(|digits| digits.iter().all(u8::is_ascii_hexdigit))
    })
}

/// Where the record is, for `Location`.
pub(super) fn location(tenant: &str, key: &str) -> String {
    // A client's URL library would resolve dot segments; in a query they stay.
    if key.split('/').any(|segment| matches!(segment, "." | "..")) {
        format!("/api/v1/tenants/{tenant}/keys?key={}", utf8_percent_encode(key, NON_ALPHANUMERIC))
    } else {
        format!("/api/v1/tenants/{tenant}/keys/{}", utf8_percent_encode(key, IN_PATH))
    }
}

fn invalid(detail: &str) -> Failure {
    Problem::new(Code::InvalidKey, detail, "").into()
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn key(in_path: Option<&str>, query: &str) -> Result<String, Code> {
        let mut query = Query::parse(Some(query)).map_err(|failure| failure.0.code)?;
        let key = of(in_path, &mut query).map_err(|failure| failure.0.code)?;
        query.finish().map_err(|failure| failure.0.code)?;
        Ok(key)
    }

    /// covers row 79
    #[test]
    fn a_key_is_decoded_once_and_otherwise_kept() {
        for (raw, wanted) in [
            ("a", "a"),
            ("a/b", "a/b"),
            ("a%2Fb", "a/b"),
            ("a%2fb/", "a/b/"),
            ("a//b", "a//b"),
            ("/", "/"),
            ("./../a", "./../a"),
            ("a+b", "a+b"),
            ("a%2Bb", "a+b"),
            ("a%20b", "a b"),
            ("a%252Fb", "a%2Fb"),
            ("%C3%BC", "ü"),
            ("ü", "ü"),
            ("%25", "%"),
        ] {
            assert_eq!(key(Some(raw), "").as_deref(), Ok(wanted), "{raw}");
        }
        for raw in ["", "%00", "a%00b", "%FF", "%C3", "%", "%2", "%zz", "%é"] {
            assert_eq!(key(Some(raw), ""), Err(Code::InvalidKey), "{raw}");
        }
    }

    /// covers row 79
    #[test]
    fn a_key_may_come_in_the_query_or_as_base64url() {
        assert_eq!(key(None, "key=a%2Fb").as_deref(), Ok("a/b"));
        assert_eq!(key(None, "key=../a").as_deref(), Ok("../a"));
        assert_eq!(key(None, "key=a+b").as_deref(), Ok("a b"), "a query is a form: + is a space");
        assert_eq!(key(Some("w7wvLi4"), "key_encoding=base64url").as_deref(), Ok("ü/.."));
        assert_eq!(key(None, "key=w7wvLi4%3D&key_encoding=base64url").as_deref(), Ok("ü/.."));
        assert_eq!(key(None, "key="), Err(Code::InvalidKey));
        assert_eq!(key(Some("a"), "key=b"), Err(Code::InvalidParameter));
        assert_eq!(key(None, ""), Err(Code::InvalidParameter));
        assert_eq!(key(None, "key=a&key=b"), Err(Code::InvalidParameter));
        assert_eq!(key(Some("a"), "key_encoding=hex"), Err(Code::InvalidParameter));
        assert_eq!(key(Some("*"), "key_encoding=base64url"), Err(Code::InvalidKey));
        assert_eq!(key(Some("_w"), "key_encoding=base64url"), Err(Code::InvalidKey));
    }

    #[test]
    fn a_location_leads_back_to_the_key() {
        for text in ["a", "a/b", "a b", "ü%", "a//b/", "?#", "+"] {
            let location = location("acme", text);
            let raw = location.strip_prefix("/api/v1/tenants/acme/keys/").unwrap();
            assert_eq!(decode(raw).unwrap(), text);
        }
        let dotted = location("acme", "a/../b");
        assert_eq!(key(None, dotted.split_once('?').unwrap().1).as_deref(), Ok("a/../b"));
    }
}
