//! Kubernetes quantities of bytes: `16Ki`, `10Gi`, `1048576`.
//!
//! In: what a person wrote, string or integer. Out: whole bytes as `u64`, or what is wrong with it.
//! Absent: fractions, signs and the milli suffix, which make no sense for bytes and are refused.

use std::fmt;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Deserializer, Serialize, de};

/// A number of bytes as a person wrote it.
///
/// Deserialising accepts any text: an object that was stored under older rules must not break the
/// listing of all others. [`Quantity::bytes`] is where a value is judged.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize)]
pub struct Quantity(String);

/// Why a quantity is none.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum QuantityError {
    /// Not digits followed by a known unit.
    #[error("`{0}` is not a quantity: write a whole number of bytes with a unit if you like, such as 65536, 64Ki or 10Gi")]
    Malformed(String),
    /// More than 2^64 - 1 bytes.
    #[error("`{0}` is too large: a quantity is at most 15Ei")]
    TooLarge(String),
}

impl Quantity {
    /// The quantity as written.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The number of bytes.
    ///
    /// # Errors
    /// When the text is no whole, non-negative quantity that fits 64 bits.
    pub fn bytes(&self) -> Result<u64, QuantityError> {
        parse(&self.0)
    }
}

/// The bytes that `text` stands for.
///
/// # Errors
/// When `text` is no whole, non-negative quantity that fits 64 bits.
pub fn parse(text: &str) -> Result<u64, QuantityError> {
    let malformed = || QuantityError::Malformed(text.to_owned());
    let too_large = || QuantityError::TooLarge(text.to_owned());
    let unit_at = text.find(|character: char| !character.is_ascii_digit()).unwrap_or(text.len());
    let (digits, unit) = text.split_at(unit_at);
    if digits.is_empty() {
        return Err(malformed());
    }
    let factor: u64 = match unit {
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
        exponent => {
            let power = exponent
                .strip_prefix(['e', 'E'])
                .filter(|power| !power.is_empty() && power.chars().all(|c| c.is_ascii_digit()))
                .ok_or_else(malformed)?;
            let power = power.parse().map_err(|_| too_large())?;
            10_u64.checked_pow(power).ok_or_else(too_large)?
        }
    };
    // The digits are checked above, so the only way for this to fail is their number.
    let number: u64 = digits.parse().map_err(|_| too_large())?;
    number.checked_mul(factor).ok_or_else(too_large)
}

impl From<&str> for Quantity {
    fn from(text: &str) -> Self {
        Self(text.to_owned())
    }
}

impl From<String> for Quantity {
    fn from(text: String) -> Self {
        Self(text)
    }
}

/// Writes bytes with the largest binary unit that divides them: 1073741824 becomes `1Gi`.
impl From<u64> for Quantity {
    fn from(bytes: u64) -> Self {
        let units = [(60, "Ei"), (50, "Pi"), (40, "Ti"), (30, "Gi"), (20, "Mi"), (10, "Ki")];
        for (shift, unit) in units {
            if bytes != 0 && bytes.trailing_zeros() >= shift {
                return Self(format!("{}{unit}", bytes >> shift));
            }
        }
        Self(bytes.to_string())
    }
}

impl fmt::Display for Quantity {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.0)
    }
}

impl<'de> Deserialize<'de> for Quantity {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct IntegerOrString;
        impl de::Visitor<'_> for IntegerOrString {
            type Value = Quantity;

            fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
                formatter.write_str("a quantity such as 64Ki, 10Gi or 65536")
            }

            fn visit_str<E: de::Error>(self, text: &str) -> Result<Quantity, E> {
                Ok(Quantity(text.to_owned()))
            }

            fn visit_u64<E: de::Error>(self, number: u64) -> Result<Quantity, E> {
                Ok(Quantity(number.to_string()))
            }

            fn visit_i64<E: de::Error>(self, number: i64) -> Result<Quantity, E> {
                Ok(Quantity(number.to_string()))
            }
        }
        deserializer.deserialize_any(IntegerOrString)
    }
}

impl JsonSchema for Quantity {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "Quantity".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({ "x-kubernetes-int-or-string": true })
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "a test may panic")]
mod tests {
    use super::*;

    #[test]
    fn every_unit_has_its_factor() {
        for (text, bytes) in [
            ("0", 0),
            ("1048576", 1_048_576),
            ("16Ki", 16_384),
            ("64Mi", 67_108_864),
            ("10Gi", 10_737_418_240),
            ("2Ti", 2_199_023_255_552),
            ("1Pi", 1 << 50),
            ("15Ei", 15 << 60),
            ("1k", 1_000),
            ("5M", 5_000_000),
            ("2G", 2_000_000_000),
            ("3T", 3_000_000_000_000),
            ("1P", 1_000_000_000_000_000),
            ("18E", 18_000_000_000_000_000_000),
            ("12e6", 12_000_000),
            ("1E3", 1_000),
        ] {
            assert_eq!(parse(text), Ok(bytes), "{text}");
        }
    }

    #[test]
    fn what_is_no_quantity_is_refused_with_the_text() {
        for text in [
            "", "Gi", "-1", "+1", "1.5Gi", "1 Gi", "10gi", "10KB", "10Kii", "500m", "1e", "1e-3", "0x10", "１Gi",
        ] {
            let error = parse(text).unwrap_err();
            assert_eq!(error, QuantityError::Malformed(text.to_owned()));
            assert!(error.to_string().contains(&format!("`{text}`")));
        }
    }

    #[test]
    fn what_does_not_fit_is_too_large() {
        for text in ["16Ei", "99999999999999999999", "1e20", "1e4294967296", "19E"] {
            assert_eq!(parse(text), Err(QuantityError::TooLarge(text.to_owned())));
        }
    }

    #[test]
    fn integers_and_strings_are_both_read() {
        let read = |json| serde_json::from_str::<Quantity>(json).unwrap();
        assert_eq!(read("65536").bytes(), Ok(65_536));
        assert_eq!(read("\"64Ki\"").bytes(), Ok(65_536));
        assert!(read("-1").bytes().is_err(), "kept as written, refused when used");
    }

    #[test]
    fn bytes_are_written_with_the_largest_exact_unit() {
        for (bytes, text) in [
            (0, "0"),
            (1, "1"),
            (1_000, "1000"),
            (1 << 10, "1Ki"),
            (1536, "1536"),
            (3 << 29, "1536Mi"),
            (1 << 60, "1Ei"),
        ] {
            assert_eq!(Quantity::from(bytes).as_str(), text);
            assert_eq!(Quantity::from(bytes).bytes(), Ok(bytes));
        }
    }
}
