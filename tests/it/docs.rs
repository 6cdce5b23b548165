//! Docs that can drift.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::Path,
    process::Command,
};

use azfed::{cli::Args, env::names};
use clap::CommandFactory;

use crate::harness::files_below;

fn read(name: &str) -> String {
    fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join(name)).unwrap()
}

#[test]
fn one_version_everywhere() {
    let version = env!("CARGO_PKG_VERSION");
    assert_eq!(read("packaging/version").trim(), version);
    assert!(read("CHANGELOG.md").contains(&format!("\n## {version}")));
    assert!(read("azure-pipelines/vss-extension.json").contains(&format!("\"version\": \"{version}\"")));
    assert!(read("gitlab/templates/azure-login.yml").contains(&format!("      default: {version}\n")));
}

/// `name = …` lines of a section of Cargo.toml: the name, and the features that are asked for.
fn dependencies(manifest: &str, section: &str) -> BTreeMap<String, Vec<String>> {
    let body = manifest.split(&format!("\n[{section}]\n")).nth(1).unwrap();
    let lines = body.lines().take_while(|line| !line.starts_with('['));
    lines
        .filter_map(|line| line.split_once(" = "))
        .map(|(name, value)| {
            let features =
                value.split_once("features = [").map_or("", |(_, rest)| rest.split(']').next().unwrap());
            let features = features.split(", ").map(|feature| feature.trim_matches('"').to_owned());
            (name.to_owned(), features.filter(|feature| !feature.is_empty()).collect())
        })
        .collect()
}

#[test]
fn each_dependency_has_its_reason() {
    let manifest = read("Cargo.toml");
    let mut needed = dependencies(&manifest, "dependencies");
    needed.extend(dependencies(&manifest, "target.'cfg(unix)'.dependencies"));
    let decisions = read("docs/decisions.md");
    let table = decisions.split("\n| crate | features | for |\n|---|---|---|\n").nth(1).unwrap();
    let mut reasons = BTreeMap::new();
    for row in table.lines().take_while(|line| line.starts_with('|')) {
        let cells: Vec<&str> = row.split('|').map(str::trim).collect();
        let [_, name, features, reason, _] = cells[..] else { panic!("{row}") };
        assert!(reason.len() > 3, "{name} has no reason");
        let features = features.split(", ").filter(|feature| !feature.is_empty());
        reasons.insert(name.to_owned(), features.map(ToOwned::to_owned).collect::<Vec<_>>());
    }
    assert_eq!(reasons, needed, "the table in docs/decisions.md (left), and Cargo.toml (right)");
}

#[test]
fn the_number_of_crates_is_right() {
    let decisions = read("docs/decisions.md");
    let said = decisions
        .split("That makes **")
        .nth(1)
        .unwrap()
        .split(" crates in the shipped binary**")
        .next()
        .unwrap();
    let command = decisions.split("```sh\ncargo tree ").nth(1).unwrap().split(" | ").next().unwrap();
    let output = Command::new(env!("CARGO"))
        .args(["tree", "--offline"])
        .args(command.split(' '))
        .current_dir(env!("CARGO_MANIFEST_DIR"))
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let lines = String::from_utf8(output.stdout).unwrap();
    let crates: BTreeSet<&str> = lines.lines().filter(|line| !line.starts_with("azfed ")).collect();
    assert_eq!(said, crates.len().to_string());
}

