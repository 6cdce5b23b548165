//! The retry policy against an Entra that throttles: ten thousand jobs that start in one minute.
//!
//! ```text
//! cargo run --release --example throttling              the table, as Markdown; writes docs/throttling.svg
//! cargo test --example throttling                       that docs/ has what this makes
//! ```
//!
//! A discrete-event simulation. azfed's side is the real one: [`azfed::entra::Error::verdict`], [`retry::wait`] and the
//! default of `--timeout`. The others are what their sources say. Nothing is random but for a seeded generator, so that
//! two runs are the same to the last byte.

#![expect(clippy::print_stdout, reason = "the table is the result")]
#![allow(clippy::cast_precision_loss, reason = "counts here are far below 2^52")]

use std::{
    cmp::Reverse,
    collections::{BTreeMap, BinaryHeap},
    fmt::Write as _,
    fs,
    path::Path,
    time::Duration,
};

use anyhow::{Context, Result};
use azfed::{
    cli::{Args, Command},
    entra,
    retry::{self, Verdict},
};
use clap::Parser;

const JOBS: usize = 10_000;
/// All of them start within this; half of them in its first eighth, as those of a schedule do.
const MINUTE: f64 = 60.0;
/// Exchanges that Entra grants a second. It publishes no number for workforce tenants; for External ID it does: 200
/// requests a second and tenant, of which the token endpoint takes one each (Microsoft Learn "Service limits and
/// restrictions" of External ID).
const RATE: f64 = 200.0;
/// From asking to the answer: what Entra takes over the internet.
const ANSWER: f64 = 0.15;
const SEED: u64 = 7;
/// How far the plot goes.
const SHOWN: f64 = 180.0;

/// How Entra refuses.
#[derive(Debug, Clone, Copy)]
struct Refusal {
    name: &'static str,
    status: u16,
    retry_after: Option<Duration>,
}

/// Microsoft documents the first for client credentials (Microsoft Learn "Understanding client and server throttling in
/// MSAL.NET"); the second is what its other services ask for; the third is an overload that nobody has planned.
const REFUSALS: [Refusal; 3] = [
    Refusal { name: "429, Retry-After: 60", status: 429, retry_after: Some(Duration::from_mins(1)) },
    Refusal { name: "429, Retry-After: 10", status: 429, retry_after: Some(Duration::from_secs(10)) },
    Refusal { name: "503 without Retry-After", status: 503, retry_after: None },
];

/// What a job does when it was refused.
#[derive(Debug, Clone, Copy)]
enum Policy {
    Azfed,
    /// Every three seconds, as hashicorp/vault-action's users do around it, until azfed's deadline.
    Fixed,
    /// MSAL: once more after one second on 5xx, not on 429 (MSAL .NET `HttpRetryConditions.cs`).
    Msal,
    None,
}

impl Policy {
    /// With its name, and its class in the plot.
    const ALL: [(Self, &str, &str); 4] = [
        (Self::Azfed, "azfed", "azfed"),
        (Self::Fixed, "every 3 s", "fixed"),
        (Self::Msal, "MSAL", "msal"),
        (Self::None, "no retry", "none"),
    ];

    /// How long to wait before try number `next`, or `None` to give up.
    fn wait(self, next: u32, refusal: Refusal, random: &mut fastrand::Rng) -> Option<Duration> {
        let Refusal { status, retry_after, .. } = refusal;
        match self {
            Self::Azfed => {
                let error = entra::Error::Unavailable { status, retry_after, refusal: None };
                let Verdict::Again { retry_after } = error.verdict() else { return None };
                retry::wait(next, retry_after, random.f64())
            }
            Self::Fixed => Some(Duration::from_secs(3)),
            Self::Msal => {
                (next == 2 && status >= 500 && retry_after.is_none()).then_some(Duration::from_secs(1))
            }
            Self::None => None,
        }
    }
}

/// The default of `--timeout`.
fn deadline() -> Result<Duration> {
    match Args::try_parse_from(["azfed", "token"])?.command {
        Command::Token(token) => Ok(token.source.timeout),
        _ => anyhow::bail!("`token` is no longer what it was"),
    }
}

/// What became of the jobs.
#[derive(Debug)]
struct Outcome {
    /// When each job that got in did, in seconds since the minute began; ascending.
    got_in: Vec<f64>,
    /// How long each had waited by then; ascending.
    waited: Vec<f64>,
    calls: usize,
    /// Calls in the busiest second.
    busiest: usize,
}

