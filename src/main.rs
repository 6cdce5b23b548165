//! The `azfed` binary: parse, snapshot the environment, run, render, return the exit code.

use std::process::ExitCode;

use azfed::{env::Env, run};

fn main() -> ExitCode {
    run::main(&std::env::args_os().collect::<Vec<_>>(), &Env::from_process())
}
