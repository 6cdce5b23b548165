//! `azfed exec`: its endpoints as a client and as a stranger see them, its child, its end.

use std::{
    collections::BTreeMap,
    fs,
    io::{Read, Write},
    net::TcpStream,
    process::{Child, Stdio},
    time::{Duration, Instant},
};

use azfed_emulator::{Action, Platform, world};

use crate::harness::{self, Job, Outcome, status};

/// A running `exec` whose child has told its environment and waits.
struct Running {
    child: Child,
    environment: BTreeMap<String, String>,
}

impl Running {
    fn start(job: &Job, arguments: &[&str]) -> Self {
        let file = job.path("child-environment");
        let script = format!("env > {file}.part && mv {file}.part {file} && exec sleep 30");
        let arguments = [&["exec", "-v"], arguments, &["--", "sh", "-c", &script]].concat();
        let child = job.command(&arguments).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        let deadline = Instant::now() + Duration::from_secs(10);
        while !fs::exists(&file).unwrap() {
            assert!(Instant::now() < deadline, "the child did not start");
            std::thread::sleep(Duration::from_millis(10));
        }
        let environment = fs::read_to_string(&file).unwrap();
        let pairs = environment.lines().filter_map(|line| line.split_once('='));
        Self { environment: pairs.map(|(name, value)| (name.to_owned(), value.to_owned())).collect(), child }
    }

    fn port(&self) -> u16 {
        harness::port_and_path(&self.environment["IDENTITY_ENDPOINT"]).0
    }

    fn send(&self, request: &str) -> (u16, String, String) {
        harness::send(self.port(), request)
    }

    fn get(&self, path: &str, headers: &[(&str, &str)]) -> (u16, String, String) {
        harness::get(self.port(), path, headers)
    }

    fn token(&self, query: &str) -> (u16, String, String) {
        let path = format!("/msi/token?api-version=2019-08-01&{query}");
        self.get(&path, &[("X-IDENTITY-HEADER", &self.environment["IDENTITY_HEADER"])])
    }

    fn end(mut self, signal: &str) -> Outcome {
        let killed =
            std::process::Command::new("kill").args([signal, &self.child.id().to_string()]).status().unwrap();
        assert!(killed.success());
        let mut outcome =
            Outcome { code: self.child.wait().unwrap().code(), stdout: String::new(), stderr: String::new() };
        self.child.stdout.take().unwrap().read_to_string(&mut outcome.stdout).unwrap();
        self.child.stderr.take().unwrap().read_to_string(&mut outcome.stderr).unwrap();
        outcome
    }
}

const ARM: &str = "resource=https%3A%2F%2Fmanagement.azure.com";

#[test]
fn a_command_without_the_mark_before_it() {
    let outcome = Job::new(Platform::Gitlab).run(&["exec", "terraform", "apply"]);
    assert_eq!(outcome.code, Some(2));
    let hint = "\nazfed: hint: the command stands behind `--`: azfed exec [OPTIONS] -- COMMAND\n";
    assert!(outcome.stderr.ends_with(hint), "{}", outcome.stderr);
}

