//! What the doctor finds in stores that are broken in one way each, and that it leaves them so.

use std::{
    fs,
    net::SocketAddr,
    os::unix::fs::{FileExt, PermissionsExt},
    time::Duration,
};

use mirrory::{
    config::DatabaseKind,
    doctor::{Check, Status, examine},
    types::{
        clock::{Clock, Timestamp},
        store_time::{MAX_BEHIND, MAX_PAUSE},
    },
};

use crate::{
    harness::{Store, on_both_stores},
    servers::set_read_only,
};

on_both_stores!(
    a_store_that_is_well_has_nothing_that_failed,
    an_empty_store_stays_empty,
    a_clock_that_is_off_is_told,
    migrations_that_are_missing_unknown_changed_or_cut_off_are_told,
    another_master_key_is_told,
    a_key_that_does_not_open_is_told,
    a_store_without_a_key_that_signs_is_told,
    plans_that_are_not_configured_are_told,
);

const OTHER_KEY: &str = "ICEiIyQlJicoKSorLC0uLzAxMjM0NTY3ODk6Ozw9Pj8=";

/// Looks at a store by its own time.
async fn look(store: &Store) -> Vec<Check> {
    let now = store.open().await.now().await.unwrap();
    store.hand.set_wall(now);
    examine(&store.config, &store.clock, &store.randomness).await
}

#[track_caller]
fn of<'a>(checks: &'a [Check], name: &str) -> &'a Check {
    let found = checks.iter().find(|check| check.check == name);
    found.unwrap_or_else(|| panic!("no {name} in {checks:?}"))
}

/// That this check has come out so, with this in what it says.
#[track_caller]
fn assert_check(checks: &[Check], name: &str, status: Status, part: &str) {
    let check = of(checks, name);
    assert_eq!(check.status, status, "{check:?}");
    assert!(check.detail.contains(part), "{check:?}");
    assert_eq!(check.advice.is_none(), status == Status::Ok, "{check:?}");
}

/// A store with keys, listened for on any free port.
async fn with_keys(mut store: Store) -> Store {
    store.config.server.listen = SocketAddr::from(([127, 0, 0, 1], 0));
    store.state().await;
    store
}

async fn a_store_that_is_well_has_nothing_that_failed(store: Store) {
    let store = with_keys(store).await;
    let checks = look(&store).await;
    for (name, part) in [
        ("configuration", "4 plans"),
        ("store", "SQL"),
        ("migrations", "all"),
        ("master_key", "opens"),
        ("signing_keys", "1 known"),
        ("plans", "all sites"),
        ("listen", "free"),
        ("trusted_proxies", "none"),
    ] {
        assert_check(&checks, name, Status::Ok, part);
    }
    match store.kind() {
        DatabaseKind::Sqlite => {
            assert_check(&checks, "clock", Status::Ok, "has seen no time");
            assert_check(&checks, "permissions", Status::Ok, "only its user");
            assert_check(&checks, "file", Status::Ok, "no fault");
            assert_check(&checks, "free_space", Status::Ok, " MiB in ");
        }
        DatabaseKind::Postgres => {
            assert_check(&checks, "clock", Status::Ok, "ms off");
            // The tests' own server does not flush.
            assert_check(&checks, "durability", Status::Warning, "fsync");
            assert_check(&checks, "connections", Status::Ok, "up to 10");
            assert_check(&checks, "replication", Status::Ok, "no replicas");
        }
    }
}

