//! Moments as text (RFC 3339), and back. Unix milliseconds inside.

use time::{OffsetDateTime, format_description::well_known::Rfc3339};

/// `2026-11-21T12:00:00.5Z`. A moment that no calendar has (after the year 9999) is given as its number.
pub(super) fn to_text(unix_ms: u64) -> String {
    let moment = OffsetDateTime::from_unix_timestamp_nanos(i128::from(unix_ms) * 1_000_000).ok();
    moment
        .and_then(|moment| moment.format(&Rfc3339).ok())
        .unwrap_or_else(|| unix_ms.to_string())
}

/// A moment in RFC 3339, or as Unix milliseconds. Parts of a millisecond are dropped; before 1970 is 0, which is as past as any.
pub(super) fn from_text(text: &str) -> Option<u64> {
    if !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit()) {
        return text.parse().ok();
    }
    let moment = OffsetDateTime::parse(text, &Rfc3339).ok()?;
    Some(u64::try_from(moment.unix_timestamp_nanos() / 1_000_000).unwrap_or(0))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_moment_goes_there_and_back() {
        for (unix_ms, text) in [
            (0, "1970-01-01T00:00:00Z"),
            (1_795_262_400_000, "2026-11-21T12:00:00Z"),
            (1_795_262_400_250, "2026-11-21T12:00:00.25Z"),
            (951_827_696_789, "2000-02-29T12:34:56.789Z"),
        ] {
            assert_eq!(to_text(unix_ms), text);
            assert_eq!(from_text(text), Some(unix_ms));
        }
        assert_eq!(from_text("2026-11-21T14:00:00+02:00"), Some(1_795_262_400_000));
        assert_eq!(from_text("1795262400000"), Some(1_795_262_400_000));
        assert_eq!(from_text("1960-01-01T00:00:00Z"), Some(0));
        for bad in [
            "",
            "tomorrow",
            "2026-11-21",
            "2026-02-30T00:00:00Z",
            "2026-11-21T12:00:00",
            "-1",
            "1.5",
            "99999999999999999999",
        ] {
            assert_eq!(from_text(bad), None, "{bad}");
        }
        assert_eq!(to_text(u64::MAX), u64::MAX.to_string());
    }
}
