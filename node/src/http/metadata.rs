//! Metadata of a record. In: `KV-Meta-*` headers. Out: names without the prefix, sorted, and back to headers.

use axum::http::{HeaderMap, HeaderName, HeaderValue};
use kvfleet_api::header as kv;

use super::refuse;
use crate::problem::Failure;

/// The metadata that a write sends.
pub(super) fn of_write(headers: &HeaderMap) -> Result<Vec<(String, String)>, Failure> {
    let mut metadata = Vec::new();
    for (name, value) in headers {
        let Some(short) = name.as_str().strip_prefix(kv::META_PREFIX) else {
            continue;
        };
        if short.is_empty() {
            return Err(refuse::parameter("KV-Meta-", "a name must follow the prefix"));
        }
        let value = std::str::from_utf8(value.as_bytes()).map_err(|_| refuse::parameter(name.as_str(), "the value must be UTF-8"))?;
        metadata.push((short.to_owned(), value.to_owned()));
    }
    metadata.sort();
    let repeated = metadata.windows(2).find_map(|pair| match pair {
        [(first, _), (second, _)] if first == second => Some(first.as_str()),
        _ => None,
    });
    match repeated {
        Some(name) => Err(refuse::parameter(
            &format!("{}{name}", kv::META_PREFIX),
            "the header may be sent once",
        )),
        None => Ok(metadata),
    }
}

/// Adds a record's metadata to an answer.
pub(super) fn show(metadata: &[(String, String)], headers: &mut HeaderMap) {
    for (name, value) in metadata {
        let name = HeaderName::try_from(format!("{}{name}", kv::META_PREFIX));
        // What came as a header goes as one.
        if let (Ok(name), Ok(value)) = (name, HeaderValue::from_bytes(value.as_bytes())) {
            headers.insert(name, value);
        }
    }
}
