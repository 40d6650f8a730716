//! An attack: wrong secrets and forged tokens from many addresses, at a rate of its own.

use std::{
    collections::BTreeMap,
    fmt,
    net::{Ipv4Addr, SocketAddr},
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use data_encoding::BASE64URL_NOPAD;
use mirrory::{
    keys::Kid,
    types::{clock::Clock, ids::SecretId, randomness::Randomness, secret::ProxySecret},
};
use tokio::{
    sync::watch,
    task::JoinSet,
    time::{Instant, interval_at},
};

use crate::{
    Outcome,
    connection::Connection,
    requests::{self, Requests},
    service::Site,
    tokens::Token,
};

/// Requests a second, all addresses together.
const RATE: u32 = 200;
const ADDRESSES: u8 = 50;

/// Of its rate, what an attack must reach to be one.
const LEAST_SHARE: f64 = 0.9;

/// Enough for most of a run; then they come again.
const REQUESTS: u32 = 10_000;

/// One of these is in the answer to what is wrong.
const REFUSALS: [&[u8]; 3] = [
    b"\"invalid_proxy_secret\"",
    b"\"bad_signature\"",
    b"\"too_many_attempts\"",
];

/// Attackers at 127.0.1.1 and the addresses after it.
#[derive(Clone)]
pub struct Attack {
    address: SocketAddr,
    attempts: Arc<Attempts>,
}

struct Attempts {
    requests: Requests,
    next: AtomicUsize,
    statuses: Mutex<BTreeMap<u16, u32>>,
}

impl Attack {
    /// On the service at `address`, by somebody who has seen a secret and a token of it.
    pub fn new(address: SocketAddr, site: &Site, token: &Token) -> Outcome<Self> {
        let attempts = Attempts {
            requests: attempts(site, token)?,
            next: AtomicUsize::new(0),
            statuses: Mutex::default(),
        };
        Ok(Self {
            address,
            attempts: Arc::new(attempts),
        })
    }

    /// Goes on while `work` is done.
    ///
    /// # Errors
    /// Also when an attempt is not refused, or the attack is slower than it should be.
    pub async fn during<T>(&self, work: impl Future<Output = Outcome<T>>) -> Outcome<T> {
        let mut attackers = JoinSet::new();
        let (working, over) = watch::channel(());
        for number in 0..ADDRESSES {
            let source = Ipv4Addr::new(127, 0, 1, number + 1);
            let connection = Connection::open_from(source, self.address).await?;
            let attempts = Arc::clone(&self.attempts);
            attackers.spawn(attack(attempts, connection, number, over.clone()));
        }
        let begin = Instant::now();
        let done = work.await?;
        let elapsed = begin.elapsed();
        drop(working);
        let mut made = 0;
        while let Some(attacked) = attackers.join_next().await {
            made += attacked??;
        }
        let share = f64::from(made) / (f64::from(RATE) * elapsed.as_secs_f64());
        if share < LEAST_SHARE {
            return Err(format!("only {share:.2} of the attack was made").into());
        }
        Ok(done)
    }
}

impl fmt::Display for Attack {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let statuses = self.attempts.statuses();
        let made: u32 = statuses.values().sum();
        write!(formatter, "{made} attempts so far, answered")?;
        for (status, count) in statuses.iter() {
            write!(formatter, " {status}: {count}")?;
        }
        Ok(())
    }
}

impl Attempts {
    fn next(&self) -> &[u8] {
        let number = self.next.fetch_add(1, Ordering::Relaxed);
        &self.requests[number % self.requests.len()]
    }

    fn statuses(&self) -> MutexGuard<'_, BTreeMap<u16, u32>> {
        self.statuses.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Attacks from one address until it is over; how many attempts were made.
async fn attack(
    attempts: Arc<Attempts>,
    mut connection: Connection,
    number: u8,
    mut over: watch::Receiver<()>,
) -> Outcome<u32> {
    let step = Duration::from_secs(1) / RATE;
    let begin = Instant::now() + step * u32::from(number);
    let mut ticks = interval_at(begin, step * u32::from(ADDRESSES));
    let mut made = 0;
    loop {
        tokio::select! {
            _ = over.changed() => return Ok(made),
            _ = ticks.tick() => {}
        }
        let answer = connection.exchange(attempts.next()).await?;
        if !REFUSALS.iter().any(|refusal| answer.contains(refusal)) {
            let body = String::from_utf8_lossy(answer.body);
            return Err(format!("an attempt was not refused: {} {body}", answer.status).into());
        }
        *attempts.statuses().entry(answer.status).or_default() += 1;
        made += 1;
    }
}

/// Four kinds in turn, no two alike: a secret of nobody, a site's secret but for its random part, a
/// token with another signature, and a token of a key that is not there.
fn attempts(site: &Site, token: &Token) -> Outcome<Requests> {
    let randomness = Randomness::seeded(1);
    let now = Clock::system().now();
    let known = ProxySecret::parse(site.proxy_secret.clone())?.id();
    let known = known.ok_or("a secret without an id")?;
    let (header, rest) = token.text.split_once('.').ok_or("no JWT")?;
    let (claims, _signature) = rest.split_once('.').ok_or("no JWT")?;
    let forged = |header: &str| {
        let signature = BASE64URL_NOPAD.encode(&randomness.bytes::<32>());
        requests::validate_text(&format!("{header}.{claims}.{signature}"), &token.machine_id)
    };
    let guessed = |number, id| {
        let secret = ProxySecret::generate(id, &randomness);
        requests::generate_text(number, secret.reveal())
    };
    let requests = (0..REQUESTS).map(|number| match number % 4 {
        0 => guessed(number, SecretId::new(now, &randomness)),
        1 => forged(header),
        2 => guessed(number, known),
        _ => forged(&header_of(&Kid::generate(&randomness))),
    });
    Ok(requests.collect())
}

fn header_of(kid: &Kid) -> String {
    let header = format!(r#"{{"typ":"JWT","alg":"HS256","kid":"{}"}}"#, kid.as_str());
    BASE64URL_NOPAD.encode(header.as_bytes())
}