#[test]
fn the_endpoints_forms() {
    let job = Job::new(Platform::Gitlab);
    let running = Running::start(&job, &[]);
    let (status, head, body) = running.token(ARM);
    assert_eq!(status, 200, "{body}");
    assert!(head.contains("cache-control: no-store") && head.contains("content-type: application/json"));
    let token: serde_json::Value = serde_json::from_str(&body).unwrap();
    assert_eq!(token["client_id"], world::IDENTITY);
    assert_eq!(token["resource"], "https://management.azure.com");
    assert_eq!(token["token_type"], "Bearer");
    assert!(token["expires_on"].as_str().unwrap().parse::<u64>().is_ok());

    let secret = &running.environment["MSI_SECRET"];
    let (status, _, body) =
        running.get(&format!("/msi/token?api-version=2017-09-01&{ARM}"), &[("secret", secret)]);
    assert_eq!(status, 200, "{body}");
    assert!(body.contains(" +00:00\""), "{body}");

    let (_, metadata) = harness::port_and_path(&running.environment["ARM_MSI_ENDPOINT"]);
    let path = format!("{metadata}?api-version=2018-02-01&{ARM}&client_id={}", world::IDENTITY);
    assert_eq!(running.get(&path, &[("Metadata", "true")]).0, 200);
    assert_eq!(running.get(&path, &[]).0, 400);

    let bearer = format!("Bearer {}", running.environment["ARM_OIDC_REQUEST_TOKEN"]);
    let (status, _, body) =
        running.get("/oidc/token?audience=api%3A%2F%2FAzureADTokenExchange", &[("Authorization", &bearer)]);
    let issued: serde_json::Value = serde_json::from_str(&body).unwrap();
    assert_eq!((status, issued["value"].as_str()), (200, Some(job.environment["AZURE_ID_TOKEN"].as_str())));
    assert_eq!(
        running.get("/oidc/token?audience=https%3A%2F%2Felsewhere", &[("Authorization", &bearer)]).0,
        503
    );
    // Azure DevOps' form
    let post = |authorization: &str| {
        let query = "api-version=7.1&audience=api%3A%2F%2FAzureADTokenExchange&serviceConnectionId=x";
        running.send(&format!(
            "POST /oidc/token?{query} HTTP/1.1\r\nHost: 127.0.0.1:{}\r\nAuthorization: {authorization}\r\nContent-Length: 0\r\nConnection: close\r\n\r\n",
            running.port()
        ))
    };
    let (status, _, body) = post(&bearer);
    let issued: serde_json::Value = serde_json::from_str(&body).unwrap();
    assert_eq!(
        (status, issued["oidcToken"].as_str()),
        (200, Some(job.environment["AZURE_ID_TOKEN"].as_str()))
    );
    assert_eq!(post("Bearer x").0, 401);

    for name in ["AZURE_FEDERATED_TOKEN_FILE", "ARM_OIDC_TOKEN_FILE_PATH", "AZFED_LOGIN_DIR"] {
        assert!(!running.environment.contains_key(name), "{name}");
    }
    let outcome = running.end("-TERM");
    assert_eq!(outcome.code, Some(143), "{outcome:?}");
    assert!(
        outcome.stderr.contains("azfed: sh asked for https://management.azure.com: 3\n"),
        "{}",
        outcome.stderr
    );
    assert_eq!(job.leaks(&outcome.all()), Vec::<String>::new());
    assert!(job.left_in_temp().is_empty());
}

#[test]
fn strangers_get_nothing() {
    let job = Job::new(Platform::Github);
    let running = Running::start(&job, &["--allow-scope", "https://management.azure.com"]);
    let key = running.environment["IDENTITY_HEADER"].clone();
    let path = format!("/msi/token?api-version=2019-08-01&{ARM}");
    let right = ("X-IDENTITY-HEADER", key.as_str());
    let mut wrong = key.clone();
    wrong.replace_range(63.., if key.ends_with('0') { "1" } else { "0" });
    for (headers, expected) in [
        (vec![], 401),
        (vec![("X-IDENTITY-HEADER", "")], 401),
        (vec![("X-IDENTITY-HEADER", wrong.as_str())], 401),
        (vec![("secret", key.as_str())], 401),
        (vec![("Metadata", "true")], 401),
        (vec![right, ("Origin", "https://evil.example")], 403),
        (vec![right, ("X-Forwarded-For", "10.0.0.1")], 403),
        (vec![right], 200),
    ] {
        let (status, _, body) = running.get(&path, &headers);
        assert_eq!(status, expected, "{headers:?}");
        assert!(expected == 200 || body.is_empty(), "{headers:?}: {body}");
    }
    let request = |method: &str, host: &str| {
        format!(
            "{method} {path} HTTP/1.1\r\nHost: {host}\r\nX-IDENTITY-HEADER: {key}\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"
        )
    };
    let own = format!("127.0.0.1:{}", running.port());
    assert_eq!(running.send(&request("GET", "evil.example")).0, 421);
    assert_eq!(running.send(&request("GET", &own.replace("127.0.0.1", "127.0.0.2"))).0, 421);
    assert_eq!(running.send(&request("POST", &own)).0, 405);
    for path in
        ["/", "/oidc/token", "/metadata/identity/oauth2/token?resource=x", "//metadata/identity/oauth2/token"]
    {
        assert_eq!(running.get(path, &[("Metadata", "true")]).0, 401, "{path}");
    }
    // another identity, another resource, no resource
    let other = format!("{ARM}&client_id={}", world::APPLICATION);
    assert!(matches!(running.token(&other), (400, _, body) if body.contains("Identity not found")));
    assert_eq!(running.token(&format!("{ARM}&mi_res_id=/x")).0, 400);
    assert!(
        matches!(running.token("resource=https%3A%2F%2Fvault.azure.net"), (403, _, body) if body.contains("--allow-scope"))
    );
    assert_eq!(running.token("resource=nonsense").0, 400);
    assert_eq!(running.token("").0, 400);
    // a head that never ends
    let long = format!("GET / HTTP/1.1\r\nHost: {own}\r\nX: {}\r\n\r\n", "x".repeat(100_000));
    let mut stream = TcpStream::connect(("127.0.0.1", running.port())).unwrap();
    let _ = stream.write_all(long.as_bytes());
    // clients that say nothing hold up no other
    let silent: Vec<TcpStream> =
        (0..100).map(|_| TcpStream::connect(("127.0.0.1", running.port())).unwrap()).collect();
    assert_eq!(running.token(ARM).0, 200);
    drop(silent);
    let asked = job.emulator.requests().into_iter().filter(|request| request.kind == "entra.token").count();
    assert_eq!(asked, 1);
    running.end("-KILL");
}

