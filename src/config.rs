//! What was meant: flags first, then variables. All validation of input ends here.

use std::{collections::BTreeSet, str::FromStr, time::Duration};

use crate::{
    cli::{CloudArgs, Consumer, IdentityArgs, LoginArgs, Output, SourceArgs, TokenArgs},
    cloud::{Cloud, CloudName, UnknownCloud},
    env::{Env, names},
    error::Hints,
    identifiers::{Audience, Authority, ClientId, Invalid, Scope, SubscriptionId, TenantId},
    platform,
    ui::Runner,
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
            Self::NotGitHub(_) => Hints::one("leave `--output` to its default, or use `sh`"),
            Self::Variable { variable, .. } => match *variable {
                names::azure::CLIENT_ID | names::arm::CLIENT_ID => Hints::one(CLIENT_ID_HINT),
                names::azure::TENANT_ID | names::arm::TENANT_ID => Hints::one(TENANT_ID_HINT),
                names::azure::AUTHORITY_HOST => Hints::one("unset it to use the cloud's own Entra"),
                _ => Hints::one("the subscription id is no secret: `az account list --query [].id`"),
            },
            Self::Cloud { variable, .. } => {
                Hints::one(format!("correct {variable}, or say `--cloud`, which goes before it"))
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

/// Where to log in.
#[derive(Debug, Clone)]
pub struct Target {
    /// The cloud.
    pub cloud: &'static Cloud,
    /// Its Entra, or another.
    pub authority: Authority,
    /// The audience that assertions are asked for.
    pub audience: Audience,
}

/// `azfed login`, as meant.
#[derive(Debug)]
pub struct Login {
    /// Who to be.
    pub identity: Identity,
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
    pub identity: Identity,
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
            if consumers.contains(&Consumer::Sdk) && env.is_set(names::azure::FEDERATED_TOKEN_FILE) {
                warnings.push(
                    "AZURE_FEDERATED_TOKEN_FILE is set, and the Azure SDKs prefer it to the endpoints: unset it"
                        .to_owned(),
                );
            }
        }
        let identity = Identity::resolve(&args.identity, env, &mut warnings)?;
        if consumers.contains(&Consumer::Terraform) && env.is_set(names::arm::OIDC_TOKEN) {
            warnings.push(
                "ARM_OIDC_TOKEN is set, and Terraform prefers it to this login: remove it from the job"
                    .to_owned(),
            );
        }
        Ok(Self {
            identity,
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
            identity: Identity::resolve(&args.identity, env, &mut Vec::new())?,
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
    pub identity: Identity,
    /// Where.
    pub target: Target,
    /// All tries for one token together.
    pub timeout: Duration,
}

impl Exec {
    /// Flags and variables in, meaning out.
    pub fn resolve(identity: &IdentityArgs, source: &SourceArgs, env: &Env) -> Result<Self, Error> {
        Ok(Self {
            identity: Identity::resolve(identity, env, &mut Vec::new())?,
            target: Target::resolve(&identity.cloud, env)?,
            timeout: timeout(source),
        })
    }
}

/// How long all tries together may take.
pub fn timeout(args: &SourceArgs) -> Duration {
    args.timeout
}

impl Identity {
    /// Flags, else variables; what is odd about them goes to `warnings`.
    pub fn resolve(args: &IdentityArgs, env: &Env, warnings: &mut Vec<String>) -> Result<Self, Error> {
        let client =
            either(env, args.client_id.as_ref(), [names::azure::CLIENT_ID, names::arm::CLIENT_ID], warnings)?;
        let tenant =
            either(env, args.tenant_id.as_ref(), [names::azure::TENANT_ID, names::arm::TENANT_ID], warnings)?;
        let subscription = either(
            env,
            args.subscription_id.as_ref(),
            [names::azure::SUBSCRIPTION_ID, names::arm::SUBSCRIPTION_ID],
            warnings,
        )?;
        Ok(Self {
            client: client.ok_or(Error::Missing {
                what: "client id",
                flag: "`--client-id`",
                first: names::azure::CLIENT_ID,
                second: names::arm::CLIENT_ID,
            })?,
            tenant: tenant.ok_or(Error::Missing {
                what: "tenant id",
                flag: "`--tenant-id`",
                first: names::azure::TENANT_ID,
                second: names::arm::TENANT_ID,
            })?,
            subscription,
        })
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
        Ok(Self { cloud, authority, audience: args.audience.clone().unwrap_or_else(|| cloud.audience()) })
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