/// Every test that the threat model names is there: a function of Rust or a case of Python's suites.
#[test]
fn the_threat_model_names_tests_that_exist() {
    let mut tests = BTreeSet::new();
    for directory in ["src", "tests", "emulator/src", "fuzz"] {
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).join(directory);
        let files = if root.exists() { files_below(&root) } else { Vec::new() };
        for path in files.into_iter().filter(|path| path.is_file()) {
            let text = fs::read_to_string(&path).unwrap_or_default();
            let mut is_test = false;
            for line in text.lines().map(str::trim) {
                let rust = line.trim_start_matches("async ").strip_prefix("fn ").filter(|_| is_test);
                let python = line.strip_prefix("def ");
                if let Some(name) = rust.or(python).and_then(|rest| rest.split('(').next()) {
                    tests.insert(name.to_owned());
                }
                is_test = line.starts_with("#[test]") || is_test && line.starts_with("#[");
                // a scenario of a loop, by its name as the code has it
                let is_first = ["\"", "(\""].iter().any(|start| line.starts_with(start));
                let is_named = ["scenario(\"", "check(\""].iter().any(|call| line.contains(call));
                if is_first || is_named {
                    tests.extend(line.split('"').nth(1).map(ToOwned::to_owned));
                }
                // a family of cases: test.__name__ = f"refused_on_{kind.__name__}"
                if let Some(pattern) = line.strip_prefix("test.__name__ = f\"") {
                    tests.insert(format!("{}…", pattern.split('{').next().unwrap()));
                }
            }
        }
    }
    let is_there = |name: &str| {
        tests.contains(name)
            || name.contains(['/', '.']) && Path::new(env!("CARGO_MANIFEST_DIR")).join(name).exists()
    };
    let model = read("docs/threat-model.md");
    let mut rows = 0;
    for table in model.split("\n| invariant | how | test |\n").skip(1) {
        for row in table.lines().skip(1).take_while(|line| line.starts_with('|')) {
            rows += 1;
            let cell = row.trim_end_matches(" |").rsplit(" | ").next().unwrap();
            let named: Vec<&str> = cell.split('`').skip(1).step_by(2).collect();
            assert!(!named.is_empty(), "no test: {row}");
            for name in named {
                assert!(is_there(name), "docs/threat-model.md names `{name}`, which is no test: {row}");
            }
        }
    }
    assert!(rows > 40, "{rows} rows");
    // elsewhere, whatever is written as a test's name is
    let is_name = |word: &&str| {
        word.matches('_').count() > 1
            && word.chars().all(|c| c == '_' || c.is_ascii_lowercase() || c.is_ascii_digit())
    };
    for name in model.split('`').skip(1).step_by(2).filter(is_name) {
        assert!(is_there(name), "docs/threat-model.md names `{name}`, which is no test");
    }
}

#[test]
fn the_readme_has_every_command_and_flag() {
    let readme = read("README.md");
    let mut command = Args::command();
    command.build();
    for subcommand in command.get_subcommands().filter(|subcommand| !subcommand.is_hide_set()) {
        assert!(readme.contains(&format!("`azfed {}", subcommand.get_name())), "{}", subcommand.get_name());
        for flag in subcommand.get_arguments().filter_map(clap::Arg::get_long) {
            let known = ["help", "version", "verbose", "quiet", "output-access-token"];
            assert!(known.contains(&flag) || readme.contains(&format!("--{flag}")), "--{flag}");
        }
    }
}

/// Each command below another has a section of its own, with each of its flags that the README's tables or the flags for
/// all of them do not have.
#[test]
fn the_reference_has_every_command_and_flag_below_another() {
    let reference = read("docs/trust.md");
    assert!(read("README.md").contains("](docs/trust.md)"));
    let sections: Vec<&str> = reference.split("\n## ").collect();
    let section = |heading: &str| {
        let found = sections.iter().find(|section| section.starts_with(&format!("{heading}\n")));
        (*found.unwrap_or_else(|| panic!("no section {heading}"))).to_owned()
    };
    let readme = read("README.md");
    let settings =
        readme.split("\n| setting | flag |").nth(1).unwrap().split("\n\n").next().unwrap().to_owned();
    let for_all = section("What is printed");
    let mut command = Args::command();
    command.build();
    for parent in command.get_subcommands().filter(|parent| !parent.is_hide_set()) {
        for child in parent.get_subcommands() {
            let name = format!("`azfed {} {}`", parent.get_name(), child.get_name());
            let own = section(&name);
            let has = |text: &str, flag: &str| {
                let flag = format!("--{flag}");
                // --ref is not in --ref-protected
                text.match_indices(&flag).any(|(at, _)| {
                    !text[at + flag.len()..].starts_with(|next: char| next == '-' || next.is_alphanumeric())
                })
            };
            for flag in child.get_arguments().filter_map(clap::Arg::get_long) {
                let known = ["help", "version", "verbose", "quiet"];
                assert!(
                    known.contains(&flag) || [&own, &for_all, &settings].iter().any(|text| has(text, flag)),
                    "{name} --{flag}"
                );
            }
        }
        assert!(parent.get_name() != "trust" || parent.get_subcommands().count() > 10);
    }
}

