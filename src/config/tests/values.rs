use secrecy::ExposeSecret;

use super::{MASTER_KEY, from_environment, from_file, refused};
use crate::{
    config::{MAX_CALLS, PlanName},
    telemetry::LogFormat,
};

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
        ("MIRRORY__SERVER__MAX_CONNECTIONS", "1000000"),
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
    assert_eq!(config.tokens.algorithm.to_string(), "EdDSA");
    assert_eq!(config.tokens.coins, 0);
    assert_eq!(config.limits.validations_per_token_per_hour, 1_000_000_000);
    assert_eq!(config.limits.failures_per_minute, 0);
    assert_eq!(config.server.max_connections, Some(1_000_000));
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
fn chosen_secret_stays_exactly_the_text_that_it_is() {
    let long = "x".repeat(512);
    for secret in [
        "0000000000000001",
        "00000000000000000000000000000000",
        "1e50000000000000",
        "0x1234 567890 ab",
        "with \"quotes\", a comma",
        "\"a quote, unmatched",
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
fn nothing_is_measured_or_traced_unless_it_is_configured() {
    let telemetry = from_environment(&[]).unwrap().telemetry;
    assert_eq!(telemetry.metrics_listen, None);
    assert_eq!(telemetry.otlp_endpoint, None);
    let telemetry = from_environment(&[
        ("MIRRORY__TELEMETRY__METRICS_LISTEN", "[::1]:9464"),
        (
            "MIRRORY__TELEMETRY__OTLP_ENDPOINT",
            "https://collector.example/otlp",
        ),
    ]);
    let telemetry = telemetry.unwrap().telemetry;
    assert_eq!(telemetry.metrics_listen.unwrap().to_string(), "[::1]:9464");
    let endpoint = telemetry.otlp_endpoint.unwrap();
    assert_eq!(endpoint.as_str(), "https://collector.example/otlp");
}

#[test]
fn a_share_is_a_number_from_nothing_to_all() {
    let load = |text: &str| from_environment(&[("MIRRORY__TELEMETRY__TRACE_RATIO", text)]);
    for (text, share) in [("0", 0.0), ("0.25", 0.25), ("1", 1.0), ("1e-3", 0.001)] {
        let loaded = load(text).unwrap().telemetry.trace_ratio;
        assert!((loaded - share).abs() < f64::EPSILON, "{text} {loaded}");
    }
    for text in ["", "-0.1", "1.1", "NaN", "inf", "1 %"] {
        let message = refused(load(text));
        assert!(
            message.contains("must be a number from 0 to 1"),
            "{message}"
        );
    }
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
fn plan_names_are_plain() {
    for good in ["a", "free", "plan-2_b", &"x".repeat(64)] {
        assert_eq!(good.parse::<PlanName>().unwrap().as_str(), good);
    }
    for bad in ["", "Free", "a b", "a.b", "ä", &"x".repeat(65)] {
        assert!(bad.parse::<PlanName>().is_err(), "{bad}");
    }
}
