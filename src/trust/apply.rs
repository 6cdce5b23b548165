//! Creates an identity, its federated credentials and, where asked for, one role assignment, through Azure Resource
//! Manager, with the operator's own login. The plan comes first; every write is one that may be made again.
//!
//! Sources: Azure REST API reference, Microsoft.ManagedIdentity 2023-01-31 (user assigned identities, federated identity
//! credentials), Microsoft.Authorization 2022-04-01 (role definitions, role assignments).

use std::time::Duration;

use serde_json::{Value, json};
use uuid::Uuid;

use crate::{
    clock::Moment,
    error::Hints,
    http::{self, Answer, Channel, Http},
    identifiers::{self, ClientId, Endpoint, Invalid, ObjectId, RoleScope, SubscriptionId, TenantId},
    nearest::{Credential, Owner},
    retry,
    secret::Secret,
    subject, text,
    ui::Ui,
};

const IDENTITY_API: &str = "2023-01-31";
const AUTHORIZATION_API: &str = "2022-04-01";
/// Tries of one request: Azure answers 409 to two writes on one identity at a time, and 429 to many in a row.
const MOST_TRIES: u32 = 8;
/// A new identity is not known everywhere at once.
const PROPAGATION: Duration = Duration::from_mins(3);
/// Readings of what there is after it was written.
const MOST_READINGS: u32 = 4;
/// Federated credentials that one identity can have.
const MOST: usize = 20;

/// Why Azure Resource Manager did not do it.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The operator has no login.
    #[error("there is no login of yours to do this with: {0}")]
    Operator(String),
    /// It said no.
    #[error("Azure Resource Manager refused to {what}: {status} {}", text::one_line(message))]
    Refused {
        /// What it was asked for.
        what: String,
        /// The HTTP status.
        status: u16,
        /// Its own words.
        message: String,
    },
    /// The way there.
    #[error("Azure Resource Manager was not reached: {0}")]
    Http(#[from] http::Error),
    /// The identity would have to be made, and nobody said where.
    #[error("there is no identity {0} yet, and `--location` does not say where to make it")]
    NoLocation(String),
    /// More than an identity can have.
    #[error("the identity would have {0} federated credentials, and it can have {MOST}")]
    TooMany(usize),
    /// Something that has to be known.
    #[error("{0}")]
    Unknown(String),
    /// Such a role is not there.
    #[error("there is no role `{}` at {scope}", text::one_line(role))]
    NoRole {
        /// Its name.
        role: String,
        /// Where it was looked for.
        scope: String,
    },
    /// Something in the file that no credential can be.
    #[error("credential `{}`: {reason}", text::one_line(name))]
    Credential {
        /// Its name.
        name: String,
        /// Why not.
        reason: &'static str,
    },
    /// A credential that is for another identity than the named one.
    #[error("credential `{}` is for {whose}, and not for {named}", text::one_line(name))]
    Foreign {
        /// Its name.
        name: String,
        /// Whose it is to be.
        whose: String,
        /// Who was named.
        named: String,
    },
    /// A credential that nobody said an identity for.
    #[error("credential `{}` names no {what}", text::one_line(name))]
    Ownerless {
        /// Its name.
        name: String,
        /// What it does not name.
        what: &'static str,
    },
    /// One role for many.
    #[error("`--role` goes to one identity, and the file has credentials for {0}")]
    RoleForSeveral(usize),
    /// Nothing to do.
    #[error("the file has no credentials")]
    Empty,
    /// An expression, which this version of the API does not take.
    #[error("credential `{}` has an expression (flexible), and no subject", text::one_line(.0))]
    Flexible(String),
    /// A name that would lead elsewhere in a URL.
    #[error("`{}` is no name of {what}", text::one_line(name))]
    Name {
        /// Of what.
        what: &'static str,
        /// The name.
        name: String,
    },
}

