//! Identities that the host has: each endpoint's own form, its refusals, what later steps get, and what lies behind.

use std::{collections::BTreeMap, fs, path::Path};

use azfed_emulator::{
    Action, FederatedCredential, Host, JobOverrides, Platform, Recorded, ServiceFabricCertificate,
    world::{self, HostIdentity},
};
use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use serde_json::Value;

use crate::harness::{self, Job, Outcome, assert_shown, status};

/// How each endpoint is asked: its path, api-version and headers, and what it calls client, object and resource ids
/// where it knows them.
struct Form {
    host: Host,
    kind: &'static str,
    path: &'static str,
    version: &'static str,
    headers: &'static [&'static str],
    selectors: [Option<&'static str>; 3],
}

const FORMS: [Form; 8] = [
    Form {
        host: Host::Imds,
        kind: "imds",
        path: "/metadata/identity/oauth2/token",
        version: "2018-02-01",
        headers: &["metadata"],
        selectors: [Some("client_id"), Some("object_id"), Some("msi_res_id")],
    },
    Form {
        host: Host::AppService,
        kind: "app-service",
        path: "/msi/token",
        version: "2019-08-01",
        headers: &["x-identity-header"],
        selectors: [Some("client_id"), Some("object_id"), Some("mi_res_id")],
    },
    Form {
        host: Host::ContainerApps,
        kind: "app-service",
        path: "/msi/token",
        version: "2019-08-01",
        headers: &["x-identity-header"],
        selectors: [Some("client_id"), Some("object_id"), Some("mi_res_id")],
    },
    Form {
        host: Host::AppService2017,
        kind: "app-service",
        path: "/msi/token",
        version: "2017-09-01",
        headers: &["secret"],
        selectors: [Some("clientid"), None, None],
    },
    Form {
        host: Host::Automation,
        kind: "automation",
        path: "/automation/oauth2/token",
        version: "2019-08-01",
        headers: &["metadata", "x-identity-header"],
        selectors: [Some("client_id"), None, None],
    },
    Form {
        host: Host::ServiceFabric,
        kind: "service-fabric",
        path: "/metadata/identity/oauth2/token",
        version: "2019-07-01-preview",
        headers: &["secret"],
        selectors: [None, None, None],
    },
    Form {
        host: Host::AzureMl,
        kind: "azure-ml",
        path: "/azure-ml/token",
        version: "2017-09-01",
        headers: &["secret"],
        selectors: [Some("clientid"), None, None],
    },
    Form {
        host: Host::CloudShell,
        kind: "cloud-shell",
        path: "/cloud-shell/oauth2/token",
        version: "",
        headers: &["metadata"],
        selectors: [None, None, None],
    },
];

fn claims(jwt: &str) -> Value {
    let payload = jwt.split('.').nth(1).unwrap();
    serde_json::from_slice(&URL_SAFE_NO_PAD.decode(payload).unwrap()).unwrap()
}

fn asked(job: &Job, kind: &str) -> Vec<Recorded> {
    job.emulator.requests().into_iter().filter(|request| request.kind == kind).collect()
}

fn ok(job: &Job, arguments: &[&str]) -> Outcome {
    let outcome = job.run(arguments);
    assert_eq!(outcome.code, Some(0), "{arguments:?} {}", job.show(&outcome));
    assert_eq!(job.leaks(&outcome.stderr), Vec::<String>::new(), "{arguments:?}");
    outcome
}

/// Only these user-assigned identities, and perhaps the system-assigned one.
fn has(job: &Job, system_assigned: bool, user_assigned: &[HostIdentity]) {
    job.emulator.set(|settings| {
        settings.system_assigned = system_assigned;
        settings.user_assigned = user_assigned.to_vec();
    });
}

#[test]
fn each_endpoint_is_asked_in_its_own_form() {
    for form in FORMS {
        let job = Job::on(form.host);
        let uami = HostIdentity::infra_prod();
        let ids = [&uami.client_id, &uami.object_id, &uami.resource_id];
        let flags = ["--client-id", "--object-id", "--resource-id"];
        let choices = flags.into_iter().zip(ids).zip(form.selectors);
        let chosen = choices.map(|((flag, id), name)| Some((flag, id.as_str(), name)));
        for choice in std::iter::once(None).chain(chosen) {
            let flags: Vec<&str> = choice.iter().flat_map(|(flag, id, _)| [*flag, *id]).collect();
            let arguments =
                [&["token", "--scope", "https://vault.azure.net", "-v"], flags.as_slice()].concat();
            let before = asked(&job, form.kind).len();
            if let Some((_, _, None)) = choice {
                let outcome = job.run(&arguments);
                assert_eq!(outcome.code, Some(2), "{} {}", form.kind, job.show(&outcome));
                let way_out = ["pass `--client-id`", "leave the flag away"];
                assert!(way_out.iter().any(|way| outcome.stderr.contains(way)), "{}", outcome.stderr);
                assert_eq!(asked(&job, form.kind).len(), before, "asked in vain");
                continue;
            }
            let outcome = ok(&job, &arguments);
            let token = claims(outcome.stdout.trim_end());
            let object = match (form.host, choice) {
                (Host::CloudShell, _) => world::OPERATOR_OBJECT,
                (_, None) => world::SYSTEM_IDENTITY_OBJECT,
                (_, Some(_)) => world::IDENTITY_OBJECT,
            };
            assert_eq!(token["oid"], object, "{} {flags:?}", form.kind);
            assert_eq!(token["aud"], "https://vault.azure.net");
            let requests = asked(&job, form.kind);
            let [request] = &requests[before..] else { panic!("{requests:?}") };
            assert_eq!(request.path, form.path);
            let resource = ("resource".to_owned(), "https://vault.azure.net".to_owned());
            for header in form.headers {
                assert!(request.headers.contains_key(*header), "{}: no {header}", form.kind);
            }
            assert!(!request.headers.contains_key("x-forwarded-for"));
            if form.host == Host::CloudShell {
                assert_eq!(
                    (request.method.as_str(), &request.query, &request.form),
                    ("POST", &vec![], &vec![resource])
                );
                continue;
            }
            let mut query = BTreeMap::from([("api-version".to_owned(), form.version.to_owned()), resource]);
            query.extend(choice.and_then(|(_, id, name)| Some((name?.to_owned(), id.to_owned()))));
            if choice.is_none() && form.host == Host::AzureMl {
                // what the compute says is its own
                query.insert("clientid".to_owned(), job.environment["DEFAULT_IDENTITY_CLIENT_ID"].clone());
            }
            assert_eq!(request.method, "GET");
            assert_eq!(request.query.iter().cloned().collect::<BTreeMap<_, _>>(), query, "{}", form.kind);
            assert_eq!(request.query.len(), query.len(), "{}", form.kind);
        }
    }
}

