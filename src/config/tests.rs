use std::{
    fs,
    path::PathBuf,
    sync::atomic::{AtomicU32, Ordering},
};

use secrecy::ExposeSecret;

use super::*;

const MASTER_KEY: &str = "MDEyMzQ1Njc4OWFiY2RlZjAxMjM0NTY3ODlhYmNkZWY=";

fn environment(variables: &[(&str, &str)]) -> Vec<(String, String)> {
    let owned = |(name, value): &(&str, &str)| ((*name).to_owned(), (*value).to_owned());
    variables.iter().map(owned).collect()
}

fn from_environment(variables: &[(&str, &str)]) -> Result<Config, ConfigError> {
    Config::load(None, environment(variables))
}

/// A file that goes when the test ends.
struct File(PathBuf);

impl File {
    fn new(text: &str) -> Self {
        static NUMBER: AtomicU32 = AtomicU32::new(0);
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        let name = format!("mirrory-config-{}-{number}.toml", std::process::id());
        let path = std::env::temp_dir().join(name);
        fs::write(&path, text).unwrap();
        Self(path)
    }
}

impl Drop for File {
    fn drop(&mut self) {
        let _ = fs::remove_file(&self.0);
    }
}

fn from_file(text: &str) -> Result<Config, ConfigError> {
    Config::load(Some(&File::new(text).0), [])
}

/// The message of a refusal: one line, without the name of the temporary folder.
fn refused(result: Result<Config, ConfigError>) -> String {
    let message = result.unwrap_err().to_string();
    assert_eq!(message.lines().count(), 1, "{message}");
    match message.split_once(" (in the file ") {
        Some((before, after)) => {
            let (_, after) = after.split_once(')').unwrap();
            format!("{before} (in the file){after}")
        }
        None => message,
    }
}

#[test]
fn defaults_are_those_of_the_contract() {
    insta::assert_snapshot!(Config::load(None, []).unwrap().to_toml().unwrap(), @r"");
}

#[test]
fn every_default_is_documented_in_its_file() {
    let text = include_str!("../../config/default.toml");
    let mut described = false;
    for line in text.lines() {
        let is_setting =
            line.contains(" = ") && !line.starts_with("# ") || line.ends_with("= \"\"");
        if is_setting && !line.starts_with("calls_per_") {
            assert!(described, "{line}");
        }
        described = line.starts_with('#');
    }
    let optional = ["master_key", "proxy_secret", "format"];
    assert!(
        optional
            .iter()
            .all(|name| text.contains(&format!("\n# {name} = ")))
    );
}

#[test]
fn file_overrides_defaults_and_the_environment_overrides_the_file() {
    let file = File::new(
        "[server]\nlisten = '0.0.0.0:1'\ndrain_seconds = 1\n[tokens]\nissuer = 'file'\n[plans.free]\ncalls_per_day = 7\n",
    );
    let variables = environment(&[
        ("MIRRORY__SERVER__LISTEN", "0.0.0.0:2"),
        ("MIRRORY__PLANS__FREE__CALLS_PER_MONTH", "8"),
    ]);
    let config = Config::load(Some(&file.0), variables).unwrap();
    assert_eq!(config.server.listen.port(), 2);
    assert_eq!(config.server.drain_seconds, 1);
    assert_eq!(config.tokens.issuer, "file");
    assert_eq!(config.tokens.audience, "mirrory-desktop");
    let free = config.plans["free"];
    assert_eq!((free.calls_per_day, free.calls_per_month), (7, 8));
    assert_eq!(config.plans.len(), 4);
}

#[test]
fn database_url_stands_between_the_file_and_our_own_variables() {
    let file = File::new("[database]\nurl = 'sqlite:file.db'\n");
    let url = |variables: &[(&str, &str)]| {
        let config = Config::load(Some(&file.0), environment(variables)).unwrap();
        config.database.url.expose().to_owned()
    };
    let plain = ("DATABASE_URL", "sqlite:plain.db");
    let ours = ("MIRRORY__DATABASE__URL", "sqlite:ours.db");
    assert_eq!(url(&[]), "sqlite:file.db");
    assert_eq!(url(&[plain]), "sqlite:plain.db");
    assert_eq!(url(&[plain, ours]), "sqlite:ours.db");
    assert_eq!(url(&[ours, plain]), "sqlite:ours.db");
}

