//! Entry point: reads the configuration and hands it over.

use std::process::ExitCode;

use kvfleet_node::config::{Arguments, Config};

fn main() -> ExitCode {
    let (arguments, matches) = Arguments::from_environment();
    let print_config = arguments.print_config;
    match Config::load(arguments, &matches) {
        Ok((_, printed)) if print_config => {
            print!("{printed}");
            ExitCode::SUCCESS
        }
        Ok(_) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("kvnode: {error}");
            ExitCode::from(2)
        }
    }
}
