//! `mirrory api-token …`

use hyper::Method;
use serde_json::{Value, json};

use super::{
    accounts::{PASSWORD, create, with_password},
    assert_fields, follows,
};
use crate::{
    client::Answer,
    harness::{Place, on_both_stores},
    server::Server,
};

on_both_stores! {
    api_tokens_are_listed_and_revoked_and_the_server_follows,
    api_tokens_end_with_their_password_and_their_account,
}

const TOKEN: &[&str] = &[
    "id",
    "account_id",
    "name",
    "scopes",
    "created_at",
    "expires_at",
    "last_used_at",
];

async fn post(server: &Server, path: &str, authorization: &str, body: &Value) -> Answer {
    let headers = [("authorization", authorization)];
    let answer = server.client().post(path, &headers, body).await;
    answer.unwrap()
}

/// Makes an API token in the name of somebody; its id and the token.
async fn make(server: &Server, email: &str, password: &str) -> (String, String) {
    let body = json!({"email": email, "password": password});
    let signed_in = post(server, "/api/v1/jwt", "", &body).await.ok();
    let bearer = format!("Bearer {}", signed_in.field("access_token"));
    let body = json!({"name": "script", "scopes": ["sites:read"], "password": password});
    let made = post(server, "/api/v1/api-tokens", &bearer, &body).await;
    assert_eq!(made.status, 201, "{made:?}");
    (made.field("id"), made.field("token"))
}

/// What the API says to a token.
async fn status(server: &Server, token: &str) -> u16 {
    let authorization = format!("token {token}");
    let headers = [("authorization", &*authorization)];
    let mut client = server.client();
    let asked = client.send(Method::GET, "/api/v1/sites", &headers, "");
    asked.await.unwrap().status
}

async fn api_tokens_are_listed_and_revoked_and_the_server_follows(place: Place) {
    let server = place.start().await;
    let ids = ["ada", "bob"].map(|name| {
        let made = create(&place, &["--email", &format!("{name}@shop.example")]);
        made["id"].as_str().unwrap().to_owned()
    });
    assert_eq!(place.ask(["api-token", "list"]), json!([]));
    let (of_ada, token) = make(&server, "ada@shop.example", PASSWORD).await;
    let (of_bob, other) = make(&server, "bob@shop.example", PASSWORD).await;
    let listed = place.ask(["api-token", "list"]);
    let told: Vec<_> = listed
        .as_array()
        .unwrap()
        .iter()
        .map(|row| &row["id"])
        .collect();
    assert_eq!(told, [&json!(of_bob), &json!(of_ada)]);
    let listed = place.ask(["api-token", "list", "--account", &ids[0]]);
    assert_fields(&listed[0], TOKEN);
    assert_eq!(listed[0]["id"], of_ada);
    assert_eq!(listed[0]["account_id"], ids[0]);
    assert_eq!(listed[0]["scopes"], json!(["sites:read"]));
    assert_eq!(listed.as_array().unwrap().len(), 1);
    let shown = place.run(["api-token", "list"]).stdout;
    assert!(
        shown.contains("ACCOUNT_ID") && shown.contains(&of_bob),
        "{shown}"
    );

    assert_eq!(status(&server, &token).await, 200);
    let revoked = place.ask(["api-token", "revoke", &of_ada]);
    assert_fields(&revoked, TOKEN);
    assert_eq!(revoked["id"], of_ada);
    follows(401, async || status(&server, &token).await).await;
    assert_eq!(status(&server, &other).await, 200);
    let rows = place.ask(["audit", "list", "--event", "api_token.revoked"]);
    assert_eq!(rows[0]["subject"], of_ada);
    assert_eq!(rows[0]["actor"]["kind"], "operator");
    assert_eq!(rows[0]["account_id"], ids[0]);
    for (arguments, expected) in [
        (["api-token", "revoke", &of_ada], "there is no API token"),
        (["api-token", "revoke", "mat_x"], "invalid value"),
    ] {
        let done = place.run(arguments);
        assert_ne!(done.code, Some(0));
        assert!(done.stderr.contains(expected), "{done:?}");
    }
    let done = place.run(["api-token", "list", "--account", &of_bob]);
    assert_eq!(done.code, Some(1));
    assert!(done.complaint().contains("there is no account"), "{done:?}");
    server.stop().await;
}

async fn api_tokens_end_with_their_password_and_their_account(place: Place) {
    let server = place.start().await;
    let account = create(&place, &["--email", "ada@shop.example"]);
    let id = account["id"].as_str().unwrap();
    let (_, token) = make(&server, "ada@shop.example", PASSWORD).await;
    let reset = ["account", "reset-password", id];
    let done = with_password(&place, &reset, "another horse battery");
    assert_eq!(done.code, Some(0), "{done:?}");
    follows(401, async || status(&server, &token).await).await;
    let (_, token) = make(&server, "ada@shop.example", "another horse battery").await;
    place.ask(["account", "disable", id]);
    follows(401, async || status(&server, &token).await).await;
    place.ask(["account", "enable", id]);
    assert_eq!(status(&server, &token).await, 401);
    assert_eq!(place.ask(["api-token", "list"]), json!([]));
    let rows = place.ask(["audit", "list", "--event", "api_token.revoked"]);
    assert_eq!(rows.as_array().unwrap().len(), 2);
    server.stop().await;
}
