//! `make test-mutations`: breaks the code in each way of `e2e/mutations`, and expects the named check to fail.

use std::{
    path::{Path, PathBuf},
    time::Instant,
};

use anyhow::{Context, Result};
use clap::Parser;
use kvfleet_e2e::mutation::{
    copy,
    mutant::{self, Mutant},
    run::{self, Bench, Outcome},
};

#[derive(Parser)]
struct Arguments {
    /// Only mutants with one of these in their name.
    names: Vec<String>,
    /// Only see that every mutant fits the code.
    #[arg(long)]
    check: bool,
    /// The repository.
    #[arg(long, default_value = ".")]
    root: PathBuf,
}

fn main() -> Result<()> {
    let arguments = Arguments::parse();
    let root = arguments.root.canonicalize().context("root")?;
    let wanted = |mutant: &Mutant| arguments.names.is_empty() || arguments.names.iter().any(|name| mutant.name.contains(name));
    let mut mutants = mutant::read(&root.join("e2e/mutations"), &root)?;
    if arguments.check {
        return Ok(());
    }
    mutants.retain(wanted);
    let survivors = survivors(&root, &mutants)?;
    println!("{} of {} mutants caught", mutants.len() - survivors.len(), mutants.len());
    if !survivors.is_empty() || mutants.is_empty() {
        // Told in a line: there is no fault of this program's to trace.
        eprintln!("error: not caught: {}", survivors.join(", "));
        std::process::exit(1);
    }
    Ok(())
}

fn survivors(root: &Path, mutants: &[Mutant]) -> Result<Vec<String>> {
    let place = run::place(root);
    let bench = Bench {
        root: place.join("tree"),
        target: place.join("target"),
    };
    std::fs::create_dir_all(&bench.root)?;
    copy::tracked(root, &bench.root)?;
    for check in run::distinct(mutants) {
        let begin = Instant::now();
        let tests = bench.baseline(check)?;
        println!(
            "as it is: {} ({tests} tests, {:.0} s)",
            check.check.join(" "),
            begin.elapsed().as_secs_f64()
        );
    }
    let mut survivors = Vec::new();
    for mutant in mutants {
        let begin = Instant::now();
        let outcome = bench.mutate(mutant);
        let seconds = begin.elapsed().as_secs_f64();
        match outcome {
            Ok(Outcome::Failed { by }) => println!("caught   {} ({seconds:.0} s) by {by}: {}", mutant.name, mutant.proves),
            Ok(Outcome::Passed { tests }) => {
                println!(
                    "SURVIVED {} ({seconds:.0} s): {tests} tests passed, so nothing shows that {}",
                    mutant.name, mutant.proves
                );
                survivors.push(mutant.name.clone());
            }
            Err(error) => {
                println!("ERROR    {} ({seconds:.0} s): {error:#}", mutant.name);
                survivors.push(mutant.name.clone());
            }
        }
    }
    Ok(survivors)
}