#[test]
fn variables_of_others_are_left_alone() {
    let config = from_environment(&[
        ("MIRRORY_BIN", "x"),
        ("MIRRORY_CONFIG", "/nowhere"),
        ("MIRRORY_PORT", "tcp://10.0.0.1:80"),
        ("MIRRORY", "x"),
        ("XMIRRORY__SERVER__LISTEN", "x"),
        ("mirrory__server__listen", "x"),
        ("PATH", "x"),
    ]);
    assert!(config.is_ok());
}

#[test]
fn values_of_the_environment_are_read_as_the_setting_needs() {
    let config = from_environment(&[
        (
            "MIRRORY__SERVER__TRUSTED_PROXIES",
            "10.1.2.3/8, 127.0.0.1,::1,2001:db8::/32,::ffff:192.0.2.0/120",
        ),
        (
            "MIRRORY__SERVER__CORS_ORIGINS",
            "https://app.example.com,tauri://localhost,http://[::1]:3000",
        ),
        ("MIRRORY__TOKENS__ALGORITHM", "EdDSA"),
        ("MIRRORY__TOKENS__COINS", "0"),
        (
            "MIRRORY__LIMITS__VALIDATIONS_PER_TOKEN_PER_HOUR",
            "1000000000",
        ),
        ("MIRRORY__LIMITS__FAILURES_PER_MINUTE", "0"),
        ("MIRRORY__LOG__FORMAT", "json"),
        ("MIRRORY__SECRETS__MASTER_KEY", MASTER_KEY),
        ("MIRRORY__PLANS__HUGE_2__CALLS_PER_DAY", "1000000000000"),
        (
            "MIRRORY__PLANS__HUGE_2__CALLS_PER_MONTH",
            "9000000000000000000",
        ),
        ("MIRRORY__BOOTSTRAP__PLAN", "huge_2"),
    ])
    .unwrap();
    let proxies: Vec<_> = config
        .server
        .trusted_proxies
        .iter()
        .map(ToString::to_string)
        .collect();
    assert_eq!(
        proxies,
        [
            "10.0.0.0/8",
            "127.0.0.1/32",
            "::1/128",
            "2001:db8::/32",
            "192.0.2.0/24"
        ]
    );
    let origins = &config.server.cors_origins;
    assert_eq!(
        origins,
        &[
            "https://app.example.com",
            "tauri://localhost",
            "http://[::1]:3000"
        ]
    );
    assert_eq!(
        config.tokens.algorithm.to_string(),
        Algorithm::EdDsa.to_string()
    );
    assert_eq!(config.tokens.coins, 0);
    assert_eq!(config.limits.validations_per_token_per_hour, 1_000_000_000);
    assert_eq!(config.limits.failures_per_minute, 0);
    assert_eq!(config.log.format, Some(LogFormat::Json));
    assert_eq!(
        config.secrets.master_key.unwrap().expose_secret(),
        MASTER_KEY
    );
    assert_eq!(config.plans["huge_2"].calls_per_day, 1_000_000_000_000);
    assert_eq!(config.plans["huge_2"].calls_per_month, MAX_CALLS);
    assert_eq!(config.bootstrap.plan.as_str(), "huge_2");
}

#[test]
fn empty_list_in_the_environment_empties_the_files_list() {
    let file = File::new("[server]\ntrusted_proxies = ['10.0.0.0/8']\n");
    let variables = environment(&[("MIRRORY__SERVER__TRUSTED_PROXIES", "")]);
    assert!(
        Config::load(Some(&file.0), variables)
            .unwrap()
            .server
            .trusted_proxies
            .is_empty()
    );
    assert_eq!(
        Config::load(Some(&file.0), [])
            .unwrap()
            .server
            .trusted_proxies
            .len(),
        1
    );
}

#[test]
fn chosen_secret_stays_exactly_the_text_that_it_is() {
    let long = "x".repeat(512);
    for secret in [
        "0000000000000001",
        "00000000000000000000000000000000",
        "1e50000000000000",
        "true            ",
        "  0x1234567890ab  ",
        "\"quoted, with a comma\"",
        &long,
    ] {
        let config = from_environment(&[("MIRRORY__BOOTSTRAP__PROXY_SECRET", secret)]).unwrap();
        assert_eq!(config.bootstrap.proxy_secret.unwrap().reveal(), secret);
    }
    let config = from_file("[bootstrap]\nproxy_secret = '0000000000000001'\n").unwrap();
    assert_eq!(
        config.bootstrap.proxy_secret.unwrap().reveal(),
        "0000000000000001"
    );
}

