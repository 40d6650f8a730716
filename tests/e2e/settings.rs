//! Settings: where they come from, how bad ones are refused, and what `mirrory config` shows.

use std::fs;

use crate::{
    harness::{MASTER_KEY, Place, free_address},
    postgres,
    server::Server,
};

#[test]
fn a_bad_or_unknown_setting_stops_the_start_with_one_line_that_names_it() {
    for (variable, value, name) in [
        ("MIRRORY__SERVER__LISSTEN", "hunter2", "server.lissten"),
        ("MIRRORY__SERVER__LISTEN", "hunter2", "server.listen"),
        ("MIRRORY_SERVER_LISTEN", "hunter2", "server.listen"),
        (
            "MIRRORY__SECRETS__MASTER_KEY",
            "hunter2",
            "secrets.master_key",
        ),
        (
            "MIRRORY__BOOTSTRAP__PROXY_SECRET",
            "hunter2",
            "bootstrap.proxy_secret",
        ),
        ("MIRRORY__BOOTSTRAP__PLAN", "hunter2", "bootstrap.plan"),
        ("MIRRORY__TOKENS__TTL_SECONDS", "0", "tokens.ttl_seconds"),
        ("MIRRORY__TOKENS__ALGORITHM", "none", "tokens.algorithm"),
        (
            "MIRRORY__TELEMETRY__OTLP_ENDPOINT",
            "http://me:hunter2@collector.example",
            "telemetry.otlp_endpoint",
        ),
        (
            "DATABASE_URL",
            "mysql://root:hunter2@localhost/x",
            "database.url",
        ),
    ] {
        let place = Place::sqlite().with(variable, value);
        for arguments in [&["serve"][..], &["site", "list"], &["config"]] {
            let done = place.run(arguments);
            assert_eq!(done.code, Some(1), "{variable} {done:?}");
            assert_eq!(done.stdout, "");
            let line = done.complaint();
            assert!(line.contains(name), "{line}");
            assert!(!line.contains("hunter2"), "{line}");
        }
        assert!(!place.work().join("data").exists());
    }
}

#[test]
fn a_failure_with_json_is_one_document_too() {
    let done = Place::sqlite()
        .with("MIRRORY__SERVER__LISTEN", "nowhere")
        .run(["site", "list", "--json"]);
    assert_eq!(done.code, Some(1));
    let error = done.document();
    assert!(error["error"].as_str().unwrap().contains("server.listen"));
}

#[test]
fn the_file_is_named_by_an_option_or_the_environment_and_the_environment_goes_before_it() {
    let place = Place::sqlite();
    let one = place.work().join("one.toml");
    let other = place.work().join("other.toml");
    fs::write(&one, "[tokens]\nissuer = \"one\"\ncoins = 1\n").unwrap();
    fs::write(&other, "[tokens]\nissuer = \"other\"\n").unwrap();
    let issuer =
        |place: &Place, arguments: &[&str]| place.ask(arguments)["tokens"]["issuer"].clone();

    assert_eq!(issuer(&place, &["config"]), "mirrory");
    assert_eq!(issuer(&place, &["config", "--config", "one.toml"]), "one");
    let place = place.with("MIRRORY_CONFIG", one.to_str().unwrap());
    assert_eq!(issuer(&place, &["config"]), "one");
    assert_eq!(
        issuer(&place, &["--config", "other.toml", "config"]),
        "other"
    );
    let place = place.with("MIRRORY__TOKENS__ISSUER", "variable");
    let config = place.ask(["config"]);
    assert_eq!(config["tokens"]["issuer"], "variable");
    assert_eq!(config["tokens"]["coins"], 1);

    let done = place.run(["config", "--config", "missing.toml"]);
    assert_eq!(done.code, Some(1));
    assert!(done.complaint().contains("missing.toml"), "{done:?}");
}

#[test]
fn config_shows_secrets_as_such() {
    let place = Place::on_database("postgres://me:hunter2@db.example/mirrory").with(
        "MIRRORY__BOOTSTRAP__PROXY_SECRET",
        "a chosen secret of mine",
    );
    let config = place.ask(["config"]);
    assert_eq!(config["secrets"]["master_key"], "[secret]");
    assert_eq!(config["bootstrap"]["proxy_secret"], "[secret]");
    let url = config["database"]["url"].as_str().unwrap();
    assert!(url.contains("me:[secret]@db.example/mirrory"), "{url}");
    let sections = [
        "audit",
        "bootstrap",
        "database",
        "limits",
        "log",
        "plans",
        "secrets",
        "server",
        "telemetry",
        "tokens",
    ];
    assert!(config.as_object().unwrap().keys().eq(sections), "{config}");

    let text = place.run(["config"]);
    assert_eq!(text.code, Some(0));
    assert!(text.stdout.contains("[secret]") && text.stdout.contains("[plans.free]"));
    for (file, text) in place.said() {
        for secret in ["hunter2", MASTER_KEY, "a chosen secret of mine"] {
            assert!(!text.contains(secret), "{file:?}: {text}");
        }
    }
}

