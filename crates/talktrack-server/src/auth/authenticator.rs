//! Authenticates callers: at each request, and again while a connection stays open.

use std::net::IpAddr;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use axum::extract::{FromRef, FromRequestParts};
use axum::http::request::Parts;
use talktrack::Timestamp;
use talktrack::clock::{Clock as _, SystemClock};

use super::Caller;
use super::bearer::{self, client_address};
use super::claims::LEEWAY;
use super::cookie;
use super::csrf::CsrfKey;
use super::jwt::Tokens;
use super::key_file::{self, KeyFile};
use super::key_use::KeyUses;
use super::keys::{self, KeyRing};
use super::logins::Logins;
use super::proof::Proof;
use super::refused::Refused;
use crate::audit::Audit;
use crate::config::{ApiKey, Config};
use crate::error::Problem;
use crate::limits::{Limits, OverTls, Reading};
use crate::origin;

/// How often the last uses of API keys are written to disk.
const TIDY: Duration = Duration::from_secs(60);

/// Authenticates callers. Cheap to clone; all clones refer to the same state.
#[derive(Clone)]
pub(crate) struct Authenticator(Arc<Checks>);

/// Everything that credentials are checked against.
struct Checks {
    /// True if no identity is checked.
    is_open: bool,
    /// The API keys from the settings.
    configured: Vec<ApiKey>,
    /// The file with further API keys, if the settings name one.
    file: Option<KeyFile>,
    keys: KeyRing,
    uses: KeyUses,
    /// `None` if the settings do not allow tokens of users.
    tokens: Option<Tokens>,
    logins: Logins,
    /// Signs the CSRF tokens while no identity is checked. `None` if the system's random generator failed: the server
    /// then refuses every form.
    csrf: Option<CsrfKey>,
    allowed_origins: Vec<String>,
    limits: Limits,
    audit: Audit,
}

/// An authenticated caller, with the proof of their identity. Handlers extract an `Admission` instead of a [`Caller`]
/// if their work outlasts one response.
#[derive(Debug, Clone)]
pub(crate) struct Admission {
    pub(crate) caller: Caller,
    pub(super) proof: Proof,
    pub(super) from: Option<IpAddr>,
}

/// The caller that authentication found. The server puts an empty one into each request before routing and reads it
/// when the response is ready, so that the log of requests does not depend on the endpoint.
#[derive(Debug, Clone, Default)]
pub(crate) struct SeenCaller(Arc<OnceLock<(Caller, bool)>>);

impl SeenCaller {
    /// Returns the caller, and true if a person at the dashboard sent the request.
    pub(crate) fn get(&self) -> Option<&(Caller, bool)> {
        self.0.get()
    }

    fn set(&self, admission: &Admission) {
        let is_person = matches!(admission.proof, Proof::Login(_));
        // A second authentication of the same request finds the same caller, so an error is ignored.
        let _ = self.0.set((admission.caller.clone(), is_person));
    }
}

/// A caller whose proof is still valid, and until when it is.
pub(super) struct Standing {
    pub(super) caller: Caller,
    /// `None` if the proof never expires.
    pub(super) expires: Option<Timestamp>,
    /// How long the proof stays valid after `expires`, because clocks differ.
    pub(super) leeway: Duration,
}

impl<S: Send + Sync> FromRequestParts<S> for Caller
where
    Authenticator: FromRef<S>,
{
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Problem> {
        Admission::from_request_parts(parts, state).await.map(|admission| admission.caller)
    }
}

impl<S: Send + Sync> FromRequestParts<S> for Admission
where
    Authenticator: FromRef<S>,
{
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Problem> {
        let admission = Authenticator::from_ref(state).authenticate(parts).await?;
        if let Some(seen) = parts.extensions.get::<SeenCaller>() {
            seen.set(&admission);
        }
        if let Some(reading) = parts.extensions.get::<Reading>().cloned() {
            let limits = &Authenticator::from_ref(state).0.limits;
            reading.begin(limits, admission.caller.account().as_ref()).await?;
        }
        if let Some(account) = admission.caller.account() {
            // The reader of the body counts its bytes against this account.
            parts.extensions.insert(account);
        }
        Ok(admission)
    }
}

impl Authenticator {
    /// Returns the authenticator of a server with these settings. Reads the file of API keys if the settings name one.
    pub(crate) fn new(config: &Config, limits: Limits, audit: Audit) -> Self {
        let identity = &config.identity;
        let authenticator = Self(Arc::new(Checks {
            is_open: !identity.is_configured(),
            configured: identity.api_keys.clone(),
            file: identity.api_keys_file.clone().map(KeyFile::new),
            keys: KeyRing::new(&identity.api_keys),
            uses: KeyUses::open(&config.data_dir),
            tokens: identity.takes_users().then(|| Tokens::new(identity)),
            logins: Logins::new(config.login_idle_timeout, config.login_max_age),
            csrf: CsrfKey::generate(),
            allowed_origins: config.allowed_origins.clone(),
            limits,
            audit,
        }));
        authenticator.read_key_file();
        authenticator
    }

