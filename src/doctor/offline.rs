//! The steps that need no network.

use crate::{
    cli::{DoctorArgs, Source},
    config::{self, Target, Wanted},
    env::{Env, names},
    error::Error,
    http::{self, Http},
    identifiers::{Endpoint, VariableName},
    managed_identity::Host,
    platform::{Aws, Platform},
    state::{self, LoginDirectory},
};

use super::report::Step;

/// What says who one is: always worth a line.
const IDENTITY: [&str; 6] = [
    names::azure::CLIENT_ID,
    names::arm::CLIENT_ID,
    names::azure::TENANT_ID,
    names::arm::TENANT_ID,
    names::azure::SUBSCRIPTION_ID,
    names::arm::SUBSCRIPTION_ID,
];
const GITHUB: [&str; 5] = [
    names::github::ACTIONS,
    names::github::ID_TOKEN_REQUEST_URL,
    names::github::ID_TOKEN_REQUEST_TOKEN,
    names::github::ENV,
    names::github::OUTPUT,
];
const GITLAB: [&str; 5] = [
    names::gitlab::CI,
    names::gitlab::SERVER_URL,
    names::azure::ID_TOKEN,
    names::azure::OIDC_TOKEN,
    names::gitlab::OIDC_TOKEN,
];
const AZURE_DEVOPS: [&str; 6] = [
    names::azure_devops::TF_BUILD,
    names::azure_devops::OIDC_REQUEST_URI,
    names::azure_devops::ACCESS_TOKEN,
    names::azure::SUBSCRIPTION_SERVICE_CONNECTION_ID,
    names::arm::ADO_PIPELINE_SERVICE_CONNECTION_ID,
    names::arm::OIDC_AZURE_SERVICE_CONNECTION_ID,
];
const BUILDKITE: [&str; 3] =
    [names::buildkite::BUILDKITE, names::buildkite::AGENT_ACCESS_TOKEN, names::buildkite::SUBJECT_CLAIM];
const CIRCLECI: [&str; 2] = [names::circleci::CIRCLECI, names::circleci::OIDC_TOKEN_V2];
const HCP_TERRAFORM: [&str; 3] = [
    names::hcp_terraform::RUN_ID,
    names::hcp_terraform::WORKLOAD_IDENTITY_TOKEN,
    names::hcp_terraform::WORKLOAD_IDENTITY_AUDIENCE,
];
const SPACELIFT: [&str; 2] = [names::spacelift::RUN_ID, names::spacelift::OIDC_TOKEN];
const SEMAPHORE: [&str; 2] = [names::semaphore::SEMAPHORE, names::semaphore::OIDC_TOKEN];
const CODEFRESH: [&str; 4] = [
    names::codefresh::BUILD_ID,
    names::codefresh::OIDC_REQUEST_URL,
    names::codefresh::OIDC_REQUEST_TOKEN,
    names::codefresh::ID_TOKEN,
];
const BITBUCKET: [&str; 1] = [names::bitbucket::BUILD_NUMBER];
const GOOGLE_CLOUD: [&str; 2] = [names::google_cloud::METADATA_HOST, names::google_cloud::SERVICE];
/// What every platform has, and how many of them are its marks.
const PLATFORMS: [(&[&str], usize); 10] = [
    (&GITHUB, 2),
    (&GITLAB, 2),
    (&AZURE_DEVOPS, 2),
    (&BUILDKITE, 1),
    (&CIRCLECI, 1),
    (&HCP_TERRAFORM, 2),
    (&SPACELIFT, 2),
    (&SEMAPHORE, 1),
    (&CODEFRESH, 2),
    (&BITBUCKET, 1),
];
/// Worth a line only where somebody set them.
const OTHERS: [&str; 39] = [
    names::azure::FEDERATED_TOKEN_FILE,
    names::azure::AUTHORITY_HOST,
    names::azure::ENVIRONMENT,
    names::arm::ENVIRONMENT,
    names::arm::USE_OIDC,
    names::arm::OIDC_TOKEN,
    names::arm::OIDC_TOKEN_FILE_PATH,
    names::arm::OIDC_REQUEST_URL,
    names::arm::CLIENT_SECRET,
    names::arm::CLIENT_CERTIFICATE,
    names::arm::CLIENT_CERTIFICATE_PATH,
    names::azure::CLIENT_SECRET,
    names::azure::CLIENT_CERTIFICATE_PATH,
    names::azure::CONFIG_DIR,
    names::arm::OIDC_REQUEST_TOKEN,
    names::arm::USE_MSI,
    names::arm::MSI_ENDPOINT,
    names::azure::KUBERNETES_TOKEN_PROXY,
    names::azure::KUBERNETES_SNI_NAME,
    names::azure::KUBERNETES_CA_FILE,
    names::azure::KUBERNETES_CA_DATA,
    names::host::IDENTITY_ENDPOINT,
    names::host::IDENTITY_HEADER,
    names::host::IDENTITY_SERVER_THUMBPRINT,
    names::host::IMDS_ENDPOINT,
    names::host::MSI_ENDPOINT,
    names::host::MSI_SECRET,
    names::host::DEFAULT_IDENTITY_CLIENT_ID,
    names::host::POD_IDENTITY_AUTHORITY_HOST,
    names::host::AUTOMATION_ACCOUNT_ID,
    names::azfed::LOGIN_DIR,
    names::system::SSL_CERT_FILE,
    names::system::SSL_CERT_DIR,
    names::system::HTTPS_PROXY[0],
    names::system::HTTPS_PROXY[1],
    names::system::ALL_PROXY[0],
    names::system::ALL_PROXY[1],
    names::system::NO_PROXY[0],
    names::system::NO_PROXY[1],
];

