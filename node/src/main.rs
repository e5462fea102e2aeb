//! Entry point: reads the configuration and hands it over.

use std::{error::Error, process::ExitCode};

use kvfleet_node::{
    cluster_id::ClusterId,
    config::{Arguments, CertificateArguments, Config, DumpLogArguments, JoinTokenArguments, Subcommand, duration},
    data_dir, dump_log,
    lifecycle::{self, Signals},
    logging, panics,
    runtime::Runtimes,
    standalone::{certificates, join_token},
};

/// A write allocates and frees on several threads; glibc's arenas cost a tenth of the CPU time of a loaded leader.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// A configuration or an argument that cannot be used, as clap's own refusals.
const USAGE: u8 = 2;

fn main() -> ExitCode {
    let (mut arguments, matches) = Arguments::from_environment();
    match arguments.subcommand.take() {
        Some(Subcommand::Certs(certificates)) => return certs(&certificates),
        Some(Subcommand::DumpLog(dump)) => return print_log(&dump),
        Some(Subcommand::JoinToken(token)) => return print_join_token(&token),
        None => {}
    }
    let print_config = arguments.print_config;
    match Config::load(arguments, &matches) {
        Ok((_, printed)) if print_config => {
            print!("{printed}");
            ExitCode::SUCCESS
        }
        Ok((config, _)) => run(config),
        Err(error) => {
            eprintln!("kvnode: {}", chain(&error));
            ExitCode::from(USAGE)
        }
    }
}

fn run(config: Config) -> ExitCode {
    let level = logging::start(config.logging);
    panics::install();
    let runtimes = match Runtimes::start() {
        Ok(runtimes) => runtimes,
        Err(error) => return fail(&error),
    };
    let lived = runtimes.block_on(async {
        let signals = Signals::catch().map_err(anyhow::Error::from)?;
        Ok::<(), anyhow::Error>(lifecycle::run(config, level, signals, runtimes.tenants()).await?)
    });
    runtimes.end();
    match lived {
        Ok(()) => {
            logging::flush();
            ExitCode::SUCCESS
        }
        Err(error) => fail(error.as_ref()),
    }
}

fn certs(arguments: &CertificateArguments) -> ExitCode {
    let CertificateArguments { out, cluster_id, hosts } = arguments;
    let cluster: ClusterId = match cluster_id.as_deref().map(str::parse) {
        Some(Ok(cluster)) => cluster,
        Some(Err(error)) => {
            eprintln!("kvnode: --cluster-id: {error}");
            return ExitCode::from(USAGE);
        }
        None => match data_dir::new_cluster_id() {
            Ok(cluster) => cluster,
            Err(error) => return fail(&error),
        },
    };
    match certificates::write(out, cluster, hosts) {
        Ok(()) => {
            println!("{cluster}");
            ExitCode::SUCCESS
        }
        Err(error) => fail(&error),
    }
}

fn print_join_token(arguments: &JoinTokenArguments) -> ExitCode {
    let JoinTokenArguments {
        cluster_id,
        signing_key,
        valid_for,
    } = arguments;
    let usage = |problem: String| {
        eprintln!("kvnode: {problem}");
        ExitCode::from(USAGE)
    };
    let cluster: ClusterId = match cluster_id.parse() {
        Ok(cluster) => cluster,
        Err(error) => return usage(format!("--cluster-id: {error}")),
    };
    let valid_for = match duration(valid_for) {
        Ok(valid_for) => valid_for,
        Err(problem) => return usage(format!("--valid-for: {valid_for:?} {problem}")),
    };
    match join_token::make(signing_key, cluster, valid_for) {
        Ok(token) => {
            println!("{token}");
            ExitCode::SUCCESS
        }
        Err(error) => fail(&error),
    }
}

fn print_log(arguments: &DumpLogArguments) -> ExitCode {
    let DumpLogArguments {
        data_dir,
        from,
        to,
        values,
    } = arguments;
    match dump_log::write(data_dir, *from..=*to, *values, &mut std::io::stdout().lock()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => fail(&error),
    }
}

fn fail(error: &(dyn Error + 'static)) -> ExitCode {
    let reason = chain(error);
    tracing::error!(reason, "the process ends");
    logging::last_words(format!("kvnode: {reason}"));
    ExitCode::FAILURE
}

/// The error and its sources: `cannot open x: no such file`.
fn chain(error: &(dyn Error + 'static)) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(error) = source {
        let reason = error.to_string();
        // Some errors repeat their source in their own text.
        if !text.ends_with(&reason) {
            text.push_str(": ");
            text.push_str(&reason);
        }
        source = error.source();
    }
    text
}