#[test]
fn a_variable_for_others_does_not_choose_where_nobody_may() {
    for host in [Host::ServiceFabric, Host::CloudShell] {
        let mut job = Job::on(host);
        job.set("AZURE_CLIENT_ID", world::IDENTITY);
        ok(&job, &["token"]);
    }
}

#[test]
fn service_fabric_is_known_by_its_certificate() {
    let job = Job::on(Host::ServiceFabric);
    for certificate in [ServiceFabricCertificate::Wrong, ServiceFabricCertificate::Signed] {
        job.emulator.set(|settings| settings.service_fabric_certificate = certificate);
        // an authority that is trusted elsewhere counts for nothing here
        let ca = job.path("ca.pem");
        fs::write(&ca, job.emulator.ca_pem()).unwrap();
        let outcome = Outcome::of(&job.command(&["token"]).env("SSL_CERT_FILE", &ca).output().unwrap());
        assert_eq!((outcome.code, asked(&job, "service-fabric").len()), (Some(5), 0), "{}", outcome.stderr);
        assert_shown!("service_fabric_with_another_certificate", job.show(&outcome));
    }
    for (variable, value) in [
        ("IDENTITY_SERVER_THUMBPRINT", "abc"),
        ("IDENTITY_ENDPOINT", "http://localhost:1/metadata/identity/oauth2/token"),
    ] {
        let mut job = Job::on(Host::ServiceFabric);
        job.set(variable, value);
        let outcome = job.run(&["token"]);
        assert_eq!(outcome.code, Some(2), "{variable}: {}", outcome.stderr);
        assert!(outcome.stderr.contains(&format!("azfed: error: {variable}: ")), "{}", outcome.stderr);
    }
    // as Windows shows it
    let mut job = Job::on(Host::ServiceFabric);
    let thumbprint = job.emulator.service_fabric_thumbprint().to_uppercase();
    let pairs: Vec<&str> =
        thumbprint.as_bytes().chunks(2).map(|pair| std::str::from_utf8(pair).unwrap()).collect();
    job.set("IDENTITY_SERVER_THUMBPRINT", &pairs.join(":"));
    ok(&job, &["token"]);
}

/// Opening a named pipe waits for its writer, and a device has no end: neither is read.
#[cfg(unix)]
#[test]
fn a_file_that_is_none_holds_nothing_up() {
    let started = std::time::Instant::now();
    let mut job = bound_pod(&JobOverrides::default());
    let pipe = job.path("pipe");
    assert!(std::process::Command::new("mkfifo").arg(&pipe).status().unwrap().success());
    job.unset("AZURE_KUBERNETES_CA_DATA");
    for file in [pipe.as_str(), "/dev/zero"] {
        job.set("AZURE_KUBERNETES_CA_FILE", file);
        let outcome = job.run(&["token", "--timeout", "2"]);
        assert_eq!(outcome.code, Some(2), "{file}: {}", outcome.stderr);
        assert!(outcome.stderr.contains("is not a regular file"), "{}", outcome.stderr);
        let mut job = Job::new(Platform::Gitlab);
        job.set("SSL_CERT_FILE", file);
        job.set("AZURE_AUTHORITY_HOST", "https://127.0.0.1:1/");
        let outcome = job.run(&["token", "--timeout", "2"]);
        assert_eq!(outcome.code, Some(2), "{file}: {}", outcome.stderr);
        let mut job = Job::of(azfed_emulator::Workload::Aws, &JobOverrides::default());
        for name in ["AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN"] {
            job.unset(name);
        }
        job.set("AWS_CONTAINER_CREDENTIALS_FULL_URI", "http://127.0.0.1:1/");
        job.set("AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE", file);
        let outcome = job.run(&["token", "--source", "aws", "--timeout", "2"]);
        assert_eq!(outcome.code, Some(2), "{file}: {}", outcome.stderr);
    }
    assert!(started.elapsed() < std::time::Duration::from_secs(20), "{:?}", started.elapsed());
}

/// The name of a cluster's proxy is a name: an address would be asked instead of the proxy.
#[test]
fn the_proxys_name_leads_nowhere_else() {
    let mut job = bound_pod(&JobOverrides::default());
    for name in ["127.0.0.2", "[::1]", "0x7f000002", "a b", "a/b"] {
        job.set("AZURE_KUBERNETES_SNI_NAME", name);
        let outcome = job.run(&["token", "--timeout", "2"]);
        assert_eq!(outcome.code, Some(2), "{name}: {}", outcome.stderr);
        assert!(
            outcome.stderr.contains("AZURE_KUBERNETES_SNI_NAME: it is no host name"),
            "{}",
            outcome.stderr
        );
    }
}

