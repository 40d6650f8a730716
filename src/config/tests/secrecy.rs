use super::{MASTER_KEY, from_environment, from_file, refused};
use crate::config::Config;

#[test]
fn refusals_never_show_a_secret() {
    let secret = "5up3r-s3cr3t";
    let padded = format!("{secret}{}", "x".repeat(600));
    let prefixed = format!("mps_{secret}{secret}");
    let postgres = format!("postgres://user:{secret}@host:port/db");
    let collector = format!("https://user:{secret}@collector.example");
    let variables = [
        ("MIRRORY__SECRETS__MASTER_KEY", secret),
        ("MIRRORY__SECRETS__MASTER_KEY__X", secret),
        ("MIRRORY__SECRETS", secret),
        ("MIRRORY__BOOTSTRAP", secret),
        ("MIRRORY__BOOTSTRAP__PROXY_SECRET", secret),
        ("MIRRORY__BOOTSTRAP__PROXY_SECRET", &padded),
        ("MIRRORY__BOOTSTRAP__PROXY_SECRET", &prefixed),
        ("MIRRORY__BOOTSTRAP__PROXY_SECRETS", secret),
        ("MIRRORY__DATABASE__URL", &postgres),
        ("MIRRORY__DATABASE__URLS", &postgres),
        ("MIRRORY__SERVER__LISTEN", secret),
        ("MIRRORY__SERVER__CORS_ORIGINS", secret),
        ("MIRRORY__TOKENS__ALGORITHM", secret),
        ("MIRRORY__TOKENS__COINS", secret),
        ("MIRRORY__LOG__FORMAT", secret),
        ("MIRRORY__TELEMETRY__OTLP_ENDPOINT", &collector),
        ("DATABASE_URL", secret),
    ];
    for variable in variables {
        let message = refused(from_environment(&[variable]));
        assert!(!message.contains(secret), "{message}");
    }
    for text in [
        "secrets = '5up3r-s3cr3t'",
        "secrets = ['5up3r-s3cr3t']",
        "[secrets]\nmaster_key = 5up3r-s3cr3t",
        "[secrets]\nmaster_key = '5up3r-s3cr3t",
        "[secrets]\nmaster_key = ['5up3r-s3cr3t']",
        "[secrets]\nmaster_key = { 'x' = '5up3r-s3cr3t' }",
        "[secrets]\nmaster_key = 'a'\nmaster_key = '5up3r-s3cr3t'",
        "[secrets]\nmaster_key: '5up3r-s3cr3t'",
        "5up3r-s3cr3t",
        "[plans]\nx = '5up3r-s3cr3t'",
        "[plans.x]\ncalls_per_day = '5up3r-s3cr3t'",
    ] {
        let message = refused(from_file(text));
        assert!(!message.contains(secret), "{message}");
    }
}

#[test]
fn number_that_is_too_large_is_not_quoted() {
    for number in ["9999999999999999", "99999999999999999999", "1e999"] {
        let text = format!("[bootstrap]\nproxy_secret = {number}");
        let message = refused(from_file(&text));
        assert!(!message.contains(number), "{message}");
    }
    let file = "[bootstrap]\nproxy_secret = 99999999999999999999";
    let message = refused(from_file(file));
    assert!(
        message.ends_with(" is no TOML: line 2: a value is out of range"),
        "{message}"
    );
}

#[test]
fn configuration_in_force_is_shown_without_secrets() {
    let config = from_environment(&[
        ("MIRRORY__SECRETS__MASTER_KEY", MASTER_KEY),
        ("MIRRORY__BOOTSTRAP__PROXY_SECRET", "5up3r-s3cr3t-of-my-own"),
        (
            "DATABASE_URL",
            "postgres://me:5up3r-s3cr3t@db.example/x?password=5up3r-s3cr3t",
        ),
        ("MIRRORY__LOG__FORMAT", "pretty"),
        ("MIRRORY__SERVER__CORS_ORIGINS", "tauri://localhost"),
    ])
    .unwrap();
    let toml = config.to_toml().unwrap();
    let json = serde_json::to_string(&config).unwrap();
    let debug = format!("{config:?}");
    for shown in [&toml, &json, &debug] {
        assert!(
            !shown.contains("5up3r") && !shown.contains(MASTER_KEY),
            "{shown}"
        );
    }
    for line in [
        "master_key = \"[secret]\"",
        "proxy_secret = \"[secret]\"",
        "url = \"postgres://me:[secret]@db.example/x?password=[secret]\"",
        "format = \"pretty\"",
        "cors_origins = [\"tauri://localhost\"]",
        "[plans.developer]",
    ] {
        assert!(toml.contains(line), "{line} is missing in {toml}");
    }
    let json: serde_json::Value = serde_json::from_str(&json).unwrap();
    assert_eq!(json["secrets"]["master_key"], "[secret]");
    assert_eq!(json["plans"]["enterprise"]["calls_per_month"], 1_000_000);
}

#[test]
fn what_is_shown_can_be_read_again() {
    let shown = Config::load(None, []).unwrap().to_toml().unwrap();
    assert_eq!(from_file(&shown).unwrap().to_toml().unwrap(), shown);
}
