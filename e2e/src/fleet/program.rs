//! Which `kvnode` a member runs, and with which flags of its own.

use std::path::PathBuf;

use anyhow::{Context, Result};

use super::Fleet;

/// A `kvnode`, and what it is told beside what every member is told.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Program {
    /// The file.
    pub path: PathBuf,
    /// More arguments for it.
    pub arguments: Vec<String>,
}

impl Program {
    /// The `kvnode` under test: `KVNODE_BIN`, or what cargo built beside this test.
    ///
    /// # Errors
    /// When it is not there.
    pub fn under_test() -> Result<Self> {
        if let Some(named) = std::env::var_os("KVNODE_BIN") {
            return Self::at(&PathBuf::from(named)).context("KVNODE_BIN");
        }
        let test = std::env::current_exe()?;
        let beside = test
            .ancestors()
            .skip(1)
            .take(2)
            .map(|folder| folder.join("kvnode"))
            .find(|path| path.is_file());
        let path = beside.context("kvnode is not built: run `cargo build -p kvfleet-node --bin kvnode`, or name it with KVNODE_BIN")?;
        Self::at(&path)
    }

    /// The `kvnode` of this file.
    ///
    /// # Errors
    /// When there is none.
    pub fn at(path: &std::path::Path) -> Result<Self> {
        anyhow::ensure!(path.is_file(), "{} is no file", path.display());
        Ok(Program {
            path: path.canonicalize()?,
            arguments: Vec::new(),
        })
    }

    /// The same with more arguments.
    #[must_use]
    pub fn with<S: AsRef<str>>(mut self, arguments: impl IntoIterator<Item = S>) -> Self {
        let more = arguments.into_iter().map(|argument| argument.as_ref().to_owned());
        self.arguments.extend(more);
        self
    }
}

impl Fleet {
    /// From its next start on a member runs this program.
    pub fn install(&mut self, number: usize, program: &Program) {
        self.member(number).program = program.clone();
    }
}
