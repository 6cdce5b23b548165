//! What a login leaves running: it renews, it serves, it hides, and it ends.

use std::{
    collections::BTreeMap,
    fs,
    os::unix::fs::{MetadataExt, PermissionsExt},
    path::{Path, PathBuf},
    process::{Command, Stdio},
    time::{Duration, Instant},
};

use azfed_emulator::{Action, Platform, world};
use serde_json::json;

use crate::harness::{self, Job, Outcome, files_below, status};

fn login(job: &Job, arguments: &[&str]) -> Outcome {
    let outcome = job.run(&[&["login"], arguments].concat());
    assert_eq!(outcome.code, Some(0), "{}", job.show(&outcome));
    outcome
}

/// The directories of this job's logins.
fn logins(job: &Job) -> Vec<PathBuf> {
    let entries = fs::read_dir(job.path("temp")).unwrap().map(|entry| entry.unwrap().path());
    let mut logins: Vec<PathBuf> = entries.collect();
    logins.sort();
    logins
}

fn only_login(job: &Job) -> PathBuf {
    let logins = logins(job);
    assert_eq!(logins.len(), 1, "{logins:?}");
    logins.into_iter().next().unwrap()
}

fn keeper_of(login: &Path) -> u32 {
    fs::read_to_string(login.join("keeper/pid")).unwrap().parse().unwrap()
}

fn is_alive(pid: u32) -> bool {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    stat.rsplit_once(") ").is_some_and(|(_, rest)| !rest.starts_with('Z'))
}

fn wait_until(what: &str, seconds: u64, mut done: impl FnMut() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(seconds);
    while !done() {
        assert!(Instant::now() < deadline, "not within {seconds} s: {what}");
        std::thread::sleep(Duration::from_millis(20));
    }
}

fn az_assertion(login: &Path) -> String {
    let entries = fs::read_to_string(login.join("azure/service_principal_entries.json")).unwrap();
    let entries: serde_json::Value = serde_json::from_str(&entries).unwrap();
    entries[0]["client_assertion"].as_str().unwrap().to_owned()
}

#[test]
fn what_clients_prefer_to_the_endpoints_is_named() {
    let mut job = Job::new(Platform::Gitlab);
    job.set("ARM_OIDC_TOKEN_FILE_PATH", "/builds/of-an-earlier-login");
    job.set("AZURE_FEDERATED_TOKEN_FILE", "/builds/of-an-earlier-login");
    for (clients, terraform, sdk) in [("terraform", true, false), ("sdk", false, true), ("az", false, false)]
    {
        let said = login(&job, &["--source", "gitlab", "--endpoints", "--for", clients]).stderr;
        let has = |words: &str| said.contains(&format!("{words} it to the endpoints: unset it"));
        assert_eq!(has("ARM_OIDC_TOKEN_FILE_PATH is set, and Terraform prefers"), terraform, "{said}");
        assert_eq!(has("AZURE_FEDERATED_TOKEN_FILE is set, and the Azure SDKs prefer"), sdk, "{said}");
        assert_eq!(job.run(&["logout"]).code, Some(0));
    }
}

#[test]
fn it_renews_until_logout() {
    for platform in [Platform::Github, Platform::AzureDevops] {
        let mut job = Job::new(platform);
        job.emulator.set(|settings| settings.assertion_lifetime_s = Some(4));
        login(&job, &[]);
        let directory = only_login(&job);
        let pid = keeper_of(&directory);
        let file = directory.join("assertion");
        let first = fs::read_to_string(&file).unwrap();
        let mut last = first.clone();
        for _ in 0..2 {
            wait_until("another assertion", 15, || fs::read_to_string(&file).unwrap() != last);
            last = fs::read_to_string(&file).unwrap();
        }
        wait_until("az has it too", 10, || az_assertion(&directory) == fs::read_to_string(&file).unwrap());
        for name in
            ["assertion", "azure/service_principal_entries.json", "keeper/log", "keeper/lock", "keeper/pid"]
        {
            let mode = fs::metadata(directory.join(name)).unwrap().permissions().mode() & 0o777;
            assert_eq!(mode, 0o600, "{name}");
        }
        let log = fs::read_to_string(directory.join("keeper/log")).unwrap();
        assert!(log.lines().all(|line| line.contains("Z azfed: renewed; again in ")), "{log}");
        assert_eq!(job.leaks(&log), Vec::<String>::new());
        job.set("AZFED_LOGIN_DIR", directory.to_str().unwrap());
        let outcome = job.run(&["logout"]);
        assert_eq!(outcome.stderr, format!("azfed: removed {}\n", directory.display()));
        assert!(!is_alive(pid), "it goes before logout does");
        assert!(job.left_in_temp().is_empty(), "{:?}", job.left_in_temp());
    }
}

