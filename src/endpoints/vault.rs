//! Assertions and access tokens in memory: one request a resource however many ask, renewed ahead of time.

use std::{
    cell::{Cell, RefCell},
    collections::BTreeMap,
    rc::Rc,
    time::Duration,
};

use tokio::sync::Mutex;

use crate::{
    assertion::Assertion,
    clock::Moment,
    cloud::Cloud,
    config::Identity,
    entra::AccessToken,
    error::Error,
    exchange::{Acquired, Exchange},
    identifiers::Scope,
    text,
    ui::Ui,
};

/// A token with less left is not handed out: a client must be able to use what it gets.
const LEAST_LEFT: u64 = 5;
/// A resource that Entra refused is not asked for again at once.
const REFUSED_FOR: Duration = Duration::from_secs(5);
/// What a client is told to wait where nobody could be asked.
const COME_BACK_AFTER: Duration = Duration::from_secs(5);
/// Resources that are kept; a client that invents more is refused.
const MOST_RESOURCES: usize = 200;

/// How an assertion stands among what was asked for.
const AN_ASSERTION: &str = "an OIDC token";

/// What a look-up came to.
#[derive(Debug)]
pub enum Lookup {
    /// A token that is still valid.
    Granted(Rc<AccessToken>),
    /// Not on the list of `--allow-scope`.
    NotAllowed,
    /// Entra, or the platform, said no.
    Refused(String),
    /// Nothing valid at hand, and nobody to ask; later perhaps.
    Unavailable(String, Duration),
}

/// One resource.
#[derive(Default)]
struct Slot {
    token: RefCell<Option<Rc<AccessToken>>>,
    refused: RefCell<Option<(Moment, String)>>,
    /// When nobody could be asked, and why.
    unavailable: RefCell<Option<(Moment, String)>>,
    /// Whoever holds it asks Entra; the others wait and then find the token.
    asking: Mutex<()>,
    renewing: Cell<bool>,
    asked_for: Cell<u64>,
}

/// The assertion at hand.
struct Kept {
    since: Moment,
    /// How long it was good for, at that time.
    good_for: Duration,
    assertion: Rc<Assertion>,
}

/// Everything that the endpoints hand out.
pub struct Vault {
    exchange: Rc<Exchange>,
    identity: Identity,
    allowed: Vec<Scope>,
    /// None where the host gives the tokens.
    assertion: Option<Mutex<Kept>>,
    slots: RefCell<BTreeMap<Scope, Rc<Slot>>>,
    handed_out: Cell<u64>,
    in_vain: RefCell<BTreeMap<String, u64>>,
    deadline: Duration,
    cloud: &'static Cloud,
    resource_manager: Scope,
    ui: Rc<Ui>,
}

impl std::fmt::Debug for Vault {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_struct("Vault").field("identity", &self.identity).finish_non_exhaustive()
    }
}

impl Vault {
    /// A vault with what the login has got already.
    pub fn new(
        exchange: Rc<Exchange>,
        acquired: Acquired,
        allowed: Vec<Scope>,
        deadline: Duration,
        cloud: &'static Cloud,
        ui: &Rc<Ui>,
    ) -> Self {
        let resource_manager = cloud.resource_manager_scope();
        let Acquired { identity, assertion, tokens } = acquired;
        let slots = tokens.into_iter().map(|token| {
            let scope = if cloud.is_resource_manager(&token.scope) {
                resource_manager.clone()
            } else {
                token.scope.clone()
            };
            (scope, Rc::new(Slot { token: RefCell::new(Some(Rc::new(token))), ..Slot::default() }))
        });
        let kept = assertion.map(|assertion| {
            let good_for = exchange.good_for(&assertion);
            Mutex::new(Kept { since: Moment::now(), good_for, assertion: Rc::new(assertion) })
        });
        Self {
            exchange,
            identity,
            allowed,
            assertion: kept,
            slots: RefCell::new(slots.collect()),
            handed_out: Cell::default(),
            in_vain: RefCell::default(),
            deadline,
            cloud,
            resource_manager,
            ui: Rc::clone(ui),
        }
    }

    /// The identity's client id.
    pub fn client(&self) -> &str {
        self.identity.client.as_str()
    }

    /// Who the tokens are for.
    pub fn identity(&self) -> &Identity {
        &self.identity
    }

    /// Whether the platform mints assertions, and does not just have them in a file.
    pub fn is_minted(&self) -> bool {
        self.exchange.is_minted()
    }

    /// How long the assertion at hand was good for when it was got.
    pub async fn assertion_good_for(&self) -> Duration {
        match &self.assertion {
            Some(kept) => kept.lock().await.good_for,
            None => Duration::ZERO,
        }
    }

