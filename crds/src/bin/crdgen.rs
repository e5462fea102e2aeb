//! Prints the CustomResourceDefinitions, or writes and checks the files that are made from them.
//!
//! In: the schemas. Out: YAML on standard output, or with `--write` and `--check` the generated files below a checkout: the
//! chart's templates, plain copies for `kubectl apply`, and the reference page. Absent: a cluster.

use std::{env, fs, io, path::PathBuf, process::ExitCode};

use kvfleet_crds::{definition, reference};

const USAGE: &str = "usage: crdgen                  print the definitions as YAML
       crdgen --write [DIR]    write the generated files below DIR, a checkout (default: here)
       crdgen --check [DIR]    fail if they differ from what would be written";

/// What is asked for.
enum Request {
    Print,
    Write(PathBuf),
    Check(PathBuf),
    Help,
}

/// Why nothing, or not everything, was done.
#[derive(Debug, thiserror::Error)]
enum Error {
    #[error("unknown arguments `{0}`\n{USAGE}")]
    Usage(String),
    #[error("could not render the definitions as yaml")]
    Render(#[from] serde_yaml::Error),
    #[error("could not write `{path}`: check that the directory is a checkout of kvfleet")]
    Write { path: String, source: io::Error },
    #[error("not up to date: {}; run `crdgen --write`", .0.join(", "))]
    Stale(Vec<String>),
}

fn main() -> ExitCode {
    match run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprint!("crdgen: {error}");
            let mut source = std::error::Error::source(&error);
            while let Some(cause) = source {
                eprint!(": {cause}");
                source = cause.source();
            }
            eprintln!();
            ExitCode::FAILURE
        }
    }
}

fn run() -> Result<(), Error> {
    match request(env::args().skip(1).collect())? {
        Request::Help => println!("{USAGE}"),
        Request::Print => {
            for definition in definition::all() {
                print!("---\n{}", serde_yaml::to_string(&definition)?);
            }
        }
        Request::Write(root) => {
            for (path, content) in definition::files(reference::page)? {
                let target = root.join(&path);
                let written = target
                    .parent()
                    .map_or(Ok(()), fs::create_dir_all)
                    .and_then(|()| fs::write(&target, content));
                written.map_err(|source| Error::Write { path, source })?;
            }
        }
        Request::Check(root) => {
            let stale: Vec<String> = definition::files(reference::page)?
                .into_iter()
                .filter(|(path, content)| !fs::read_to_string(root.join(path)).is_ok_and(|found| found == *content))
                .map(|(path, _)| path)
                .collect();
            if !stale.is_empty() {
                return Err(Error::Stale(stale));
            }
        }
    }
    Ok(())
}

fn request(arguments: Vec<String>) -> Result<Request, Error> {
    let words: Vec<&str> = arguments.iter().map(String::as_str).collect();
    match words.as_slice() {
        [] => Ok(Request::Print),
        ["--help" | "-h"] => Ok(Request::Help),
        ["--write"] => Ok(Request::Write(".".into())),
        ["--check"] => Ok(Request::Check(".".into())),
        ["--write", root] => Ok(Request::Write(root.into())),
        ["--check", root] => Ok(Request::Check(root.into())),
        other => Err(Error::Usage(other.join(" "))),
    }
}
