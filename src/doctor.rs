//! `azfed doctor`: a login step by step; of each step: fine, or what is wrong and what to do.
//!
//! A step fails where a login would fail, and warns where a login works but later steps may not. After a failed step it
//! goes on as far as that makes sense.

pub mod azure;
mod offline;
pub mod report;

use std::{
    future::Future,
    rc::Rc,
    time::{Duration, SystemTime},
};

use serde_json::Value;

use crate::{
    assertion::{Assertion, Claims},
    cli::{DoctorArgs, Form, TrustOptions},
    cloud::Cloud,
    config::{Identity, OfHost, Target, Wanted},
    entra::{
        self, AccessToken, Refusal,
        aadsts::{self, Class},
    },
    env::Env,
    error::{self, Error},
    exchange::{Acquired, Exchange},
    http::{self, Answer, Http},
    identifiers::{Endpoint, ObjectId, Scope, SubscriptionId},
    identity_map::IdentityMap,
    nearest::{self, Credential, Outcome},
    platform::Platform,
    run,
    secret::Secret,
    sink::github,
    subject, text,
    trust::{Trust, apply},
    ui::Ui,
};

use self::{
    azure::{ManagedIdentity, ResourceManager},
    report::{Report, Status, Step},
};

/// A clock that is further away than this is worth a word: answers take their time, and `Date` has no fractions.
const CLOCK_TOLERANCE: Duration = Duration::from_secs(30);
/// The most federated credentials that an identity can have (Microsoft Learn "Workload identity federation
/// considerations").
const MOST_CREDENTIALS: usize = 20;
/// Azure DevOps' older issuer, which ends on 2027-07-01 (azure-devops-docs
/// `docs/pipelines/release/troubleshoot-workload-identity.md`).
const ENDING_ISSUER: &str = "https://vstoken.dev.azure.com/";

const OFFLINE: &str = "not tried: --offline";

/// Everything that is known before the first request.
struct Examination<'a> {
    args: &'a DoctorArgs,
    env: &'a Env,
    ui: &'a Rc<Ui>,
    target: Result<Target, Error>,
    wanted: Result<Wanted, Option<Error>>,
    platform: Result<Platform, Error>,
    http: Option<Http>,
    resource_manager: Endpoint,
}

/// Goes through a login.
pub async fn examine(args: &DoctorArgs, env: &Env, ui: &Rc<Ui>) -> Report {
    let target = Target::resolve(&args.identity.cloud, env).map_err(Error::from);
    let audience = target.as_ref().map_or_else(|_| Cloud::public().audience(), |to| to.audience.clone());
    let of_host = OfHost::meant(&args.source, &args.identity, env);
    let platform = Platform::detect(env, &args.source, &audience, &of_host).map_err(Error::from);
    let target = match (target, &platform) {
        (Ok(target), Ok(platform)) => Ok(target.on(platform, ui)),
        (target, _) => target,
    };
    let is_minted =
        platform.as_ref().is_ok_and(|platform| platform.is_minted() && platform.managed_identity().is_none());
    let chosen = match &args.identity.identity_map {
        None => Ok(args.identity.clone()),
        Some(file) if args.offline && is_minted => Err(IdentityMap::load(file).err().map(Error::from)),
        Some(_) => {
            let chosen = run::identify(&args.identity, &args.source, env, ui).await;
            chosen.map(|(identity, _)| identity).map_err(Some)
        }
    };
    let flags_come_from = if args.identity.identity_map.is_some() { "`--identity-map`" } else { "the flag" };
    let (wanted, args) = match chosen {
        Ok(identity) => {
            let resolved = Wanted::resolve(&identity, &args.source, env, &mut Vec::new());
            (resolved.map_err(|error| Some(error.into())), &DoctorArgs { identity, ..args.clone() })
        }
        Err(error) => (Err(error), args),
    };
    let cloud = target.as_ref().map_or_else(|_| Cloud::public(), |target| target.cloud);
    let resource_manager = args.resource_manager.clone().unwrap_or_else(|| cloud.resource_manager());

    let mut report = Report::default();
    report.push(offline::platform(&platform, args, env));
    report.push(offline::variables(args, env));
    report.push(offline::conflicts(args, env));
    report.push(offline::cloud(&target, args));
    report.push(offline::identity(&wanted, args, flags_come_from, env));
    let identity = wanted.as_ref().ok().and_then(Wanted::federated);
    let entra = target
        .as_ref()
        .ok()
        .map(|to| to.authority.discovery_endpoint(identity.map(|identity| &identity.tenant)));
    let mut endpoints = Vec::new();
    endpoints.extend(platform.as_ref().ok().and_then(Platform::endpoint).map(|to| ("platform", to)));
    let entra = entra.filter(|_| !matches!(wanted, Ok(Wanted::OfHost(_))));
    endpoints.extend(entra.as_ref().map(|to| ("Entra", to)));
    endpoints.push(("Resource Manager", &resource_manager));
    let (network, http) = offline::network(&endpoints, env);
    report.push(network);
    report.push(offline::handover(wanted.is_ok(), env));

    let examination = Examination { args, env, ui, target, wanted, platform, http, resource_manager };
    examination.online(entra.as_ref(), &mut report).await;
    report
}

