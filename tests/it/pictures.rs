//! The README's pictures: what a shell shows in which the shipped binary runs against the emulator. Drawn anew by each run
//! of the tests, and compared with the file.

use std::{fmt::Write as _, fs, path::Path, process::Command};

use azfed_emulator::{JobOverrides, Platform};

use crate::harness::Job;

/// What was typed, and what came of it.
struct Step {
    command: String,
    shown: String,
}

/// What a GitLab job's one shell shows of these commands, both streams in their order. What changes from run to run has a
/// fixed spelling.
fn session(job: &Job, commands: &[&str]) -> Vec<Step> {
    let azfed = Path::new(env!("CARGO_BIN_EXE_azfed")).parent().unwrap().to_str().unwrap();
    let mut script = "exec 2>&1\n".to_owned();
    for line in commands {
        let _ = writeln!(script, "{line}\nstatus=$?; printf '\\0'; (exit $status)");
    }
    let mut sh = Command::new("/bin/sh");
    sh.args(["-c", &script]).env_clear().envs(&job.environment);
    sh.env("PATH", format!("{azfed}:/usr/bin:/bin")).current_dir(job.directory.path());
    let output = sh.output().unwrap();
    let shown = String::from_utf8(output.stdout).unwrap();
    assert_eq!(job.leaks(&shown), Vec::<String>::new());
    let shown: Vec<String> = shown.split_terminator('\0').map(|text| fixed(job, text)).collect();
    assert_eq!(shown.len(), commands.len(), "{shown:?}");
    commands.iter().zip(shown).map(|(line, shown)| Step { command: (*line).to_owned(), shown }).collect()
}

/// As `the_picture_of_a_login` in tests/clients/run.py spells it.
fn fixed(job: &Job, text: &str) -> String {
    let temp = "/builds/contoso/infra.tmp";
    let line = |line: &str| {
        if let Some((before, _)) = line.split_once(" until 20") {
            return format!("{before} until 2026-11-25 10:12:27Z\n");
        }
        if line.starts_with("azfed: trace ") {
            let (trace, correlation) =
                ("376dfdc6-9f0a-4f57-8a53-0d9f3d4ac1b7", "2aa6b378-5b0c-4c3e-9f6e-61d1b0c5a4e2");
            return format!("azfed: trace {trace} correlation {correlation} 2026-11-24 10:12:27Z\n");
        }
        let Some((before, name)) = line.split_once(&format!("{temp}/azfed-")) else { return line.to_owned() };
        format!("{before}{temp}/azfed-Vf1umrNGNCyK{}", &name[12..])
    };
    text.replace(&job.path("temp"), temp).split_inclusive('\n').map(line).collect()
}

/// Columns of the terminal, after which it goes on in the next line.
const COLUMNS: usize = 100;
const WIDTH: usize = 880;
const LINE: usize = 20;
/// Between what a command shows and the next prompt.
const APART: usize = 6;
/// Above and below the text: the window's bar, and its edge.
const TOP: usize = 26;
const BOTTOM: usize = 20;

