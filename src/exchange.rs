//! The way from a platform to Entra, with everything that is shared between its tries: deadline, retries, the newest
//! assertion.

use std::{
    cell::RefCell,
    future::Future,
    rc::Rc,
    time::{Duration, SystemTime},
};

use futures_util::future::try_join_all;

use crate::{
    assertion::Assertion,
    cli::SourceArgs,
    clock::Moment,
    config::{self, Identity, Target},
    entra::{self, AccessToken},
    env::Env,
    error::{Error, Presented},
    http::{Channel, Http},
    identifiers::{Audience, Endpoint, Scope},
    platform::Platform,
    retry::{self, Verdict},
    ui::Ui,
};

/// The way from a platform to Entra, with everything that is shared between its tries.
#[derive(Debug)]
pub struct Exchange {
    http: Http,
    /// Who supplies the assertion.
    pub platform: Platform,
    target: Target,
    entra: Option<(Channel, Endpoint)>,
    ui: Rc<Ui>,
    last_error: RefCell<Option<Error>>,
    /// How long a credential may be unknown to Entra.
    pub propagation: Duration,
    /// One that was got already, to be used before another is asked for.
    pub first: RefCell<Option<Assertion>>,
}

impl Exchange {
    /// Finds the platform and makes the HTTP client; asks nobody yet.
    pub fn prepare(
        env: &Env,
        source: &SourceArgs,
        target: &Target,
        identity: Option<&Identity>,
        ui: &Rc<Ui>,
    ) -> Result<Self, Error> {
        let platform = Platform::detect(env, source, &target.audience)?;
        let token_endpoint = identity.map(|identity| target.authority.token_endpoint(&identity.tenant));
        let http = Http::new(env, platform.endpoint().into_iter().chain(token_endpoint.as_ref()))?;
        let entra = token_endpoint
            .map(|endpoint| Ok::<_, Error>((http.channel(&endpoint)?, endpoint)))
            .transpose()?;
        ui.debug(&format!("takes the OIDC token of {}, audience {}", platform.describe(), target.audience));
        Ok(Self {
            http,
            platform,
            target: target.clone(),
            entra,
            ui: Rc::clone(ui),
            last_error: RefCell::default(),
            propagation: Duration::ZERO,
            first: RefCell::default(),
        })
    }

    /// The audience of this login's assertions.
    pub fn audience(&self) -> &Audience {
        &self.target.audience
    }

    /// Whether the platform can mint another assertion.
    pub fn is_renewable(&self) -> bool {
        self.platform.is_renewable()
    }

    /// Whether it takes a request to get an assertion.
    pub fn is_minted(&self) -> bool {
        self.platform.endpoint().is_some()
    }

    /// How long an assertion that has just been got is good for. One that the platform minted a moment ago has its
    /// whole life before it, whatever this machine's clock says.
    pub fn good_for(&self, assertion: &Assertion) -> Duration {
        let claims = &assertion.claims;
        if self.is_minted() { claims.life() } else { claims.left(SystemTime::now()) }
    }

    /// One deadline over all tries.
    pub async fn within<T>(
        &self,
        timeout: Duration,
        work: impl Future<Output = Result<T, Error>>,
    ) -> Result<T, Error> {
        match tokio::time::timeout(timeout, work).await {
            Ok(outcome) => outcome,
            Err(_) => Err(Error::Deadline {
                seconds: timeout.as_secs(),
                last: self.last_error.take().map(Box::new),
            }),
        }
    }

    /// The assertion and an access token for each scope. While the platform mints the assertion, the connection to
    /// Entra is being opened: so the login costs the platform's round trips and one more.
    pub async fn acquire(
        &self,
        identity: &Identity,
        scopes: &[Scope],
    ) -> Result<(Assertion, Vec<AccessToken>), Error> {
        let ahead = async {
            if let (Some(_), Some((entra, endpoint))) = (self.platform.endpoint(), &self.entra) {
                entra.open_ahead(endpoint).await;
            }
            Ok(())
        };
        let (assertion, ()) = tokio::try_join!(self.assertion(), ahead)?;
        let granted =
            try_join_all(scopes.iter().map(|scope| self.access_token(identity, &assertion, scope))).await?;
        let mut newest = assertion;
        let mut tokens = Vec::with_capacity(granted.len());
        for (token, fresh) in granted {
            tokens.push(token);
            if let Some(fresh) = fresh.filter(|fresh| fresh.claims.exp >= newest.claims.exp) {
                newest = fresh;
            }
        }
        Ok((newest, tokens))
    }

    /// An assertion, asked for again while the platform has a passing fault.
    pub async fn assertion(&self) -> Result<Assertion, Error> {
        if let Some(first) = self.first.take() {
            return Ok(first);
        }
        let mut next = 2;
        loop {
            let error = match self.platform.fetch_assertion(&self.http, &self.target.audience, &self.ui).await
            {
                Ok(assertion) => return Ok(assertion),
                Err(error) => error,
            };
            let wait = if error.is_transient() {
                retry::wait(next, error.retry_after(), fastrand::f64())
            } else {
                None
            };
            match wait {
                Some(wait) => self.pause(error.into(), wait).await,
                None => return Err(error.into()),
            }
            next += 1;
        }
    }

    /// An access token, and the assertion that it took if that is not the first one.
    pub async fn access_token(
        &self,
        identity: &Identity,
        first: &Assertion,
        scope: &Scope,
    ) -> Result<(AccessToken, Option<Assertion>), Error> {
        let Some((channel, endpoint)) = &self.entra else {
            return Err(config::Error::Usage("no identity to be".to_owned()).into());
        };
        let mut fresh: Option<Assertion> = None;
        let mut freshened = false;
        let mut next = 1;
        let (since, mut unknown) = (Moment::now(), 0);
        loop {
            let presented = fresh.as_ref().unwrap_or(first);
            let error = match entra::exchange(channel, endpoint, identity, presented, scope, &self.ui).await {
                Ok(token) => return Ok((token, fresh)),
                Err(error) => error,
            };
            let wait = match error.verdict() {
                Verdict::Again { retry_after } => {
                    next += 1;
                    retry::wait(next, retry_after, fastrand::f64())
                }
                Verdict::FreshAssertion if !freshened && self.platform.is_renewable() => {
                    freshened = true;
                    Some(Duration::ZERO)
                }
                Verdict::Stop if error.may_be_propagation() && since.elapsed() < self.propagation => {
                    unknown += 1;
                    Some(
                        retry::propagation_wait(unknown)
                            .min(self.propagation.saturating_sub(since.elapsed())),
                    )
                }
                Verdict::FreshAssertion | Verdict::Stop => None,
            };
            let presented = Presented {
                claims: presented.claims.clone(),
                audience: self.target.audience.clone(),
                identity: identity.clone(),
            };
            let error = Error::Entra { source: error, presented: Box::new(presented) };
            match wait {
                Some(wait) => self.pause(error, wait).await,
                None => return Err(error),
            }
            if self.platform.is_renewable() {
                fresh = Some(self.assertion().await?);
            }
        }
    }

    async fn pause(&self, error: Error, wait: Duration) {
        self.ui.info(&format!("{error}; trying again in {:.1} s", wait.as_secs_f64()));
        self.last_error.replace(Some(error));
        tokio::time::sleep(wait).await;
    }
}
