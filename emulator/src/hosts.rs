//! The managed identity endpoints of hosts, a file each: what they have in common.
//!
//! Which identity is meant where none is named differs: the instance metadata service falls back to the only user-assigned
//! one, App Service never does.

pub(crate) mod app_service;
pub(crate) mod arc;
pub(crate) mod automation;
pub(crate) mod azure_ml;
pub(crate) mod cloud_shell;
pub(crate) mod imds;
pub(crate) mod service_fabric;
pub(crate) mod token_proxy;

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::{
    entra::{self, Issued, Principal},
    message::{Answer, json},
    world::{HostIdentity, IDENTITY, Settings, TENANT, World},
};

/// A kind of host that has managed identities.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Host {
    /// Azure VM, scale set, container instance, node of a cluster.
    Imds,
    /// App Service, Functions.
    AppService,
    /// App Service with the variables of 2017, as on the Linux consumption plan.
    #[serde(rename = "app-service-2017")]
    AppService2017,
    /// Container Apps.
    ContainerApps,
    /// An Automation runbook.
    Automation,
    /// A server with Azure Arc's agent.
    Arc,
    /// A Service Fabric application.
    ServiceFabric,
    /// Azure Machine Learning.
    AzureMl,
    /// Cloud Shell.
    CloudShell,
    /// A pod of a cluster with identity bindings: without `AZURE_FEDERATED_TOKEN_FILE`, whose file the test writes.
    IdentityBinding,
}

/// What such a host sets.
pub(crate) fn environment(world: &World, host: Host) -> Vec<(String, String)> {
    let (base, secret) = (world.http_url(), world.host_secret.clone());
    let endpoint = |path: &str| format!("{base}{path}");
    let pairs = match host {
        Host::Imds => vec![("AZURE_POD_IDENTITY_AUTHORITY_HOST", base)],
        Host::AppService => vec![
            ("IDENTITY_ENDPOINT", endpoint("/msi/token")),
            ("IDENTITY_HEADER", secret.clone()),
            ("MSI_ENDPOINT", endpoint("/msi/token")),
            ("MSI_SECRET", secret),
            ("WEBSITE_SITE_NAME", "contoso-app".to_owned()),
        ],
        Host::AppService2017 => {
            vec![("MSI_ENDPOINT", endpoint("/msi/token")), ("MSI_SECRET", secret)]
        }
        Host::ContainerApps => vec![
            ("IDENTITY_ENDPOINT", endpoint("/msi/token")),
            ("IDENTITY_HEADER", secret),
            ("CONTAINER_APP_NAME", "contoso-app".to_owned()),
        ],
        Host::Automation => vec![
            ("IDENTITY_ENDPOINT", endpoint("/automation/oauth2/token")),
            ("IDENTITY_HEADER", secret.clone()),
            ("MSI_ENDPOINT", endpoint("/automation/oauth2/token")),
            ("MSI_SECRET", secret),
            ("AUTOMATION_ASSET_ACCOUNTID", "dcdcdcdc-dcdc-4dcd-8dcd-dcdcdcdcdcdc".to_owned()),
            ("AZUREPS_HOST_ENVIRONMENT", "AzureAutomation/".to_owned()),
        ],
        Host::Arc => vec![
            ("IDENTITY_ENDPOINT", endpoint("/arc/metadata/identity/oauth2/token")),
            ("IMDS_ENDPOINT", endpoint("/arc")),
        ],
        Host::ServiceFabric => vec![
            ("IDENTITY_ENDPOINT", world.service_fabric_url()),
            ("IDENTITY_HEADER", secret),
            ("IDENTITY_SERVER_THUMBPRINT", world.tls.thumbprint.clone()),
            ("IDENTITY_API_VERSION", service_fabric::API_VERSION.to_owned()),
        ],
        Host::AzureMl => vec![
            ("MSI_ENDPOINT", endpoint("/azure-ml/token")),
            ("MSI_SECRET", secret),
            ("DEFAULT_IDENTITY_CLIENT_ID", azure_ml::default_client(world)),
        ],
        Host::CloudShell => vec![
            ("MSI_ENDPOINT", endpoint("/cloud-shell/oauth2/token")),
            ("AZUREPS_HOST_ENVIRONMENT", "cloud-shell/1.0".to_owned()),
        ],
        Host::IdentityBinding => vec![
            ("AZURE_CLIENT_ID", IDENTITY.to_owned()),
            ("AZURE_TENANT_ID", TENANT.to_owned()),
            ("AZURE_AUTHORITY_HOST", world.url_of("login.microsoftonline.com")),
            ("AZURE_KUBERNETES_TOKEN_PROXY", world.token_proxy_url()),
            ("AZURE_KUBERNETES_SNI_NAME", token_proxy::TOKEN_PROXY_NAME.to_owned()),
            ("AZURE_KUBERNETES_CA_DATA", world.tls.token_proxy_ca_pem.clone()),
        ],
    };
    if pairs.iter().any(|(_, value)| *value == world.host_secret) {
        world.remember_secret(&world.host_secret);
    }
    pairs.into_iter().map(|(name, value)| (name.to_owned(), value)).collect()
}

