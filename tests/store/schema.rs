//! The tables: what each column takes, and what holds between rows.

use std::fmt::Write;

use mirrory::{config::DatabaseKind, store::changes::Actor, types::clock::Timestamp};

use crate::harness::{Store, commit, on_both_stores};

on_both_stores!(
    every_column_is_listed_here,
    a_row_needs_every_column_that_is_not_optional,
    a_number_is_no_text_and_an_id_no_number,
    no_two_rows_have_the_same_key,
    of_singletons_there_is_one,
    a_site_has_a_known_status,
    usage_is_never_below_zero,
    a_secret_belongs_to_a_site_and_goes_with_it,
    timestamps_come_back_to_the_microsecond,
);

/// What a column holds.
#[derive(Clone, Copy, PartialEq)]
pub enum Kind {
    Id,
    Bytes,
    Number,
    Text,
    OptionalId,
    OptionalNumber,
    OptionalText,
}
use Kind::{Bytes, Id, Number, OptionalId, OptionalNumber, OptionalText, Text};

pub struct Table {
    pub name: &'static str,
    key: &'static [&'static str],
    pub columns: &'static [(&'static str, Kind)],
}

const fn table(
    name: &'static str,
    key: &'static [&'static str],
    columns: &'static [(&'static str, Kind)],
) -> Table {
    Table { name, key, columns }
}

/// Parents before their children.
pub const TABLES: &[Table] = &[
    table(
        "change_counter",
        &["id"],
        &[("id", Number), ("seq", Number)],
    ),
    table(
        "changes",
        &["seq"],
        &[
            ("seq", Number),
            ("changed_at", Number),
            ("actor", Text),
            ("event", Text),
            ("subject", Text),
        ],
    ),
    table(
        "leases",
        &["name"],
        &[("name", Text), ("holder", Id), ("held_until", Number)],
    ),
    table(
        "store_clock",
        &["id"],
        &[("id", Number), ("seen_at", Number), ("beats", Number)],
    ),
    table(
        "database_server",
        &["id"],
        &[("id", Number), ("system", Number), ("timeline", Number)],
    ),
    table(
        "sites",
        &["site_id"],
        &[
            ("site_id", Id),
            ("name", Text),
            ("url", OptionalText),
            ("plan", Text),
            ("status", Text),
            ("created_at", Number),
            ("deleted_at", OptionalNumber),
            ("singleton", OptionalText),
            ("owner_id", OptionalId),
        ],
    ),
    table(
        "proxy_secrets",
        &["secret_id"],
        &[
            ("secret_id", Id),
            ("site_id", Id),
            ("digest", Bytes),
            ("created_at", Number),
            ("expires_at", OptionalNumber),
        ],
    ),
    table(
        "data_keys",
        &["id"],
        &[("id", Number), ("wrapped", Bytes), ("created_at", Number)],
    ),
    table(
        "signing_keys",
        &["kid"],
        &[
            ("kid", Text),
            ("algorithm", Text),
            ("sealed", Bytes),
            ("created_at", Number),
            ("signs_from", Number),
            ("verifies_until", OptionalNumber),
            ("revoked_at", OptionalNumber),
            ("singleton", OptionalText),
        ],
    ),
    table(
        "usage",
        &["site_id"],
        &[
            ("site_id", Id),
            ("day", Number),
            ("day_used", Number),
            ("month", Number),
            ("month_used", Number),
            ("day_reserved", Number),
            ("month_reserved", Number),
            ("resets", Number),
        ],
    ),
    table(
        "usage_history",
        &["site_id", "day"],
        &[
            ("site_id", Id),
            ("day", Number),
            ("issued", Number),
            ("validated", Number),
        ],
    ),
    table(
        "tokens",
        &["token_id"],
        &[
            ("token_id", Id),
            ("site_id", Id),
            ("user_id", Number),
            ("coins", Number),
            ("issued_at", Number),
            ("expires_at", Number),
            ("machine_id", OptionalText),
            ("bound_at", OptionalNumber),
            ("revoked_at", OptionalNumber),
            ("last_validated_at", OptionalNumber),
        ],
    ),
    table(
        "idempotency_keys",
        &["site_id", "key_digest"],
        &[
            ("site_id", Id),
            ("key_digest", Bytes),
            ("request_digest", Bytes),
            ("token_id", Id),
            ("created_at", Number),
        ],
    ),
    table(
        "audit_log",
        &["audit_id"],
        &[
            ("audit_id", Id),
            ("happened_at", Number),
            ("event", Text),
            ("actor_kind", Text),
            ("actor_id", OptionalText),
            ("actor_account_id", OptionalId),
            ("subject", OptionalText),
            ("account_id", OptionalId),
            ("site_id", OptionalId),
            ("address", OptionalText),
            ("user_agent", OptionalText),
            ("outcome", Text),
            ("detail", Text),
            ("count", Number),
            ("tally", OptionalText),
        ],
    ),
    table(
        "accounts",
        &["account_id"],
        &[
            ("account_id", Id),
            ("email", Text),
            ("email_key", Text),
            ("username", OptionalText),
            ("username_key", OptionalText),
            ("name", OptionalText),
            ("role", Text),
            ("status", Text),
            ("password_hash", Text),
            ("created_at", Number),
            ("signed_in_at", OptionalNumber),
        ],
    ),
    table(
        "sessions",
        &["session_id"],
        &[
            ("session_id", Id),
            ("account_id", Id),
            ("kind", Text),
            ("generation", Number),
            ("rotated_at", Number),
            ("address", OptionalText),
            ("user_agent", OptionalText),
            ("created_at", Number),
            ("last_used_at", Number),
            ("expires_at", Number),
        ],
    ),
    table(
        "two_factor",
        &["account_id"],
        &[
            ("account_id", Id),
            ("sealed", Bytes),
            ("created_at", Number),
            ("confirmed_at", OptionalNumber),
            ("last_step", Number),
            ("failures", Number),
            ("locked_until", OptionalNumber),
            ("locks", OptionalNumber),
        ],
    ),
    table(
        "recovery_codes",
        &["account_id", "digest"],
        &[("account_id", Id), ("digest", Bytes)],
    ),
    table(
        "api_tokens",
        &["token_id"],
        &[
            ("token_id", Id),
            ("account_id", Id),
            ("name", Text),
            ("scopes", Text),
            ("digest", Bytes),
            ("created_at", Number),
            ("expires_at", OptionalNumber),
            ("last_used_at", OptionalNumber),
        ],
    ),
];

