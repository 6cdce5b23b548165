//! Asks the endpoints of `azfed exec` for tokens, many clients at once, and says how long it took.
//!
//! ```text
//! azfed exec -- load CLIENTS REQUESTS PAUSE_MS RESOURCE…
//! azfed exec -- load soak RATE SECONDS RESOURCE…
//! ```
//!
//! The first: every client has a connection of its own, and waits for each answer before it asks again, `PAUSE_MS`
//! later. The requests of all clients together are `REQUESTS`; resources take turns. The first token of each resource,
//! which Entra has to be asked for, is timed apart from the rest.
//!
//! The second: `RATE` requests a second from fifty clients, as SDKs (the managed identity endpoint, on a kept connection
//! or on a new one) and as Terraform (the OIDC request URL, on a new connection).
//!
//! One line of JSON on stdout.

#![expect(clippy::print_stdout, reason = "the line is the result")]

use std::{
    env,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, bail, ensure};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    time::sleep,
};

/// Clients of a soak.
const CLIENTS: usize = 50;

fn main() -> Result<()> {
    let arguments: Vec<String> = env::args().skip(1).collect();
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    match arguments.as_slice() {
        ["soak", rate, seconds, resources @ ..] => {
            runtime.block_on(soak(rate.parse()?, Duration::from_secs(seconds.parse()?), resources))
        }
        [clients, requests, pause, resources @ ..] => {
            let pause = Duration::from_millis(pause.parse()?);
            runtime.block_on(hammer(clients.parse()?, requests.parse()?, pause, resources))
        }
        _ => bail!("usage: load CLIENTS REQUESTS PAUSE_MS RESOURCE… | load soak RATE SECONDS RESOURCE…"),
    }
}

async fn hammer(clients: usize, requests: usize, pause: Duration, resources: &[&str]) -> Result<()> {
    let mut first = Vec::new();
    for resource in resources {
        let mut client = Client::sdk(resource)?;
        first.push(client.ask().await?.as_secs_f64() * 1000.0);
    }
    let started = Instant::now();
    let mut running = Vec::new();
    for number in 0..clients {
        let share = requests / clients + usize::from(number < requests % clients);
        let turns: Vec<Client> = resources
            .iter()
            .cycle()
            .skip(number)
            .take(resources.len())
            .map(|one| Client::sdk(one))
            .collect::<Result<_>>()?;
        running.push(tokio::spawn(async move {
            let mut times = Vec::with_capacity(share);
            let outcome = talk(turns, number, share, pause, &mut times).await;
            (times, share, outcome)
        }));
    }
    let mut all = Times::default();
    for one in running {
        let (times, share, outcome) = one.await?;
        all.failed += share - times.len();
        all.times.extend(times);
        if let Err(error) = outcome {
            println!("{}", serde_json::json!({ "error": format!("{error:#}") }));
        }
    }
    all.print(clients, started.elapsed(), &first);
    Ok(())
}

/// One client's requests, on one connection.
async fn talk(
    mut turns: Vec<Client>,
    number: usize,
    share: usize,
    pause: Duration,
    times: &mut Vec<Duration>,
) -> Result<()> {
    let mut stream = Some(turns[0].connect().await?);
    // not all in the same moment where there is a pause
    sleep(pause * u32::try_from(number % 16)? / 16).await;
    let count = turns.len();
    for turn in 0..share {
        let client = &mut turns[turn % count];
        client.stream = stream.take();
        times.push(client.ask().await?);
        stream = client.stream.take();
        if !pause.is_zero() {
            sleep(pause).await;
        }
    }
    Ok(())
}

async fn soak(rate: u32, duration: Duration, resources: &[&str]) -> Result<()> {
    let started = Instant::now();
    let mut running = Vec::new();
    let every = Duration::from_secs(1) * u32::try_from(CLIENTS)? / rate;
    for number in 0..CLIENTS {
        let resource = resources[number % resources.len()];
        let mut client = if number % 5 == 0 { Client::terraform()? } else { Client::sdk(resource)? };
        client.is_kept = number % 5 > 1;
        let mut next = tokio::time::Instant::now() + every * u32::try_from(number)? / u32::try_from(CLIENTS)?;
        running.push(tokio::spawn(async move {
            let mut all = Times::default();
            while started.elapsed() < duration {
                tokio::time::sleep_until(next).await;
                next += every;
                match client.ask().await {
                    Ok(time) => all.times.push(time),
                    Err(error) => {
                        println!("{}", serde_json::json!({ "error": format!("{error:#}") }));
                        all.failed += 1;
                    }
                }
            }
            all
        }));
    }
    let mut all = Times::default();
    for one in running {
        let Times { times, failed } = one.await?;
        all.times.extend(times);
        all.failed += failed;
    }
    all.print(CLIENTS, started.elapsed(), &[]);
    Ok(())
}

