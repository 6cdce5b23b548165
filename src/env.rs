//! A snapshot of the process environment, taken once, and the names of every variable that azfed reads or writes.

use std::{
    collections::{BTreeMap, BTreeSet},
    ffi::OsString,
    fmt,
};

use crate::secret::Secret;

/// Names of environment variables, grouped by who owns them.
pub mod names {
    /// Microsoft's: what the Azure SDKs, az and their kin read.
    pub mod azure {
        /// Client id of the identity.
        pub const CLIENT_ID: &str = "AZURE_CLIENT_ID";
        /// Tenant id of the identity.
        pub const TENANT_ID: &str = "AZURE_TENANT_ID";
        /// Subscription id.
        pub const SUBSCRIPTION_ID: &str = "AZURE_SUBSCRIPTION_ID";
        /// Name of the Azure cloud.
        pub const ENVIRONMENT: &str = "AZURE_ENVIRONMENT";
        /// Entra's host, with scheme.
        pub const AUTHORITY_HOST: &str = "AZURE_AUTHORITY_HOST";
        /// Path of a file that holds the assertion and nothing else.
        pub const FEDERATED_TOKEN_FILE: &str = "AZURE_FEDERATED_TOKEN_FILE";
        /// A client secret: wins over federation in the SDKs' `EnvironmentCredential`.
        pub const CLIENT_SECRET: &str = "AZURE_CLIENT_SECRET";
        /// A client certificate: wins over federation in the SDKs' `EnvironmentCredential`.
        pub const CLIENT_CERTIFICATE_PATH: &str = "AZURE_CLIENT_CERTIFICATE_PATH";
        /// az's directory for configuration and credentials.
        pub const CONFIG_DIR: &str = "AZURE_CONFIG_DIR";
        /// az's directory of extensions.
        pub const EXTENSION_DIR: &str = "AZURE_EXTENSION_DIR";
        /// Set by the `AzureCLI` task: the service connection's id.
        pub const SUBSCRIPTION_SERVICE_CONNECTION_ID: &str = "AZURESUBSCRIPTION_SERVICE_CONNECTION_ID";
        /// The GitLab id token, by the name that Microsoft's samples use.
        pub const ID_TOKEN: &str = "AZURE_ID_TOKEN";
        /// The OIDC token, by the name that azd uses.
        pub const OIDC_TOKEN: &str = "AZURE_OIDC_TOKEN";
        /// Set in pods of clusters with identity bindings: the exchange goes to a proxy in the cluster
        /// (azure-workload-identity `pkg/webhook/consts.go`).
        pub const KUBERNETES_TOKEN_PROXY: &str = "AZURE_KUBERNETES_TOKEN_PROXY";
        /// The name in the certificate of that proxy.
        pub const KUBERNETES_SNI_NAME: &str = "AZURE_KUBERNETES_SNI_NAME";
        /// A file of the CA certificates that vouch for it.
        pub const KUBERNETES_CA_FILE: &str = "AZURE_KUBERNETES_CA_FILE";
        /// The same certificates themselves.
        pub const KUBERNETES_CA_DATA: &str = "AZURE_KUBERNETES_CA_DATA";
    }

    /// Terraform's and `OpenTofu`'s: provider and backend `azurerm`, `azuread`, `azapi`, Pulumi.
    pub mod arm {
        /// Client id of the identity.
        pub const CLIENT_ID: &str = "ARM_CLIENT_ID";
        /// Tenant id of the identity.
        pub const TENANT_ID: &str = "ARM_TENANT_ID";
        /// Subscription id.
        pub const SUBSCRIPTION_ID: &str = "ARM_SUBSCRIPTION_ID";
        /// Short name of the Azure cloud.
        pub const ENVIRONMENT: &str = "ARM_ENVIRONMENT";
        /// Turns federation on.
        pub const USE_OIDC: &str = "ARM_USE_OIDC";
        /// Turns the host's managed identity on.
        pub const USE_MSI: &str = "ARM_USE_MSI";
        /// Where the host's managed identity is asked, in the form of the instance metadata service.
        pub const MSI_ENDPOINT: &str = "ARM_MSI_ENDPOINT";
        /// What authenticates to [`OIDC_REQUEST_URL`].
        pub const OIDC_REQUEST_TOKEN: &str = "ARM_OIDC_REQUEST_TOKEN";
        /// The assertion itself: wins over every renewable form.
        pub const OIDC_TOKEN: &str = "ARM_OIDC_TOKEN";
        /// Path of the assertion.
        pub const OIDC_TOKEN_FILE_PATH: &str = "ARM_OIDC_TOKEN_FILE_PATH";
        /// URL that mints assertions.
        pub const OIDC_REQUEST_URL: &str = "ARM_OIDC_REQUEST_URL";
        /// A client secret: wins over federation.
        pub const CLIENT_SECRET: &str = "ARM_CLIENT_SECRET";
        /// A client certificate: wins over federation.
        pub const CLIENT_CERTIFICATE: &str = "ARM_CLIENT_CERTIFICATE";
        /// Path of a client certificate: wins over federation.
        pub const CLIENT_CERTIFICATE_PATH: &str = "ARM_CLIENT_CERTIFICATE_PATH";
        /// Azure DevOps service connection, by the provider's name.
        pub const ADO_PIPELINE_SERVICE_CONNECTION_ID: &str = "ARM_ADO_PIPELINE_SERVICE_CONNECTION_ID";
        /// Azure DevOps service connection, by the backend's and the task's name.
        pub const OIDC_AZURE_SERVICE_CONNECTION_ID: &str = "ARM_OIDC_AZURE_SERVICE_CONNECTION_ID";
    }