/// A pod of a cluster with identity bindings.
fn bound_pod(overrides: &JobOverrides) -> Job {
    let mut job = Job::with(Platform::Kubernetes, overrides);
    let host = job.emulator.host_env(Host::IdentityBinding);
    job.environment.extend(host);
    job
}

#[test]
fn a_pods_token_goes_to_its_clusters_proxy() {
    let of_binding = JobOverrides {
        audience: Some(azfed_emulator::IDENTITY_BINDING_AUDIENCE.to_owned()),
        ..JobOverrides::default()
    };
    let job = bound_pod(&of_binding);
    let outcome = ok(&job, &["token", "-v"]);
    assert_eq!(claims(outcome.stdout.trim_end())["oid"], world::IDENTITY_OBJECT);
    assert_eq!((asked(&job, "token-proxy").len(), asked(&job, "entra.token").len()), (1, 0));
    // Entra itself does not take it, so nobody else gets it: later steps ask azfed
    let outcome = ok(&job, &["exec", "--", "/bin/sh", "-c", "/usr/bin/env"]);
    assert!(outcome.stdout.contains("ARM_USE_MSI=true\n") && !outcome.stdout.contains("ARM_OIDC_REQUEST"));
    assert!(
        !outcome.stdout.contains("AZURE_FEDERATED_TOKEN_FILE") && !outcome.stdout.contains("TOKEN_PROXY")
    );
    for (name, change) in [
        ("another name", ("AZURE_KUBERNETES_SNI_NAME", "localhost")),
        ("no name", ("AZURE_KUBERNETES_SNI_NAME", "")),
        ("another authority", ("AZURE_KUBERNETES_CA_DATA", job.emulator.ca_pem())),
        ("no authority", ("AZURE_KUBERNETES_CA_DATA", "none")),
        ("http", ("AZURE_KUBERNETES_TOKEN_PROXY", "http://127.0.0.1:1")),
        ("two authorities", ("AZURE_KUBERNETES_CA_FILE", "/x")),
    ] {
        let outcome =
            Outcome::of(&job.command(&["token", "--timeout", "3"]).env(change.0, change.1).output().unwrap());
        assert_shown!(format!("identity_binding_with_{}", name.replace(' ', "_")), job.show(&outcome));
        assert!([2, 4, 5].contains(&outcome.code.unwrap()), "{name}");
    }
    // the file instead of the data, and a pod that is not bound
    let mut job = bound_pod(&of_binding);
    let ca = job.path("proxy-ca.pem");
    fs::write(&ca, &job.environment["AZURE_KUBERNETES_CA_DATA"]).unwrap();
    job.unset("AZURE_KUBERNETES_CA_DATA");
    job.set("AZURE_KUBERNETES_CA_FILE", &ca);
    ok(&job, &["token"]);
    let subject = JobOverrides { subject: Some("system:serviceaccount:ci:other".to_owned()), ..of_binding };
    let job = bound_pod(&subject);
    let outcome = job.run(&["token"]);
    assert_eq!(outcome.code, Some(4), "{}", outcome.stderr);
    assert_shown!("identity_binding_is_missing", job.show(&outcome));
}

#[test]
fn names_of_sources_say_the_same() {
    for (host, source) in [
        (Host::Imds, "imds"),
        (Host::Imds, "managed-identity"),
        (Host::AppService, "app-service"),
        (Host::AppService, "managed-identity"),
        (Host::Automation, "automation"),
        (Host::ServiceFabric, "service-fabric"),
        (Host::ServiceFabric, "managed-identity"),
        (Host::AzureMl, "azure-ml"),
        (Host::AzureMl, "managed-identity"),
        (Host::CloudShell, "cloud-shell"),
        (Host::CloudShell, "managed-identity"),
    ] {
        let job = Job::on(host);
        ok(&job, &["token", "--source", source]);
    }
    // a host that this is not
    let job = Job::on(Host::Imds);
    for source in ["app-service", "automation", "service-fabric", "azure-ml", "cloud-shell"] {
        let outcome = job.run(&["token", "--source", source]);
        assert_eq!(outcome.code, Some(3), "{source} {}", job.show(&outcome));
        assert!(
            outcome.stderr.contains("is not set\nazfed: hint: leave `--source` away"),
            "{}",
            outcome.stderr
        );
    }
}

#[test]
fn a_ci_platform_goes_before_the_host() {
    let mut job = Job::new(Platform::Github);
    let host = job.emulator.host_env(Host::Imds);
    job.environment.extend(host);
    ok(&job, &["token"]);
    assert_eq!(asked(&job, "imds").len(), 0);
    // a job that may not ask GitHub is told so, and does not become its machine
    job.unset("ACTIONS_ID_TOKEN_REQUEST_URL");
    job.unset("ACTIONS_ID_TOKEN_REQUEST_TOKEN");
    assert_eq!(job.run(&["token"]).code, Some(3));
    assert_eq!(asked(&job, "imds").len(), 0);
    // unless it says so itself
    job.unset("AZURE_CLIENT_ID");
    let outcome = ok(&job, &["token", "--source", "managed-identity"]);
    assert_eq!(claims(outcome.stdout.trim_end())["oid"], world::SYSTEM_IDENTITY_OBJECT);
}

