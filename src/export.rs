//! What each client needs of a login. Pure: from the login to variables and files, no I/O.

pub mod azure_cli;

use std::collections::BTreeSet;

use crate::{
    assertion::Assertion,
    cli::Consumer,
    config::{Identity, Login, Target},
    endpoints::Address,
    entra::AccessToken,
    env::names::{arm, azfed, azure, host},
    identifiers::SubscriptionId,
    managed_identity::{Host, ManagedIdentity, Selector},
    platform::Platform,
    secret::Secret,
};

/// Name of the assertion's file in a login's directory.
pub const ASSERTION_FILE: &str = "assertion";
/// Name of az's directory in a login's directory.
pub const AZURE_CLI_DIR: &str = "azure";

/// The files that hold the assertion.
pub const RENEWED: [&str; 2] = [ASSERTION_FILE, azure_cli::SERVICE_PRINCIPALS];

/// A variable for later steps.
#[derive(Debug)]
pub struct Variable {
    /// Its name.
    pub name: &'static str,
    /// Its value.
    pub value: Value,
}

/// A variable's value. Credentials stand in files; the only secrets in variables are the endpoints' own.
#[derive(Debug)]
pub enum Value {
    /// Anybody may see it.
    Plain(String),
    /// It is masked, and opens endpoints on this machine while they are served.
    Secret(Secret),
}

impl Value {
    /// The value itself.
    pub fn text(&self) -> &str {
        match self {
            Self::Plain(value) => value,
            Self::Secret(value) => value.expose(),
        }
    }
}

impl Variable {
    /// One that is no secret.
    pub fn plain(name: &'static str, value: &str) -> Self {
        Self { name, value: Value::Plain(value.to_owned()) }
    }

    /// One that is.
    pub fn secret(name: &'static str, value: &Secret) -> Self {
        Self { name, value: Value::Secret(Secret::new(value.expose().to_owned())) }
    }
}

/// A file in the login's directory.
#[derive(Debug)]
pub struct LoginFile {
    /// Its path below the directory.
    pub path: String,
    /// What it holds.
    pub content: Secret,
}

/// Everything that is handed over.
#[derive(Debug, Default)]
pub struct Plan {
    /// For the environment of later steps.
    pub variables: Vec<Variable>,
    /// For the login's directory.
    pub files: Vec<LoginFile>,
}

/// What the user's environment had before.
#[derive(Debug, Default)]
pub struct Before {
    /// `ARM_ENVIRONMENT`, which an earlier login may have left for another cloud.
    pub arm_environment: Option<String>,
    /// `ARM_OIDC_REQUEST_URL`, likewise.
    pub arm_oidc_request_url: Option<String>,
    /// The user's own az settings.
    pub azure_cli: azure_cli::UserSettings,
}

/// What a login came to.
#[derive(Debug)]
pub struct Granted<'a> {
    /// Who it is.
    pub identity: &'a Identity,
    /// The newest assertion, where it took one.
    pub assertion: Option<&'a Assertion>,
    /// The access tokens, in the order of the scopes.
    pub tokens: &'a [AccessToken],
}