    /// GitHub Actions'.
    pub mod github {
        /// `true` in a job.
        pub const ACTIONS: &str = "GITHUB_ACTIONS";
        /// URL that mints assertions; only with `permissions: id-token: write`.
        pub const ID_TOKEN_REQUEST_URL: &str = "ACTIONS_ID_TOKEN_REQUEST_URL";
        /// What authenticates the job to that URL.
        pub const ID_TOKEN_REQUEST_TOKEN: &str = "ACTIONS_ID_TOKEN_REQUEST_TOKEN";
        /// File of variables for later steps.
        pub const ENV: &str = "GITHUB_ENV";
        /// File of this step's outputs.
        pub const OUTPUT: &str = "GITHUB_OUTPUT";
        /// File of this action's state, for its post step.
        pub const STATE: &str = "GITHUB_STATE";
        /// Markdown file shown with the job.
        pub const STEP_SUMMARY: &str = "GITHUB_STEP_SUMMARY";
        /// The event that started the workflow.
        pub const EVENT_NAME: &str = "GITHUB_EVENT_NAME";
        /// Temp directory of the job, emptied by the runner.
        pub const RUNNER_TEMP: &str = "RUNNER_TEMP";
        /// Number of the workflow run.
        pub const RUN_ID: &str = "GITHUB_RUN_ID";
        /// Number of the run's attempt.
        pub const RUN_ATTEMPT: &str = "GITHUB_RUN_ATTEMPT";
        /// Id of the job within the workflow.
        pub const JOB: &str = "GITHUB_JOB";
        /// What `GITHUB_STATE` hands to the post step: this action's own login directory.
        pub const STATE_LOGIN_DIR: &str = "STATE_azfed_login_dir";
        /// `1` where the user asked for debug logging.
        pub const RUNNER_DEBUG: &str = "RUNNER_DEBUG";
        /// `true` in a job of Forgejo Actions, beside `GITHUB_ACTIONS` and Gitea's mark.
        pub const FORGEJO_ACTIONS: &str = "FORGEJO_ACTIONS";
        /// `true` in a job of Gitea Actions, beside `GITHUB_ACTIONS`.
        pub const GITEA_ACTIONS: &str = "GITEA_ACTIONS";
    }

    /// GitLab CI's.
    pub mod gitlab {
        /// `true` in a job.
        pub const CI: &str = "GITLAB_CI";
        /// URL of the GitLab instance, which is its issuer too.
        pub const SERVER_URL: &str = "CI_SERVER_URL";
        /// Number of the job.
        pub const JOB_ID: &str = "CI_JOB_ID";
        /// Temp directory beside the project.
        pub const RUNNER_TEMP_PROJECT_DIR: &str = "RUNNER_TEMP_PROJECT_DIR";
        /// The id token, by a name in use.
        pub const OIDC_TOKEN: &str = "GITLAB_OIDC_TOKEN";
    }