    /// True if no identity is checked.
    pub(crate) fn is_open(&self) -> bool {
        self.0.is_open
    }

    /// Refreshes the published keys of users' tokens for as long as the server runs. Returns immediately if no keys are
    /// published.
    pub(crate) async fn keep_keys_fresh(self) {
        if let Some(tokens) = &self.0.tokens {
            tokens.keep_keys_fresh().await;
        }
    }

    /// Reloads the file of API keys whenever the file changes, for as long as the server runs.
    pub(crate) async fn watch_key_file(self) {
        let Some(file) = &self.0.file else { return };
        loop {
            file.wait_for_change().await;
            self.read_key_file();
        }
    }

    /// Writes to disk every minute when API keys were last used.
    pub(crate) async fn keep_uses(self) {
        loop {
            tokio::time::sleep(TIDY).await;
            self.save_uses().await;
        }
    }

    /// Writes to disk when API keys were last used.
    pub(crate) async fn save_uses(&self) {
        let authenticator = self.clone();
        // `save` logs a failed write, and a panic in the task is logged too, so the result is ignored.
        let _ = tokio::task::spawn_blocking(move || authenticator.0.uses.save()).await;
    }

    fn read_key_file(&self) {
        let Some(file) = &self.0.file else { return };
        // If the file cannot be read now, the last keys stay valid. The log reports the failure.
        if let Some(keys) = file.read_leniently() {
            self.0.keys.replace(&key_file::merge_keys(&self.0.configured, keys));
        }
    }

    /// Authenticates the sender of a request, and counts one request against the rate limit of its account.
    ///
    /// # Errors
    /// Fails if the credentials are refused, or if a rate limit is exceeded.
    pub(crate) async fn authenticate(&self, parts: &Parts) -> Result<Admission, Problem> {
        let from = client_address(parts);
        if self.0.is_open {
            return Ok(Admission { caller: Caller::Anyone, proof: Proof::Nothing, from });
        }
        let admitted = match bearer::bearer_token(&parts.headers) {
            Ok(Some(token)) => self.0.check_token(token, from).await,
            Ok(None) => self.0.check_login(parts, from),
            Err(refused) => Err(refused),
        };
        let admission = match admitted {
            Ok(admission) => admission,
            Err(refused) => {
                self.0.limits.take_from_stranger(from)?;
                return Err(self.record_refusal(refused, from));
            }
        };
        self.0.limits.take_from(admission.caller.account().as_ref())?;
        Ok(admission)
    }

    /// Begins a login to the dashboard with this key or token. Returns the id that the browser keeps.
    pub(crate) async fn log_in(
        &self,
        token: &str,
        from: Option<IpAddr>,
    ) -> Result<(String, Caller), Problem> {
        self.0.limits.take_from_stranger(from)?;
        let admitted = self.0.check_token(token, from).await;
        let Admission { caller, proof, .. } =
            admitted.map_err(|refused| self.record_refusal(refused, from))?;
        self.0.limits.take_from(caller.account().as_ref())?;
        let id = self.0.logins.start_login(proof, caller.account());
        let id = id.ok_or_else(|| {
            Problem::unavailable(
                "the login failed, because the random generator of the system failed; try again",
                1,
            )
        })?;
        Ok((id, caller))
    }

    /// Ends the login that this request came with.
    pub(crate) fn log_out(&self, admission: &Admission) {
        if let Proof::Login(hash) = &admission.proof {
            self.0.logins.end_login(hash);
        }
    }

    /// Returns a CSRF token for the forms and scripts of one page for this caller.
    pub(crate) fn csrf_token(&self, admission: &Admission) -> String {
        let token = match &admission.proof {
            Proof::Login(hash) => self.0.logins.csrf_token(hash),
            Proof::Nothing => self.0.csrf.as_ref().map(CsrfKey::new_token),
            // A program that sends its credentials with each request is not a browser and needs no token.
            Proof::Key(_) | Proof::Token(_) => None,
        };
        token.unwrap_or_default()
    }

    /// Refuses a form that none of the server's own pages has sent. Checks this only while no identity is checked.
    pub(crate) fn check_open_form(&self, parts: &Parts) -> Result<(), Problem> {
        let token = bearer::csrf_token(&parts.headers).unwrap_or_default();
        let is_ours = self.0.csrf.as_ref().is_some_and(|key| key.accepts(token));
        if self.0.is_open && !is_ours { Err(Refused::NoCsrfToken.into()) } else { Ok(()) }
    }