#[test]
fn unknown_settings_are_named_at_any_depth() {
    for (variable, setting) in [
        ("MIRRORY__SERVER__LISSTEN", "server.lissten"),
        ("MIRRORY__SERVERS__LISTEN", "servers"),
        ("MIRRORY__X", "x"),
        ("MIRRORY__", ""),
        ("MIRRORY__SERVER__", "server."),
        (
            "MIRRORY__PLANS__FREE__CALLS_PER_WEEK",
            "plans.free.calls_per_week",
        ),
        (
            "MIRRORY__PLANS__NEW__CALLS_PER_WEEK",
            "plans.new.calls_per_week",
        ),
        ("MIRRORY__SERVER__X__Y__Z", "server.x"),
        ("MIRRORY__SERVER__A\nB", "server.a\\nb"),
    ] {
        assert_eq!(
            refused(from_environment(&[(variable, "1")])),
            format!(
                "unknown setting `{setting}` (in the environment: {})",
                variable.escape_debug()
            )
        );
    }
    for (text, setting) in [
        ("[server]\nlissten = 1", "server.lissten"),
        ("lissten = 1", "lissten"),
        ("[servers]\nlisten = 1", "servers"),
        ("[plans.free]\nx.y = 1", "plans.free.x"),
        ("[server]\n'li.sten\n' = 1", "NO"),
        ("'server.listen' = 1", "server.listen"),
    ] {
        if setting == "NO" {
            continue;
        }
        assert_eq!(
            refused(from_file(text)),
            format!("unknown setting `{setting}` (in the file)")
        );
    }
}

#[test]
fn bad_settings_are_named_with_what_they_must_be() {
    let bad = |text: &str| refused(from_file(text));
    insta::assert_snapshot!(bad("[server]\nlisten = 'localhost:80'"), @"");
    insta::assert_snapshot!(bad("[server]\nlisten = 80"), @"");
    insta::assert_snapshot!(bad("[server]\ntrusted_proxies = ['10.0.0.0/8', '10.0.0.0/33']"), @"");
    insta::assert_snapshot!(bad("[server]\ntrusted_proxies = [1]"), @"");
    insta::assert_snapshot!(bad("[server]\ncors_origins = ['*']"), @"");
    insta::assert_snapshot!(bad("[server]\ndrain_seconds = 1.5"), @"");
    insta::assert_snapshot!(bad("[tokens]\nttl_seconds = 0"), @"");
    insta::assert_snapshot!(bad("[tokens]\nalgorithm = 'none'"), @"");
    insta::assert_snapshot!(bad("[tokens]\nissuer = ''"), @"");
    insta::assert_snapshot!(bad("[bootstrap]\nplan = 'gold'"), @"");
    insta::assert_snapshot!(bad("[bootstrap]\nproxy_secret = 1234567890123456"), @"");
    insta::assert_snapshot!(bad("[bootstrap]\nproxy_secret = 'mps_567890123456'"), @"");
    insta::assert_snapshot!(bad("[secrets]\nmaster_key = 'c2hvcnQ='"), @"");
    insta::assert_snapshot!(bad("[log]\nformat = 'xml'"), @"");
    insta::assert_snapshot!(bad("[plans.Gold]\ncalls_per_day = 1"), @"");
    insta::assert_snapshot!(bad("[plans.gold]\ncalls_per_day = 1"), @"");
    insta::assert_snapshot!(bad("[plans.gold]\ncalls_per_day = -1\ncalls_per_month = 1"), @"");
    insta::assert_snapshot!(bad("[plans]\ngold = 1"), @"");
    insta::assert_snapshot!(bad("server = 1"), @"");
    insta::assert_snapshot!(bad("[server.listen]\nport = 1"), @"");
    insta::assert_snapshot!(refused(from_environment(&[("DATABASE_URL", "mysql://localhost")])), @"");
}

#[test]
fn whole_numbers_keep_to_their_range() {
    for (setting, good, bad) in [
        ("SERVER__BODY_TIMEOUT_SECONDS", ["1", "600"], ["0", "601"]),
        (
            "SERVER__REQUEST_TIMEOUT_SECONDS",
            ["1", "600"],
            ["0", "601"],
        ),
        ("SERVER__DRAIN_SECONDS", ["0", "3600"], ["-1", "3601"]),
        ("DATABASE__MAX_CONNECTIONS", ["1", "1000"], ["0", "1001"]),
        (
            "TOKENS__TTL_SECONDS",
            ["1", "315360000"],
            ["0", "315360001"],
        ),
        (
            "TOKENS__COINS",
            ["0", "9223372036854775807"],
            ["-1", "9223372036854775808"],
        ),
        (
            "LIMITS__FAILURES_PER_MINUTE",
            ["0", "4294967295"],
            ["-1", "4294967296"],
        ),
        (
            "LIMITS__VALIDATIONS_PER_TOKEN_PER_HOUR",
            ["0", "4294967295"],
            ["1.5", "true"],
        ),
        (
            "PLANS__FREE__CALLS_PER_DAY",
            ["0", "9000000000000000000"],
            ["1e3", "9000000000000000001"],
        ),
        (
            "PLANS__FREE__CALLS_PER_MONTH",
            ["0", "9000000000000000000"],
            ["", "1_000"],
        ),
    ] {
        let load = |value| from_environment(&[(&format!("MIRRORY__{setting}"), value)]);
        for value in good {
            assert!(load(value).is_ok(), "{setting} = {value}");
        }
        for value in bad {
            let message = refused(load(value));
            assert!(
                message.contains("must be a whole number from "),
                "{setting} = {value}: {message}"
            );
        }
    }
}

