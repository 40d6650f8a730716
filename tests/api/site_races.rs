//! Changes of one site that race.

use serde_json::json;

use crate::harness::{Answer, Manager, Store, TestApp, TestSite};

on_both_stores! {
    two_rotations_of_one_secret_leave_two_live_ones,
    a_deletion_wins_over_a_rotation,
    an_account_that_goes_and_a_site_that_comes_exclude_each_other,
}

const ROUNDS: usize = 6;

async fn rotate(app: &TestApp, by: &Manager, site: &TestSite) -> Answer {
    let path = format!("/api/v1/sites/{}/rotate-secret", site.id);
    app.ask(&by.session, "POST", &path, json!({"grace_seconds": 3600}))
        .await
}

async fn is_live(app: &TestApp, site: &TestSite) -> bool {
    app.generate_for(site).await.status != 401
}

async fn two_rotations_of_one_secret_leave_two_live_ones(store: Store) {
    let app = TestApp::start(store).await;
    let ada = app.manager("ada").await;
    for _ in 0..ROUNDS {
        let first = app.site_of(&ada).await;
        let (one, other) = tokio::join!(rotate(&app, &ada, &first), rotate(&app, &ada, &first));
        let (one, other) = (TestSite::from(&one.ok()), TestSite::from(&other.ok()));
        app.tick().await;
        assert!(
            !is_live(&app, &first).await,
            "the oldest ended with the second rotation"
        );
        assert!(is_live(&app, &one).await && is_live(&app, &other).await);
        let live = format!(
            "SELECT CAST(count(*) AS TEXT) FROM proxy_secrets WHERE site_id = \
             (SELECT site_id FROM sites ORDER BY site_id DESC LIMIT 1) AND expires_at IS {}",
            "NULL"
        );
        assert_eq!(app.column(&live).await, ["1"], "one of them has no end");
    }
}

async fn a_deletion_wins_over_a_rotation(store: Store) {
    let app = TestApp::start(store).await;
    let ada = app.manager("ada").await;
    for _ in 0..ROUNDS {
        let site = app.site_of(&ada).await;
        let path = format!("/api/v1/sites/{}", site.id);
        let delete = app.signed_in(&ada.session, "DELETE", &path).send();
        let (rotated, deleted) = tokio::join!(rotate(&app, &ada, &site), delete);
        deleted.ok();
        app.tick().await;
        assert!(!is_live(&app, &site).await);
        match rotated.status {
            200 => assert!(!is_live(&app, &TestSite::from(&rotated.body)).await),
            _ => assert_eq!(rotated.problem(), (404, "not_found")),
        }
    }
}

async fn an_account_that_goes_and_a_site_that_comes_exclude_each_other(store: Store) {
    let app = TestApp::start(store).await;
    for round in 0..ROUNDS {
        let ada = app.manager(&format!("ada{round}")).await;
        let body = json!({"password": crate::harness::PASSWORD});
        let leave = app.ask(&ada.session, "DELETE", "/api/v1/account", body);
        let make = app.ask(
            &ada.session,
            "POST",
            "/api/v1/sites",
            json!({"name": "Shop"}),
        );
        let (left, begun) = tokio::join!(leave, make);
        let outcome = (left.status, begun.status);
        assert!(
            matches!(outcome, (200, 401) | (409, 201)),
            "{outcome:?} {} {}",
            left.body,
            begun.body
        );
    }
    let orphans = "SELECT name FROM sites WHERE owner_id IS NULL";
    assert_eq!(app.column(orphans).await, Vec::<String>::new());
}
