//! The first minutes with the service: an empty folder, no settings, the commands as printed.

use std::{
    fs,
    os::unix::fs::PermissionsExt,
    process::{Command, Stdio},
};

use serde_json::Value;

use crate::{
    harness::{MASTER_KEY, Place, free_address},
    postgres,
    server::Server,
};

const MACHINE: &str = "desktop-machine-uuid-1234567890";

/// Starts the program without arguments and without any environment but its port.
async fn start_bare(place: &Place) -> Server {
    let mut server = place.spawn_with([] as [&str; 0]);
    server.ready().await;
    server
}

/// The lines of stdout that are commands.
fn printed_commands(stdout: &str) -> Vec<&str> {
    let commands = stdout.lines().filter(|line| line.starts_with("curl "));
    commands.collect()
}

/// Runs a line in a plain shell, in the folder where the server runs.
fn in_shell(place: &Place, line: &str) -> Value {
    let output = Command::new("sh")
        .args(["-e", "-c", line])
        .current_dir(place.work())
        .stdin(Stdio::null())
        .output()
        .expect("sh starts");
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert!(
        !stderr.contains("curl: not found") && !stderr.contains("curl: command not found"),
        "curl is needed to run the commands that the service prints: install it"
    );
    assert!(output.status.success(), "{line}: {stderr}");
    serde_json::from_slice(&output.stdout).unwrap_or_else(|error| panic!("{line}: {error}"))
}