    /// What was asked for, and how often.
    pub fn asked_for(&self) -> Vec<(String, u64)> {
        let slots = self.slots.borrow();
        let resources = slots.iter().map(|(scope, slot)| (scope.resource().to_owned(), slot.asked_for.get()));
        let assertions = (AN_ASSERTION.to_owned(), self.handed_out.get());
        let in_vain = self.in_vain.borrow();
        let in_vain = in_vain.iter().map(|(what, times)| (format!("{what} (in vain)"), *times));
        resources.chain([assertions]).chain(in_vain).filter(|(_, times)| *times > 0).collect()
    }

    /// Notes what was asked for in vain, and says so the first time: many clients do not show an endpoint's own words.
    fn note(&self, what: &str, reason: &str) {
        let mut in_vain = self.in_vain.borrow_mut();
        if !in_vain.contains_key(what) {
            if in_vain.len() >= MOST_RESOURCES {
                return;
            }
            self.ui.warning(&format!("asked in vain for {what}: {reason}"));
        }
        *in_vain.entry(what.to_owned()).or_default() += 1;
    }

    /// The scope that stands for the same resource.
    fn canonical<'s>(&'s self, scope: &'s Scope) -> &'s Scope {
        if self.cloud.is_resource_manager(scope) { &self.resource_manager } else { scope }
    }

    /// Whether the list of `--allow-scope` has a resource; where there is no list, every one.
    fn allows(&self, scope: &Scope) -> bool {
        let is = |allowed: &Scope| {
            self.canonical(allowed).resource().trim_end_matches('/') == scope.resource().trim_end_matches('/')
        };
        self.allowed.is_empty() || self.allowed.iter().any(is)
    }

    /// An access token for a resource.
    pub async fn access_token(self: &Rc<Self>, scope: &Scope) -> Lookup {
        let scope = self.canonical(scope);
        let lookup = self.look_up(scope).await;
        match &lookup {
            Lookup::Granted(_) => {}
            Lookup::NotAllowed => {
                let hint = format!("it is not on the list: add `--allow-scope {}`", scope.resource());
                self.note(scope.resource(), &hint);
            }
            Lookup::Refused(reason) | Lookup::Unavailable(reason, _) => self.note(scope.resource(), reason),
        }
        lookup
    }

    async fn look_up(self: &Rc<Self>, scope: &Scope) -> Lookup {
        if !self.allows(scope) {
            return Lookup::NotAllowed;
        }
        let Some(slot) = self.slot(scope) else {
            return Lookup::Refused("too many different resources".to_owned());
        };
        slot.asked_for.set(slot.asked_for.get() + 1);
        if let Some(token) = valid(&slot) {
            if is_old(&token) && !slot.renewing.replace(true) {
                let (vault, scope, slot) = (Rc::clone(self), scope.clone(), Rc::clone(&slot));
                tokio::task::spawn_local(async move {
                    // whatever goes wrong, the token at hand goes on being served until it ends
                    let _ = vault.renew(&scope, &slot).await;
                    slot.renewing.set(false);
                });
            }
            return Lookup::Granted(token);
        }
        let came = Moment::now();
        let guard = slot.asking.lock().await;
        if let Some(token) = valid(&slot) {
            return Lookup::Granted(token);
        }
        if let Some((since, reason)) = &*slot.refused.borrow()
            && since.elapsed() < REFUSED_FOR
        {
            return Lookup::Refused(reason.clone());
        }
        // who waited while another one tried in vain does not try once more
        if let Some((since, reason)) = &*slot.unavailable.borrow()
            && since.elapsed() < came.elapsed()
        {
            return Lookup::Unavailable(reason.clone(), COME_BACK_AFTER);
        }
        let renewed = self.renew(scope, &slot).await;
        let lookup = match renewed {
            Ok(token) => Lookup::Granted(token),
            Err(error) if error.exit_code() == 5 => {
                let reason = text::one_line(&error.to_string());
                slot.unavailable.replace(Some((Moment::now(), reason.clone())));
                Lookup::Unavailable(reason, COME_BACK_AFTER)
            }
            Err(error) => {
                let reason = said(&error);
                slot.refused.replace(Some((Moment::now(), reason.clone())));
                Lookup::Refused(reason)
            }
        };
        drop(guard);
        lookup
    }

    fn slot(&self, scope: &Scope) -> Option<Rc<Slot>> {
        let mut slots = self.slots.borrow_mut();
        if !slots.contains_key(scope) && slots.len() >= MOST_RESOURCES {
            return None;
        }
        Some(Rc::clone(slots.entry(scope.clone()).or_default()))
    }

