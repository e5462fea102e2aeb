//! Durations as people write them in a manifest: `75ms`, `30s`, `1h30m`.
//!
//! In: text of the form `^([0-9]+(ms|s|m|h))+$`. Out: a [`std::time::Duration`], or what is wrong.
//! Absent: days, fractions and signs.

use std::{borrow::Cow, fmt, time};

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Serialize};

/// A duration as a person wrote it.
///
/// Deserialising accepts any text: an object that was stored under older rules must not break the
/// listing of all others. [`Duration::get`] is where a value is judged.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Duration(String);

/// Why a duration is none.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum DurationError {
    /// Not numbers, each followed by a known unit.
    #[error("`{0}` is not a duration: write numbers with the units ms, s, m or h, such as 500ms, 30s or 1h30m")]
    Malformed(String),
    /// More milliseconds than 64 bits hold.
    #[error("`{0}` is too long a duration: write at most 87600h")]
    TooLong(String),
}

impl Duration {
    /// The duration as written.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The length of time.
    ///
    /// # Errors
    /// When the text is no duration.
    pub fn get(&self) -> Result<time::Duration, DurationError> {
        parse(&self.0)
    }
}

/// The length of time that `text` stands for.
///
/// # Errors
/// When `text` is no duration.
pub fn parse(text: &str) -> Result<time::Duration, DurationError> {
    let malformed = || DurationError::Malformed(text.to_owned());
    let too_long = || DurationError::TooLong(text.to_owned());
    let mut rest = text;
    let mut total: u64 = 0;
    if rest.is_empty() {
        return Err(malformed());
    }
    while !rest.is_empty() {
        let unit_at = rest.find(|c: char| !c.is_ascii_digit()).ok_or_else(malformed)?;
        let (digits, tail) = rest.split_at(unit_at);
        if digits.is_empty() {
            return Err(malformed());
        }
        // `ms` before `m`: the longer unit wins.
        let units = [("ms", 1), ("s", 1_000), ("m", 60_000), ("h", 3_600_000)];
        let (milliseconds, after) = units
            .iter()
            .find_map(|(unit, factor)| Some((*factor, tail.strip_prefix(unit)?)))
            .ok_or_else(malformed)?;
        let number: u64 = digits.parse().map_err(|_| too_long())?;
        total = number
            .checked_mul(milliseconds)
            .and_then(|part| total.checked_add(part))
            .ok_or_else(too_long)?;
        rest = after;
    }
    Ok(time::Duration::from_millis(total))
}

impl From<&str> for Duration {
    fn from(text: &str) -> Self {
        Self(text.to_owned())
    }
}

impl fmt::Display for Duration {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.0)
    }
}

impl JsonSchema for Duration {
    fn schema_name() -> Cow<'static, str> {
        "Duration".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        // The length bounds what the API server must assume a CEL rule on this field costs.
        json_schema!({ "type": "string", "maxLength": 32 })
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "a test may panic")]
mod tests {
    use super::*;

    #[test]
    fn units_add_up() {
        for (text, milliseconds) in [
            ("75ms", 75),
            ("0s", 0),
            ("30s", 30_000),
            ("5m", 300_000),
            ("24h", 86_400_000),
            ("1h30m", 5_400_000),
            ("1m1ms", 60_001),
            ("1s1s", 2_000),
            ("87600h", 315_360_000_000),
        ] {
            assert_eq!(parse(text), Ok(time::Duration::from_millis(milliseconds)), "{text}");
        }
    }

    #[test]
    fn what_is_no_duration_is_refused_with_the_text() {
        for text in [
            "", "5", "s", "1d", "1.5s", "-1s", "+1s", "1 s", "1S", "1h30", "h1", "1us", "1sm", "٣s",
        ] {
            let error = parse(text).unwrap_err();
            assert_eq!(error, DurationError::Malformed(text.to_owned()));
            assert!(error.to_string().contains(&format!("`{text}`")));
        }
    }

    #[test]
    fn what_does_not_fit_is_too_long() {
        for text in ["99999999999999999999s", "18446744073709551615h", "18446744073709551615ms1ms"] {
            assert_eq!(parse(text), Err(DurationError::TooLong(text.to_owned())));
        }
    }
}