#[test]
fn what_anyone_can_see_of_it_holds_no_secret() {
    let job = Job::new(Platform::AzureDevops);
    login(&job, &["--scope", "https://vault.azure.net"]);
    let pid = keeper_of(&only_login(&job));
    for file in ["cmdline", "environ"] {
        let content = fs::read(format!("/proc/{pid}/{file}")).unwrap();
        let text = String::from_utf8_lossy(&content);
        assert_eq!(job.leaks(&text), Vec::<String>::new(), "{file}");
        assert!(!text.contains("SYSTEM_ACCESSTOKEN"), "{file}");
        assert!(file != "cmdline" || text.contains("keep\0--client-id="), "{text}");
    }
    let session = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap();
    let fields: Vec<&str> = session.rsplit_once(") ").unwrap().1.split(' ').collect();
    assert_eq!(fields[3], pid.to_string(), "a session of its own");
    assert_eq!(fs::read_link(format!("/proc/{pid}/cwd")).unwrap(), Path::new("/"));
    // the three streams are a pipe without a writer, a pipe without a reader, and the log
    let log = fs::read_link(format!("/proc/{pid}/fd/2")).unwrap();
    assert!(log.ends_with("keeper/log"), "{log:?}");
}

/// Root may look into every process: where these tests are root's, the job is another user's.
#[test]
fn another_process_of_the_user_cannot_look_into_it() {
    let job = Job::new(Platform::Github);
    let azfed = job.path("azfed");
    fs::copy(env!("CARGO_BIN_EXE_azfed"), &azfed).unwrap();
    let is_root = fs::metadata("/proc/self").unwrap().uid() == 0;
    let as_user = |program: &str, arguments: &[&str]| {
        let mut command = Command::new(if is_root { "/usr/bin/setpriv" } else { program });
        if is_root {
            command.args(["--reuid=65534", "--regid=65534", "--clear-groups", program]);
        }
        command.args(arguments).env_clear().envs(&job.environment).stdin(Stdio::null());
        Outcome::of(&command.output().unwrap())
    };
    if is_root {
        let own = ["-R", "65534:65534", job.directory.path().to_str().unwrap()];
        assert!(Command::new("chown").args(own).status().unwrap().success());
    }
    let login = as_user(&azfed, &["login"]);
    assert_eq!(login.code, Some(0), "{}", job.show(&login));
    let pid = keeper_of(&only_login(&job));
    for file in ["environ", "maps", "fd/0"] {
        let looked = as_user("/bin/cat", &[&format!("/proc/{pid}/{file}")]);
        assert_eq!((looked.code, looked.stdout.as_str()), (Some(1), ""), "{file}");
        assert!(looked.stderr.contains("Permission denied"), "{file}: {}", looked.stderr);
    }
    let logout = as_user(&azfed, &["logout"]);
    assert_eq!(logout.code, Some(0), "{}", job.show(&logout));
    assert!(!is_alive(pid) && job.left_in_temp().is_empty());
}