    async fn renew(&self, scope: &Scope, slot: &Slot) -> Result<Rc<AccessToken>, Error> {
        let work = async {
            let assertion = match &self.assertion {
                Some(kept) => Some(self.fresh_assertion(kept).await?),
                None => None,
            };
            let (token, fresh) =
                self.exchange.access_token(&self.identity, assertion.as_deref(), scope).await?;
            if let (Some(fresh), Some(kept)) = (fresh, &self.assertion) {
                self.keep(&mut *kept.lock().await, Rc::new(fresh));
            }
            Ok(Rc::new(token))
        };
        let token = self.exchange.within(self.deadline, work).await?;
        slot.token.replace(Some(Rc::clone(&token)));
        slot.refused.replace(None);
        slot.unavailable.replace(None);
        Ok(token)
    }

    /// Whether assertions are handed out. Whoever has one can get a token for any resource with it: so not where there is
    /// a list of those that may be asked for.
    pub fn hands_out_assertions(exchange: &Exchange, allowed: &[Scope]) -> bool {
        allowed.is_empty() && exchange.has_assertions_for_all()
    }

    /// An assertion of the identity's audience; the OIDC request URL hands it out.
    pub async fn assertion(&self, audience: Option<&str>) -> Result<Rc<Assertion>, String> {
        let handed = self.look_up_assertion(audience).await;
        match &handed {
            Ok(_) => self.handed_out.set(self.handed_out.get() + 1),
            Err(reason) => self.note(AN_ASSERTION, reason),
        }
        handed
    }

    async fn look_up_assertion(&self, audience: Option<&str>) -> Result<Rc<Assertion>, String> {
        if !self.allowed.is_empty() {
            return Err("with `--allow-scope` nobody gets the OIDC token itself, which opens every resource"
                .to_owned());
        }
        let kept = self.assertion.as_ref().filter(|_| self.exchange.has_assertions_for_all());
        let kept =
            kept.ok_or_else(|| "this login has no OIDC token that Microsoft Entra takes".to_owned())?;
        let ours = self.exchange.audience();
        // Terraform asks for the public cloud's audience, whatever the cloud is; the login's own is what Entra takes
        let public = crate::cloud::Cloud::public().audience();
        if let Some(audience) = audience
            && audience != ours.as_str()
            && audience != public.as_str()
        {
            return Err(format!("this login is for the audience {ours}"));
        }
        let assertion = self.exchange.within(self.deadline, self.fresh_assertion(kept)).await;
        assertion.map_err(|error| text::one_line(&error.to_string()))
    }

    /// One that has at least half of its life before it, where the platform mints them.
    async fn fresh_assertion(&self, kept: &Mutex<Kept>) -> Result<Rc<Assertion>, Error> {
        let mut kept = kept.lock().await;
        if !self.exchange.is_renewable() || kept.since.elapsed() < kept.good_for / 2 {
            return Ok(Rc::clone(&kept.assertion));
        }
        let fresh = Rc::new(self.exchange.assertion().await?);
        self.keep(&mut kept, Rc::clone(&fresh));
        Ok(fresh)
    }

    /// A new one, whatever is at hand, and how long it is good for.
    pub async fn renew_assertion(&self) -> Result<(Rc<Assertion>, Duration), Error> {
        let fresh = Rc::new(self.exchange.within(self.deadline, self.exchange.assertion()).await?);
        let good_for = self.exchange.good_for(&fresh);
        if let Some(kept) = &self.assertion {
            self.keep(&mut *kept.lock().await, Rc::clone(&fresh));
        }
        Ok((fresh, good_for))
    }

    fn keep(&self, kept: &mut Kept, fresh: Rc<Assertion>) {
        let good_for = self.exchange.good_for(&fresh);
        *kept = Kept { since: Moment::now(), good_for, assertion: fresh };
    }
}

/// A refusal in its own words, with the cause that its error has beside them.
fn said(error: &Error) -> String {
    let explanation = error.explanation();
    let cause = explanation.lines().next().map(str::trim).filter(|cause| !cause.is_empty());
    let cause = cause.map_or_else(String::new, |cause| format!(" ({cause})"));
    text::one_line(&format!("{error}{cause}"))
}

fn valid(slot: &Slot) -> Option<Rc<AccessToken>> {
    slot.token.borrow().as_ref().filter(|token| token.left() > LEAST_LEFT).cloned()
}

/// Past half of its life, and within an hour of its end: so a day's token is renewed once, an hour's after thirty minutes.
fn is_old(token: &AccessToken) -> bool {
    token.left() < (token.life() / 2).min(3600)
}
