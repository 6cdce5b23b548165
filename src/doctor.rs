//! The login, step by step: what is fine, what is wrong, what could not be tried. Offline first, then online.

use std::{
    fmt::Write,
    fs,
    path::Path,
    rc::Rc,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use serde_json::{Value, json};

use crate::{
    assertion::Assertion,
    cli::{Consumer, DoctorArgs, SourceArgs},
    clock,
    config::{self, Identity, Target},
    entra::AccessToken,
    env::{Env, names},
    error::Error,
    http::{self, Http},
    identifiers::Endpoint,
    nearest,
    platform::Platform,
    run::Exchange,
    subject, text,
    trust::apply,
    ui::Ui,
};

/// A clock that is further off makes assertions look expired or not yet valid.
const TOLERATED_SKEW: u64 = 300;

/// How a step went.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Status {
    /// Fine.
    Ok,
    /// Works, and will hurt.
    Warning,
    /// Wrong.
    Failed,
    /// Not tried.
    Skipped,
}

impl Status {
    /// One word.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Ok => "ok",
            Self::Warning => "warning",
            Self::Failed => "failed",
            Self::Skipped => "skipped",
        }
    }
}

/// One step.
#[derive(Debug)]
pub struct Step {
    /// Its name, which stays.
    pub id: &'static str,
    /// How it went.
    pub status: Status,
    /// In one line.
    pub summary: String,
    /// What belongs to it, a line each.
    pub details: Vec<String>,
}

/// All steps.
#[derive(Debug, Default)]
pub struct Report {
    /// In their order.
    pub steps: Vec<Step>,
    /// What the login's would be.
    pub exit_code: u8,
}

impl Report {
    fn add(&mut self, id: &'static str, status: Status, summary: impl Into<String>, details: Vec<String>) {
        self.steps.push(Step { id, status, summary: text::one_line(&summary.into()), details });
    }

    /// A step that failed, in the words that `login` would have for it.
    fn fail(&mut self, id: &'static str, error: &Error) {
        if self.exit_code == 0 {
            self.exit_code = error.exit_code();
        }
        let rendered = error.render();
        let lines =
            rendered.lines().skip(1).map(|line| line.strip_prefix("azfed: ").unwrap_or(line).to_owned());
        self.add(id, Status::Failed, error.to_string(), lines.filter(|line| !line.is_empty()).collect());
    }