#[test]
fn what_the_steps_shell_has_open_does_not_live_on() {
    let job = Job::new(Platform::Github);
    let lock = job.path("deploy.lock");
    let script = format!("exec 9>{lock}; flock 9; {} login", env!("CARGO_BIN_EXE_azfed"));
    let mut step = Command::new("/bin/sh");
    step.args(["-c", &script]).env_clear().envs(&job.environment).env("PATH", "/usr/bin:/bin");
    // read to its end, as a runner reads a step's output
    let outcome = Outcome::of(&step.stdin(Stdio::null()).output().unwrap());
    assert_eq!(outcome.code, Some(0), "{}", job.show(&outcome));
    assert!(is_alive(keeper_of(&only_login(&job))));
    assert!(Command::new("flock").args(["--nonblock", &lock, "true"]).status().unwrap().success());
    job.run(&["logout"]);
}

#[test]
fn it_ends_with_its_directory() {
    let job = Job::new(Platform::Github);
    login(&job, &[]);
    let directory = only_login(&job);
    let pid = keeper_of(&directory);
    assert!(is_alive(pid));
    fs::remove_dir_all(&directory).unwrap();
    wait_until("it has gone", 20, || !is_alive(pid));
    assert!(!directory.exists(), "nothing is made again");
}

/// A runner's worker: a shell under its name, which logs in and then has other things to do.
fn worker(job: &Job, name: &str, arguments: &str) -> std::process::Child {
    let shell = job.path(name);
    fs::copy("/bin/sh", &shell).unwrap();
    let ready = job.path("ready");
    let script = format!("{} login {arguments}; touch {ready}; sleep 60; true", env!("CARGO_BIN_EXE_azfed"));
    let mut worker = Command::new(&shell);
    worker.args(["-c", &script]).env_clear().envs(&job.environment).current_dir(job.directory.path());
    let worker = worker.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
    wait_until("the worker's login", 30, || fs::exists(&ready).unwrap());
    worker
}

#[test]
fn it_ends_with_a_killed_runner_and_takes_the_login_along() {
    for (platform, name) in [(Platform::Github, "Runner.Worker"), (Platform::AzureDevops, "Agent.Worker")] {
        let mut job = Job::new(platform);
        job.set("PATH", "/usr/bin:/bin");
        let mut worker = worker(&job, name, "");
        let pid = keeper_of(&only_login(&job));
        std::thread::sleep(Duration::from_secs(3));
        assert!(is_alive(pid), "its job goes on");
        worker.kill().unwrap();
        worker.wait().unwrap();
        wait_until("it has gone", 20, || !is_alive(pid));
        assert!(job.left_in_temp().is_empty(), "{:?}", job.left_in_temp());
    }
}

#[test]
fn it_ends_with_the_shell_where_there_is_no_runner() {
    let mut job = Job::new(Platform::Kubernetes);
    job.set("PATH", "/usr/bin:/bin");
    let shell =
        format!("{} login --keep-fresh; touch {}; sleep 4", env!("CARGO_BIN_EXE_azfed"), job.path("ready"));
    let mut script = Command::new("setsid");
    script.args(["sh", "-c", &shell]).env_clear().envs(&job.environment);
    let mut script = script.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
    wait_until("the login", 30, || fs::exists(job.path("ready")).unwrap());
    let pid = keeper_of(&only_login(&job));
    assert!(is_alive(pid));
    script.wait().unwrap();
    wait_until("it has gone", 20, || !is_alive(pid));
    assert!(job.left_in_temp().is_empty(), "{:?}", job.left_in_temp());
}

#[test]
fn it_knows_the_answers_of_a_platform_whose_job_is_over() {
    let job = Job::new(Platform::Github);
    job.emulator.set(|settings| settings.assertion_lifetime_s = Some(4));
    login(&job, &[]);
    let directory = only_login(&job);
    let pid = keeper_of(&directory);
    job.fault("github.assertion", 0, status(401, &[]));
    wait_until("it has gone", 45, || !is_alive(pid));
    let log = fs::read_to_string(directory.join("keeper/log")).unwrap();
    assert_eq!(
        log.matches("not renewed: GitHub refused to issue an OIDC token: status 401").count(),
        3,
        "{log}"
    );
    assert!(log.ends_with("ends: the platform issues this job no OIDC token any more\n"), "{log}");
    let outcome = job.run(&["logout"]);
    let warning =
        "azfed: warning: the process that kept this login fresh had ended before; the end of its log: ";
    assert!(outcome.stderr.contains(warning), "{}", outcome.stderr);
    assert!(job.left_in_temp().is_empty());
}

