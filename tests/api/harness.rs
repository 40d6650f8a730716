//! [`TestApp`]: the real router over a real store, with a manual clock and seeded randomness.

mod accounts;
mod answer;
mod crowd;
mod database;
mod managing;
mod openapi;
mod operator;
mod request;
mod stores;

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use axum::Router;
use mirrory::{
    app::{Background, open_state, open_store},
    config::Config,
    router::router,
    sites::NewSite,
    state::AppState,
    store::{
        changes::Actor,
        database::{COMMAND_DEADLINE, SERVING_DEADLINE},
        freshness::Freshness,
    },
    types::{
        clock::{Clock, ManualClock, Timestamp},
        ids::SiteId,
        randomness::Randomness,
    },
};
use serde_json::{Value, json};

pub use self::{
    accounts::{PASSWORD, Person, SignedIn},
    answer::Answer,
    crowd::Crowd,
    database::eventually,
    managing::{Manager, next_page, resolve},
    request::Call,
    stores::Store,
};
use self::{openapi::Contract, stores::Place};

/// Who calls, unless a test says otherwise.
const PEER: &str = "192.0.2.1:50000";

/// Where the clock of a test starts: 2026-11-15T12:00:00Z, a Sunday, in the middle of its day and
/// its month.
pub const START: i64 = 1_794_744_000;

/// One instance of the service. Dropped with the last instance of its store, the store goes.
pub struct TestApp {
    pub state: AppState,
    pub clock: ManualClock,
    pub freshness: Freshness,
    pub background: Background,
    router: Router,
    place: Arc<Place>,
    contract: Contract,
}

/// A site, with a secret that is good.
#[derive(Clone, Debug)]
pub struct TestSite {
    pub id: SiteId,
    pub secret: String,
}

/// A token that was issued.
#[derive(Clone, Debug)]
pub struct Issued {
    pub token: String,
    pub token_id: String,
    pub expires_at: String,
}

impl TestApp {
    /// The service with its defaults, on an empty store.
    pub async fn start(store: Store) -> Self {
        Self::with(store, &[]).await
    }

    /// The service with these settings, on an empty store: `("limits.failures_per_minute", "0")`.
    pub async fn with(store: Store, settings: &[(&str, &str)]) -> Self {
        let place = Arc::new(Place::make(store).await);
        let clock = ManualClock::starting_at(Timestamp::from_seconds(START));
        // On a machine that is busy with other tests, the server's own second is short.
        Self::open(place, clock, settings, COMMAND_DEADLINE).await
    }

    /// The service on an empty PostgreSQL, which it gives the second that a server does.
    pub async fn impatient() -> Self {
        let place = Arc::new(Place::make(Store::Postgres).await);
        let clock = ManualClock::starting_at(Timestamp::from_seconds(START));
        Self::open(place, clock, &[], SERVING_DEADLINE).await
    }

    /// A second instance on the same store, whose clock is its own and says the same now.
    pub async fn another(&self) -> Self {
        self.restarted(&[]).await
    }

    /// The service after a restart with these settings, beside the one that runs.
    pub async fn restarted(&self, settings: &[(&str, &str)]) -> Self {
        let clock = ManualClock::starting_at(self.now());
        let place = Arc::clone(&self.place);
        Self::open(place, clock, settings, COMMAND_DEADLINE).await
    }

    async fn open(
        place: Arc<Place>,
        clock: ManualClock,
        settings: &[(&str, &str)],
        deadline: Duration,
    ) -> Self {
        static INSTANCES: AtomicU64 = AtomicU64::new(0);
        let seed = INSTANCES.fetch_add(1, Ordering::Relaxed);
        let environment = place.settings().into_iter().chain(
            settings
                .iter()
                .map(|(name, value)| (variable(name), (*value).to_owned())),
        );
        let config = Config::load(None, environment).expect("the settings are good");
        let database = open_store(&config.database, deadline)
            .await
            .expect("the store opens");
        // The time of a test is before the program's own.
        database.set_least_time(Timestamp::from_micros(0));
        let freshness = Freshness::new(clock.clock());
        let state = open_state(
            config,
            database,
            clock.clock(),
            Randomness::seeded(seed),
            freshness.clone(),
        )
        .await
        .expect("the rooms open");
        Self {
            router: router(&state),
            background: Background::new(&state, freshness.clone()),
            contract: Contract::read(),
            state,
            clock,
            freshness,
            place,
        }
    }

