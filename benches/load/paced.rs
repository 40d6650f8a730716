//! Requests that come at a rate of their own, however long their answers take, while something else is
//! measured.

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

use tokio::{
    sync::watch,
    task::JoinSet,
    time::{Instant, interval_at},
};

use crate::{Outcome, connection::Connection, requests::Requests};

/// Of its rate, what must be reached.
const LEAST_SHARE: f64 = 0.9;

/// How often requests come, and from where.
#[derive(Clone, Copy)]
pub struct Pace {
    /// Requests a second, all addresses together.
    pub rate: u32,
    /// The first address; the others come after it.
    pub first: Ipv4Addr,
    pub addresses: u8,
}

/// Requests that are sent in turn, at a pace.
#[derive(Clone)]
pub struct Paced {
    address: SocketAddr,
    pace: Pace,
    sending: Arc<Sending>,
}

struct Sending {
    requests: Requests,
    /// One of these is in every right answer.
    expects: &'static [&'static [u8]],
    next: AtomicUsize,
    statuses: Mutex<BTreeMap<u16, u32>>,
}

impl Paced {
    /// To the server at `address`, which answers each with one of the texts that are expected.
    pub fn new(
        address: SocketAddr,
        pace: Pace,
        requests: Requests,
        expects: &'static [&'static [u8]],
    ) -> Self {
        let sending = Sending {
            requests,
            expects,
            next: AtomicUsize::new(0),
            statuses: Mutex::default(),
        };
        Self {
            address,
            pace,
            sending: Arc::new(sending),
        }
    }

    /// Goes on while `work` is done.
    ///
    /// # Errors
    /// Also when an answer is not the one that is expected, or they come slower than they should.
    pub async fn during<T>(&self, work: impl Future<Output = Outcome<T>>) -> Outcome<T> {
        let Pace {
            rate,
            first,
            addresses,
        } = self.pace;
        let mut senders = JoinSet::new();
        let (working, over) = watch::channel(());
        for number in 0..addresses {
            let source = Ipv4Addr::from_bits(first.to_bits() + u32::from(number));
            let connection = Connection::open_from(source, self.address).await?;
            let sending = Arc::clone(&self.sending);
            senders.spawn(send(sending, connection, self.pace, number, over.clone()));
        }
        let begin = Instant::now();
        let done = work.await?;
        let elapsed = begin.elapsed();
        drop(working);
        let mut sent = 0;
        while let Some(sender) = senders.join_next().await {
            sent += sender??;
        }
        let share = f64::from(sent) / (f64::from(rate) * elapsed.as_secs_f64());
        if share < LEAST_SHARE {
            return Err(format!("only {share:.2} of {rate} requests a second were made").into());
        }
        Ok(done)
    }
}

impl fmt::Display for Paced {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let statuses = self.sending.statuses();
        let sent: u32 = statuses.values().sum();
        write!(formatter, "{sent} paced requests so far, answered")?;
        for (status, count) in statuses.iter() {
            write!(formatter, " {status}: {count}")?;
        }
        Ok(())
    }
}

impl Sending {
    fn next(&self) -> &[u8] {
        let number = self.next.fetch_add(1, Ordering::Relaxed);
        &self.requests[number % self.requests.len()]
    }

    fn statuses(&self) -> MutexGuard<'_, BTreeMap<u16, u32>> {
        self.statuses.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Sends from one address until it is over; how many requests were sent.
async fn send(
    sending: Arc<Sending>,
    mut connection: Connection,
    pace: Pace,
    number: u8,
    mut over: watch::Receiver<()>,
) -> Outcome<u32> {
    let step = Duration::from_secs(1) / pace.rate;
    let begin = Instant::now() + step * u32::from(number);
    let mut ticks = interval_at(begin, step * u32::from(pace.addresses));
    let mut sent = 0;
    loop {
        tokio::select! {
            _ = over.changed() => return Ok(sent),
            _ = ticks.tick() => {}
        }
        let answer = connection.exchange(sending.next()).await?;
        if !sending.expects.iter().any(|text| answer.contains(text)) {
            let body = String::from_utf8_lossy(answer.body);
            let status = answer.status;
            return Err(format!("not the answer that was expected: {status} {body}").into());
        }
        *sending.statuses().entry(answer.status).or_default() += 1;
        sent += 1;
    }
}