#[test]
fn one_request_a_resource_however_many_ask() {
    let job = Job::new(Platform::Github);
    let running = Running::start(&job, &[]);
    job.fault("entra.token", 0, Action::Delay { ms: 300 });
    std::thread::scope(|scope| {
        let asking: Vec<_> = (0..64)
            .map(|_| scope.spawn(|| running.token("resource=https%3A%2F%2Fvault.azure.net").0))
            .collect();
        for answer in asking {
            assert_eq!(answer.join().unwrap(), 200);
        }
    });
    let for_vault = job.emulator.requests().into_iter().filter(|request| {
        request
            .form
            .iter()
            .any(|(name, value)| name == "scope" && value.starts_with("https://vault.azure.net"))
    });
    assert_eq!(for_vault.count(), 1);
    running.end("-TERM");
}

#[test]
fn entra_away_for_a_while() {
    let job = Job::new(Platform::Github);
    job.emulator.set(|settings| settings.access_token_lifetime_s = Some(8));
    let running = Running::start(&job, &["--timeout", "1"]);
    job.fault("entra.token", 0, status(503, &[]));
    // what is at hand goes on being served, and nothing is lost
    assert_eq!(running.token(ARM).0, 200);
    let (code, head, body) = running.token("resource=https%3A%2F%2Fvault.azure.net");
    assert_eq!(code, 503, "{body}");
    assert!(head.contains("\r\nretry-after: "), "{head}");
    std::thread::sleep(Duration::from_secs(4));
    assert_eq!(running.token(ARM).0, 503);
    job.emulator.reset();
    assert_eq!(running.token(ARM).0, 200);
    assert_eq!(running.token("resource=https%3A%2F%2Fvault.azure.net").0, 200);
    // a refusal is told as one
    assert!(
        matches!(running.token("resource=https%3A%2F%2Fnowhere.example"), (400, _, body) if body.contains("AADSTS500011"))
    );
    running.end("-TERM");
}

#[test]
fn who_waits_while_entra_is_away_is_answered_with_the_others() {
    let job = Job::new(Platform::Github);
    let running = Running::start(&job, &["--timeout", "2"]);
    job.fault("entra.token", 0, status(503, &[]));
    let started = Instant::now();
    std::thread::scope(|scope| {
        let asking: Vec<_> = (0..8)
            .map(|_| scope.spawn(|| running.token("resource=https%3A%2F%2Fvault.azure.net").0))
            .collect();
        for answer in asking {
            assert_eq!(answer.join().unwrap(), 503);
        }
    });
    assert!(started.elapsed() < Duration::from_secs(5), "one after the other: {:?}", started.elapsed());
    let outcome = running.end("-TERM");
    let told = "azfed: warning: asked in vain for https://vault.azure.net: ";
    assert_eq!(outcome.stderr.matches(told).count(), 1, "{}", outcome.stderr);
    assert!(outcome.stderr.contains("asked for https://vault.azure.net (in vain): 8"), "{}", outcome.stderr);
}

