//! az's own files, as `az login --service-principal --federated-token` writes them, without starting az.
//!
//! Sources: azure-cli `src/azure-cli-core/azure/cli/core/_profile.py` (profile), `…/core/auth/identity.py`
//! (service principals), microsoft-authentication-library-for-python `msal/token_cache.py` (token cache).

use serde_json::{Value, json};

use super::{AZURE_CLI_DIR, Granted, LoginFile};
use crate::{
    assertion::Assertion,
    cloud::Cloud,
    config::{Identity, Login},
    secret::Secret,
};

/// The file of az's service principals in a login's directory.
pub const SERVICE_PRINCIPALS: &str = "azure/service_principal_entries.json";

/// What of the user's own az settings still counts in the private directory.
#[derive(Debug, Default)]
pub struct UserSettings {
    /// Content of the user's `config`.
    pub config: Option<String>,
    /// Content of the user's `clouds.config`.
    pub clouds_config: Option<String>,
    /// The user's extensions, where a private directory would put them out of reach.
    pub extension_dir: Option<String>,
}

/// Every file of az's directory.
pub fn files(
    login: &Login,
    granted: &Granted<'_>,
    assertion: &Assertion,
    user: &UserSettings,
) -> Vec<LoginFile> {
    let file = |name: &str, content: String| LoginFile {
        path: format!("{AZURE_CLI_DIR}/{name}"),
        content: Secret::new(content),
    };
    let mut files = vec![
        file("azureProfile.json", profile(granted.identity, login.target.cloud).to_string()),
        file("service_principal_entries.json", service_principals(granted.identity, assertion).to_string()),
        file("msal_token_cache.json", token_cache(login, granted).to_string()),
        file("config", config(user.config.as_deref(), login.target.cloud.name, cfg!(windows))),
    ];
    if let Some(clouds) = &user.clouds_config {
        files.push(file("clouds.config", clouds.clone()));
    }
    files
}

/// The files of an az that asks an endpoint of ours for its tokens: no secret among them.
pub fn endpoint_files(identity: &Identity, cloud: &Cloud, user: &UserSettings) -> Vec<LoginFile> {
    host_files(identity, true, cloud, user)
}

/// The files of an az that asks a host for its tokens: no secret among them. `named` says whether it asks for a
/// user-assigned identity by its client id.
pub fn host_files(identity: &Identity, named: bool, cloud: &Cloud, user: &UserSettings) -> Vec<LoginFile> {
    let file = |name: &str, content: String| LoginFile {
        path: format!("{AZURE_CLI_DIR}/{name}"),
        content: Secret::new(content),
    };
    let mut files = vec![
        file("azureProfile.json", host_profile(identity, named, cloud).to_string()),
        file("config", config(user.config.as_deref(), cloud.name, cfg!(windows))),
    ];
    files.extend(user.clouds_config.iter().map(|clouds| file("clouds.config", clouds.clone())));
    files
}

/// The profile of a service principal.
fn profile(identity: &Identity, cloud: &Cloud) -> Value {
    let user = json!({ "name": identity.client.as_str(), "type": "servicePrincipal" });
    account(identity, cloud, &user)
}

/// The profile of a managed identity: az asks the endpoint each time.
fn host_profile(identity: &Identity, named: bool, cloud: &Cloud) -> Value {
    let (name, info) = if named {
        ("userAssignedIdentity", format!("MSIClient-{}", identity.client))
    } else {
        ("systemAssignedIdentity", "MSI".to_owned())
    };
    let user = json!({
        "name": name,
        "type": "servicePrincipal",
        "clientId": identity.client.as_str(),
        "assignedIdentityInfo": info,
    });
    account(identity, cloud, &user)
}

/// One subscription, or az's tenant-level account where there is none.
fn account(identity: &Identity, cloud: &Cloud, user: &Value) -> Value {
    let tenant = identity.tenant.as_str();
    let (id, name) = match &identity.subscription {
        Some(subscription) => (subscription.as_str(), subscription.as_str()),
        None => (tenant, "N/A(tenant level account)"),
    };
    json!({ "subscriptions": [{
        "id": id,
        "name": name,
        "state": "Enabled",
        "user": user,
        "isDefault": true,
        "tenantId": tenant,
        "environmentName": cloud.name,
        "homeTenantId": tenant,
        "managedByTenants": [],
    }]})
}

/// What az presents when it needs a token that is not in the cache.
fn service_principals(identity: &Identity, assertion: &Assertion) -> Value {
    json!([{
        "client_id": identity.client.as_str(),
        "tenant": identity.tenant.as_str(),
        "client_assertion": assertion.jwt.expose(),
    }])
}

