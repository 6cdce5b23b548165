//! Asks the managed identity endpoint of `azfed exec` for tokens, many clients at once, and says how long it took.
//!
//! ```text
//! azfed exec -- load CLIENTS REQUESTS PAUSE_MS RESOURCE…
//! ```
//!
//! Every client has a connection of its own, and waits for each answer before it asks again, `PAUSE_MS` later. The
//! requests of all clients together are `REQUESTS`; resources take turns. One line of JSON on stdout.

#![expect(clippy::print_stdout, reason = "the line is the result")]

use std::{
    env,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, bail, ensure};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};

fn main() -> Result<()> {
    let arguments: Vec<String> = env::args().skip(1).collect();
    let [clients, requests, pause, resources @ ..] = arguments.as_slice() else {
        bail!("usage: load CLIENTS REQUESTS PAUSE_MS RESOURCE…");
    };
    let (clients, requests): (usize, usize) = (clients.parse()?, requests.parse()?);
    let pause = Duration::from_millis(pause.parse()?);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let started = Instant::now();
    let outcomes = runtime.block_on(async {
        let mut running = Vec::new();
        for number in 0..clients {
            let share = requests / clients + usize::from(number < requests % clients);
            let resources = resources.to_vec();
            running.push(tokio::spawn(client(number, share, pause, resources)));
        }
        let mut outcomes = Vec::new();
        for one in running {
            outcomes.push(one.await);
        }
        outcomes
    });
    let wall = started.elapsed();
    let (mut times, mut failed) = (Vec::new(), 0_usize);
    for outcome in outcomes {
        let (taken, lost) = outcome?;
        times.extend(taken);
        failed += lost;
    }
    times.sort_unstable();
    let at =
        |percent: usize| times.get(times.len() * percent / 100).map_or(0.0, Duration::as_secs_f64) * 1000.0;
    println!(
        "{}",
        serde_json::json!({
            "clients": clients, "answered": times.len(), "failed": failed, "median_ms": at(50), "p99_ms": at(99),
            "seconds": wall.as_secs_f64(),
        })
    );
    Ok(())
}

/// Times of the requests that were answered with 200, and how many were not.
async fn client(
    number: usize,
    share: usize,
    pause: Duration,
    resources: Vec<String>,
) -> (Vec<Duration>, usize) {
    let mut times = Vec::with_capacity(share);
    if let Err(error) = talk(number, share, pause, &resources, &mut times).await {
        println!("{}", serde_json::json!({ "client": number, "error": format!("{error:#}") }));
    }
    let lost = share - times.len();
    (times, lost)
}

async fn talk(
    number: usize,
    share: usize,
    pause: Duration,
    resources: &[String],
    times: &mut Vec<Duration>,
) -> Result<()> {
    let endpoint = env::var("IDENTITY_ENDPOINT").context("IDENTITY_ENDPOINT")?;
    let header = env::var("IDENTITY_HEADER").context("IDENTITY_HEADER")?;
    let (address, path) = endpoint.trim_start_matches("http://").split_once('/').context("endpoint")?;
    let mut stream = TcpStream::connect(address).await.context("connect")?;
    stream.set_nodelay(true)?;
    let mut answer = vec![0; 64 << 10];
    // not all in the same moment where there is a pause
    tokio::time::sleep(pause * u32::try_from(number % 16)? / 16).await;
    for turn in 0..share {
        let resource = &resources[(number + turn) % resources.len()];
        let request = format!(
            "GET /{path}?api-version=2019-08-01&resource={resource} HTTP/1.1\r\nHost: {address}\r\nX-IDENTITY-HEADER: \
             {header}\r\n\r\n"
        );
        let asked = Instant::now();
        stream.write_all(request.as_bytes()).await.context("write")?;
        let mut length = 0;
        loop {
            let read = stream.read(&mut answer[length..]).await.context("read")?;
            ensure!(read > 0, "the connection was closed");
            length += read;
            if is_whole(&answer[..length])? {
                break;
            }
        }
        ensure!(
            answer.starts_with(b"HTTP/1.1 200 "),
            "{}",
            String::from_utf8_lossy(&answer[..length.min(300)])
        );
        times.push(asked.elapsed());
        if !pause.is_zero() {
            tokio::time::sleep(pause).await;
        }
    }
    Ok(())
}

/// Whether the head and as much body as it announces are there.
fn is_whole(answer: &[u8]) -> Result<bool> {
    let Some(end) = answer.windows(4).position(|window| window == b"\r\n\r\n") else { return Ok(false) };
    let head = std::str::from_utf8(&answer[..end])?.to_ascii_lowercase();
    let length =
        head.lines().find_map(|line| line.strip_prefix("content-length:")).context("content-length")?;
    Ok(answer.len() >= end + 4 + length.trim().parse::<usize>()?)
}