    /// A host's, which has a managed identity: the same names mean different things on different hosts.
    pub mod host {
        /// The managed identity endpoint of App Service, Automation, Service Fabric, Arc.
        pub const IDENTITY_ENDPOINT: &str = "IDENTITY_ENDPOINT";
        /// What opens it; a secret.
        pub const IDENTITY_HEADER: &str = "IDENTITY_HEADER";
        /// SHA-1 of its certificate, on Service Fabric.
        pub const IDENTITY_SERVER_THUMBPRINT: &str = "IDENTITY_SERVER_THUMBPRINT";
        /// Beside `IDENTITY_ENDPOINT`: Azure Arc.
        pub const IMDS_ENDPOINT: &str = "IMDS_ENDPOINT";
        /// The endpoint of Azure Machine Learning and Cloud Shell, and App Service's older one.
        pub const MSI_ENDPOINT: &str = "MSI_ENDPOINT";
        /// What opens it; a secret.
        pub const MSI_SECRET: &str = "MSI_SECRET";
        /// Azure Machine Learning: the identity that is meant where none is named.
        pub const DEFAULT_IDENTITY_CLIENT_ID: &str = "DEFAULT_IDENTITY_CLIENT_ID";
        /// Set in every pod: the API server of its cluster.
        pub const KUBERNETES_SERVICE_HOST: &str = "KUBERNETES_SERVICE_HOST";
        /// Another base URL of the instance metadata service.
        pub const POD_IDENTITY_AUTHORITY_HOST: &str = "AZURE_POD_IDENTITY_AUTHORITY_HOST";
        /// Automation: the account's id, in a runbook's sandbox.
        pub const AUTOMATION_ACCOUNT_ID: &str = "AUTOMATION_ASSET_ACCOUNTID";
        /// Automation: `AzureAutomation/…`, in a runbook's sandbox.
        pub const POWERSHELL_HOST: &str = "AZUREPS_HOST_ENVIRONMENT";
        /// Where Arc's agent keeps its keys on Windows.
        pub const PROGRAM_DATA: &str = "ProgramData";
        /// Where Arc's agent is on Windows.
        pub const PROGRAM_FILES: &str = "ProgramFiles";
    }

    /// Azure DevOps'.
    pub mod azure_devops {
        /// `True` in a job.
        pub const TF_BUILD: &str = "TF_BUILD";
        /// URL that mints assertions.
        pub const OIDC_REQUEST_URI: &str = "SYSTEM_OIDCREQUESTURI";
        /// The job's token; only in steps that map it.
        pub const ACCESS_TOKEN: &str = "SYSTEM_ACCESSTOKEN";
        /// Temp directory of the job, emptied by the agent.
        pub const AGENT_TEMP_DIRECTORY: &str = "AGENT_TEMPDIRECTORY";
        /// Id of the job.
        pub const JOB_ID: &str = "SYSTEM_JOBID";
        /// Number of the build.
        pub const BUILD_ID: &str = "BUILD_BUILDID";
        /// `True` where the user asked for debug logging.
        pub const DEBUG: &str = "SYSTEM_DEBUG";
    }

    /// Buildkite's.
    pub mod buildkite {
        /// `true` in a job.
        pub const BUILDKITE: &str = "BUILDKITE";
        /// The claim that the agent makes the subject.
        pub const SUBJECT_CLAIM: &str = "BUILDKITE_OIDC_TOKEN_SUBJECT_CLAIM";
        /// What opens Buildkite to the agent's own commands; a secret.
        pub const AGENT_ACCESS_TOKEN: &str = "BUILDKITE_AGENT_ACCESS_TOKEN";
    }

    /// CircleCI's.
    pub mod circleci {
        /// `true` in a job.
        pub const CIRCLECI: &str = "CIRCLECI";
        /// A ready OIDC token, whose audience is the organisation's id.
        pub const OIDC_TOKEN_V2: &str = "CIRCLE_OIDC_TOKEN_V2";
        /// The same with a subject of less.
        pub const OIDC_TOKEN: &str = "CIRCLE_OIDC_TOKEN";
    }

    /// HCP Terraform's and Terraform Enterprise's.
    pub mod hcp_terraform {
        /// The run's id, in every run.
        pub const RUN_ID: &str = "TFC_RUN_ID";
        /// The OIDC token; with a tag, `_` and the tag follow.
        pub const WORKLOAD_IDENTITY_TOKEN: &str = "TFC_WORKLOAD_IDENTITY_TOKEN";
        /// What asks for it: the audience that it is to have.
        pub const WORKLOAD_IDENTITY_AUDIENCE: &str = "TFC_WORKLOAD_IDENTITY_AUDIENCE";
    }

    /// Spacelift's.
    pub mod spacelift {
        /// The OIDC token.
        pub const OIDC_TOKEN: &str = "SPACELIFT_OIDC_TOKEN";
        /// The run's id, in every run.
        pub const RUN_ID: &str = "TF_VAR_spacelift_run_id";
    }

