//! `mirrory account …`

use std::{
    fs::{self, File},
    process::Stdio,
};

use serde_json::{Value, json};

use super::assert_fields;
use crate::{
    harness::{Done, Place, on_both_stores},
    server::Server,
};

on_both_stores! {
    the_account_commands_print_what_they_promise_and_are_followed,
    an_account_that_cannot_be_made_is_refused_with_a_reason,
    no_password_is_said_anywhere,
}

const ACCOUNT: &[&str] = &[
    "id",
    "email",
    "username",
    "name",
    "role",
    "status",
    "two_factor",
    "created_at",
];

pub const PASSWORD: &str = "correct horse battery";

/// Runs a command that reads a password from its stdin.
pub fn with_password(place: &Place, arguments: &[&str], password: &str) -> Done {
    let file = place.work().join("password");
    fs::write(&file, format!("{password}\n")).unwrap();
    let mut command = place.program(arguments);
    command.args(["--password-stdin", "--json"]);
    command.stdin(Stdio::from(File::open(&file).unwrap()));
    let done = place.finish(command);
    fs::remove_file(file).unwrap();
    done
}

pub fn create(place: &Place, arguments: &[&str]) -> Value {
    let arguments = [&["account", "create"], arguments].concat();
    let done = with_password(place, &arguments, PASSWORD);
    assert_eq!(done.code, Some(0), "{done:?}");
    done.document()
}

async fn status(server: &Server, password: &str) -> u16 {
    let body = json!({"email": "ada@shop.example", "password": password});
    let answer = server.client().post("/api/v1/jwt", &[], &body).await;
    answer.unwrap().status
}

async fn the_account_commands_print_what_they_promise_and_are_followed(place: Place) {
    let server = place.start().await;
    let made = create(
        &place,
        &["--email", "ada@shop.example", "--username", "ada"],
    );
    assert_fields(&made, ACCOUNT);
    assert_eq!(made["role"], "owner");
    assert_eq!(made["status"], "active");
    let root = create(&place, &["--email", "root@x.example", "--role", "admin"]);
    assert_eq!(place.ask(["account", "list"]), json!([made, root]));

    let id = made["id"].as_str().unwrap();
    assert_eq!(status(&server, PASSWORD).await, 200);
    let disabled = place.ask(["account", "disable", id]);
    assert_eq!(disabled["status"], "disabled");
    assert_eq!(status(&server, PASSWORD).await, 401);
    let enabled = place.ask(["account", "enable", id]);
    assert_eq!(enabled, made);
    let reset = ["account", "reset-password", id];
    let done = with_password(&place, &reset, "another horse battery");
    assert_eq!(done.document(), made);
    assert_eq!(status(&server, PASSWORD).await, 401);
    assert_eq!(status(&server, "another horse battery").await, 200);
    assert_eq!(place.ask(["account", "reset-two-factor", id]), made);

    let last = root["id"].as_str().unwrap();
    let done = place.run(["account", "disable", last, "--json"]);
    assert_eq!(done.code, Some(1));
    let error = done.document()["error"].as_str().unwrap().to_owned();
    assert!(error.contains("last admin"), "{error}");
    server.stop().await;
}

async fn an_account_that_cannot_be_made_is_refused_with_a_reason(place: Place) {
    place.ask(["migrate"]);
    let refused = |arguments: &[&str], password: &str, code: i32, reason: &str| {
        let arguments = [&["account", "create"], arguments].concat();
        let done = with_password(&place, &arguments, password);
        assert_eq!(done.code, Some(code), "{done:?}");
        assert!(done.complaint().contains(reason), "{done:?}");
    };
    let email = ["--email", "ada@shop.example"];
    refused(&["--email", "ada"], PASSWORD, 2, "--email must be");
    refused(&email, "too short", 2, "at least 10 characters");
    refused(&email, "password123", 2, "commonest");
    let username = ["--email", "ada@shop.example", "--username", "a@b"];
    refused(&username, PASSWORD, 2, "--username must be");
    create(&place, &email);
    refused(&["--email", "ADA@shop.example"], PASSWORD, 1, "taken");
    let done = place.run(["account", "create", "--email", "bob@shop.example"]);
    assert_eq!(done.code, Some(2));
    assert!(done.complaint().contains("--password-stdin"), "{done:?}");
    let unknown = "019abf3e-7d2a-7c64-9a51-3f0e8a6b1c2d";
    let done = place.run(["account", "disable", unknown]);
    assert_eq!(done.code, Some(1));
    assert!(done.complaint().contains("no such account"), "{done:?}");
}

async fn no_password_is_said_anywhere(place: Place) {
    let place = place.with("RUST_LOG", "trace");
    let server = place.start().await;
    create(&place, &["--email", "ada@shop.example"]);
    let body = json!({"email": "ada@shop.example", "password": PASSWORD});
    let mut client = server.client();
    let answer = client.post("/api/v1/jwt", &[], &body).await.unwrap().ok();
    let refresh_token = answer.field("refresh_token");
    let body = json!({"refresh_token": refresh_token});
    let refreshed = client.post("/api/v1/jwt/refresh", &[], &body).await;
    let next = refreshed.unwrap().ok().field("refresh_token");
    assert_eq!(status(&server, "a wrong password").await, 401);
    server.stop().await;
    let secrets = [
        PASSWORD,
        "a wrong password",
        &answer.field("access_token"),
        &refresh_token,
        &next,
        "$argon2",
    ];
    for (file, said) in place.said() {
        for secret in secrets {
            assert!(!said.contains(secret), "{}", file.display());
        }
    }
}