/// Which platform, and what told so.
pub(super) fn platform(found: &Result<Platform, Error>, args: &DoctorArgs, env: &Env) -> Step {
    let id = "platform";
    match found {
        Ok(platform) => {
            let found = match told_by(platform, args, env) {
                Some(mark) => format!("{}, by {mark}", platform.describe()),
                None => format!("{}, as nothing says that it is anything else", platform.describe()),
            };
            let step = Step::ok(id, &found);
            let other = names::azure::FEDERATED_TOKEN_FILE;
            match platform {
                Platform::Stored(_) => step,
                _ if env.is_set(other) => {
                    step.with(&format!("{other} is set too: a CI platform goes before it"))
                }
                _ => step,
            }
        }
        Err(error) => Step::error(id, error),
    }
}

fn told_by(platform: &Platform, args: &DoctorArgs, env: &Env) -> Option<&'static str> {
    let source = &args.source;
    if source.source != Source::Auto {
        return Some("`--source`");
    }
    match platform {
        Platform::GitHub(_) if env.is_set(names::github::ACTIONS) => Some(names::github::ACTIONS),
        Platform::GitHub(_) => Some(names::github::ID_TOKEN_REQUEST_URL),
        Platform::GitLab(_) => Some(names::gitlab::CI),
        Platform::AzureDevOps(_) => Some(names::azure_devops::TF_BUILD),
        Platform::Buildkite(_) => Some(names::buildkite::BUILDKITE),
        Platform::CircleCi(_) => Some(names::circleci::CIRCLECI),
        Platform::HcpTerraform(_) if env.is_set(names::hcp_terraform::RUN_ID) => {
            Some(names::hcp_terraform::RUN_ID)
        }
        Platform::HcpTerraform(_) => Some("its OIDC token"),
        Platform::Spacelift(_) => SPACELIFT.into_iter().find(|name| env.is_set(name)),
        Platform::Semaphore(_) => Some(names::semaphore::SEMAPHORE),
        Platform::Codefresh(_) => CODEFRESH.into_iter().find(|name| env.is_set(name)),
        // these are never chosen by themselves
        Platform::GoogleCloud(_) | Platform::Aws(_) => Some("`--source`"),
        Platform::Stored(_) if source.assertion_env.is_some() => Some("`--assertion-env`"),
        Platform::Stored(_) if source.assertion_file.is_some() => Some("`--assertion-file`"),
        Platform::Stored(_) => Some(names::azure::FEDERATED_TOKEN_FILE),
        Platform::IdentityBinding(_) => Some(names::azure::KUBERNETES_TOKEN_PROXY),
        Platform::ManagedIdentity(identity) => match &identity.host {
            Host::Arc(_) if !env.is_set(names::host::IDENTITY_ENDPOINT) => {
                Some("the agent that is installed")
            }
            host => host.variables().into_iter().find(|name| env.is_set(name)),
        },
    }
}