#[tokio::test(flavor = "multi_thread")]
async fn the_two_printed_commands_work_as_printed() {
    let place = Place::sqlite();
    let server = start_bare(&place).await;
    let stdout = server.stdout();
    let commands = printed_commands(&stdout);
    assert_eq!(commands.len(), 2, "{stdout}");

    let issued = in_shell(&place, commands[0]);
    assert_eq!(issued["user_id"], 12345);
    let verdict = in_shell(&place, commands[1]);
    assert_eq!(verdict["valid"], true, "{verdict}");
    assert_eq!(verdict["machine_id"], MACHINE);
    assert_eq!(verdict["expires_at"], issued["expires_at"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_secret_is_shown_on_stdout_on_the_first_start_alone() {
    let place = Place::sqlite();
    let server = start_bare(&place).await;
    let stdout = server.stdout();
    let line = stdout
        .lines()
        .find(|line| line.trim().starts_with("mps_"))
        .expect("the secret has a line of its own");
    let secret = line.trim();
    assert_eq!(secret.len(), 88);
    // Once to be copied, and once inside the command that uses it.
    assert_eq!(stdout.matches("mps_").count(), 2, "{stdout}");
    server.stop().await;

    let again = start_bare(&place).await;
    let stdout = again.stdout();
    assert!(!stdout.contains("mps_") && printed_commands(&stdout).is_empty());
    assert_eq!(again.client().generate(secret, 1).await.status, 200);
    for (file, text) in place.said() {
        let is_first_stdout = file.ends_with("000.stdout");
        assert_eq!(text.contains(secret), is_first_stdout, "{file:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn logs_are_on_stderr_and_nothing_else_is() {
    let place = Place::sqlite();
    let server = start_bare(&place).await;
    server.client().get("/livez").await.unwrap().ok();
    server.stop().await;
    let said = |end: &str| {
        let mut files = place.said().into_iter();
        files
            .find(|(file, _)| file.to_string_lossy().ends_with(end))
            .unwrap()
            .1
    };
    let (stdout, log) = (said(".stdout"), said(".stderr"));
    assert!(!stdout.contains("INFO") && !stdout.contains("timestamp"));
    assert!(log.lines().count() > 1);
    for line in log.lines() {
        let line: Value = serde_json::from_str(line).unwrap();
        assert!(line["message"].is_string(), "{line}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn with_json_stdout_is_one_document() {
    let place = Place::sqlite();
    let server = place.start().await;
    let first: Value = serde_json::from_str(&server.stdout()).unwrap();
    assert_eq!(first["url"], format!("http://{}", server.address));
    assert_eq!(first["site"]["plan"], "enterprise");
    let commands = first["commands"].as_array().unwrap();
    assert_eq!(commands.len(), 2);
    for (command, field) in commands.iter().zip(["token", "valid"]) {
        let answer = in_shell(&place, command.as_str().unwrap());
        assert!(!answer[field].is_null(), "{answer}");
    }
    server.stop().await;

    let server = place.start().await;
    let second: Value = serde_json::from_str(&server.stdout()).unwrap();
    let url = format!("http://{}", server.address);
    assert_eq!(second, serde_json::json!({ "url": url }));
}

#[tokio::test(flavor = "multi_thread")]
async fn the_master_key_file_is_for_its_owner_alone() {
    let place = Place::sqlite();
    let _server = place.start().await;
    let file = place.work().join("data/master.key");
    let mode = fs::metadata(file).unwrap().permissions().mode();
    assert_eq!(mode & 0o7777, 0o600);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lost_or_wrong_master_key_stops_the_start() {
    let place = Place::sqlite();
    let server = place.start().await;
    let token = server.client().token(&first_secret(&server)).await;
    server.stop().await;
    let file = place.work().join("data/master.key");
    let key = fs::read_to_string(&file).unwrap();

    fs::remove_file(&file).unwrap();
    let done = place.run(["serve"]);
    assert_eq!(done.code, Some(1));
    assert!(
        done.stderr.contains("the store's master key is missing"),
        "{done:?}"
    );
    assert!(
        !file.exists(),
        "a new key would hide that the old one is lost"
    );

    fs::write(&file, MASTER_KEY).unwrap();
    let done = place.run(["serve"]);
    assert_eq!(done.code, Some(1));
    assert!(done.stderr.contains("master key"), "{done:?}");
    assert!(!done.stderr.contains(MASTER_KEY));

    fs::write(&file, "no key").unwrap();
    let done = place.run(["serve"]);
    assert_eq!(done.code, Some(1));
    assert!(done.stderr.contains("master.key"), "{done:?}");

    fs::write(&file, key).unwrap();
    let server = place.start().await;
    assert!(server.client().validate(&token, MACHINE).await.is_valid());
}

fn first_secret(server: &Server) -> String {
    let document: Value = serde_json::from_str(&server.stdout()).unwrap();
    let secret = document["site"]["proxy_secret"].as_str();
    secret.unwrap().to_owned()
}

#[tokio::test(flavor = "multi_thread")]
async fn on_postgres_no_first_site_is_made() {
    let place = Place::postgres(postgres::shared()).await;
    let server = place.start().await;
    let document: Value = serde_json::from_str(&server.stdout()).unwrap();
    let url = format!("http://{}", server.address);
    assert_eq!(document, serde_json::json!({ "url": url }));
    assert_eq!(place.ask(["site", "list"]), serde_json::json!([]));
}

#[test]
fn postgres_without_a_master_key_is_refused_also_when_it_is_down() {
    let url = format!("postgres://someone:hunter2@{}/x", free_address());
    let place = Place::on_database(&url).without("MIRRORY__SECRETS__MASTER_KEY");
    let done = place.run(["serve"]);
    assert_eq!(done.code, Some(1));
    let line = done.complaint();
    assert!(line.contains("secrets.master_key must be set"), "{line}");
    assert!(!line.contains("hunter2"), "{line}");

    // The line that it names makes a key that is taken: what is missing then is the store alone.
    let begin = line.find("export ").expect("the line has a command in it");
    let export = &line[begin..];
    let made = Command::new("sh")
        .args(["-e", "-c"])
        .arg(format!(
            "{export}; printf %s \"$MIRRORY__SECRETS__MASTER_KEY\""
        ))
        .output()
        .unwrap();
    assert!(made.status.success(), "openssl is needed for {export}");
    let key = String::from_utf8(made.stdout).unwrap();
    let done = place
        .with("MIRRORY__SECRETS__MASTER_KEY", &key)
        .run(["serve"]);
    assert_eq!(done.code, Some(1));
    assert!(done.complaint().contains("cannot open the store"));
}

#[tokio::test(flavor = "multi_thread")]
async fn postgres_with_another_master_key_is_refused() {
    let place = Place::postgres(postgres::shared()).await;
    place.start().await.stop().await;
    let other = "AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=";
    let done = place
        .with("MIRRORY__SECRETS__MASTER_KEY", other)
        .run(["serve"]);
    assert_eq!(done.code, Some(1));
    assert!(done.complaint().contains("master key"), "{done:?}");
}
