//! The command line beside a running server, which follows each change within a second.

use std::time::Duration;

use serde_json::{Value, json};
use tokio::time::{Instant, sleep};

use crate::{
    client::Client,
    harness::{Place, Server, on_both_stores},
};

/// How soon a running server acts on a change.
const FOLLOWS_WITHIN: Duration = Duration::from_secs(1);

const MACHINE: &str = "machine";

on_both_stores! {
    the_site_commands_print_what_they_promise,
    suspending_and_resuming_are_followed,
    another_plan_is_followed_and_keeps_the_counters,
    deleting_a_site_ends_its_secrets_and_its_tokens,
    a_rotated_secret_goes_on_for_its_grace_and_no_longer,
    the_token_commands_print_what_they_promise_and_are_followed,
    usage_shows_both_windows,
    rotating_a_key_is_followed_and_old_tokens_stay_valid,
    revoking_the_signing_key_waits_for_its_successor,
    revoking_another_key_leaves_the_signing_one_alone,
    what_is_not_there_fails_with_1,
    healthcheck_asks_the_running_server,
    text_for_people_has_the_same_in_it,
}

/// Asks until the answer is there, for at most [`FOLLOWS_WITHIN`].
async fn follows<T: PartialEq + std::fmt::Debug>(expected: T, mut ask: impl AsyncFnMut() -> T) {
    let began = Instant::now();
    loop {
        let asked = began.elapsed();
        let found = ask().await;
        if found == expected {
            return;
        }
        assert!(asked < FOLLOWS_WITHIN, "{found:?}, not {expected:?}");
        sleep(Duration::from_millis(20)).await;
    }
}

async fn generate_status(server: &Server, secret: &str) -> u16 {
    server.client().generate(secret, 1).await.status
}

async fn reason(server: &Server, token: &str) -> String {
    server.client().reason(token, MACHINE).await
}

#[track_caller]
fn assert_fields(object: &Value, fields: &[&str]) {
    let mut expected = fields.to_vec();
    expected.sort_unstable();
    let found: Vec<_> = object.as_object().unwrap().keys().collect();
    assert_eq!(found, expected);
}

const SITE: &[&str] = &["id", "name", "url", "plan", "status", "created_at"];
const TOKEN: &[&str] = &[
    "token_id",
    "site_id",
    "user_id",
    "state",
    "machine_id",
    "coins",
    "issued_at",
    "expires_at",
];
const KEY: &[&str] = &["kid", "algorithm", "state", "created_at"];

async fn the_site_commands_print_what_they_promise(place: Place) {
    let _server = place.start().await;
    let url = "https://shop.example/";
    let created = place.ask(["site", "create", "--name", "Müller & Söhne", "--url", url]);
    assert_fields(&created, &[SITE, &["proxy_secret"]].concat());
    assert_eq!(created["name"], "Müller & Söhne");
    assert_eq!(created["url"], url);
    assert_eq!(created["plan"], "free");
    assert_eq!(created["status"], "active");
    let id = created["id"].as_str().unwrap();
    assert!(id.starts_with("site_") && id.len() == 31, "{id}");
    let at = created["created_at"].as_str().unwrap();
    assert!(at.len() == 20 && at.ends_with('Z'), "{at}");

    let mut shown = created.clone();
    shown.as_object_mut().unwrap().remove("proxy_secret");
    assert_eq!(place.ask(["site", "show", id]), shown);
    let list = place.ask(["site", "list"]);
    assert!(list.as_array().unwrap().contains(&shown), "{list}");
    shown["plan"] = json!("developer");
    assert_eq!(place.ask(["site", "set-plan", id, "developer"]), shown);
    shown["status"] = json!("suspended");
    assert_eq!(place.ask(["site", "suspend", id]), shown);
    assert_eq!(place.ask(["site", "suspend", id]), shown);
    shown["status"] = json!("active");
    assert_eq!(place.ask(["site", "resume", id]), shown);
    let rotated = place.ask(["site", "rotate-secret", id]);
    assert_fields(&rotated, &["id", "proxy_secret", "previous_expires_at"]);
    assert_eq!(place.ask(["site", "delete", id]), shown);
    let list = place.ask(["site", "list"]);
    assert!(!list.to_string().contains(id), "{list}");
}

async fn suspending_and_resuming_are_followed(place: Place) {
    let server = place.start().await;
    let site = place.create_site("developer");
    let token = server.client().token(&site.secret).await;
    place.ask(["site", "suspend", &site.id]);
    follows(403, async || generate_status(&server, &site.secret).await).await;
    follows("site_suspended".into(), async || {
        reason(&server, &token).await
    })
    .await;
    place.ask(["site", "resume", &site.id]);
    follows(200, async || generate_status(&server, &site.secret).await).await;
    follows(String::new(), async || reason(&server, &token).await).await;
}

