//! Moving house: what is exported comes back as it was, whatever happens on the way.

mod refusals;

use std::{collections::BTreeSet, sync::Arc};

use data_encoding::HEXLOWER;
use mirrory::{
    app::{StartError, open_state, rotate_master_key},
    config::DatabaseKind,
    doctor::{self, Status},
    moving::{self, Export, ImportError, Imported},
    store::{follower::Follower, freshness::Freshness},
    types::randomness::Randomness,
};
use serde_json::Value;
use sha2::{Digest, Sha256};

use crate::{
    harness::{Store, on_both_stores},
    household::Household,
    schema,
};

on_both_stores!(
    every_column_is_moved_or_left_behind_on_purpose,
    every_row_comes_back_as_it_was,
    what_was_issued_before_is_good_after,
    a_second_import_changes_nothing,
    an_import_that_was_cut_off_anywhere_goes_on,
    a_hundred_thousand_tokens_move,
    an_export_is_of_one_moment,
    an_export_of_an_older_version_is_read,
    instances_that_run_forget_what_they_know,
    no_server_starts_on_a_part_of_a_file,
);

/// Of one store and its instances, and of no use in another.
const LEFT_BEHIND: [&str; 5] = [
    "change_counter",
    "changes",
    "leases",
    "store_clock",
    "database_server",
];

/// An empty store of the other kind, that makes other ids and keys.
async fn other(store: &Store) -> Store {
    let mut other = match store.kind() {
        DatabaseKind::Postgres => Store::sqlite().await,
        DatabaseKind::Sqlite => Store::postgres().await,
    };
    other.randomness = Randomness::system();
    other
}

pub async fn export(store: &Store) -> String {
    let mut file = Vec::new();
    let export = Export::begin(&store.open().await).await.unwrap();
    let exported = export.write(&mut file, &store.clock, || ()).await;
    exported.unwrap();
    String::from_utf8(file).unwrap()
}

async fn import(store: &Store, file: &str) -> Result<Imported, ImportError> {
    let master_keys = mirrory::app::present_master_keys(&store.config).unwrap();
    moving::import(
        &store.open().await,
        file.as_bytes(),
        &master_keys,
        (&store.clock, &store.randomness),
        |_| (),
    )
    .await
}

/// The rows of a file, but those about imports.
pub fn rows(file: &str) -> Vec<Value> {
    let lines: Vec<&str> = file.lines().collect();
    let parse = |line: &&str| serde_json::from_str::<Value>(line).unwrap();
    let rows = lines[1..lines.len() - 1].iter().map(parse);
    rows.filter(|line| line["row"]["event"] != "store.imported")
        .collect()
}