/// The variables that matter, by name.
pub(super) fn variables(args: &DoctorArgs, env: &Env) -> Step {
    let id = "variables";
    let mut needed: Vec<&str> = IDENTITY.to_vec();
    for (names, marks) in PLATFORMS {
        if names.iter().take(marks).any(|mark| env.is_set(mark)) {
            needed.extend(names);
        }
    }
    match args.source.source {
        Source::GoogleCloud => needed.extend(GOOGLE_CLOUD),
        Source::Aws => needed.extend(Aws::variables()),
        _ => {}
    }
    needed.extend(args.source.assertion_env.as_ref().map(VariableName::as_str));
    let there = |name: &&str| env.is_set(name) || env.is_empty(name);
    let others: Vec<&str> = OTHERS.into_iter().filter(there).filter(|name| !needed.contains(name)).collect();
    let state = |name: &str| match env.get(name) {
        Some(value) if value.starts_with("$(") => "a macro that was not expanded",
        Some(_) => "set",
        None if env.is_empty(name) => "empty",
        None if env.is_set(name) => "set, but not UTF-8",
        None => "not set",
    };
    let rows: Vec<(&str, String)> =
        needed.iter().chain(&others).map(|name| (*name, state(name).to_owned())).collect();
    let count = |wanted: &str| rows.iter().filter(|(_, state)| state == wanted).count();
    let odd: Vec<&str> =
        needed.iter().copied().filter(|name| !matches!(state(name), "set" | "not set")).collect();
    if let (Err(error), true) =
        (config::has_github_files(env), env.get(names::github::ACTIONS) == Some("true"))
    {
        return Step::error(id, &error.into()).with_table(&rows);
    }
    if odd.is_empty() {
        return Step::ok(id, &format!("{} of those that matter are set", count("set"))).with_table(&rows);
    }
    let verb = if odd.len() == 1 { "has" } else { "have" };
    let step = Step::warning(id, &format!("{} {verb} no value", odd.join(", "))).with_table(&rows);
    if !odd.iter().any(|name| env.is_empty(name)) {
        // what to do about a macro, the step says that needs the variable
        return step;
    }
    step.hint(
        "an empty variable counts as unset: what fills it (a variable or secret of the repository, environment or group) \
         does not exist, or this job may not see it",
    )
}

