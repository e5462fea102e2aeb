//! The YAML file of `--config`.

use std::path::Path;

use serde::{Deserialize, Deserializer, de::Visitor};

use super::{arguments::FileSettings, error::ConfigError};

/// A scalar as text: `shard: 0` and `shard: "0"` mean the same.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Scalar(pub(crate) String);

impl<'de> Deserialize<'de> for Scalar {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(ScalarVisitor)
    }
}

struct ScalarVisitor;

impl Visitor<'_> for ScalarVisitor {
    type Value = Scalar;

    fn expecting(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.write_str("text, a number, true or false")
    }

    fn visit_str<E>(self, text: &str) -> Result<Scalar, E> {
        Ok(Scalar(text.to_owned()))
    }

    fn visit_bool<E>(self, value: bool) -> Result<Scalar, E> {
        Ok(Scalar(value.to_string()))
    }

    fn visit_i64<E>(self, value: i64) -> Result<Scalar, E> {
        Ok(Scalar(value.to_string()))
    }

    fn visit_u64<E>(self, value: u64) -> Result<Scalar, E> {
        Ok(Scalar(value.to_string()))
    }

    fn visit_f64<E>(self, value: f64) -> Result<Scalar, E> {
        Ok(Scalar(value.to_string()))
    }
}

/// Reads the file; an unknown field, a field that is no scalar, and a text that is no YAML are refused with their place.
pub(super) fn read(path: &Path) -> Result<FileSettings, ConfigError> {
    let text = std::fs::read_to_string(path).map_err(|source| ConfigError::Unreadable {
        path: path.to_owned(),
        source,
    })?;
    parse(&text).map_err(|message| ConfigError::File {
        path: path.to_owned(),
        message,
    })
}

fn parse(text: &str) -> Result<FileSettings, String> {
    // An empty file, or one of comments only, sets nothing.
    let value: serde_yaml::Value = serde_yaml::from_str(text).map_err(|error| format!("is not YAML: {error}"))?;
    if value.is_null() {
        return Ok(FileSettings::default());
    }
    // From the text again, not from the value: only so the message has the line.
    serde_yaml::from_str(text).map_err(|error| error.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_and_text_read_alike() {
        let settings = parse("shard: 3\nmaxBatch: \"17\"\ndev: true\nname: ~\n").expect("known fields");
        assert_eq!(settings.shard, Some(Scalar("3".into())));
        assert_eq!(settings.max_batch, Some(Scalar("17".into())));
        assert_eq!(settings.dev, Some(Scalar("true".into())));
        assert_eq!(settings.name, None);
    }

    #[test]
    fn an_empty_file_sets_nothing() {
        assert!(parse("# nothing\n").expect("no fields").name.is_none());
    }

    #[test]
    fn an_unknown_field_is_named_with_its_line() {
        let message = parse("shard: 0\ndataDirectory: /x\n").expect_err("no such field");
        assert!(
            message.contains("dataDirectory") && message.contains("line 2") && message.contains("dataDir"),
            "{message}"
        );
    }

    #[test]
    fn a_list_where_a_scalar_belongs_is_named() {
        let message = parse("listen: [a, b]\n").expect_err("a list");
        assert!(message.contains("listen"), "{message}");
    }
}
