//! The program before, as `e2e/upgrade-from` names it.

use std::{
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context, Result, ensure};
use kvfleet_e2e::fleet::Program;

/// Builds it if need be, in the profile of the program under test.
pub fn program() -> Result<Program> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR"));
    let text = std::fs::read_to_string(folder.join("upgrade-from")).context("e2e/upgrade-from")?;
    let (named, flags) = parse(&text).context("e2e/upgrade-from names no program")?;
    let under_test = Program::under_test()?;
    let program = if named == "self" {
        under_test
    } else {
        Program::at(&build(folder, named, profile(&under_test.path))?)?
    };
    Ok(program.with(flags))
}

/// The first word of the first line that is no comment, and the words behind it.
fn parse(text: &str) -> Option<(&str, Vec<&str>)> {
    let line = text
        .lines()
        .map(str::trim)
        .find(|line| !line.is_empty() && !line.starts_with('#'))?;
    let mut words = line.split_whitespace();
    Some((words.next()?, words.collect()))
}

/// What is compared is two programs, not two ways to compile.
fn profile(program: &Path) -> &'static str {
    let folder = program.parent().and_then(Path::file_name);
    if folder.is_some_and(|folder| folder == "release") {
        "release"
    } else {
        "debug"
    }
}

fn build(folder: &Path, commit: &str, profile: &str) -> Result<PathBuf> {
    let output = Command::new(folder.join("before")).args([commit, profile]).output()?;
    let said = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "e2e/before {commit} {profile}: {said}");
    Ok(PathBuf::from(String::from_utf8(output.stdout)?.trim()))
}

#[test]
fn the_file_names_a_program_and_flags() {
    assert_eq!(parse("# how\n\nself --max-level=1\n"), Some(("self", vec!["--max-level=1"])));
    assert_eq!(parse("# how\nv1.2.0\n# more\n"), Some(("v1.2.0", vec![])));
    assert_eq!(parse("# how\n"), None);
}