/// Plans the hand-over of an assertion. `issuer` is the platform whose own it is, `directory` the login's directory, an
/// absolute path.
pub fn plan(
    login: &Login,
    granted: &Granted<'_>,
    (assertion, issuer): (&Assertion, Option<&Platform>),
    before: &Before,
    directory: &str,
) -> Plan {
    let mut variables = Vec::new();
    let mut files = Vec::new();
    let mut set = |name: &'static str, value: &str| variables.push(Variable::plain(name, value));
    let identity = granted.identity;
    let own_file = format!("{directory}{}{ASSERTION_FILE}", std::path::MAIN_SEPARATOR);
    let exact_file = match issuer {
        Some(Platform::Stored(stored)) => stored.exact_file(assertion).and_then(std::path::Path::to_str),
        _ => None,
    };
    let assertion_file = exact_file.unwrap_or(&own_file);
    let mut file_needed = false;

    set(azfed::LOGIN_DIR, directory);
    if login.consumers.contains(&Consumer::Terraform) {
        set(arm::USE_OIDC, "true");
        set(arm::CLIENT_ID, identity.client.as_str());
        set(arm::TENANT_ID, identity.tenant.as_str());
        if let Some(subscription) = &identity.subscription {
            set(arm::SUBSCRIPTION_ID, subscription.as_str());
        }
        if !login.target.cloud.is_public() || before.arm_environment.is_some() {
            set(arm::ENVIRONMENT, login.target.cloud.terraform);
        }
        match issuer {
            // every step has the request URL and token of its own: Terraform asks for a fresh assertion each time
            Some(Platform::GitHub(github)) => {
                let usual = login.target.audience == crate::cloud::Cloud::public().audience();
                if !usual || before.arm_oidc_request_url.is_some() {
                    set(arm::OIDC_REQUEST_URL, &github.request_url_for(&login.target.audience));
                }
            }
            // a later step has no SYSTEM_ACCESSTOKEN unless it maps it; one that does can renew with the connection's id
            Some(Platform::AzureDevOps(azure_devops)) => {
                set(arm::ADO_PIPELINE_SERVICE_CONNECTION_ID, azure_devops.connection().as_str());
                set(arm::OIDC_TOKEN_FILE_PATH, assertion_file);
                file_needed = true;
            }
            _ => {
                set(arm::OIDC_TOKEN_FILE_PATH, assertion_file);
                file_needed = true;
            }
        }
    }
    if login.consumers.contains(&Consumer::Sdk) {
        set(azure::CLIENT_ID, identity.client.as_str());
        set(azure::TENANT_ID, identity.tenant.as_str());
        if let Some(subscription) = &identity.subscription {
            set(azure::SUBSCRIPTION_ID, subscription.as_str());
        }
        set(azure::AUTHORITY_HOST, login.target.authority.as_str());
        set(azure::FEDERATED_TOKEN_FILE, assertion_file);
        file_needed = true;
    }
    if login.consumers.contains(&Consumer::Az) {
        set(azure::CONFIG_DIR, &azure_cli_directory(directory));
        if let Some(extensions) = &before.azure_cli.extension_dir {
            set(azure::EXTENSION_DIR, extensions);
        }
        files.extend(azure_cli::files(login, granted, assertion, &before.azure_cli));
    }
    if file_needed && exact_file.is_none() {
        let content = Secret::new(assertion.jwt.expose().to_owned());
        files.push(LoginFile { path: ASSERTION_FILE.to_owned(), content });
    }
    Plan { variables, files }
}

impl Plan {
    /// This and what else another plan has.
    #[must_use]
    pub fn and(mut self, other: Self) -> Self {
        for variable in other.variables {
            if !self.variables.iter().any(|known| known.name == variable.name) {
                self.variables.push(variable);
            }
        }
        self.files.extend(other.files);
        self
    }

    /// Whether it has files that a new assertion can be put into.
    pub fn is_renewable(&self) -> bool {
        self.files.iter().any(|file| RENEWED.contains(&file.path.as_str()))
    }
}

/// What stands in a file of [`RENEWED`] when there is a new assertion; nothing where the file is not as it was left.
pub fn renewed(name: &str, old: &str, identity: &Identity, assertion: &Assertion) -> Option<Secret> {
    match name {
        ASSERTION_FILE => Some(Secret::new(assertion.jwt.expose().to_owned())),
        _ => azure_cli::renewed(old, identity, assertion),
    }
}

/// What each client needs to ask the host by itself; nothing of it is a secret.
#[derive(Debug)]
pub struct Hosted<'a> {
    /// The host's identity.
    pub managed: &'a ManagedIdentity,
    /// The same, as its token shows it.
    pub identity: &'a Identity,
    /// Where.
    pub target: &'a Target,
    /// Who asks.
    pub consumers: &'a BTreeSet<Consumer>,
    /// The login's directory.
    pub directory: &'a str,
}

impl Hosted<'_> {
    /// The plan of a login whose later steps ask the host. A client id is passed on where one of several identities was
    /// chosen: endpoints take it for a user-assigned one's, and do not know the system-assigned one by it.
    pub fn plan(&self, user: &azure_cli::UserSettings) -> Plan {
        let plain = Variable::plain;
        let identity = self.identity;
        let has = |consumer| self.consumers.contains(&consumer);
        let client = (self.managed.selector != Selector::Own).then(|| identity.client.as_str());
        let subscription = identity.subscription.as_ref().map(SubscriptionId::as_str);
        let mut variables = vec![plain(azfed::LOGIN_DIR, self.directory)];
        let mut files = Vec::new();
        if has(Consumer::Terraform) {
            // an earlier login of the job may have said otherwise, and OIDC goes before
            variables.extend([plain(arm::USE_OIDC, "false"), plain(arm::USE_MSI, "true")]);
            variables.extend(client.map(|id| plain(arm::CLIENT_ID, id)));
            variables.push(plain(arm::TENANT_ID, identity.tenant.as_str()));
            variables.extend(subscription.map(|id| plain(arm::SUBSCRIPTION_ID, id)));
            variables.push(plain(arm::ENVIRONMENT, self.target.cloud.terraform));
            if let Host::Imds(imds) = &self.managed.host {
                variables.extend(imds.unusual_endpoint().map(|url| plain(arm::MSI_ENDPOINT, &url)));
            }
        }
        if has(Consumer::Sdk) {
            variables.extend(client.map(|id| plain(azure::CLIENT_ID, id)));
            variables.push(plain(azure::TENANT_ID, identity.tenant.as_str()));
            variables.extend(subscription.map(|id| plain(azure::SUBSCRIPTION_ID, id)));
            variables.push(plain(azure::AUTHORITY_HOST, self.target.authority.as_str()));
        }
        if has(Consumer::Az) {
            variables.push(plain(azure::CONFIG_DIR, &azure_cli_directory(self.directory)));
            variables.extend(user.extension_dir.iter().map(|path| plain(azure::EXTENSION_DIR, path)));
            files = azure_cli::host_files(identity, client.is_some(), self.target.cloud, user);
        }
        Plan { variables, files }
    }
}

