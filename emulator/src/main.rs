//! The emulator as a program, for tests in other languages.

#![expect(clippy::print_stdout, reason = "its output is data")]

use std::{net::SocketAddr, path::PathBuf, process::ExitCode, time::Duration};

use azfed_emulator::{Emulator, HOSTS, Names, Options, Settings};
use clap::{Parser, Subcommand, ValueEnum};

#[derive(Debug, Parser)]
#[command(name = "azfed-emulator", about = "Loopback stand-in for CI issuers, Microsoft Entra and Azure")]
struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Serve until the time is up, the parent process has gone, or a signal comes
    Serve(Serve),
    /// Print lines for a hosts file
    Hosts,
}

#[derive(Debug, clap::Args)]
struct Serve {
    /// Directory for `ca.pem`, `token-proxy-ca.pem`, `world.json` and, last, `ready`
    #[arg(long)]
    dir: PathBuf,
    /// Where plain http is served
    #[arg(long, default_value = "127.0.0.1:0")]
    listen: SocketAddr,
    /// Where plain http is served as well, as on 169.254.169.254:80; may be repeated
    #[arg(long)]
    also_listen: Vec<SocketAddr>,
    /// Where TLS is served
    #[arg(long, default_value = "127.0.0.1:0")]
    tls_listen: SocketAddr,
    /// Which names URLs have
    #[arg(long, default_value = "loopback")]
    names: NamesArg,
    /// Round-trip time of every connection, in milliseconds
    #[arg(long, default_value_t = 0)]
    latency_ms: u64,
    /// Stop by itself after this many seconds
    #[arg(long, default_value_t = 900)]
    max_seconds: u64,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum NamesArg {
    Loopback,
    Real,
}

fn main() -> ExitCode {
    let serve = match Args::parse().command {
        Command::Hosts => {
            for host in HOSTS {
                println!("127.0.0.1 {host}");
            }
            return ExitCode::SUCCESS;
        }
        Command::Serve(serve) => serve,
    };
    let options = Options {
        http: serve.listen,
        also_http: serve.also_listen,
        tls: serve.tls_listen,
        settings: Settings {
            names: match serve.names {
                NamesArg::Loopback => Names::Loopback,
                NamesArg::Real => Names::Real,
            },
            latency_ms: serve.latency_ms,
            ..Settings::default()
        },
        max_lifetime: Duration::from_secs(serve.max_seconds),
    };
    let started =
        Emulator::start(options).and_then(|emulator| emulator.describe(&serve.dir).map(|()| emulator));
    match started {
        Ok(emulator) => {
            println!("{}", emulator.http_url());
            end_with_parent();
            emulator.wait();
            ExitCode::SUCCESS
        }
        Err(error) => {
            println!("azfed-emulator: {error}");
            ExitCode::FAILURE
        }
    }
}

/// Ends this process when the one that started it has ended: a test that was killed leaves no server behind.
fn end_with_parent() {
    #[cfg(unix)]
    {
        let parent = std::os::unix::process::parent_id();
        std::thread::spawn(move || {
            while std::os::unix::process::parent_id() == parent {
                std::thread::sleep(Duration::from_millis(500));
            }
            #[expect(clippy::exit, reason = "nothing is left to do, and no one to report to")]
            std::process::exit(0);
        });
    }
}