#[test]
fn which_of_several() {
    let job = Job::on(Host::Imds);
    has(&job, false, &[HostIdentity::infra_prod(), HostIdentity::neighbour()]);
    let outcome = job.run(&["token"]);
    assert_shown!("host_has_several_identities", job.show(&outcome));
    ok(&job, &["token", "--client-id", world::NEIGHBOUR]);
    has(&job, false, &[HostIdentity::infra_prod()]);
    let outcome = ok(&job, &["token"]);
    assert_eq!(claims(outcome.stdout.trim_end())["oid"], world::IDENTITY_OBJECT);
    has(&job, false, &[]);
    assert_shown!("host_has_no_identity", job.show(&job.run(&["token"])));
    has(&job, true, &[]);
    assert_shown!(
        "host_has_not_this_identity",
        job.show(&job.run(&["token", "--object-id", world::IDENTITY_OBJECT]))
    );
    let job = Job::on(Host::AppService);
    has(&job, false, &[]);
    assert_shown!("app_service_has_no_identity", job.show(&job.run(&["token"])));
}

#[test]
fn what_passes_is_asked_for_again() {
    for (fault, times) in [(404, 2), (429, 1), (500, 2), (503, 1)] {
        let job = Job::on(Host::Imds);
        job.fault("imds", times, status(fault, &[]));
        ok(&job, &["token"]);
        assert_eq!(asked(&job, "imds").len(), times as usize + 1, "{fault}");
    }
    // what does not is not
    let job = Job::on(Host::Imds);
    job.fault("imds", 0, status(403, &[]));
    assert_eq!(job.run(&["token"]).code, Some(3));
    assert_eq!(asked(&job, "imds").len(), 1);
    // a service that is being renewed takes more than a second
    let job = Job::on(Host::Imds);
    job.fault("imds", 0, status(410, &[]));
    let outcome = job.run(&["token", "--timeout", "2"]);
    assert_eq!((outcome.code, asked(&job, "imds").len()), (Some(5), 1), "{}", outcome.stderr);
    // App Service's 404 is no passing one
    let job = Job::on(Host::AppService);
    job.fault("app-service", 0, status(404, &[]));
    assert_eq!((job.run(&["token"]).code, asked(&job, "app-service").len()), (Some(3), 1));
}

#[test]
fn where_there_is_no_instance_metadata_service() {
    for (name, action) in [
        ("a page", Action::Html),
        ("another service", status(404, &[])),
        ("a redirect", Action::Redirect { status: 302, to: "https://login.hotel.example/".to_owned() }),
        ("no json", Action::TruncatedJson),
        ("other json", Action::WrongJson),
        ("a drip", Action::SlowDrip),
        ("a flood", Action::Huge),
        ("nothing", Action::Drop),
    ] {
        let job = Job::on(Host::Imds);
        job.fault("imds", 0, action);
        let outcome = job.run(&["login", "--timeout", "2"]);
        let code = outcome.code.unwrap();
        assert!([3, 5].contains(&code), "{name}: {}", job.show(&outcome));
        assert!(job.left_in_temp().is_empty(), "{name}");
        assert!(outcome.stderr.contains("azfed: error: "), "{name}");
        assert_shown!(format!("no_imds_but_{}", name.replace(' ', "_")), job.show(&outcome));
    }
}

#[cfg(target_os = "linux")]
#[test]
fn no_ci_and_no_host() {
    let mut job = Job::on(Host::Imds);
    job.unset("AZURE_POD_IDENTITY_AUTHORITY_HOST");
    let started = std::time::Instant::now();
    for (name, arguments) in [
        ("no_ci_at_all", &["login", "-v"][..]),
        ("no_ci_and_no_imds", &["login", "--source", "imds"]),
        ("doctor_no_ci", &["doctor"]),
    ] {
        let outcome = job.run_without_network(arguments);
        assert_eq!(outcome.code, Some(3), "{name}");
        assert_shown!(name, job.show(&outcome));
    }
    assert!(started.elapsed() < std::time::Duration::from_secs(10), "it waits for what is not there");
}

#[cfg(target_os = "linux")]
#[test]
fn a_pod_without_a_token_of_its_own() {
    // every pod has one for its cluster's API server
    let of_api_server = JobOverrides {
        audience: Some("https://kubernetes.default.svc.cluster.local".to_owned()),
        ..JobOverrides::default()
    };
    let mut job = Job::with(Platform::Kubernetes, &of_api_server);
    let directory = job.path("run/secrets/kubernetes.io/serviceaccount");
    fs::create_dir_all(&directory).unwrap();
    let file = format!("{directory}/token");
    fs::rename(job.path("token"), &file).unwrap();
    job.set("AZURE_FEDERATED_TOKEN_FILE", &file);
    assert_shown!("the_token_for_the_api_server", job.show(&job.run(&["login"])));
    job.unset("AZURE_FEDERATED_TOKEN_FILE");
    job.set("KUBERNETES_SERVICE_HOST", "10.0.0.1");
    assert_shown!("a_pod_with_no_token_named", job.show(&job.run_without_network(&["login"])));
}

/// What a shell has after `eval`.
fn exported(outcome: &Outcome) -> BTreeMap<String, String> {
    let lines = outcome.stdout.lines().filter_map(|line| line.strip_prefix("export ")?.split_once('='));
    lines.map(|(name, value)| (name.to_owned(), value.trim_matches('\'').to_owned())).collect()
}