/// Each wrapper has an input for what the others have, and says so in its table.
#[test]
fn the_wrappers_have_every_input_in_their_docs() {
    let template = read("gitlab/templates/azure-login.yml");
    let inputs = template.split("\n---\n").next().unwrap().lines();
    let inputs: Vec<&str> = inputs
        .filter(|line| line.starts_with("    ") && !line.starts_with("     "))
        .map(|line| line.trim().trim_end_matches(':'))
        .collect();
    assert!(inputs.contains(&"allow-scope") && inputs.len() > 10, "{inputs:?}");
    for docs in ["gitlab/README.md", "docs/gitlab.md"] {
        for input in &inputs {
            assert!(read(docs).contains(&format!("| `{input}` |")), "{docs}: {input}");
        }
    }
    let task: serde_json::Value =
        serde_json::from_str(&read("azure-pipelines/tasks/AzureFederatedLoginV1/task.json")).unwrap();
    for input in task["inputs"].as_array().unwrap() {
        let name = input["name"].as_str().unwrap();
        assert!(read("docs/azure-devops.md").contains(&format!("| `{name}` |")), "{name}");
    }
    for (file, input) in [
        ("action.yml", "\n  allow-scope:\n"),
        ("azure-pipelines/tasks/AzureFederatedLoginV1/task.json", "\"allowScope\""),
        ("azure-pipelines/templates/azure-login.yml", "- name: allowScope"),
    ] {
        assert!(read(file).contains(input), "{file}");
    }
}

#[test]
fn the_docs_have_every_variable_that_is_set_or_read_as_a_setting() {
    let docs = read("README.md")
        + &read("docs/terraform.md")
        + &read("docs/github.md")
        + &read("docs/azure-devops.md");
    for name in [
        names::azure::CLIENT_ID,
        names::azure::TENANT_ID,
        names::azure::SUBSCRIPTION_ID,
        names::azure::ENVIRONMENT,
        names::azure::AUTHORITY_HOST,
        names::azure::FEDERATED_TOKEN_FILE,
        names::azure::CONFIG_DIR,
        names::azure::EXTENSION_DIR,
        names::azure::SUBSCRIPTION_SERVICE_CONNECTION_ID,
        names::azure::ID_TOKEN,
        names::azure::OIDC_TOKEN,
        names::arm::CLIENT_ID,
        names::arm::TENANT_ID,
        names::arm::SUBSCRIPTION_ID,
        names::arm::ENVIRONMENT,
        names::arm::USE_OIDC,
        names::arm::OIDC_TOKEN,
        names::arm::OIDC_TOKEN_FILE_PATH,
        names::arm::OIDC_REQUEST_URL,
        names::arm::CLIENT_SECRET,
        names::arm::CLIENT_CERTIFICATE,
        names::arm::CLIENT_CERTIFICATE_PATH,
        names::arm::ADO_PIPELINE_SERVICE_CONNECTION_ID,
        names::arm::OIDC_AZURE_SERVICE_CONNECTION_ID,
        names::gitlab::OIDC_TOKEN,
        names::azure_devops::ACCESS_TOKEN,
        names::system::SSL_CERT_FILE,
        names::azfed::LOGIN_DIR,
    ] {
        assert!(docs.contains(name), "{name}");
    }
}