impl Error {
    /// The next steps.
    pub fn hints(&self) -> Hints {
        match self {
            Self::Operator(_) => Hints::one(
                "`az login` first, as somebody who may do this: Managed Identity Contributor on the resource group, and for a \
                 role Role Based Access Control Administrator",
            ),
            Self::Refused { status: 401 | 403, .. } => Hints::one(
                "your own login needs Managed Identity Contributor on the resource group, and for a role Role Based Access \
                 Control Administrator",
            ),
            Self::Foreign { .. } => Hints::one(
                "leave `--identity` and `--resource-group` away: then each credential goes to the identity that its entry names; or \
                 give it the file of one identity alone; a client id is what the identity map says",
            ),
            Self::Ownerless { what: "identity", .. } => Hints::one(
                "say `--identity`, or put the name into the identity map's entry as `identity`, and print the list again",
            ),
            Self::Ownerless { .. } => Hints::one(
                "say `--resource-group`, or put it into the identity map's entry as `resource_group`, and print the list again",
            ),
            Self::Flexible(_) => Hints::one(
                "`apply` creates exact credentials only: `azfed trust … --flexible --as az` prints the command for a managed identity, \
                 which may refuse it, and `--as az-app` the one for an app registration",
            ),
            Self::RoleForSeveral(_) => Hints::one(
                "apply the map's file without `--role`; then one identity's credentials with it, or `az role assignment create`",
            ),
            Self::Http(error) => Hints::one(error.hint().unwrap_or(
                "check that this machine reaches Azure Resource Manager: proxy (HTTPS_PROXY, NO_PROXY), firewall, CA \
                 (SSL_CERT_FILE)",
            )),
            Self::TooMany(_) => Hints::one("use another identity, or remove credentials that no job needs"),
            Self::NoRole { .. } => {
                Hints::one("its name is as `az role definition list --query [].roleName` has it")
            }
            _ => Hints::none(),
        }
    }

    /// Whether another try may help.
    pub fn is_network(&self) -> bool {
        match self {
            Self::Http(_) => true,
            Self::Refused { status, .. } => retry::is_transient_status(*status),
            _ => false,
        }
    }
}

/// Azure Resource Manager, with somebody's access token.
#[derive(Debug)]
pub struct ResourceManager<'a> {
    base: Endpoint,
    channel: Channel,
    token: Secret,
    ui: &'a Ui,
    /// All tries for one request together.
    timeout: Duration,
}

/// What is wanted.
#[derive(Debug)]
pub struct Wanted {
    /// Subscription of the identity.
    pub subscription: SubscriptionId,
    /// Its resource group, which must be there.
    pub resource_group: String,
    /// Its name.
    pub identity: String,
    /// Where to make it, if it is not there.
    pub location: Option<String>,
    /// Its credentials; others that it has stay.
    pub credentials: Vec<Credential>,
    /// A role, and where.
    pub role: Option<(String, RoleScope)>,
}

/// Which identity gets which credentials: the named one all of them, unless one is another's; else each its own.
pub fn by_identity(
    identity: Option<&str>,
    resource_group: Option<&str>,
    credentials: Vec<Credential>,
) -> Result<Vec<(String, String, Vec<Credential>)>, Error> {
    let mut found: Vec<(String, String, Vec<Credential>)> = Vec::new();
    for credential in credentials {
        let Owner { identity: own, resource_group: own_group, .. } = &credential.owner;
        let differs = |named: Option<&str>, own: &Option<String>| {
            named.zip(own.as_deref()).is_some_and(|(named, own)| !named.eq_ignore_ascii_case(own))
        };
        if differs(identity, own) || differs(resource_group, own_group) {
            let said = |name: Option<&str>, group: Option<&str>| {
                let name = name.map(|name| format!("identity `{}`", text::one_line(name)));
                let group = group.map(|group| format!("resource group `{}`", text::one_line(group)));
                name.into_iter().chain(group).collect::<Vec<_>>().join(" in ")
            };
            return Err(Error::Foreign {
                name: credential.name.clone(),
                whose: said(own.as_deref(), own_group.as_deref()),
                named: said(identity, resource_group),
            });
        }
        let missing = |what| Error::Ownerless { name: credential.name.clone(), what };
        let name = identity.or(own.as_deref()).ok_or_else(|| missing("identity"))?.to_owned();
        let group =
            resource_group.or(own_group.as_deref()).ok_or_else(|| missing("resource group"))?.to_owned();
        let is_here = |(other, other_group, _): &&mut (String, String, Vec<Credential>)| {
            other.eq_ignore_ascii_case(&name) && other_group.eq_ignore_ascii_case(&group)
        };
        match found.iter_mut().find(is_here) {
            Some((_, _, credentials)) => credentials.push(credential),
            None => found.push((name, group, vec![credential])),
        }
    }
    match (identity, resource_group) {
        // the identity alone, and perhaps its role
        (Some(identity), Some(group)) if found.is_empty() => {
            Ok(vec![(identity.to_owned(), group.to_owned(), Vec::new())])
        }
        _ if found.is_empty() => Err(Error::Empty),
        _ => Ok(found),
    }
}

