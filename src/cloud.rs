//! The table of Azure clouds.

use std::str::FromStr;

use crate::{
    identifiers::{Audience, Authority, Endpoint, Scope},
    text,
};

/// What differs between Azure's clouds.
///
/// Sources: Microsoft Learn "National clouds" (authorities), "Workload identity federation considerations"
/// (audiences), azure-cli `src/azure-cli-core/azure/cli/core/cloud.py` (az's names and the resource that az asks
/// Resource Manager tokens for), hashicorp/go-azure-sdk `sdk/environments` (Terraform's names).
#[derive(Debug, PartialEq, Eq)]
pub struct Cloud {
    /// az's name, which is also Azure PowerShell's.
    pub name: &'static str,
    /// Terraform's name.
    pub terraform: &'static str,
    /// Other names in use.
    aliases: &'static [&'static str],
    /// Entra's host first, then its other names.
    authorities: &'static [&'static str],
    /// Audience of the assertions that this cloud's Entra takes.
    audience: &'static str,
    /// Azure Resource Manager.
    resource_manager: &'static str,
    /// The resource in whose name az asks for Resource Manager tokens; the same tokens, another spelling.
    service_management: &'static str,
}

/// Every cloud whose endpoints are published.
static CLOUDS: [Cloud; 3] = [
    Cloud {
        name: "AzureCloud",
        terraform: "public",
        aliases: &["AzurePublicCloud", "azure"],
        authorities: &[
            "login.microsoftonline.com",
            "login.windows.net",
            "login.microsoft.com",
            "sts.windows.net",
        ],
        audience: "api://AzureADTokenExchange",
        resource_manager: "https://management.azure.com",
        service_management: "https://management.core.windows.net/",
    },
    Cloud {
        name: "AzureUSGovernment",
        terraform: "usgovernment",
        aliases: &["AzureUSGovernmentCloud", "AzureGovernment", "usgov"],
        authorities: &["login.microsoftonline.us", "login.usgovcloudapi.net"],
        audience: "api://AzureADTokenExchangeUSGov",
        resource_manager: "https://management.usgovcloudapi.net",
        service_management: "https://management.core.usgovcloudapi.net/",
    },
    Cloud {
        name: "AzureChinaCloud",
        terraform: "china",
        aliases: &["AzureChina"],
        authorities: &["login.chinacloudapi.cn", "login.partner.microsoftonline.cn"],
        audience: "api://AzureADTokenExchangeChina",
        resource_manager: "https://management.chinacloudapi.cn",
        service_management: "https://management.core.chinacloudapi.cn/",
    },
];

/// A name that stands for no cloud.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "`{0}` is not a cloud that azfed knows: AzureCloud, AzureUSGovernment, AzureChinaCloud (or Terraform's public, usgovernment, china)"
)]
pub struct UnknownCloud(String);

/// A cloud chosen by name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CloudName(pub &'static Cloud);

impl FromStr for CloudName {
    type Err = UnknownCloud;

    fn from_str(name: &str) -> Result<Self, UnknownCloud> {
        let name = name.trim();
        CLOUDS
            .iter()
            .find(|cloud| {
                [cloud.name, cloud.terraform]
                    .iter()
                    .chain(cloud.aliases)
                    .any(|known| known.eq_ignore_ascii_case(name))
            })
            .map(Self)
            .ok_or_else(|| UnknownCloud(text::one_line(&name.chars().take(100).collect::<String>())))
    }
}

impl Cloud {
    /// The public cloud.
    pub fn public() -> &'static Self {
        &CLOUDS[0]
    }

    /// Whether this is the public cloud.
    pub fn is_public(&self) -> bool {
        self == Self::public()
    }

    /// The cloud whose Entra this is, if it is one of the published ones.
    pub fn of_authority(authority: &Authority) -> Option<&'static Self> {
        let host = authority.host();
        CLOUDS.iter().find(|cloud| cloud.authorities.iter().any(|known| known.eq_ignore_ascii_case(&host)))
    }

    /// Entra's base URL.
    pub fn authority(&self) -> Authority {
        parsed(self.authorities[0])
    }

    /// Audience of the assertions that this cloud's Entra takes.
    pub fn audience(&self) -> Audience {
        parsed(self.audience)
    }

    /// Azure Resource Manager.
    pub fn resource_manager(&self) -> Endpoint {
        parsed(self.resource_manager)
    }

    /// The scope of Azure Resource Manager.
    pub fn resource_manager_scope(&self) -> Scope {
        parsed(self.resource_manager)
    }

    /// Whether it is Resource Manager, which has two names, each with a slash at its end or without.
    pub fn is_resource_manager(&self, scope: &Scope) -> bool {
        let resource = scope.resource().trim_end_matches('/');
        [self.resource_manager, self.service_management.trim_end_matches('/')].contains(&resource)
    }

    /// Every spelling of a scope under which this cloud's az looks for the same access token in its cache.
    ///
    /// az appends `/.default` to a resource as it stands, and most of its resources end in a slash (azure-cli
    /// `core/auth/util.py`, `resource_to_scopes`); for Resource Manager it uses the service management name.
    pub fn az_targets(&self, scope: &Scope) -> Vec<String> {
        let resource = scope.resource().trim_end_matches('/');
        let mut resources = vec![resource];
        if self.is_resource_manager(scope) {
            resources = vec![self.service_management.trim_end_matches('/'), self.resource_manager];
        }
        resources
            .iter()
            .flat_map(|resource| [format!("{resource}//.default"), format!("{resource}/.default")])
            .collect()
    }
}

/// The table is a constant that the tests read through this function.
#[expect(
    clippy::expect_used,
    reason = "a wrong entry in the constant table above is found by the test that parses each"
)]
fn parsed<T: FromStr<Err: std::fmt::Debug>>(constant: &str) -> T {
    constant.parse().expect("the table of clouds is valid")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_entry_parses() {
        for cloud in &CLOUDS {
            let _ = (cloud.audience(), cloud.resource_manager_scope(), cloud.resource_manager());
            for authority in cloud.authorities {
                assert_eq!(Cloud::of_authority(&parsed(authority)), Some(cloud));
            }
            for name in [cloud.name, cloud.terraform].iter().chain(cloud.aliases) {
                assert_eq!(name.to_uppercase().parse::<CloudName>().unwrap().0, cloud);
                assert_eq!(name.to_lowercase().parse::<CloudName>().unwrap().0, cloud);
            }
        }
        assert!("AzureGermanCloud".parse::<CloudName>().is_err());
        assert!("".parse::<CloudName>().is_err());
    }

    #[test]
    fn az_looks_for_resource_manager_by_another_name() {
        let public = Cloud::public();
        assert_eq!(
            public.az_targets(&public.resource_manager_scope()),
            [
                "https://management.core.windows.net//.default",
                "https://management.core.windows.net/.default",
                "https://management.azure.com//.default",
                "https://management.azure.com/.default",
            ]
        );
        for (resource, is) in [
            ("https://management.core.windows.net/", true),
            ("https://management.azure.com/", true),
            ("https://database.windows.net/", false),
        ] {
            assert_eq!(public.is_resource_manager(&resource.parse().unwrap()), is, "{resource}");
        }
        assert_eq!(
            public.az_targets(&"https://vault.azure.net".parse().unwrap()),
            ["https://vault.azure.net//.default", "https://vault.azure.net/.default"]
        );
    }
}
