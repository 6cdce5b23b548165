//! What each client needs of a login. Pure: from the login to variables and files, no I/O.

pub mod azure_cli;

use crate::{
    assertion::Assertion,
    cli::Consumer,
    config::Login,
    entra::AccessToken,
    env::names::{arm, azfed, azure},
    platform::Platform,
    secret::Secret,
};

/// Name of the assertion's file in a login's directory.
pub const ASSERTION_FILE: &str = "assertion";
/// Name of az's directory in a login's directory.
pub const AZURE_CLI_DIR: &str = "azure";

/// A variable for later steps. None of them is a secret: secrets stand in files.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Variable {
    /// Its name.
    pub name: &'static str,
    /// Its value.
    pub value: String,
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
#[derive(Debug)]
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
    /// Where the assertion came from.
    pub platform: &'a Platform,
    /// The assertion.
    pub assertion: &'a Assertion,
    /// The access tokens, in the order of the scopes.
    pub tokens: &'a [AccessToken],
}

/// Plans the hand-over. `directory` is the login's directory, an absolute path.
pub fn plan(login: &Login, granted: &Granted<'_>, before: &Before, directory: &str) -> Plan {
    let mut variables = Vec::new();
    let mut files = Vec::new();
    let mut set =
        |name: &'static str, value: &str| variables.push(Variable { name, value: value.to_owned() });
    let identity = &login.identity;
    let own_file = format!("{directory}{}{ASSERTION_FILE}", std::path::MAIN_SEPARATOR);
    let exact_file = match granted.platform {
        Platform::Stored(stored) => stored.exact_file(granted.assertion).and_then(std::path::Path::to_str),
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
        match granted.platform {
            // every step has the request URL and token of its own: Terraform asks for a fresh assertion each time
            Platform::GitHub(github) => {
                let usual = login.target.audience == crate::cloud::Cloud::public().audience();
                if !usual || before.arm_oidc_request_url.is_some() {
                    set(arm::OIDC_REQUEST_URL, &github.request_url_for(&login.target.audience));
                }
            }
            // a later step has no SYSTEM_ACCESSTOKEN unless it maps it; one that does can renew with the connection's id
            Platform::AzureDevOps(azure_devops) => {
                set(arm::ADO_PIPELINE_SERVICE_CONNECTION_ID, azure_devops.connection().as_str());
                set(arm::OIDC_TOKEN_FILE_PATH, assertion_file);
                file_needed = true;
            }
            Platform::GitLab(_) | Platform::Stored(_) => {
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
        set(azure::CONFIG_DIR, &format!("{directory}{}{AZURE_CLI_DIR}", std::path::MAIN_SEPARATOR));
        if let Some(extensions) = &before.azure_cli.extension_dir {
            set(azure::EXTENSION_DIR, extensions);
        }
        files.extend(azure_cli::files(login, granted, &before.azure_cli));
    }
    if file_needed && exact_file.is_none() {
        let content = Secret::new(granted.assertion.jwt.expose().to_owned());
        files.push(LoginFile { path: ASSERTION_FILE.to_owned(), content });
    }
    Plan { variables, files }
}