/// What became of the exchange.
enum Exchanged {
    Granted(Box<AccessToken>),
    /// With whether a credential or identity that is too new could be why.
    Failed {
        /// That.
        too_new: bool,
    },
    NotTried,
}

impl Examination<'_> {
    /// The steps that may need the network, or that need what these give.
    async fn online(&self, entra: Option<&Endpoint>, report: &mut Report) {
        let prepared = match (&self.target, &self.platform, &self.http) {
            (Ok(target), Ok(_), Some(_)) => {
                let wanted = self.wanted.as_ref().ok();
                Exchange::prepare(self.env, &self.args.source, target, wanted, self.ui)
                    .map_err(|error| Step::error("assertion", &error))
            }
            _ => Err(Step::skipped("assertion", "not tried: the steps before did not get so far")),
        };
        let (exchange, assertion) = match prepared {
            Ok(exchange) if exchange.of_host().is_some() => return self.of_host(&exchange, report).await,
            Ok(exchange) => {
                let assertion = self.assertion(&exchange, report).await;
                (Some(exchange), assertion)
            }
            Err(step) => {
                report.push(step);
                (None, None)
            }
        };
        let in_hand = || self.platform.as_ref().ok()?.claims_in_hand(self.ui);
        let claims = assertion.as_ref().map(|assertion| assertion.claims.clone()).or_else(in_hand);

        let reached = self.reach(entra, report).await;
        let exchanged = match (&exchange, &assertion, self.identity()) {
            _ if self.args.offline => {
                report.push(Step::skipped("exchange", OFFLINE));
                Exchanged::NotTried
            }
            (Some(exchange), Some(assertion), Some(identity)) if reached => {
                self.exchange(exchange, assertion, identity, report).await
            }
            (_, None, _) => {
                report.push(Step::skipped("exchange", "not tried: there is no usable OIDC token"));
                Exchanged::NotTried
            }
            (_, _, None) => {
                report.push(Step::skipped("exchange", "not tried: there is no identity"));
                Exchanged::NotTried
            }
            _ => {
                report.push(Step::skipped("exchange", "not tried: Entra was not reached"));
                Exchanged::NotTried
            }
        };
        report.push(self.subscriptions(&exchanged).await);
        report.push(self.credentials(claims.as_ref(), &exchanged).await);
    }

    fn identity(&self) -> Option<&Identity> {
        self.wanted.as_ref().ok().and_then(Wanted::federated)
    }

    /// The same steps where the host itself gives access tokens: there is nothing to exchange.
    async fn of_host(&self, exchange: &Exchange, report: &mut Report) {
        const NOT_NEEDED: &str = "not needed: the host gives access tokens by itself";
        for id in ["assertion", "dns", "connection", "clock", "entra"] {
            report.push(Step::skipped(id, NOT_NEEDED));
        }
        let (Ok(wanted), false) = (&self.wanted, self.args.offline) else {
            report.push(Step::skipped("exchange", OFFLINE));
            report.push(Step::skipped("subscriptions", OFFLINE));
            report.push(Step::skipped("credentials", NOT_NEEDED));
            return;
        };
        let scopes = [self.scope()];
        let acquired = exchange.within(self.args.source.timeout, exchange.acquire(wanted, &scopes)).await;
        let exchanged = match acquired {
            Ok(Acquired { identity, mut tokens, .. }) => match tokens.pop() {
                Some(token) => {
                    let mut rows = vec![
                        ("client id", identity.client.to_string()),
                        ("tenant", identity.tenant.to_string()),
                    ];
                    rows.extend(token.object_id.iter().map(|id| ("object id", id.clone())));
                    report.push(Step::ok("exchange", &given("the host", &token)).with_table(&rows));
                    Exchanged::Granted(Box::new(token))
                }
                None => Exchanged::NotTried,
            },
            Err(error) => {
                report.push(Step::error("exchange", &error));
                Exchanged::Failed { too_new: false }
            }
        };
        report.push(self.subscriptions(&exchanged).await);
        report.push(Step::skipped(
            "credentials",
            "not needed: an identity of the host needs no federated credential",
        ));
    }

    fn scope(&self) -> Scope {
        self.target.as_ref().map_or_else(|_| Cloud::public(), |target| target.cloud).resource_manager_scope()
    }

    /// The platform's OIDC token: whether it comes, and what it says.
    async fn assertion(&self, exchange: &Exchange, report: &mut Report) -> Option<Assertion> {
        let id = "assertion";
        if self.args.offline && exchange.is_minted() {
            report.push(Step::skipped(
                id,
                "not tried: it takes a request to the platform, and --offline stops before",
            ));
            return None;
        }
        match exchange.within(self.args.source.timeout, exchange.assertion()).await {
            Ok(assertion) => {
                report.push(describe(&assertion.claims, exchange.good_for(&assertion)));
                Some(assertion)
            }
            Err(error) => {
                let step = Step::error(id, &error);
                let in_hand =
                    self.platform.as_ref().ok().and_then(|platform| platform.claims_in_hand(self.ui));
                report.push(match in_hand {
                    Some(claims) => step.with_table(&shown(&claims)),
                    None => step,
                });
                None
            }
        }
    }

    /// Name resolution, TCP and TLS, this machine's clock, and whether it is Entra that answers.
    async fn reach(&self, entra: Option<&Endpoint>, report: &mut Report) -> bool {
        const STEPS: [&str; 4] = ["dns", "connection", "clock", "entra"];
        let (Some(endpoint), Some(http), false) = (entra, &self.http, self.args.offline) else {
            let why = if self.args.offline { OFFLINE } else { "not tried: see the steps before" };
            for id in STEPS {
                report.push(Step::skipped(id, why));
            }
            return false;
        };
        let resolved = self.resolve(http, endpoint).await;
        let is_resolved = resolved.status() != Status::Failed;
        report.push(resolved);
        if !is_resolved {
            for id in &STEPS[1..] {
                report.push(Step::skipped(id, "not tried: the name of Entra's server was not found"));
            }
            return false;
        }
        let answered = match http.channel(endpoint) {
            Ok(channel) => {
                let request = azure::get(&channel, endpoint, None, Some(self.args.source.timeout));
                self.in_time(endpoint, request).await
            }
            Err(error) => Err(error),
        };
        let connection = connected(endpoint, answered.as_ref().err());
        let is_connected = connection.status() != Status::Failed;
        report.push(connection);
        match &answered {
            Ok(answer) => {
                report.push(clock(answer.date, SystemTime::now()));
                report.push(answers_as_entra(answer));
            }
            Err(error) => {
                report.push(Step::skipped("clock", "not tried: there is no answer to compare with"));
                report.push(if is_connected {
                    Step::warning("entra", &error.to_string())
                        .hint("check `--authority-host`, and what stands between here and Entra")
                } else {
                    Step::skipped("entra", "not tried: there is no connection")
                });
            }
        }
        is_connected
    }

    async fn resolve(&self, http: &Http, endpoint: &Endpoint) -> Step {
        let id = "dns";
        if let Ok(Some(proxy)) = http.proxy_for(endpoint) {
            return Step::skipped(id, &format!("not tried: the proxy {proxy} resolves names"));
        }
        let (host, port) = endpoint.address();
        let found = tokio::time::timeout(
            self.args.source.timeout.min(Duration::from_secs(10)),
            tokio::net::lookup_host((host.as_str(), port)),
        );
        let reason = match found.await {
            Ok(Ok(addresses)) => {
                let mut addresses: Vec<String> = addresses.map(|address| address.ip().to_string()).collect();
                addresses.dedup();
                return match addresses.as_slice() {
                    [] => Step::failed(id, &format!("{host} has no address"), 5),
                    [only] if *only == host => Step::ok(id, &format!("{host} is an address")),
                    several => Step::ok(id, &format!("{host} is {}", several.join(", "))),
                };
            }
            Ok(Err(error)) => error.to_string(),
            Err(_) => "no answer in time".to_owned(),
        };
        Step::failed(id, &format!("{host} was not found: {reason}"), 5).hint(
            "check this machine's name servers; behind a proxy, set HTTPS_PROXY; check the spelling of `--authority-host`",
        )
    }

    async fn in_time(
        &self,
        endpoint: &Endpoint,
        request: impl Future<Output = Result<Answer, http::Error>>,
    ) -> Result<Answer, http::Error> {
        tokio::time::timeout(self.args.source.timeout, request).await.unwrap_or_else(|_| {
            Err(http::Error::Transport { host: endpoint.host(), reason: "no answer in time".to_owned() })
        })
    }

    async fn exchange(
        &self,
        exchange: &Exchange,
        assertion: &Assertion,
        identity: &Identity,
        report: &mut Report,
    ) -> Exchanged {
        let id = "exchange";
        let scope = self.scope();
        let token = exchange.access_token(identity, Some(assertion), &scope);
        match exchange.within(self.args.source.timeout, token).await {
            Ok((token, _)) => {
                let step = Step::ok(id, &given("Entra", &token));
                report.push(match &token.object_id {
                    Some(object) => step.with_table(&[("object id", object.clone())]),
                    None => step,
                });
                Exchanged::Granted(Box::new(token))
            }
            Err(error) => {
                report.push(Step::error(id, &error));
                let row = match &error {
                    Error::Entra { source: entra::Error::Refused(refusal), .. } => {
                        refusal.code().and_then(aadsts::row)
                    }
                    _ => None,
                };
                let too_new = row.is_some_and(|row| row.shows_command || row.class == Class::Propagation);
                Exchanged::Failed { too_new }
            }
        }
    }

    /// The subscriptions that the identity sees: a login without any role works, and helps nobody.
    async fn subscriptions(&self, exchanged: &Exchanged) -> Step {
        let id = "subscriptions";
        let (Exchanged::Granted(token), Some(http)) = (exchanged, &self.http) else {
            return Step::skipped(
                id,
                if self.args.offline { OFFLINE } else { "not tried: there is no access token" },
            );
        };
        let listed = match ResourceManager::new(http, &self.resource_manager, &token.secret) {
            Ok(manager) => self.asked(manager.subscriptions()).await,
            Err(error) => Err(error),
        };
        let seen = match listed {
            Ok(seen) => seen,
            Err(error) => {
                let hint = match &error {
                    azure::Error::Refused { .. } | azure::Error::Unreadable => {
                        "the login works, but later steps will get the same answer: check `--cloud` and the tenant"
                    }
                    azure::Error::Http(_) | azure::Error::Late => {
                        "the login works; check that this machine reaches Azure Resource Manager"
                    }
                };
                return Step::warning(id, &error.to_string()).hint(hint);
            }
        };
        let wanted = self.wanted.as_ref().ok().and_then(Wanted::subscription);
        let mut rows: Vec<(&str, String)> = seen
            .iter()
            .take(MOST_CREDENTIALS)
            .map(|one| (one.subscription_id.as_str(), format!("{} {}", one.state, one.display_name)))
            .collect();
        let more = format!("{} in all", seen.len());
        if seen.len() > rows.len() {
            rows.push(("…", more));
        }
        if seen.is_empty() {
            return Step::warning(
                id,
                "the login works, but the identity sees no subscription: it has no role in any",
            )
            .with("`az login` says of this: No subscriptions found")
            .hints(&assign(wanted, token.object_id.as_deref()));
        }
        let Some(wanted) = wanted else {
            return Step::ok(id, &format!("the identity sees {}", counted(seen.len()))).with_table(&rows);
        };
        match seen.iter().find(|one| one.subscription_id.eq_ignore_ascii_case(wanted.as_str())) {
            None => Step::warning(id, &format!("the identity does not see the subscription {wanted}"))
                .with_table(&rows)
                .hints(&assign(Some(wanted), token.object_id.as_deref())),
            Some(one) if !one.state.is_empty() && one.state != "Enabled" => {
                Step::warning(id, &format!("the subscription {wanted} is {}", one.state))
                    .with_table(&rows)
                    .hint("such a subscription takes no changes: ask its owner")
            }
            Some(_) => {
                Step::ok(id, &format!("the identity sees the subscription {wanted}")).with_table(&rows)
            }
        }
    }

    async fn asked<T>(
        &self,
        question: impl Future<Output = Result<T, azure::Error>>,
    ) -> Result<T, azure::Error> {
        tokio::time::timeout(self.args.source.timeout, question)
            .await
            .unwrap_or_else(|_| Err(azure::Error::Late))
    }

    /// What is presented against what is configured.
    async fn credentials(&self, claims: Option<&Claims>, exchanged: &Exchanged) -> Step {
        let id = "credentials";
        let found = match &self.args.credentials {
            Some(file) => match run::read_credentials(file) {
                Ok(credentials) => Ok((credentials, None)),
                Err(error) => return Step::error(id, &error),
            },
            None if self.args.offline => return Step::skipped(id, OFFLINE),
            None => self.configured(exchanged).await.map(|(list, whose)| (list, Some(whose))),
        };
        let (credentials, whose) = match found {
            Ok(found) => found,
            Err(skipped) => return skipped,
        };
        let (Some(claims), Ok(target)) = (claims, &self.target) else {
            return Step::skipped(id, "not compared: there is no OIDC token to compare with");
        };
        let presented = nearest::Presented::of(claims, &target.audience);
        let step = compared(&nearest::compare(&presented, &credentials), whose.as_ref(), exchanged);
        if step.status() == Status::Ok {
            return step;
        }
        let step = if credentials.len() >= MOST_CREDENTIALS {
            step.with(&format!(
                "the identity has {} credentials, and Azure allows no more",
                credentials.len()
            ))
        } else {
            step
        };
        match step.status() {
            Status::Failed => step.hints(&create(claims, target, self.identity(), whose.as_ref())),
            _ => step,
        }
    }

    /// The identity's federated credentials in Azure, read by the operator or by the identity itself.
    async fn configured(&self, exchanged: &Exchanged) -> Result<(Vec<Credential>, ManagedIdentity), Step> {
        let skipped = |why: &str| Step::skipped("credentials", &format!("not compared: {why}"));
        let (Some(identity), Ok(target), Some(http)) = (self.identity(), &self.target, &self.http) else {
            return Err(skipped("see the steps before"));
        };
        let operators;
        let access_token = if self.args.with_arm {
            operators = self.operators_token(target).await?;
            &operators
        } else {
            match exchanged {
                Exchanged::Granted(token) => &token.secret,
                Exchanged::Failed { too_new: true } => {
                    return Err(skipped("the identity cannot read them without a login").hint(
                        "run it with `--with-arm` where an az is logged in that may read the identity, or give it \
                         `--credentials FILE`: what `az identity federated-credential list --identity-name <identity> \
                         --resource-group <group>` prints",
                    ));
                }
                _ => return Err(skipped("there was no login")),
            }
        };
        let may_not = |error: &azure::Error| match error {
            error if error.is_forbidden() && !self.args.with_arm => {
                skipped("the identity may not read its own credentials, and need not")
            }
            error => skipped(&error.to_string()),
        };
        let manager = ResourceManager::new(http, &self.resource_manager, access_token)
            .map_err(|error| may_not(&error))?;
        let mut places: Vec<String> = identity.subscription.iter().map(ToString::to_string).collect();
        for one in self.asked(manager.subscriptions()).await.map_err(|error| may_not(&error))? {
            let id = one.subscription_id;
            let is_new = !places.iter().any(|known| known.eq_ignore_ascii_case(&id));
            if is_new && id.parse::<SubscriptionId>().is_ok() {
                places.push(id);
            }
        }
        let found = self.asked(manager.find(&identity.client, &places)).await;
        let Some(found) = found.map_err(|error| may_not(&error))? else {
            let client = &identity.client;
            let step = skipped(&format!(
                "no managed identity with client id {client} is in {}",
                counted(places.len())
            ));
            return Err(step.hint(format!(
                "an app registration has its credentials in Microsoft Graph: `az ad app federated-credential list --id \
                 {client} >credentials.json`, then `--credentials credentials.json`"
            )));
        };
        let credentials = self.asked(manager.credentials(&found)).await.map_err(|error| may_not(&error))?;
        Ok((credentials, found))
    }

    /// The operator's own access token, masked before it is returned; else why there is none.
    async fn operators_token(&self, target: &Target) -> Result<Secret, Step> {
        let skipped = |why: &str| Step::skipped("credentials", &format!("not compared: {why}"));
        let scope = target.cloud.resource_manager_scope();
        let asked = apply::operators_token(scope.resource(), self.args.source.timeout).await;
        let access_token = asked.map_err(|error| {
            let hint =
                "`az login` first, as somebody who may read the identity, or give it `--credentials FILE`";
            skipped(&error.to_string()).hint(hint)
        })?;
        self.ui.mask(&[&access_token]).map_err(|error| {
            skipped(&format!("az' access token could not be masked in this job's log: {error}"))
        })?;
        Ok(access_token)
    }
}

