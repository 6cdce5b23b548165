//! Buildkite: the agent's own command asks for a token, and its subject is what a claim says.
//!
//! Sources: buildkite.com/docs `agent/cli/reference/oidc`, `pipelines/security/oidc/azure`, buildkite/agent
//! `clicommand/oidc_request_token.go`.

use super::{Error, masked, program::Program};
use crate::{
    assertion::Assertion,
    env::{Env, names},
    error::Hints,
    identifiers::{Audience, SubjectClaim},
    ui::Ui,
};

/// The platform's name.
pub const NAME: &str = "Buildkite";
/// Every token's issuer.
pub const ISSUER: &str = "https://agent.buildkite.com";
/// The claim that is the subject where nobody chooses another: the agent's own default has the commit in it, which no
/// federated credential could name.
pub const PIPELINE: &str = "pipeline_id";

/// A job that may ask for an OIDC token.
#[derive(Debug)]
pub struct Buildkite {
    pub(super) program: Program,
    subject_claim: SubjectClaim,
}

impl Buildkite {
    /// The claim that is named, else the agent's variable, else the pipeline's id.
    pub(super) fn detect(env: &Env, claim: Option<&SubjectClaim>) -> Result<Self, Error> {
        let variable = names::buildkite::SUBJECT_CLAIM;
        let subject_claim = match claim {
            Some(claim) => claim.clone(),
            None => env
                .get(variable)
                .unwrap_or(PIPELINE)
                .parse()
                .map_err(|invalid| Error::Variable { variable, invalid })?,
        };
        let words = "buildkite-agent oidc request-token";
        Ok(Self { program: Program::new(env, "buildkite-agent", words, "BUILDKITE"), subject_claim })
    }

    /// The claim that is the subject.
    pub fn subject_claim(&self) -> &SubjectClaim {
        &self.subject_claim
    }

    pub(super) async fn fetch_assertion(&self, audience: &Audience, ui: &Ui) -> Result<Assertion, Error> {
        let arguments = [
            "oidc",
            "request-token",
            "--audience",
            audience.as_str(),
            "--subject-claim",
            self.subject_claim.as_str(),
        ];
        let printed = self.program.run(&arguments, missing, refused).await?;
        masked(ui, &printed, &self.program.place())
    }
}

/// The next steps where the agent's program is not there.
fn missing() -> Hints {
    Hints::one(
        "the step must see the agent's program: with the docker and docker-compose plugins set `mount-buildkite-agent: true`; \
         elsewhere put the directory of `buildkite-agent` on PATH",
    )
}

/// The next steps where the agent says no.
fn refused(reason: &str) -> Hints {
    if reason.contains("subject-claim") {
        return Hints::one("update the agent: it knows `--subject-claim` since April 2026");
    }
    Hints::one(
        "the agent asks for a token of the job that it runs: call azfed in a job, and not after its end",
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_flag_goes_before_the_variable() {
        let env = Env::from_pairs([("BUILDKITE_OIDC_TOKEN_SUBJECT_CLAIM", "cluster_id")]);
        let claim = |env: &Env, claim: Option<&str>| {
            let claim = claim.map(|claim| claim.parse().unwrap());
            Buildkite::detect(env, claim.as_ref()).unwrap().subject_claim.to_string()
        };
        assert_eq!(claim(&Env::default(), None), "pipeline_id");
        assert_eq!(claim(&env, None), "cluster_id");
        assert_eq!(claim(&env, Some("queue_id")), "queue_id");
        let wrong = Env::from_pairs([("BUILDKITE_OIDC_TOKEN_SUBJECT_CLAIM", "--debug")]);
        assert!(matches!(Buildkite::detect(&wrong, None), Err(Error::Variable { .. })));
    }
}