#[derive(Default)]
struct Times {
    times: Vec<Duration>,
    failed: usize,
}

impl Times {
    fn print(mut self, clients: usize, wall: Duration, first: &[f64]) {
        self.times.sort_unstable();
        let at = |percent: usize| {
            self.times.get(self.times.len() * percent / 100).map_or(0.0, Duration::as_secs_f64) * 1000.0
        };
        println!(
            "{}",
            serde_json::json!({
                "clients": clients, "answered": self.times.len(), "failed": self.failed, "median_ms": at(50),
                "p99_ms": at(99), "seconds": wall.as_secs_f64(), "first_ms": first,
            })
        );
    }
}

/// One who asks one thing.
struct Client {
    address: String,
    request: String,
    is_kept: bool,
    stream: Option<TcpStream>,
    answer: Vec<u8>,
}

impl Client {
    /// As the Azure SDKs ask the managed identity endpoint of App Service.
    fn sdk(resource: &str) -> Result<Self> {
        let query = format!("?api-version=2019-08-01&resource={resource}");
        Self::new(
            "IDENTITY_ENDPOINT",
            &query,
            &format!("X-IDENTITY-HEADER: {}", variable("IDENTITY_HEADER")?),
        )
    }

    /// As Terraform's providers ask for an OIDC token.
    fn terraform() -> Result<Self> {
        let query = "?audience=api%3A%2F%2FAzureADTokenExchange";
        let header = format!("Authorization: Bearer {}", variable("ARM_OIDC_REQUEST_TOKEN")?);
        Self::new("ARM_OIDC_REQUEST_URL", query, &header)
    }

    fn new(endpoint: &str, query: &str, header: &str) -> Result<Self> {
        let url = variable(endpoint)?;
        let (address, path) = url.trim_start_matches("http://").split_once('/').context("endpoint")?;
        let request = format!("GET /{path}{query} HTTP/1.1\r\nHost: {address}\r\n{header}\r\n\r\n");
        let address = address.to_owned();
        Ok(Self { address, request, is_kept: true, stream: None, answer: vec![0; 64 << 10] })
    }

    async fn connect(&self) -> Result<TcpStream> {
        let stream = TcpStream::connect(&self.address).await.context("connect")?;
        stream.set_nodelay(true)?;
        Ok(stream)
    }

    /// Asks once, and says how long the answer took: with the connection, where that is new each time.
    async fn ask(&mut self) -> Result<Duration> {
        let asked = Instant::now();
        let mut stream = match self.stream.take() {
            Some(stream) => stream,
            None => self.connect().await?,
        };
        stream.write_all(self.request.as_bytes()).await.context("write")?;
        let mut length = 0;
        loop {
            let read = stream.read(&mut self.answer[length..]).await.context("read")?;
            ensure!(read > 0, "the connection was closed");
            length += read;
            if is_whole(&self.answer[..length])? {
                break;
            }
        }
        let answer = &self.answer[..length];
        ensure!(
            answer.starts_with(b"HTTP/1.1 200 "),
            "{}",
            String::from_utf8_lossy(&answer[..length.min(300)])
        );
        if self.is_kept {
            self.stream = Some(stream);
        }
        Ok(asked.elapsed())
    }
}

fn variable(name: &str) -> Result<String> {
    env::var(name).with_context(|| name.to_owned())
}

/// Whether the head and as much body as it announces are there.
fn is_whole(answer: &[u8]) -> Result<bool> {
    let Some(end) = answer.windows(4).position(|window| window == b"\r\n\r\n") else { return Ok(false) };
    let head = std::str::from_utf8(&answer[..end])?.to_ascii_lowercase();
    let length =
        head.lines().find_map(|line| line.strip_prefix("content-length:")).context("content-length")?;
    Ok(answer.len() >= end + 4 + length.trim().parse::<usize>()?)
}
