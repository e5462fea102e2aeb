//! Conditions on a record. In: `If-Match`, `If-None-Match`, `KV-If-Revision`. Out: what the state machine is to check, or whether a read
//! is to be answered.

use axum::http::{HeaderMap, HeaderName, header};
use kvfleet_api::header as kv;

use super::{refuse, request::header_text};
use crate::{problem::Failure, state::Condition};

/// A revision that no record has: for entity tags that are well formed and none of ours, and for weak ones.
const NO_REVISION: u64 = u64::MAX;

/// The condition of a write. Two that say the same are one; two that differ are refused.
pub(super) fn of_write(headers: &HeaderMap) -> Result<Condition, Failure> {
    let mut found = Condition::None;
    let mut add = |name: &str, condition: Condition| {
        if found != Condition::None && found != condition {
            return Err(refuse::parameter(
                name,
                "it contradicts another condition of this request; give one",
            ));
        }
        found = condition;
        Ok(())
    };
    if let Some(text) = header_text(headers, &header::IF_MATCH)? {
        let condition = match tags(text) {
            Some(Tags::Any) => Condition::Present,
            Some(Tags::Listed(tags)) => match tags.as_slice() {
                [tag] => Condition::Revision(tag.strong_revision().unwrap_or(NO_REVISION)),
                _ => return Err(refuse::parameter("If-Match", "a write takes one entity tag")),
            },
            None => return Err(malformed("If-Match")),
        };
        add("If-Match", condition)?;
    }
    if let Some(text) = header_text(headers, &header::IF_NONE_MATCH)? {
        match tags(text) {
            Some(Tags::Any) => add("If-None-Match", Condition::Absent)?,
            Some(Tags::Listed(_)) => {
                return Err(refuse::parameter(
                    "If-None-Match",
                    "a write takes only `*`: the record must be absent",
                ));
            }
            None => return Err(malformed("If-None-Match")),
        }
    }
    if let Some(text) = header_text(headers, &HeaderName::from_static(kv::IF_REVISION))? {
        let revision: u64 = text.parse().map_err(|_| {
            refuse::parameter(
                "KV-If-Revision",
                "it is a revision in decimal digits; 0 = the record must be absent",
            )
        })?;
        let condition = match revision {
            0 => Condition::Absent,
            _ => Condition::Revision(revision),
        };
        add("KV-If-Revision", condition)?;
    }
    Ok(found)
}

/// What the conditions of a read make of a record that is there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    /// Answer it.
    Send,
    /// The caller has it already: 304.
    Unchanged,
    /// It is not the one that was asked for: 412.
    Failed,
}

/// The conditions of a read, parsed.
pub(super) struct OfRead {
    matches: Option<Tags>,
    none_match: Option<Tags>,
}

impl OfRead {
    pub(super) fn parse(headers: &HeaderMap) -> Result<Self, Failure> {
        let parse = |name: &HeaderName, label: &str| match header_text(headers, name)? {
            None => Ok(None),
            Some(text) => tags(text).map(Some).ok_or_else(|| malformed(label)),
        };
        Ok(OfRead {
            matches: parse(&header::IF_MATCH, "If-Match")?,
            none_match: parse(&header::IF_NONE_MATCH, "If-None-Match")?,
        })
    }

    /// In the order of RFC 9110, 13.2.2.
    pub(super) fn judge(&self, revision: u64) -> Verdict {
        let strong = |tag: &Tag| tag.strong_revision() == Some(revision);
        let weak = |tag: &Tag| tag.revision == Some(revision);
        match &self.matches {
            Some(Tags::Listed(tags)) if !tags.iter().any(strong) => return Verdict::Failed,
            _ => {}
        }
        match &self.none_match {
            Some(Tags::Any) => Verdict::Unchanged,
            Some(Tags::Listed(tags)) if tags.iter().any(weak) => Verdict::Unchanged,
            _ => Verdict::Send,
        }
    }

    /// Whether the record had to be there.
    pub(super) fn needs_record(&self) -> bool {
        self.matches.is_some()
    }
}

enum Tags {
    Any,
    Listed(Vec<Tag>),
}

struct Tag {
    weak: bool,
    /// None for a tag that is none of ours.
    revision: Option<u64>,
}

impl Tag {
    /// A weak tag never satisfies a strong comparison.
    fn strong_revision(&self) -> Option<u64> {
        // No record has revision 0: in a condition it would mean "absent", which an entity tag never does.
        self.revision.filter(|revision| !self.weak && *revision != 0)
    }
}