/// az's directory in a login's directory.
fn azure_cli_directory(directory: &str) -> String {
    format!("{directory}{}{AZURE_CLI_DIR}", std::path::MAIN_SEPARATOR)
}

/// What each client needs to ask endpoints instead of reading files; no file of it holds a secret.
#[derive(Debug)]
pub struct Served<'a> {
    /// Where the endpoints are.
    pub address: &'a Address,
    /// Who to be.
    pub identity: &'a Identity,
    /// Where.
    pub target: &'a Target,
    /// Who asks.
    pub consumers: &'a BTreeSet<Consumer>,
    /// The login's directory, where there is one.
    pub directory: Option<&'a str>,
    /// Whether assertions are handed out: else Terraform asks for access tokens.
    pub assertions: bool,
    /// What keeps requests to the endpoints away from a proxy, where there is one.
    pub no_proxy: Vec<(&'static str, String)>,
}

impl Served<'_> {
    /// The plan of a login whose later steps ask endpoints.
    pub fn plan(&self, user: &azure_cli::UserSettings) -> Plan {
        let mut variables = self.variables();
        variables.extend(self.directory.map(|directory| Variable::plain(azfed::LOGIN_DIR, directory)));
        let mut files = Vec::new();
        if self.consumers.contains(&Consumer::Az) {
            files = azure_cli::endpoint_files(self.identity, self.target.cloud, user);
            variables.extend(
                user.extension_dir.iter().map(|directory| Variable::plain(azure::EXTENSION_DIR, directory)),
            );
        }
        Plan { variables, files }
    }

    /// The variables of whoever asks.
    pub fn variables(&self) -> Vec<Variable> {
        let (plain, secret) = (Variable::plain, Variable::secret);
        let (identity, address, keys) = (self.identity, self.address, self.address.keys());
        let has = |consumer| self.consumers.contains(&consumer);
        let subscription = identity.subscription.as_ref().map(SubscriptionId::as_str);
        let mut variables = vec![plain(azfed::ENDPOINT, &address.identity_url())];
        variables.extend(self.no_proxy.iter().map(|(name, value)| plain(name, value)));
        if has(Consumer::Az) || has(Consumer::Sdk) {
            variables.extend([
                plain(host::IDENTITY_ENDPOINT, &address.identity_url()),
                secret(host::IDENTITY_HEADER, &keys.identity),
                plain(host::MSI_ENDPOINT, &address.identity_url()),
                secret(host::MSI_SECRET, &keys.identity),
            ]);
        }
        if has(Consumer::Az)
            && let Some(directory) = self.directory
        {
            variables.push(plain(azure::CONFIG_DIR, &azure_cli_directory(directory)));
        }
        if has(Consumer::Sdk) {
            variables.extend([
                plain(azure::CLIENT_ID, identity.client.as_str()),
                plain(azure::TENANT_ID, identity.tenant.as_str()),
                plain(azure::AUTHORITY_HOST, self.target.authority.as_str()),
            ]);
            variables.extend(subscription.map(|id| plain(azure::SUBSCRIPTION_ID, id)));
        }
        if has(Consumer::Terraform) {
            variables.extend([
                plain(arm::USE_OIDC, if self.assertions { "true" } else { "false" }),
                plain(arm::USE_MSI, if self.assertions { "false" } else { "true" }),
                plain(arm::CLIENT_ID, identity.client.as_str()),
                plain(arm::TENANT_ID, identity.tenant.as_str()),
            ]);
            variables.extend(subscription.map(|id| plain(arm::SUBSCRIPTION_ID, id)));
            variables.push(plain(arm::ENVIRONMENT, self.target.cloud.terraform));
            if self.assertions {
                variables.extend([
                    plain(arm::OIDC_REQUEST_URL, &address.oidc_url()),
                    secret(arm::OIDC_REQUEST_TOKEN, &keys.oidc),
                ]);
            }
            variables.push(secret(arm::MSI_ENDPOINT, &address.metadata_url()));
        }
        variables
    }
}