    /// Semaphore's.
    pub mod semaphore {
        /// `true` in a job.
        pub const SEMAPHORE: &str = "SEMAPHORE";
        /// The OIDC token.
        pub const OIDC_TOKEN: &str = "SEMAPHORE_OIDC_TOKEN";
    }

    /// Codefresh's.
    pub mod codefresh {
        /// The build's id, in every build.
        pub const BUILD_ID: &str = "CF_BUILD_ID";
        /// URL that mints OIDC tokens.
        pub const OIDC_REQUEST_URL: &str = "CF_OIDC_REQUEST_URL";
        /// What authenticates the build to that URL.
        pub const OIDC_REQUEST_TOKEN: &str = "CF_OIDC_REQUEST_TOKEN";
        /// What the step `obtain-oidc-id-token` leaves to later ones.
        pub const ID_TOKEN: &str = "ID_TOKEN";
    }

    /// Bitbucket Pipelines'.
    pub mod bitbucket {
        /// Number of the build, in every step.
        pub const BUILD_NUMBER: &str = "BITBUCKET_BUILD_NUMBER";
    }

    /// Google Cloud's.
    pub mod google_cloud {
        /// Another host, or address, and port of the metadata server.
        pub const METADATA_HOST: &str = "GCE_METADATA_HOST";
        /// The service's name, on Cloud Run.
        pub const SERVICE: &str = "K_SERVICE";
    }

    /// AWS'.
    pub mod aws {
        /// Which credential.
        pub const ACCESS_KEY_ID: &str = "AWS_ACCESS_KEY_ID";
        /// The key that signs; a secret.
        pub const SECRET_ACCESS_KEY: &str = "AWS_SECRET_ACCESS_KEY";
        /// What goes with a temporary credential; a secret.
        pub const SESSION_TOKEN: &str = "AWS_SESSION_TOKEN";
        /// The region.
        pub const REGION: &str = "AWS_REGION";
        /// The same, where the other is not set.
        pub const DEFAULT_REGION: &str = "AWS_DEFAULT_REGION";
        /// Another URL of the Security Token Service.
        pub const ENDPOINT_URL_STS: &str = "AWS_ENDPOINT_URL_STS";
        /// Another URL of every service.
        pub const ENDPOINT_URL: &str = "AWS_ENDPOINT_URL";
        /// Path of a container's credentials, at ECS' address.
        pub const CONTAINER_CREDENTIALS_RELATIVE_URI: &str = "AWS_CONTAINER_CREDENTIALS_RELATIVE_URI";
        /// URL of a container's credentials.
        pub const CONTAINER_CREDENTIALS_FULL_URI: &str = "AWS_CONTAINER_CREDENTIALS_FULL_URI";
        /// What opens that URL; a secret.
        pub const CONTAINER_AUTHORIZATION_TOKEN: &str = "AWS_CONTAINER_AUTHORIZATION_TOKEN";
        /// The file that holds it, which is rewritten.
        pub const CONTAINER_AUTHORIZATION_TOKEN_FILE: &str = "AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE";
    }

    /// The operating system's.
    pub mod system {
        /// Temp directory on Unix.
        pub const TMPDIR: &str = "TMPDIR";
        /// Temp directory on Windows.
        pub const TEMP: &str = "TEMP";
        /// Home directory on Unix.
        pub const HOME: &str = "HOME";
        /// Home directory on Windows.
        pub const USERPROFILE: &str = "USERPROFILE";
        /// A file of CA certificates that replaces the system's.
        pub const SSL_CERT_FILE: &str = "SSL_CERT_FILE";
        /// Directories of CA certificates that replace the system's.
        pub const SSL_CERT_DIR: &str = "SSL_CERT_DIR";
        /// The proxy for https, and its other spelling; it may hold a password.
        pub const HTTPS_PROXY: [&str; 2] = ["HTTPS_PROXY", "https_proxy"];
        /// The proxy for plain http, and its other spelling; it may hold a password.
        pub const HTTP_PROXY: [&str; 2] = ["HTTP_PROXY", "http_proxy"];
        /// The proxy for everything, and its other spelling; it may hold a password.
        pub const ALL_PROXY: [&str; 2] = ["ALL_PROXY", "all_proxy"];
        /// Hosts that no proxy is asked for, and its other spelling.
        pub const NO_PROXY: [&str; 2] = ["NO_PROXY", "no_proxy"];
    }

    /// azfed's own.
    pub mod azfed {
        /// The directory of the last login.
        pub const LOGIN_DIR: &str = "AZFED_LOGIN_DIR";
        /// The managed identity endpoint that an azfed around this process serves.
        pub const ENDPOINT: &str = "AZFED_ENDPOINT";
    }
}