async fn an_empty_store_stays_empty(store: Store) {
    let looked = || examine(&store.config, &store.clock, &store.randomness);
    let checks = looked().await;
    match store.kind() {
        DatabaseKind::Sqlite => {
            assert_check(&checks, "store", Status::Warning, "none yet");
            assert!(!store.folder().unwrap().exists());
        }
        DatabaseKind::Postgres => {
            assert_check(&checks, "migrations", Status::Warning, "not yet applied");
            let tables = "SELECT count(*) FROM pg_tables WHERE schemaname = 'public'";
            assert_eq!(store.number(tables).await, 0);
        }
    }
    store.open().await;
    let checks = looked().await;
    assert_check(&checks, "master_key", Status::Ok, "no keys yet");
    for table in ["data_keys", "signing_keys", "sites", "changes"] {
        let rows = format!("SELECT count(*) FROM {table}");
        assert_eq!(store.number(&rows).await, 0, "{table}");
    }
}

async fn a_clock_that_is_off_is_told(store: Store) {
    let database = store.open().await;
    if store.kind() == DatabaseKind::Sqlite {
        return a_clock_is_held_against_what_the_store_has_seen(&store).await;
    }
    for (off, status) in [(3, Status::Warning), (60, Status::Failed)] {
        let now = database.now().await.unwrap();
        store.hand.set_wall(now.after(Duration::from_secs(off)));
        let checks = examine(&store.config, &store.clock, &store.randomness).await;
        assert_check(&checks, "clock", status, "ms off the store's");
    }
    store.hand.set_wall(Timestamp::from_micros(0));
    let checks = examine(&store.config, &store.clock, &store.randomness).await;
    assert_check(&checks, "clock", Status::Failed, "ms off the store's");
}

async fn a_clock_is_held_against_what_the_store_has_seen(store: &Store) {
    let now = Clock::system().now();
    let second = Duration::from_secs(1);
    let looked = async |moment: Timestamp| {
        store.hand.set_wall(moment);
        examine(&store.config, &store.clock, &store.randomness).await
    };
    let checks = looked(now).await;
    assert_check(&checks, "clock", Status::Ok, "has seen no time");
    let checks = looked(Timestamp::from_micros(0)).await;
    assert_check(&checks, "clock", Status::Failed, "1970-01-01T00:00:00Z");
    let seen = format!("UPDATE store_clock SET seen_at = {}", now.as_micros());
    store.execute(&seen).await.unwrap();
    for (moment, status) in [
        (now.before(MAX_BEHIND), Status::Ok),
        (now.before(MAX_BEHIND + second), Status::Failed),
        (now.after(MAX_PAUSE), Status::Ok),
        (now.after(MAX_PAUSE + second), Status::Warning),
    ] {
        let checks = looked(moment).await;
        assert_check(&checks, "clock", status, &now.to_string());
    }
    // One that is not yet migrated has seen none.
    store.execute("DROP TABLE store_clock").await.unwrap();
    let checks = looked(now).await;
    assert_check(&checks, "clock", Status::Ok, "has seen no time");
}

async fn migrations_that_are_missing_unknown_changed_or_cut_off_are_told(store: Store) {
    let store = with_keys(store).await;
    let newest = "(SELECT max(version) FROM _sqlx_migrations)";
    let now = store.open().await.now().await.unwrap();
    store.hand.set_wall(now);
    for (change, status, part) in [
        (
            format!("UPDATE _sqlx_migrations SET version = version + 1 WHERE version = {newest}"),
            Status::Warning,
            "of a newer version",
        ),
        (
            format!("DELETE FROM _sqlx_migrations WHERE version = {newest}"),
            Status::Warning,
            "not yet applied",
        ),
        (
            format!("UPDATE _sqlx_migrations SET success = FALSE WHERE version = {newest}"),
            Status::Failed,
            "not finished",
        ),
        (
            format!(
                "UPDATE _sqlx_migrations SET checksum = (SELECT checksum FROM _sqlx_migrations \
                 WHERE version = {newest})"
            ),
            Status::Failed,
            "changed since",
        ),
    ] {
        store.execute(&change).await.unwrap();
        let checks = examine(&store.config, &store.clock, &store.randomness).await;
        assert_check(&checks, "migrations", status, part);
        let is_looked_into = checks.iter().any(|check| check.check == "signing_keys");
        assert_eq!(is_looked_into, status != Status::Failed);
    }
}

