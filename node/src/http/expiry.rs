//! How long a record is to live. In: `ttl=` and `expires_at=`. Out: the wish, for the state machine to weigh against the tenant's limits.
//! Absent: those limits, and the stamp that a length counts from.

use kvfleet_api::{Code, tenant::bounds};

use super::{query::Query, refuse, time};
use crate::{problem::Failure, state::Ttl};

/// The wish of a write; `now_ms` is asked when a moment has to be weighed.
pub(super) fn of_write(query: &mut Query, now_ms: impl FnOnce() -> u64) -> Result<Ttl, Failure> {
    match (query.take("ttl")?, query.take("expires_at")?) {
        (None, None) => Ok(Ttl::Default),
        (Some(_), Some(_)) => Err(invalid("ttl", "give ttl= or expires_at=, not both")),
        (Some(text), None) => of_length(&text),
        (None, Some(text)) => of_moment(&text, now_ms()),
    }
}

fn of_length(text: &str) -> Result<Ttl, Failure> {
    if text == "null" {
        return Ok(Ttl::Never);
    }
    // A bare number is seconds.
    let seconds = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    let length = if seconds {
        text.parse::<u64>().ok().and_then(|seconds| seconds.checked_mul(1_000))
    } else {
        duration_ms(text)
    };
    match length {
        None => Err(invalid(
            "ttl",
            "write seconds (90) or a duration such as 90s, 1h30m or 500ms; 0 = for ever",
        )),
        Some(0) => Ok(Ttl::Never),
        Some(length) if length < bounds::TTL_MIN_MS => Err(invalid("ttl", "a record lives at least one second; 0 = for ever")),
        Some(length) if length > bounds::TTL_MAX_MS => Err(invalid("ttl", "a record lives at most ten years (87600h), or for ever: 0")),
        Some(length) => Ok(Ttl::For(length)),
    }
}

/// `now_ms` is the shard's time as this member knows it, which is good enough to tell a mistake (its own clock is not: one that is wrong
/// would refuse what all others take). Whether the moment is a second ahead is for the leader's stamp to say.
fn of_moment(text: &str, now_ms: u64) -> Result<Ttl, Failure> {
    if matches!(text, "null" | "0") {
        return Ok(Ttl::Never);
    }
    let detail = "write a moment in RFC 3339 (2030-01-31T12:00:00Z) or in Unix milliseconds; 0 = never";
    let moment = time::from_text(text).ok_or_else(|| invalid("expires_at", detail))?;
    if moment <= now_ms {
        return Err(invalid(
            "expires_at",
            "the moment has passed (a number is Unix milliseconds, not seconds)",
        ));
    }
    if moment - now_ms > bounds::TTL_MAX_MS + CLOCKS {
        return Err(invalid("expires_at", "a record lives at most ten years, or for ever: 0"));
    }
    Ok(Ttl::Until(moment))
}

/// How far this member may be behind the shard's time before a moment just under the limit is refused here and not there.
const CLOCKS: u64 = 60_000;

/// A duration in milliseconds: numbers with the units ms, s, m, h, as in manifests. None for any other text.
pub(super) fn duration_ms(text: &str) -> Option<u64> {
    let mut rest = text;
    let mut total = 0u64;
    while !rest.is_empty() {
        let (digits, tail) = rest.split_at(rest.find(|symbol: char| !symbol.is_ascii_digit())?);
        // `ms` before `m`: the longer unit wins.
        let units = [("ms", 1), ("s", 1_000), ("m", 60_000), ("h", 3_600_000)];
        let (factor, after) = units.iter().find_map(|(unit, factor)| Some((factor, tail.strip_prefix(unit)?)))?;
        total = digits.parse::<u64>().ok()?.checked_mul(*factor)?.checked_add(total)?;
        rest = after;
    }
    (!text.is_empty()).then_some(total)
}

fn invalid(name: &str, detail: &str) -> Failure {
    refuse::pointed(Code::InvalidTtl, name, detail)
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn wish(query: &str) -> Result<Ttl, Code> {
        let mut query = Query::parse(Some(query)).unwrap();
        of_write(&mut query, || 1_795_262_400_000).map_err(|failure| failure.0.code)
    }

    /// covers rows 12, 28
    #[test]
    fn both_forms_and_their_ends() {
        for (query, wanted) in [
            ("", Ttl::Default),
            ("ttl=90", Ttl::For(90_000)),
            ("ttl=90s", Ttl::For(90_000)),
            ("ttl=1h30m", Ttl::For(5_400_000)),
            ("ttl=1m500ms", Ttl::For(60_500)),
            ("ttl=1000ms", Ttl::For(1_000)),
            ("ttl=87600h", Ttl::For(bounds::TTL_MAX_MS)),
            ("ttl=0", Ttl::Never),
            ("ttl=0h", Ttl::Never),
            ("ttl=0ms", Ttl::Never),
            ("ttl=null", Ttl::Never),
            ("expires_at=0", Ttl::Never),
            ("expires_at=null", Ttl::Never),
        ] {
            assert_eq!(wish(query), Ok(wanted), "{query}");
        }
        for query in [
            "ttl=",
            "ttl=soon",
            "ttl=-1",
            "ttl=-5s",
            "ttl=1.5s",
            "ttl=1d",
            "ttl=s",
            "ttl=5+s",
            "ttl=999ms",
            "ttl=87600h1ms",
            "ttl=99999999999999999999",
            "ttl=18446744073709551615",
            "ttl=18446744073709551615h",
            "expires_at=",
            "expires_at=2020-01-01T00:00:00Z",
            "expires_at=1795262400",
            "expires_at=9999-01-01T00:00:00Z",
            "expires_at=tomorrow",
            "ttl=5s&expires_at=2030-01-01T00:00:00Z",
        ] {
            assert_eq!(wish(query), Err(Code::InvalidTtl), "{query}");
        }
        assert_eq!(wish("ttl=5s&ttl=6s"), Err(Code::InvalidParameter));
    }

    #[test]
    fn a_moment_is_weighed_against_the_clock() {
        let now = 1_795_262_400_000;
        assert_eq!(of_moment("2026-11-21T12:00:01Z", now).ok(), Some(Ttl::Until(now + 1_000)));
        assert_eq!(of_moment("1795262401000", now).ok(), Some(Ttl::Until(now + 1_000)));
        assert!(of_moment("2026-11-21T12:00:00Z", now).is_err());
        assert!(of_moment(&(now + bounds::TTL_MAX_MS).to_string(), now).is_ok());
        assert!(of_moment(&(now + bounds::TTL_MAX_MS + 2 * CLOCKS).to_string(), now).is_err());
    }
}