fn given(by: &str, token: &AccessToken) -> String {
    format!(
        "{by} gives an access token for {} until {}",
        token.scope.resource(),
        github::utc(token.expires_on)
    )
}

fn counted(subscriptions: usize) -> String {
    if subscriptions == 1 { "1 subscription".to_owned() } else { format!("{subscriptions} subscriptions") }
}

fn shown(claims: &Claims) -> Vec<(&'static str, String)> {
    let mut rows = vec![
        ("issuer", claims.iss.clone()),
        ("subject", claims.sub.clone()),
        ("audience", claims.aud.join(", ")),
    ];
    rows.extend(subject::words(&claims.iss, &claims.sub).map(|words| ("that is", words)));
    rows
}

/// What an assertion says, and what is odd about it.
fn describe(claims: &Claims, good_for: Duration) -> Step {
    let id = "assertion";
    let mut rows = shown(claims);
    rows.push(("lifetime", format!("{} s, {} s of them left", claims.life().as_secs(), good_for.as_secs())));
    let (summary, hint) = if claims.iss.starts_with(ENDING_ISSUER) {
        (
            "the OIDC token is Azure DevOps' older one, whose issuer ends on 2027-07-01",
            "convert the service connection to the newer issuer, and add its federated credential first",
        )
    } else if claims.aud.len() > 1 {
        (
            "the OIDC token has several audiences, and Entra takes one",
            "declare one audience in the job, and not a list",
        )
    } else if claims.sub.trim() != claims.sub || claims.iss.trim() != claims.iss {
        (
            "the OIDC token has white space at an end of its issuer or subject",
            "no federated credential can match that: correct what makes it",
        )
    } else {
        return Step::ok(id, "the platform gives an OIDC token").with_table(&rows);
    };
    Step::warning(id, summary).with_table(&rows).hint(hint)
}

