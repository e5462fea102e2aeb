//! The proof of upgrades: the program before and this one, mixed in one group, under load and faults.
//!
//! `make upgrade` runs one round, `make test-upgrade` many (`KVFLEET_UPGRADES` rounds, `KVFLEET_MIXED_SECONDS` of each with both programs in
//! the group). `e2e/upgrade-from` names the program before. Every round prints its seed; `KVFLEET_SEED` repeats it: the same members in the same
//! order and the same faults, though not the same interleaving. Needs what the fault tests need (CONTRIBUTING.md).
#![allow(clippy::unwrap_used, clippy::indexing_slicing, missing_docs)]

mod before;
mod refusal;
mod rolling;
mod round;

use std::time::Duration;

use kvfleet_e2e::{dice, fleet::Program, verdict};

#[test]
fn two_versions_make_one_group_and_the_older_is_refused_once_the_level_is_raised() {
    let rounds = dice::count("KVFLEET_UPGRADES", 1);
    let mixed = Duration::from_secs(dice::count("KVFLEET_MIXED_SECONDS", 15) as u64);
    let first = dice::seed();
    verdict::run(async {
        let programs = round::Programs {
            before: before::program()?,
            this: Program::under_test()?,
        };
        println!("before: {:?}", programs.before);
        for number in 0..rounds as u64 {
            let seed = first + number;
            println!("upgrade {} of {rounds}: KVFLEET_SEED={seed}", number + 1);
            round::run(&programs, seed, mixed).await?;
        }
        Ok(())
    });
}
