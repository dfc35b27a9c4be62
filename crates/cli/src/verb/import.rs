//! `import`: the configuration of something else, in our terms.

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::Result;

#[derive(clap::Args)]
pub struct Args {
    #[command(subcommand)]
    from: From,
}

#[derive(clap::Subcommand)]
enum From {
    /// PgBouncer's ini file, as a configuration of the proxy: TOML on stdout, what was left out on stderr.
    Pgbouncer {
        /// Its pgbouncer.ini.
        file: PathBuf,
    },
}

/// Prints it.
pub fn run(args: &Args) -> Result<ExitCode> {
    let From::Pgbouncer { file } = &args.from;
    let import = proxy::pgbouncer::import(file)?;
    import.warnings.iter().for_each(|warning| eprintln!("left out: {warning}"));
    print!("{}", import.toml);
    Ok(ExitCode::SUCCESS)
}
