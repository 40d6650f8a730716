//! The command line beside a running server, which follows each change within a second.

pub mod accounts;
mod api_tokens;
mod audit;
mod keys;
mod master_key;
mod sites;
mod tokens;

use std::{
    fs::{self, File},
    io,
    process::Stdio,
    time::Duration,
};

use base64::{Engine, prelude::BASE64_URL_SAFE_NO_PAD};
use serde_json::{Value, json};
use tokio::time::{Instant, sleep};

use crate::{
    harness::{Place, on_both_stores},
    server::Server,
};

/// How soon a running server acts on a change.
const FOLLOWS_WITHIN: Duration = Duration::from_secs(1);

const MACHINE: &str = "machine";

on_both_stores! {
    what_is_not_there_fails_with_1,
    healthcheck_asks_the_running_server,
    text_for_people_has_the_same_in_it,
}

/// Asks until the answer is there, for at most [`FOLLOWS_WITHIN`].
pub async fn follows<T: PartialEq + std::fmt::Debug>(expected: T, mut ask: impl AsyncFnMut() -> T) {
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
    reason_on(MACHINE, server, token).await
}

async fn reason_on(machine: &str, server: &Server, token: &str) -> String {
    server.client().reason(token, machine).await
}

/// The `kid` that a token was signed with.
fn kid(token: &str) -> String {
    let header = token.split('.').next().unwrap();
    let header = BASE64_URL_SAFE_NO_PAD.decode(header).unwrap();
    let header: Value = serde_json::from_slice(&header).unwrap();
    header["kid"].as_str().unwrap().to_owned()
}

#[track_caller]
fn assert_fields(object: &Value, fields: &[&str]) {
    let mut expected = fields.to_vec();
    expected.sort_unstable();
    let found: Vec<_> = object.as_object().unwrap().keys().collect();
    assert_eq!(found, expected);
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
        &["site", "assign", site, token],
        &["token", "list", "--site", site],
        &["token", "show", token],
        &["token", "revoke", token],
        &["token", "release", token],
        &["api-token", "revoke", token],
        &["api-token", "list", "--account", token],
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
    let signed_by = kid(&issued.field("token"));
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
        (&["key", "list"], [&signed_by, "signing"]),
        (&["key", "rotate"], ["algorithm: HS256", "state: pending"]),
        (
            &["site", "rotate-secret", &id],
            ["proxy_secret: mps_", "previous_expires_at: 2"],
        ),
        (&["site", "delete", &id], ["status: deleted", &id]),
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
        &["site", "assign", site, "nonsense"],
        &["audit", "list", "--since", "yesterday"],
        &["audit", "list", "--site", "nonsense"],
        &["key", "rotate-master", "--new-key-file", "no-such-file"],
        &["key", "rotate-master", "--new-key-file", "-"],
        &["serve", "--nonsense"],
        &["site", "create", "--name", ""],
        &["site", "create", "--name", "Shop", "--url", "ftp://shop"],
    ] {
        let done = place.run(arguments);
        assert_eq!(done.code, Some(2), "{arguments:?} {done:?}");
        assert_eq!(done.stdout, "");
        assert!(!done.stderr.is_empty());
    }
    assert!(!place.work().join("data").exists());
}

