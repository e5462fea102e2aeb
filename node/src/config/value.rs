//! From text to a value. Each parser's error is the end of a sentence that begins with the value: "`5` must be …".

use std::{path::PathBuf, time::Duration};

use super::{arguments::Given, error::ConfigError};
use crate::state::Level;

impl Given {
    /// The value, or an error that names the field.
    pub(super) fn parse<T>(&self, parser: impl FnOnce(&str) -> Result<T, String>) -> Result<T, ConfigError> {
        parser(self.text.trim()).map_err(|problem| self.refuse(problem))
    }

    /// An error about this field.
    pub(super) fn refuse(&self, problem: impl Into<String>) -> ConfigError {
        ConfigError::Value {
            field: self.field,
            value: self.text.clone(),
            origin: self.origin.clone(),
            problem: problem.into(),
        }
    }
}

/// Go-style, as in the custom resources: `75ms`, `1m30s`.
///
/// # Errors
/// The end of a sentence that begins with the text.
pub fn duration(text: &str) -> Result<Duration, String> {
    let refuse = || "is not a duration: write numbers with ms, s, m or h, such as 75ms or 1m30s".to_owned();
    let mut rest = text;
    let mut total = Duration::ZERO;
    if rest.is_empty() {
        return Err(refuse());
    }
    while !rest.is_empty() {
        let digits = rest.find(|character: char| !character.is_ascii_digit()).ok_or_else(refuse)?;
        let (number, after) = rest.split_at(digits);
        let letters = after.find(|character: char| character.is_ascii_digit()).unwrap_or(after.len());
        let (unit, next) = after.split_at(letters);
        let milliseconds: u64 = match unit {
            "ms" => 1,
            "s" => 1_000,
            "m" => 60_000,
            "h" => 3_600_000,
            _ => return Err(refuse()),
        };
        let part = number
            .parse::<u64>()
            .ok()
            .and_then(|number| number.checked_mul(milliseconds))
            .ok_or_else(refuse)?;
        total = total.checked_add(Duration::from_millis(part)).ok_or_else(refuse)?;
        rest = next;
    }
    Ok(total)
}

/// A Kubernetes quantity: whole, not negative, a suffix k M G T P E or Ki Mi Gi Ti Pi Ei.
pub(crate) fn quantity(text: &str) -> Result<u64, String> {
    let refuse = || "is not a quantity: write a whole number, or one with Ki, Mi, Gi, Ti, k, M, G or T, such as 16Ki".to_owned();
    let split = text.find(|character: char| !character.is_ascii_digit()).unwrap_or(text.len());
    let (number, suffix) = text.split_at(split);
    let unit: u64 = match suffix {
        "" => 1,
        "k" => 1_000,
        "M" => 1_000_000,
        "G" => 1_000_000_000,
        "T" => 1_000_000_000_000,
        "P" => 1_000_000_000_000_000,
        "E" => 1_000_000_000_000_000_000,
        "Ki" => 1 << 10,
        "Mi" => 1 << 20,
        "Gi" => 1 << 30,
        "Ti" => 1 << 40,
        "Pi" => 1 << 50,
        "Ei" => 1 << 60,
        _ => return Err(refuse()),
    };
    number
        .parse::<u64>()
        .ok()
        .and_then(|number| number.checked_mul(unit))
        .ok_or_else(refuse)
}

pub(super) fn boolean(text: &str) -> Result<bool, String> {
    match text {
        "true" => Ok(true),
        "false" => Ok(false),
        _ => Err("must be true or false".to_owned()),
    }
}

pub(super) fn whole(text: &str) -> Result<u64, String> {
    text.parse().map_err(|_| "must be a whole number, not negative".to_owned())
}

pub(super) fn path(text: &str) -> Result<PathBuf, String> {
    if text.is_empty() || text == "true" {
        return Err("must be a path".to_owned());
    }
    Ok(PathBuf::from(text))
}

/// `HOST:PORT`; the host may be a name, an IPv4 address or an IPv6 address in brackets.
pub(super) fn address(text: &str) -> Result<String, String> {
    let refuse = || "must be HOST:PORT, such as 0.0.0.0:8080, localhost:12345 or [::]:8080".to_owned();
    let (host, port) = text.rsplit_once(':').ok_or_else(refuse)?;
    let bracketed = host.starts_with('[') && host.ends_with(']');
    if host.is_empty() || (host.contains(':') && !bracketed) || host.contains(char::is_whitespace) || port.parse::<u16>().is_err() {
        return Err(refuse());
    }
    Ok(text.to_owned())
}

/// A feature level that this program knows.
pub(super) fn level(text: &str) -> Result<Level, String> {
    let known = Level::FIRST..=Level::NEWEST;
    let level = text.parse().map(Level).ok().filter(|level| known.contains(level));
    level.ok_or_else(|| {
        format!(
            "must be a feature level between {} and {}, which this program knows",
            Level::FIRST,
            Level::NEWEST
        )
    })
}

/// A member's name: what may be a DNS name, because it goes into addresses, messages and file names.
pub(super) fn name(text: &str) -> Result<String, String> {
    let good = |character: char| character.is_ascii_lowercase() || character.is_ascii_digit() || character == '-' || character == '.';
    if text.is_empty() || text.len() > 253 || !text.chars().all(good) || text.starts_with(['-', '.']) || text.ends_with(['-', '.']) {
        return Err("must be a DNS name: lower-case letters, digits, `-` and `.`, at most 253 characters".to_owned());
    }
    Ok(text.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations() {
        for (text, milliseconds) in [("75ms", 75), ("1s", 1_000), ("1m30s", 90_000), ("24h", 86_400_000), ("0s", 0)] {
            assert_eq!(duration(text), Ok(Duration::from_millis(milliseconds)), "{text}");
        }
        for text in [
            "",
            "5",
            "ms",
            "-1s",
            "1.5s",
            "1 s",
            "1d",
            "1s5",
            "99999999999999999999s",
            "18446744073709551615h",
        ] {
            assert!(duration(text).is_err(), "{text}");
        }
    }

    #[test]
    fn quantities() {
        for (text, bytes) in [("0", 0), ("17", 17), ("16Ki", 16 << 10), ("4Mi", 4 << 20), ("1G", 1_000_000_000)] {
            assert_eq!(quantity(text), Ok(bytes), "{text}");
        }
        for text in ["", "Ki", "-1", "1.5Gi", "1ki", "16 Ki", "17Ei"] {
            assert!(quantity(text).is_err(), "{text}");
        }
    }

    #[test]
    fn levels() {
        assert_eq!(level("1"), Ok(Level::FIRST));
        assert_eq!(level(&Level::NEWEST.to_string()), Ok(Level::NEWEST));
        for text in ["", "0", "-1", "one", &Level::NEWEST.next().to_string()] {
            assert!(level(text).is_err(), "{text}");
        }
    }

    #[test]
    fn addresses() {
        for text in ["0.0.0.0:8080", "localhost:12345", "[::1]:0", "a-s0-0.a-peers.default.svc:7400"] {
            assert!(address(text).is_ok(), "{text}");
        }
        for text in [
            "8080",
            ":8080",
            "localhost",
            "localhost:",
            "localhost:x",
            "::1:80",
            "a b:1",
            "h:70000",
        ] {
            assert!(address(text).is_err(), "{text}");
        }
    }

    #[test]
    fn names() {
        for text in ["a", "prod-s0-0", "node.example"] {
            assert!(name(text).is_ok(), "{text}");
        }
        for text in ["", "A", "a_b", "-a", "a/b", "a."] {
            assert!(name(text).is_err(), "{text}");
        }
    }
}