    /// Refuses a long-running request if the proof of its caller is no longer valid.
    pub(crate) fn check_again(&self, admission: &Admission) -> Result<(), Problem> {
        let Admission { proof, from, .. } = admission;
        self.0.check_proof(proof, *from).map(drop).map_err(|refused| self.record_refusal(refused, *from))
    }

    /// Returns the caller of a proof that is still valid.
    pub(super) fn check_proof(&self, proof: &Proof, from: Option<IpAddr>) -> Result<Standing, Refused> {
        self.0.check_proof(proof, from)
    }

    /// Authenticates another token, for a connection that is already open.
    pub(super) async fn check_token(&self, token: &str, from: Option<IpAddr>) -> Result<Admission, Refused> {
        self.0.check_token(token, from).await
    }

    fn record_refusal(&self, refused: Refused, from: Option<IpAddr>) -> Problem {
        tracing::debug!(%refused, "a request is refused");
        if refused.is_an_attempt() {
            self.0.audit.record_refusal(&refused.to_string(), from);
        }
        refused.into()
    }
}

impl Checks {
    async fn check_token(&self, token: &str, from: Option<IpAddr>) -> Result<Admission, Refused> {
        let (caller, proof) = match &self.tokens {
            _ if keys::is_one(token) => {
                let known = self.keys.find(token, from, SystemClock.now())?;
                self.note_use(known.digest(), &known.holder().name, from);
                (Caller::Key(Arc::clone(known.holder())), Proof::Key(known.digest()))
            }
            Some(tokens) => {
                let checked = tokens.check_token(token).await?;
                (Caller::User(checked.user.clone()), Proof::Token(Arc::new(checked)))
            }
            None => return Err(Refused::NotAKey),
        };
        Ok(Admission { caller, proof, from })
    }

    /// Authenticates the caller by the login cookie. If the request may change something, the cookie alone is not
    /// enough, because a browser also sends it with requests of other pages.
    fn check_login(&self, parts: &Parts, from: Option<IpAddr>) -> Result<Admission, Refused> {
        let is_over_tls = parts.extensions.get().is_some_and(|OverTls(is_over_tls)| *is_over_tls);
        let id = cookie::login_id(&parts.headers, is_over_tls).ok_or(Refused::NoToken)?;
        let (hash, rests_on) = self.logins.use_now(id)?;
        let caller = self.check_proof(&rests_on, from).inspect_err(|_| self.logins.end_login(&hash))?.caller;
        if let (Proof::Key(digest), Caller::Key(holder)) = (&rests_on, &caller) {
            self.note_use(*digest, &holder.name, from);
        }
        if bearer::is_changing(parts) {
            if !origin::is_own_page(&parts.headers, &self.allowed_origins) {
                return Err(Refused::OtherPage);
            }
            let token = bearer::csrf_token(&parts.headers).unwrap_or_default();
            if !self.logins.accepts_csrf(&hash, token) {
                return Err(Refused::NoCsrfToken);
            }
        }
        Ok(Admission { caller, proof: Proof::Login(hash), from })
    }

    fn check_proof(&self, proof: &Proof, from: Option<IpAddr>) -> Result<Standing, Refused> {
        match proof {
            Proof::Nothing => Ok(Standing { caller: Caller::Anyone, expires: None, leeway: Duration::ZERO }),
            Proof::Key(digest) => {
                let known = self.keys.find_digest(digest, from, SystemClock.now())?;
                let caller = Caller::Key(Arc::clone(known.holder()));
                Ok(Standing { caller, expires: known.expires(), leeway: Duration::ZERO })
            }
            Proof::Token(token) => {
                let tokens = self.tokens.as_ref().ok_or(Refused::NotAKey)?;
                tokens.check_again(token)?;
                let caller = Caller::User(token.user.clone());
                let expires = to_timestamp(token.expires);
                let leeway = Duration::from_secs_f64(LEEWAY);
                Ok(Standing { caller, expires, leeway })
            }
            Proof::Login(hash) => match self.logins.find_proof(hash)? {
                // Unreachable: a login rests on a key or a token.
                Proof::Login(_) => Err(Refused::LoginOver),
                rests_on => self.check_proof(&rests_on, from),
            },
        }
    }

    fn note_use(&self, digest: [u8; 32], name: &Arc<str>, from: Option<IpAddr>) {
        self.uses.note_use(digest, name, from);
        self.audit.record_key_use(name, from);
    }
}

/// Converts seconds since the epoch to a timestamp, rounded down to a microsecond.
fn to_timestamp(seconds: f64) -> Option<Timestamp> {
    let micros = Duration::try_from_secs_f64(seconds).ok()?.as_micros();
    Timestamp::from_micros(i64::try_from(micros).ok()?)
}
