//! The way from a platform to Entra, with everything that is shared between its tries: deadline, retries, the newest
//! assertion. With an identity in between it is two such ways, one after the other; with an identity of the host it
//! is none: the host itself gives the access tokens.

use std::{
    cell::RefCell,
    future::Future,
    pin::Pin,
    rc::Rc,
    time::{Duration, SystemTime},
};

use futures_util::future::try_join_all;

use crate::{
    assertion::Assertion,
    cli::SourceArgs,
    clock::Moment,
    config::{self, Identity, OfHost, Target, Via, Wanted},
    entra::{self, AccessToken},
    env::Env,
    error::{Error, Presented},
    http::{Channel, Http},
    identifiers::{Audience, Endpoint, Scope},
    managed_identity::{Host, ManagedIdentity},
    platform::{self, Platform},
    retry::{self, Verdict},
    ui::Ui,
};

/// What a login gets.
#[derive(Debug)]
pub struct Acquired {
    /// Who it is.
    pub identity: Identity,
    /// The newest assertion, where it took one.
    pub assertion: Option<Assertion>,
    /// An access token for each scope.
    pub tokens: Vec<AccessToken>,
}

/// One exchange at Entra.
#[derive(Debug)]
struct Hop {
    channel: Channel,
    endpoint: Endpoint,
    /// Who is asked for, where it is the identity in between.
    between: Option<Identity>,
}

/// The way from a platform to Entra, with everything that is shared between its tries.
#[derive(Debug)]
pub struct Exchange {
    http: Http,
    platform: Platform,
    target: Target,
    via: Option<Hop>,
    entra: Option<Hop>,
    ui: Rc<Ui>,
    last_error: RefCell<Option<Error>>,
    /// How long a credential may be unknown to Entra.
    pub propagation: Duration,
    /// The platform's assertion that was got already, to be used before another is asked for.
    pub first: RefCell<Option<Assertion>>,
    arguments: Vec<String>,
    is_direct: bool,
}

impl Exchange {
    /// Finds the platform and makes the HTTP client; asks nobody yet. Without `wanted` it is about the assertion alone.
    pub fn prepare(
        env: &Env,
        source: &SourceArgs,
        target: &Target,
        wanted: Option<&Wanted>,
        ui: &Rc<Ui>,
    ) -> Result<Self, Error> {
        let identity = wanted.and_then(Wanted::federated);
        let via = Via::resolve(source, identity.map(|identity| &identity.tenant), env)?;
        let of_host = match (&via, wanted) {
            (Some(via), _) => via.of_host(),
            (None, Some(Wanted::OfHost(of_host))) => of_host.clone(),
            (None, _) => OfHost::default(),
        };
        let platform = Platform::detect(env, source, &target.audience, &of_host)?;
        if via.is_some() && platform.managed_identity().is_some_and(|identity| identity.host.is_users()) {
            return Err(config::Error::ViaUser.into());
        }
        let target = target.on(&platform, ui);
        let mut arguments = platform.arguments();
        arguments.extend(source.via.iter().flat_map(|_| via_arguments(source)));
        // the host's own identity is the one in between: its token is the assertion already
        let between = match via {
            Some(via) if platform.managed_identity().is_none() => Some(via.identity()?),
            _ => None,
        };
        let at = |identity: &Identity| target.authority.token_endpoint(&identity.tenant);
        let entra = [between.as_ref(), identity].into_iter().flatten().map(at).next();
        let http = Http::new(env, platform.endpoint().into_iter().chain(entra.as_ref()))?;
        // only the first hop presents what the platform gave
        let hop = |to: &Identity, is_first: bool, between: Option<Identity>| {
            let (channel, endpoint) = match &platform {
                Platform::IdentityBinding(binding) if is_first => binding.token_endpoint(env, &to.tenant)?,
                _ => (http.channel(&at(to))?, at(to)),
            };
            Ok::<_, Error>(Hop { channel, endpoint, between })
        };
        let via = between.map(|between| hop(&between, true, Some(between.clone()))).transpose()?;
        let entra = identity.map(|identity| hop(identity, via.is_none(), None)).transpose()?;
        ui.debug(&match wanted {
            Some(Wanted::OfHost(_)) => format!("asks {}", platform.describe()),
            _ => format!("takes the OIDC token of {}, audience {}", platform.describe(), target.audience),
        });
        Ok(Self {
            http,
            platform,
            target,
            via,
            entra,
            ui: Rc::clone(ui),
            last_error: RefCell::default(),
            propagation: Duration::ZERO,
            first: RefCell::default(),
            arguments,
            is_direct: matches!(wanted, Some(Wanted::OfHost(_))),
        })
    }