#[test]
fn the_docs_have_every_source_and_every_trust() {
    let docs = read("docs/platforms.md") + &read("README.md");
    let mut command = Args::command();
    command.build();
    let find = |name: &str| command.find_subcommand(name).unwrap().clone();
    let login = find("login");
    let source = login.get_arguments().find(|argument| argument.get_id() == "source").unwrap();
    let hosts =
        ["auto", "imds", "app-service", "automation", "arc", "service-fabric", "azure-ml", "cloud-shell"];
    for source in source.get_possible_values() {
        let name = source.get_name();
        assert!(
            hosts.contains(&name)
                || docs.contains(&format!("`{name}`"))
                || docs.contains(&format!("--source {name}")),
            "{name}"
        );
    }
    for kind in find("trust").get_subcommands() {
        let name = kind.get_name();
        assert!(
            docs.contains(&format!("trust {name}")) || docs.contains(&format!("`{name}`")),
            "trust {name}"
        );
    }
    for name in [
        names::buildkite::SUBJECT_CLAIM,
        names::circleci::OIDC_TOKEN_V2,
        names::hcp_terraform::WORKLOAD_IDENTITY_AUDIENCE,
        names::spacelift::OIDC_TOKEN,
        names::semaphore::OIDC_TOKEN,
        names::codefresh::OIDC_REQUEST_URL,
        names::codefresh::ID_TOKEN,
        names::aws::REGION,
        names::aws::ACCESS_KEY_ID,
        names::aws::SECRET_ACCESS_KEY,
        names::aws::SESSION_TOKEN,
        names::aws::CONTAINER_CREDENTIALS_RELATIVE_URI,
        names::aws::CONTAINER_CREDENTIALS_FULL_URI,
    ] {
        assert!(docs.contains(name), "{name}");
    }
}

#[test]
fn the_action_has_every_input_in_its_docs() {
    let action = read("action.yml");
    let docs = read("docs/github.md");
    let inputs = action.split("\ninputs:\n").nth(1).unwrap().split("\noutputs:\n").next().unwrap();
    for input in inputs.lines().filter(|line| line.starts_with("  ") && !line.starts_with("   ")) {
        let name = input.trim().trim_end_matches(':');
        assert!(docs.contains(&format!("`{name}`")), "{name}");
    }
}

#[test]
fn relative_links_lead_somewhere() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let docs = fs::read_dir(root.join("docs")).unwrap();
    let names = docs.map(|entry| entry.unwrap().file_name().into_string().unwrap());
    let pages: Vec<String> = names
        .filter(|name| Path::new(name).extension().is_some_and(|end| end == "md"))
        .map(|name| format!("docs/{name}"))
        .collect();
    assert!(pages.len() > 10, "{pages:?}");
    let pages = pages.iter().map(String::as_str);
    for file in pages.chain([
        "README.md",
        "SECURITY.md",
        "CONTRIBUTING.md",
        "gitlab/README.md",
        "azure-pipelines/overview.md",
    ]) {
        let directory = root.join(file).parent().unwrap().to_owned();
        for link in
            read(file).split("](").skip(1).filter_map(|rest| rest.split(')').next().map(ToOwned::to_owned))
        {
            let path = link.split('#').next().unwrap();
            assert!(link.starts_with("http") || directory.join(path).exists(), "{file}: {link}");
        }
    }
}