/// `*`, or entity tags with commas between them (RFC 9110, 8.8.3); none when it is neither.
fn tags(text: &str) -> Option<Tags> {
    if text == "*" {
        return Some(Tags::Any);
    }
    let mut tags = Vec::new();
    let mut rest = text;
    loop {
        let (weak, quoted) = rest.strip_prefix("W/").map_or((false, rest), |quoted| (true, quoted));
        let (opaque, after) = quoted.strip_prefix('"')?.split_once('"')?;
        // Only the very text that we send is ours: `"042"` is another tag.
        let revision = opaque.parse::<u64>().ok().filter(|revision| revision.to_string() == opaque);
        tags.push(Tag { weak, revision });
        rest = after.trim_start();
        if rest.is_empty() {
            return Some(Tags::Listed(tags));
        }
        rest = rest.strip_prefix(',')?.trim_start();
    }
}

fn malformed(name: &str) -> Failure {
    refuse::parameter(name, "it is `*` or an entity tag in quotes, as the ETag of an answer")
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use axum::http::HeaderValue;

    use super::*;

    fn headers(pairs: &[(&'static str, &'static str)]) -> HeaderMap {
        let pairs = pairs
            .iter()
            .map(|(name, value)| (HeaderName::from_static(name), HeaderValue::from_static(value)));
        pairs.collect()
    }

    /// covers row 120
    #[test]
    fn a_write_has_one_condition() {
        for (pairs, wanted) in [
            (&[][..], Some(Condition::None)),
            (&[("if-match", "\"42\"")], Some(Condition::Revision(42))),
            (&[("if-match", "*")], Some(Condition::Present)),
            (&[("if-match", "W/\"42\"")], Some(Condition::Revision(NO_REVISION))),
            (&[("if-match", "\"abc\"")], Some(Condition::Revision(NO_REVISION))),
            (&[("if-match", "\"042\"")], Some(Condition::Revision(NO_REVISION))),
            (&[("if-none-match", "*")], Some(Condition::Absent)),
            (&[("kv-if-revision", "0")], Some(Condition::Absent)),
            (&[("kv-if-revision", "7")], Some(Condition::Revision(7))),
            (&[("kv-if-revision", "7"), ("if-match", "\"7\"")], Some(Condition::Revision(7))),
            (&[("kv-if-revision", "0"), ("if-none-match", "*")], Some(Condition::Absent)),
            // Absent records are not at revision 0 for If-Match: it fails, whatever is there.
            (&[("if-match", "\"0\"")], Some(Condition::Revision(NO_REVISION))),
            (&[("kv-if-revision", "7"), ("if-match", "\"8\"")], None),
            (&[("if-match", "*"), ("if-none-match", "*")], None),
            (&[("if-match", "\"1\", \"2\"")], None),
            (&[("if-match", "42")], None),
            (&[("if-match", "")], None),
            (&[("if-match", "\"42")], None),
            (&[("if-none-match", "\"42\"")], None),
            (&[("kv-if-revision", "-1")], None),
            (&[("kv-if-revision", "")], None),
        ] {
            assert_eq!(of_write(&headers(pairs)).ok(), wanted, "{pairs:?}");
        }
    }

    #[test]
    fn a_read_is_judged_as_http_says() {
        for (pairs, wanted) in [
            (&[][..], Verdict::Send),
            (&[("if-none-match", "\"42\"")], Verdict::Unchanged),
            (&[("if-none-match", "W/\"42\"")], Verdict::Unchanged),
            (&[("if-none-match", "\"1\", \"42\"")], Verdict::Unchanged),
            (&[("if-none-match", "*")], Verdict::Unchanged),
            (&[("if-none-match", "\"41\"")], Verdict::Send),
            (&[("if-match", "\"42\"")], Verdict::Send),
            (&[("if-match", "\"1\",\"42\"")], Verdict::Send),
            (&[("if-match", "*")], Verdict::Send),
            (&[("if-match", "W/\"42\"")], Verdict::Failed),
            (&[("if-match", "\"41\"")], Verdict::Failed),
            (&[("if-match", "\"41\""), ("if-none-match", "\"42\"")], Verdict::Failed),
        ] {
            assert_eq!(OfRead::parse(&headers(pairs)).unwrap().judge(42), wanted, "{pairs:?}");
        }
    }
}