/// One step of the plan.
#[derive(Debug)]
enum Step {
    MakeIdentity { location: String },
    Write(Credential, &'static str),
    Assign { role: String, scope: RoleScope, definition: String },
}

/// What there is, and what is to be done.
#[derive(Debug)]
pub struct Plan {
    path: String,
    ids: Option<Ids>,
    steps: Vec<Step>,
    lines: Vec<String>,
}

/// Ids of an identity.
#[derive(Debug, Clone)]
pub struct Ids {
    /// Client id.
    pub client: ClientId,
    /// Object id of its service principal.
    pub principal: ObjectId,
    /// Tenant.
    pub tenant: TenantId,
}

/// The operator's own access token, from their az.
pub async fn operators_token(resource: &str, timeout: Duration) -> Result<Secret, Error> {
    let operator = |reason: String| Error::Operator(text::one_line(&reason));
    let mut az = tokio::process::Command::new(if cfg!(windows) { "az.cmd" } else { "az" });
    az.args(["account", "get-access-token", "--output", "json", "--resource", resource]);
    az.stdin(std::process::Stdio::null()).kill_on_drop(true);
    let output = tokio::time::timeout(timeout, az.output()).await;
    let output = output.map_err(|_| operator("az gave no access token in time".to_owned()))?;
    let output = output.map_err(|error| operator(format!("az: {error}")))?;
    if !output.status.success() {
        let words = String::from_utf8_lossy(&output.stderr);
        let first = words.lines().find(|line| !line.trim().is_empty()).unwrap_or_default().to_owned();
        return Err(operator(format!("az account get-access-token: {first}")));
    }
    let answer: Value = serde_json::from_slice(&output.stdout).unwrap_or_default();
    let token = answer.get("accessToken").and_then(Value::as_str).filter(|token| !token.is_empty());
    let token = token.ok_or_else(|| operator("az printed no access token".to_owned()))?;
    Ok(Secret::new(token.to_owned()))
}

impl Plan {
    /// For people, a line each.
    pub fn lines(&self) -> &[String] {
        &self.lines
    }

    /// Whether there is nothing to do.
    pub fn is_done(&self) -> bool {
        self.steps.is_empty()
    }
}

/// A name that stands in a path as it is.
fn named(what: &'static str, name: &str) -> Result<String, Error> {
    if identifiers::is_name(name) {
        Ok(name.to_owned())
    } else {
        Err(Error::Name { what, name: name.to_owned() })
    }
}

/// Whether these can be written as they are, one beside the other.
fn writable(credentials: &[Credential]) -> Result<(), Error> {
    for (place, credential) in credentials.iter().enumerate() {
        let wrong = |reason| Err(Error::Credential { name: credential.name.clone(), reason });
        if credential.subject.is_none() || credential.audiences.len() != 1 {
            return wrong("it has no subject, or not exactly one audience");
        }
        named("a federated credential", &credential.name)?;
        let before = &credentials[..place];
        if before.iter().any(|other| other.name.eq_ignore_ascii_case(&credential.name)) {
            return wrong("the file has another one of that name, letter case aside");
        }
        if before.iter().any(|other| is_for_the_same(other, credential)) {
            return wrong(
                "the file has another one with its issuer and subject, and an identity can have one",
            );
        }
    }
    Ok(())
}

/// Whether two have the same issuer and subject, which one identity can have once (Microsoft Learn "Workload identity
/// federation considerations").
fn is_for_the_same(one: &Credential, other: &Credential) -> bool {
    (&one.issuer, &one.subject) == (&other.issuer, &other.subject)
}

impl<'a> ResourceManager<'a> {
    /// One to ask.
    pub fn new(
        base: Endpoint,
        http: &Http,
        token: Secret,
        timeout: Duration,
        ui: &'a Ui,
    ) -> Result<Self, Error> {
        Ok(Self { channel: http.channel(&base)?, base, token, timeout, ui })
    }