#[test]
fn a_list_of_resources_limits_what_is_asked_for() {
    let job = Job::new(Platform::Gitlab);
    let running = Running::start(&job, &["--allow-scope", "https://management.azure.com"]);
    // both names of Resource Manager are one resource: az asks by the other
    let asked = job.emulator.requests().len();
    assert_eq!(running.token(ARM).0, 200);
    assert_eq!(running.token("resource=https%3A%2F%2Fmanagement.core.windows.net%2F").0, 200);
    assert_eq!(job.emulator.requests().len(), asked, "one resource, one request");
    let (code, _, body) = running.token("resource=https%3A%2F%2Fvault.azure.net");
    assert_eq!(code, 403);
    let body: serde_json::Value = serde_json::from_str(&body).unwrap();
    assert_eq!((&body["statusCode"], &body["message"]), (&403.into(), &body["error_description"]));
    // the OIDC token itself opens everything
    for name in ["ARM_OIDC_REQUEST_URL", "ARM_OIDC_REQUEST_TOKEN", "AZURE_ID_TOKEN"] {
        assert!(!running.environment.contains_key(name), "{name}");
    }
    assert_eq!(running.environment["ARM_USE_MSI"], "true");
    let (_, path) = harness::port_and_path(&running.environment["ARM_MSI_ENDPOINT"]);
    let metadata = |resource: &str| {
        let query = format!("{path}?api-version=2018-02-01&resource={resource}");
        running.get(&query, &[("Metadata", "true")]).0
    };
    assert_eq!((metadata("https://management.azure.com"), metadata("https://storage.azure.com")), (200, 403));
    let outcome = running.end("-TERM");
    for told in [
        "azfed: warning: asked in vain for https://vault.azure.net: it is not on the list: add `--allow-scope https://vault.azure.net`\n",
        "the command does not get AZURE_ID_TOKEN\n",
        "asked for https://storage.azure.com (in vain): 1\n",
    ] {
        assert!(outcome.stderr.contains(told), "{told}: {}", outcome.stderr);
    }
}

#[test]
fn another_logins_variables_are_not_passed_on() {
    let mut job = Job::new(Platform::Github);
    for (name, value) in [
        ("IDENTITY_ENDPOINT", "http://127.0.0.1:1/other"),
        ("IDENTITY_HEADER", "other"),
        ("ARM_MSI_ENDPOINT", "http://127.0.0.1:1/other"),
        ("ARM_OIDC_REQUEST_URL", "http://127.0.0.1:1/other"),
        ("ARM_OIDC_REQUEST_TOKEN", "other"),
        ("ARM_CLIENT_ID", world::APPLICATION),
        ("AZURE_CONFIG_DIR", "/tmp/azfed-abcdefghijkl/azure"),
        ("AZURE_TOKEN_CREDENTIALS", "AzureCliCredential"),
        ("AZURE_FEDERATED_TOKEN", "other"),
    ] {
        job.set(name, value);
    }
    for consumer in ["az", "sdk", "terraform"] {
        let command = ["exec", "--client-id", world::IDENTITY, "--for", consumer, "--", "/usr/bin/env"];
        let outcome = job.run(&command);
        assert_eq!(outcome.code, Some(0), "{}", outcome.stderr);
        for other in ["/other", "=other", world::APPLICATION, "azfed-abcdefghijkl", "AzureCliCredential"] {
            assert!(!outcome.stdout.contains(other), "{consumer}: {other} in {}", outcome.stdout);
        }
    }
    // the user's own stay
    job.set("ARM_CLIENT_ID", world::IDENTITY);
    job.set("AZURE_CONFIG_DIR", "/home/user/.azure");
    let outcome = job.run(&["exec", "--for", "sdk", "--", "/usr/bin/env"]);
    assert!(outcome.stdout.contains("AZURE_CONFIG_DIR=/home/user/.azure\n"), "{}", outcome.stdout);
    assert!(outcome.stdout.contains(&format!("ARM_CLIENT_ID={}\n", world::IDENTITY)), "{}", outcome.stdout);
}

