//! The queue before argon2, and argon2.

use std::{
    fmt,
    net::IpAddr,
    sync::{
        Arc, OnceLock,
        atomic::{AtomicU64, Ordering},
    },
    thread,
};

use argon2::{
    ARGON2ID_IDENT, Argon2, Params, PasswordHasher, PasswordVerifier, Version,
    password_hash::{self, phc},
};
use prometheus::IntCounter;
use secrecy::{ExposeSecret, SecretString};
use tokio::{
    sync::{AcquireError, OwnedSemaphorePermit, Semaphore},
    task::{self, JoinError},
};

use super::password::{NewPassword, Password};
use crate::{
    attempts::AddressKey,
    telemetry::metrics::Metrics,
    types::{
        ids::AccountId,
        randomness::Randomness,
        turnstile::{Place, Turnstile},
    },
};

/// How many wait for a thread at most: about a second's work of one.
const WAITING: usize = 32;

/// The part of the places that passwords for one account may have at once.
const SHARE: usize = 4;

const SALT_BYTES: usize = 16;

/// A hashed password: a PHC string, which has its salt and parameters in it.
#[derive(Clone, PartialEq, Eq, sqlx::Type)]
#[sqlx(transparent)]
pub struct PasswordHash(String);

impl fmt::Debug for PasswordHash {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("[password hash]")
    }
}

/// Too many passwords wait to be hashed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("too many passwords wait to be hashed")]
pub struct Overloaded;

