//! Running checks on the code as it is, then on each mutant.

use std::{
    collections::BTreeSet,
    fs::{self, File},
    io::Read,
    os::unix::process::CommandExt,
    path::{Path, PathBuf},
    process::{Command, Stdio},
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, bail};

use super::mutant::{Check, Mutant};

/// Builds are slow on a busy machine; one that takes longer than this hangs.
const BUILD: Duration = Duration::from_secs(30 * 60);
/// Between two looks whether a command has ended.
const PAUSE: Duration = Duration::from_millis(20);

/// The copy that is changed, and where it is built.
pub struct Bench {
    /// The copy's root.
    pub root: PathBuf,
    /// cargo's target directory, shared by all.
    pub target: PathBuf,
}

/// How a check ended.
#[derive(Debug, PartialEq, Eq)]
pub enum Outcome {
    /// So many tests ran, and none failed.
    Passed {
        /// How many.
        tests: u64,
    },
    /// Failed, with the first test that did, or how else it ended.
    Failed {
        /// Which.
        by: String,
    },
}

struct Ended {
    success: bool,
    timed_out: bool,
    output: String,
}

impl Bench {
    /// Runs a check on the code as it is. It must pass, and at least one test must have run.
    ///
    /// # Errors
    /// When it does not.
    pub fn baseline(&self, check: &Check) -> Result<u64> {
        self.build(check).context("the code as it is")?;
        match self.check(check)? {
            Outcome::Passed { tests: 0 } => bail!("`{}` runs no test, so it can catch nothing", check.check.join(" ")),
            Outcome::Passed { tests } => Ok(tests),
            Outcome::Failed { by } => bail!("`{}` fails on the code as it is: {by}", check.check.join(" ")),
        }
    }

    /// Runs a mutant's check on the mutant, and takes the mutant back.
    ///
    /// # Errors
    /// When it does not compile: that is no catch.
    pub fn mutate(&self, mutant: &Mutant) -> Result<Outcome> {
        let path = self.root.join(&mutant.file);
        let original = fs::read_to_string(&path)?;
        fs::write(&path, mutant.apply(&original)?)?;
        let outcome = self.build(&mutant.check).and_then(|()| self.check(&mutant.check));
        fs::write(&path, original).with_context(|| format!("{} must be taken back", path.display()))?;
        outcome.with_context(|| mutant.name.clone())
    }

    fn build(&self, check: &Check) -> Result<()> {
        let mut commands = check.prepare.clone();
        let program = check.check.iter().take_while(|word| *word != "--").cloned();
        commands.push(program.chain(["--no-run".to_owned()]).collect());
        for command in commands {
            let ended = self.run(&command, check, BUILD)?;
            if !ended.success {
                bail!("`{}` fails:\n{}", command.join(" "), end_of(&ended.output));
            }
        }
        Ok(())
    }

    fn check(&self, check: &Check) -> Result<Outcome> {
        let ended = self.run(&check.check, check, Duration::from_secs(check.minutes * 60))?;
        if ended.timed_out {
            return Ok(Outcome::Failed {
                by: format!("it hung: no end within {} min", check.minutes),
            });
        }
        if ended.success {
            return Ok(Outcome::Passed {
                tests: tests_run(&ended.output),
            });
        }
        Ok(Outcome::Failed {
            by: first_failure(&ended.output).unwrap_or_else(|| end_of(&ended.output)),
        })
    }

