//! What Entra's error numbers mean, and what to do.
//!
//! Entra documents the numbers, not the texts, as what to decide on (Microsoft Learn "Microsoft Entra authentication
//! and authorization error codes", "Workload identity federation considerations").

use std::time::Duration;

use crate::retry::Verdict;

/// How an error passes, if it does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Class {
    /// A fault or throttling on Entra's side: again, after a while.
    Transient,
    /// Entra could not read the issuer's keys: again, after a while, then it is the issuer.
    IssuerFetch,
    /// The assertion was too old: once more, with a fresh one.
    Fresh,
    /// Wrong, or right but so new that not all of Entra knows it. Not tried again: a wrong one would fail late.
    Propagation,
    /// Wrong.
    Permanent,
}

impl Class {
    /// What to do next.
    pub fn verdict(self, retry_after: Option<Duration>) -> Verdict {
        match self {
            Self::Transient | Self::IssuerFetch => Verdict::Again { retry_after },
            Self::Fresh => Verdict::FreshAssertion,
            Self::Propagation | Self::Permanent => Verdict::Stop,
        }
    }
}

/// One meaning.
#[derive(Debug)]
pub struct Row {
    /// The AADSTS numbers that have it.
    pub codes: &'static [u32],
    /// How it passes.
    pub class: Class,
    /// What it means: a fact.
    pub meaning: &'static str,
    /// What to do.
    pub fix: &'static str,
    /// Whether the command that creates the federated credential follows.
    pub shows_command: bool,
}

/// The row of a number.
pub fn row(code: u32) -> Option<&'static Row> {
    TABLE.iter().find(|row| row.codes.contains(&code))
}

