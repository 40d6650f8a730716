//! What other shops are answered while many clients ask about one thing, and while as many ask about
//! as many things.

use std::{
    env,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use sqlx::{Connection, PgConnection};
use tokio::{task::JoinSet, time::sleep};

use crate::{
    client::{Answer, Client},
    harness::{POLL, Place, Site},
    postgres,
    server::Server,
};

/// How many clients the crowd has: 150 unless it is set.
const CROWD: &str = "MIRRORY_TESTS_CROWD";

/// How many calls of other shops are held against the crowd.
const CALLS: u64 = 40;

struct Scale {
    clients: usize,
    places: usize,
}

impl Scale {
    /// More clients than places, in each case.
    fn of_this_run() -> Self {
        let clients = env::var(CROWD).map_or(150, |number| number.parse().unwrap());
        let places = (clients * 2 / 3).min(1000);
        Self { clients, places }
    }
}

/// Clients that validate again and again, until they are told to stop.
struct Crowd {
    clients: JoinSet<Vec<Answer>>,
    is_over: Arc<AtomicBool>,
}

impl Crowd {
    /// One client for each token.
    fn validating<'a>(server: &Server, tokens: impl IntoIterator<Item = &'a String>) -> Self {
        let mut crowd = Self {
            clients: JoinSet::new(),
            is_over: Arc::default(),
        };
        for token in tokens {
            let (client, token) = (server.client(), token.clone());
            let is_over = Arc::clone(&crowd.is_over);
            crowd.clients.spawn(validate_until(client, token, is_over));
        }
        crowd
    }

    /// Every answer.
    async fn stop(self) -> Vec<Answer> {
        self.is_over.store(true, Ordering::Relaxed);
        self.clients.join_all().await.concat()
    }
}

async fn validate_until(
    mut client: Client,
    token: String,
    is_over: Arc<AtomicBool>,
) -> Vec<Answer> {
    let mut answers = Vec::new();
    while !is_over.load(Ordering::Relaxed) {
        answers.push(client.validate(&token, "m").await);
        // As a client does that is refused; else it would be nothing but load.
        sleep(Duration::from_secs(1)).await;
    }
    answers
}

/// A server with fewer places than the crowd has clients, all of which it takes for proxies of ours.
async fn crowded_server(scale: &Scale) -> (Place, Server) {
    let place = Place::postgres(postgres::shared()).await;
    let places = scale.places.to_string();
    let place = place
        .with("MIRRORY__SERVER__CONCURRENT_REQUESTS", &places)
        .with("MIRRORY__SERVER__TRUSTED_PROXIES", "127.0.0.1");
    let server = place.start().await;
    (place, server)
}

/// The calls of a shop that came to nothing.
async fn failed_calls(server: &Server, shop: &Site) -> Vec<Answer> {
    let mut client = server.client();
    let mut failed = Vec::new();
    for user in 1..=CALLS {
        let answer = client.generate(&shop.secret, user).await;
        if answer.status != 200 {
            failed.push(answer);
        }
    }
    failed
}

fn assert_none_failed(failed: &[Answer], server: &Server) {
    let said = server.stderr();
    let causes: Vec<_> = said.lines().filter(|line| line.contains("ERROR")).collect();
    assert!(
        failed.is_empty(),
        "{} of {CALLS}: {failed:?} {causes:?}",
        failed.len()
    );
}

async fn waits_for_a_lock(connection: &mut PgConnection) {
    let waiting = "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() \
                   AND application_name = 'mirrory' AND wait_event_type = 'Lock'";
    while sqlx::query_scalar::<_, i64>(waiting)
        .fetch_one(&mut *connection)
        .await
        .unwrap()
        == 0
    {
        sleep(POLL).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_occupied_token_costs_other_shops_no_call() {
    let scale = Scale::of_this_run();
    let (place, server) = crowded_server(&scale).await;
    let (busy, quiet) = (place.create_site("free"), place.create_site("enterprise"));
    let token = server.client().token(&busy.secret).await;
    let mut held = PgConnection::connect(place.setting("DATABASE_URL"))
        .await
        .unwrap();
    // The busy site's row, which is the only one yet.
    let lock = sqlx::raw_sql("BEGIN; SELECT day FROM usage FOR UPDATE");
    lock.execute(&mut held).await.unwrap();
    let crowd = Crowd::validating(&server, std::iter::repeat_n(&token, scale.clients));
    waits_for_a_lock(&mut held).await;
    let failed = failed_calls(&server, &quiet).await;
    assert_none_failed(&failed, &server);
    sqlx::raw_sql("ROLLBACK").execute(&mut held).await.unwrap();
    let known = |answer: &Answer| matches!(answer.status, 200 | 429 | 503);
    assert!(crowd.stop().await.iter().all(known));
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_equal_crowd_that_occupies_nothing_costs_other_shops_no_call() {
    let scale = Scale::of_this_run();
    let (place, server) = crowded_server(&scale).await;
    let (busy, quiet) = (
        place.create_site("enterprise"),
        place.create_site("enterprise"),
    );
    let mut client = server.client();
    let mut tokens = Vec::new();
    for _ in 0..scale.clients {
        tokens.push(client.token(&busy.secret).await);
    }
    let crowd = Crowd::validating(&server, &tokens);
    let failed = failed_calls(&server, &quiet).await;
    assert_none_failed(&failed, &server);
    let answers = crowd.stop().await;
    let is_due = |answer: &Answer| answer.is_valid() || answer.status == 429;
    assert!(answers.iter().all(is_due), "a token's own limit apart");
    server.stop().await;
}