async fn another_plan_is_followed_and_keeps_the_counters(place: Place) {
    let server = place.start().await;
    let site = place.create_site("free");
    for _ in 0..5 {
        assert_eq!(generate_status(&server, &site.secret).await, 200);
    }
    assert_eq!(generate_status(&server, &site.secret).await, 429);
    place.ask(["site", "set-plan", &site.id, "developer"]);
    follows(200, async || generate_status(&server, &site.secret).await).await;
    let usage = place.ask(["usage", &site.id]);
    assert_eq!(usage["day"]["used"], 6);
    place.ask(["site", "set-plan", &site.id, "free"]);
    follows(429, async || generate_status(&server, &site.secret).await).await;
}

async fn deleting_a_site_ends_its_secrets_and_its_tokens(place: Place) {
    let server = place.start().await;
    let site = place.create_site("free");
    let answer = server.client().generate(&site.secret, 1).await.ok();
    let token = answer.field("token");
    place.ask(["site", "delete", &site.id]);
    follows(401, async || generate_status(&server, &site.secret).await).await;
    follows("revoked".into(), async || reason(&server, &token).await).await;
    let shown = place.ask(["token", "show", &answer.field("token_id")]);
    assert_eq!(shown["state"], "revoked");
    assert_eq!(place.run(["site", "delete", &site.id]).code, Some(1));
}

async fn a_rotated_secret_goes_on_for_its_grace_and_no_longer(place: Place) {
    let server = place.start().await;
    let site = place.create_site("developer");
    let rotate = |grace: &str| {
        let rotated = place.ask(["site", "rotate-secret", &site.id, "--grace", grace]);
        assert_eq!(rotated["id"], site.id);
        assert!(rotated["previous_expires_at"].is_string(), "{rotated}");
        rotated["proxy_secret"].as_str().unwrap().to_owned()
    };
    let second = rotate("1h");
    follows(200, async || generate_status(&server, &second).await).await;
    assert_eq!(generate_status(&server, &site.secret).await, 200);
    // The newest old one goes on, any other ends.
    let third = rotate("1h");
    follows(401, async || generate_status(&server, &site.secret).await).await;
    assert_eq!(generate_status(&server, &second).await, 200);
    let fourth = rotate("0s");
    follows(401, async || generate_status(&server, &third).await).await;
    assert_eq!(generate_status(&server, &second).await, 401);
    let fifth = rotate("1s");
    follows(200, async || generate_status(&server, &fourth).await).await;
    sleep(Duration::from_secs(1)).await;
    assert_eq!(generate_status(&server, &fourth).await, 401);
    assert_eq!(generate_status(&server, &fifth).await, 200);
}

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
    assert_eq!(shown["coins"], 200);
    assert_eq!(shown["expires_at"], answer.field("expires_at"));
    let list = place.ask(["token", "list", "--site", &site.id]);
    assert_eq!(list.as_array().unwrap().len(), 2);
    assert_eq!(list[1], shown, "the newest first");
    let users = place.ask(["token", "list", "--site", &site.id, "--user", "7"]);
    assert_eq!(users, json!([shown]));

    assert!(client.validate(&token, MACHINE).await.is_valid());
    assert_eq!(place.ask(["token", "show", &id])["machine_id"], MACHINE);
    assert_eq!(client.reason(&token, "other").await, "machine_mismatch");
    let released = place.ask(["token", "release", &id]);
    assert_eq!(released["machine_id"], Value::Null);
    follows(String::new(), async || {
        client_reason(&server, &token, "other").await
    })
    .await;
    assert_eq!(reason(&server, &token).await, "machine_mismatch");

    let revoked = place.ask(["token", "revoke", &id]);
    assert_fields(&revoked, TOKEN);
    assert_eq!(revoked["state"], "revoked");
    follows("revoked".into(), async || {
        client_reason(&server, &token, "other").await
    })
    .await;
}