    async fn ask(
        &self,
        method: &str,
        path: &str,
        query: &[(&str, &str)],
        body: Option<&Value>,
    ) -> Result<Answer, Error> {
        let mut endpoint = self.base.join(path.trim_start_matches('/'));
        for (name, value) in query {
            endpoint = endpoint.with_query(name, value);
        }
        let (since, mut next) = (Moment::now(), 2);
        loop {
            let request =
                if method == "PUT" { self.channel.put(&endpoint) } else { self.channel.get(&endpoint) };
            let mut request = request.bearer(&self.token).header("accept", "application/json");
            if let Some(body) = body {
                request = request.json(body);
            }
            let left = self.timeout.saturating_sub(since.elapsed());
            let late =
                || http::Error::Transport { host: endpoint.host(), reason: "no answer in time".to_owned() };
            let answer = tokio::time::timeout(left, self.channel.send(&endpoint, request)).await;
            let answer = answer.unwrap_or_else(|_| Err(late()));
            let (reason, retry_after) = match &answer {
                Ok(answer) if answer.status == 409 && code(answer) != "RoleAssignmentExists" => {
                    ("409".to_owned(), answer.retry_after)
                }
                Ok(answer) if retry::is_transient_status(answer.status) => {
                    (answer.status.to_string(), answer.retry_after)
                }
                Err(error) if error.is_transient() => (error.to_string(), None),
                _ => return Ok(answer?),
            };
            match retry::wait(next, retry_after, fastrand::f64()) {
                Some(wait) if next <= MOST_TRIES && since.elapsed() + wait < self.timeout => {
                    self.ui.info(&format!(
                        "Azure Resource Manager answers {reason}; trying again in {:.1} s",
                        wait.as_secs_f64()
                    ));
                    tokio::time::sleep(wait).await;
                }
                _ => return Ok(answer?),
            }
            next += 1;
        }
    }

    async fn get(&self, what: &str, path: &str, query: &[(&str, &str)]) -> Result<Option<Value>, Error> {
        let answer = self.ask("GET", path, query, None).await?;
        match answer.status {
            200 => match serde_json::from_slice(&answer.body) {
                Ok(body @ Value::Object(_)) => Ok(Some(body)),
                _ => Err(unreadable(what, "its answer is no JSON object")),
            },
            404 if ["ResourceNotFound", "ResourceGroupNotFound"].contains(&code(&answer).as_str()) => {
                if code(&answer) == "ResourceNotFound" { Ok(None) } else { Err(refused(what, &answer)) }
            }
            _ => Err(refused(what, &answer)),
        }
    }

    /// The federated credentials of an identity, at its path.
    pub async fn credentials(&self, path: &str) -> Result<Vec<Credential>, Error> {
        let query = [("api-version", IDENTITY_API)];
        let what = "list the identity's federated credentials";
        let list = self.get(what, &format!("{path}/federatedIdentityCredentials"), &query).await?;
        let list = list.map_or_else(|| "[]".to_owned(), |list| list.to_string());
        crate::nearest::read(&list).map_err(|message| Error::Refused {
            what: what.to_owned(),
            status: 200,
            message,
        })
    }