/// What a try to ask Entra says about TCP and TLS.
fn connected(endpoint: &Endpoint, error: Option<&http::Error>) -> Step {
    let id = "connection";
    match error {
        Some(
            error @ (http::Error::Certificate { .. } | http::Error::Tls(_) | http::Error::NoRoots { .. }),
        ) => Step::failed(id, &format!("the certificate is not trusted: {error}"), 5)
            .hint(http::CERTIFICATE_HINT),
        Some(error @ http::Error::ProxyLogin { .. }) => {
            Step::failed(id, &format!("no connection to {error}"), 5).hint(error.hint().unwrap_or_default())
        }
        Some(error @ (http::Error::Transport { .. } | http::Error::Unreachable { .. })) => {
            Step::failed(id, &format!("no connection to {error}"), 5)
                .hint("check the proxy (HTTPS_PROXY, NO_PROXY), the firewall, and `--authority-host`")
        }
        _ if endpoint.is_https() => {
            Step::ok(id, &format!("{} answers, with a certificate that is trusted", endpoint.host()))
        }
        _ => Step::ok(id, &format!("{} answers, without TLS", endpoint.host())),
    }
}

/// This machine's clock against a server's.
fn clock(server: Option<SystemTime>, here: SystemTime) -> Step {
    let id = "clock";
    let Some(server) = server else {
        return Step::skipped(id, "not compared: the answer has no date");
    };
    let (skew, side) = match here.duration_since(server) {
        Ok(ahead) => (ahead, "ahead of"),
        Err(behind) => (behind.duration(), "behind"),
    };
    if skew <= CLOCK_TOLERANCE {
        return Step::ok(id, "this machine's clock is right");
    }
    Step::warning(id, &format!("this machine's clock is {} s {side} Entra's", skew.as_secs()))
        .hint("correct the clock (NTP): az, Terraform and the SDKs tell by it when a token has expired")
}

