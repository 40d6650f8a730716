//! What a start and the doctor say of a database that does not do, and that what they advise helps.

use std::error::Error;

use mirrory::{
    app::{StartError, open_store},
    doctor::{Status, examine},
    store::database::COMMAND_DEADLINE,
    types::randomness::Randomness,
};

use crate::{
    harness::{Instance, Store},
    postgres::{Cluster, shared},
};

/// A store whose role is nobody in particular.
struct Guest {
    store: Store,
    /// The same, as the superuser.
    owner: Store,
    role: String,
}

impl Guest {
    /// In a database of its own, by the README.
    async fn new() -> Self {
        Self::of(Store::postgres().await, shared()).await
    }

    async fn of(owner: Store, cluster: &Cluster) -> Self {
        let url = owner.config.database.url.expose();
        let (_, database) = url.rsplit_once('/').unwrap();
        // It wants to be quoted.
        let role = format!("{database}-guest");
        cluster
            .execute(&format!(
                "CREATE ROLE \"{role}\" LOGIN; ALTER DATABASE {database} OWNER TO \"{role}\""
            ))
            .await;
        let store = named(&url.replace("postgres@", &format!("{role}@")));
        Self { store, owner, role }
    }

    /// What a start is told.
    async fn refused(&self) -> String {
        let opened = open_store(&self.store.config.database, COMMAND_DEADLINE).await;
        match opened.unwrap_err() {
            StartError::Open { source, .. } => source.source().unwrap().to_string(),
            error => panic!("{error:?}"),
        }
    }

    /// That a start and the doctor say the same, which is this; what they advise.
    async fn is_told(&self, part: &str) -> String {
        let told = self.refused().await;
        let Store {
            config,
            clock,
            randomness,
            ..
        } = &self.store;
        let checks = examine(config, clock, randomness).await;
        let found = checks.iter().find(|check| check.check == "store").unwrap();
        assert_eq!(found.status, Status::Failed, "{found:?}");
        assert!(found.detail.contains(part), "{found:?}");
        let advice = found.advice.clone().unwrap();
        assert!(told.contains(part) && told.contains(&advice), "{told}");
        advice
    }

    /// Does as it was told, as the superuser; then all is well.
    async fn is_helped_by(&self, statements: &str) {
        self.owner.execute(statements).await.unwrap();
        self.works().await;
    }

    async fn works(&self) {
        let database = self.store.open().await;
        let instance = Instance::new(&self.store, database);
        let (site_id, _) = instance.create_site().await;
        instance.issue(site_id).await;
    }
}

/// A store that makes ids of its own each time.
fn named(url: &str) -> Store {
    let mut store = Store::new(url, None);
    store.randomness = Randomness::system();
    store
}