#[test]
fn a_platform_that_is_away_for_a_while_is_asked_again() {
    let job = Job::new(Platform::Github);
    job.emulator.set(|settings| settings.assertion_lifetime_s = Some(4));
    login(&job, &["--timeout", "2"]);
    let directory = only_login(&job);
    let first = fs::read_to_string(directory.join("assertion")).unwrap();
    job.fault("github.assertion", 0, status(503, &[]));
    let log = || fs::read_to_string(directory.join("keeper/log")).unwrap();
    wait_until("it says so", 20, || log().contains("not renewed: gave up after 2 s"));
    assert!(is_alive(keeper_of(&directory)));
    job.emulator.reset();
    wait_until("another assertion", 30, || fs::read_to_string(directory.join("assertion")).unwrap() != first);
    assert_eq!(job.leaks(&log()), Vec::<String>::new());
    job.run(&["logout"]);
}

#[test]
fn a_login_that_fails_leaves_none_running() {
    let mut job = Job::new(Platform::Github);
    // everything succeeds but the last hand-over
    job.set("GITHUB_ENV", &job.path("no/such/file"));
    let outcome = job.run(&["login"]);
    assert_eq!(outcome.code, Some(1), "{}", job.show(&outcome));
    assert!(job.left_in_temp().is_empty());
    let temp = job.path("temp");
    wait_until("it has gone", 20, || {
        let processes =
            fs::read_dir("/proc").unwrap().filter_map(|entry| entry.ok()?.file_name().into_string().ok());
        !processes
            .filter(|name| name.bytes().all(|byte| byte.is_ascii_digit()))
            .any(|pid| fs::read_link(format!("/proc/{pid}/fd/2")).is_ok_and(|log| log.starts_with(&temp)))
    });
}

#[test]
fn when_it_is_there() {
    let runs = |job: &Job| only_login(job).join("keeper").exists();
    for (platform, arguments, expected) in [
        (Platform::Github, &[][..], true),
        (Platform::Github, &["--no-keep-fresh"], false),
        // Terraform asks GitHub itself: there is nothing on disk
        (Platform::Github, &["--for", "terraform"], false),
        (Platform::AzureDevops, &["--for", "terraform"], true),
        (Platform::Gitlab, &[], false),
        (Platform::Gitlab, &["--endpoints"], true),
        (Platform::Kubernetes, &[], false),
        (Platform::Kubernetes, &["--keep-fresh"], true),
    ] {
        let job = Job::new(platform);
        login(&job, arguments);
        assert_eq!(runs(&job), expected, "{arguments:?}");
        let process = expected.then(|| keeper_of(&only_login(&job)));
        // found by the job's own ids, or by the variable that a shell has taken over
        let mut later = Command::new(env!("CARGO_BIN_EXE_azfed"));
        later.arg("logout").env_clear().envs(&job.environment).env("AZFED_LOGIN_DIR", only_login(&job));
        assert!(later.stderr(Stdio::null()).status().unwrap().success());
        assert!(job.left_in_temp().is_empty() && !process.is_some_and(is_alive), "{arguments:?}");
    }
    let job = Job::new(Platform::Gitlab);
    let outcome = job.run(&["login", "--keep-fresh"]);
    assert_eq!(outcome.code, Some(2));
    let expected = "azfed: error: GitLab in AZURE_ID_TOKEN gives a job one OIDC token, which cannot be renewed\n\
                    azfed: hint: leave `--keep-fresh` out; name every resource that the job needs with `--scope`, so that \
                    its access tokens outlive the OIDC token, or ask for an OIDC token that lives longer (GitLab: the \
                    job's `timeout:`)\n";
    assert_eq!((outcome.stderr.as_str(), outcome.stdout.as_str()), (expected, "(exit 2)\n"));
    let outcome = job.run(&["login", "--endpoints", "--output", "dotenv"]);
    assert_eq!(outcome.code, Some(2), "{}", outcome.stderr);
    assert_eq!(job.run(&["login", "--allow-scope", "https://vault.azure.net"]).code, Some(2));
    assert!(job.left_in_temp().is_empty());
    // it is told what to do by a login, and by nobody else
    let outcome = job.run(&["keep"]);
    assert_eq!(outcome.code, Some(2), "{}", outcome.stderr);
}