/// A refusal in an endpoint's own form.
#[derive(Debug, Clone)]
struct Refusal {
    status: u16,
    body: Value,
}

impl Refusal {
    fn new(status: u16, body: Value) -> Self {
        Self { status, body }
    }
}

fn settle(judged: Result<Answer, Refusal>) -> Answer {
    judged.unwrap_or_else(|refusal| json(refusal.status, &refusal.body))
}

type Parameters<'a> = BTreeMap<&'a str, &'a str>;

/// The parameters of a request, where each is known, has a value, and comes once; else what is wrong.
fn parameters<'a>(pairs: &'a [(String, String)], known: &[&str]) -> Result<Parameters<'a>, String> {
    let mut parameters = Parameters::new();
    for (name, value) in pairs {
        if !known.contains(&name.as_str()) {
            return Err(format!("'{name}' is not a parameter"));
        }
        if value.is_empty() {
            return Err(format!("'{name}' is empty"));
        }
        if parameters.insert(name, value).is_some() {
            return Err(format!("'{name}' comes more than once"));
        }
    }
    Ok(parameters)
}

/// Which identity a request means.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Choice<'a> {
    Unnamed,
    Client(&'a str),
    Object(&'a str),
    Resource(&'a str),
}

impl<'a> Choice<'a> {
    /// By the names that an endpoint has for client, object and resource ids; nothing where several choose.
    fn of(parameters: &Parameters<'a>, [clients, objects, resources]: [&[&str]; 3]) -> Option<Self> {
        let named = |names: &[&str], choice: fn(&'a str) -> Self| {
            names.iter().filter_map(|name| parameters.get(name).copied()).map(choice).collect::<Vec<_>>()
        };
        let all =
            [named(clients, Self::Client), named(objects, Self::Object), named(resources, Self::Resource)];
        match all.concat().as_slice() {
            [] => Some(Self::Unnamed),
            [one] => Some(*one),
            _ => None,
        }
    }

    /// The identity of this name, if the host has it. Ids have no letter case.
    fn find(self, settings: &Settings) -> Option<HostIdentity> {
        let system = settings.system_assigned.then(HostIdentity::system);
        let is = |identity: &HostIdentity| match self {
            Self::Unnamed => false,
            Self::Client(id) => identity.client_id.eq_ignore_ascii_case(id),
            Self::Object(id) => identity.object_id.eq_ignore_ascii_case(id),
            Self::Resource(id) => identity.resource_id.eq_ignore_ascii_case(id),
        };
        system.into_iter().chain(settings.user_assigned.iter().cloned()).find(is)
    }
}

/// A token for an identity of the host; nothing where the tenant does not know the resource.
fn issue(identity: &HostIdentity, resource: &str, world: &World) -> Option<Issued> {
    entra::is_resource(resource, 0).then(|| entra::issue(&Principal::from(identity), resource, 0, world))
}

/// Seconds since 1970 as `2021-07-02 08:00:34Z`.
fn spaced_date(seconds: u64) -> String {
    let at = std::time::UNIX_EPOCH + std::time::Duration::from_secs(seconds);
    humantime::format_rfc3339_seconds(at).to_string().replace('T', " ")
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use crate::{
        keys::Token,
        message::Request,
        world::{
            IDENTITY_OBJECT, NEIGHBOUR_OBJECT, Ports, SYSTEM_IDENTITY, SYSTEM_IDENTITY_OBJECT,
            identity_resource,
        },
    };

    pub(crate) fn world(change: impl FnOnce(&mut Settings)) -> World {
        let mut settings = Settings::default();
        change(&mut settings);
        World::new(settings, Ports { http: ([127, 0, 0, 1], 1).into(), tls: 2, service_fabric: 3 })
    }

    /// A request as a client that does everything right sends it.
    pub(crate) fn get(query: &[(&str, &str)], headers: &[(&str, &str)]) -> Request {
        let owned = |(name, value): &(&str, &str)| ((*name).to_owned(), (*value).to_owned());
        Request {
            method: "GET".to_owned(),
            query: query.iter().map(owned).collect(),
            headers: headers.iter().map(owned).collect(),
            ..Request::default()
        }
    }

    /// The same request, changed.
    pub(crate) fn but(request: &Request, change: impl FnOnce(&mut Request)) -> Request {
        let mut request = request.clone();
        change(&mut request);
        request
    }

    pub(crate) fn read(answer: Answer) -> (u16, Value) {
        let status = answer.status().as_u16();
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        let body = runtime.block_on(http_body_util::BodyExt::collect(answer.into_body())).unwrap().to_bytes();
        (status, serde_json::from_slice(&body).unwrap_or(Value::Null))
    }

    /// The object id in the token of an answer.
    pub(crate) fn object_of(answer: Answer) -> String {
        let (status, body) = read(answer);
        assert_eq!(status, 200, "{body}");
        Token::parse(body["access_token"].as_str().unwrap()).unwrap().claims["oid"]
            .as_str()
            .unwrap()
            .to_owned()
    }

    #[test]
    fn each_parameter_once_and_known() {
        let pairs = |pairs: &[(&str, &str)]| get(pairs, &[]).query;
        let known = ["resource", "client_id"];
        assert_eq!(parameters(&pairs(&[("resource", "x")]), &known).unwrap()["resource"], "x");
        for wrong in [
            &[("resource", "x"), ("resource", "y")][..],
            &[("resource", "")],
            &[("Resource", "x")],
            &[("x", "y")],
        ] {
            assert!(parameters(&pairs(wrong), &known).is_err(), "{wrong:?}");
        }
    }

    #[test]
    fn identities_by_each_of_their_ids() {
        let world = world(|_| ());
        let settings = world.lock().settings.clone();
        let resource = identity_resource("INFRA-prod");
        for (choice, expected) in [
            (Choice::Client(IDENTITY), Some(IDENTITY_OBJECT)),
            (Choice::Object(NEIGHBOUR_OBJECT), Some(NEIGHBOUR_OBJECT)),
            (Choice::Resource(&resource), Some(IDENTITY_OBJECT)),
            (Choice::Client(SYSTEM_IDENTITY), Some(SYSTEM_IDENTITY_OBJECT)),
            (Choice::Client(IDENTITY_OBJECT), None),
            (Choice::Unnamed, None),
        ] {
            assert_eq!(
                choice.find(&settings).map(|found| found.object_id).as_deref(),
                expected,
                "{choice:?}"
            );
        }
        let query = get(&[("a", "1"), ("b", "2")], &[]).query;
        let both = parameters(&query, &["a", "b"]).unwrap();
        assert_eq!(Choice::of(&both, [&["a"], &["b"], &[]]), None);
        assert_eq!(Choice::of(&both, [&["a"], &[], &[]]), Some(Choice::Client("1")));
    }

    #[test]
    fn what_opens_an_endpoint_is_a_secret_once_a_host_has_it() {
        let world = world(|_| ());
        for host in [Host::Imds, Host::Arc, Host::CloudShell, Host::IdentityBinding] {
            assert!(!environment(&world, host).is_empty());
        }
        assert!(world.lock().secrets.is_empty());
        environment(&world, Host::ServiceFabric);
        assert_eq!(world.lock().secrets, std::slice::from_ref(&world.host_secret));
    }

    #[test]
    fn names_of_hosts() {
        for (host, name) in
            [(Host::AppService2017, "app-service-2017"), (Host::ContainerApps, "container-apps")]
        {
            assert_eq!(serde_json::to_value(host).unwrap(), name);
        }
    }
}