    /// Who supplies the assertion.
    pub fn platform(&self) -> &Platform {
        &self.platform
    }

    /// The platform whose own assertion it is that Entra is shown at last.
    pub fn issuer(&self) -> Option<&Platform> {
        self.via.is_none().then_some(&self.platform)
    }

    /// The host that gives access tokens, where there is no assertion.
    pub fn host(&self) -> Option<&Host> {
        self.of_host().map(|identity| &identity.host)
    }

    /// The same, with which of its identities.
    pub fn of_host(&self) -> Option<&ManagedIdentity> {
        self.platform.managed_identity().filter(|_| self.is_direct)
    }

    /// Whether other programs may show Entra the assertion themselves: there is one, and it is Entra that takes it.
    pub fn has_assertions_for_all(&self) -> bool {
        !self.is_direct && !matches!(self.issuer(), Some(Platform::IdentityBinding(_)))
    }

    /// The flags that choose the same way again.
    pub fn arguments(&self) -> &[String] {
        &self.arguments
    }

    /// The audience of this login's assertions.
    pub fn audience(&self) -> &Audience {
        &self.target.audience
    }

    /// Whether another assertion can be had.
    pub fn is_renewable(&self) -> bool {
        !self.is_direct && self.platform.is_renewable()
    }

    /// Whether it takes a request to get an assertion.
    pub fn is_minted(&self) -> bool {
        self.via.is_some() || self.platform.is_minted()
    }

