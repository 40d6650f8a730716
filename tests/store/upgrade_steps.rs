//! Upgrades from every version: whichever migrations a store has, the others are applied to it with
//! all that lies in it, and that is still right.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt::Write,
    path::Path,
};

use mirrory::config::DatabaseKind;
use serde_json::Value;
use sqlx::{
    Connection, PgConnection, SqliteConnection,
    migrate::{Migration, Migrator},
};

use crate::{
    harness::{Store, on_both_stores},
    household::Household,
    moving::{export, fill, rows},
    schema::{self, Kind},
};

on_both_stores!(what_any_version_wrote_is_right_after_the_upgrade);

async fn what_any_version_wrote_is_right_after_the_upgrade(store: Store) {
    let household = Household::settle(&store).await;
    fill(&store).await;
    let written = rows(&export(&store).await);
    let migrator = migrator(&store).await;
    for count in 0..migrator.migrations.len() {
        let old = store.another().await;
        apply(&old, &migrator.migrations[..count]).await;
        let columns = BTreeSet::from_iter(schema::columns(&old).await);
        let before = insert(&old, &written, &columns).await;
        household
            .check(&old, |table| has_table(&columns, table))
            .await;
        let after = rows(&export(&old).await);
        for row in before {
            let newer = after.iter().find(|newer| is_in(&row, newer));
            assert!(newer.is_some(), "after {count} migrations: {row}");
        }
    }
}

/// The migrations as they lie in the folder.
async fn migrator(store: &Store) -> Migrator {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("migrations");
    let folder = match store.kind() {
        DatabaseKind::Postgres => folder.join("postgres"),
        DatabaseKind::Sqlite => folder.join("sqlite"),
    };
    Migrator::new(folder.as_path()).await.unwrap()
}

async fn apply(store: &Store, migrations: &[Migration]) {
    let migrator = Migrator {
        migrations: migrations.to_vec().into(),
        ..Migrator::DEFAULT
    };
    let url = store.config.database.url.expose();
    match store.kind() {
        DatabaseKind::Postgres => {
            let mut connection = PgConnection::connect(url).await.unwrap();
            migrator.run(&mut connection).await.unwrap();
            connection.close().await.unwrap();
        }
        DatabaseKind::Sqlite => {
            let path = url.trim_start_matches("sqlite://");
            std::fs::create_dir_all(Path::new(path).parent().unwrap()).unwrap();
            let created = format!("{url}?mode=rwc");
            let mut connection = SqliteConnection::connect(&created).await.unwrap();
            migrator.run(&mut connection).await.unwrap();
            connection.close().await.unwrap();
        }
    }
}

fn has_table(columns: &BTreeSet<String>, table: &str) -> bool {
    let prefix = format!("{table}.");
    columns.iter().any(|column| column.starts_with(&prefix))
}

/// Writes as much of each row as there are columns for; what was written.
async fn insert(store: &Store, rows: &[Value], columns: &BTreeSet<String>) -> Vec<Value> {
    let mut written = Vec::new();
    let mut sql = String::new();
    for line in rows {
        let table = line["table"].as_str().unwrap();
        if !has_table(columns, table) {
            continue;
        }
        let row = line["row"].as_object().unwrap();
        let row: BTreeMap<_, _> = row
            .iter()
            .filter(|(column, _)| columns.contains(&format!("{table}.{column}")))
            .collect();
        let names: Vec<_> = row.keys().map(|name| name.as_str()).collect();
        let values: Vec<_> = row
            .iter()
            .map(|(column, value)| literal(store.kind(), kind(table, column), value))
            .collect();
        let (names, values) = (names.join(", "), values.join(", "));
        writeln!(sql, "INSERT INTO {table} ({names}) VALUES ({values});").unwrap();
        written.push(serde_json::json!({ "table": table, "row": row }));
    }
    store.execute(&sql).await.unwrap();
    written
}

fn kind(table: &str, column: &str) -> Kind {
    let mut tables = schema::TABLES.iter();
    let table = tables.find(|known| known.name == table).unwrap();
    let mut columns = table.columns.iter();
    columns.find(|(name, _)| *name == column).unwrap().1
}

/// A value out of an export, in the SQL of a database.
fn literal(database: DatabaseKind, kind: Kind, value: &Value) -> String {
    let Some(text) = value.as_str() else {
        return value.to_string();
    };
    match (kind, database) {
        (Kind::Id | Kind::OptionalId | Kind::Bytes, DatabaseKind::Sqlite) => {
            format!("x'{}'", text.replace('-', ""))
        }
        (Kind::Bytes, DatabaseKind::Postgres) => format!(r"'\x{text}'"),
        _ => format!("'{}'", text.replace('\'', "''")),
    }
}

/// Whether a row holds all that an older one does.
fn is_in(older: &Value, newer: &Value) -> bool {
    let columns = older["row"].as_object().unwrap();
    older["table"] == newer["table"]
        && columns
            .iter()
            .all(|(column, value)| newer["row"][column] == *value)
}