/// A container's first process may have a group and a session whose leaders are outside: they have no number there.
#[test]
fn it_lives_where_the_steps_shell_is_out_of_sight() {
    let job = Job::new(Platform::Gitlab);
    let azfed = env!("CARGO_BIN_EXE_azfed");
    let script = format!("{azfed} login --endpoints >&2 && sleep 3 && {azfed} logout");
    let mut container = Command::new("unshare");
    container.args(["--map-root-user", "--pid", "--fork", "--mount-proc", "sh", "-c", &script]);
    container.env_clear().envs(&job.environment).env("PATH", "/usr/bin:/bin").stdin(Stdio::null());
    let outcome = Outcome::of(&container.output().unwrap());
    assert_eq!(outcome.code, Some(0), "{}", job.show(&outcome));
    let said = outcome.stderr.lines().filter(|line| line.starts_with("azfed: ")).collect::<Vec<_>>();
    assert!(said.iter().any(|line| line.contains("keeps this login until")), "{said:?}");
    assert!(said.iter().any(|line| line.starts_with("azfed: removed ")), "{said:?}");
    assert!(!outcome.stderr.contains("had ended before"), "{}", outcome.stderr);
    assert!(job.left_in_temp().is_empty());
}

#[test]
fn a_killed_one_is_told_at_logout() {
    let job = Job::new(Platform::Github);
    login(&job, &[]);
    let pid = keeper_of(&only_login(&job));
    assert!(Command::new("kill").args(["-KILL", &pid.to_string()]).status().unwrap().success());
    wait_until("it has gone", 20, || !is_alive(pid));
    let outcome = job.run(&["logout"]);
    assert!(
        outcome.stderr.contains("had ended before; the end of its log: no word in its log"),
        "{}",
        outcome.stderr
    );
    assert!(
        outcome.stderr.contains("::warning title=azfed::the process that kept this login"),
        "{}",
        outcome.stderr
    );
    assert!(job.left_in_temp().is_empty());
}

#[test]
fn two_logins_are_kept_side_by_side() {
    let job = Job::new(Platform::Github);
    job.emulator.set(|settings| settings.assertion_lifetime_s = Some(4));
    login(&job, &[]);
    login(&job, &["--client-id", world::APPLICATION]);
    let logins = logins(&job);
    let [first, second] = logins.as_slice() else { panic!("{logins:?}") };
    let processes = [keeper_of(first), keeper_of(second)];
    assert!(processes[0] != processes[1] && processes.iter().all(|pid| is_alive(*pid)));
    let before = [az_assertion(first), az_assertion(second)];
    wait_until("both are renewed", 15, || {
        az_assertion(first) != before[0] && az_assertion(second) != before[1]
    });
    job.run(&["logout"]);
    assert!(!processes.iter().any(|pid| is_alive(*pid)) && job.left_in_temp().is_empty());
}

/// What a later step would have in its environment.
fn handed_over(job: &Job) -> BTreeMap<String, String> {
    let content = job.read("GITHUB_ENV");
    let mut lines = content.lines();
    let mut variables = BTreeMap::new();
    while let Some(line) = lines.next() {
        let (name, delimiter) = line.split_once("<<").unwrap();
        let value: Vec<&str> = lines.by_ref().take_while(|line| *line != delimiter).collect();
        variables.insert(name.to_owned(), value.join("\n"));
    }
    variables
}

fn get(url: &str, header: (&str, &str)) -> (u16, String) {
    let (port, path) = harness::port_and_path(url);
    let (status, _, body) = harness::get(port, &path, &[header]);
    (status, body)
}

