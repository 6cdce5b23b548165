//! Bitbucket Pipelines: recognised, and told why it cannot be.
//!
//! Sources: support.atlassian.com "Integrate Pipelines with resource servers using OIDC", sigstore/fulcio#1257 (the
//! subject ends with the step's UUID), Microsoft Learn "Workload identity federation considerations" (exact subjects).

use crate::error::Hints;

/// The platform's name.
pub const NAME: &str = "Bitbucket Pipelines";

/// The way out.
pub(super) fn hints() -> Hints {
    Hints::one(
        "run the step on a runner of your own in Azure, on a machine, in a container or on an Arc-enabled server that has a \
         managed identity, and say `--source managed-identity`",
    )
    .and("on such a runner in a cluster, the pod's own OIDC token does too: AZURE_FEDERATED_TOKEN_FILE, or `--assertion-file PATH`")
}