/// Whether a discovery document came, and not some proxy's page.
fn answers_as_entra(answer: &Answer) -> Step {
    let id = "entra";
    let document: Value = serde_json::from_slice(&answer.body).unwrap_or_default();
    if answer.status == 200 && document["token_endpoint"].is_string() {
        return Step::ok(id, "Microsoft Entra answers, and knows the tenant");
    }
    let refusal: Option<Refusal> = serde_json::from_value(document).ok();
    match refusal.filter(|refusal| !refusal.error_description.is_empty()) {
        Some(refusal) => Step::warning(id, "Microsoft Entra answers, but not for this tenant")
            .with(&refusal.words())
            .hint("check the tenant id and `--cloud`"),
        None => Step::warning(id, &format!("the answer ({}) is not Microsoft Entra's", answer.status)).hint(
            "a page of a proxy or firewall? check what stands between here and Entra, and `--authority-host`",
        ),
    }
}

/// The command that gives the identity a role. How long a new one takes: Microsoft Learn "Troubleshoot Azure RBAC".
fn assign(subscription: Option<&SubscriptionId>, object: Option<&str>) -> error::Hints {
    let subscription = subscription.map_or("<subscription>", SubscriptionId::as_str);
    let object = object.and_then(|object| object.parse::<ObjectId>().ok());
    let object = object.map_or_else(|| "<object id>".to_owned(), |object| object.to_string());
    error::Hints::with_lines(
        "give the identity a role, the least that the job needs, where it needs it (a new one can take ten minutes to work):",
        &[
            &format!("az role assignment create --assignee-object-id {object} \\"),
            "  --assignee-principal-type ServicePrincipal --role <role> \\",
            &format!("  --scope /subscriptions/{subscription}"),
        ],
    )
}