#[test]
fn endpoints_for_later_steps() {
    let mut job = Job::new(Platform::Github);
    job.emulator.set(|settings| {
        settings.assertion_lifetime_s = Some(3);
        settings.access_token_lifetime_s = Some(8);
    });
    let outcome = login(&job, &["--endpoints", "-v"]);
    let variables = handed_over(&job);
    let masks: Vec<&str> =
        outcome.stdout.lines().filter_map(|line| line.strip_prefix("::add-mask::")).collect();
    for name in ["IDENTITY_HEADER", "ARM_OIDC_REQUEST_TOKEN"] {
        assert!(masks.contains(&variables[name].as_str()), "{name} is not masked");
        assert!(!outcome.stderr.contains(&variables[name]), "{name} is in the log");
    }
    assert!(!variables.contains_key("AZURE_FEDERATED_TOKEN_FILE"));
    assert_eq!(job.leaks(&outcome.all()), Vec::<String>::new());
    let directory = only_login(&job);
    for file in files_below(&directory).into_iter().filter(|path| path.is_file()) {
        let content = fs::read_to_string(&file).unwrap();
        assert_eq!(job.leaks(&content), Vec::<String>::new(), "{}", file.display());
        for name in ["IDENTITY_HEADER", "ARM_OIDC_REQUEST_TOKEN"] {
            assert!(!content.contains(&variables[name]), "{}", file.display());
        }
    }
    let identity = |resource: &str| {
        let url = format!("{}?api-version=2019-08-01&resource={resource}", variables["IDENTITY_ENDPOINT"]);
        get(&url, ("X-IDENTITY-HEADER", &variables["IDENTITY_HEADER"])).0
    };
    assert_eq!(identity("https://management.azure.com"), 200);
    std::thread::sleep(Duration::from_secs(9));
    // the assertion and the access token of the login have ended
    assert_eq!(identity("https://management.azure.com"), 200);
    assert_eq!(identity("https://vault.azure.net"), 200);
    let url = format!("{}?audience=api%3A%2F%2FAzureADTokenExchange", variables["ARM_OIDC_REQUEST_URL"]);
    let (status, body) =
        get(&url, ("Authorization", &format!("Bearer {}", variables["ARM_OIDC_REQUEST_TOKEN"])));
    assert_eq!(status, 200, "{body}");
    assert_eq!(get(&url, ("Authorization", "Bearer x")).0, 401);
    let refused = job.emulator.requests().into_iter().filter(|request| request.status != 200).count();
    assert_eq!(refused, 0);
    let state = job.read("GITHUB_STATE");
    assert!(state.contains(directory.to_str().unwrap()));
    job.set("STATE_azfed_login_dir", directory.to_str().unwrap());
    let outcome = job.run(&["logout"]);
    let expected = format!(
        "azfed: removed {}\nazfed: later steps asked for https://management.azure.com: 2\n\
         azfed: later steps asked for https://vault.azure.net: 1\nazfed: later steps asked for an OIDC token: 1\n",
        directory.display()
    );
    assert_eq!(outcome.stderr, expected);
    assert!(job.read("GITHUB_STEP_SUMMARY").ends_with(
        "### Azure: what later steps asked for\n\n| resource | times |\n|---|---|\n| https://management.azure.com | 2 |\n\
         | https://vault.azure.net | 1 |\n| an OIDC token | 1 |\n\n"
    ), "{}", job.read("GITHUB_STEP_SUMMARY"));
    assert!(job.left_in_temp().is_empty());
}

