//! The load generator: connections that each send a request, wait for its answer, and send the
//! next. It looks at every status and every body, which `wrk` does only at the price of its speed.

use std::{collections::BTreeMap, net::SocketAddr, time::Duration};

use mirrory::types::clock::{Clock, Monotonic};
use tokio::{task::JoinSet, time::timeout};

use crate::{
    Outcome,
    connection::Connection,
    requests::{Endpoint, Requests},
};

/// Far beyond every time-out of the service.
const PATIENCE: Duration = Duration::from_secs(30);
/// For a hundred thousand requests to a slow service.
const LONG_PATIENCE: Duration = Duration::from_mins(5);

/// Requests that are sent in turn, and what every answer to them must have in it.
#[derive(Clone)]
pub struct Load {
    pub address: SocketAddr,
    pub requests: Requests,
    pub expects: &'static [u8],
    pub connections: u32,
}

/// What came of a load.
#[derive(Default)]
pub struct Tally {
    pub sent: u32,
    pub statuses: BTreeMap<u16, u32>,
    /// Answers 200 that had what was expected in them.
    pub right: u32,
    pub elapsed: Duration,
    /// Of every request, in microseconds.
    pub latencies: Vec<u32>,
}

impl Tally {
    /// Right answers a second.
    pub fn rate(&self) -> f64 {
        f64::from(self.right) / self.elapsed.as_secs_f64()
    }

    /// Together with what came of another load at the same time.
    pub fn with(mut self, other: Self) -> Self {
        self.sent += other.sent;
        self.right += other.right;
        self.elapsed = self.elapsed.max(other.elapsed);
        self.latencies.extend(other.latencies);
        for (status, count) in other.statuses {
            *self.statuses.entry(status).or_default() += count;
        }
        self
    }
}

impl Load {
    pub fn new(
        address: SocketAddr,
        endpoint: Endpoint,
        requests: Requests,
        connections: u32,
    ) -> Self {
        Self {
            address,
            requests,
            expects: endpoint.expects(),
            connections,
        }
    }

    /// The same bytes to another server.
    pub fn to(&self, address: SocketAddr) -> Self {
        Self {
            address,
            ..self.clone()
        }
    }

    /// Sends for this long. Each connection waits for its last answer, so that every request that
    /// was sent is counted.
    pub async fn run_for(&self, duration: Duration) -> Outcome<Tally> {
        timeout(duration + PATIENCE, self.run(Some(duration))).await?
    }

    /// Sends every request once.
    pub async fn run_once(&self) -> Outcome<Tally> {
        timeout(LONG_PATIENCE, self.run(None)).await?
    }

    async fn run(&self, duration: Option<Duration>) -> Outcome<Tally> {
        let clock = Clock::system();
        let connections = self.connect().await?;
        let begin = clock.monotonic();
        let end = duration.map(|duration| begin.after(duration));
        let mut driving = JoinSet::new();
        for (first, connection) in connections.into_iter().enumerate() {
            driving.spawn(drive(self.clone(), connection, first, clock.clone(), end));
        }
        let mut tally = Tally::default();
        while let Some(driven) = driving.join_next().await {
            tally = tally.with(driven??);
        }
        tally.elapsed = clock.monotonic().since(begin);
        Ok(tally)
    }

    /// Sends every request once; the bodies of the answers, in the order of the requests.
    pub async fn fetch_all(&self) -> Outcome<Vec<Vec<u8>>> {
        timeout(LONG_PATIENCE, self.collect_all()).await?
    }

    async fn collect_all(&self) -> Outcome<Vec<Vec<u8>>> {
        let mut collecting = JoinSet::new();
        for (first, connection) in self.connect().await?.into_iter().enumerate() {
            collecting.spawn(collect(self.clone(), connection, first));
        }
        let mut bodies = vec![Vec::new(); self.requests.len()];
        while let Some(collected) = collecting.join_next().await {
            for (number, body) in collected?? {
                bodies[number] = body;
            }
        }
        Ok(bodies)
    }

    async fn connect(&self) -> Outcome<Vec<Connection>> {
        if self.requests.len() < self.connections as usize {
            return Err("fewer requests than connections".into());
        }
        let mut connections = Vec::new();
        for _ in 0..self.connections {
            connections.push(Connection::open(self.address).await?);
        }
        Ok(connections)
    }

    /// Which requests the connection of this number sends.
    fn turns(&self, first: usize) -> impl Iterator<Item = usize> + Clone + use<> {
        (first..self.requests.len()).step_by(self.connections as usize)
    }
}

async fn drive(
    load: Load,
    mut connection: Connection,
    first: usize,
    clock: Clock,
    end: Option<Monotonic>,
) -> Outcome<Tally> {
    let mut tally = Tally::default();
    let turns = load.turns(first);
    let mut turns: Box<dyn Iterator<Item = usize> + Send> = match end {
        Some(_) => Box::new(turns.cycle()),
        None => Box::new(turns),
    };
    let mut now = clock.monotonic();
    while end.is_none_or(|end| now < end) {
        let Some(number) = turns.next() else { break };
        tally.sent += 1;
        let answer = connection.exchange(&load.requests[number]).await?;
        let answered = clock.monotonic();
        *tally.statuses.entry(answer.status).or_default() += 1;
        if answer.status == 200 && answer.contains(load.expects) {
            tally.right += 1;
        }
        let micros = answered.since(now).as_micros();
        tally.latencies.push(micros.try_into().unwrap_or(u32::MAX));
        now = answered;
    }
    Ok(tally)
}

async fn collect(
    load: Load,
    mut connection: Connection,
    first: usize,
) -> Outcome<Vec<(usize, Vec<u8>)>> {
    let mut bodies = Vec::new();
    for number in load.turns(first) {
        let answer = connection.exchange(&load.requests[number]).await?;
        if answer.status != 200 || !answer.contains(load.expects) {
            let body = String::from_utf8_lossy(answer.body);
            return Err(
                format!("not the answer that was expected: {} {body}", answer.status).into(),
            );
        }
        bodies.push((number, answer.body.to_vec()));
    }
    Ok(bodies)
}