/// One request: when, whose, which try. Times are whole microseconds, which have an order.
type Request = (u64, usize, u32);

fn micros(seconds: f64) -> u64 {
    Duration::from_secs_f64(seconds).as_micros().try_into().unwrap_or(u64::MAX)
}

fn simulate(policy: Policy, refusal: Refusal, deadline: Duration) -> Outcome {
    let mut random = fastrand::Rng::with_seed(SEED);
    let starts: Vec<f64> = (0..JOBS).map(|_| MINUTE * random.f64().powi(3)).collect();
    let mut requests: BinaryHeap<Reverse<Request>> =
        starts.iter().enumerate().map(|(job, start)| Reverse((micros(*start), job, 1))).collect();
    let (mut tokens, mut filled) = (RATE, 0.0);
    let mut outcome = Outcome { got_in: Vec::new(), waited: Vec::new(), calls: 0, busiest: 0 };
    let mut seconds: BTreeMap<u64, usize> = BTreeMap::new();
    while let Some(Reverse((at, job, tries))) = requests.pop() {
        let now = Duration::from_micros(at).as_secs_f64();
        outcome.calls += 1;
        *seconds.entry(at / 1_000_000).or_default() += 1;
        tokens = RATE.min(tokens + (now - filled) * RATE);
        filled = now;
        let answered = now + ANSWER;
        if tokens >= 1.0 {
            tokens -= 1.0;
            outcome.got_in.push(answered);
            outcome.waited.push(answered - starts[job]);
        } else if let Some(wait) = policy.wait(tries + 1, refusal, &mut random) {
            let again = answered + wait.as_secs_f64();
            if again + ANSWER <= starts[job] + deadline.as_secs_f64() {
                requests.push(Reverse((micros(again), job, tries + 1)));
            }
        }
    }
    outcome.got_in.sort_by(f64::total_cmp);
    outcome.waited.sort_by(f64::total_cmp);
    outcome.busiest = seconds.values().copied().max().unwrap_or_default();
    outcome
}

fn rows(deadline: Duration) -> Vec<(Refusal, Vec<Outcome>)> {
    let of =
        |refusal| Policy::ALL.into_iter().map(|(policy, ..)| simulate(policy, refusal, deadline)).collect();
    REFUSALS.into_iter().map(|refusal| (refusal, of(refusal))).collect()
}

fn table(rows: &[(Refusal, Vec<Outcome>)]) -> String {
    let mut text = "| Entra says | policy | got in | the last at | waited, median | waited, 95th percentile | calls per \
                    success | calls in the busiest second |\n|---|---|---|---|---|---|---|---|\n"
        .to_owned();
    for (refusal, outcomes) in rows {
        for ((_, name, _), outcome) in Policy::ALL.iter().zip(outcomes) {
            let count = outcome.got_in.len();
            let at = |percent: usize| outcome.waited.get(count * percent / 100).copied().unwrap_or_default();
            let _ = writeln!(
                text,
                "| {} | {name} | {:.1} % | {:.0} s | {:.1} s | {:.1} s | {:.2} | {} |",
                refusal.name,
                count as f64 * 100.0 / JOBS as f64,
                outcome.got_in.last().copied().unwrap_or_default(),
                at(50),
                at(95),
                outcome.calls as f64 / count.max(1) as f64,
                outcome.busiest,
            );
        }
    }
    text
}