/// An id that ends in `last`.
fn id(store: &Store, last: u8) -> String {
    match store.kind() {
        DatabaseKind::Postgres => format!("'00000000-0000-7000-8000-0000000000{last:02x}'"),
        DatabaseKind::Sqlite => format!("x'000000000000700080000000000000{last:02x}'"),
    }
}

fn literal(store: &Store, column: &str, kind: Kind) -> String {
    match (column, kind) {
        ("status", _) => "'active'".to_owned(),
        ("role", _) => "'owner'".to_owned(),
        ("kind", _) => "'one_hour'".to_owned(),
        ("outcome", _) => "'success'".to_owned(),
        (_, Id | OptionalId) => id(store, 1),
        (_, Bytes) => match store.kind() {
            DatabaseKind::Postgres => r"'\xabcd'".to_owned(),
            DatabaseKind::Sqlite => "x'abcd'".to_owned(),
        },
        (_, Number | OptionalNumber) => "1".to_owned(),
        (_, Text | OptionalText) => "'text'".to_owned(),
    }
}

/// Inserts a good row, but for the values of `changed`.
pub async fn insert(
    store: &Store,
    table: &Table,
    changed: &[(&str, &str)],
) -> Result<(), sqlx::Error> {
    let [mut names, mut values] = [String::new(), String::new()];
    for (index, (column, kind)) in table.columns.iter().enumerate() {
        let comma = if index == 0 { "" } else { ", " };
        write!(names, "{comma}{column}").unwrap();
        let change = changed.iter().find(|(name, _)| name == column);
        let value = change.map_or_else(
            || literal(store, column, *kind),
            |(_, value)| (*value).to_owned(),
        );
        write!(values, "{comma}{value}").unwrap();
    }
    let sql = format!("INSERT INTO {} ({names}) VALUES ({values})", table.name);
    store.execute(&sql).await
}

/// The tables, empty, with what a row of `table` belongs to.
async fn emptied(store: &Store, table: &Table) {
    let mut sql = String::new();
    for table in TABLES.iter().rev() {
        write!(sql, "DELETE FROM {};", table.name).unwrap();
    }
    store.execute(&sql).await.unwrap();
    let parents: &[&str] = match table.name {
        "sites" | "sessions" | "two_factor" | "api_tokens" => &["accounts"],
        "proxy_secrets" => &["accounts", "sites"],
        "recovery_codes" => &["accounts", "two_factor"],
        _ => &[],
    };
    for parent in parents {
        insert(store, named(parent), &[]).await.unwrap();
    }
}

fn named(name: &str) -> &'static Table {
    TABLES.iter().find(|table| table.name == name).unwrap()
}

/// Every column that there is, as `table.column`, in order.
pub async fn columns(store: &Store) -> Vec<String> {
    let sql = match store.kind() {
        DatabaseKind::Postgres => {
            "SELECT table_name || '.' || column_name FROM information_schema.columns \
             JOIN pg_class ON oid = table_name::regclass AND NOT relispartition \
             WHERE table_schema = 'public' AND table_name NOT LIKE '\\_%'"
        }
        DatabaseKind::Sqlite => {
            "SELECT tables.name || '.' || columns.name FROM sqlite_schema AS tables, \
             pragma_table_info(tables.name) AS columns \
             WHERE tables.type = 'table' AND tables.name NOT GLOB '_sqlx*'"
        }
    };
    let mut found: Vec<String> = store.column(sql).await;
    found.sort();
    found
}