/// Every number that azfed explains. docs/errors.md has a section for each row.
pub static TABLE: &[Row] = &[
    Row {
        codes: &[70_021],
        class: Class::Propagation,
        meaning: "no federated credential on the identity matches this job's token",
        fix: "issuer, subject and audience must match to the letter; add a federated credential for this job (a new one takes some minutes to work):",
        shows_command: true,
    },
    Row {
        codes: &[700_211],
        class: Class::Propagation,
        meaning: "no federated credential on the identity has this issuer",
        fix: "issuers match to the letter, a slash at the end and an enterprise's name too; add a federated credential for this one:",
        shows_command: true,
    },
    Row {
        codes: &[700_212],
        class: Class::Propagation,
        meaning: "the federated credential with this issuer and subject has another audience",
        fix: "say `--audience` to present the one that it has, or delete that credential (issuer and subject can be there only once) and create one that fits:",
        shows_command: true,
    },
    Row {
        codes: &[700_213],
        class: Class::Propagation,
        meaning: "no federated credential on the identity has this subject",
        fix: "subjects match exactly, letter case too; add a federated credential for this one:",
        shows_command: true,
    },
    Row {
        codes: &[7_002_137],
        class: Class::Permanent,
        meaning: "the federated credential does not have the subject that Azure DevOps' Entra issuer presents",
        fix: "copy issuer and subject from the service connection's page, or add a federated credential for what this job presents:",
        shows_command: true,
    },
    Row {
        codes: &[7_002_138],
        class: Class::Propagation,
        meaning: "a federated credential has this subject in other letter case",
        fix: "subjects match exactly, letter case too; correct the credential (where both look the same, delete it and create it again):",
        shows_command: true,
    },
    Row {
        codes: &[7_002_206],
        class: Class::Permanent,
        meaning: "the token's audience is not the one of this Azure cloud",
        fix: "every cloud has its own audience: set `--cloud`, and leave `--audience` to it",
        shows_command: false,
    },
    Row {
        codes: &[7_002_381],
        class: Class::Permanent,
        meaning: "a policy of this tenant takes GitHub tokens only from certain GitHub enterprises",
        fix: "ask the tenant's administrator; the repository's enterprise must be allowed, and put the `enterprise` claim into the token",
        shows_command: false,
    },
    Row {
        codes: &[700_238, 700_223],
        class: Class::Permanent,
        meaning: "a policy of this tenant limits workload identity federation",
        fix: "ask the tenant's administrator which issuers are allowed",
        shows_command: false,
    },
    Row {
        codes: &[70_025],
        class: Class::Propagation,
        meaning: "the identity has no federated credentials at all",
        fix: "check the client id (of the identity, not its object id); then add a federated credential (a new one takes some minutes to work):",
        shows_command: true,
    },
    Row {
        codes: &[70_052],
        class: Class::Permanent,
        meaning: "an app registration for several tenants cannot be used with Azure DevOps' Entra issuer",
        fix: "use a user-assigned managed identity or a single-tenant app registration",
        shows_command: false,
    },
    Row {
        codes: &[700_222],
        class: Class::Permanent,
        meaning: "a token that Entra itself issued cannot be used as an assertion here",
        fix: "pass the platform's OIDC token, not an Azure access token",
        shows_command: false,
    },
    Row {
        codes: &[700_229],
        class: Class::Permanent,
        meaning: "a user's token cannot be used as an assertion",
        fix: "pass the platform's OIDC token, or a managed identity's",
        shows_command: false,
    },
    Row {
        codes: &[7_000_272],
        class: Class::IssuerFetch,
        meaning: "Entra does not know the key that signed this token",
        fix: "the platform changed its keys a short while ago: run the job again in half an hour",
        shows_command: false,
    },
    Row {
        codes: &[50_166, 501_661, 90_061],
        class: Class::IssuerFetch,
        meaning: "Entra could not read the token issuer's discovery document or keys",
        fix: "the issuer must be reachable from the internet over https: `<issuer>/.well-known/openid-configuration` and its `jwks_uri`",
        shows_command: false,
    },
    Row {
        codes: &[700_024],
        class: Class::Fresh,
        meaning: "the token is outside the time in which it is valid",
        fix: "log in shortly before the token is used, or let the login be renewed (docs/long-jobs.md); check this machine's clock",
        shows_command: false,
    },
    Row {
        codes: &[700_027],
        class: Class::Permanent,
        meaning: "the token's signature was not accepted",
        fix: "the token must come unchanged from the platform, and its issuer must publish the key that signed it",
        shows_command: false,
    },
    Row {
        codes: &[50_027],
        class: Class::Fresh,
        meaning: "the token is not a well-formed JWT",
        fix: "check what fills the variable or file: the token alone, whole, with no quotes",
        shows_command: false,
    },
    Row {
        codes: &[50_013, 500_131, 500_133],
        class: Class::Permanent,
        meaning: "the assertion was refused as one of another flow",
        fix: "use the client id of a managed identity or app registration with a federated credential",
        shows_command: false,
    },
    Row {
        codes: &[700_016],
        class: Class::Propagation,
        meaning: "the tenant has no application or identity with this client id",
        fix: "check the tenant, and that it is the client id, not the object (principal) id: `az identity show --query clientId`",
        shows_command: false,
    },
    Row {
        codes: &[90_002],
        class: Class::Permanent,
        meaning: "there is no such tenant in this cloud",
        fix: "check the tenant id and `--cloud`",
        shows_command: false,
    },
    Row {
        codes: &[900_023],
        class: Class::Permanent,
        meaning: "the tenant id is neither a GUID nor a domain name",
        fix: "check the tenant id: the variable that it comes from may be empty or unexpanded",
        shows_command: false,
    },
    Row {
        codes: &[90_019, 90_013],
        class: Class::Permanent,
        meaning: "Entra could not read the request",
        fix: "check the tenant id and `--authority-host`",
        shows_command: false,
    },
    Row {
        codes: &[900_382, 900_432],
        class: Class::Permanent,
        meaning: "the tenant is in another Azure cloud than the one that was asked",
        fix: "set `--cloud` to the tenant's cloud",
        shows_command: false,
    },
    Row {
        codes: &[90_038],
        class: Class::Permanent,
        meaning: "the tenant is in a national cloud",
        fix: "set `--cloud` to the tenant's cloud",
        shows_command: false,
    },
    Row {
        codes: &[500_011],
        class: Class::Permanent,
        meaning: "the tenant does not know the resource of this scope",
        fix: "check `--scope`: every cloud has its own resource names, and an API of your own must exist in the tenant",
        shows_command: false,
    },
    Row {
        codes: &[1_002_012],
        class: Class::Permanent,
        meaning: "the scope is not a `/.default` scope",
        fix: "name the resource itself: azfed adds `/.default`",
        shows_command: false,
    },
    Row {
        codes: &[70_011, 28_002],
        class: Class::Permanent,
        meaning: "the scope is not valid",
        fix: "name one resource with each `--scope`",
        shows_command: false,
    },
    Row {
        codes: &[7_000_112],
        class: Class::Permanent,
        meaning: "the application is disabled",
        fix: "enable its service principal, or use another identity",
        shows_command: false,
    },
    Row {
        codes: &[7_000_229],
        class: Class::Permanent,
        meaning: "the application has no service principal in this tenant",
        fix: "create it (`az ad sp create --id <client id>`), or check the tenant id",
        shows_command: false,
    },
    Row {
        codes: &[7_000_215, 7_000_222],
        class: Class::Permanent,
        meaning: "a client secret was presented, and it is wrong or expired",
        fix: "azfed presents none: look for AZURE_CLIENT_SECRET or ARM_CLIENT_SECRET in the job",
        shows_command: false,
    },
    Row {
        codes: &[7_000_218],
        class: Class::Permanent,
        meaning: "no assertion reached Entra",
        fix: "something between here and Entra changes requests: check the proxy",
        shows_command: false,
    },
    Row {
        codes: &[700_005, 50_020, 50_034],
        class: Class::Permanent,
        meaning: "the sign-in was taken for a user's",
        fix: "use the client id of a managed identity or app registration",
        shows_command: false,
    },
    Row {
        codes: &[53_003],
        class: Class::Permanent,
        meaning: "a Conditional Access policy for workload identities blocked the sign-in",
        fix: "ask the tenant's administrator; such policies do not apply to managed identities",
        shows_command: false,
    },
    Row {
        codes: &[50_196],
        class: Class::Permanent,
        meaning: "Entra saw the same request too often in a short time",
        fix: "wait, and look for a loop that logs in",
        shows_command: false,
    },
    Row {
        codes: &[50_033, 90_006, 90_012, 90_024, 90_033],
        class: Class::Transient,
        meaning: "Entra had a passing fault",
        fix: "run the job again",
        shows_command: false,
    },
    Row {
        codes: &[90_055],
        class: Class::Transient,
        meaning: "Entra throttles the tenant or the identity",
        fix: "log in less often, or spread the jobs",
        shows_command: false,
    },
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_number_has_one_row() {
        let mut codes: Vec<u32> = TABLE.iter().flat_map(|row| row.codes).copied().collect();
        let rows = codes.len();
        codes.sort_unstable();
        codes.dedup();
        assert_eq!(codes.len(), rows);
    }

    #[test]
    fn each_row_is_documented() {
        let docs = include_str!("../../docs/errors.md");
        for row in TABLE {
            let heading = row.codes.iter().map(|code| format!("AADSTS{code}")).collect::<Vec<_>>().join(", ");
            let section = docs
                .split("\n## ")
                .find(|section| section.starts_with(&format!("{heading}\n")))
                .unwrap_or_else(|| panic!("no section `{heading}` in docs/errors.md"));
            assert!(section.contains(row.meaning), "{heading}: {}", row.meaning);
        }
    }

    #[test]
    fn a_fix_with_a_command_ends_in_a_colon() {
        for row in TABLE {
            assert_eq!(row.fix.ends_with(':'), row.shows_command, "{}", row.fix);
        }
    }
}