/// The first statement of an advice.
fn statement<'a>(advice: &'a str, begin: &str) -> &'a str {
    &advice[advice.find(begin).unwrap_or_else(|| panic!("{advice}"))..]
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_role_that_may_not_ask_for_the_system_is_told_what_to_grant() {
    let guest = Guest::new().await;
    guest.works().await;
    for function in ["pg_control_system()", "pg_walfile_name(pg_lsn)"] {
        let revoke = format!("REVOKE EXECUTE ON FUNCTION {function} FROM PUBLIC");
        guest.owner.execute(&revoke).await.unwrap();
        let advice = guest.is_told("permission denied for function").await;
        guest.is_helped_by(statement(&advice, "GRANT")).await;
        let undo = format!(
            "REVOKE EXECUTE ON FUNCTION pg_control_system(), pg_current_wal_lsn(), \
             pg_walfile_name(pg_lsn), pg_postmaster_start_time() FROM \"{}\"",
            guest.role
        );
        guest.owner.execute(&undo).await.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn settings_that_leave_a_role_only_reading_are_named() {
    let guest = Guest::new().await;
    guest.works().await;
    let role = &guest.role;
    let (_, database) = guest
        .owner
        .config
        .database
        .url
        .expose()
        .rsplit_once('/')
        .unwrap();
    for of in [
        format!("ROLE \"{role}\""),
        format!("DATABASE {database}"),
        format!("ROLE \"{role}\" IN DATABASE {database}"),
    ] {
        let set = format!(
            "SET TRANSACTION READ WRITE; ALTER {of} SET default_transaction_read_only = on"
        );
        guest.owner.execute(&set).await.unwrap();
        let advice = guest.is_told("default_transaction_read_only").await;
        let (reset, _) = advice.split_once(',').unwrap();
        guest
            .is_helped_by(&format!("SET TRANSACTION READ WRITE; {reset}"))
            .await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_role_that_may_make_no_tables_is_told_what_to_grant() {
    for change in [
        "REVOKE CREATE ON SCHEMA public FROM PUBLIC",
        "REVOKE ALL ON SCHEMA public FROM PUBLIC",
    ] {
        let guest = Guest::new().await;
        let (_, database) = guest
            .owner
            .config
            .database
            .url
            .expose()
            .rsplit_once('/')
            .unwrap();
        let owned = format!("ALTER DATABASE {database} OWNER TO postgres; {change}");
        guest.owner.execute(&owned).await.unwrap();
        let advice = guest.is_told("may").await;
        guest.is_helped_by(&advice).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_search_path_to_nowhere_is_told() {
    let guest = Guest::new().await;
    let role = &guest.role;
    for path in ["Mirrory", "\"a b\", \"$user\"", "\"$user\""] {
        let set = format!("ALTER ROLE \"{role}\" SET search_path = {path}");
        guest.owner.execute(&set).await.unwrap();
        let advice = guest.is_told("search_path").await;
        guest.is_helped_by(&advice).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn tables_of_another_owner_are_told() {
    let guest = Guest::new().await;
    guest.works().await;
    guest
        .owner
        .execute(
            "DO $$ DECLARE name TEXT; BEGIN \
               FOR name IN SELECT tablename FROM pg_tables WHERE schemaname = 'public' LOOP \
                 EXECUTE format('ALTER TABLE %I OWNER TO postgres', name); \
               END LOOP; END $$; \
             CREATE TABLE of_somebody_else ()",
        )
        .await
        .unwrap();
    let advice = guest.is_told("belong to others").await;
    assert!(!advice.contains("of_somebody_else"), "{advice}");
    guest.is_helped_by(&advice).await;
    let others = "SELECT count(*) FROM pg_tables WHERE schemaname = 'public' \
                  AND tablename <> 'of_somebody_else' AND tableowner = 'postgres'";
    assert_eq!(guest.owner.number(others).await, 0, "every table is known");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_database_that_lacks_characters_is_told_and_what_it_has_can_be_moved() {
    let cluster = shared();
    for encoding in ["LATIN1", "SQL_ASCII"] {
        let before = Guest::new().await;
        before.works().await;
        let role = &before.role;
        let name = format!("in_{encoding}").to_lowercase();
        let at = |name: &str| {
            let url = cluster.url(name);
            url.replace("postgres@", &format!("{role}@"))
        };
        let create = format!(
            "CREATE DATABASE {name} OWNER \"{role}\" ENCODING '{encoding}' LOCALE 'C' \
             TEMPLATE template0"
        );
        cluster.execute(&create).await;
        // As one has it that was accepted once.
        copy(
            cluster,
            before.store.config.database.url.expose(),
            &at(&name),
        );
        let guest = Guest {
            store: named(&at(&name)),
            owner: Store::new(&cluster.url(&name), None),
            role: role.clone(),
        };
        let advice = guest.is_told(encoding).await;
        let (create, _) = statement(&advice, "CREATE DATABASE")
            .split_once(',')
            .unwrap();
        cluster.execute(create).await;
        let moved = at(&format!("{name}_utf8"));
        copy(cluster, &at(&name), &moved);
        let moved = Guest {
            store: named(&moved),
            ..guest
        };
        moved.works().await;
        let sites = "SELECT count(*) FROM sites";
        assert_eq!(moved.store.number(sites).await, 2);
    }
}

/// Copies what a database has.
fn copy(cluster: &Cluster, from: &str, to: &str) {
    let dump = cluster
        .beside(&cluster.program("pg_dump"))
        .args(["-d", from])
        .output()
        .unwrap();
    assert!(dump.status.success(), "{dump:?}");
    let script = cluster.write("dump.sql", &String::from_utf8(dump.stdout).unwrap());
    let restored = cluster
        .beside(&cluster.program("psql"))
        .args(["-q", "-v", "ON_ERROR_STOP=1", "-d", to, "-f"])
        .arg(script)
        .output()
        .unwrap();
    assert!(restored.status.success(), "{restored:?}");
}