    /// Looks at what there is.
    pub async fn plan(&self, wanted: &Wanted) -> Result<Plan, Error> {
        let group = named("a resource group", &wanted.resource_group)?;
        let identity = named("an identity", &wanted.identity)?;
        for credential in &wanted.credentials {
            if credential.subject.is_none() {
                return Err(Error::Flexible(credential.name.clone()));
            }
        }
        writable(&wanted.credentials)?;
        let path = format!(
            "subscriptions/{}/resourceGroups/{group}/providers/Microsoft.ManagedIdentity/userAssignedIdentities/{identity}",
            wanted.subscription
        );
        let found = self.get("read the identity", &path, &[("api-version", IDENTITY_API)]).await?;
        let ids = found.as_ref().map(|found| ids_of("read the identity", found)).transpose()?;
        // the map's client id is what jobs log in as
        for credential in &wanted.credentials {
            let Some(client_id) = &credential.owner.client_id else { continue };
            let is = ids.as_ref().map(|ids| ids.client.as_str());
            if !is.is_some_and(|is| is.eq_ignore_ascii_case(client_id)) {
                return Err(Error::Foreign {
                    name: credential.name.clone(),
                    whose: format!("client id {}", text::one_line(client_id)),
                    named: match is {
                        Some(is) => format!("identity `{identity}`, whose client id is {is}"),
                        None => format!("identity `{identity}`, which is not there yet"),
                    },
                });
            }
        }
        let (mut steps, mut lines) = (Vec::new(), Vec::new());
        match (&ids, &wanted.location) {
            (Some(ids), _) => {
                lines.push(format!("keep    identity {identity} in {group}: client {}", ids.client));
            }
            (None, Some(location)) => {
                lines.push(format!("create  identity {identity} in {group}, {}", text::one_line(location)));
                steps.push(Step::MakeIdentity { location: location.clone() });
            }
            (None, None) => return Err(Error::NoLocation(identity)),
        }
        let there = if ids.is_some() { self.credentials(&path).await? } else { Vec::new() };
        let mut count = there.len();
        let mut spoken_for: Vec<String> = Vec::new();
        for credential in &wanted.credentials {
            let said =
                format!("{} for {}", credential.name, credential.subject.as_deref().unwrap_or_default());
            let said = text::one_line(&said);
            let same = |other: &&Credential| is_for_the_same(other, credential);
            let by_name = there.iter().find(|other| other.name.eq_ignore_ascii_case(&credential.name));
            let same = there.iter().find(same);
            // where there is one of the same issuer and subject, it is that one that stays or changes, by its own name
            let name =
                named("a federated credential", &same.unwrap_or(credential).name)?.to_ascii_lowercase();
            if spoken_for.contains(&name) {
                let reason = "another one of the file needs the credential of that name that the identity has: name it otherwise";
                return Err(Error::Credential { name: credential.name.clone(), reason });
            }
            spoken_for.push(name);
            match (same, by_name) {
                (Some(other), _) if other.audiences == credential.audiences => {
                    lines.push(format!(
                        "keep    credential {}",
                        text::one_line(&format!(
                            "{} for {}",
                            other.name,
                            credential.subject.as_deref().unwrap_or_default()
                        ))
                    ));
                }
                (Some(other), _) => {
                    lines.push(format!("change  credential {said}: another audience"));
                    steps.push(Step::Write(
                        Credential { name: other.name.clone(), ..credential.clone() },
                        "change",
                    ));
                }
                (None, Some(other)) => {
                    let before = other.subject.as_deref().unwrap_or("an expression");
                    lines.push(format!("change  credential {said}; it was for {}", text::one_line(before)));
                    steps.push(Step::Write(credential.clone(), "change"));
                }
                (None, None) => {
                    count += 1;
                    lines.push(format!("create  credential {said}"));
                    steps.push(Step::Write(credential.clone(), "create"));
                }
            }
        }
        if count > MOST {
            return Err(Error::TooMany(count));
        }
        if let Some((role, scope)) = &wanted.role {
            let definition = self.role(role, scope).await?;
            lines.push(format!("assign  role {} at {scope}", text::one_line(role)));
            steps.push(Step::Assign { role: role.clone(), scope: scope.clone(), definition });
        }
        Ok(Plan { path, ids, steps, lines })
    }

    async fn role(&self, role: &str, scope: &RoleScope) -> Result<String, Error> {
        let filter = format!("roleName eq '{}'", role.replace('\'', "''"));
        let query = [("api-version", AUTHORIZATION_API), ("$filter", filter.as_str())];
        let path = format!("{scope}/providers/Microsoft.Authorization/roleDefinitions");
        let list = self.get("look the role up", &path, &query).await?.unwrap_or_default();
        let list = list.get("value").and_then(Value::as_array).map(Vec::as_slice).unwrap_or_default();
        // the plan shows the name: it must be that role's, whatever the filter made of it
        let has_the_name = |one: &&Value| {
            let name = one.pointer("/properties/roleName").and_then(Value::as_str);
            name.is_some_and(|name| name.eq_ignore_ascii_case(role))
        };
        let id = list.iter().find(has_the_name).and_then(|one| one.get("id")).and_then(Value::as_str);
        id.map(ToOwned::to_owned)
            .ok_or_else(|| Error::NoRole { role: role.to_owned(), scope: scope.to_string() })
    }