async fn every_column_is_listed_here(store: Store) {
    store.open().await;
    let mut listed: Vec<String> = TABLES
        .iter()
        .flat_map(|table| {
            table
                .columns
                .iter()
                .map(|(column, _)| format!("{}.{column}", table.name))
        })
        .collect();
    listed.sort();
    assert_eq!(columns(&store).await, listed);
}

async fn a_row_needs_every_column_that_is_not_optional(store: Store) {
    store.open().await;
    for table in TABLES {
        for (column, kind) in table.columns {
            // SQLite numbers the rows of such a table by itself; nothing here relies on it.
            if store.kind() == DatabaseKind::Sqlite && *kind == Number && table.key == [*column] {
                continue;
            }
            emptied(&store, table).await;
            let inserted = insert(&store, table, &[(column, "NULL")]).await;
            let optional = matches!(kind, OptionalId | OptionalNumber | OptionalText);
            assert_eq!(
                inserted.is_ok(),
                optional,
                "{}.{column}: {inserted:?}",
                table.name
            );
        }
    }
}

async fn a_number_is_no_text_and_an_id_no_number(store: Store) {
    store.open().await;
    for table in TABLES {
        for (column, kind) in table.columns {
            let wrong = match kind {
                Number | OptionalNumber => "'text'",
                Id | OptionalId | Bytes => "7",
                Text | OptionalText => continue,
            };
            emptied(&store, table).await;
            let inserted = insert(&store, table, &[(column, wrong)]).await;
            assert!(inserted.is_err(), "{}.{column}", table.name);
        }
    }
}

async fn no_two_rows_have_the_same_key(store: Store) {
    store.open().await;
    for table in TABLES {
        emptied(&store, table).await;
        // What else must be unique stays out of the way.
        let others = ["singleton", "tally", "username_key"].map(|column| (column, "NULL"));
        insert(&store, table, &others).await.unwrap();
        let again = insert(&store, table, &others).await;
        assert!(again.is_err(), "{} {:?}", table.name, table.key);
    }
}

async fn of_singletons_there_is_one(store: Store) {
    store.open().await;
    for name in [
        "change_counter",
        "store_clock",
        "data_keys",
        "database_server",
    ] {
        emptied(&store, named(name)).await;
        insert(&store, named(name), &[]).await.unwrap();
        assert!(insert(&store, named(name), &[("id", "2")]).await.is_err());
    }
    for (name, key, second) in [
        ("sites", "site_id", id(&store, 2)),
        ("signing_keys", "kid", "'second'".to_owned()),
    ] {
        emptied(&store, named(name)).await;
        insert(&store, named(name), &[]).await.unwrap();
        assert!(
            insert(&store, named(name), &[(key, &second)])
                .await
                .is_err()
        );
        let plain = [(key, second.as_str()), ("singleton", "NULL")];
        insert(&store, named(name), &plain).await.unwrap();
    }
}

async fn a_site_has_a_known_status(store: Store) {
    store.open().await;
    for (status, known) in [
        ("active", true),
        ("suspended", true),
        ("Active", false),
        ("", false),
    ] {
        emptied(&store, named("sites")).await;
        let inserted = insert(
            &store,
            named("sites"),
            &[("status", &format!("'{status}'"))],
        )
        .await;
        assert_eq!(inserted.is_ok(), known, "{status}");
    }
}

async fn usage_is_never_below_zero(store: Store) {
    store.open().await;
    for column in ["day_used", "month_used", "day_reserved", "month_reserved"] {
        emptied(&store, named("usage")).await;
        assert!(
            insert(&store, named("usage"), &[(column, "-1")])
                .await
                .is_err()
        );
        insert(&store, named("usage"), &[(column, "0")])
            .await
            .unwrap();
    }
}

async fn a_secret_belongs_to_a_site_and_goes_with_it(store: Store) {
    store.open().await;
    let secrets = named("proxy_secrets");
    emptied(&store, secrets).await;
    assert!(
        insert(&store, secrets, &[("site_id", &id(&store, 9))])
            .await
            .is_err()
    );
    insert(&store, secrets, &[]).await.unwrap();
    store.execute("DELETE FROM sites").await.unwrap();
    assert_eq!(store.number("SELECT count(*) FROM proxy_secrets").await, 0);
}

async fn timestamps_come_back_to_the_microsecond(store: Store) {
    let instance = store.instance().await;
    let moments = [i64::MIN, -1, 0, 1, 1_798_761_599_999_999, i64::MAX];
    for moment in moments {
        store.hand.set_wall(Timestamp::from_micros(moment));
        let (site_id, _) = instance.create_site().await;
        let site = instance.sites.find(site_id).await.unwrap().unwrap();
        assert_eq!(site.created_at.as_micros(), moment);
        commit!(instance.database, |tx| instance.sites.suspend(
            tx,
            Actor::Operator,
            site_id
        ));
    }
    let stored: Vec<i64> = store
        .column("SELECT created_at FROM sites ORDER BY created_at")
        .await;
    assert_eq!(stored, moments);
}
