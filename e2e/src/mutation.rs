//! `make test-mutations`: a check that guards safety must go red when the code that it guards is broken.
//!
//! In: one YAML file per mutant ([`mutant`]). Out: which were caught, by which test; failure when one was not. Mutants are built in a copy
//! of the tracked files ([`copy`]), so neither the working tree nor what is built from it ever holds one. Absent: chance. A mutant is
//! written by hand, says what it proves, and names the check that must see it.

pub mod copy;
pub mod mutant;
pub mod run;