#[test]
fn endpoints_that_may_give_little() {
    let job = Job::new(Platform::Github);
    login(&job, &["--endpoints", "--allow-scope", "https://vault.azure.net", "--for", "sdk,terraform"]);
    let variables = handed_over(&job);
    // whoever has the OIDC token can get anything: Terraform asks for access tokens instead
    assert!(!variables.contains_key("ARM_OIDC_REQUEST_URL") && !variables.contains_key("AZURE_CONFIG_DIR"));
    assert_eq!(
        (&variables["ARM_USE_OIDC"], &variables["ARM_USE_MSI"]),
        (&"false".to_owned(), &"true".to_owned())
    );
    for (resource, status) in [("https://vault.azure.net", 200), ("https://management.azure.com", 403)] {
        let url = format!("{}?api-version=2019-08-01&resource={resource}", variables["IDENTITY_ENDPOINT"]);
        assert_eq!(get(&url, ("X-IDENTITY-HEADER", &variables["IDENTITY_HEADER"])).0, status, "{resource}");
    }
    let outcome = job.run(&["logout"]);
    let told = "later steps asked for https://management.azure.com (in vain): 1\n";
    assert!(outcome.stderr.contains(told), "{}", outcome.stderr);
}

/// A login that was killed before it had told anybody: the runner's file is a pipe that nobody reads.
#[test]
fn a_login_that_is_killed_before_its_end_is_not_kept() {
    let mut job = Job::new(Platform::Github);
    let pipe = job.path("GITHUB_ENV_pipe");
    assert!(Command::new("mkfifo").arg(&pipe).status().unwrap().success());
    job.set("GITHUB_ENV", &pipe);
    let mut login = job.command(&["login"]).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
    wait_until("all but the hand-over", 30, || {
        logins(&job).iter().any(|login| fs::exists(login.join("assertion")).unwrap())
            && !job.read("GITHUB_STATE").is_empty()
    });
    let pid = keeper_of(&only_login(&job));
    assert!(is_alive(pid));
    login.kill().unwrap();
    login.wait().unwrap();
    wait_until("it has gone", 10, || !is_alive(pid));
    assert!(job.left_in_temp().is_empty(), "{:?}", job.left_in_temp());
}

/// The number in a file may be another process' by now, or somebody's choice.
#[test]
fn logout_ends_the_keeper_and_nobody_else() {
    let victim = || Command::new("sleep").arg("60").stdin(Stdio::null()).spawn().unwrap();
    let job = Job::new(Platform::Github);
    login(&job, &[]);
    let (directory, mut victim) = (only_login(&job), victim());
    let keeper = keeper_of(&directory);
    fs::write(directory.join("keeper/pid"), victim.id().to_string()).unwrap();
    let outcome = job.run(&["logout"]);
    assert_eq!(outcome.stderr, format!("azfed: removed {}\n", directory.display()));
    assert!(!is_alive(keeper) && is_alive(victim.id()) && job.left_in_temp().is_empty());

    // one that cannot be told goes by itself, and logout waits for that
    login(&job, &[]);
    let directory = only_login(&job);
    let keeper = keeper_of(&directory);
    let holder = format!("{{\"pid\":{},\"started\":1}}", victim.id());
    for file in ["pid", "lock"] {
        fs::write(directory.join("keeper").join(file), &holder).unwrap();
    }
    let outcome = job.run(&["logout"]);
    assert_eq!(outcome.stderr, format!("azfed: removed {}\n", directory.display()));
    assert!(!is_alive(keeper) && is_alive(victim.id()) && job.left_in_temp().is_empty());
    victim.kill().unwrap();
    victim.wait().unwrap();
}

/// What still holds the lock has not ended, and that is said.
#[test]
fn logout_says_what_is_still_there() {
    let job = Job::new(Platform::Github);
    login(&job, &[]);
    let directory = only_login(&job);
    let keeper = keeper_of(&directory);
    assert!(Command::new("kill").args(["-KILL", &keeper.to_string()]).status().unwrap().success());
    wait_until("it has gone", 20, || !is_alive(keeper));
    let lock = directory.join("keeper/lock");
    let mut holder = Command::new("flock").arg("--no-fork").arg(&lock).args(["sleep", "60"]).spawn().unwrap();
    wait_until("the lock is held", 10, || {
        !Command::new("flock")
            .args(["--nonblock", lock.to_str().unwrap(), "true"])
            .status()
            .unwrap()
            .success()
    });
    let outcome = job.run(&["logout"]);
    assert_eq!(outcome.code, Some(0));
    assert!(outcome.stderr.contains("azfed: warning: a process still holds the lock"), "{}", outcome.stderr);
    assert!(job.left_in_temp().is_empty());
    holder.kill().unwrap();
    holder.wait().unwrap();
}