#[test]
fn no_proxy_learns_what_the_command_asks() {
    let mut job = Job::new(Platform::Gitlab);
    let lines = |job: &Job| {
        let outcome = job.run(&["exec", "--", "/usr/bin/env"]);
        let mut lines: Vec<String> = outcome
            .stdout
            .lines()
            .filter(|line| line.to_ascii_lowercase().starts_with("no_proxy="))
            .map(ToOwned::to_owned)
            .collect();
        lines.sort();
        lines
    };
    assert_eq!(lines(&job), Vec::<String>::new());
    job.set("http_proxy", "http://127.0.0.1:9");
    assert_eq!(lines(&job), ["NO_PROXY=127.0.0.1,localhost", "no_proxy=127.0.0.1,localhost"]);
    job.set("NO_PROXY", "example.com, localhost");
    assert_eq!(
        lines(&job),
        ["NO_PROXY=example.com, localhost,127.0.0.1", "no_proxy=example.com, localhost,127.0.0.1"]
    );
}

#[test]
fn one_parameter_has_one_value() {
    let job = Job::new(Platform::Gitlab);
    let running = Running::start(&job, &[]);
    let (own, other) = (world::IDENTITY, world::APPLICATION);
    for (more, status) in [
        (format!("client_id={own}"), 200),
        (format!("client_id={other}&client_id={other}"), 400),
        (format!("client_id={own}&client_id={own}"), 400),
        (format!("client_id={own}&clientid={other}"), 400),
        (format!("Client_ID={other}"), 400),
        (format!("CLIENTID={other}"), 400),
        ("object_id=a&object_id=b".to_owned(), 400),
        ("msi_res_id=%2Fsubscriptions%2Fx".to_owned(), 400),
        ("resource=https%3A%2F%2Fvault.azure.net".to_owned(), 400),
    ] {
        assert_eq!(running.token(&format!("{ARM}&{more}")).0, status, "{more}");
    }
    let token = format!("Bearer {}", running.environment["ARM_OIDC_REQUEST_TOKEN"]);
    let ask = |query: &str| running.get(&format!("/oidc/token?{query}"), &[("Authorization", &token)]).0;
    assert_eq!((ask("audience=api%3A%2F%2FAzureADTokenExchange"), ask("audience=a&audience=a")), (200, 400));
    running.end("-TERM");
}

/// A signal to the whole group, as a terminal, `timeout` and runners send it, reaches the command once.
#[cfg(unix)]
#[test]
fn a_signal_to_the_group_arrives_once() {
    use std::os::unix::process::CommandExt;
    let job = Job::new(Platform::Gitlab);
    let (ready, count) = (job.path("ready"), job.path("count"));
    let script = format!(
        "trap 'echo x >>{count}' INT; touch {ready}; for i in 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15; do sleep 0.1; done; exit 5"
    );
    let mut child = job
        .command(&["exec", "--", "env", "--default-signal=INT", "sh", "-c", &script])
        .env("PATH", "/usr/bin:/bin")
        .process_group(0)
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let started = Instant::now();
    while !fs::exists(&ready).unwrap() {
        assert!(started.elapsed() < Duration::from_secs(30), "the command did not start");
        std::thread::sleep(Duration::from_millis(10));
    }
    let group = format!("-{}", child.id());
    let killed = std::process::Command::new("kill").args(["-INT", "--", &group]).status().unwrap();
    assert!(killed.success());
    assert_eq!(child.wait().unwrap().code(), Some(5));
    assert_eq!(job.read("count"), "x\n");
}

