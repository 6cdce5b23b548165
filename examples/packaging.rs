//! Writes the completions and the man pages that a release's archives have.
//!
//! ```text
//! cargo run --example packaging -- DIRECTORY
//! ```

use std::{fs, path::PathBuf};

use anyhow::{Context, Result};
use azfed::cli::Args;
use clap::CommandFactory;
use clap_complete::Shell;

fn main() -> Result<()> {
    let directory = PathBuf::from(std::env::args_os().nth(1).context("usage: packaging DIRECTORY")?);
    fs::create_dir_all(&directory)?;
    for shell in [Shell::Bash, Shell::Zsh, Shell::Fish, Shell::PowerShell] {
        clap_complete::generate_to(shell, &mut Args::command(), "azfed", &directory)?;
    }
    clap_mangen::generate_to(Args::command(), &directory)?;
    Ok(())
}