/// Whoever can write into the login's directory must not turn a renewed assertion to another file.
#[test]
fn renewal_follows_no_link() {
    use std::os::unix::fs::symlink;
    let job = Job::new(Platform::Github);
    job.emulator.set(|settings| settings.assertion_lifetime_s = Some(4));
    login(&job, &[]);
    let directory = only_login(&job);
    let elsewhere = job.directory.path().join("workspace");
    fs::rename(directory.join("azure"), &elsewhere).unwrap();
    symlink(&elsewhere, directory.join("azure")).unwrap();
    let file = job.directory.path().join("other");
    fs::rename(directory.join("assertion"), &file).unwrap();
    symlink(&file, directory.join("assertion")).unwrap();
    let content = || {
        let entries = fs::read_to_string(elsewhere.join("service_principal_entries.json")).unwrap();
        (entries, fs::read_to_string(&file).unwrap())
    };
    let before = content();
    let log = || fs::read_to_string(directory.join("keeper/log")).unwrap();
    wait_until("it says so", 20, || log().contains("renewed, but not written: "));
    std::thread::sleep(Duration::from_secs(2));
    assert_eq!(content(), before);
    // the login's own directory in another's place
    let moved = job.directory.path().join("moved");
    fs::rename(&directory, &moved).unwrap();
    symlink(&elsewhere, &directory).unwrap();
    let outcome = job.run(&["logout"]);
    assert_eq!(content(), before, "{}", outcome.stderr);
    fs::remove_file(&directory).unwrap();
}

/// Times that no clock will ever show.
#[test]
fn huge_times_are_taken_for_long_ones() {
    use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
    let jwt = |claims: &serde_json::Value| {
        format!(
            "eyJhbGciOiJSUzI1NiJ9.{}.c2lnbmF0dXJlc2lnbmF0dXJl",
            URL_SAFE_NO_PAD.encode(claims.to_string())
        )
    };
    let answer = |body: &serde_json::Value| Action::Status {
        status: 200,
        body: body.to_string(),
        headers: [("retry-after".to_owned(), u64::MAX.to_string())].into(),
    };
    let audience = "api://AzureADTokenExchange";
    let job = Job::new(Platform::Github);
    for (exp, iat) in [(json!(u64::MAX), json!(0)), (json!(1e300), json!(-1)), (json!(0), json!(u64::MAX))] {
        for expires_in in [json!(u64::MAX), json!(u64::MAX.to_string()), json!(0)] {
            job.emulator.reset();
            let assertion =
                jwt(&json!({ "iss": "https://i", "sub": "s", "aud": audience, "exp": exp, "iat": iat }));
            job.fault("github.assertion", 0, answer(&json!({ "value": assertion })));
            let token = json!({
                "token_type": "Bearer",
                "expires_in": expires_in,
                "access_token": jwt(&json!({ "oid": "o", "exp": exp })),
            });
            job.fault("entra.token", 0, answer(&token));
            let what = format!("{exp} {iat} {expires_in}");
            let outcome = login(&job, &["--endpoints"]);
            assert!(!outcome.stderr.contains("panicked"), "{what}: {}", outcome.stderr);
            let directory = only_login(&job);
            std::thread::sleep(Duration::from_millis(300));
            let log = fs::read_to_string(directory.join("keeper/log")).unwrap();
            assert!(is_alive(keeper_of(&directory)) && !log.contains("panicked"), "{what}: {log}");
            for command in [&["exec", "--", "true"][..], &["doctor", "--timeout", "2"]] {
                let outcome = job.run(command);
                assert!(!outcome.stderr.contains("panicked"), "{what}: {}", outcome.stderr);
            }
            let outcome = job.run(&["logout"]);
            assert!(!outcome.stderr.contains("had ended before"), "{what}: {}", outcome.stderr);
        }
    }
}