    fn run(&self, command: &[String], check: &Check, patience: Duration) -> Result<Ended> {
        let (program, arguments) = command.split_first().context("a command has a first word")?;
        fs::create_dir_all(&self.target)?;
        let log = self.target.join("output.log");
        let file = File::create(&log)?;
        let mut child = Command::new(program)
            .args(arguments)
            .envs(&check.environment)
            .env("CARGO_TARGET_DIR", &self.target)
            .env("CARGO_TERM_COLOR", "never")
            .env("CARGO_INCREMENTAL", "1")
            .env_remove("RUST_BACKTRACE")
            .current_dir(&self.root)
            .stdin(Stdio::null())
            .stdout(file.try_clone()?)
            .stderr(file)
            // A group of its own, so that what hangs can be ended with all that it has started.
            .process_group(0)
            .spawn()
            .with_context(|| program.clone())?;
        let end = Instant::now() + patience;
        let status = loop {
            if let Some(status) = child.try_wait()? {
                break Some(status);
            }
            if Instant::now() > end {
                Command::new("kill").args(["-9", "--", &format!("-{}", child.id())]).status()?;
                child.wait()?;
                break None;
            }
            thread::sleep(PAUSE);
        };
        let mut output = Vec::new();
        File::open(&log)?.read_to_end(&mut output)?;
        Ok(Ended {
            success: status.is_some_and(|status| status.success()),
            timed_out: status.is_none(),
            output: String::from_utf8_lossy(&output).into_owned(),
        })
    }
}

/// Every check once, in order.
pub fn distinct(mutants: &[Mutant]) -> BTreeSet<&Check> {
    mutants.iter().map(|mutant| &mutant.check).collect()
}

/// Where the copy and its builds are, below the target directory in use.
pub fn place(root: &Path) -> PathBuf {
    let target = std::env::var_os("CARGO_TARGET_DIR").map_or_else(|| root.join("target"), PathBuf::from);
    target.join("mutations")
}

fn tests_run(output: &str) -> u64 {
    output
        .lines()
        .filter_map(|line| line.strip_prefix("running ")?.split_whitespace().next()?.parse::<u64>().ok())
        .sum()
}

fn first_failure(output: &str) -> Option<String> {
    let mut names = BTreeSet::new();
    for line in output.lines() {
        // With --quiet a failed test has no line of its own but a heading over its output.
        let plain = line.strip_prefix("test ").and_then(|line| line.strip_suffix(" ... FAILED"));
        let heading = line.strip_prefix("---- ").and_then(|line| line.strip_suffix(" stdout ----"));
        names.extend(plain.or(heading).map(str::to_owned));
    }
    let more = names.len().saturating_sub(1);
    let first = names.into_iter().next()?;
    Some(if more > 0 { format!("{first} and {more} more") } else { first })
}

fn end_of(output: &str) -> String {
    let lines: Vec<&str> = output.lines().collect();
    lines
        .iter()
        .skip(lines.len().saturating_sub(25))
        .copied()
        .collect::<Vec<_>>()
        .join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wait;

    fn check(words: &[&str]) -> Check {
        Check {
            check: words.iter().map(|word| (*word).to_owned()).collect(),
            prepare: Vec::new(),
            environment: std::collections::BTreeMap::new(),
            minutes: 1,
        }
    }

    #[test]
    fn output_tells_how_many_tests_ran_and_which_failed_first() {
        let output = "running 2 tests\ntest a::b ... ok\ntest a::d ... FAILED\ntest a::c ... FAILED\n\nrunning 0 tests\n";
        assert_eq!(tests_run(output), 2);
        assert_eq!(first_failure(output).unwrap(), "a::c and 1 more");
        assert_eq!(first_failure("---- x::y stdout ----\nthread panicked").unwrap(), "x::y");
        assert_eq!(first_failure("error: could not compile"), None);
    }

    #[test]
    fn a_command_that_hangs_is_ended_with_its_children() {
        let target = std::env::temp_dir().join(format!("mutations-{}", std::process::id()));
        let bench = Bench {
            root: std::env::temp_dir(),
            target: target.clone(),
        };
        let command = ["sh", "-c", "sleep 600 & echo $!; wait"].map(str::to_owned);
        let ended = bench.run(&command, &check(&[]), Duration::from_millis(500)).unwrap();
        fs::remove_dir_all(&target).unwrap();
        assert!(ended.timed_out && !ended.success);
        wait::until("the child is gone", Duration::from_secs(20), || {
            let state = fs::read_to_string(format!("/proc/{}/stat", ended.output.trim())).unwrap_or_default();
            Ok((state.is_empty() || state.contains(") Z ")).then_some(()))
        })
        .unwrap();
    }
}