/// Why a password could not be hashed or compared.
#[derive(Debug, thiserror::Error)]
pub enum HashError {
    /// argon2 failed, or a stored hash is none of its.
    #[error("argon2 failed")]
    Argon2(#[from] password_hash::Error),
    /// A stored hash is no PHC string.
    #[error("a stored password hash is not readable")]
    Unreadable(#[from] phc::Error),
    /// The thread that hashed was cut off.
    #[error("hashing was cut off")]
    Interrupted(#[from] JoinError),
    /// The queue was closed.
    #[error("no more passwords are hashed")]
    Closed(#[from] AcquireError),
}

/// For whom a password is hashed.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Whose {
    /// Who gives this name to sign in from this address, whether there is such an account or not.
    Named(String, IpAddr),
    /// An account that is signed in.
    Account(AccountId),
    /// The operator, at the command line.
    Operator,
}

/// Who has a share of the queue.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
enum Subject {
    Name(String),
    NameFrom(String, AddressKey),
    Account(AccountId),
    Operator,
}

/// Whether a password is the one of a hash.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// It is another.
    Wrong,
    /// It is, and the hash is as one would be made today.
    Right,
    /// It is, but the hash was made with other parameters, or before passwords were normalised: store
    /// a new one.
    RightButOutdated,
}

/// Hashes and compares passwords. Clones share the queue.
#[derive(Clone, Debug)]
pub struct Passwords(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    /// One for each who waits or is served.
    places: Arc<Semaphore>,
    /// Who has how many of them.
    shares: Turnstile<Subject>,
    /// One for each address that finds the share of a name used up: who tries passwords for a name
    /// from elsewhere must not keep its account out.
    last_places: Turnstile<Subject>,
    /// One for each thread that hashes.
    threads: Arc<Semaphore>,
    most_threads: usize,
    most_places: usize,
    randomness: Randomness,
    runs: AtomicU64,
    refusals: OnceLock<IntCounter>,
}

/// How many have a place in the queue, by what they do.
pub(crate) struct Queue {
    /// argon2 runs for them.
    pub(crate) running: usize,
    /// They wait for a thread, or for something else that they need.
    pub(crate) waiting: usize,
}

impl Passwords {
    /// An empty queue, with threads for half of the cores.
    #[must_use]
    pub fn new(randomness: Randomness) -> Self {
        let cores = thread::available_parallelism().map_or(1, usize::from);
        Self::with(randomness, (cores / 2).max(1), WAITING)
    }

    /// An empty queue with this many threads behind it, and places for so many who wait.
    #[must_use]
    pub fn with(randomness: Randomness, threads: usize, waiting: usize) -> Self {
        Self(Arc::new(Shared {
            places: Arc::new(Semaphore::new(threads + waiting)),
            shares: Turnstile::new((threads + waiting).div_ceil(SHARE)),
            last_places: Turnstile::new(1),
            threads: Arc::new(Semaphore::new(threads)),
            most_threads: threads,
            most_places: threads + waiting,
            randomness,
            runs: AtomicU64::new(0),
            refusals: OnceLock::new(),
        }))
    }

    /// Has those counted who find no place; the first call holds.
    pub(crate) fn measured_by(&self, metrics: &Metrics) {
        if let Some(refusals) = metrics.hashing_refusals() {
            let _first = self.0.refusals.set(refusals);
        }
    }

    pub(crate) fn queue(&self) -> Queue {
        let taken = |most: usize, free: &Semaphore| most.saturating_sub(free.available_permits());
        let running = taken(self.0.most_threads, &self.0.threads);
        let places = taken(self.0.most_places, &self.0.places);
        Queue {
            running,
            waiting: places.saturating_sub(running),
        }
    }

    /// Takes a place in the queue, before anything is looked up.
    ///
    /// # Errors
    /// When it is full, or a quarter of it is for the same already: right passwords too are only so
    /// many at once.
    pub fn enter(&self, whose: Whose) -> Result<Turn, Overloaded> {
        let place = self.place(whose).inspect_err(|_| {
            if let Some(refusals) = self.0.refusals.get() {
                refusals.inc();
            }
        })?;
        Ok(Turn {
            passwords: self.clone(),
            place: Arc::new(place),
        })
    }

    fn place(&self, whose: Whose) -> Result<QueuePlace, Overloaded> {
        let share = match whose {
            Whose::Named(name, address) => {
                let share = self.0.shares.enter(Subject::Name(name.clone()));
                let last = Subject::NameFrom(name, address.into());
                share.or_else(|_| self.0.last_places.enter(last))
            }
            Whose::Account(account_id) => self.0.shares.enter(Subject::Account(account_id)),
            Whose::Operator => self.0.shares.enter(Subject::Operator),
        };
        let share = share.map_err(|_| Overloaded)?;
        let permit = Arc::clone(&self.0.places).try_acquire_owned();
        Ok(QueuePlace {
            _share: share,
            _permit: permit.map_err(|_| Overloaded)?,
        })
    }

    /// How often argon2 has run.
    #[must_use]
    pub fn runs(&self) -> u64 {
        self.0.runs.load(Ordering::Relaxed)
    }
}

/// A place in the queue. It is given up when this is dropped and what it began has ended.
#[derive(Debug)]
pub struct Turn {
    passwords: Passwords,
    place: Arc<QueuePlace>,
}

#[derive(Debug)]
struct QueuePlace {
    _share: Place<Subject>,
    _permit: OwnedSemaphorePermit,
}

impl Turn {
    /// Compares a password with a hash; without one, takes as long and finds it wrong.
    ///
    /// What was typed and is not in its normal form is compared twice, whatever the first comparison
    /// finds: how long it takes must tell nothing of the account. Who sends such passwords to keep
    /// argon2 busy gains that factor of two, within the same queue.
    ///
    /// # Errors
    /// When the stored hash is not readable, or the thread was cut off.
    pub async fn verify(
        &self,
        password: &Password,
        hash: Option<&PasswordHash>,
    ) -> Result<Verdict, HashError> {
        let normal = self.compare(password.normal(), hash).await?;
        let Some(typed) = password.typed() else {
            return Ok(normal);
        };
        let typed = self.compare(typed, hash).await?;
        Ok(match (normal, typed) {
            (Verdict::Wrong, Verdict::Right | Verdict::RightButOutdated) => {
                Verdict::RightButOutdated
            }
            (normal, _) => normal,
        })
    }

    async fn compare(
        &self,
        text: &SecretString,
        hash: Option<&PasswordHash>,
    ) -> Result<Verdict, HashError> {
        match hash.cloned() {
            Some(hash) => {
                let text = text.clone();
                self.run(move || verify(&text, &hash)).await
            }
            None => self.make(text).await.map(|_| Verdict::Wrong),
        }
    }

    /// Hashes a password that is to be set.
    ///
    /// # Errors
    /// When argon2 fails, or the thread was cut off.
    pub async fn hash(&self, password: &NewPassword) -> Result<PasswordHash, HashError> {
        self.renew(password.password()).await
    }

    /// Hashes a password that is right already, with the parameters of today.
    ///
    /// # Errors
    /// When argon2 fails, or the thread was cut off.
    pub async fn renew(&self, password: &Password) -> Result<PasswordHash, HashError> {
        self.make(password.normal()).await
    }

    async fn make(&self, text: &SecretString) -> Result<PasswordHash, HashError> {
        let text = text.clone();
        let salt = self.passwords.0.randomness.bytes();
        self.run(move || hash(&text, &salt)).await
    }

    /// Runs argon2 when there is a thread for it. The thread and the place in the queue are held
    /// until it has ended, also when nobody waits for it any more.
    async fn run<T: Send + 'static>(
        &self,
        work: impl FnOnce() -> Result<T, HashError> + Send + 'static,
    ) -> Result<T, HashError> {
        let shared = &self.passwords.0;
        let thread = Arc::clone(&shared.threads).acquire_owned().await?;
        let place = Arc::clone(&self.place);
        shared.runs.fetch_add(1, Ordering::Relaxed);
        let running = task::spawn_blocking(move || {
            let outcome = work();
            drop((thread, place));
            outcome
        });
        running.await?
    }
}

/// argon2id with the parameters that OWASP recommends: 19 MiB, two passes, one lane.
fn argon2() -> Argon2<'static> {
    Argon2::default()
}