    fn skip(&mut self, ids: &[&'static str], why: &str) {
        for id in ids {
            self.add(id, Status::Skipped, why, Vec::new());
        }
    }

    /// For people. No line starts with foreign text.
    pub fn text(&self) -> String {
        let mut out = String::new();
        for step in &self.steps {
            let _ = writeln!(out, "{:8} {:14} {}", step.status.as_str(), step.id, text::inert(&step.summary));
            for line in &step.details {
                let _ = writeln!(out, "           {}", text::inert(line));
            }
        }
        let count = |status| self.steps.iter().filter(|step| step.status == status).count();
        let logs_in = self.steps.iter().any(|step| step.id == "exchange" && step.status == Status::Ok);
        let verdict = match (count(Status::Failed), count(Status::Warning)) {
            (0, 0) if logs_in => "this job can log in".to_owned(),
            (0, _) if logs_in => "this job can log in; see the warnings".to_owned(),
            (0, _) => "nothing is wrong as far as it was tried".to_owned(),
            (failed, _) => format!("{failed} failed"),
        };
        let _ = writeln!(out, "\n{verdict}");
        out
    }

    /// For machines.
    pub fn json(&self) -> String {
        let steps: Vec<Value> = self
            .steps
            .iter()
            .map(|step| {
                json!({ "id": step.id, "status": step.status.as_str(), "summary": step.summary, "details": step.details })
            })
            .collect();
        let ok = self.steps.iter().all(|step| step.status != Status::Failed);
        format!("{:#}\n", json!({ "ok": ok, "exit_code": self.exit_code, "steps": steps }))
    }
}

/// Goes through the login.
pub async fn examine(args: &DoctorArgs, env: &Env, ui: &Rc<Ui>) -> Report {
    let mut report = Report::default();
    let settings = settings(args, env, &mut report);
    network(env, &mut report);
    let target = Target::resolve(&args.identity.cloud, env).ok();
    let platform = target.as_ref().and_then(|target| platform(env, &args.source, target, &mut report));
    let rest = ["assertion", "credentials", "entra", "clock", "exchange", "subscriptions"];
    let (Some(target), Some(platform)) = (target, platform) else {
        report.skip(&rest, "the step before it failed");
        return report;
    };
    if args.offline && platform.endpoint().is_some() {
        report.skip(&rest, "`--offline`: the platform would have to be asked");
        return report;
    }
    let exchange = match Exchange::prepare(env, &args.source, &target, settings.as_ref(), ui) {
        Ok(exchange) => exchange,
        Err(error) => {
            report.fail("assertion", &error);
            report.skip(&rest[1..], "the step before it failed");
            return report;
        }
    };
    let got = exchange.within(args.source.timeout, exchange.assertion()).await;
    let assertion = match got {
        Ok(assertion) => assertion,
        Err(error) => {
            report.fail("assertion", &error);
            report.skip(&rest[1..], "there is no assertion");
            return report;
        }
    };
    say_assertion(&assertion, platform.endpoint().is_some(), &mut report);
    let configured = match (&args.credentials, &settings) {
        (Some(file), _) => Some(from_file(file)),
        (None, Some(identity)) if args.with_arm && !args.offline => {
            Some(from_resource_manager(args, env, &target, identity, ui).await)
        }
        _ => None,
    };
    compare(configured, &assertion, &target, &mut report);
    if args.offline {
        report.skip(&rest[2..], "`--offline`");
        return report;
    }
    let Some(identity) = settings else {
        report.skip(&rest[2..], "there is no identity to be");
        return report;
    };
    if !entra(env, &target, &identity, args.source.timeout, &mut report).await {
        report.skip(&["exchange", "subscriptions"], "Microsoft Entra was not reached");
        return report;
    }
    let scope = target.cloud.resource_manager_scope();
    let exchanged = exchange.access_token(&identity, &assertion, &scope);
    match exchange.within(args.source.timeout, exchanged).await {
        Ok((token, _)) => {
            let minutes = token.life() / 60;
            let summary = format!("Microsoft Entra takes this job as {}", identity.client);
            let details = vec![format!("access token for {} for {minutes} minutes", scope.resource())];
            report.add("exchange", Status::Ok, summary, details);
            subscriptions(args, env, &target, &identity, &token, &mut report).await;
        }
        Err(error) => {
            report.fail("exchange", &error);
            report.skip(&["subscriptions"], "there is no access token");
        }
    }
    report
}

/// Ids, cloud, and variables that contradict one another or this login.
fn settings(args: &DoctorArgs, env: &Env, report: &mut Report) -> Option<Identity> {
    let mut warnings = Vec::new();
    let resolved = Target::resolve(&args.identity.cloud, env)
        .and_then(|target| Ok((target, Identity::resolve(&args.identity, env, &mut warnings)?)));
    let all = [Consumer::Terraform, Consumer::Az, Consumer::Sdk].into_iter().collect();
    let other = config::refuse_other_credentials(env, &all).err();
    if env.is_set(names::arm::OIDC_TOKEN) {
        warnings.push("ARM_OIDC_TOKEN is set: Terraform prefers it to a login".to_owned());
    }
    let (target, identity) = match resolved {
        Ok(resolved) => resolved,
        Err(error) => {
            report.fail("settings", &error.into());
            return None;
        }
    };
    let mut details =
        vec![format!("client        {}", identity.client), format!("tenant        {}", identity.tenant)];
    details.extend(identity.subscription.iter().map(|id| format!("subscription  {id}")));
    details.push(format!("authority     {}", target.authority.as_str()));
    details.push(format!("audience      {}", target.audience));
    let mut status = if warnings.is_empty() { Status::Ok } else { Status::Warning };
    details.extend(warnings.iter().map(|warning| format!("warning: {}", text::one_line(warning))));
    if let Some(other) = other {
        // `login` refuses; what comes after can be tried all the same
        status = Status::Failed;
        report.exit_code = 2;
        details.push(format!("error: {other}"));
        details.extend(other.hints().iter().map(|hint| format!("hint: {}", hint.text)));
    }
    report.add("settings", status, format!("{}, ids well formed", target.cloud.name), details);
    Some(identity)
}

/// Proxies and certificates, by the names of their variables.
fn network(env: &Env, report: &mut Report) {
    let proxies = ["HTTPS_PROXY", "https_proxy", "ALL_PROXY", "all_proxy", "NO_PROXY", "no_proxy"];
    let certificates = [names::system::SSL_CERT_FILE, names::system::SSL_CERT_DIR];
    let set = |names: &[&str]| {
        let set: Vec<&str> = names.iter().copied().filter(|name| env.is_set(name)).collect();
        if set.is_empty() { "none set".to_owned() } else { set.join(", ") }
    };
    let details =
        vec![format!("proxy         {}", set(&proxies)), format!("certificates  {}", set(&certificates))];
    match "https://login.microsoftonline.com".parse::<Endpoint>().ok().map(|any| Http::new(env, [&any])) {
        Some(Err(error)) => report.fail("network", &error.into()),
        _ => report.add("network", Status::Ok, "certificates of authorities are found", details),
    }
}

fn platform(env: &Env, source: &SourceArgs, target: &Target, report: &mut Report) -> Option<Platform> {
    match Platform::detect(env, source, &target.audience) {
        Ok(platform) => {
            let variables = platform.variables();
            let found =
                if variables.is_empty() { String::new() } else { format!("set: {}", variables.join(", ")) };
            let details = if found.is_empty() { Vec::new() } else { vec![found] };
            report.add("platform", Status::Ok, platform.describe(), details);
            Some(platform)
        }
        Err(error) => {
            report.fail("platform", &error.into());
            None
        }
    }
}

fn say_assertion(assertion: &Assertion, minted: bool, report: &mut Report) {
    let claims = &assertion.claims;
    let shown = |value: &str| if value.is_empty() { "(none)".to_owned() } else { text::one_line(value) };
    let mut details = vec![
        format!("issuer    {}", shown(&claims.iss)),
        format!("subject   {}", shown(&claims.sub)),
        format!("audience  {}", shown(&claims.aud.join(", "))),
    ];
    details.extend(subject::words(&claims.sub).map(|words| format!("that is   {}", text::one_line(&words))));
    let life = if minted { claims.life() } else { claims.left(SystemTime::now()) };
    let left = if minted { "lives" } else { "has yet to live" };
    report.add("assertion", Status::Ok, format!("the OIDC token {left} {} s", life.as_secs()), details);
}

fn from_file(file: &Path) -> Result<Vec<nearest::Credential>, Error> {
    let read =
        fs::read_to_string(file).map_err(|error| error.to_string()).and_then(|json| nearest::read(&json));
    read.map_err(|reason| config::Error::Credentials { file: file.to_owned(), reason }.into())
}

/// The identity's credentials, as its owner sees them.
async fn from_resource_manager(
    args: &DoctorArgs,
    env: &Env,
    target: &Target,
    identity: &Identity,
    ui: &Ui,
) -> Result<Vec<nearest::Credential>, Error> {
    let unknown = |what: &str| apply::Error::Unknown(what.to_owned());
    let subscription =
        identity.subscription.as_ref().ok_or_else(|| unknown("the identity's subscription is not named"))?;
    let base = resource_manager(args, target)
        .ok_or_else(|| unknown("this cloud's Azure Resource Manager is not known"))?;
    let token = apply::operators_token(target.cloud.resource_manager_scope().resource()).await?;
    ui.mask(&token).map_err(|error| Error::Platform(crate::platform::Error::Mask(error)))?;
    let http = Http::new(env, [&base])?;
    let manager = apply::ResourceManager::new(base, &http, token, ui)?;
    let path = manager.path_of(subscription, identity.client.as_str()).await?;
    let path =
        path.ok_or_else(|| unknown("you see no managed identity with this client id in the subscription"))?;
    Ok(manager.credentials(&path).await?)
}

fn resource_manager(args: &DoctorArgs, target: &Target) -> Option<Endpoint> {
    args.resource_manager.clone().or_else(|| target.cloud.resource_manager_scope().resource().parse().ok())
}

/// Presented against configured, where it is known what is configured.
fn compare(
    configured: Option<Result<Vec<nearest::Credential>, Error>>,
    assertion: &Assertion,
    target: &Target,
    report: &mut Report,
) {
    match configured {
        None => {
            let how = "`--credentials FILE` or `--with-arm` compares with what the identity has";
            report.add("credentials", Status::Skipped, how, Vec::new());
        }
        Some(Err(error)) => report.fail("credentials", &error),
        Some(Ok(credentials)) => {
            let presented = nearest::Presented::of(&assertion.claims, &target.audience);
            let outcome = nearest::compare(&presented, &credentials);
            let mut lines = outcome.render().into_iter();
            let summary = lines.next().unwrap_or_default();
            let matches = matches!(outcome, nearest::Outcome::Match(_));
            if !matches && report.exit_code == 0 {
                report.exit_code = 4;
            }
            let status = if matches { Status::Ok } else { Status::Failed };
            report.add("credentials", status, summary, lines.collect());
        }
    }
}

/// Whether Entra is there and knows the tenant, and what time it has.
async fn entra(
    env: &Env,
    target: &Target,
    identity: &Identity,
    timeout: Duration,
    report: &mut Report,
) -> bool {
    let endpoint = target.authority.discovery_endpoint(&identity.tenant);
    let answer = match ask(env, &endpoint, None, timeout).await {
        Ok(answer) => answer,
        Err(error) => {
            report.fail("entra", &error);
            report.skip(&["clock"], "there is no clock to compare with");
            return false;
        }
    };
    let host = target.authority.host();
    if answer.status == 200 {
        report.add("entra", Status::Ok, format!("{host} is reached, and knows the tenant"), Vec::new());
    } else {
        let summary = format!("{host} answers {} for the tenant {}", answer.status, identity.tenant);
        let hint = "hint: the tenant id is no secret: `az account show --query tenantId`".to_owned();
        report.add("entra", Status::Warning, summary, vec![hint]);
    }
    let date = answer.date.as_deref().and_then(|date| httpdate::parse_http_date(date).ok());
    match date.and_then(|date| date.duration_since(UNIX_EPOCH).ok()) {
        Some(date) => {
            let (theirs, ours) = (date.as_secs(), clock::now());
            let skew = theirs.abs_diff(ours);
            if skew <= TOLERATED_SKEW {
                report.add("clock", Status::Ok, format!("within {} s of {host}'s", skew.max(1)), Vec::new());
            } else {
                let side = if ours > theirs { "ahead of" } else { "behind" };
                let summary = format!("this machine's clock is {skew} s {side} {host}'s");
                let hint = "hint: set it by NTP: tokens look expired, or not yet valid".to_owned();
                report.add("clock", Status::Warning, summary, vec![hint]);
            }
        }
        None => report.skip(&["clock"], "the answer has no date"),
    }
    true
}

async fn ask(
    env: &Env,
    endpoint: &Endpoint,
    token: Option<&AccessToken>,
    timeout: Duration,
) -> Result<http::Answer, Error> {
    let channel = Http::new(env, [endpoint])?.channel(endpoint)?;
    let mut request = channel.get(endpoint).header("accept", "application/json");
    if let Some(token) = token {
        request = request.bearer_auth(token.secret.expose());
    }
    let sent = tokio::time::timeout(timeout, channel.send(endpoint, request)).await;
    Ok(sent.map_err(|_| Error::Deadline { seconds: timeout.as_secs(), last: None })??)
}

/// Whether the identity may do anything: the classic "No subscriptions found".
async fn subscriptions(
    args: &DoctorArgs,
    env: &Env,
    target: &Target,
    identity: &Identity,
    token: &AccessToken,
    report: &mut Report,
) {
    const ID: &str = "subscriptions";
    let Some(base) = resource_manager(args, target) else {
        report.skip(&[ID], "this cloud's Azure Resource Manager is not known");
        return;
    };
    let endpoint = base.join("subscriptions").with_query("api-version", "2022-12-01");
    let answer = match ask(env, &endpoint, Some(token), args.source.timeout).await {
        Ok(answer) => answer,
        Err(error) => return report.fail(ID, &error),
    };
    let body: Value = serde_json::from_slice(&answer.body).unwrap_or_default();
    let Some(list) = body.get("value").and_then(Value::as_array).filter(|_| answer.status == 200) else {
        let message =
            body.pointer("/error/message").and_then(Value::as_str).unwrap_or("no list of subscriptions");
        let summary = format!("Azure Resource Manager answers {}: {message}", answer.status);
        return report.add(ID, Status::Warning, summary, Vec::new());
    };
    let assignee = token.object_id.as_deref().unwrap_or("<the identity's object id>");
    let scope = identity.subscription.as_ref().map_or("<subscription>", |id| id.as_str());
    let assign = vec![
        "hint: give the identity a role; a new one takes some minutes to work:".to_owned(),
        format!(
            "    az role assignment create --assignee-object-id {assignee} --assignee-principal-type ServicePrincipal \\"
        ),
        format!("      --role <role> --scope /subscriptions/{scope}"),
    ];
    let ids = list.iter().filter_map(|one| one.get("subscriptionId").and_then(Value::as_str));
    let ids: Vec<String> = ids.map(text::one_line).collect();
    let is_there = |id: &str| ids.iter().any(|other| other.eq_ignore_ascii_case(id));
    match &identity.subscription {
        _ if ids.is_empty() => {
            let summary = "the login works, but the identity has no role in any subscription";
            report.add(ID, Status::Warning, summary, assign);
        }
        Some(wanted) if !is_there(wanted.as_str()) => {
            let summary = format!("the identity has no role in subscription {wanted}");
            report.add(ID, Status::Warning, summary, assign);
        }
        _ => {
            let summary =
                format!("the identity sees {}", if ids.len() == 1 { "1 subscription" } else { "several" });
            report.add(ID, Status::Ok, summary, ids);
        }
    }
}