    /// Does what the plan says, one write after the other, and reads what there is then.
    pub async fn apply(&self, plan: Plan, wanted: &Wanted) -> Result<Ids, Error> {
        let mut ids = plan.ids;
        let query = [("api-version", IDENTITY_API)];
        for step in plan.steps {
            match step {
                Step::MakeIdentity { location } => {
                    let body = json!({ "location": location });
                    let answer =
                        self.put("create the identity", &plan.path, &query, &body, Duration::ZERO).await?;
                    ids = Some(ids_of("create the identity", &answer)?);
                }
                Step::Write(credential, verb) => {
                    let path = format!("{}/federatedIdentityCredentials/{}", plan.path, credential.name);
                    let body = json!({ "properties": {
                        "issuer": credential.issuer,
                        "subject": credential.subject,
                        "audiences": credential.audiences,
                    } });
                    let what = format!("{verb} the federated credential {}", credential.name);
                    self.put(&what, &path, &query, &body, PROPAGATION).await?;
                    self.ui.info(&format!("{verb}d {}", text::one_line(&credential.name)));
                }
                Step::Assign { role, scope, definition } => {
                    let principal = match &ids {
                        Some(ids) => &ids.principal,
                        None => return Err(Error::NoLocation(wanted.identity.clone())),
                    };
                    // the same each time, so that a second run finds the first one's
                    let name = assignment_name(principal, &definition, &scope);
                    let path = format!("{scope}/providers/Microsoft.Authorization/roleAssignments/{name}");
                    let body = json!({ "properties": {
                        "roleDefinitionId": definition,
                        "principalId": principal.as_str(),
                        "principalType": "ServicePrincipal",
                    } });
                    let what = format!("assign the role {role}");
                    self.put(&what, &path, &[("api-version", AUTHORIZATION_API)], &body, PROPAGATION).await?;
                    self.ui.info(&format!("assigned {}", text::one_line(&role)));
                }
            }
        }
        self.prove(&plan.path, &wanted.credentials).await
    }

    /// Reads the identity and its credentials once more: what is said at the end is what Azure has then.
    async fn prove(&self, path: &str, credentials: &[Credential]) -> Result<Ids, Error> {
        let what = "read the identity again";
        for tries in 1.. {
            let identity = self.get(what, path, &[("api-version", IDENTITY_API)]).await?;
            let there = self.credentials(path).await?;
            let is_there = |credential: &&Credential| {
                there.iter().any(|other| {
                    is_for_the_same(other, credential) && other.audiences == credential.audiences
                })
            };
            match (&identity, credentials.iter().find(|credential| !is_there(credential))) {
                (Some(identity), None) => return ids_of(what, identity),
                _ if tries < MOST_READINGS => tokio::time::sleep(retry::propagation_wait(tries)).await,
                (Some(_), Some(missing)) => {
                    return Err(unreadable(
                        &format!("keep the federated credential {}", missing.name),
                        "the identity does not have it as it was written",
                    ));
                }
                (None, _) => return Err(unreadable(what, "it is not there")),
            }
        }
        Err(unreadable(what, "it is not there"))
    }