/// The plot's page: light, and dark where the reader's is. Two curves that are one are both seen, as one of them is dashed.
const HEAD: &str = r#"<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 1020 310" width="1020" height="310" role="img" aria-labelledby="title desc">
<title id="title">Jobs that have got in, of 10,000 that start within a minute</title>
<desc id="desc">A panel for each way in which Entra refuses, with a curve for each policy over 180 seconds. The table above it has the figures.</desc>
<style>
text { font: 12px sans-serif; fill: #59636e }
path { fill: none; stroke: #d1d9e0 }
rect { fill: #ffffff; stroke: #d1d9e0 }
.name { fill: #1f2328 }
.head { fill: #1f2328; font-weight: bold }
.azfed { stroke: #0969da; stroke-width: 4 }
.fixed { stroke: #bc4c00; stroke-width: 2; stroke-dasharray: 7 5 }
.msal { stroke: #8250df; stroke-width: 2; stroke-dasharray: 7 5 }
.none { stroke: #afb8c1; stroke-width: 4 }
@media (prefers-color-scheme: dark) {
  text { fill: #9198a1 }
  path { stroke: #3d444d }
  rect { fill: #0d1117; stroke: #3d444d }
  .name, .head { fill: #f0f6fc }
  .azfed { stroke: #4493f8 }
  .fixed { stroke: #f0883e }
  .msal { stroke: #d2a8ff }
  .none { stroke: #656c76 }
}
</style>
<rect x="0.5" y="0.5" width="1019" height="309" rx="6"/>
"#;

/// One panel a refusal: jobs that have got in, over time.
fn plot(rows: &[(Refusal, Vec<Outcome>)]) -> String {
    const WIDTH: f64 = 264.0;
    const HEIGHT: f64 = 200.0;
    const LEFT: f64 = 56.0;
    const TOP: f64 = 64.0;
    const APART: f64 = 330.0;
    let x = |panel: usize, seconds: f64| LEFT + APART * panel as f64 + WIDTH * seconds / SHOWN;
    let y = |share: f64| TOP + HEIGHT * (1.0 - share);
    let mut svg = HEAD.to_owned();
    let mut line = |text: String| {
        svg.push_str(&text);
        svg.push('\n');
    };
    for (number, (_, name, class)) in Policy::ALL.iter().enumerate() {
        let at = LEFT + 110.0 * number as f64;
        line(format!(
            r#"<path class="{class}" d="M{at:.0} 22h23"/><text class="name" x="{:.0}" y="26">{name}</text>"#,
            at + 30.0
        ));
    }
    line(format!(
        r#"<text x="{:.0}" y="26" text-anchor="end">jobs that have got in, by seconds since the minute began</text>"#,
        x(2, SHOWN)
    ));
    for (panel, (refusal, outcomes)) in rows.iter().enumerate() {
        line(format!(r#"<text class="head" x="{:.0}" y="52">{}</text>"#, x(panel, 0.0), refusal.name));
        for quarter in 0..=4 {
            let share = f64::from(quarter) / 4.0;
            line(format!(
                r#"<path d="M{:.0} {:.0}h{WIDTH:.0}"/><text x="{:.0}" y="{:.0}" text-anchor="end">{:.0} %</text>"#,
                x(panel, 0.0),
                y(share),
                x(panel, 0.0) - 6.0,
                y(share) + 4.0,
                share * 100.0
            ));
        }
        for seconds in [0, 60, 120, 180] {
            line(format!(
                r#"<text x="{:.0}" y="{:.0}" text-anchor="middle">{seconds} s</text>"#,
                x(panel, f64::from(seconds)),
                y(0.0) + 18.0
            ));
        }
        // the dashed ones last
        for policy in [0, 3, 1, 2] {
            let ((_, name, class), outcome) = (Policy::ALL[policy], &outcomes[policy]);
            let points = (0..=180).map(|seconds| {
                let seconds = f64::from(seconds);
                let count = outcome.got_in.partition_point(|at| *at <= seconds);
                format!("{:.1} {:.1}", x(panel, seconds), y(count as f64 / JOBS as f64))
            });
            line(format!(
                r#"<path class="{class}" d="M{}"><title>{name}</title></path>"#,
                points.collect::<Vec<_>>().join("L")
            ));
        }
    }
    svg.push_str("</svg>\n");
    svg
}

fn docs(name: &str) -> std::path::PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("docs").join(name)
}

fn main() -> Result<()> {
    let rows = rows(deadline()?);
    print!("{}", table(&rows));
    fs::write(docs("throttling.svg"), plot(&rows)).context("docs/throttling.svg")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_docs_have_what_this_makes() {
        let rows = rows(deadline().unwrap());
        let again = "run `cargo run --release --example throttling`";
        assert!(
            fs::read_to_string(docs("throttling.svg")).unwrap() == plot(&rows),
            "docs/throttling.svg: {again}"
        );
        let text = fs::read_to_string(docs("benchmarks.md")).unwrap();
        assert!(text.contains(&table(&rows)), "the table in docs/benchmarks.md: {again}");
    }

    #[test]
    fn azfed_gets_more_jobs_in_with_fewer_calls() {
        for (refusal, outcomes) in rows(deadline().unwrap()) {
            let [azfed, fixed, msal, none] = outcomes.as_slice() else { panic!("four policies") };
            assert!(azfed.got_in.len() >= msal.got_in.len(), "{refusal:?}");
            assert!(msal.got_in.len() >= none.got_in.len(), "{refusal:?}");
            let calls = |outcome: &Outcome| outcome.calls as f64 / outcome.got_in.len() as f64;
            assert!(calls(azfed) < calls(fixed), "{refusal:?}");
        }
    }
}