#[test]
fn a_store_that_is_missing_is_told_and_not_made() {
    let place = Place::sqlite();
    let site = "site_00000000000000000000000000";
    let token = "019abf3e-7d2a-7c64-9a51-3f0e8a6b1c2d";
    for arguments in [
        &["site", "list"][..],
        &["site", "show", site],
        &["site", "set-plan", site, "free"],
        &["site", "suspend", site],
        &["site", "resume", site],
        &["site", "delete", site],
        &["site", "rotate-secret", site],
        &["token", "list", "--site", site],
        &["token", "show", token],
        &["token", "revoke", token],
        &["token", "release", token],
        &["usage", site],
        &["key", "list"],
        &["key", "rotate"],
        &["key", "revoke", "0000000000000000000000000c"],
        &["key", "rotate-master"],
        &["site", "assign", site, token],
        &["audit", "list"],
        &["export"],
    ] {
        let done = place.run(arguments);
        assert_eq!(done.code, Some(1), "{arguments:?} {done:?}");
        let complaint = done.complaint();
        assert!(
            complaint.starts_with("mirrory: there is no store /")
                && complaint.ends_with("`mirrory migrate` makes a new one"),
            "{complaint}"
        );
        assert_eq!(fs::read_dir(place.work()).unwrap().count(), 0);
    }
    assert_eq!(place.run(["migrate"]).code, Some(0));
    assert_eq!(place.ask(["site", "list"]), json!([]));
    let other = Place::sqlite();
    other.create_site("free");
    assert_eq!(other.ask(["site", "list"]).as_array().unwrap().len(), 1);
}

#[test]
fn a_command_that_nobody_hears_fails_and_does_not_panic() {
    let place = Place::sqlite();
    let deaf = || {
        let (reader, writer) = io::pipe().unwrap();
        drop(reader);
        let full = File::options().write(true).open("/dev/full").unwrap();
        [Stdio::from(writer), Stdio::from(full)]
    };
    for arguments in [
        &["openapi"][..],
        &["openapi", "--json"],
        &["config"],
        &["site", "list", "--json"],
    ] {
        for stdout in deaf() {
            let mut command = place.program(arguments);
            let status = command.stdout(stdout).stderr(Stdio::null()).status();
            assert_eq!(status.unwrap().code(), Some(1), "{arguments:?}");
        }
        for (stdout, stderr) in deaf().into_iter().zip(deaf()) {
            let mut command = place.program(arguments);
            let status = command.stdout(stdout).stderr(stderr).status();
            assert_eq!(status.unwrap().code(), Some(1), "{arguments:?}, all deaf");
        }
    }
}

#[test]
fn a_command_whose_reader_has_enough_says_nothing() {
    let place = Place::sqlite();
    place.create_site("free");
    for arguments in [
        &["openapi"][..],
        &["config"],
        &["site", "list", "--json"],
        &["export"],
    ] {
        let (reader, writer) = io::pipe().unwrap();
        drop(reader);
        let mut command = place.program(arguments);
        let output = command.stdout(writer).stderr(Stdio::piped()).output();
        let output = output.unwrap();
        let stderr = String::from_utf8_lossy(&output.stderr);
        assert!(!stderr.contains("ipe"), "{arguments:?}: {stderr}");
        assert_eq!(output.status.code(), Some(1), "{arguments:?}");
    }
}

#[test]
fn a_change_whose_reader_has_gone_is_made_and_says_that_nobody_was_told() {
    let place = Place::sqlite();
    let (reader, writer) = io::pipe().unwrap();
    drop(reader);
    let mut command = place.program(["site", "create", "--name", "Shop"]);
    let output = command.stdout(writer).stderr(Stdio::piped()).output();
    let output = output.unwrap();
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert!(stderr.contains("nobody was told"), "{stderr}");
    assert_eq!(output.status.code(), Some(1));
    assert!(place.run(["site", "list"]).stdout.contains("Shop"));
}

#[test]
fn openapi_is_a_document_and_needs_no_store() {
    let place = Place::sqlite();
    let document = place.ask(["openapi"]);
    assert!(document["openapi"].as_str().unwrap().starts_with("3.1"));
    let done = place.run(["openapi"]);
    assert_eq!((done.code, done.document()), (Some(0), document));
    assert!(!place.work().join("data").exists());
}

#[tokio::test(flavor = "multi_thread")]
async fn the_served_openapi_document_is_the_printed_one() {
    let place = Place::sqlite();
    let server = place.start().await;
    let answer = server.client().get("/openapi.json").await.unwrap().ok();
    assert_eq!(answer.body(), place.ask(["openapi"]));
}