    /// What the clock says.
    pub fn now(&self) -> Timestamp {
        self.clock.clock().now()
    }

    /// Lets time pass.
    pub fn advance(&self, duration: Duration) {
        self.clock.advance(duration);
    }

    /// Sets the wall clock, without time having passed: `2026-11-30T23:59:59Z`.
    pub fn set_wall(&self, moment: &str) {
        self.clock.set_wall(at(moment));
    }

    /// Lets the instance follow the change log to its end.
    pub async fn tick(&self) {
        self.background.follower.tick().await.unwrap();
    }

    /// Makes the store fail from now on.
    pub async fn break_store(&self) {
        self.state.database.close().await;
    }

    /// Makes a site on a plan.
    pub async fn site(&self, plan: &str) -> TestSite {
        let new = NewSite::parse("a shop", Some("https://shop.example"), plan).unwrap();
        let mut tx = self.state.database.begin().await.unwrap();
        let (site, secret) = self
            .state
            .sites
            .create(&mut tx, Actor::Operator, &new)
            .await
            .unwrap();
        tx.commit().await.unwrap();
        TestSite {
            id: site.id,
            secret: secret.reveal().to_owned(),
        }
    }

    /// Calls generate-token with a body.
    pub async fn generate(&self, body: Value) -> Answer {
        self.post("/mirrory/generate-token")
            .json(&body)
            .send()
            .await
    }

    /// Calls generate-token for user 12345 of a site.
    pub async fn generate_for(&self, site: &TestSite) -> Answer {
        self.generate(json!({"wp_user_id": 12345, "proxy_secret": site.secret}))
            .await
    }

    /// A token of a site for user 12345, bound to no machine.
    pub async fn issue(&self, site: &TestSite) -> Issued {
        self.generate_for(site).await.issued()
    }

    /// Calls validate-token.
    pub async fn validate(&self, token: &str, machine_id: &str) -> Answer {
        self.post("/mirrory/validate-token")
            .json(&json!({"token": token, "machine_id": machine_id}))
            .send()
            .await
    }

    /// Calls revoke-token.
    pub async fn revoke(&self, site: &TestSite, token_id: &str) -> Answer {
        self.manage("/mirrory/revoke-token", site, token_id).await
    }

    /// Calls release-machine.
    pub async fn release(&self, site: &TestSite, token_id: &str) -> Answer {
        self.manage("/mirrory/release-machine", site, token_id)
            .await
    }

    async fn manage(&self, path: &str, site: &TestSite, token_id: &str) -> Answer {
        self.post(path)
            .json(&json!({"token_id": token_id, "proxy_secret": site.secret}))
            .send()
            .await
    }

    /// A request that is not yet sent.
    pub fn request(&self, method: &str, path: &str) -> Call<'_> {
        Call::new(self, method, path)
    }

    /// A `GET`.
    pub async fn get(&self, path: &str) -> Answer {
        self.request("GET", path).send().await
    }

    /// A `POST` that is not yet sent.
    pub fn post(&self, path: &str) -> Call<'_> {
        self.request("POST", path)
    }
}

/// The variable of a setting: `tokens.ttl_seconds` is `MIRRORY__TOKENS__TTL_SECONDS`.
fn variable(setting: &str) -> String {
    format!("MIRRORY__{}", setting.to_uppercase().replace('.', "__"))
}

/// The moment that a text in RFC 3339 names.
pub fn at(moment: &str) -> Timestamp {
    let moment: jiff::Timestamp = moment.parse().unwrap();
    Timestamp::from_micros(moment.as_microsecond())
}

/// The machine's own clock, for what the store compares with its own.
pub fn real_now() -> Timestamp {
    Clock::system().now()
}