/// The command that creates the credential that is missing, with the names that are known by now.
fn create(
    claims: &Claims,
    target: &Target,
    identity: Option<&Identity>,
    whose: Option<&ManagedIdentity>,
) -> error::Hints {
    let fix = "correct that credential if no other job needs it, or add one for this job:";
    let Some(whose) = whose else {
        // whose the credentials in a file are, az knows
        return identity.map_or_else(error::Hints::none, |identity| {
            let (claims, audience) = (claims.clone(), target.audience.clone());
            error::Presented { claims, audience, identity: identity.clone() }.create_hints(fix)
        });
    };
    let options = TrustOptions {
        form: Form::Az,
        identity: Some(whose.name.clone()),
        resource_group: Some(whose.resource_group.clone()),
        client_id: None,
        name: None,
        cloud: None,
        audience: Some(target.audience.clone()),
    };
    let fix = fix.trim_end_matches(':');
    match Trust::of_claims(&claims.iss, &claims.sub, &options).and_then(|trust| trust.commands()) {
        Ok(commands) => error::Hints::with_lines(format!("{fix}:"), &commands.lines().collect::<Vec<_>>()),
        Err(error) => error::Hints::one(format!(
            "{fix} by hand; no command can be shown for it: {error}. A job whose environment, branch or tag has a plain name \
             gets one"
        )),
    }
}