/// A terminal's window. It is dark on any page, has no script and loads no font, and its text is text.
fn draw(title: &str, description: &str, steps: &[Step]) -> String {
    // each with its distance from the one above
    let mut lines: Vec<(usize, String)> = Vec::new();
    for Step { command, shown } in steps {
        let (typed, remark) = command.split_at(command.find("  # ").unwrap_or(command.len()));
        let parts = [("p", "$ "), ("c", typed), ("r", remark)];
        let typed = parts.into_iter().flat_map(|(class, text)| text.chars().map(move |c| (class, c)));
        let first = lines.len();
        lines.extend(rows(&typed.collect::<Vec<_>>()).into_iter().map(|row| (LINE, row)));
        lines[first].0 += APART;
        for line in shown.lines() {
            let shown = rows(&line.chars().map(|c| ("", c)).collect::<Vec<_>>());
            lines.extend(shown.into_iter().map(|row| (LINE, row)));
        }
    }
    let height = TOP + lines.iter().map(|(distance, _)| distance).sum::<usize>() + BOTTOM;
    let mut svg = format!(
        r##"<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height}" width="{WIDTH}" height="{height}" role="img" aria-labelledby="title desc">
<title id="title">{}</title>
<desc id="desc">{}</desc>
<style>
text {{ font: 14px ui-monospace, SFMono-Regular, Menlo, Consolas, "DejaVu Sans Mono", "Liberation Mono", monospace; fill: #d1d7e0; white-space: pre }}
.p {{ fill: #3fb950 }}
.c {{ fill: #ffffff; font-weight: bold }}
.r {{ fill: #9198a1 }}
</style>
<rect x="0.5" y="0.5" width="{}" height="{}" rx="8" fill="#151b23" stroke="#656c76"/>
<g fill="#656c76"><circle cx="22" cy="18" r="5"/><circle cx="40" cy="18" r="5"/><circle cx="58" cy="18" r="5"/></g>
<g xml:space="preserve">
"##,
        escaped(title),
        escaped(description),
        WIDTH - 1,
        height - 1,
    );
    let mut y = TOP;
    for (distance, line) in lines {
        y += distance;
        if !line.is_empty() {
            let _ = writeln!(svg, r#"<text x="18" y="{y}">{line}</text>"#);
        }
    }
    svg.push_str("</g>\n</svg>\n");
    svg
}

/// A line's characters, each with its class, as the rows that a terminal makes of it.
fn rows(line: &[(&'static str, char)]) -> Vec<String> {
    if line.is_empty() {
        return vec![String::new()];
    }
    let spans = |row: &[(&str, char)]| {
        row.chunk_by(|one, next| one.0 == next.0)
            .map(|span| {
                let text = escaped(&span.iter().map(|(_, character)| *character).collect::<String>());
                match span[0].0 {
                    "" => text,
                    class => format!(r#"<tspan class="{class}">{text}</tspan>"#),
                }
            })
            .collect()
    };
    line.chunks(COLUMNS).map(spans).collect()
}

/// Text in XML. A character here is a column.
fn escaped(text: &str) -> String {
    assert!(text.chars().all(|c| c == ' ' || c.is_ascii_graphic()), "{text:?}");
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;")
}

fn docs(name: &str) -> String {
    format!("{}/docs/{name}", env!("CARGO_MANIFEST_DIR"))
}

/// Compares with the file in docs/.
fn assert_drawn(name: &str, svg: &str) {
    if std::env::var_os("AZFED_UPDATE_DOCS").is_some() {
        fs::write(docs(name), svg).unwrap();
    }
    assert!(
        fs::read_to_string(docs(name)).unwrap_or_default() == svg,
        "docs/{name}: `AZFED_UPDATE_DOCS=1 cargo test --test it pictures::` draws it anew"
    );
}

const FIXED: &str = "Entra is the emulator of this repository; the temp directory, times and random ids have a fixed spelling.";

/// docs/login.txt is what the real clients did (`the_picture_of_a_login` in tests/clients/run.py writes and compares it);
/// what azfed did is done again here.
#[test]
fn login() {
    let text = fs::read_to_string(docs("login.txt")).unwrap();
    let steps = text.strip_prefix("$ ").unwrap().split("\n$ ").map(|step| {
        let (command, shown) = step.split_once('\n').unwrap_or((step, ""));
        Step { command: command.to_owned(), shown: shown.to_owned() }
    });
    let steps: Vec<Step> = steps.collect();
    let is_client = |step: &&Step| {
        ["terraform ", "az ", "python3 "].iter().any(|client| step.command.starts_with(client))
    };
    let own: Vec<&Step> = steps.iter().filter(|step| !is_client(step)).collect();
    let commands: Vec<&str> = own.iter().map(|step| step.command.as_str()).collect();
    assert!(commands.len() > 2 && commands.len() < steps.len(), "{commands:?}");
    for (recorded, step) in own.iter().zip(session(&Job::new(Platform::Gitlab), &commands)) {
        assert_eq!(recorded.shown.trim_end(), step.shown.trim_end(), "docs/login.txt: {}", step.command);
    }
    let svg = draw(
        "A GitLab job logs in to Azure with azfed",
        &format!(
            "A terminal: azfed login, the variables that it sets for Terraform, then Terraform, az and the Azure SDK for \
             Python, which work with that login, and azfed logout. {FIXED} As text: login.txt."
        ),
        &steps,
    );
    assert_drawn("login.svg", &svg);
}

/// The README has the commands of the picture, to be copied.
#[test]
fn refusal() {
    let overrides = JobOverrides {
        subject: Some("project_path:contoso/infra:ref_type:branch:ref:staging".to_owned()),
        ..JobOverrides::default()
    };
    let job = Job::with(Platform::Gitlab, &overrides);
    let steps = session(&job, &["eval \"$(azfed login)\"", "echo $?"]);
    let shown = &steps[0].shown;
    assert!(shown.contains("(AADSTS700213)"), "{shown}");
    assert_eq!(steps[1].shown, "4\n");
    let svg = draw(
        "Microsoft Entra refuses a job's login, and azfed explains it",
        &format!(
            "A terminal: azfed login fails with AADSTS700213 and shows what the job presented, what that means, what it asked \
             for, and the command that creates the federated credential that is missing. {FIXED}"
        ),
        &steps,
    );
    assert_drawn("refusal.svg", &svg);
    let hints = &shown[shown.find("azfed: hint: ").unwrap()..shown.find("azfed: trace ").unwrap()];
    let readme = fs::read_to_string(docs("../README.md")).unwrap();
    assert!(
        readme.contains(&format!("```text\n{hints}```\n")),
        "README.md, \"When it fails\", has other hints than azfed prints:\n{hints}"
    );
}