    /// How long an assertion that has just been got is good for. One that was minted a moment ago has its whole life
    /// before it, whatever this machine's clock says.
    pub fn good_for(&self, assertion: &Assertion) -> Duration {
        let claims = &assertion.claims;
        let is_fresh = self.via.is_some() || self.platform.is_fresh();
        if is_fresh { claims.life() } else { claims.left(SystemTime::now()) }
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

    /// The assertion, where it takes one, and an access token for each scope. While the platform mints the assertion,
    /// the connection to Entra is being opened: so the login costs the platform's round trips and one more.
    pub async fn acquire(&self, wanted: &Wanted, scopes: &[Scope]) -> Result<Acquired, Error> {
        let identity = match (wanted, self.of_host()) {
            (Wanted::Federated(identity), _) => identity,
            (Wanted::OfHost(_), Some(of_host)) => {
                // the instance metadata service takes few requests at a time
                let mut tokens = Vec::with_capacity(scopes.len());
                for scope in scopes {
                    tokens.push(self.host_token(of_host, scope).await?);
                }
                let identity =
                    wanted.complete(of_host.host.name(), &tokens).map_err(platform::Error::from)?;
                return Ok(Acquired { identity, assertion: None, tokens });
            }
            (Wanted::OfHost(_), None) => return Err(nobody()),
        };
        let ahead = async {
            let first = self.via.as_ref().or(self.entra.as_ref());
            let takes_time = self.platform.is_minted() && self.platform.managed_identity().is_none();
            if let (true, Some(hop)) = (takes_time, first) {
                hop.channel.open_ahead(&hop.endpoint).await;
            }
            Ok(())
        };
        let (own, ()) = tokio::try_join!(self.platform_assertion(), ahead)?;
        let assertion = self.through(own).await?;
        let granted =
            try_join_all(scopes.iter().map(|scope| self.access_token(identity, Some(&assertion), scope)))
                .await?;
        let mut newest = assertion;
        let mut tokens = Vec::with_capacity(granted.len());
        for (token, fresh) in granted {
            tokens.push(token);
            if let Some(fresh) = fresh.filter(|fresh| fresh.claims.exp >= newest.claims.exp) {
                newest = fresh;
            }
        }
        Ok(Acquired { identity: identity.clone(), assertion: Some(newest), tokens })
    }

    /// What Entra is shown at last: the platform's assertion, or the token of the identity in between.
    pub async fn assertion(&self) -> Result<Assertion, Error> {
        self.through(self.platform_assertion().await?).await
    }

    /// The platform's assertion, asked for again while it has a passing fault.
    pub async fn platform_assertion(&self) -> Result<Assertion, Error> {
        if let Some(first) = self.first.take() {
            return Ok(first);
        }
        self.patiently(async || {
            self.platform.fetch_assertion(&self.http, &self.target.audience, &self.ui).await
        })
        .await
    }

    async fn host_token(&self, identity: &ManagedIdentity, scope: &Scope) -> Result<AccessToken, Error> {
        self.patiently(async || Ok(identity.access_token(scope, &self.ui).await?)).await
    }

    async fn patiently<T>(&self, attempt: impl AsyncFn() -> Result<T, platform::Error>) -> Result<T, Error> {
        let mut next = 2;
        loop {
            let error = match attempt().await {
                Ok(got) => return Ok(got),
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

    /// Through the identity in between, where there is one.
    async fn through(&self, own: Assertion) -> Result<Assertion, Error> {
        let Some((hop, between)) = self.via.as_ref().and_then(|hop| Some((hop, hop.between.as_ref()?)))
        else {
            return Ok(own);
        };
        let exchanged = self.exchanged(hop, between, &own, &self.target.audience.scope()).await;
        let (token, _) = exchanged.map_err(|error| Error::Between(Box::new(error)))?;
        Assertion::parse(&token.secret).map_err(|malformed| {
            let place = "what Microsoft Entra gave the identity in between".to_owned();
            platform::Error::Malformed { place, malformed }.into()
        })
    }

    /// An access token, and the assertion that it took if that is not the first one.
    pub async fn access_token(
        &self,
        identity: &Identity,
        first: Option<&Assertion>,
        scope: &Scope,
    ) -> Result<(AccessToken, Option<Assertion>), Error> {
        match (self.of_host(), &self.entra, first) {
            (Some(of_host), _, _) => {
                let token = self.host_token(of_host, scope).await?;
                // a long command sees the host's identities change
                identity.shows(of_host.host.name(), &token).map_err(platform::Error::from)?;
                Ok((token, None))
            }
            (None, Some(hop), Some(first)) => self.exchanged(hop, identity, first, scope).await,
            _ => Err(nobody()),
        }
    }

    async fn exchanged(
        &self,
        hop: &Hop,
        identity: &Identity,
        first: &Assertion,
        scope: &Scope,
    ) -> Result<(AccessToken, Option<Assertion>), Error> {
        let mut fresh: Option<Assertion> = None;
        let mut freshened = false;
        let mut next = 1;
        let (since, mut unknown) = (Moment::now(), 0);
        loop {
            let presented = fresh.as_ref().unwrap_or(first);
            let error = match entra::exchange(
                &hop.channel,
                &hop.endpoint,
                identity,
                presented,
                scope,
                &self.ui,
            )
            .await
            {
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
            let is_first = hop.between.is_some() || self.via.is_none();
            let error = match &self.platform {
                Platform::IdentityBinding(_) if is_first => Error::TokenProxy(Box::new(error)),
                _ => error,
            };
            match wait {
                Some(wait) => self.pause(error, wait).await,
                None => return Err(error),
            }
            if self.platform.is_renewable() {
                let again: Pin<Box<dyn Future<Output = Result<Assertion, Error>> + '_>> = match &hop.between {
                    Some(_) => Box::pin(self.platform_assertion()),
                    None => Box::pin(self.assertion()),
                };
                fresh = Some(again.await?);
            }
        }
    }

    async fn pause(&self, error: Error, wait: Duration) {
        self.ui.info(&format!("{error}; trying again in {:.1} s", wait.as_secs_f64()));
        self.last_error.replace(Some(error));
        tokio::time::sleep(wait).await;
    }
}

/// What cannot be: neither an assertion nor a host.
pub fn nobody() -> Error {
    config::Error::Usage("no identity to be".to_owned()).into()
}

/// The flags of the identity in between, as they were given.
fn via_arguments(source: &SourceArgs) -> Vec<String> {
    let mut arguments = vec!["--via=managed-identity".to_owned()];
    arguments.extend(source.via_client_id.iter().map(|id| format!("--via-client-id={id}")));
    arguments.extend(source.via_object_id.iter().map(|id| format!("--via-object-id={id}")));
    arguments.extend(source.via_resource_id.iter().map(|id| format!("--via-resource-id={id}")));
    arguments.extend(source.via_tenant_id.iter().map(|id| format!("--via-tenant-id={id}")));
    arguments
}
