//! Several PostgreSQL servers: which one is used, and which never.

use std::{error::Error, time::Duration};

use mirrory::{
    app::{StartError, open_store, open_store_to_accept},
    doctor::{Check, Status, examine},
    store::{Accepted, Database, Tx, changes},
    types::randomness::Randomness,
};
use tokio::time::{Instant, sleep};

use crate::{
    harness::{Instance, Store},
    postgres::{Cluster, shared},
    wire::{Signpost, Wire},
};

const DEADLINE: Duration = Duration::from_secs(5);

/// Far beyond what anything here takes, for machines under load.
const PATIENCE: Duration = Duration::from_secs(30);

/// A store at several places, named in this order.
fn at(urls: &[&str]) -> Store {
    let mut store = Store::new(urls[0], None);
    let urls = urls.iter().map(|url| url.parse().unwrap());
    store.config.database.urls = urls.collect();
    store.randomness = Randomness::system();
    store
}

async fn sites(store: &Store) -> i64 {
    store.number("SELECT count(*) FROM sites").await
}

/// What a start is told that is refused.
async fn refused(store: &Store) -> String {
    let opened = open_store(&store.config.database, DEADLINE).await;
    let StartError::Open { source, .. } = opened.unwrap_err() else {
        panic!("it is refused when it is opened");
    };
    let cause = source.source().unwrap();
    format!("{source}: {cause}")
}

/// A primary, and a replica of it that it does not wait for.
pub struct Pair {
    primary: Cluster,
    replica: Cluster,
    /// The store at each of them alone.
    first: Store,
    second: Store,
}

impl Pair {
    /// The replica has an empty store, without tables.
    pub async fn start() -> Self {
        let primary = Cluster::start();
        let first = Store::new(&primary.create_database().await, None);
        let replica = primary.start_late_replica();
        let url = first.config.database.url.expose();
        let (_, name) = url.rsplit_once('/').unwrap();
        let second = Store::new(&replica.url(name), None);
        Self {
            primary,
            replica,
            first,
            second,
        }
    }

    fn urls(&self) -> [&str; 2] {
        [&self.first, &self.second].map(|store| store.config.database.url.expose())
    }

    /// The store at both, the primary first.
    fn both(&self) -> Store {
        at(&self.urls())
    }

    /// An instance that knows both.
    pub async fn instance(&self) -> Instance {
        let both = self.both();
        Instance::new(&both, both.open_with(DEADLINE).await)
    }

    /// The primary dies, and the replica, which has all, takes its place.
    pub async fn fail_over(&self, instance: &Instance) {
        self.primary.until_followed().await;
        let mut tx = instance.database.begin().await.unwrap();
        self.primary.stop();
        changes::lock(&mut tx).await.unwrap_err();
        self.replica.promote().await;
        instance.database.choose_server().await.unwrap();
    }
}

/// Cuts every connection to a store, one of them in use.
async fn cut(store: &Store, mut tx: Tx) {
    let cut = "SELECT pg_terminate_backend(pid, 5000) FROM pg_stat_activity \
               WHERE datname = current_database() AND application_name = 'mirrory'";
    store.execute(cut).await.unwrap();
    changes::lock(&mut tx).await.unwrap_err();
}

/// Opens several connections, which must all lead to one server.
async fn open_several(database: &Database) {
    let mut transactions = Vec::new();
    for _ in 0..4 {
        transactions.push(database.begin().await.unwrap());
    }
}

/// Waits until it is so, while the instance looks for its server as it always does.
async fn until(instance: &Instance, is_so: impl AsyncFn(Result<(), String>) -> bool) {
    let began = Instant::now();
    loop {
        let chosen = instance.database.choose_server().await;
        let chosen = chosen.map_err(|error| {
            let cause = error.source().map(ToString::to_string);
            format!("{error}: {cause:?}")
        });
        if is_so(chosen).await {
            return;
        }
        assert!(began.elapsed() < PATIENCE, "it is not so");
        sleep(Duration::from_millis(20)).await;
    }
}

