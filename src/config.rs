//! What was meant: flags first, then variables. All validation of input ends here.

use std::{collections::BTreeSet, fmt, str::FromStr, time::Duration};

use uuid::Uuid;

use crate::{
    cli::{CloudArgs, Consumer, IdentityArgs, LoginArgs, Output, SourceArgs, TokenArgs},
    cloud::{Cloud, CloudName, UnknownCloud},
    entra::AccessToken,
    env::{Env, names},
    error::Hints,
    identifiers::{Audience, Authority, ClientId, Invalid, Scope, SubscriptionId, TenantId},
    managed_identity::{self, Selector},
    platform::{self, Platform},
    ui::{Runner, Ui},
};

const CLIENT_ID_HINT: &str = "the client id is the identity's, and no secret: `az identity show --name <identity> \
                              --resource-group <group> --query clientId` (not the object or principal id)";
const TENANT_ID_HINT: &str = "the tenant id is no secret: `az account show --query tenantId`";

/// Why the input means nothing.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// An id that is needed is nowhere.
    #[error("no {what}: {flag} is not given, {first} and {second} are not set")]
    Missing {
        /// What it is.
        what: &'static str,
        /// The flag.
        flag: &'static str,
        /// The first variable.
        first: &'static str,
        /// The second variable.
        second: &'static str,
    },
    /// A variable's value cannot be.
    #[error("{variable}: {invalid}")]
    Variable {
        /// Which.
        variable: &'static str,
        /// Why.
        invalid: Invalid,
    },
    /// A variable names no cloud.
    #[error("{variable}: {unknown}")]
    Cloud {
        /// Which.
        variable: &'static str,
        /// Why.
        unknown: UnknownCloud,
    },
    /// Two variables name two clouds.
    #[error("{cloud_variable} says {cloud}, but {authority_variable} is the Entra of {other}")]
    Clouds {
        /// The variable with the cloud's name.
        cloud_variable: &'static str,
        /// That cloud.
        cloud: &'static str,
        /// The variable with the authority.
        authority_variable: &'static str,
        /// Whose authority it is.
        other: &'static str,
    },
    /// Another credential is configured, and it would win.
    #[error("{variable} is set: {reader} would use it, and not this login")]
    OtherCredential {
        /// Which.
        variable: &'static str,
        /// Who reads it.
        reader: &'static str,
    },
    /// An option that this way of handing over does not have.
    #[error("`--output-access-token` needs GitHub's step outputs")]
    NoOutputs,
    /// Endpoints' secrets would go to a file that a job keeps.
    #[error("`--endpoints` has secrets in its variables, and `--output dotenv` is for files that are kept")]
    EndpointsInFile,
    /// A list of credentials that is none.
    #[error("{} has no federated credentials: {}", file.display(), crate::text::one_line(reason))]
    Credentials {
        /// The file.
        file: std::path::PathBuf,
        /// Why not.
        reason: String,
    },
    /// `--output github` where GitHub's files are not named.
    #[error("{0} is not set: this is not a step of a GitHub job")]
    NotGitHub(&'static str),
    /// An id that only a host can look up.
    #[error("{0} names a managed identity of this host, and this login goes by an OIDC token")]
    HostOnly(&'static str),
    /// An identity in between that nobody named.
    #[error("`--via managed-identity` needs `--via-client-id` where the login begins with an OIDC token")]
    NoVia,
    /// A user's token is nobody's assertion (AADSTS700229).
    #[error("`--via managed-identity` needs a managed identity, and Cloud Shell has its user's tokens only")]
    ViaUser,
    /// A choice by what an OIDC token says, where there is none.
    #[error("`--identity-map` goes by what an OIDC token says, and {0} has none")]
    NoClaims(String),
    /// A host whose tokens only azfed can ask for, and nobody is left to ask.
    #[error("the {host} cannot be asked for a token by {clients}, and {why}")]
    NotServed {
        /// Who.
        clients: String,
        /// Whom.
        host: &'static str,
        /// Why azfed does not do it for them.
        why: &'static str,
    },
    /// The command line; clap's own words.
    #[error("{0}")]
    Usage(String),
}

impl Error {
    /// The next steps.
    pub fn hints(&self) -> Hints {
        match self {
            Self::Missing { what: "client id", .. } => Hints::one(CLIENT_ID_HINT),
            Self::Missing { .. } => Hints::one(TENANT_ID_HINT),
            Self::Variable { invalid: Invalid::UnexpandedMacro(_), .. } => Hints::one(
                "define the variable in the pipeline or its variable group; in a template, pass it as a parameter",
            ),
            Self::Clouds { .. } => Hints::one("set `--cloud`, which goes before both"),
            Self::OtherCredential { variable, .. } => {
                Hints::one(format!("remove {variable} from the job's variables; federation needs no secret"))
            }
            Self::NoOutputs => Hints::one("use `azfed token` where a step needs the access token itself"),
            Self::Credentials { .. } => Hints::one(
                "give it what `az identity federated-credential list --identity-name <identity> --resource-group <group>` prints",
            ),
            Self::EndpointsInFile => Hints::one("use `azfed exec -- COMMAND`, or another `--output`"),
            Self::NotGitHub(_) => Hints::one(
                "GitHub's runner sets it for each step: pass it on where a step runs azfed in a container or under sudo; to log in this \
                 shell alone, say `--output sh`",
            ),
            Self::Variable { variable, .. } => match *variable {
                names::azure::CLIENT_ID | names::arm::CLIENT_ID => Hints::one(CLIENT_ID_HINT),
                names::azure::TENANT_ID | names::arm::TENANT_ID => Hints::one(TENANT_ID_HINT),
                names::azure::AUTHORITY_HOST => Hints::one("unset it to use the cloud's own Entra"),
                _ => Hints::one("the subscription id is no secret: `az account list --query [].id`"),
            },
            Self::Cloud { variable, .. } => {
                Hints::one(format!("correct {variable}, or say `--cloud`, which goes before it"))
            }
            Self::HostOnly(_) => Hints::one(CLIENT_ID_HINT),
            Self::NoVia => Hints::one(CLIENT_ID_HINT),
            Self::ViaUser => Hints::one("leave `--via` away: the signed-in user acts"),
            Self::NoClaims(_) => Hints::one("name the identity with `--client-id`, or leave it to the host"),
            Self::NotServed { .. } => {
                Hints::one("use `azfed exec -- COMMAND`, which serves its command alone")
            }
            Self::Usage(_) => Hints::none(),
        }
    }
}

/// Who to be.
#[derive(Debug, Clone)]
pub struct Identity {
    /// Client id.
    pub client: ClientId,
    /// Tenant.
    pub tenant: TenantId,
    /// Subscription for later steps.
    pub subscription: Option<SubscriptionId>,
}

/// Who to be, as far as that is known before anybody is asked.
#[derive(Debug, Clone)]
pub enum Wanted {
    /// An identity that trusts an assertion.
    Federated(Identity),
    /// An identity of the host, which says whose tokens it gives.
    OfHost(OfHost),
}

/// An identity of the host.
#[derive(Debug, Clone, Default)]
pub struct OfHost {
    /// Which one.
    pub selector: Selector,
    /// Whether a flag says so, and not just a variable.
    pub chosen: bool,
    /// Tenant, where the token does not show it.
    pub tenant: Option<TenantId>,
    /// Subscription for later steps.
    pub subscription: Option<SubscriptionId>,
}

/// The managed identity between an assertion and an app registration.
#[derive(Debug, Clone)]
pub struct Via {
    /// Which one.
    pub selector: Selector,
    /// Its tenant.
    pub tenant: Option<TenantId>,
}

/// Where to log in.
#[derive(Debug, Clone)]
pub struct Target {
    /// The cloud.
    pub cloud: &'static Cloud,
    /// Its Entra, or another.
    pub authority: Authority,
    /// The audience that assertions are asked for.
    pub audience: Audience,
    /// Whether a flag says so.
    pub audience_is_chosen: bool,
}

/// `azfed login`, as meant.
#[derive(Debug)]
pub struct Login {
    /// Who to be.
    pub wanted: Wanted,
    /// Where.
    pub target: Target,
    /// What access tokens to get; at least one.
    pub scopes: Vec<Scope>,
    /// Who the login is for.
    pub consumers: BTreeSet<Consumer>,
    /// How it is handed over; never `Auto`.
    pub output: Output,
    /// Whether the first access token goes to the step's outputs.
    pub output_access_token: bool,
    /// Whether a background process renews it; unset, where that can be done.
    pub keep_fresh: Option<bool>,
    /// Whether later steps ask endpoints.
    pub endpoints: bool,
    /// The only resources that these serve.
    pub allowed: Vec<Scope>,
    /// All tries together.
    pub timeout: Duration,
    /// How long a credential may be unknown to Entra.
    pub propagation: Duration,
    /// What will hurt later.
    pub warnings: Vec<String>,
}

/// `azfed token`, as meant.
#[derive(Debug)]
pub struct Token {
    /// Who to be.
    pub wanted: Wanted,
    /// Where.
    pub target: Target,
    /// What for.
    pub scope: Scope,
    /// All tries together.
    pub timeout: Duration,
}

impl Login {
    /// Flags and variables in, meaning out.
    pub fn resolve(args: &LoginArgs, env: &Env) -> Result<Self, Error> {
        let consumers: BTreeSet<Consumer> = args.consumers.iter().copied().collect();
        refuse_other_credentials(env, &consumers)?;
        let target = Target::resolve(&args.identity.cloud, env)?;
        let output = output(args.output, env);
        if output == Output::Github {
            has_github_files(env)?;
        } else if args.output_access_token {
            return Err(Error::NoOutputs);
        }
        let mut scopes: Vec<Scope> = Vec::new();
        for scope in &args.scopes {
            if !scopes.contains(scope) {
                scopes.push(scope.clone());
            }
        }
        if scopes.is_empty() {
            scopes.push(target.cloud.resource_manager_scope());
        }
        let mut warnings = Vec::new();
        if args.lasting.endpoints {
            if output == Output::Dotenv {
                return Err(Error::EndpointsInFile);
            }
            warnings.extend(prefers_file(&consumers, env));
        }
        let wanted = Wanted::resolve(&args.identity, &args.source, env, &mut warnings)?;
        if consumers.contains(&Consumer::Terraform) && env.is_set(names::arm::OIDC_TOKEN) {
            warnings.push(
                "ARM_OIDC_TOKEN is set: Terraform takes it, which is never renewed, or refuses it beside this login's: remove it \
                 from the job"
                    .to_owned(),
            );
        }
        Ok(Self {
            wanted,
            target,
            scopes,
            consumers,
            output,
            output_access_token: args.output_access_token,
            keep_fresh: (args.lasting.keep_fresh || args.lasting.no_keep_fresh)
                .then_some(args.lasting.keep_fresh),
            endpoints: args.lasting.endpoints,
            allowed: args.lasting.allowed.clone(),
            timeout: args.source.timeout,
            propagation: args.wait_for_propagation.unwrap_or_default(),
            warnings,
        })
    }
}

impl Token {
    /// Flags and variables in, meaning out.
    pub fn resolve(args: &TokenArgs, env: &Env) -> Result<Self, Error> {
        let target = Target::resolve(&args.identity.cloud, env)?;
        Ok(Self {
            wanted: Wanted::resolve(&args.identity, &args.source, env, &mut Vec::new())?,
            scope: args.scope.clone().unwrap_or_else(|| target.cloud.resource_manager_scope()),
            target,
            timeout: timeout(&args.source),
        })
    }
}

/// `azfed exec`, and the background process of a login, as meant.
#[derive(Debug)]
pub struct Exec {
    /// Who to be.
    pub wanted: Wanted,
    /// Where.
    pub target: Target,
    /// All tries for one token together.
    pub timeout: Duration,
}

impl Exec {
    /// Flags and variables in, meaning out.
    pub fn resolve(identity: &IdentityArgs, source: &SourceArgs, env: &Env) -> Result<Self, Error> {
        Ok(Self {
            wanted: Wanted::resolve(identity, source, env, &mut Vec::new())?,
            target: Target::resolve(&identity.cloud, env)?,
            timeout: timeout(source),
        })
    }
}

/// What clients do where a variable names an assertion's file, and they should ask endpoints.
pub fn prefers_file(consumers: &BTreeSet<Consumer>, env: &Env) -> Vec<String> {
    let sdk = (Consumer::Sdk, names::azure::FEDERATED_TOKEN_FILE, "the Azure SDKs prefer");
    let terraform = (Consumer::Terraform, names::arm::OIDC_TOKEN_FILE_PATH, "Terraform prefers");
    let preferred =
        [sdk, terraform].into_iter().filter(|(who, name, _)| consumers.contains(who) && env.is_set(name));
    preferred
        .map(|(_, name, who)| format!("{name} is set, and {who} it to the endpoints: unset it"))
        .collect()
}

/// How long all tries together may take.
pub fn timeout(args: &SourceArgs) -> Duration {
    args.timeout
}

/// The flag, else the variables: a client id.
pub fn client_id(
    args: &IdentityArgs,
    env: &Env,
    warnings: &mut Vec<String>,
) -> Result<Option<ClientId>, Error> {
    either(env, args.client_id.as_ref(), [names::azure::CLIENT_ID, names::arm::CLIENT_ID], warnings)
}

/// The flag, else the variables: a tenant.
fn tenant_id(
    flag: Option<&TenantId>,
    env: &Env,
    warnings: &mut Vec<String>,
) -> Result<Option<TenantId>, Error> {
    either(env, flag, [names::azure::TENANT_ID, names::arm::TENANT_ID], warnings)
}

fn subscription_id(
    args: &IdentityArgs,
    env: &Env,
    warnings: &mut Vec<String>,
) -> Result<Option<SubscriptionId>, Error> {
    let variables = [names::azure::SUBSCRIPTION_ID, names::arm::SUBSCRIPTION_ID];
    either(env, args.subscription_id.as_ref(), variables, warnings)
}

const NO_TENANT: Error = Error::Missing {
    what: "tenant id",
    flag: "`--tenant-id`",
    first: names::azure::TENANT_ID,
    second: names::arm::TENANT_ID,
};

impl Identity {
    /// Flags, else variables; what is odd about them goes to `warnings`.
    pub fn resolve(args: &IdentityArgs, env: &Env, warnings: &mut Vec<String>) -> Result<Self, Error> {
        for (given, flag) in
            [(args.object_id.is_some(), "`--object-id`"), (args.resource_id.is_some(), "`--resource-id`")]
        {
            if given {
                return Err(Error::HostOnly(flag));
            }
        }
        let client = client_id(args, env, warnings)?;
        let tenant = tenant_id(args.tenant_id.as_ref(), env, warnings)?;
        let subscription = subscription_id(args, env, warnings)?;
        Ok(Self {
            client: client.ok_or(Error::Missing {
                what: "client id",
                flag: "`--client-id`",
                first: names::azure::CLIENT_ID,
                second: names::arm::CLIENT_ID,
            })?,
            tenant: tenant.ok_or(NO_TENANT)?,
            subscription,
        })
    }

    /// Nothing where a host's token shows this identity, or does not show whose it is.
    pub fn shows(&self, host: &'static str, token: &AccessToken) -> Result<(), managed_identity::Error> {
        let client = token.client.as_ref().map(ClientId::as_str);
        let other = managed_identity::another(self.client.as_str(), client)
            .or_else(|| another_tenant(&self.tenant, token.tenant.as_ref()));
        other.map_or(Ok(()), |what| Err(managed_identity::Error::Other { host, what }))
    }
}

impl Wanted {
    /// Flags, else variables. Where the login begins with the host, and does not go on to an app registration, nothing
    /// needs to be named.
    pub fn resolve(
        args: &IdentityArgs,
        source: &SourceArgs,
        env: &Env,
        warnings: &mut Vec<String>,
    ) -> Result<Self, Error> {
        if source.via.is_none() && platform::begins_with_host(env, source) {
            return OfHost::resolve(args, env, warnings).map(Self::OfHost);
        }
        Identity::resolve(args, env, warnings).map(Self::Federated)
    }

    /// The identity that trusts an assertion.
    pub fn federated(&self) -> Option<&Identity> {
        match self {
            Self::Federated(identity) => Some(identity),
            Self::OfHost(_) => None,
        }
    }

    /// The subscription for later steps.
    pub fn subscription(&self) -> Option<&SubscriptionId> {
        match self {
            Self::Federated(identity) => identity.subscription.as_ref(),
            Self::OfHost(of_host) => of_host.subscription.as_ref(),
        }
    }

    /// The whole identity, by what the host's tokens show.
    pub fn complete(
        &self,
        host: &'static str,
        tokens: &[AccessToken],
    ) -> Result<Identity, managed_identity::Error> {
        let of_host = match self {
            Self::Federated(identity) => return Ok(identity.clone()),
            Self::OfHost(of_host) => of_host,
        };
        let nameless = |what| managed_identity::Error::Nameless(what, host);
        let other = |what| managed_identity::Error::Other { host, what };
        let shown = one(tokens.iter().filter_map(|token| token.client.clone())).map_err(other)?;
        let meant = match &of_host.selector {
            Selector::Client(id) => Some(id.clone()),
            _ => None,
        };
        let tenant = one(tokens.iter().filter_map(|token| token.tenant.clone())).map_err(other)?;
        let asked = of_host.tenant.as_ref();
        if let Some(what) = asked.and_then(|asked| another_tenant(asked, tenant.as_ref())) {
            return Err(other(what));
        }
        Ok(Identity {
            client: shown.or(meant).ok_or(nameless("which client"))?,
            tenant: tenant.or_else(|| of_host.tenant.clone()).ok_or(nameless("which tenant"))?,
            subscription: of_host.subscription.clone(),
        })
    }
}

/// Which tenant it is instead; nothing where that is not said. One that is named by its domain cannot be compared.
fn another_tenant(asked: &TenantId, got: Option<&TenantId>) -> Option<String> {
    Uuid::try_parse(asked.as_str()).ok()?;
    let what = managed_identity::another(asked.as_str(), got.map(TenantId::as_str))?;
    Some(format!("of another tenant: {what}"))
}

/// What all the tokens of a login show, if they show anything.
fn one<T: PartialEq + fmt::Display>(mut shown: impl Iterator<Item = T>) -> Result<Option<T>, String> {
    let Some(first) = shown.next() else { return Ok(None) };
    match shown.find(|other| *other != first) {
        Some(other) => Err(format!("its tokens are of {first} and of {other}")),
        None => Ok(Some(first)),
    }
}

impl OfHost {
    /// Which identity a host would be asked for: the one in between, where there is one.
    pub fn meant(source: &SourceArgs, args: &IdentityArgs, env: &Env) -> Self {
        match Via::resolve(source, None, env) {
            Ok(Some(via)) => via.of_host(),
            _ => Self::resolve(args, env, &mut Vec::new()).unwrap_or_default(),
        }
    }

    /// Flags, else variables; nothing of it is needed.
    pub fn resolve(args: &IdentityArgs, env: &Env, warnings: &mut Vec<String>) -> Result<Self, Error> {
        Ok(Self {
            selector: Selector::resolve(args, env, warnings)?,
            chosen: args.client_id.is_some() || args.object_id.is_some() || args.resource_id.is_some(),
            tenant: tenant_id(args.tenant_id.as_ref(), env, warnings)?,
            subscription: subscription_id(args, env, warnings)?,
        })
    }
}

impl Via {
    /// The flags, where there are any. `app` is the tenant of the app registration, where the identity in between is too
    /// unless a flag says otherwise.
    pub fn resolve(args: &SourceArgs, app: Option<&TenantId>, env: &Env) -> Result<Option<Self>, Error> {
        if args.via.is_none() {
            return Ok(None);
        }
        let selector = match (&args.via_client_id, &args.via_object_id, &args.via_resource_id) {
            (Some(id), _, _) => Selector::Client(id.clone()),
            (None, Some(id), _) => Selector::Object(id.clone()),
            (None, None, Some(id)) => Selector::Resource(id.clone()),
            (None, None, None) => Selector::Own,
        };
        let tenant = match args.via_tenant_id.as_ref().or(app) {
            Some(tenant) => Some(tenant.clone()),
            None => tenant_id(None, env, &mut Vec::new())?,
        };
        Ok(Some(Self { selector, tenant }))
    }

    /// The same as an identity of the host.
    pub fn of_host(&self) -> OfHost {
        OfHost { selector: self.selector.clone(), chosen: true, ..OfHost::default() }
    }

    /// Who it is where it is no identity of the host.
    pub fn identity(&self) -> Result<Identity, Error> {
        let client = match &self.selector {
            Selector::Client(id) => id.clone(),
            Selector::Own => return Err(Error::NoVia),
            Selector::Object(_) => return Err(Error::HostOnly("`--via-object-id`")),
            Selector::Resource(_) => return Err(Error::HostOnly("`--via-resource-id`")),
        };
        Ok(Identity { client, tenant: self.tenant.clone().ok_or(NO_TENANT)?, subscription: None })
    }
}

impl Target {
    /// The cloud by name, else by authority, else the public one.
    ///
    /// A flag goes before every variable: an earlier login of the same job has set some for another cloud.
    pub fn resolve(args: &CloudArgs, env: &Env) -> Result<Self, Error> {
        let named = env.first(&[names::azure::ENVIRONMENT, names::arm::ENVIRONMENT]);
        let from_variable = match (args.cloud, named) {
            (None, Some((variable, value))) => {
                let CloudName(cloud) = value.parse().map_err(|unknown| Error::Cloud { variable, unknown })?;
                Some((variable, cloud))
            }
            _ => None,
        };
        let authority_variable = match (&args.authority_host, env.get(names::azure::AUTHORITY_HOST)) {
            (None, Some(value)) => Some(parse::<Authority>(names::azure::AUTHORITY_HOST, value)?),
            _ => None,
        };
        let given = args.authority_host.as_ref().or(authority_variable.as_ref());
        let of_given = given.and_then(Cloud::of_authority);
        let cloud = match (args.cloud, from_variable, of_given) {
            (Some(CloudName(cloud)), _, _) => cloud,
            (None, Some((cloud_variable, cloud)), Some(other)) if cloud != other => {
                return Err(Error::Clouds {
                    cloud_variable,
                    cloud: cloud.name,
                    authority_variable: if args.authority_host.is_some() {
                        "`--authority-host`"
                    } else {
                        names::azure::AUTHORITY_HOST
                    },
                    other: other.name,
                });
            }
            (None, Some((_, cloud)), _) | (None, None, Some(cloud)) => cloud,
            (None, None, None) => Cloud::public(),
        };
        // a variable that names another cloud's Entra gives way to `--cloud`
        let authority = args
            .authority_host
            .clone()
            .or_else(|| {
                authority_variable
                    .filter(|authority| Cloud::of_authority(authority).is_none_or(|of| of == cloud))
            })
            .unwrap_or_else(|| cloud.authority());
        Ok(Self {
            cloud,
            authority,
            audience: args.audience.clone().unwrap_or_else(|| cloud.audience()),
            audience_is_chosen: args.audience.is_some(),
        })
    }

    /// The same, with the audience of a platform that lets nobody choose, unless a flag says another.
    #[must_use]
    pub fn on(&self, platform: &Platform, ui: &Ui) -> Self {
        let fixed = if self.audience_is_chosen { None } else { platform.fixed_audience(ui) };
        Self { audience: fixed.unwrap_or_else(|| self.audience.clone()), ..self.clone() }
    }
}

fn parse<T: FromStr<Err = Invalid>>(variable: &'static str, value: &str) -> Result<T, Error> {
    value.parse().map_err(|invalid| Error::Variable { variable, invalid })
}

/// A flag, else the first variable that is set; a second one that says something else is worth a warning.
fn either<T: FromStr<Err = Invalid> + Clone + PartialEq>(
    env: &Env,
    flag: Option<&T>,
    variables: [&'static str; 2],
    warnings: &mut Vec<String>,
) -> Result<Option<T>, Error> {
    if let Some(value) = flag {
        return Ok(Some(value.clone()));
    }
    let Some((first, value)) = env.first(&variables) else { return Ok(None) };
    let value: T = parse(first, value)?;
    let [_, second] = variables;
    if first != second
        && let Some(other) = env.get(second)
        && other.parse::<T>().ok().as_ref() != Some(&value)
    {
        warnings.push(format!("{first} and {second} differ: {first} counts"));
    }
    Ok(Some(value))
}

/// A client secret or certificate wins over federation in Terraform and in the SDKs' `EnvironmentCredential`: who
/// prefers it, and in which variable it is.
const OTHER_CREDENTIALS: [(Consumer, &str, &str); 5] = [
    (Consumer::Terraform, "Terraform", names::arm::CLIENT_SECRET),
    (Consumer::Terraform, "Terraform", names::arm::CLIENT_CERTIFICATE),
    (Consumer::Terraform, "Terraform", names::arm::CLIENT_CERTIFICATE_PATH),
    (Consumer::Sdk, "the Azure SDKs", names::azure::CLIENT_SECRET),
    (Consumer::Sdk, "the Azure SDKs", names::azure::CLIENT_CERTIFICATE_PATH),
];

/// Each other credential that is set, and who would use it instead of the login.
pub fn other_credentials(env: &Env) -> impl Iterator<Item = (Consumer, Error)> {
    OTHER_CREDENTIALS
        .iter()
        .filter(|(_, _, variable)| env.is_set(variable))
        .map(|&(consumer, reader, variable)| (consumer, Error::OtherCredential { variable, reader }))
}

fn refuse_other_credentials(env: &Env, consumers: &BTreeSet<Consumer>) -> Result<(), Error> {
    other_credentials(env)
        .find(|(consumer, _)| consumers.contains(consumer))
        .map_or(Ok(()), |(_, error)| Err(error))
}

/// Whether this is a step of a GitHub job, which has files for later steps.
pub fn has_github_files(env: &Env) -> Result<(), Error> {
    match [names::github::ENV, names::github::OUTPUT].into_iter().find(|name| !env.is_set(name)) {
        Some(name) => Err(Error::NotGitHub(name)),
        None => Ok(()),
    }
}

/// What the platform offers, where the user leaves it to azfed.
pub fn output(chosen: Output, env: &Env) -> Output {
    match (chosen, platform::runner(env)) {
        (Output::Auto, Runner::GitHub) => Output::Github,
        (Output::Auto, Runner::AzureDevOps) => Output::AzureDevops,
        (Output::Auto, Runner::Silent) => Output::Sh,
        (chosen, _) => chosen,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const CLIENT: &str = "11111111-1111-4111-8111-111111111111";
    const OTHER: &str = "55555555-5555-4555-8555-555555555555";

    fn cloud(args: &[&str], pairs: &[(&str, &str)]) -> Result<(String, String, String), Error> {
        use clap::Parser;
        let args = crate::cli::Args::try_parse_from(["azfed", "assertion"].iter().chain(args)).unwrap();
        let crate::cli::Command::Assertion(args) = args.command else { panic!() };
        let target = Target::resolve(&args.cloud, &Env::from_pairs(pairs.iter().copied()))?;
        Ok((target.cloud.name.to_owned(), target.authority.as_str().to_owned(), target.audience.to_string()))
    }

    #[test]
    fn clouds() {
        let us =
            ("AzureUSGovernment", "https://login.microsoftonline.us/", "api://AzureADTokenExchangeUSGov");
        let public = ("AzureCloud", "https://login.microsoftonline.com/", "api://AzureADTokenExchange");
        let table: [(&[&str], &[(&str, &str)], _); 9] = [
            (&[], &[], public),
            (&["--cloud", "usgovernment"], &[], us),
            (&[], &[("ARM_ENVIRONMENT", "usgovernment")], us),
            (&[], &[("AZURE_ENVIRONMENT", "azureUSGovernment"), ("ARM_ENVIRONMENT", "public")], us),
            (&[], &[("AZURE_AUTHORITY_HOST", "https://login.microsoftonline.us/")], us),
            (&["--authority-host", "login.microsoftonline.us"], &[], us),
            (
                &["--cloud", "AzureUSGovernment"],
                &[("AZURE_AUTHORITY_HOST", "https://login.microsoftonline.com/")],
                us,
            ),
            (&["--cloud", "AzureCloud"], &[("ARM_ENVIRONMENT", "usgovernment")], public),
            (&["--audience", "api://AzureADTokenExchangeUSGov", "--cloud", "usgov"], &[], us),
        ];
        for (args, pairs, (name, authority, audience)) in table {
            let expected = (name.to_owned(), authority.to_owned(), audience.to_owned());
            assert_eq!(cloud(args, pairs).unwrap(), expected, "{args:?} {pairs:?}");
        }
        assert!(matches!(
            cloud(&[], &[("ARM_ENVIRONMENT", "china"), ("AZURE_AUTHORITY_HOST", "login.microsoftonline.us")]),
            Err(Error::Clouds { .. })
        ));
        assert!(matches!(cloud(&[], &[("ARM_ENVIRONMENT", "german")]), Err(Error::Cloud { .. })));
        assert!(matches!(
            cloud(&[], &[("AZURE_AUTHORITY_HOST", "http://login.example.com")]),
            Err(Error::Variable { invalid: Invalid::NotHttps(_), .. })
        ));
    }

    #[test]
    fn azure_goes_before_arm_and_says_so() {
        let mut warnings = Vec::new();
        let env = Env::from_pairs([("AZURE_CLIENT_ID", CLIENT), ("ARM_CLIENT_ID", OTHER)]);
        let variables = [names::azure::CLIENT_ID, names::arm::CLIENT_ID];
        let found: Option<ClientId> = either(&env, None, variables, &mut warnings).unwrap();
        assert_eq!(found.unwrap().as_str(), CLIENT);
        assert_eq!(warnings, ["AZURE_CLIENT_ID and ARM_CLIENT_ID differ: AZURE_CLIENT_ID counts"]);
        let env = Env::from_pairs([("AZURE_CLIENT_ID", ""), ("ARM_CLIENT_ID", OTHER)]);
        let found: Option<ClientId> = either(&env, None, variables, &mut Vec::new()).unwrap();
        assert_eq!(found.unwrap().as_str(), OTHER);
    }

    #[test]
    fn a_secret_beside_federation_is_refused() {
        let env = Env::from_pairs([("ARM_CLIENT_SECRET", "s")]);
        let for_these =
            |consumers: &[Consumer]| refuse_other_credentials(&env, &consumers.iter().copied().collect());
        assert!(matches!(for_these(&[Consumer::Terraform]), Err(Error::OtherCredential { .. })));
        assert!(for_these(&[Consumer::Az, Consumer::Sdk]).is_ok());
    }
}