#[tokio::test]
async fn database_url_names_the_store() {
    let url = postgres::shared().create_database().await;
    let place = Place::on_database(&url);
    assert_eq!(
        place.ask(["migrate"]),
        serde_json::json!({"status": "migrated"})
    );
    assert!(!place.work().join("data").exists());
    let site = place.create_site("free");
    let again = Place::sqlite().with("MIRRORY__DATABASE__URL", &url);
    assert_eq!(again.ask(["site", "list"])[0]["id"], site.id);
}

#[tokio::test]
async fn a_command_tells_that_it_brought_the_tables_up_to_date() {
    let url = postgres::shared().create_database().await;
    let place = Place::on_database(&url);
    let done = place.run(["site", "list"]);
    assert_eq!(done.code, Some(0), "{done:?}");
    let line = done.complaint();
    assert!(line.contains("brought the tables up to date"), "{line}");
    assert!(line.contains("postgres://"), "{line}");
    assert_eq!(place.run(["site", "list"]).stderr, "");
}

#[tokio::test]
async fn no_server_begins_in_postgresql_without_the_master_key() {
    let url = postgres::shared().create_database().await;
    let place = Place::on_database(&url).without("MIRRORY__SECRETS__MASTER_KEY");
    let done = place.run(["serve"]);
    assert_eq!(done.code, Some(1), "{done:?}");
    let line = done.complaint();
    assert!(line.contains("secrets.master_key must be set"), "{line}");
    let checks = place.run(["doctor"]).stdout;
    assert!(checks.contains("not yet applied"), "{checks}");
    // A migration needs no more than the database.
    assert_eq!(place.run(["migrate"]).code, Some(0));
}

#[test]
fn a_store_that_is_down_stops_the_start_with_one_line() {
    let url = format!("postgres://me:hunter2@{}/x", free_address());
    let place = Place::on_database(&url);
    for arguments in [&["serve"][..], &["migrate"], &["site", "list"]] {
        let done = place.run(arguments);
        assert_eq!(done.code, Some(1), "{done:?}");
        let line = done.complaint();
        assert!(line.contains("cannot open the store"), "{line}");
        assert!(!line.contains("hunter2"), "{line}");
    }
}

#[tokio::test]
async fn a_refusal_of_postgresql_is_told_in_its_words_alone() {
    let url = postgres::shared().create_database().await + "_that_is_none";
    let place = Place::on_database(&url);
    let line = place.run(["migrate"]);
    assert!(line.complaint().ends_with("does not exist"), "{line:?}");
    let place = place.with("MIRRORY__DATABASE__URLS", &format!("{url},{url}"));
    let line = place.run(["migrate"]);
    assert!(line.complaint().ends_with("does not exist"), "{line:?}");
}

#[test]
fn an_address_in_use_stops_the_start_with_one_line() {
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    let done = Place::sqlite()
        .with("MIRRORY__SERVER__LISTEN", &address)
        .run(["serve"]);
    assert_eq!(done.code, Some(1));
    assert!(done.complaint().contains(&address), "{done:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_embedded_store_has_one_server_and_commands_beside_it() {
    let place = Place::sqlite();
    let server = place.start().await;
    let done = place.run(["serve"]);
    assert_eq!(done.code, Some(1), "{done:?}");
    let line = done.complaint();
    assert!(line.contains("another server runs on the store"), "{line}");
    // By another name, too.
    std::os::unix::fs::symlink("data/mirrory.db", place.work().join("other.db")).unwrap();
    let mut by_another_name = place.program(["serve"]);
    by_another_name.env("DATABASE_URL", "sqlite://other.db");
    let output = by_another_name.output().unwrap();
    let complaint = String::from_utf8_lossy(&output.stderr);
    assert!(
        complaint.contains("another server runs on the store"),
        "{complaint}"
    );
    place.create_site("free");
    server.stop().await;
    place.start().await.kill();
    place.start().await.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_plan_that_sites_are_on_and_nobody_configured_is_told_at_the_start_and_after_an_import() {
    let place = Place::sqlite()
        .with("MIRRORY__PLANS__GOLD__CALLS_PER_DAY", "7")
        .with("MIRRORY__PLANS__GOLD__CALLS_PER_MONTH", "7");
    let log = async |server: Server| {
        let file = server.stderr_file.clone();
        server.stop().await;
        fs::read_to_string(file).unwrap()
    };
    let told = |stderr: &str| {
        let mut lines = stderr.lines();
        let line = lines.find(|line| line.contains("the configuration lacks"));
        line.is_some_and(|line| line.contains("gold"))
    };
    let server = place.start().await;
    let site = place.create_site("gold");
    assert!(!told(&log(server).await));
    let place = place
        .without("MIRRORY__PLANS__GOLD__CALLS_PER_DAY")
        .without("MIRRORY__PLANS__GOLD__CALLS_PER_MONTH");
    let server = place.start().await;
    assert_eq!(server.client().generate(&site.secret, 1).await.status, 500);
    assert!(told(&log(server).await));
    place.ask(["export", "--output", "house.ndjson"]);
    let done = place.run(["import", "house.ndjson"]);
    assert!(done.code == Some(0) && told(&done.stderr), "{done:?}");
}
