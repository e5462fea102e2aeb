//! Why a configuration is refused. Each message names the field as the user wrote it and says what to do.

use std::path::PathBuf;

/// Where a value came from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Source {
    /// `--a-b`.
    Flag(String),
    /// `KVNODE_A_B`.
    Variable(String),
    /// The file of `--config`.
    File(PathBuf),
    /// Nobody set it.
    Default,
}

impl std::fmt::Display for Source {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Source::Flag(flag) => write!(formatter, "flag {flag}"),
            Source::Variable(name) => write!(formatter, "variable {name}"),
            Source::File(path) => write!(formatter, "file {}", path.display()),
            Source::Default => formatter.write_str("default"),
        }
    }
}

/// A configuration that cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// The file cannot be read.
    #[error("config file {}: cannot be read; check the path of --config and its permissions", path.display())]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// The file is no YAML mapping of known fields.
    #[error("config file {}: {message}", path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// What is wrong, with the field's name where there is one.
        message: String,
    },
    /// A field's value cannot be used.
    #[error("{field}: {value:?} ({origin}) {problem}")]
    Value {
        /// The field, in the file's spelling.
        field: &'static str,
        /// What was given.
        value: String,
        /// Who gave it.
        origin: Source,
        /// What is wrong and what to write, as the end of the sentence that begins with the value.
        problem: String,
    },
    /// A field is needed.
    #[error("{field}: is required {because}; set {field} in the file, --{flag} or {variable}")]
    Missing {
        /// The field, in the file's spelling.
        field: &'static str,
        /// Its flag.
        flag: String,
        /// Its variable.
        variable: String,
        /// When it is required.
        because: &'static str,
    },
    /// Two fields cannot go together.
    #[error("{field}: does not go together with {with}: {why}")]
    Conflict {
        /// The field, in the file's spelling.
        field: &'static str,
        /// The other field.
        with: &'static str,
        /// Why, and which to drop.
        why: &'static str,
    },
}