/// The environment as it was when the process started.
///
/// An empty variable is an unset variable: GitHub passes empty inputs, GitLab empty variables, and no setting of
/// azfed's has an empty value as its meaning. Of a value that is not UTF-8 only that it is set is known: it is of no use
/// here, but another program may take it.
#[derive(Default)]
pub struct Env {
    values: BTreeMap<String, String>,
    empty: BTreeSet<String>,
    unreadable: BTreeSet<String>,
}

impl Env {
    /// Takes the snapshot.
    pub fn from_process() -> Self {
        Self::from_os_pairs(std::env::vars_os())
    }

    fn from_os_pairs(pairs: impl IntoIterator<Item = (OsString, OsString)>) -> Self {
        let mut unreadable = BTreeSet::new();
        let pairs = pairs.into_iter().filter_map(|(name, value)| {
            let name = name.into_string().ok()?;
            if let Ok(value) = value.into_string() {
                return Some((name, value));
            }
            unreadable.insert(normalise(name));
            None
        });
        let env = Self::from_pairs(pairs);
        Self { unreadable, ..env }
    }

    /// An environment of these pairs.
    pub fn from_pairs<N: Into<String>, V: Into<String>>(pairs: impl IntoIterator<Item = (N, V)>) -> Self {
        let mut env = Self::default();
        for (name, value) in pairs {
            let (name, value) = (normalise(name.into()), value.into());
            if value.is_empty() {
                env.empty.insert(name);
            } else {
                env.values.insert(name, value);
            }
        }
        env
    }

    /// The value of a variable that holds no secret.
    pub fn get(&self, name: &str) -> Option<&str> {
        self.values.get(&normalise(name.to_owned())).map(String::as_str)
    }

    /// The value of a variable that holds a credential.
    pub fn secret(&self, name: &str) -> Option<Secret> {
        self.get(name).map(|value| Secret::new(value.to_owned()))
    }

    /// Whether a variable is set and not empty, be it readable or not.
    pub fn is_set(&self, name: &str) -> bool {
        self.get(name).is_some() || self.unreadable.contains(&normalise(name.to_owned()))
    }

    /// Whether a variable is there, but empty: unset by all other means, and worth a word to who set it.
    pub fn is_empty(&self, name: &str) -> bool {
        self.empty.contains(&normalise(name.to_owned()))
    }

    /// The first of these variables that is set, with its name.
    pub fn first<'n>(&self, names: &[&'n str]) -> Option<(&'n str, &str)> {
        names.iter().find_map(|name| Some((*name, self.get(name)?)))
    }

    /// Every pair, for the one search that needs it: a GitLab id token under a name of the user's choice.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &str)> {
        self.values.iter().map(|(name, value)| (name.as_str(), value.as_str()))
    }
}

/// Windows does not tell letter cases of names apart.
fn normalise(name: String) -> String {
    if cfg!(windows) { name.to_ascii_uppercase() } else { name }
}

impl fmt::Debug for Env {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_set().entries(self.values.keys()).finish()
    }
}

#[cfg(test)]
mod tests {
    use super::Env;

    #[test]
    fn empty_is_unset() {
        let env = Env::from_pairs([("A", ""), ("B", "b")]);
        assert_eq!(env.get("A"), None);
        assert!(!env.is_set("A") && env.is_empty("A"));
        assert!(!env.is_empty("B") && !env.is_empty("C"));
        assert_eq!(env.first(&["A", "B"]), Some(("B", "b")));
    }

    #[cfg(unix)]
    #[test]
    fn what_is_not_utf_8_is_set_and_has_no_value() {
        use std::{ffi::OsString, os::unix::ffi::OsStringExt};
        let odd = OsString::from_vec(b"\xff\xfesecret".to_vec());
        let env =
            Env::from_os_pairs([("A".into(), odd.clone()), (odd, "b".into()), ("C".into(), "c".into())]);
        assert!(env.is_set("A") && env.is_set("C") && !env.is_empty("A"));
        assert_eq!((env.get("A"), env.get("C"), env.iter().count()), (None, Some("c"), 1));
    }

    #[test]
    fn debug_shows_names_only() {
        let env = Env::from_pairs([("SYSTEM_ACCESSTOKEN", "sentinel")]);
        let shown = format!("{env:?}");
        assert!(shown.contains("SYSTEM_ACCESSTOKEN") && !shown.contains("sentinel"), "{shown}");
    }
}
