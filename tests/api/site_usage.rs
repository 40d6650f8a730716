//! What a site has used, as those see it who run it.

use std::time::Duration;

use serde_json::json;

use crate::harness::{Store, TestApp};

on_both_stores! {
    usage_is_told_by_window_and_by_day,
}

async fn usage_is_told_by_window_and_by_day(store: Store) {
    let app = TestApp::start(store).await;
    let ada = app.manager("ada").await;
    let site = app.site_of(&ada).await;
    let issued = app.issue(&site).await;
    app.advance(Duration::from_hours(12));
    assert!(app.validate(&issued.token, "m").await.is_valid());
    app.issue(&site).await;
    app.state.ledger.flush().await.unwrap();
    let path = format!("/api/v1/sites/{}/usage", site.id);
    // Its access token has ended meanwhile.
    let ada = app.sign_in(&ada.person).await;
    let usage = app.signed_in(&ada, "GET", &path).send().await.ok();
    let day = json!({
        "limit": 5, "used": 2, "reserved": 0, "remaining": 3, "resets_at": "2026-11-17T00:00:00Z"
    });
    assert_eq!(usage["day"], day);
    assert_eq!(usage["month"]["used"], 3);
    assert_eq!(usage["month"]["resets_at"], "2026-12-01T00:00:00Z");
    let history = usage["history"].as_array().unwrap();
    assert_eq!(history.len(), 90);
    assert_eq!(
        history[0],
        json!({"date": "2026-11-16", "issued": 1, "validated": 1})
    );
    assert_eq!(
        history[1],
        json!({"date": "2026-11-15", "issued": 1, "validated": 0})
    );
    assert_eq!(
        history[89],
        json!({"date": "2026-08-19", "issued": 0, "validated": 0})
    );
}