/// Every case of the suites in `tests/clients`: many are made in loops, so Python says their names.
#[cfg(unix)]
fn client_cases() -> BTreeSet<String> {
    let program = "import hosts, proxies, run\nfor suite in (hosts, proxies, run): print(*(name for name, _ in suite.CASES), sep='\\n')";
    let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/clients");
    let output = Command::new("python3").args(["-B", "-c", program]).current_dir(directory).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let names: Vec<String> =
        String::from_utf8(output.stdout).unwrap().lines().map(ToOwned::to_owned).collect();
    let cases: BTreeSet<String> = names.iter().cloned().collect();
    assert_eq!(names.len(), cases.len(), "two cases have one name");
    cases
}

/// What stands between backticks.
fn literals(text: &str) -> impl Iterator<Item = &str> {
    text.split('`').skip(1).step_by(2)
}

/// The tests that the README and the page about sources name are there, by their full names, or as the beginning of some.
#[cfg(unix)]
#[test]
fn the_docs_name_tests_that_exist() {
    let mut tests = client_cases();
    for path in files_below(&Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/it")) {
        let text = fs::read_to_string(&path).unwrap_or_default();
        let functions = text.split("#[test]\n").skip(1).filter_map(|rest| rest.split("fn ").nth(1));
        tests.extend(functions.map(|rest| rest.split('(').next().unwrap().to_owned()));
    }
    let clients = read("tests/clients/clients.py");
    let checks = clients.lines().filter_map(|line| line.strip_prefix("def check_"));
    tests.extend(checks.map(|rest| format!("check_{}", rest.split('(').next().unwrap())));
    let is_there = |name: &str| match name.strip_suffix('…') {
        Some(start) => tests.iter().any(|test| test.starts_with(start)),
        None => {
            tests.contains(name)
                || name.starts_with("tests/") && Path::new(env!("CARGO_MANIFEST_DIR")).join(name).exists()
        }
    };

    let readme = read("README.md");
    let table = readme.split("\n| system | what azfed does there | tests |\n|---|---|---|\n").nth(1).unwrap();
    let rows: Vec<&str> = table.lines().take_while(|line| line.starts_with('|')).collect();
    assert!(rows.len() > 15, "{rows:?}");
    for row in rows {
        let cell = row.trim_end_matches(" |").rsplit(" | ").next().unwrap();
        assert!(literals(cell).next().is_some(), "README.md names no test: {row}");
        for name in literals(cell) {
            assert!(is_there(name), "README.md names `{name}`, which is no test: {row}");
        }
    }

    let is_name = |word: &&str| {
        word.matches('_').count() > 1
            && word.starts_with(|first: char| first.is_ascii_lowercase())
            && word.chars().all(|c| c == '_' || c == '…' || c.is_ascii_alphanumeric())
    };
    for page in ["docs/sources.md", "docs/terraform.md"] {
        let text = read(page);
        let names: Vec<&str> = literals(&text).filter(is_name).collect();
        assert!(!names.is_empty(), "{page}");
        for name in names {
            assert!(is_there(name), "{page} names `{name}`, which is no test");
        }
    }
}

/// Whoever logs in in a test is in the table, and each row of it is three tests.
#[cfg(unix)]
#[test]
fn the_table_of_sources_is_what_is_tested() {
    let cases = client_cases();
    let docs = read("docs/sources.md");
    let table = docs.split("\n| source | tests |").nth(1).unwrap().lines().skip(2);
    let rows = table.take_while(|line| line.starts_with('|'));
    let named: Vec<&str> = rows.flat_map(|row| literals(row.split(" | ").nth(1).unwrap())).collect();
    let shown: BTreeSet<&str> = named.iter().copied().collect();
    assert_eq!(named.len(), shown.len(), "a row comes twice");
    let tested: BTreeSet<&str> = cases.iter().filter_map(|case| case.strip_prefix("login_on_")).collect();
    assert_eq!(shown, tested, "docs/sources.md (left), and the tests (right)");
    for name in shown {
        for case in [format!("exec_on_{name}"), format!("token_on_{name}")] {
            assert!(cases.contains(&case), "docs/sources.md has a row for {case}");
        }
    }
}