/// What the command has started itself, and the directory, too.
#[cfg(target_os = "linux")]
#[test]
fn a_killed_azfed_leaves_nothing() {
    let job = Job::new(Platform::Gitlab);
    let pids = job.path("pids");
    // one of them takes no notice of SIGTERM
    let script = format!(
        "sh -c 'trap \"\" TERM; echo $$ >{pids}.part; sleep 60' & while ! [ -s {pids}.part ]; do sleep 0.01; done; \
         echo $$ >>{pids}.part; mv {pids}.part {pids}; wait"
    );
    let mut child = job
        .command(&["exec", "--", "/bin/sh", "-c", &script])
        .env("PATH", "/usr/bin:/bin")
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let started = Instant::now();
    let in_time = |what: &str| assert!(started.elapsed() < Duration::from_secs(50), "{what}");
    while !fs::exists(&pids).unwrap() {
        in_time("the command did not start");
        std::thread::sleep(Duration::from_millis(10));
    }
    assert!(!job.left_in_temp().is_empty());
    child.kill().unwrap();
    child.wait().unwrap();
    let is_alive = |pid: &str| {
        let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
        stat.rsplit(") ").next().is_some_and(|rest| !rest.is_empty() && !rest.starts_with('Z'))
    };
    for pid in job.read("pids").lines() {
        while is_alive(pid) {
            in_time("what the command had started goes on");
            std::thread::sleep(Duration::from_millis(10));
        }
    }
    while !job.left_in_temp().is_empty() {
        in_time("the directory stays");
        std::thread::sleep(Duration::from_millis(10));
    }
}

#[test]
fn one_exec_in_another_where_the_first_token_was_a_file() {
    let job = Job::new(Platform::Kubernetes);
    let azfed = env!("CARGO_BIN_EXE_azfed");
    let inner = format!("{azfed} exec --client-id {} -- /usr/bin/true", world::APPLICATION);
    let outcome = job.run(&["exec", "--", "/bin/sh", "-c", &inner]);
    assert_eq!(outcome.code, Some(3), "{}", outcome.stderr);
    let hint = "azfed: hint: this is the endpoint of another azfed, around this one";
    assert!(outcome.stderr.contains(hint) && !outcome.stderr.contains("az webapp"), "{}", outcome.stderr);
    // as the same identity it works, by the endpoint
    let inner = format!("{azfed} token >/dev/null && {azfed} exec -- /bin/echo inner");
    let outcome = job.run(&["exec", "--", "/bin/sh", "-c", &inner]);
    assert_eq!((outcome.code, outcome.stdout.as_str()), (Some(0), "inner\n"), "{}", outcome.stderr);
}

#[test]
fn the_commands_end_is_azfeds() {
    let job = Job::new(Platform::Gitlab);
    for (command, code) in [
        (&["true"][..], 0),
        (&["sh", "-c", "exit 7"], 7),
        (&["sh", "-c", "kill -9 $$"], 137),
        (&["azfed-is-not-a-command"], 127),
        (&["/"], 126),
        (&["sh", "-c", "sleep 5 & exit 3"], 3),
    ] {
        let started = Instant::now();
        let mut exec = job.command(&[&["exec", "--"], command].concat());
        let outcome = Outcome::of(&exec.stderr(Stdio::piped()).stdout(Stdio::null()).output().unwrap());
        assert_eq!(outcome.code, Some(code), "{command:?}: {}", job.show(&outcome));
        assert!(started.elapsed() < Duration::from_secs(8), "{command:?}");
        assert!(job.left_in_temp().is_empty(), "{command:?}");
    }
    let outcome = job.run(&["exec", "--", "azfed-is-not-a-command"]);
    let expected = "azfed: error: azfed-is-not-a-command could not be run: No such file or directory (os error 2)\n\
                    azfed: hint: the command follows `--`: azfed exec -- terraform apply\n";
    assert_eq!(outcome.stderr, expected);
    assert_eq!(job.run(&["exec"]).code, Some(2));
}

#[test]
fn signals_are_passed_on() {
    for (signal, code) in [("-INT", 11), ("-TERM", 12), ("-HUP", 13)] {
        let job = Job::new(Platform::Gitlab);
        let ready = job.path("ready");
        let script = format!(
            "trap 'exit 11' INT; trap 'exit 12' TERM; trap 'exit 13' HUP; touch {ready}; while :; do sleep 0.05; done"
        );
        // a shell cannot trap what was ignored when it started, as everything is below nohup
        let mut child = job
            .command(&["exec", "--", "env", "--default-signal=INT,TERM,HUP", "sh", "-c", &script])
            .env("PATH", "/usr/bin:/bin")
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let started = Instant::now();
        while !fs::exists(&ready).unwrap() {
            assert!(started.elapsed() < Duration::from_secs(30), "the command did not start");
            std::thread::sleep(Duration::from_millis(10));
        }
        let killed =
            std::process::Command::new("kill").args([signal, &child.id().to_string()]).status().unwrap();
        assert!(killed.success());
        assert_eq!(child.wait().unwrap().code(), Some(code), "{signal}");
        assert!(job.left_in_temp().is_empty());
    }
}

