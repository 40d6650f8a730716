//! The time of a last use, which is nothing that anybody is refused for.

use std::time::Duration;

use crate::harness::{Store, TestApp};

on_both_stores! {
    who_only_reads_is_served_also_when_the_last_use_cannot_be_written,
}

/// Lets no row of a table be written again.
async fn refuse_updates(app: &TestApp, store: Store, table: &str) {
    let refuse = match store {
        Store::Sqlite => format!(
            "CREATE TRIGGER refuse_{table} BEFORE UPDATE ON {table} \
             BEGIN SELECT RAISE(ABORT, 'refused'); END"
        ),
        Store::Postgres => format!("ALTER TABLE {table} ADD CHECK (account_id IS NULL) NOT VALID"),
    };
    app.execute(&refuse).await;
}

async fn who_only_reads_is_served_also_when_the_last_use_cannot_be_written(store: Store) {
    let app = TestApp::start(store).await;
    let ada = app.manager("ada").await;
    let script = app.script(&ada, &["sites:read"]).await;
    let used = async || {
        let uses = "SELECT last_used_at FROM sessions UNION ALL \
                    SELECT COALESCE(last_used_at, 0) FROM api_tokens ORDER BY 1";
        let uses = format!("SELECT CAST(last_used_at AS TEXT) FROM ({uses}) AS uses");
        app.column(&uses).await
    };
    let read = async || {
        app.see(&ada, "/api/v1/sites").await.ok();
        let call = app.scripted(&script, "GET", "/api/v1/sites");
        call.send().await.ok();
    };
    app.advance(Duration::from_mins(2));
    read().await;
    let before = used().await;
    let now = app.now().as_micros().to_string();
    assert_eq!(before, [now.clone(), now]);
    for table in ["sessions", "api_tokens"] {
        refuse_updates(&app, store, table).await;
    }
    app.advance(Duration::from_mins(2));
    read().await;
    assert_eq!(used().await, before);
}
