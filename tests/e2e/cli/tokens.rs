//! `mirrory token …` and `mirrory usage`

use serde_json::{Value, json};

use super::{MACHINE, assert_fields, follows, reason, reason_on};
use crate::harness::{Place, on_both_stores};

on_both_stores! {
    the_token_commands_print_what_they_promise_and_are_followed,
    usage_shows_both_windows,
}

const TOKEN: &[&str] = &[
    "token_id",
    "site_id",
    "user_id",
    "state",
    "machine_id",
    "last_validated_at",
    "coins",
    "issued_at",
    "expires_at",
];

async fn the_token_commands_print_what_they_promise_and_are_followed(place: Place) {
    let server = place.start().await;
    let site = place.create_site("developer");
    let mut client = server.client();
    let answer = client.generate(&site.secret, 7).await.ok();
    let (id, token) = (answer.field("token_id"), answer.field("token"));
    client.generate(&site.secret, 8).await.ok();

    let shown = place.ask(["token", "show", &id]);
    assert_fields(&shown, TOKEN);
    assert_eq!(shown["site_id"], site.id);
    assert_eq!(shown["user_id"], 7);
    assert_eq!(shown["state"], "active");
    assert_eq!(shown["machine_id"], Value::Null);
    assert_eq!(shown["last_validated_at"], Value::Null);
    assert_eq!(shown["coins"], 200);
    assert_eq!(shown["expires_at"], answer.field("expires_at"));
    let list = place.ask(["token", "list", "--site", &site.id]);
    assert_eq!(list.as_array().unwrap().len(), 2);
    assert_eq!(list[1], shown, "the newest first");
    let users = place.ask(["token", "list", "--site", &site.id, "--user", "7"]);
    assert_eq!(users, json!([shown]));

    assert!(client.validate(&token, MACHINE).await.is_valid());
    let bound = place.ask(["token", "show", &id]);
    assert_eq!(bound["machine_id"], MACHINE);
    assert!(bound["last_validated_at"].is_string(), "{bound}");
    assert_eq!(client.reason(&token, "other").await, "machine_mismatch");
    let released = place.ask(["token", "release", &id]);
    assert_eq!(released["machine_id"], Value::Null);
    assert_eq!(released["last_validated_at"], Value::Null);
    follows(String::new(), async || {
        reason_on("other", &server, &token).await
    })
    .await;
    assert_eq!(reason(&server, &token).await, "machine_mismatch");

    let revoked = place.ask(["token", "revoke", &id]);
    assert_fields(&revoked, TOKEN);
    assert_eq!(revoked["state"], "revoked");
    follows("revoked".into(), async || {
        reason_on("other", &server, &token).await
    })
    .await;
}

async fn usage_shows_both_windows(place: Place) {
    let server = place.start().await;
    let site = place.create_site("developer");
    let token = server.client().token(&site.secret).await;
    assert!(server.client().validate(&token, MACHINE).await.is_valid());
    let usage = place.ask(["usage", &site.id]);
    for (window, limit) in [("day", 20), ("month", 500)] {
        let window = &usage[window];
        assert_fields(
            window,
            &["limit", "used", "reserved", "remaining", "resets_at"],
        );
        assert_eq!(window["limit"], limit);
        assert_eq!(window["used"], 2);
        assert_eq!(window["reserved"], 0);
        assert_eq!(window["remaining"], limit - 2);
        assert!(
            window["resets_at"]
                .as_str()
                .unwrap()
                .ends_with("T00:00:00Z")
        );
    }
}
