//! The load generator: connections that each send a request, wait for its answer, and send the
//! next. It looks at every status and every body, which `wrk` does only at the price of its speed.

use std::{collections::BTreeMap, net::SocketAddr, sync::Arc, time::Duration};

use mirrory::types::clock::{Clock, Monotonic};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    task::JoinSet,
    time::timeout,
};

use crate::Outcome;

/// Far beyond every time-out of the service.
const PATIENCE: Duration = Duration::from_secs(30);

/// Requests that are sent in turn, and what every answer to them must have in it.
#[derive(Clone)]
pub struct Load {
    pub address: SocketAddr,
    pub requests: Arc<[Vec<u8>]>,
    pub expects: &'static [u8],
    pub connections: u32,
}

/// What came of a load.
#[derive(Default)]
pub struct Tally {
    pub sent: u32,
    pub statuses: BTreeMap<u16, u32>,
    /// Answers that had what was expected in them.
    pub expected: u32,
    pub elapsed: Duration,
    /// Of every request, in microseconds.
    pub latencies: Vec<u32>,
}

impl Tally {
    pub fn answers(&self) -> f64 {
        f64::from(self.statuses.values().sum::<u32>())
    }

    /// Answers a second.
    pub fn rate(&self) -> f64 {
        self.answers() / self.elapsed.as_secs_f64()
    }

    fn add(&mut self, other: Self) {
        self.sent += other.sent;
        self.expected += other.expected;
        self.latencies.extend(other.latencies);
        for (status, count) in other.statuses {
            *self.statuses.entry(status).or_default() += count;
        }
    }
}

impl Load {
    /// Sends for this long. Each connection waits for its last answer, so that every request that
    /// was sent is counted.
    pub async fn run_for(&self, duration: Duration) -> Outcome<Tally> {
        let clock = Clock::system();
        let connections = self.connect().await?;
        let begin = clock.monotonic();
        let mut driving = JoinSet::new();
        for (first, connection) in connections.into_iter().enumerate() {
            let end = begin.after(duration);
            driving.spawn(drive(self.clone(), connection, first, clock.clone(), end));
        }
        let mut tally = Tally::default();
        while let Some(driven) = timeout(duration + PATIENCE, driving.join_next()).await? {
            tally.add(driven??);
        }
        tally.elapsed = clock.monotonic().since(begin);
        Ok(tally)
    }

    /// Sends every request once; the bodies of the answers, in the order of the requests.
    pub async fn run_once(&self) -> Outcome<Vec<Vec<u8>>> {
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
        let mut connections = Vec::new();
        for _ in 0..self.connections {
            connections.push(Connection::open(self.address).await?);
        }
        Ok(connections)
    }
}

async fn drive(
    load: Load,
    mut connection: Connection,
    first: usize,
    clock: Clock,
    end: Monotonic,
) -> Outcome<Tally> {
    let mut tally = Tally::default();
    let mut turn = (first..load.requests.len())
        .step_by(load.connections as usize)
        .cycle();
    let mut now = clock.monotonic();
    while now < end {
        let number = turn.next().unwrap_or(first % load.requests.len());
        tally.sent += 1;
        let answer = connection.exchange(&load.requests[number]).await?;
        let answered = clock.monotonic();
        *tally.statuses.entry(answer.status).or_default() += 1;
        if contains(answer.body, load.expects) {
            tally.expected += 1;
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
    for number in (first..load.requests.len()).step_by(load.connections as usize) {
        let answer = connection.exchange(&load.requests[number]).await?;
        if answer.status != 200 || !contains(answer.body, load.expects) {
            let body = String::from_utf8_lossy(answer.body);
            return Err(
                format!("not the answer that was expected: {} {body}", answer.status).into(),
            );
        }
        bodies.push((number, answer.body.to_vec()));
    }
    Ok(bodies)
}

fn contains(body: &[u8], text: &[u8]) -> bool {
    body.windows(text.len()).any(|window| window == text)
}

struct Answer<'a> {
    status: u16,
    body: &'a [u8],
}

/// A connection that is kept alive.
struct Connection {
    stream: TcpStream,
    received: Vec<u8>,
}

impl Connection {
    async fn open(address: SocketAddr) -> Outcome<Self> {
        let stream = TcpStream::connect(address).await?;
        stream.set_nodelay(true)?;
        Ok(Self {
            stream,
            received: Vec::with_capacity(4096),
        })
    }

    async fn exchange(&mut self, request: &[u8]) -> Outcome<Answer<'_>> {
        self.stream.write_all(request).await?;
        self.received.clear();
        loop {
            if self.stream.read_buf(&mut self.received).await? == 0 {
                return Err("the server closed a connection".into());
            }
            if let Some(head) = Head::parse(&self.received)? {
                let end = head.length + head.content_length;
                if self.received.len() >= end {
                    let body = &self.received[head.length..end];
                    let status = head.status;
                    return Ok(Answer { status, body });
                }
            }
        }
    }
}

struct Head {
    status: u16,
    length: usize,
    content_length: usize,
}

impl Head {
    /// None when it has not arrived whole.
    fn parse(received: &[u8]) -> Outcome<Option<Self>> {
        let mut headers = [httparse::EMPTY_HEADER; 32];
        let mut response = httparse::Response::new(&mut headers);
        let httparse::Status::Complete(length) = response.parse(received)? else {
            return Ok(None);
        };
        let content_length = response
            .headers
            .iter()
            .find(|header| header.name.eq_ignore_ascii_case("content-length"))
            .ok_or("an answer has no content-length")?;
        Ok(Some(Self {
            status: response.code.unwrap_or(0),
            length,
            content_length: std::str::from_utf8(content_length.value)?.parse()?,
        }))
    }
}