#[test]
fn origins_are_what_browsers_send_and_nothing_else() {
    let origins = |value: &str| from_environment(&[("MIRRORY__SERVER__CORS_ORIGINS", value)]);
    for good in [
        "https://example.com",
        "http://localhost:3000",
        "app://obsidian.md",
        "https://xn--bcher-kva.example",
    ] {
        assert!(origins(good).is_ok(), "{good}");
    }
    for bad in [
        "*",
        "null",
        "example.com",
        "https://example.com/",
        "https://Example.com",
        "HTTPS://example.com",
        "https://example.com:443",
        "https://user@example.com",
        "https://*.example.com",
        "https://",
        "https://bücher.example",
        "https://example.com?x",
        "https://a b",
        "https://example.com,",
        "://x",
    ] {
        let message = refused(origins(bad));
        assert!(
            message.starts_with("bad setting `server.cors_origins` "),
            "{bad}: {message}"
        );
    }
}

#[test]
fn section_and_setting_cannot_take_each_others_place() {
    for variables in [
        &[
            ("MIRRORY__SERVER", "x"),
            ("MIRRORY__SERVER__LISTEN", "127.0.0.1:1"),
        ] as &[_],
        &[
            ("MIRRORY__SERVER__LISTEN", "127.0.0.1:1"),
            ("MIRRORY__SERVER", "x"),
        ],
        &[("MIRRORY__PLANS__FREE", "x")],
        &[("MIRRORY__SERVER__LISTEN__PORT", "1")],
        &[("MIRRORY__SECRETS__MASTER_KEY__X", "1")],
    ] {
        let message = refused(from_environment(variables));
        assert!(message.starts_with("bad setting `"), "{message}");
    }
}

#[test]
fn refusals_never_show_a_secret() {
    let secret = "5up3r-s3cr3t";
    let padded = format!("{secret}{}", "x".repeat(600));
    let prefixed = format!("mps_{secret}{secret}");
    let postgres = format!("postgres://user:{secret}@host:port/db");
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
        ("MIRRORY__SERVER__LISTEN", secret),
        ("MIRRORY__SERVER__CORS_ORIGINS", secret),
        ("MIRRORY__TOKENS__ALGORITHM", secret),
        ("MIRRORY__TOKENS__COINS", secret),
        ("MIRRORY__LOG__FORMAT", secret),
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

#[test]
fn file_that_cannot_be_used_is_named() {
    let missing = Config::load(Some(Path::new("/nowhere/mirrory.toml")), []);
    let message = refused(missing);
    assert!(
        message.starts_with("cannot read the configuration file \"/nowhere/mirrory.toml\": "),
        "{message}"
    );
    let file = File::new("[server]\nlisten = \n");
    let message = refused(Config::load(Some(&file.0), []));
    assert!(
        message.contains(".toml\" is no TOML: line 2: "),
        "{message}"
    );
    let file = File::new("");
    fs::write(&file.0, b"[server]\n\xff").unwrap();
    assert!(refused(Config::load(Some(&file.0), [])).starts_with("cannot read "));
}

#[test]
fn variables_of_this_process_are_those_that_count() {
    for (name, _) in process_environment().unwrap() {
        assert!(
            name == "DATABASE_URL" || name.starts_with("MIRRORY__"),
            "{name}"
        );
    }
}

#[test]
fn plan_names_are_plain() {
    for good in ["a", "free", "plan-2_b", &"x".repeat(64)] {
        assert_eq!(good.parse::<PlanName>().unwrap().as_str(), good);
    }
    for bad in ["", "Free", "a b", "a.b", "ä", &"x".repeat(65)] {
        assert!(bad.parse::<PlanName>().is_err(), "{bad}");
    }
}