/// Whether new sessions of a database may write.
pub async fn set_read_only(store: &Store, value: &str) {
    let url = store.config.database.url.expose();
    let (_, name) = url.rsplit_once('/').unwrap();
    let setting = format!(
        "SET TRANSACTION READ WRITE; \
         ALTER DATABASE {name} SET default_transaction_read_only = {value}"
    );
    store.execute(&setting).await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_that_turns_read_only_is_left_for_the_one_that_was_promoted() {
    let pair = Pair::start().await;
    let instance = pair.instance().await;
    instance.create_site().await;
    // Other connections must not go on there either.
    open_several(&instance.database).await;
    instance.database.choose_server().await.unwrap();
    pair.primary.until_followed().await;

    pair.primary.set("default_transaction_read_only = on").await;
    while !is_refused(&instance).await {}
    pair.replica.promote().await;
    instance.database.choose_server().await.unwrap();
    for _ in 0..4 {
        instance.create_site().await;
    }
    open_several(&instance.database).await;
    assert_eq!(sites(&pair.second).await, 5);
    assert_eq!(sites(&pair.first).await, 1);
}

/// Whether a change fails; the server hears of its new setting a moment after it was told.
async fn is_refused(instance: &Instance) -> bool {
    let mut tx = instance.database.begin().await.unwrap();
    let refused = changes::lock(&mut tx).await;
    refused.is_err()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_primary_is_kept_while_nothing_is_promoted() {
    let pair = Pair::start().await;
    let instance = pair.instance().await;
    cut(&pair.first, instance.database.begin().await.unwrap()).await;
    instance.database.choose_server().await.unwrap();
    instance.create_site().await;
    assert_eq!(sites(&pair.first).await, 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_old_primary_that_comes_back_is_used_neither_by_who_runs_nor_by_who_starts() {
    let pair = Pair::start().await;
    let instance = pair.instance().await;
    instance.create_site().await;
    pair.fail_over(&instance).await;
    instance.create_site().await;
    let seen = "SELECT timeline FROM database_server";
    assert_eq!(pair.second.number(seen).await, 2);

    pair.primary.start_again();
    cut(&pair.second, instance.database.begin().await.unwrap()).await;
    instance.database.choose_server().await.unwrap();
    instance.create_site().await;
    let started = pair.instance().await;
    started.create_site().await;
    assert_eq!(
        [sites(&pair.first).await, sites(&pair.second).await],
        [1, 4]
    );
    let both = pair.both();
    let checks = examine(&both.config, &both.clock, &both.randomness).await;
    let check = of(&checks, "servers");
    assert_eq!(check.status, Status::Failed, "{check:?}");
    assert!(of(&checks, "store").status == Status::Ok, "{checks:?}");

    // Without the one that it knows, it serves nothing.
    pair.replica.stop();
    until(&instance, async |chosen| {
        chosen.is_err_and(|error| error.contains("old primary"))
    })
    .await;
    instance.database.begin().await.map(|_| ()).unwrap_err();
    assert_eq!(sites(&pair.first).await, 1);
    pair.replica.start_again();
    until(&instance, async |chosen| chosen.is_ok()).await;
    instance.create_site().await;
    assert_eq!(sites(&pair.second).await, 5);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_replica_that_is_promoted_while_the_primary_goes_on_is_gone_over_to() {
    let pair = Pair::start().await;
    let instance = pair.instance().await;
    instance.create_site().await;
    open_several(&instance.database).await;
    pair.primary.until_followed().await;
    pair.replica.promote().await;
    until(&instance, async |chosen| {
        chosen.unwrap();
        instance.create_site().await;
        sites(&pair.second).await > 1
    })
    .await;
    let before = sites(&pair.first).await;
    open_several(&instance.database).await;
    instance.create_site().await;
    assert_eq!(sites(&pair.first).await, before);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_that_take_writes_on_one_timeline_are_refused_by_who_starts_and_by_who_runs() {
    let primary = Cluster::start();
    let store = Store::new(&primary.create_database().await, None);
    store.open().await.close().await;
    let copy = primary.start_copy();
    let url = store.config.database.url.expose();
    let (_, name) = url.rsplit_once('/').unwrap();
    let both = at(&[url, &copy.url(name)]);
    let told = refused(&both).await;
    for part in [
        "timeline 1",
        &primary.port().to_string(),
        &copy.port().to_string(),
    ] {
        assert!(told.contains(part), "{told}");
    }
    let checks = examine(&both.config, &both.clock, &both.randomness).await;
    for name in ["servers", "store"] {
        assert_eq!(of(&checks, name).status, Status::Failed, "{checks:?}");
    }

    copy.stop();
    let instance = Instance::new(&both, both.open_with(Duration::from_secs(1)).await);
    instance.create_site().await;
    copy.start_again();
    until(&instance, async |chosen| {
        chosen.is_err_and(|error| error.contains("both take writes"))
    })
    .await;
    instance.database.begin().await.map(|_| ()).unwrap_err();
    primary.stop();
    until(&instance, async |chosen| {
        chosen.is_err_and(|error| error.contains("another server than before"))
    })
    .await;
    instance.database.begin().await.map(|_| ()).unwrap_err();
    copy.stop();
    primary.start_again();
    until(&instance, async |chosen| chosen.is_ok()).await;
    instance.create_site().await;
    assert_eq!(sites(&store).await, 2);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_server_under_two_names_is_one() {
    let store = Store::postgres().await;
    let url = store.config.database.url.expose();
    let wire = Wire::to(url).await;
    let both = at(&[&wire.url, url]);
    let instance = both.instance().await;
    instance.create_site().await;
    assert_eq!(sites(&store).await, 1);
    let checks = examine(&both.config, &both.clock, &both.randomness).await;
    assert!(
        checks.iter().all(|check| check.check != "servers"),
        "{checks:?}"
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_stores_are_no_copies_of_each_other() {
    let ours = shared().create_database().await;
    let on_the_same_server = shared().create_database().await;
    let told = refused(&at(&[&ours, &on_the_same_server])).await;
    assert!(told.contains("both take writes on timeline"), "{told}");
    let cluster = Cluster::start();
    let elsewhere = cluster.create_database().await;
    let told = refused(&at(&[&ours, &elsewhere])).await;
    assert!(told.contains("no copies of each other"), "{told}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn by_one_name_the_promoted_server_is_followed_and_the_old_one_refused() {
    let pair = Pair::start().await;
    let [first, second] = pair.urls();
    let signpost = Signpost::to(&[first]).await;
    let name = Store::new(&signpost.url, None);
    let instance = Instance::new(&name, name.open_with(Duration::from_secs(1)).await);
    instance.create_site().await;
    open_several(&instance.database).await;
    pair.primary.until_followed().await;
    pair.replica.promote().await;
    let tx = instance.database.begin().await.unwrap();
    signpost.lead_to(&[second]);
    cut(&pair.first, tx).await;
    instance.create_site().await;
    assert_eq!(
        [sites(&pair.first).await, sites(&pair.second).await],
        [1, 2]
    );
    let seen = "SELECT timeline FROM database_server";
    assert_eq!(pair.second.number(seen).await, 2);

    let tx = instance.database.begin().await.unwrap();
    signpost.lead_to(&[first]);
    cut(&pair.second, tx).await;
    instance.database.begin().await.map(|_| ()).unwrap_err();
    let chosen = instance.database.choose_server().await;
    let refused = chosen.unwrap_err().source().unwrap().to_string();
    assert!(refused.contains("old primary, on timeline 1"), "{refused}");
    assert_eq!(sites(&pair.first).await, 1);
    signpost.lead_to(&[second]);
    instance.create_site().await;
    assert_eq!(sites(&pair.second).await, 3);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_name_that_leads_to_several_servers_is_refused_at_the_start() {
    let pair = Pair::start().await;
    pair.first.open().await.close().await;
    let copy = pair.primary.start_copy();
    let [first, second] = pair.urls();
    let (_, name) = first.rsplit_once('/').unwrap();
    for other in [second, &copy.url(name)] {
        // Not only by turns.
        for servers in [&[first, other][..], &[first, first, first, other]] {
            let signpost = Signpost::to(servers).await;
            let told = refused(&Store::new(&signpost.url, None)).await;
            assert!(told.contains("leads to several servers"), "{told}");
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn another_system_and_a_lower_timeline_are_refused_until_they_are_accepted() {
    let store = Store::postgres().await;
    store.open().await.close().await;
    let system = store
        .number("SELECT system_identifier FROM pg_control_system()")
        .await;
    let seen = "SELECT (system % 1000000) * 10 + timeline FROM database_server";
    let right = store.number(seen).await;
    assert_eq!(right, system % 1_000_000 * 10 + 1);
    for (change, part) in [
        ("system = 7", "and the store was on 7"),
        ("timeline = 5", "and the store was on timeline 5"),
    ] {
        let changed = format!("UPDATE database_server SET {change}");
        store.execute(&changed).await.unwrap();
        let known = store.number(seen).await;
        let told = refused(&store).await;
        assert!(
            told.contains(part) && told.contains("database accept"),
            "{told}"
        );
        let checks = examine(&store.config, &store.clock, &store.randomness).await;
        let check = of(&checks, "store");
        assert_eq!(check.status, Status::Failed, "{check:?}");
        assert!(check.advice.as_ref().unwrap().contains("database accept"));
        assert_eq!(store.number(seen).await, known, "nothing was changed");

        let database = open_store_to_accept(&store.config.database, DEADLINE)
            .await
            .unwrap();
        for is_news in [true, false] {
            let accepted = database
                .accept_server(store.clock.now(), &store.randomness)
                .await;
            let expected = Accepted {
                system,
                timeline: 1,
                is_news,
            };
            assert_eq!(accepted.unwrap(), Some(expected));
        }
        assert_eq!(store.number(seen).await, right);
        store.instance().await.create_site().await;
    }
    let details: Vec<String> = store
        .column(
            "SELECT detail FROM audit_log WHERE event = 'database.accepted' ORDER BY length(detail)",
        )
        .await;
    assert_eq!(details.len(), 2);
    assert!(
        details[0].contains("\"former_system\":\"7\""),
        "{details:?}"
    );
    assert!(details[1].contains("\"former_timeline\":5"), "{details:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_embedded_store_has_nothing_to_accept() {
    let store = Store::sqlite().await;
    let accepted = store
        .open()
        .await
        .accept_server(store.clock.now(), &store.randomness)
        .await;
    assert_eq!(accepted.unwrap(), None);
}

#[track_caller]
fn of<'a>(checks: &'a [Check], name: &str) -> &'a Check {
    let found = checks.iter().find(|check| check.check == name);
    found.unwrap_or_else(|| panic!("no {name} in {checks:?}"))
}
