//! Logins of people at the dashboard. The browser holds a random id; the server holds the id's hash and what the key or
//! token proved at the login. Every request checks that proof again, so a login ends when its key does. Logins are kept
//! only in memory: a restart ends all of them, and no file contains one.

use std::collections::HashMap;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use parking_lot::Mutex;
use ring::rand::{SecureRandom as _, SystemRandom};
use tokio::time::Instant;

use super::csrf::CsrfKey;
use super::keys::sha256;
use super::proof::{LoginHash, Proof};
use super::refused::Refused;
use crate::limits::Account;

/// The maximum number of logins of one key or user. A further login ends the least recently used one.
const PER_ACCOUNT: usize = 32;

/// The maximum number of logins in total. A further login ends the least recently used one.
const IN_ALL: usize = 10_000;

/// Random bytes in an id: 256 bits cannot be guessed.
const ID_BYTES: usize = 32;

/// All current logins.
pub(super) struct Logins {
    /// A login ends if it was not used for this long.
    idle: Duration,
    /// A login ends this long after it began.
    max_age: Duration,
    logins: Mutex<HashMap<LoginHash, Login>>,
}

struct Login {
    proof: Proof,
    account: Option<Account>,
    csrf: CsrfKey,
    began: Instant,
    used: Instant,
}

impl Logins {
    pub(super) fn new(idle: Duration, max_age: Duration) -> Self {
        Self { idle, max_age, logins: Mutex::default() }
    }

    /// Begins a login and returns the id for the browser; `None` if the system's random generator fails.
    pub(super) fn start_login(&self, proof: Proof, account: Option<Account>) -> Option<String> {
        let mut id = [0; ID_BYTES];
        SystemRandom::new().fill(&mut id).ok()?;
        let id = URL_SAFE_NO_PAD.encode(id);
        let now = Instant::now();
        let mut logins = self.logins.lock();
        logins.retain(|_, login| self.is_alive(login, now));
        let own = |login: &Login| login.account == account;
        if logins.values().filter(|login| own(login)).count() >= PER_ACCOUNT {
            end_oldest(&mut logins, own);
        }
        if logins.len() >= IN_ALL {
            end_oldest(&mut logins, |_| true);
        }
        let login = Login { proof, account, csrf: CsrfKey::generate()?, began: now, used: now };
        logins.insert(sha256(&id), login);
        Some(id)
    }

    /// Returns the proof of the login with this id, and records that the login is used now.
    pub(super) fn use_now(&self, id: &str) -> Result<(LoginHash, Proof), Refused> {
        let hash = sha256(id);
        let now = Instant::now();
        let mut logins = self.logins.lock();
        let login = logins.get_mut(&hash).filter(|login| self.is_alive(login, now));
        let login = login.ok_or(Refused::LoginOver)?;
        login.used = now;
        Ok((hash, login.proof.clone()))
    }

    /// Returns the proof of a login for an open connection. This does not count as a use of the login.
    pub(super) fn find_proof(&self, hash: &LoginHash) -> Result<Proof, Refused> {
        let logins = self.logins.lock();
        let now = Instant::now();
        let login = logins.get(hash).filter(|login| self.is_alive(login, now));
        login.map(|login| login.proof.clone()).ok_or(Refused::LoginOver)
    }

    pub(super) fn end_login(&self, hash: &LoginHash) {
        self.logins.lock().remove(hash);
    }

    /// Returns a CSRF token for one page.
    pub(super) fn csrf_token(&self, hash: &LoginHash) -> Option<String> {
        self.logins.lock().get(hash).map(|login| login.csrf.new_token())
    }

    /// True if the token was made for this login.
    pub(super) fn accepts_csrf(&self, hash: &LoginHash, token: &str) -> bool {
        self.logins.lock().get(hash).is_some_and(|login| login.csrf.accepts(token))
    }

    fn is_alive(&self, login: &Login, now: Instant) -> bool {
        now.duration_since(login.used) < self.idle && now.duration_since(login.began) < self.max_age
    }
}

fn end_oldest(logins: &mut HashMap<LoginHash, Login>, which: impl Fn(&Login) -> bool) {
    let candidates = logins.iter().filter(|(_, login)| which(login));
    let oldest = candidates.min_by_key(|(_, login)| login.used).map(|(hash, _)| *hash);
    if let Some(oldest) = oldest {
        logins.remove(&oldest);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MINUTE: Duration = Duration::from_secs(60);

    fn logins() -> Logins {
        Logins::new(10 * MINUTE, 60 * MINUTE)
    }

    fn start_login(logins: &Logins, key: &str) -> String {
        logins.start_login(Proof::Nothing, Some(Account::Key(key.into()))).unwrap()
    }

    #[tokio::test(start_paused = true)]
    async fn a_login_ends_when_it_is_not_used_and_at_its_greatest_age_though_it_is() {
        let logins = logins();
        let unused = start_login(&logins, "a");
        let used = start_login(&logins, "a");
        for _ in 0..11 {
            tokio::time::advance(5 * MINUTE).await;
            assert!(logins.use_now(&used).is_ok());
        }
        assert_eq!(logins.use_now(&unused).err(), Some(Refused::LoginOver));
        tokio::time::advance(5 * MINUTE).await;
        assert_eq!(logins.use_now(&used).err(), Some(Refused::LoginOver));
    }

    #[tokio::test(start_paused = true)]
    async fn a_connection_that_stays_does_not_keep_a_login_alive() {
        let logins = logins();
        let id = start_login(&logins, "a");
        let (hash, _) = logins.use_now(&id).unwrap();
        for _ in 0..2 {
            assert!(logins.find_proof(&hash).is_ok());
            tokio::time::advance(5 * MINUTE).await;
        }
        assert_eq!(logins.find_proof(&hash).err(), Some(Refused::LoginOver));
    }

    #[tokio::test(start_paused = true)]
    async fn one_login_too_many_ends_the_one_of_the_same_key_that_was_used_least_recently() {
        let logins = logins();
        let other = start_login(&logins, "other");
        let mut own = Vec::new();
        for _ in 0..PER_ACCOUNT {
            tokio::time::advance(Duration::from_secs(1)).await;
            own.push(start_login(&logins, "own"));
        }
        assert!(logins.use_now(&own[0]).is_ok());
        own.push(start_login(&logins, "own"));
        let over: Vec<_> = own.iter().map(|id| logins.use_now(id).is_err()).collect();
        assert_eq!(over.iter().filter(|over| **over).count(), 1);
        assert!(over[1] && logins.use_now(&other).is_ok());
    }
}