#[cfg(target_os = "linux")]
#[test]
fn a_killed_azfed_takes_the_command_with_it() {
    let job = Job::new(Platform::Gitlab);
    let started = Instant::now();
    let running = Running::start(&job, &[]);
    let outcome = running.end("-KILL");
    // the command holds the other end of the pipes: they are at their end only when it has gone too
    assert_eq!(outcome.code, None);
    assert!(started.elapsed() < Duration::from_secs(10), "the command went on");
}

#[test]
fn one_exec_in_another() {
    let job = Job::new(Platform::Github);
    let azfed = env!("CARGO_BIN_EXE_azfed");
    let script = format!(
        "echo outer $AZURE_CLIENT_ID; {azfed} exec --client-id {} -- sh -c 'echo inner $AZURE_CLIENT_ID $ARM_CLIENT_ID'; echo $?",
        world::APPLICATION
    );
    let outcome = job.run(&["exec", "--", "sh", "-c", &script]);
    let expected =
        format!("outer {}\ninner {} {}\n0\n", world::IDENTITY, world::APPLICATION, world::APPLICATION);
    assert_eq!((outcome.code, outcome.stdout.as_str()), (Some(0), expected.as_str()), "{}", outcome.stderr);
}

#[test]
fn a_login_that_does_not_work_starts_nothing() {
    let mut job = Job::new(Platform::Github);
    job.set("AZURE_CLIENT_ID", world::BARE_IDENTITY);
    let outcome = job.run(&["exec", "--", "touch", "started"]);
    assert_eq!(outcome.code, Some(4), "{}", job.show(&outcome));
    assert!(outcome.stderr.contains("AADSTS70025") && !fs::exists(job.path("started")).unwrap());
}

/// Asks for a token, and says which one it is.
fn token_of(running: &Running) -> String {
    let (status, _, body) = running.token(ARM);
    assert_eq!(status, 200, "{body}");
    let token: serde_json::Value = serde_json::from_str(&body).unwrap();
    token["access_token"].as_str().unwrap().to_owned()
}

/// libfaketime sets this process' wall clock, and leaves the steady one alone.
#[cfg(target_os = "linux")]
#[test]
fn a_clock_that_is_set_meanwhile() {
    let library = "/usr/lib/x86_64-linux-gnu/faketime/libfaketimeMT.so.1";
    assert!(
        fs::exists(library).unwrap(),
        "{library} is missing: `./test.sh install`, or apt-get install libfaketime"
    );
    let mut job = Job::new(Platform::Github);
    job.emulator.set(|settings| settings.access_token_lifetime_s = Some(12));
    let clock = job.path("clock");
    let set = |offset: &str| fs::write(&clock, offset).unwrap();
    set("+0");
    for (name, value) in [
        ("LD_PRELOAD", library),
        ("FAKETIME_TIMESTAMP_FILE", &clock),
        ("FAKETIME_NO_CACHE", "1"),
        ("FAKETIME_DONT_FAKE_MONOTONIC", "1"),
        ("DONT_FAKE_MONOTONIC", "1"),
    ] {
        job.set(name, value);
    }
    let running = Running::start(&job, &[]);
    let first = token_of(&running);
    set("-1h");
    assert_eq!(token_of(&running), first, "it is as young as before");
    std::thread::sleep(Duration::from_secs(8));
    let second = token_of(&running);
    assert_ne!(second, first, "by the clock that was set back it would live for an hour");
    let (_, _, body) = running.token(ARM);
    let answer: serde_json::Value = serde_json::from_str(&body).unwrap();
    let number = |name: &str| answer[name].as_str().unwrap().parse::<u64>().unwrap();
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().as_secs() - 3600;
    assert!(
        number("expires_in") <= 12 && number("expires_on").abs_diff(now + number("expires_in")) <= 3,
        "{body}"
    );
    set("+2h");
    assert_ne!(token_of(&running), second, "by the clock that was set forward it has ended");
    running.end("-TERM");
}