fn hash(text: &SecretString, salt: &[u8; SALT_BYTES]) -> Result<PasswordHash, HashError> {
    let bytes = text.expose_secret().as_bytes();
    let hash: phc::PasswordHash = argon2().hash_password_with_salt(bytes, salt)?;
    Ok(PasswordHash(hash.to_string()))
}

fn verify(text: &SecretString, stored: &PasswordHash) -> Result<Verdict, HashError> {
    let stored = phc::PasswordHash::new(&stored.0)?;
    match argon2().verify_password(text.expose_secret().as_bytes(), &stored) {
        Ok(()) if is_of_today(&stored) => Ok(Verdict::Right),
        Ok(()) => Ok(Verdict::RightButOutdated),
        Err(password_hash::Error::PasswordInvalid) => Ok(Verdict::Wrong),
        Err(error) => Err(error.into()),
    }
}

fn is_of_today(stored: &phc::PasswordHash) -> bool {
    let today = phc::ParamsString::try_from(Params::default());
    stored.algorithm == ARGON2ID_IDENT
        && stored.version == Some(Version::default().into())
        && today.is_ok_and(|today| stored.params == today)
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt;

    use super::*;

    fn password(text: &str) -> Password {
        Password::parse(text.to_owned()).unwrap()
    }

    fn new_password(text: &str) -> NewPassword {
        NewPassword::parse(text.to_owned()).unwrap()
    }

    fn named(name: &str) -> Whose {
        Whose::Named(name.to_owned(), IpAddr::from([127, 0, 0, 1]))
    }

    fn passwords(threads: usize, waiting: usize) -> Passwords {
        Passwords::with(Randomness::seeded(1), threads, waiting)
    }

    #[tokio::test]
    async fn a_password_is_right_for_its_own_hash_alone() {
        let turn = passwords(1, 0).enter(named("ada")).unwrap();
        let hash = turn.hash(&new_password("correct horse")).await.unwrap();
        assert!(hash.0.starts_with("$argon2id$v=19$m=19456,t=2,p=1$"));
        assert_eq!(format!("{hash:?}"), "[password hash]");
        let verify = async |text, hash| turn.verify(&password(text), hash).await.unwrap();
        assert_eq!(verify("correct horse", Some(&hash)).await, Verdict::Right);
        assert_eq!(verify("correct horsf", Some(&hash)).await, Verdict::Wrong);
        assert_eq!(verify("correct horse", None).await, Verdict::Wrong);
    }

    #[tokio::test]
    async fn a_password_is_the_same_however_its_accents_are_typed() {
        let turn = passwords(1, 0).enter(named("ada")).unwrap();
        let hash = turn.hash(&new_password("cafe\u{301} au lait")).await;
        let hash = hash.unwrap();
        for typed in [
            "cafe\u{301} au lait",
            "caf\u{e9} au lait",
            "caf\u{e9}\u{a0}au lait",
        ] {
            let verdict = turn.verify(&password(typed), Some(&hash)).await.unwrap();
            assert_eq!(verdict, Verdict::Right, "{typed}");
        }
        let other = turn.verify(&password("cafe au lait"), Some(&hash)).await;
        assert_eq!(other.unwrap(), Verdict::Wrong);
    }

    #[tokio::test]
    async fn a_hash_of_what_was_typed_is_taken_and_renewed() {
        let turn = passwords(1, 0).enter(named("ada")).unwrap();
        let decomposed = password("cafe\u{301} au lait");
        let old = turn.make(decomposed.typed().unwrap()).await.unwrap();
        let verdict = turn.verify(&decomposed, Some(&old)).await.unwrap();
        assert_eq!(verdict, Verdict::RightButOutdated);
        let renewed = turn.renew(&decomposed).await.unwrap();
        for typed in ["cafe\u{301} au lait", "caf\u{e9} au lait"] {
            let verdict = turn.verify(&password(typed), Some(&renewed)).await.unwrap();
            assert_eq!(verdict, Verdict::Right, "{typed}");
        }
    }

    #[tokio::test]
    async fn the_work_tells_nothing_of_the_account() {
        let passwords = passwords(1, 0);
        let turn = passwords.enter(named("ada")).unwrap();
        let hash = turn.hash(&new_password("caf\u{e9} au lait")).await.unwrap();
        let runs = async |typed: &str, hash: Option<&PasswordHash>| {
            let before = passwords.runs();
            turn.verify(&password(typed), hash).await.unwrap();
            passwords.runs() - before
        };
        for (typed, expected) in [
            ("caf\u{e9} au lait", 1),
            ("another word", 1),
            ("cafe\u{301} au lait", 2),
            ("cafe\u{301} ole\u{301}", 2),
        ] {
            assert_eq!(runs(typed, Some(&hash)).await, expected, "{typed}");
            assert_eq!(runs(typed, None).await, expected, "{typed}");
        }
    }

    #[tokio::test]
    async fn two_hashes_of_one_password_differ() {
        let turn = passwords(1, 0).enter(named("ada")).unwrap();
        let new = new_password("correct horse");
        assert!(turn.hash(&new).await.unwrap() != turn.hash(&new).await.unwrap());
    }

    #[tokio::test]
    async fn who_finds_the_queue_full_is_told_at_once() {
        let passwords = passwords(1, 2);
        let enter = |name: &str| passwords.enter(named(name));
        let turns = ["ada", "bob", "eve"].map(|name| enter(name).unwrap());
        assert_eq!(enter("mallory").unwrap_err(), Overloaded);
        drop(turns);
        assert!(enter("mallory").is_ok());
    }

    #[tokio::test]
    async fn one_account_has_a_quarter_of_the_queue_and_others_find_places() {
        let passwords = passwords(1, 31);
        let own = Whose::Account(AccountId::from_uuid(uuid::Uuid::nil()));
        for whose in [named("mallory"), own] {
            let turns: Vec<_> = (0..8)
                .map(|_| passwords.enter(whose.clone()).unwrap())
                .collect();
            let last =
                matches!(whose, Whose::Named(..)).then(|| passwords.enter(whose.clone()).unwrap());
            assert_eq!(passwords.enter(whose.clone()).unwrap_err(), Overloaded);
            let taken = turns.len() + usize::from(last.is_some());
            assert_eq!(passwords.queue().waiting, taken, "it took no place");
            assert!(passwords.enter(named("admin")).is_ok());
            drop(turns);
            assert!(passwords.enter(whose).is_ok());
        }
    }

    #[tokio::test]
    async fn who_tries_a_name_from_elsewhere_does_not_keep_its_account_out() {
        let passwords = passwords(1, 31);
        let from = |address: [u8; 4]| Whose::Named("ada".to_owned(), IpAddr::from(address));
        let _tried: Vec<_> = (0..9)
            .map(|_| passwords.enter(from([192, 0, 2, 1])).unwrap())
            .collect();
        assert_eq!(
            passwords.enter(from([192, 0, 2, 1])).unwrap_err(),
            Overloaded
        );
        let hers = passwords.enter(from([192, 0, 2, 2])).unwrap();
        assert_eq!(
            passwords.enter(from([192, 0, 2, 2])).unwrap_err(),
            Overloaded
        );
        drop(hers);
        assert!(passwords.enter(from([192, 0, 2, 2])).is_ok());
    }

    #[tokio::test]
    async fn who_hangs_up_keeps_the_place_until_argon2_has_ended() {
        let passwords = passwords(1, 0);
        let turn = passwords.enter(named("ada")).unwrap();
        let mut hashing = Box::pin(async move { turn.renew(&password("x")).await });
        assert!(hashing.as_mut().now_or_never().is_none());
        drop(hashing);
        assert_eq!(passwords.runs(), 1);
        let thread = Arc::clone(&passwords.0.threads).acquire_owned().await;
        drop(thread.unwrap());
        let place = Arc::clone(&passwords.0.places).acquire_owned().await;
        assert!(place.is_ok());
    }
}