/// Rows in every table that moves, with keys of their own.
pub async fn fill(store: &Store) {
    store.state().await;
    let (accounts, others): (Vec<_>, Vec<_>) = schema::TABLES
        .iter()
        .filter(|table| !LEFT_BEHIND.contains(&table.name) && table.name != "data_keys")
        .partition(|table| table.name == "accounts");
    for table in accounts.into_iter().chain(others) {
        let odd = match table.name {
            "audit_log" => &[("detail", r#"'{"a": "\"\\ü日本'' 	"}'"#)][..],
            "tokens" => &[
                ("user_id", "9223372036854775807"),
                ("last_validated_at", "NULL"),
            ],
            "signing_keys" => &[
                ("algorithm", "'HS256'"),
                ("verifies_until", "2"),
                ("singleton", "NULL"),
            ],
            "sites" => &[("name", "'7'"), ("url", "NULL")],
            _ => &[],
        };
        schema::insert(store, table, odd).await.unwrap();
    }
}

async fn every_column_is_moved_or_left_behind_on_purpose(store: Store) {
    store.open().await;
    let is_moved = |column: &String| {
        let (table, _) = column.split_once('.').unwrap();
        !LEFT_BEHIND.contains(&table)
    };
    let there: BTreeSet<_> = schema::columns(&store).await.into_iter().collect();
    let expected: BTreeSet<_> = there.into_iter().filter(is_moved).collect();
    assert_eq!(moving::columns().collect::<BTreeSet<_>>(), expected);
}

async fn every_row_comes_back_as_it_was(store: Store) {
    fill(&store).await;
    let exported = export(&store).await;
    let tables: BTreeSet<_> = rows(&exported)
        .iter()
        .map(|line| line["table"].to_string())
        .collect();
    assert_eq!(tables.len(), schema::TABLES.len() - LEFT_BEHIND.len());
    let target = other(&store).await;
    import(&target, &exported).await.unwrap();
    let moved = export(&target).await;
    assert_eq!(rows(&moved), rows(&exported));
    let back = other(&target).await;
    import(&back, &moved).await.unwrap();
    assert_eq!(rows(&export(&back).await), rows(&exported));
}

async fn what_was_issued_before_is_good_after(store: Store) {
    let household = Household::settle(&store).await;
    let target = other(&store).await;
    import(&target, &export(&store).await).await.unwrap();
    household.check(&target, |_| true).await;
    let keys = "SELECT count(*) FROM signing_keys";
    assert_eq!(target.number(keys).await, 1, "no other was made");
}

async fn a_second_import_changes_nothing(store: Store) {
    fill(&store).await;
    let file = export(&store).await;
    let target = other(&store).await;
    let first = import(&target, &file).await.unwrap();
    assert_eq!(first.inserted, first.rows.values().sum::<u64>());
    let before = rows(&export(&target).await);
    let second = import(&target, &file).await.unwrap();
    assert_eq!((second.inserted, second.rows), (0, first.rows));
    assert_eq!(rows(&export(&target).await), before);
    let told = "SELECT count(*) FROM audit_log WHERE event = 'store.imported' \
                AND actor_kind = 'operator'";
    assert_eq!(target.number(told).await, 2);
}

async fn an_import_that_was_cut_off_anywhere_goes_on(store: Store) {
    fill(&store).await;
    let file = export(&store).await;
    let target = other(&store).await;
    let ends: Vec<_> = file.match_indices('\n').map(|(end, _)| end + 1).collect();
    let last = ends.len() - 1;
    for (lines, end) in ends[..last].iter().enumerate() {
        // Between two lines, and in the middle of one.
        for cut in [*end, *end + 9] {
            let cut_off = import(&target, &file[..cut]).await;
            assert!(
                matches!(cut_off, Err(ImportError::Incomplete { line }) if line == lines as u64 + 1),
                "{cut}: {cut_off:?}"
            );
        }
    }
    let finished = import(&target, &file).await.unwrap();
    assert_eq!(finished.inserted, 0, "all of it was there by then");
    assert_eq!(rows(&export(&target).await), rows(&file));
}

const TOKENS: i64 = 100_000;

const TOKENS_OF_POSTGRES: &str = "\
INSERT INTO tokens (token_id, site_id, user_id, coins, issued_at, expires_at, machine_id, bound_at) \
SELECT (lpad(to_hex(number), 12, '0') || '7' || substr(md5(number::text), 1, 3) || '8' \
  || substr(md5(number::text), 4, 15))::uuid, md5((number % 100)::text)::uuid, number + 1, 200, \
  number, number, md5(number::text), number FROM generate_series(0, 99999) AS number";

const TOKENS_OF_SQLITE: &str = "\
WITH RECURSIVE numbers (number) AS \
  (SELECT 0 UNION ALL SELECT number + 1 FROM numbers WHERE number < 99999) \
INSERT INTO tokens (token_id, site_id, user_id, coins, issued_at, expires_at, machine_id, bound_at) \
SELECT unhex(printf('%012x7', number) || substr(hex(randomblob(2)), 1, 3) || '8' \
  || substr(hex(randomblob(8)), 1, 15)), unhex(printf('%032x', number % 100)), number + 1, 200, \
  number, number, hex(randomblob(16)), number FROM numbers";

async fn a_hundred_thousand_tokens_move(store: Store) {
    store.state().await;
    let tokens = match store.kind() {
        DatabaseKind::Postgres => TOKENS_OF_POSTGRES,
        DatabaseKind::Sqlite => TOKENS_OF_SQLITE,
    };
    store.execute(tokens).await.unwrap();
    let file = export(&store).await;
    let target = other(&store).await;
    let cut_off = import(&target, &file[..file.len() / 4]).await;
    assert!(matches!(cut_off, Err(ImportError::Incomplete { .. })));
    let there = target.number("SELECT count(*) FROM tokens").await;
    assert!((TOKENS / 8..TOKENS).contains(&there), "{there}");
    let imported = import(&target, &file).await.unwrap();
    assert_eq!(imported.rows["tokens"], TOKENS.unsigned_abs());
    assert_eq!(target.number("SELECT count(*) FROM tokens").await, TOKENS);
    // Bytes, and not values: it is the same text from either database.
    let moved = export(&target).await;
    let tokens = |line: &&str| line.starts_with(r#"{"table":"tokens""#);
    assert!(moved.lines().filter(tokens).eq(file.lines().filter(tokens)));
}

async fn an_export_is_of_one_moment(store: Store) {
    let (site_id, _) = store.instance().await.create_site().await;
    let database = store.open().await;
    let export = Export::begin(&database).await.unwrap();
    store.instance().await.issue(site_id).await;
    store.instance().await.create_site().await;
    let begun = export.rows();
    let mut file = Vec::new();
    let mut written = 0;
    let counting = || written += 1;
    let exported = export.write(&mut file, &store.clock, counting).await;
    let rows = exported.unwrap().rows;
    assert_eq!(rows.get("sites"), Some(&1));
    assert_eq!(rows.get("tokens"), None);
    assert_eq!((written, begun), (rows.values().sum(), written));
}

async fn an_export_of_an_older_version_is_read(store: Store) {
    fill(&store).await;
    let file = export(&store).await;
    let (rows, end) = file.trim_end().rsplit_once('\n').unwrap();
    let (header, rows) = rows.split_once('\n').unwrap();
    let mut header: Value = serde_json::from_str(header).unwrap();
    header["schema"] = 20_261_121_100_400_i64.into();
    let rows = rows.replace(r#","last_validated_at":null"#, "");
    let older = format!("{header}\n{rows}\n");
    let mut end: Value = serde_json::from_str(end).unwrap();
    end["end"]["sha256"] = HEXLOWER.encode(&Sha256::digest(&older)).into();
    let target = other(&store).await;
    import(&target, &format!("{older}{end}\n")).await.unwrap();
    let unused = "SELECT count(*) FROM tokens WHERE last_validated_at IS NULL";
    assert_eq!(target.number(unused).await, 1);
}

async fn instances_that_run_forget_what_they_know(store: Store) {
    store.open().await;
    let file = export(&store).await;
    let target = other(&store).await;
    let (state, freshness) = target.state().await;
    let (site_id, secret) = target.instance().await.create_site().await;
    let follower = Follower::new(
        state.database.clone(),
        target.clock.clone(),
        freshness,
        vec![Arc::new(state.sites.clone())],
    );
    follower.tick().await.unwrap();
    state.sites.authenticate(&secret).await.unwrap();
    assert!(
        state
            .sites
            .remembered(site_id, target.clock.monotonic())
            .is_some()
    );
    import(&target, &file).await.unwrap();
    follower.tick().await.unwrap();
    assert!(
        state
            .sites
            .remembered(site_id, target.clock.monotonic())
            .is_none()
    );
}

/// Whether a server would start, and the doctor finds nothing to say about imports.
async fn is_whole(store: &Store) -> bool {
    let checks = doctor::examine(&store.config, &store.clock, &store.randomness).await;
    let failed = checks.iter().find(|check| check.check == "import");
    let started = open_state(
        store.config.clone(),
        store.open().await,
        store.clock.clone(),
        store.randomness.clone(),
        Freshness::new(store.clock.clone()),
    )
    .await;
    match started {
        Ok(_) => assert_eq!(failed, None),
        Err(StartError::UnfinishedImport) => assert_eq!(failed.unwrap().status, Status::Failed),
        Err(error) => panic!("{error}"),
    }
    started.is_ok()
}

async fn no_server_starts_on_a_part_of_a_file(store: Store) {
    fill(&store).await;
    let file = export(&store).await;
    let target = other(&store).await;
    let cut_off = import(&target, &file[..file.len() - 30]).await;
    assert!(matches!(cut_off, Err(ImportError::Incomplete { .. })));
    let before = rows(&export(&target).await);
    assert!(!is_whole(&target).await);
    let database = target.open().await;
    let (config, clock, randomness) = (&target.config, &target.clock, &target.randomness);
    let rotated = rotate_master_key(config, &database, None, clock, randomness).await;
    assert!(matches!(rotated, Err(StartError::UnfinishedImport)));
    assert_eq!(rows(&export(&target).await), before);
    import(&target, &file).await.unwrap();
    assert!(is_whole(&target).await);
    // A store that is whole stays so, whatever else does not come into it.
    let cut_off = import(&target, &file[..file.len() - 30]).await;
    assert!(matches!(cut_off, Err(ImportError::Incomplete { .. })));
    assert!(is_whole(&target).await);
}
