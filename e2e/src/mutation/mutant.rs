//! One way to break the code, as a file says it.
//!
//! ```yaml
//! proves: the crash tests see a log that answers before it has flushed
//! file: node/src/log/writer.rs
//! find: |-
//!   the text that stands exactly once in that file
//! replace: what stands there instead
//! check: [cargo, test, -p, kvfleet-node, --lib, "log::tests::crash"]
//! prepare: [[cargo, build, -p, kvfleet-node, --bin, kvnode]]   # optional: what the check needs beside its own test program
//! environment: {CUTS: "20"}                                    # optional: for the check
//! minutes: 10                                                  # optional: after so long a check counts as failed; 5 unless said
//! ```

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
};

use anyhow::{Context, Result, bail};
use serde::Deserialize;

/// A mutant.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Mutant {
    /// The name of its file, without `.yaml`.
    #[serde(skip)]
    pub name: String,
    /// What it shows, in a sentence.
    pub proves: String,
    /// The file that it changes, from the root of the repository.
    pub file: PathBuf,
    /// Text that stands in that file exactly once.
    pub find: String,
    /// What it becomes.
    pub replace: String,
    /// The check.
    #[serde(flatten)]
    pub check: Check,
}

/// A command that passes on the code as it is, and must fail on the mutant.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Deserialize)]
pub struct Check {
    /// `cargo test …`, a word each.
    pub check: Vec<String>,
    /// Commands that must succeed before it, on the mutant too.
    #[serde(default)]
    pub prepare: Vec<Vec<String>>,
    /// Variables of the check.
    #[serde(default)]
    pub environment: BTreeMap<String, String>,
    /// How long it may take.
    #[serde(default = "five")]
    pub minutes: u64,
}

fn five() -> u64 {
    5
}

impl Mutant {
    /// Reads a mutant and sees that its check is one.
    ///
    /// # Errors
    /// When the text is no mutant.
    pub fn parse(name: &str, text: &str) -> Result<Mutant> {
        let mut mutant: Mutant = serde_yaml::from_str(text)?;
        name.clone_into(&mut mutant.name);
        if !matches!(mutant.check.check.as_slice(), [cargo, test, ..] if cargo == "cargo" && test == "test") {
            bail!("check: write `[cargo, test, …]`: only tests tell how many of them ran");
        }
        if mutant.find.is_empty() || mutant.find == mutant.replace {
            bail!("find and replace: the mutant changes nothing");
        }
        Ok(mutant)
    }

    /// The text of the mutant's file with the change in it.
    ///
    /// # Errors
    /// When the text to find is not there, or there more than once.
    pub fn apply(&self, original: &str) -> Result<String> {
        match original.matches(&self.find).count() {
            1 => Ok(original.replacen(&self.find, &self.replace, 1)),
            0 => bail!(
                "{}: `find` is not in {}: the code has changed, so write the mutant anew",
                self.name,
                self.file.display()
            ),
            times => bail!("{}: `find` is {times} times in {}: make it longer", self.name, self.file.display()),
        }
    }
}

/// All mutants of a folder, in the order of their names, each seen to fit the code below `root`.
///
/// # Errors
/// When one cannot be read or does not fit.
pub fn read(folder: &Path, root: &Path) -> Result<Vec<Mutant>> {
    let mut mutants = Vec::new();
    for file in fs::read_dir(folder).with_context(|| format!("cannot list {}", folder.display()))? {
        let path = file?.path();
        let Some(name) = path
            .file_name()
            .and_then(|name| name.to_str())
            .and_then(|name| name.strip_suffix(".yaml"))
        else {
            bail!("{}: only NAME.yaml belongs here", path.display());
        };
        let mutant = Mutant::parse(name, &fs::read_to_string(&path)?).with_context(|| path.display().to_string())?;
        let source = root.join(&mutant.file);
        mutant.apply(&fs::read_to_string(&source).with_context(|| format!("{name}: cannot read {}", source.display()))?)?;
        mutants.push(mutant);
    }
    mutants.sort_by(|one, other| one.name.cmp(&other.name));
    Ok(mutants)
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &str =
        "proves: p\nfile: node/src/lib.rs\nfind: pub mod log;\nreplace: pub mod lag;\ncheck: [cargo, test, -p, kvfleet-node, log]\n";

    #[test]
    fn a_mutant_changes_the_one_place_that_it_names() {
        let mutant = Mutant::parse("m", TEXT).unwrap();
        assert_eq!(mutant.apply("a\npub mod log;\nb").unwrap(), "a\npub mod lag;\nb");
        let absent = mutant.apply("a").unwrap_err().to_string();
        assert!(absent.contains("`find` is not in node/src/lib.rs"), "{absent}");
        let twice = mutant.apply("pub mod log;pub mod log;").unwrap_err().to_string();
        assert!(twice.contains("2 times"), "{twice}");
        assert_eq!(mutant.check.minutes, 5);
    }

    #[test]
    fn what_is_no_mutant_is_refused() {
        for (text, wanted) in [
            (TEXT.replace("pub mod lag;", "pub mod log;"), "changes nothing"),
            (TEXT.replace("[cargo, test, -p", "[make, test, -p"), "only tests tell"),
            (TEXT.replace("proves: p\n", ""), "proves"),
        ] {
            let error = Mutant::parse("m", &text).unwrap_err().to_string();
            assert!(error.contains(wanted), "{error}");
        }
    }

    #[test]
    fn every_mutant_of_this_repository_fits_its_code() {
        let here = Path::new(env!("CARGO_MANIFEST_DIR"));
        assert!(!read(&here.join("mutations"), here.parent().unwrap()).unwrap().is_empty());
    }
}