    /// A write. For as long as `patience` says, an identity that was made a moment ago may not be known yet.
    async fn put(
        &self,
        what: &str,
        path: &str,
        query: &[(&str, &str)],
        body: &Value,
        patience: Duration,
    ) -> Result<Value, Error> {
        let (since, mut tries) = (Moment::now(), 0);
        loop {
            let answer = self.ask("PUT", path, query, Some(body)).await?;
            let code = code(&answer);
            match answer.status {
                200..300 => return Ok(serde_json::from_slice(&answer.body).unwrap_or_default()),
                409 if code == "RoleAssignmentExists" => return Ok(Value::Null),
                400 | 404
                    if ["PrincipalNotFound", "ResourceNotFound"].contains(&code.as_str())
                        && since.elapsed() < patience =>
                {
                    tries += 1;
                    let wait = retry::propagation_wait(tries);
                    self.ui.info(&format!(
                        "the identity is not known everywhere yet; trying again in {} s",
                        wait.as_secs()
                    ));
                    tokio::time::sleep(wait).await;
                }
                _ => return Err(refused(what, &answer)),
            }
        }
    }
}

/// The ids in an identity. They are printed in a command, so each must be one.
fn ids_of(what: &str, identity: &Value) -> Result<Ids, Error> {
    let id = |name: &str| {
        let id = identity.pointer(&format!("/properties/{name}")).and_then(Value::as_str);
        id.ok_or_else(|| unreadable(what, &format!("its answer has no {name}")))
    };
    let wrong = |name: &'static str| move |invalid: Invalid| unreadable(what, &format!("{name}: {invalid}"));
    Ok(Ids {
        client: id("clientId")?.parse().map_err(wrong("clientId"))?,
        principal: id("principalId")?.parse().map_err(wrong("principalId"))?,
        tenant: id("tenantId")?.parse().map_err(wrong("tenantId"))?,
    })
}

/// An answer that says yes and not what it must say.
fn unreadable(what: &str, why: &str) -> Error {
    Error::Refused { what: what.to_owned(), status: 200, message: why.to_owned() }
}

fn code(answer: &Answer) -> String {
    let body: Value = serde_json::from_slice(&answer.body).unwrap_or_default();
    body.pointer("/error/code").and_then(Value::as_str).unwrap_or_default().to_owned()
}

fn refused(what: &str, answer: &Answer) -> Error {
    let body: Value = serde_json::from_slice(&answer.body).unwrap_or_default();
    let message = body.pointer("/error/message").and_then(Value::as_str).unwrap_or_default().to_owned();
    Error::Refused { what: what.to_owned(), status: answer.status, message }
}

/// A GUID of these three.
fn assignment_name(principal: &ObjectId, definition: &str, scope: &RoleScope) -> Uuid {
    text::name_based_uuid(&format!("{principal}|{definition}|{scope}").to_ascii_lowercase())
}

/// What is so now: who logs in as what.
pub fn proof(ids: &Ids, subscription: &SubscriptionId, credentials: &[Credential]) -> Vec<String> {
    let mut lines: Vec<String> = credentials
        .iter()
        .filter_map(|credential| Some((credential.issuer.as_str(), credential.subject.as_deref()?)))
        .map(|(issuer, subject)| {
            let words =
                subject::words(issuer, subject).unwrap_or_else(|| format!("a job with subject {subject}"));
            format!("{} can log in:", text::one_line(&words))
        })
        .collect();
    lines.push(format!(
        "    azfed login --client-id {} --tenant-id {} --subscription-id {subscription}",
        ids.client, ids.tenant
    ));
    lines.push(
        "what is new takes Entra some minutes: `--wait-for-propagation 2m` for a job that starts at once"
            .to_owned(),
    );
    lines
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_lead_nowhere_else() {
        for wrong in ["", "a/b", "..", "a?b", "a b", "a%2fb", "a#b"] {
            assert!(named("x", wrong).is_err(), "{wrong}");
        }
        assert_eq!(named("x", "rg-a_1.(b)").unwrap(), "rg-a_1.(b)");
    }

    #[test]
    fn an_assignment_has_the_same_name_each_time() {
        let id = |last: char| format!("abababab-1111-4111-8111-11111111111{last}");
        let name = |principal: &str, definition: &str, slash: &str| {
            let scope = format!("/subscriptions/{}{slash}", id('5')).parse().unwrap();
            assignment_name(&principal.parse().unwrap(), definition, &scope)
        };
        let (one, other) = (id('1'), id('2'));
        let name_of_one = name(&one, "/d", "");
        assert_eq!(name_of_one, name(&one.to_uppercase(), "/D", "/"));
        assert_ne!(name_of_one, name(&other, "/d", ""));
        let name = name_of_one;
        assert_eq!(name.get_version_num(), 5);
    }
}
