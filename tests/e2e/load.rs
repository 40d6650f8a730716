//! Steady load on a server: workers that issue and validate, one call after the other.

use std::{
    collections::HashSet,
    net::SocketAddr,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use tokio::{
    task::JoinSet,
    time::{Instant, sleep},
};

use crate::{
    client::{Answer, Client, Failed},
    harness::{PATIENCE, POLL, Place, Site},
    server::Server,
};

/// A call of a worker, and what it came to.
#[derive(Debug)]
pub struct Call {
    pub began: Instant,
    pub is_validation: bool,
    /// None when the connection broke.
    pub answer: Option<Answer>,
}

impl Call {
    pub fn is_served(&self) -> bool {
        let served =
            |answer: &Answer| answer.status == 200 && (!self.is_validation || answer.is_valid());
        self.answer.as_ref().is_some_and(served)
    }
}

/// Load that goes on until it is told to stop.
pub struct Load {
    calls: Arc<Mutex<Vec<Call>>>,
    is_over: Arc<AtomicBool>,
    workers: JoinSet<()>,
}

impl Load {
    /// Starts so many workers. Each issues a token and then validates it, again and again.
    pub fn start(server: &Server, site: &Site, workers: u64) -> Self {
        Self::at(server.address, site, workers)
    }

    /// The same, on what stands before servers.
    pub fn at(address: SocketAddr, site: &Site, workers: u64) -> Self {
        let mut load = Self {
            calls: Arc::default(),
            is_over: Arc::default(),
            workers: JoinSet::new(),
        };
        for number in 1..=workers {
            let worker = Worker {
                number,
                client: Client::new(address),
                secret: site.secret.clone(),
                calls: Arc::clone(&load.calls),
                is_over: Arc::clone(&load.is_over),
            };
            load.workers.spawn(worker.run());
        }
        load
    }

    /// Waits until so many calls that began at `since` or later were served.
    pub async fn wait_for_served(&self, count: usize, since: Instant) {
        let is_counted = |call: &Call| call.began >= since && call.is_served();
        self.wait_for(count, is_counted).await;
    }

    /// Waits until so many calls that began at `since` or later have come to their end.
    pub async fn wait_for_calls(&self, count: usize, since: Instant) {
        self.wait_for(count, |call| call.began >= since).await;
    }

    async fn wait_for(&self, count: usize, is_counted: impl Fn(&Call) -> bool) {
        let began = Instant::now();
        let found = || {
            let calls = self.calls.lock().unwrap();
            calls.iter().filter(|call| is_counted(call)).count()
        };
        while found() < count {
            let last = || format!("{:?}", self.calls.lock().unwrap().last());
            assert!(began.elapsed() < PATIENCE, "{}, then {}", found(), last());
            sleep(POLL).await;
        }
    }

    /// Ends the load and hands over every call.
    pub async fn stop(mut self) -> Vec<Call> {
        self.is_over.store(true, Ordering::Relaxed);
        while let Some(ended) = self.workers.join_next().await {
            ended.unwrap();
        }
        std::mem::take(&mut *self.calls.lock().unwrap())
    }
}

struct Worker {
    number: u64,
    client: Client,
    secret: String,
    calls: Arc<Mutex<Vec<Call>>>,
    is_over: Arc<AtomicBool>,
}

impl Worker {
    async fn run(mut self) {
        while !self.is_over.load(Ordering::Relaxed) {
            let began = Instant::now();
            let issued = self.client.try_generate(&self.secret, self.number).await;
            let token = match &issued {
                Ok(answer) if answer.status == 200 => Some(answer.field("token")),
                _ => None,
            };
            self.note(began, false, issued).await;
            let Some(token) = token else { continue };
            let began = Instant::now();
            let machine = machine(self.number);
            let verdict = self.client.try_validate(&token, &machine).await;
            self.note(began, true, verdict).await;
        }
    }

    async fn note(&self, began: Instant, is_validation: bool, answer: Result<Answer, Failed>) {
        let answer = answer.ok();
        // A client that is refused rests a little; else it would be nothing but load.
        let is_refused = answer.as_ref().is_none_or(|answer| answer.status != 200);
        self.calls.lock().unwrap().push(Call {
            began,
            is_validation,
            answer,
        });
        if is_refused {
            sleep(Duration::from_millis(20)).await;
        }
    }
}

/// The machine that a worker's tokens are validated on.
pub fn machine(worker: u64) -> String {
    format!("machine-{worker}")
}

/// Checks that each token that was answered is good where its worker validates it, and how many
/// that were.
pub async fn assert_all_validate(server: &Server, calls: &[Call]) -> usize {
    let answered = calls
        .iter()
        .filter(|call| !call.is_validation && call.is_served());
    let mut client = server.client();
    let mut ids = HashSet::new();
    for call in answered {
        let answer = call.answer.as_ref().unwrap();
        let user = answer.body()["user_id"].as_u64().unwrap();
        let verdict = client
            .validate(&answer.field("token"), &machine(user))
            .await;
        assert!(verdict.is_valid(), "{verdict:?} for {answer:?}");
        ids.insert(answer.field("token_id"));
    }
    ids.len()
}

/// What the service had charged must cover what it had answered.
pub fn assert_charged(place: &Place, site: &Site, calls: &[Call]) {
    let answered = calls.iter().filter(|call| call.is_served()).count();
    let usage = place.ask(["usage", &site.id]);
    // What an instance spent of a block and did not live to tell is still reserved.
    let [used, reserved] = ["used", "reserved"].map(|name| usage["day"][name].as_u64().unwrap());
    assert!(
        used + reserved >= answered as u64,
        "{used} used and {reserved} reserved, {answered} answered"
    );
}