/// az's service principals with a new assertion for this identity; others that a later step has logged in as stay.
pub fn renewed(old: &str, identity: &Identity, assertion: &Assertion) -> Option<Secret> {
    let mut entries: Vec<Value> = serde_json::from_str(old).ok()?;
    let of = |entry: &Value, name: &str, id: &str| {
        entry.get(name).and_then(Value::as_str).is_some_and(|value| value.eq_ignore_ascii_case(id))
    };
    let own = entries.iter_mut().find(|entry| {
        of(entry, "client_id", identity.client.as_str())
            && of(entry, "tenant", identity.tenant.as_str())
            && entry.get("client_assertion").is_some()
    })?;
    *own.get_mut("client_assertion")? = json!(assertion.jwt.expose());
    Some(Secret::new(json!(entries).to_string()))
}

/// MSAL's cache, with each access token under every name that az may ask for it by.
fn token_cache(login: &Login, granted: &Granted<'_>) -> Value {
    let client = granted.identity.client.as_str();
    let tenant = granted.identity.tenant.as_str();
    let environment = login.target.authority.host();
    let mut entries = serde_json::Map::new();
    for token in granted.tokens {
        for target in login.target.cloud.az_targets(&token.scope) {
            let key = format!("-{environment}-accesstoken-{client}-{tenant}-{target}").to_lowercase();
            entries.insert(
                key,
                json!({
                    "credential_type": "AccessToken",
                    "secret": token.secret.expose(),
                    "home_account_id": null,
                    "environment": environment,
                    "client_id": client,
                    "target": target,
                    "realm": tenant,
                    "token_type": "Bearer",
                    "cached_at": token.issued_at.to_string(),
                    "expires_on": token.expires_on.to_string(),
                    "extended_expires_on": token.expires_on.to_string(),
                }),
            );
        }
    }
    json!({
        "AccessToken": entries,
        "AppMetadata": {
            format!("appmetadata-{environment}-{client}"): { "client_id": client, "environment": environment },
        },
    })
}

/// The user's settings with this login's cloud in them (azure-cli `core/cloud.py` reads `[cloud] name`).
///
/// On Windows az encrypts its files with DPAPI unless `[core] encrypt_token_cache` says no (azure-cli
/// `core/auth/persistence.py`); a file in the job's own directory, which lives as long as the job, is readable by
/// this user alone either way.
fn config(user: Option<&str>, cloud: &str, windows: bool) -> String {
    let mut config = Ini::parse(user.unwrap_or_default());
    config.set("cloud", "name", cloud);
    if windows {
        config.set("core", "encrypt_token_cache", "false");
    }
    config.lines.join("\n") + "\n"
}

/// An INI file as Python's configparser reads it, line by line, so that everything else stays as it was.
struct Ini {
    lines: Vec<String>,
}

impl Ini {
    fn parse(text: &str) -> Self {
        Self { lines: text.trim_start_matches('\u{feff}').lines().map(ToOwned::to_owned).collect() }
    }

    fn set(&mut self, section: &str, option: &str, value: &str) {
        let header = format!("[{section}]");
        let Some(start) = self.lines.iter().position(|line| line.trim() == header) else {
            self.lines.extend([header, format!("{option} = {value}")]);
            return;
        };
        let end = self.lines[start + 1..]
            .iter()
            .position(|line| line.starts_with('['))
            .map_or(self.lines.len(), |length| start + 1 + length);
        let is_option = |line: &String| {
            line.split(['=', ':']).next().is_some_and(|name| name.trim().eq_ignore_ascii_case(option))
        };
        let line = format!("{option} = {value}");
        match self.lines[start + 1..end].iter().position(is_option) {
            Some(found) => self.lines[start + 1 + found] = line,
            None => self.lines.insert(start + 1, line),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::config;

    #[test]
    fn the_users_settings_stay() {
        assert_eq!(config(None, "AzureCloud", false), "[cloud]\nname = AzureCloud\n");
        let user = "[defaults]\nlocation = westeurope\n\n[cloud]\nprofile = latest\nName: AzureChinaCloud\n[core]\noutput = json\n";
        assert_eq!(
            config(Some(user), "AzureUSGovernment", true),
            "[defaults]\nlocation = westeurope\n\n[cloud]\nprofile = latest\nname = AzureUSGovernment\n[core]\n\
             encrypt_token_cache = false\noutput = json\n"
        );
    }
}