/// Variables that contradict one another, or this login.
pub(super) fn conflicts(args: &DoctorArgs, env: &Env) -> Step {
    let id = "conflicts";
    let mut refused = None;
    let mut warnings: Vec<(String, Option<String>)> = Vec::new();
    for (consumer, error) in config::other_credentials(env) {
        let hint = error.hints().iter().map(|hint| hint.text.clone()).next();
        if args.consumers.contains(&consumer) && refused.is_none() {
            refused = Some(error);
        } else {
            warnings.push((error.to_string(), hint));
        }
    }
    let identity = &args.identity;
    for (given, first, second) in [
        (identity.client_id.is_some(), names::azure::CLIENT_ID, names::arm::CLIENT_ID),
        (identity.tenant_id.is_some(), names::azure::TENANT_ID, names::arm::TENANT_ID),
        (identity.subscription_id.is_some(), names::azure::SUBSCRIPTION_ID, names::arm::SUBSCRIPTION_ID),
    ] {
        if let (Some(one), Some(other)) = (env.get(first), env.get(second))
            && !one.trim().eq_ignore_ascii_case(other.trim())
        {
            let counts = if given { "the flag" } else { first };
            warnings.push((
                format!("{first} and {second} differ: {counts} counts"),
                Some(format!("remove one of {first} and {second}, or make them equal")),
            ));
        }
    }
    if env.is_set(names::arm::OIDC_TOKEN) {
        warnings.push((
            format!(
                "{} is set: Terraform takes it, which is never renewed, or refuses it beside this login's",
                names::arm::OIDC_TOKEN
            ),
            Some(format!("remove {} from the job", names::arm::OIDC_TOKEN)),
        ));
    }
    let step = match &refused {
        Some(error) => Step::failed(id, &error.to_string(), 2).hints(&error.hints()),
        None => match warnings.as_slice() {
            [] => Step::ok(id, "no variable contradicts another, or this login"),
            [(only, hint)] => {
                let step = Step::warning(id, only);
                return hint.iter().fold(step, |step, hint| step.hint(hint.clone()));
            }
            several => Step::warning(id, &format!("{} contradictions", several.len())),
        },
    };
    warnings.into_iter().fold(step, |step, (warning, hint)| {
        let step = step.with(&warning);
        match hint {
            Some(hint) => step.hint(hint),
            None => step,
        }
    })
}

/// The cloud, its Entra, and the audience.
pub(super) fn cloud(target: &Result<Target, Error>, args: &DoctorArgs) -> Step {
    let id = "cloud";
    let target = match target {
        Ok(target) => target,
        Err(error) => return Step::error(id, error),
    };
    let rows = [("Entra", target.authority.as_str().to_owned()), ("audience", target.audience.to_string())];
    let clouds_own = target.cloud.audience();
    if args.identity.cloud.audience.is_some() && target.audience != clouds_own {
        let odd = format!("{}, but not its audience, which is {clouds_own}", target.cloud.name);
        return Step::warning(id, &odd)
            .with_table(&rows)
            .hint("leave `--audience` away unless the federated credential has that one");
    }
    Step::ok(id, target.cloud.name).with_table(&rows)
}

const NO_SUBSCRIPTION: &str = "none: later steps must choose one";

/// The ids, where they come from, and whether they can be right.
pub(super) fn identity(
    wanted: &Result<Wanted, Option<Error>>,
    args: &DoctorArgs,
    flags_come_from: &str,
    env: &Env,
) -> Step {
    let id = "identity";
    let identity = match wanted {
        Ok(Wanted::Federated(identity)) => identity,
        Ok(Wanted::OfHost(of_host)) => {
            let tenant = of_host.tenant.as_ref().map(ToString::to_string);
            let subscription = of_host.subscription.as_ref().map(ToString::to_string);
            let rows = [
                ("identity", of_host.selector.words()),
                ("tenant", tenant.unwrap_or_else(|| "as the host's token says".to_owned())),
                ("subscription", subscription.unwrap_or_else(|| NO_SUBSCRIPTION.to_owned())),
            ];
            return Step::ok(id, "a managed identity of this host; `exchange` asks for it").with_table(&rows);
        }
        Err(Some(Error::Platform(_))) => {
            return Step::skipped(id, "not chosen: there is no OIDC token that `--identity-map` could go by");
        }
        Err(Some(error)) => return Step::error(id, error),
        Err(None) => {
            return Step::skipped(
                id,
                "not chosen: `--identity-map` goes by the OIDC token, which takes a request",
            );
        }
    };
    let from = |flag: bool, variables: [&'static str; 2]| {
        if flag { flags_come_from } else { env.first(&variables).map_or("nowhere", |(name, _)| name) }
    };
    let given = &args.identity;
    let client = from(given.client_id.is_some(), [names::azure::CLIENT_ID, names::arm::CLIENT_ID]);
    let tenant = from(given.tenant_id.is_some(), [names::azure::TENANT_ID, names::arm::TENANT_ID]);
    let subscription =
        from(given.subscription_id.is_some(), [names::azure::SUBSCRIPTION_ID, names::arm::SUBSCRIPTION_ID]);
    let rows = [
        ("client", format!("{} from {client}", identity.client)),
        ("tenant", format!("{} from {tenant}", identity.tenant)),
        (
            "subscription",
            identity
                .subscription
                .as_ref()
                .map_or_else(|| NO_SUBSCRIPTION.to_owned(), |id| format!("{id} from {subscription}")),
        ),
    ];
    let mut ids = vec![("client", identity.client.as_str()), ("tenant", identity.tenant.as_str())];
    ids.extend(identity.subscription.as_ref().map(|id| ("subscription", id.as_str())));
    for (place, (one, value)) in ids.iter().enumerate() {
        if let Some((other, _)) = ids.iter().skip(place + 1).find(|(_, other)| other == value) {
            return Step::warning(id, &format!("{one} and {other} have the same id"))
                .with_table(&rows)
                .hint("one of them was copied to the wrong place: these are three different ids");
        }
    }
    Step::ok(id, "the ids are well-formed").with_table(&rows)
}