/// The comparison, in the light of what Entra said.
fn compared(outcome: &Outcome, whose: Option<&ManagedIdentity>, exchanged: &Exchanged) -> Step {
    let id = "credentials";
    let lines = outcome.render();
    let (first, rest) = lines.split_first().map_or(("", &[][..]), |(first, rest)| (first.as_str(), rest));
    let step = match (outcome, exchanged) {
        (Outcome::Match(_), Exchanged::Failed { too_new: true }) => {
            Step::warning(id, &format!("{first}, but Entra does not see that")).hint(
                "a new credential takes some minutes to work: run the job again; if it stays so, these are the \
                 credentials of another identity than the client id's",
            )
        }
        (Outcome::Match(_), _) => Step::ok(id, first),
        (_, Exchanged::Granted(_)) => Step::warning(id, first)
            .hint("Entra accepted the job's token all the same: by a flexible credential, or this list is not current"),
        _ => Step::failed(id, first, 4),
    };
    let step = match whose {
        Some(whose) => step.with(&format!(
            "of the identity `{}` in resource group `{}`",
            text::one_line(&whose.name),
            text::one_line(&whose.resource_group)
        )),
        None => step,
    };
    rest.iter().fold(step, |step, line| step.with(line.strip_prefix("  ").unwrap_or(line)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn clocks() {
        let here = SystemTime::now();
        let seconds = Duration::from_secs;
        for (server, status) in [
            (Some(here), Status::Ok),
            (Some(here - seconds(29)), Status::Ok),
            (Some(here + seconds(29)), Status::Ok),
            (Some(here - seconds(31)), Status::Warning),
            (Some(here + seconds(31)), Status::Warning),
            (None, Status::Skipped),
        ] {
            assert_eq!(clock(server, here).status(), status);
        }
    }

    #[test]
    fn odd_assertions_are_named() {
        let claims = |iss: &str, sub: &str, aud: &[&str]| Claims {
            iss: iss.to_owned(),
            sub: sub.to_owned(),
            aud: aud.iter().map(|&aud| aud.to_owned()).collect(),
            ..Claims::default()
        };
        for (claims, status) in [
            (claims("https://i", "s", &["a"]), Status::Ok),
            (claims("https://vstoken.dev.azure.com/1", "sc://o/p/c", &["a"]), Status::Warning),
            (claims("https://i", "s", &["a", "b"]), Status::Warning),
            (claims("https://i", "s ", &["a"]), Status::Warning),
        ] {
            assert_eq!(describe(&claims, Duration::ZERO).status(), status, "{claims:?}");
        }
    }

    #[test]
    fn a_page_of_a_proxy_is_not_entra() {
        let answer = |status, body: &str| Answer {
            status,
            body: body.as_bytes().to_vec(),
            retry_after: None,
            request_id: None,
            date: None,
            challenge: None,
        };
        for (answer, status) in [
            (answer(200, r#"{"token_endpoint":"https://x"}"#), Status::Ok),
            (answer(200, "<html>"), Status::Warning),
            (answer(403, "{}"), Status::Warning),
            (
                answer(400, r#"{"error":"invalid_tenant","error_description":"AADSTS90002: no"}"#),
                Status::Warning,
            ),
        ] {
            assert_eq!(answers_as_entra(&answer).status(), status, "{}", answer.status);
        }
    }
}