async fn another_master_key_is_told(store: Store) {
    let mut store = with_keys(store).await;
    store.config.secrets.master_key = Some(OTHER_KEY.to_owned().into());
    let checks = look(&store).await;
    assert_check(&checks, "master_key", Status::Failed, "does not open");
    store.config.secrets.master_key = None;
    let checks = look(&store).await;
    let part = match store.kind() {
        DatabaseKind::Sqlite => "there is none",
        DatabaseKind::Postgres => "must be set",
    };
    assert_check(&checks, "master_key", Status::Failed, part);
    assert!(!checks.iter().any(|check| check.check == "signing_keys"));
}

async fn a_key_that_does_not_open_is_told(store: Store) {
    let store = with_keys(store).await;
    let changed = "UPDATE signing_keys SET algorithm = 'ES256'";
    store.execute(changed).await.unwrap();
    let checks = look(&store).await;
    assert_check(&checks, "master_key", Status::Ok, "opens");
    assert_check(&checks, "signing_keys", Status::Failed, "does not open");
}

async fn a_store_without_a_key_that_signs_is_told(store: Store) {
    let store = with_keys(store).await;
    let revoked = "UPDATE signing_keys SET revoked_at = 1";
    store.execute(revoked).await.unwrap();
    let checks = look(&store).await;
    assert_check(
        &checks,
        "signing_keys",
        Status::Failed,
        "none of them signs",
    );
    store.execute("DELETE FROM signing_keys").await.unwrap();
    let checks = look(&store).await;
    assert_check(&checks, "signing_keys", Status::Ok, "none yet");
}

async fn plans_that_are_not_configured_are_told(store: Store) {
    let mut store = with_keys(store).await;
    let instance = store.instance().await;
    for _ in 0..2 {
        instance.create_site().await;
    }
    let plan = store.column::<String>("SELECT plan FROM sites LIMIT 1");
    store.config.plans.remove(&*plan.await[0]).unwrap();
    let checks = look(&store).await;
    assert_check(&checks, "plans", Status::Failed, "(sites: 2)");
    store
        .execute("UPDATE sites SET deleted_at = 1")
        .await
        .unwrap();
    assert_check(&look(&store).await, "plans", Status::Ok, "all sites");
}