async fn client_reason(server: &Server, token: &str, machine: &str) -> String {
    server.client().reason(token, machine).await
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

/// The `kid` that a token was signed with.
fn kid(token: &str) -> String {
    let header = token.split('.').next().unwrap();
    let header = base64::Engine::decode(&base64::prelude::BASE64_URL_SAFE_NO_PAD, header).unwrap();
    let header: Value = serde_json::from_slice(&header).unwrap();
    header["kid"].as_str().unwrap().to_owned()
}

fn key_state(place: &Place, kid: &str) -> String {
    let keys = place.ask(["key", "list"]);
    let keys = keys.as_array().unwrap();
    let key = keys.iter().find(|key| key["kid"] == kid).unwrap();
    key["state"].as_str().unwrap().to_owned()
}

/// Issues tokens until one is signed by this key; each must be valid. How long it took.
async fn until_signed_by(client: &mut Client, secret: &str, expected: &str) -> Duration {
    let began = Instant::now();
    loop {
        let asked = began.elapsed();
        let token = client.token(secret).await;
        assert!(client.validate(&token, MACHINE).await.is_valid());
        if kid(&token) == expected {
            return asked;
        }
        assert!(asked < Duration::from_secs(4), "{expected} does not sign");
        sleep(Duration::from_millis(50)).await;
    }
}

async fn rotating_a_key_is_followed_and_old_tokens_stay_valid(place: Place) {
    let server = place.start().await;
    let site = place.create_site("enterprise");
    let mut client = server.client();
    let old = client.token(&site.secret).await;
    let made = place.ask(["key", "rotate", "--algorithm", "EdDSA"]);
    assert_fields(&made, KEY);
    assert_eq!(made["algorithm"], "EdDSA");
    assert_eq!(made["state"], "pending");
    let new = made["kid"].as_str().unwrap();
    let published = async || client_jwks(&server).await;
    follows(vec![new.to_owned()], published).await;
    until_signed_by(&mut client, &site.secret, new).await;
    assert!(client.validate(&old, MACHINE).await.is_valid());
    assert_eq!(key_state(&place, &kid(&old)), "verifying");
    assert_eq!(key_state(&place, new), "signing");
}

async fn client_jwks(server: &Server) -> Vec<String> {
    let jwks = server.client().get("/.well-known/jwks.json").await.unwrap();
    let keys = jwks.ok().body()["keys"].clone();
    let kid = |key: &Value| key["kid"].as_str().unwrap().to_owned();
    keys.as_array().unwrap().iter().map(kid).collect()
}

async fn revoking_the_signing_key_waits_for_its_successor(place: Place) {
    let server = place.start().await;
    let site = place.create_site("enterprise");
    let mut client = server.client();
    let old = client.token(&site.secret).await;
    let began = Instant::now();
    let revoked = place.ask(["key", "revoke", &kid(&old)]);
    assert!(
        began.elapsed() >= Duration::from_secs(2),
        "it waits for its successor"
    );
    assert_fields(&revoked, KEY);
    assert_eq!(revoked["state"], "revoked");
    follows("bad_signature".into(), async || reason(&server, &old).await).await;
    let new = client.token(&site.secret).await;
    assert_ne!(kid(&new), kid(&old));
    assert!(client.validate(&new, MACHINE).await.is_valid());
    assert_eq!(key_state(&place, &kid(&new)), "signing");
}

async fn revoking_another_key_leaves_the_signing_one_alone(place: Place) {
    let server = place.start().await;
    let site = place.create_site("enterprise");
    let mut client = server.client();
    let old = client.token(&site.secret).await;
    let made = place.ask(["key", "rotate"]);
    let new = made["kid"].as_str().unwrap();
    until_signed_by(&mut client, &site.secret, new).await;
    assert_eq!(place.ask(["key", "revoke", &kid(&old)])["state"], "revoked");
    follows("bad_signature".into(), async || reason(&server, &old).await).await;
    assert_eq!(kid(&client.token(&site.secret).await), new);
    assert_eq!(place.ask(["key", "list"]).as_array().unwrap().len(), 2);
}

async fn what_is_not_there_fails_with_1(place: Place) {
    let site = "site_00000000000000000000000000";
    let token = "019abf3e-7d2a-7c64-9a51-3f0e8a6b1c2d";
    for arguments in [
        &["site", "show", site][..],
        &["site", "suspend", site],
        &["site", "resume", site],
        &["site", "set-plan", site, "free"],
        &["site", "delete", site],
        &["site", "rotate-secret", site],
        &["token", "list", "--site", site],
        &["token", "show", token],
        &["token", "revoke", token],
        &["token", "release", token],
        &["usage", site],
        &["key", "revoke", "0000000000000000000000000c"],
    ] {
        let done = place.run(arguments.iter().chain(&["--json"]));
        assert_eq!(done.code, Some(1), "{arguments:?} {done:?}");
        let error = done.document()["error"].as_str().unwrap().to_owned();
        assert!(error.starts_with("there is no "), "{error}");
    }
}

async fn healthcheck_asks_the_running_server(place: Place) {
    let server = place.start().await;
    let address = server.address.to_string();
    let place = place.with("MIRRORY__SERVER__LISTEN", &address);
    let health = place.ask(["healthcheck"]);
    assert_eq!(health["status"], "healthy");
    assert_eq!(place.run(["healthcheck"]).code, Some(0));
    let anywhere = address.replace("127.0.0.1", "0.0.0.0");
    let place = place.with("MIRRORY__SERVER__LISTEN", &anywhere);
    assert_eq!(place.run(["healthcheck"]).code, Some(0));
    server.stop().await;
    let done = place.run(["healthcheck"]);
    assert_eq!(done.code, Some(1));
    assert!(
        done.complaint().contains("no answer from 127.0.0.1"),
        "{done:?}"
    );
}

async fn text_for_people_has_the_same_in_it(place: Place) {
    let server = place.start().await;
    let done = place.run(["site", "create", "--name", "Shop"]);
    assert_eq!((done.code, done.stderr.as_str()), (Some(0), ""), "{done:?}");
    let field = |name: &str| {
        let line = done.stdout.lines().find_map(|line| line.strip_prefix(name));
        line.unwrap_or_else(|| panic!("{name} in {done:?}"))
            .to_owned()
    };
    let (id, secret) = (field("id: "), field("proxy_secret: "));
    let issued = server.client().generate(&secret, 3).await.ok();
    let token = issued.field("token_id");
    let kid = kid(&issued.field("token"));
    for (arguments, expected) in [
        (&["site", "list"][..], [id.as_str(), "Shop"]),
        (&["site", "show", &id], ["status: active", "plan: free"]),
        (&["site", "suspend", &id], ["status: suspended", &id]),
        (&["site", "resume", &id], ["status: active", &id]),
        (
            &["site", "set-plan", &id, "developer"],
            ["plan: developer", &id],
        ),
        (&["token", "list", "--site", &id], [&token, "active"]),
        (&["token", "show", &token], ["user_id: 3", "coins: 200"]),
        (&["token", "release", &token], ["machine_id: -", &token]),
        (&["token", "revoke", &token], ["state: revoked", &token]),
        (&["usage", &id], ["day.used: 1", "month.limit: 500"]),
        (&["key", "list"], [&kid, "signing"]),
        (&["key", "rotate"], ["algorithm: HS256", "state: pending"]),
        (
            &["site", "rotate-secret", &id],
            ["proxy_secret: mps_", "previous_expires_at: 2"],
        ),
        (&["site", "delete", &id], ["status: active", &id]),
        (&["migrate"], ["up to date", ""]),
    ] {
        let done = place.run(arguments);
        assert_eq!((done.code, done.stderr.as_str()), (Some(0), ""), "{done:?}");
        for expected in expected {
            assert!(done.stdout.contains(expected), "{expected} in {done:?}");
        }
    }
}

#[test]
fn wrong_usage_ends_with_2_and_touches_nothing() {
    let place = Place::sqlite();
    let site = "site_00000000000000000000000000";
    for arguments in [
        &["nonsense"][..],
        &["site"],
        &["site", "create"],
        &["site", "create", "--name", "Shop", "--plan", "nonsense"],
        &["site", "set-plan", site, "nonsense"],
        &["site", "show", "nonsense"],
        &["site", "rotate-secret", site, "--grace", "8d"],
        &["token", "list"],
        &["token", "show", "nonsense"],
        &["token", "list", "--site", site, "--user", "0"],
        &["key", "rotate", "--algorithm", "none"],
        &["key", "revoke", "n o"],
        &["serve", "--nonsense"],
    ] {
        let done = place.run(arguments);
        assert_eq!(done.code, Some(2), "{arguments:?} {done:?}");
        assert_eq!(done.stdout, "");
        assert!(!done.stderr.is_empty());
    }
    assert!(!place.work().join("data").exists());
    for arguments in [
        &["site", "create", "--name", ""][..],
        &[
            "site",
            "create",
            "--name",
            "Shop",
            "--url",
            "ftp://shop.example",
        ],
    ] {
        let done = place.run(arguments);
        assert_eq!(done.code, Some(2), "{arguments:?} {done:?}");
    }
    assert_eq!(place.ask(["site", "list"]), json!([]));
}

#[test]
fn openapi_is_a_document_and_needs_no_store() {
    let place = Place::sqlite();
    let document = place.ask(["openapi"]);
    assert!(document["openapi"].as_str().unwrap().starts_with("3.1"));
    let text = place.run(["openapi"]);
    assert_eq!((text.code, text.document()), (Some(0), document));
    assert!(!place.work().join("data").exists());
}

#[tokio::test(flavor = "multi_thread")]
async fn the_served_openapi_document_is_the_printed_one() {
    let place = Place::sqlite();
    let server = place.start().await;
    let served = server.client().get("/openapi.json").await.unwrap().ok();
    assert_eq!(served.body(), place.ask(["openapi"]));
}