#[test]
fn a_login_on_a_host_that_every_client_knows() {
    let mut job = Job::on(Host::Imds);
    let outcome = ok(&job, &["login"]);
    assert_shown!("login_on_a_vm", job.show(&outcome));
    let variables = exported(&outcome);
    let read = |name: &str| fs::read_to_string(Path::new(&variables["AZURE_CONFIG_DIR"]).join(name)).unwrap();
    assert_shown!("az_profile_of_the_system_assigned_identity", read("azureProfile.json"));
    for file in job.left_in_temp().iter().filter(|path| path.is_file()) {
        assert!(job.leaks(&fs::read_to_string(file).unwrap()).is_empty(), "a token in {}", file.display());
    }
    assert!(!job.left_in_temp().iter().any(|path| path.ends_with("keeper")), "nothing needs to be kept");
    job.set("AZFED_LOGIN_DIR", &variables["AZFED_LOGIN_DIR"]);
    ok(&job, &["logout"]);
    let outcome = ok(&job, &["login", "--client-id", world::IDENTITY]);
    assert_shown!("login_on_a_vm_as_a_user_assigned_identity", job.show(&outcome));
    job.set("AZFED_LOGIN_DIR", &exported(&outcome)["AZFED_LOGIN_DIR"]);
    ok(&job, &["logout"]);
    assert!(job.left_in_temp().is_empty());
}

#[cfg(target_os = "linux")]
#[test]
fn a_login_on_a_host_that_only_azfed_knows_how_to_ask() {
    let mut job = Job::on(Host::Automation);
    let outcome = ok(&job, &["login"]);
    let variables = exported(&outcome);
    job.set("AZFED_LOGIN_DIR", &variables["AZFED_LOGIN_DIR"]);
    assert_eq!((variables["ARM_USE_OIDC"].as_str(), variables["ARM_USE_MSI"].as_str()), ("false", "true"));
    assert!(!variables.contains_key("ARM_OIDC_REQUEST_URL"), "{variables:?}");
    let (port, path) = harness::port_and_path(&variables["IDENTITY_ENDPOINT"]);
    let path = format!("{path}?api-version=2019-08-01&resource=https%3A%2F%2Fvault.azure.net");
    let (status, _, body) =
        harness::get(port, &path, &[("X-IDENTITY-HEADER", &variables["IDENTITY_HEADER"])]);
    assert_eq!(status, 200, "{body}");
    let body: Value = serde_json::from_str(&body).unwrap();
    assert_eq!(claims(body["access_token"].as_str().unwrap())["oid"], world::SYSTEM_IDENTITY_OBJECT);
    let outcome = ok(&job, &["logout"]);
    assert!(
        outcome.stderr.contains("later steps asked for https://vault.azure.net: 1"),
        "{}",
        outcome.stderr
    );
    assert!(job.left_in_temp().is_empty());
    // where that is not wanted, it says what else there is
    assert_shown!("login_on_a_host_without_a_process", job.show(&job.run(&["login", "--no-keep-fresh"])));
    assert_shown!("login_on_a_host_into_an_artifact", job.show(&job.run(&["login", "--output", "dotenv"])));
}

#[test]
fn a_command_on_each_host() {
    for form in FORMS {
        let job = Job::on(form.host);
        let script =
            "env | grep -E '^(ARM_USE|IDENTITY_EN|AZURE_CLIENT|AZURE_POD|MSI_EN|ARM_OIDC|AUTOMATION)' | sort";
        let outcome = ok(&job, &["exec", "--", "/bin/sh", "-c", &format!("PATH=/usr/bin:/bin; {script}")]);
        let shown = outcome.stdout.replace(|character: char| character.is_ascii_digit(), "0");
        assert!(shown.contains("ARM_USE_MSI=true\nARM_USE_OIDC=false\n"), "{shown}");
        assert!(
            shown.contains("IDENTITY_ENDPOINT=http://000.0.0.0:") && !shown.contains("AZURE_POD"),
            "{shown}"
        );
        assert!(!shown.contains("ARM_OIDC"), "{shown}");
        assert!(job.left_in_temp().is_empty());
    }
}

/// What a host's variable names is asked on this host or not at all, https or not.
#[test]
fn no_endpoint_of_a_host_is_elsewhere() {
    for (source, variable, secret) in [
        ("app-service", "IDENTITY_ENDPOINT", Some("IDENTITY_HEADER")),
        ("automation", "IDENTITY_ENDPOINT", Some("IDENTITY_HEADER")),
        ("arc", "IDENTITY_ENDPOINT", None),
        ("azure-ml", "MSI_ENDPOINT", Some("MSI_SECRET")),
        ("cloud-shell", "MSI_ENDPOINT", None),
        ("imds", "AZURE_POD_IDENTITY_AUTHORITY_HOST", None),
        ("aws", "AWS_CONTAINER_CREDENTIALS_FULL_URI", None),
    ] {
        for url in [
            "https://attacker.example/x?code=hidden",
            "http://10.0.0.1/x?code=hidden",
            "http://[fd00::1]/",
            "ftp://127.0.0.1/",
            "127.0.0.1",
        ] {
            // AWS' own tools take https wherever it leads
            if source == "aws" && url.starts_with("https:") {
                continue;
            }
            let mut job = Job::on(Host::Imds);
            job.set(variable, url);
            job.set("AWS_REGION", "eu-west-1");
            if let Some(secret) = secret {
                job.set(secret, "the-hosts-own-secret");
            }
            let ids = ["--client-id", world::IDENTITY, "--tenant-id", world::TENANT];
            let outcome = job
                .run(&[&["token", "--source", source], &ids[..if source == "aws" { 4 } else { 0 }]].concat());
            assert_eq!(outcome.code, Some(2), "{source} {url}: {}", outcome.stderr);
            assert!(outcome.stderr.contains(variable), "{source} {url}: {}", outcome.stderr);
            assert!(!outcome.all().contains("hidden"), "{source} {url}: {}", outcome.stderr);
        }
    }
}