/// An embedded store with its master key beside it.
async fn with_file() -> Store {
    let mut store = Store::sqlite().await;
    store.config.secrets.master_key = None;
    with_keys(store).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_others_may_read_is_told() {
    let store = with_file().await;
    let folder = store.folder().unwrap();
    let key = folder.join("master.key");
    let permit = |path, mode| fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
    permit(&key, 0o640);
    let checks = look(&store).await;
    assert_check(&checks, "permissions", Status::Warning, "the master key");
    assert!(
        of(&checks, "permissions")
            .advice
            .as_ref()
            .unwrap()
            .starts_with("chmod 600")
    );
    permit(&key, 0o600);
    permit(folder, 0o755);
    permit(&folder.join("mirrory.db"), 0o644);
    let checks = examine(&store.config, &store.clock, &store.randomness).await;
    assert_check(&checks, "permissions", Status::Warning, "the store");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_change_of_the_master_key_that_was_cut_off_is_told() {
    let store = with_file().await;
    let key = store.folder().unwrap().join("master.key");
    let both = format!("{OTHER_KEY}\n{}", fs::read_to_string(&key).unwrap());
    fs::write(&key, &both).unwrap();
    let checks = look(&store).await;
    assert_check(&checks, "master_key", Status::Warning, "cut off");
    assert_check(&checks, "signing_keys", Status::Ok, "signs");
    assert_eq!(fs::read_to_string(&key).unwrap(), both, "left as it was");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_no_store_is_told_and_left_alone() {
    let store = Store::sqlite().await;
    let folder = store.folder().unwrap();
    fs::create_dir(folder).unwrap();
    let file = folder.join("mirrory.db");
    for content in [
        "",
        "no database, and longer than the header of one would be: not at all",
    ] {
        fs::write(&file, content).unwrap();
        let checks = examine(&store.config, &store.clock, &store.randomness).await;
        let worst = checks.iter().map(|check| check.status).max();
        assert!(worst > Some(Status::Ok), "{content}: {checks:?}");
        assert_eq!(fs::read_to_string(&file).unwrap(), content);
        assert_eq!(fs::read_dir(folder).unwrap().count(), 1);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_that_can_only_be_read_is_told() {
    let mut store = Store::postgres().await;
    set_read_only(&store, "on").await;
    for urls in [1, 2] {
        store.config.database.urls = vec![store.config.database.url.clone(); urls];
        let checks = examine(&store.config, &store.clock, &store.randomness).await;
        assert_check(&checks, "store", Status::Failed, "read-only");
        let advice = of(&checks, "store").advice.as_deref().unwrap();
        assert!(advice.contains("default_transaction_read_only"), "{advice}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_file_that_is_damaged_is_told() {
    let store = with_file().await;
    let sql = "SELECT rootpage FROM sqlite_schema WHERE name = 'api_tokens'";
    let page = u64::try_from(store.number(sql).await).unwrap();
    let size = u64::try_from(store.number("PRAGMA page_size").await).unwrap();
    store
        .execute("PRAGMA wal_checkpoint(TRUNCATE)")
        .await
        .unwrap();
    let file = fs::File::options()
        .write(true)
        .open(store.folder().unwrap().join("mirrory.db"))
        .unwrap();
    file.write_all_at(&[0xff; 64], (page - 1) * size).unwrap();
    let checks = examine(&store.config, &store.clock, &store.randomness).await;
    assert_check(&checks, "file", Status::Failed, "damaged");
    let advice = of(&checks, "file").advice.as_deref().unwrap();
    assert!(advice.contains("back-up"), "{advice}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn proxies_that_may_be_anybody_are_told() {
    let mut store = with_keys(Store::sqlite().await).await;
    for (networks, status) in [
        (
            &["10.0.0.0/8", "fc00::/7", "203.0.113.0/24"][..],
            Status::Ok,
        ),
        (&["127.0.0.1/32", "0.0.0.0/0"], Status::Warning),
        (&["::/0"], Status::Warning),
        (&["0.0.0.0/1", "128.0.0.0/1"], Status::Warning),
        (&["2000::/3"], Status::Warning),
    ] {
        let networks = networks.iter().map(|network| network.parse().unwrap());
        store.config.server.trusted_proxies = networks.collect();
        assert_check(&look(&store).await, "trusted_proxies", status, "/");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn each_of_several_servers_is_told() {
    let mut store = Store::postgres().await;
    let standby = Store::postgres().await;
    set_read_only(&standby, "on").await;
    let gone = "postgres://mirrory:hidden@127.0.0.1:1/mirrory".parse();
    store.config.database.urls = vec![
        gone.unwrap(),
        standby.config.database.url.clone(),
        store.config.database.url.clone(),
    ];
    let checks = examine(&store.config, &store.clock, &store.randomness).await;
    let servers = checks.iter().filter(|check| check.check == "server");
    let found: Vec<_> = servers
        .map(|check| (check.status, check.detail.as_str()))
        .collect();
    for ((status, detail), (expected, part)) in found.iter().zip([
        (Status::Warning, "refused"),
        (Status::Ok, "is read-only"),
        (Status::Ok, "takes writes"),
    ]) {
        assert!(detail.contains(part), "{found:?}");
        assert!(
            *status == expected && !detail.contains("hidden"),
            "{found:?}"
        );
    }
    assert_eq!(found.len(), 3);
    assert_check(&checks, "store", Status::Ok, "PostgreSQL");
}