/// Proxies and CA certificates.
pub(super) fn network(endpoints: &[(&str, &Endpoint)], env: &Env) -> (Step, Option<Http>) {
    let id = "network";
    let made = Http::new(env, endpoints.iter().map(|(_, endpoint)| *endpoint))
        .and_then(|http| Ok((ways(id, endpoints, env, &http)?, Some(http))));
    made.unwrap_or_else(|error| (Step::error(id, &Error::Http(error)), None))
}

/// How each server is reached, and which certificates count.
fn ways(
    id: &'static str,
    endpoints: &[(&str, &Endpoint)],
    env: &Env,
    http: &Http,
) -> Result<Step, http::Error> {
    let named = |names: [&'static str; 2]| names.into_iter().find(|name| env.is_set(name));
    let set = named(names::system::HTTPS_PROXY).or_else(|| named(names::system::ALL_PROXY));
    let excepted = named(names::system::NO_PROXY);
    let mut rows = Vec::new();
    let mut is_any_through = false;
    for (what, endpoint) in endpoints {
        let way = if endpoint.is_loopback() {
            "on this machine".to_owned()
        } else if let Some(proxy) = http.proxy_for(endpoint)? {
            is_any_through = true;
            format!("through the proxy {proxy}")
        } else {
            "directly".to_owned()
        };
        rows.push((*what, format!("{} {way}", endpoint.host())));
    }
    let certificates = [names::system::SSL_CERT_FILE, names::system::SSL_CERT_DIR];
    rows.push((
        "CA certificates",
        certificates.into_iter().find(|name| env.is_set(name)).map_or_else(
            || "the system's; where it has none, Mozilla's as built in".to_owned(),
            |name| format!("those of {name}, and no others"),
        ),
    ));
    let summary = match (is_any_through, excepted) {
        (false, None) => "no proxy".to_owned(),
        (false, Some(name)) => format!("no proxy, or {name} excepts these hosts"),
        _ => format!("a proxy, by {}", set.unwrap_or("the system's settings")),
    };
    Ok(Step::ok(id, &summary).with_table(&rows))
}

/// Whether what a login leaves for later steps could be written.
pub(super) fn handover(is_identified: bool, env: &Env) -> Step {
    let id = "handover";
    if !is_identified {
        return Step::skipped(id, "not tried: there is no identity");
    }
    match LoginDirectory::open(env) {
        // dropped, and with that removed again
        Ok(_) => Step::ok(id, &format!("{} can hold the files of a login", state::temp(env).display())),
        Err(error) => Step::error(id, &error.into()),
    }
}