/// What a host answers with a token and something beside it.
fn granted(token: &str, beside: &str) -> Action {
    Action::Status {
        status: 200,
        body: format!(r#"{{"access_token":"{token}",{beside}}}"#),
        headers: [("content-type".to_owned(), "application/json".to_owned())].into(),
    }
}

/// A token that shows this.
fn showing(claims: &serde_json::Value) -> String {
    format!("eyJhbGciOiJSUzI1NiJ9.{}.c2ln", URL_SAFE_NO_PAD.encode(claims.to_string()))
}

/// An answer around an opaque token that names another identity than the one asked for.
#[test]
fn a_token_of_another_identity_goes_nowhere() {
    const TOKEN: &str = "opaque-token-of-another";
    let client = ["--client-id", world::IDENTITY];
    let object = ["--object-id", world::IDENTITY_OBJECT];
    let resource_id = world::identity_resource("infra-prod");
    let resource = ["--resource-id", resource_id.as_str()];
    let other_resource = world::identity_resource("a-neighbour");
    let braces = format!("{{{}}}", world::IDENTITY.to_uppercase());
    let slash = format!("{}/", resource_id.to_uppercase());
    for (host, kind, chooses, name, value, code) in [
        (Host::Imds, "imds", client, "client_id", world::NEIGHBOUR, 3),
        (Host::Imds, "imds", object, "object_id", world::NEIGHBOUR_OBJECT, 3),
        (Host::Imds, "imds", resource, "msi_res_id", other_resource.as_str(), 3),
        (Host::AppService, "app-service", client, "client_id", world::NEIGHBOUR, 3),
        (Host::Automation, "automation", client, "client_id", world::NEIGHBOUR, 3),
        (Host::AzureMl, "azure-ml", client, "client_id", world::NEIGHBOUR, 3),
        // what is no id is not repeated
        (Host::Imds, "imds", client, "client_id", TOKEN, 3),
        // the same in another form
        (Host::AppService, "app-service", client, "client_id", world::IDENTITY, 0),
        (Host::AppService, "app-service", client, "client_id", braces.as_str(), 0),
        (Host::Imds, "imds", resource, "msi_res_id", slash.as_str(), 0),
        // it says nothing of whose it is, which only Arc must
        (Host::Imds, "imds", client, "client_id", "", 0),
        (Host::Imds, "imds", client, "token_type", "Bearer", 0),
    ] {
        let job = Job::on(host);
        job.fault(kind, 0, granted(TOKEN, &format!(r#""expires_in":"3600","{name}":"{value}""#)));
        let more = ["--tenant-id", world::TENANT];
        // a token that does not say whose it is needs the name
        let more = if chooses == resource && code == 0 { &[][..] } else { &more[..] };
        let outcome = job.run(&[&["token"], &chooses[..], more].concat());
        let nameless = chooses == resource && code == 0;
        assert_eq!(
            outcome.code,
            Some(if nameless { 3 } else { code }),
            "{host:?} {value}: {}",
            outcome.stderr
        );
        assert_eq!(nameless, outcome.stderr.contains("does not say which client"), "{}", outcome.stderr);
        if code == 3 {
            let shown = if value == TOKEN { "something that is no id" } else { value };
            assert!(outcome.stdout.is_empty() && outcome.stderr.contains(shown), "{}", outcome.stderr);
            assert!(!outcome.stderr.contains(TOKEN), "{}", outcome.stderr);
        }
    }
}

/// Nor does one of another tenant, one of two identities, one for somebody else, or one that has expired.
#[test]
fn a_token_that_cannot_be_meant_goes_nowhere() {
    let refused = |job: &Job, arguments: &[&str], code: i32, said: &str| {
        let outcome = job.run(arguments);
        assert_eq!(outcome.code, Some(code), "{}", job.show(&outcome));
        assert!(outcome.stderr.contains(said), "{}", outcome.stderr);
        assert!(job.left_in_temp().is_empty() && !outcome.stdout.contains("ARM_"), "{}", job.show(&outcome));
    };
    let mut job = Job::on(Host::AppService);
    refused(&job, &["login", "--tenant-id", world::OTHER_TENANT], 3, "of another tenant: asked for");
    job.set("AZURE_TENANT_ID", world::OTHER_TENANT);
    refused(&job, &["exec", "--", "true"], 3, "of another tenant: asked for");
    job.set("AZURE_TENANT_ID", "contoso.onmicrosoft.com");
    ok(&job, &["token"]);
    job.unset("AZURE_TENANT_ID");
    let neighbour = showing(&serde_json::json!({"appid": world::NEIGHBOUR, "tid": world::TENANT}));
    job.fault("app-service", 1, granted(&neighbour, r#""expires_in":"3600""#));
    let two = ["login", "--scope", "https://management.azure.com", "--scope", "https://vault.azure.net"];
    refused(&job, &two, 3, "its tokens are of bcbcbcbc-bcbc-4bcb-8bcb-bcbcbcbcbcbc and of");
    for expiry in [r#""expires_in":"0""#, r#""expires_on":"1""#] {
        job.fault("app-service", 0, granted("opaque", expiry));
        refused(&job, &["login", "--timeout", "2"], 5, "its token has expired already");
    }
    // the token for the app registration is one for the exchange
    let job = Job::on(Host::AppService);
    let claims = serde_json::json!({"iss": "https://sts.example.com", "sub": "x", "aud": "https://vault.azure.net", "exp": 9_999_999_999_u64});
    job.fault("app-service", 0, granted(&showing(&claims), r#""expires_in":"3600""#));
    let via = [
        "token",
        "--client-id",
        world::APPLICATION,
        "--tenant-id",
        world::TENANT,
        "--via",
        "managed-identity",
    ];
    refused(&job, &via, 3, "https://vault.azure.net");
    assert!(asked(&job, "entra.token").is_empty());
}

/// A long command sees the identities of its host change.
#[test]
fn a_later_token_of_another_identity_goes_nowhere() {
    for (client, tenant, code) in [
        (world::NEIGHBOUR, world::TENANT, "400"),
        (world::SYSTEM_IDENTITY, world::OTHER_TENANT, "400"),
        (world::SYSTEM_IDENTITY, world::TENANT, "200"),
    ] {
        let job = Job::on(Host::AppService);
        let later = showing(&serde_json::json!({"appid": client, "tid": tenant}));
        job.emulator.fault(azfed_emulator::Fault {
            kind: "app-service".to_owned(),
            times: 0,
            after: 1,
            late_ms: 0,
            action: granted(&later, r#""expires_in":"3600""#),
        });
        let script = "curl --silent --output answer --write-out '%{http_code}' --header \"X-IDENTITY-HEADER: $IDENTITY_HEADER\" \
                      \"$IDENTITY_ENDPOINT?api-version=2019-08-01&resource=https://vault.azure.net\"";
        let outcome = ok(&job, &["exec", "--", "sh", "-c", script]);
        assert_eq!(outcome.stdout, code, "{}", job.show(&outcome));
        assert_eq!(job.read("answer").contains(&later), code == "200", "{}", job.read("answer"));
    }
}

/// What a login has left in a shell leads no later azfed astray.
#[test]
fn a_shell_that_was_logged_in_before() {
    let who = ["--client-id", world::APPLICATION, "--tenant-id", world::TENANT];
    let via = ["--via", "managed-identity", "--via-client-id", world::IDENTITY];
    let mut job = Job::on(Host::Imds);
    job.unset("AZURE_POD_IDENTITY_AUTHORITY_HOST");
    job.environment.extend(job.emulator.host_env(Host::AppService));
    let first = ok(&job, &[&["login"], &who[..], &via].concat());
    job.environment.extend(exported(&first));
    // the host goes on to be the beginning
    ok(&job, &[&["login"], &who[..], &via].concat());
    ok(&job, &["exec", "--", "true"]);
    ok(&job, &["token"]);
    let doctor =
        job.run(&[&["doctor"], &who[..], &via, &["--resource-manager", &job.emulator.http_url()]].concat());
    assert_eq!(doctor.code, Some(0), "{}", job.show(&doctor));
    // and what has ended is said to have
    ok(&job, &["logout"]);
    let outcome = job.run(&["token"]);
    assert_eq!(outcome.code, Some(2), "{}", job.show(&outcome));
    assert!(outcome.stderr.contains("an azfed login which has ended"), "{}", outcome.stderr);
    let mut job = Job::on(Host::CloudShell);
    let served = ok(&job, &["login"]);
    job.environment.extend(exported(&served));
    ok(&job, &["token"]);
    ok(&job, &["logout"]);
    let outcome = job.run(&["token"]);
    assert_eq!(outcome.code, Some(2), "{}", job.show(&outcome));
    assert!(outcome.stderr.contains("unset IDENTITY_ENDPOINT") && !outcome.stderr.contains("trying again"));
}

/// Only an app registration can trust a host's identity.
#[test]
fn the_credential_for_a_hosts_identity_is_an_app_registrations() {
    let job = Job::on(Host::AppService);
    let printed = ok(&job, &["trust", "here"]).stdout;
    assert!(printed.contains("az ad app federated-credential create"), "{printed}");
    assert!(!printed.contains("az identity federated-credential"), "{printed}");
    let printed = ok(&job, &["trust", "here", "--as", "json"]).stdout;
    assert!(printed.contains(world::SYSTEM_IDENTITY_OBJECT), "{printed}");
}

/// A credential that no header can hold is no fault of the network's.
#[test]
fn a_credential_that_cannot_be_sent_is_said_at_once() {
    for (host, variable) in [(Host::AppService, "IDENTITY_HEADER"), (Host::AzureMl, "MSI_SECRET")] {
        let mut job = Job::on(host);
        job.set(variable, "the-hosts\nown-secret");
        let outcome = job.run(&["token"]);
        assert_eq!(outcome.code, Some(2), "{}", job.show(&outcome));
        assert!(
            outcome.stderr.contains("no HTTP header can hold") && !outcome.stderr.contains("trying again")
        );
        assert!(
            outcome.stderr.contains("line break") && !outcome.stderr.contains("own-secret"),
            "{}",
            outcome.stderr
        );
    }
    let mut job = Job::new(Platform::Github);
    job.set("ACTIONS_ID_TOKEN_REQUEST_TOKEN", "a\nb");
    let outcome = job.run(&["token"]);
    assert_eq!(outcome.code, Some(2), "{}", job.show(&outcome));
}

#[test]
fn doctor_on_a_host() {
    let job = Job::on(Host::AppService);
    let manager = job.emulator.http_url();
    let arguments = ["doctor", "--resource-manager", &manager];
    assert_shown!("doctor_on_app_service", job.show(&job.run(&arguments)));
    has(&job, false, &[]);
    assert_shown!("doctor_on_app_service_without_identity", job.show(&job.run(&arguments)));
    assert_shown!("doctor_on_app_service_offline", job.show(&job.run(&["doctor", "--offline"])));
}

#[test]
fn what_does_not_go_together() {
    let job = Job::new(Platform::Github);
    for (name, arguments) in [
        (
            "an object id with an oidc token",
            vec!["token", "--tenant-id", world::TENANT, "--object-id", world::IDENTITY_OBJECT],
        ),
        ("a file with a host", vec!["token", "--source", "imds", "--assertion-file", "x"]),
        ("via nobody", vec!["token", "--via", "managed-identity"]),
        ("a via flag alone", vec!["token", "--via-client-id", world::IDENTITY]),
        (
            "two ids",
            vec![
                "token",
                "--object-id",
                world::IDENTITY_OBJECT,
                "--resource-id",
                "/subscriptions/44444444-4444-4444-8444-444444444444",
            ],
        ),
        ("no resource id", vec!["token", "--resource-id", "infra-prod"]),
    ] {
        let outcome = job.run(&arguments);
        assert_eq!(outcome.code, Some(2), "{name}: {}", job.show(&outcome));
        assert_shown!(format!("host_{}", name.replace(' ', "_")), job.show(&outcome));
    }
}

const VIA: [&str; 2] = ["--via", "managed-identity"];

#[test]
fn an_app_registration_that_trusts_the_hosts_identity() {
    let who = ["--client-id", world::APPLICATION, "--tenant-id", world::TENANT];
    let mut job = Job::on(Host::Imds);
    job.unset("AZURE_POD_IDENTITY_AUTHORITY_HOST");
    job.environment.extend(job.emulator.host_env(Host::AppService));
    for (via, subject) in [
        (vec![], world::SYSTEM_IDENTITY_OBJECT),
        (vec!["--via-client-id", world::IDENTITY], world::IDENTITY_OBJECT),
        (vec!["--via-object-id", world::IDENTITY_OBJECT], world::IDENTITY_OBJECT),
    ] {
        let outcome = ok(&job, &[&["token", "-v"], &who[..], &VIA, &via].concat());
        let token = claims(outcome.stdout.trim_end());
        assert_eq!(token["appid"], world::APPLICATION);
        let shown = ok(&job, &[&["assertion"], &VIA[..], &via].concat());
        assert_eq!(claims(&shown.stdout)["sub"], subject);
    }
    // what later steps present is the same
    let outcome = ok(&job, &[&["login"], &who[..], &VIA].concat());
    let variables = exported(&outcome);
    let file = fs::read_to_string(&variables["ARM_OIDC_TOKEN_FILE_PATH"]).unwrap();
    assert_eq!(claims(&file)["sub"], world::SYSTEM_IDENTITY_OBJECT);
    assert_eq!(variables["ARM_CLIENT_ID"], world::APPLICATION);
    job.set("AZFED_LOGIN_DIR", &variables["AZFED_LOGIN_DIR"]);
    ok(&job, &["logout"]);
    // an app registration that does not trust it, with the command that makes it
    job.emulator.distrust(world::SYSTEM_IDENTITY_OBJECT);
    let outcome = job.run(&[&["login"], &who[..], &VIA].concat());
    assert_eq!(outcome.code, Some(4));
    assert_shown!("app_does_not_trust_the_hosts_identity", job.show(&outcome));
}

#[test]
fn an_app_registration_that_trusts_the_jobs_identity() {
    let job = Job::new(Platform::Github);
    let app = ["--client-id", world::APPLICATION, "--via-client-id", world::IDENTITY];
    let outcome = ok(&job, &[&["token"], &app[..], &VIA].concat());
    assert_eq!(claims(outcome.stdout.trim_end())["appid"], world::APPLICATION);
    assert_eq!((asked(&job, "github.assertion").len(), asked(&job, "entra.token").len()), (1, 2));
    // in another tenant
    let other = [
        "--client-id",
        world::OTHER_APPLICATION,
        "--tenant-id",
        world::OTHER_TENANT,
        "--via-client-id",
        world::IDENTITY,
        "--via-tenant-id",
        world::TENANT,
    ];
    let outcome = ok(&job, &[&["token"], &other[..], &VIA].concat());
    let token = claims(outcome.stdout.trim_end());
    assert_eq!(
        (&token["appid"], &token["tid"]),
        (&world::OTHER_APPLICATION.into(), &world::OTHER_TENANT.into())
    );
    // each hop has its own error
    job.emulator.distrust(world::GITHUB_SUBJECT);
    let first = job.run(&[&["token"], &app[..], &VIA].concat());
    assert_eq!(first.code, Some(4));
    assert_shown!("the_first_hop_is_refused", job.show(&first));
    let job = Job::new(Platform::Github);
    job.emulator.distrust(world::IDENTITY_OBJECT);
    let second = job.run(&[&["token"], &app[..], &VIA].concat());
    assert_eq!(second.code, Some(4));
    assert_shown!("the_second_hop_is_refused", job.show(&second));
    job.emulator.trust(FederatedCredential {
        client_id: world::APPLICATION.to_owned(),
        issuer: world::entra_issuer(),
        subject: world::IDENTITY_OBJECT.to_owned(),
        audience: "api://AzureADTokenExchange".to_owned(),
    });
    ok(&job, &[&["token"], &app[..], &VIA].concat());
}

#[test]
fn an_identity_map_needs_an_oidc_token() {
    let job = Job::on(Host::AppService);
    let map = job.path("identities.json");
    fs::write(
        &map,
        format!(r#"{{"identities":[{{"environment":"prod","client_id":"{}"}}]}}"#, world::IDENTITY),
    )
    .unwrap();
    let outcome = job.run(&["token", "--identity-map", &map]);
    assert_eq!(outcome.code, Some(2), "{}", job.show(&outcome));
    assert!(outcome.stderr.contains("goes by what an OIDC token says"), "{}", outcome.stderr);
}
