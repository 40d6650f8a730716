use std::{fs, path::Path};

use super::{File, MASTER_KEY, from_environment, from_file, refused, settings};
use crate::config::Config;

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
        ("[server]\n\"li.sten\\n\" = 1", "server.li.sten\\n"),
        ("'server.listen' = 1", "server.listen"),
    ] {
        assert_eq!(
            refused(from_file(text)),
            format!("unknown setting `{setting}` (in the file)")
        );
    }
}

/// In a file: the text, the setting that is named, and what is said of it.
const BAD_SETTINGS: [(&str, &str, &str); 31] = [
    (
        "[database]\nurls = ['postgres://a/b', 'sqlite:a.db']",
        "database.urls",
        "entry 2 must be a URL of PostgreSQL",
    ),
    (
        "[database]\nurls = ['mysql://a/b']",
        "database.urls",
        "entry 1 must begin with `sqlite:`, `postgres://` or `postgresql://`",
    ),
    (
        "[server]\nlisten = 'localhost:80'",
        "server.listen",
        "must be an IP address and a port, such as `127.0.0.1:8080` or `[::]:8080`",
    ),
    (
        "[server]\nlisten = 80",
        "server.listen",
        "must be a string in quotes",
    ),
    (
        "[server]\ntrusted_proxies = ['::1', '10.0.0.0/33']",
        "server.trusted_proxies",
        "entry 2 must be a network such as `10.0.0.0/8`, or one address",
    ),
    (
        "[server]\ntrusted_proxies = [1]",
        "server.trusted_proxies",
        "must be a list of strings",
    ),
    (
        "[server]\ndrain_seconds = 1.5",
        "server.drain_seconds",
        "must be a whole number from 0 to 3600",
    ),
    (
        "[server]\nmax_connections = 0",
        "server.max_connections",
        "must be a whole number from 1 to 1000000",
    ),
    (
        "[tokens]\nalgorithm = 'none'",
        "tokens.algorithm",
        "must be `HS256`, `RS256`, `ES256` or `EdDSA`",
    ),
    (
        "[tokens]\nissuer = ''",
        "tokens.issuer",
        "must be 1 to 255 bytes without control characters",
    ),
    (
        "[tokens]\nissuer = 1979-05-27",
        "tokens.issuer",
        "must not be a date or a time",
    ),
    (
        "[tokens]\nissuer = true",
        "tokens.issuer",
        "must be a string in quotes",
    ),
    (
        "[server]\ndrain_seconds = true",
        "server.drain_seconds",
        "must be a whole number from 0 to 3600",
    ),
    (
        "[tokens]\naudience = \"a\\nb\"",
        "tokens.audience",
        "must not have control characters in it",
    ),
    (
        "[bootstrap]\nplan = 'gold'",
        "bootstrap.plan",
        "must be one of the plans",
    ),
    (
        "[bootstrap]\nplan = 'Free!'",
        "bootstrap.plan",
        "must be one of the plans",
    ),
    (
        "[bootstrap]\nproxy_secret = 1234567890123456",
        "bootstrap.proxy_secret",
        "must be a string in quotes",
    ),
    (
        "[bootstrap]\nproxy_secret = '123456789012345'",
        "bootstrap.proxy_secret",
        "must be 16 to 512 bytes",
    ),
    (
        "[bootstrap]\nproxy_secret = 'mps_567890123456'",
        "bootstrap.proxy_secret",
        "must not begin with `mps_`, which marks the secrets that the service makes",
    ),
    (
        "[secrets]\nmaster_key = 'c2hvcnQ='",
        "secrets.master_key",
        "must be 32 bytes in base64; `openssl rand -base64 32` makes such a key",
    ),
    (
        "[telemetry]\nmetrics_listen = ''",
        "telemetry.metrics_listen",
        "must be an IP address and a port, such as `127.0.0.1:9464` or `[::]:9464`",
    ),
    (
        "[telemetry]\notlp_endpoint = 'collector:4318'",
        "telemetry.otlp_endpoint",
        "must be a URL such as `http://127.0.0.1:4318`, without a user, a password or a query",
    ),
    (
        "[telemetry]\ntrace_ratio = 1.01",
        "telemetry.trace_ratio",
        "must be a number from 0 to 1",
    ),
    (
        "[telemetry]\ntrace_ratio = nan",
        "telemetry.trace_ratio",
        "must be a number from 0 to 1",
    ),
    (
        "[log]\nformat = 'xml'",
        "log.format",
        "must be `pretty` or `json`",
    ),
    (
        "[plans.Gold]\ncalls_per_day = 1",
        "plans.Gold",
        "a plan's name is 1 to 64 lower-case letters, digits, `-` and `_`",
    ),
    (
        "[plans.gold]\ncalls_per_day = 1",
        "plans.gold",
        "needs both calls_per_day and calls_per_month",
    ),
    (
        "[plans.free]\ncalls_per_day = -1",
        "plans.free.calls_per_day",
        "must be a whole number from 0 to 9000000000000000000",
    ),
    (
        "[plans]\ngold = 1",
        "plans.gold",
        "is a section with settings in it, not a setting",
    ),
    (
        "server = 1",
        "server",
        "is a section with settings in it, not a setting",
    ),
    (
        "[server.listen]\nport = 1",
        "server.listen",
        "is a setting, not a section",
    ),
];

#[test]
fn bad_settings_are_named_with_what_they_must_be() {
    for (text, setting, problem) in BAD_SETTINGS {
        let expected = format!("bad setting `{setting}` (in the file): {problem}");
        assert_eq!(refused(from_file(text)), expected);
    }
    assert_eq!(
        refused(from_environment(&[("DATABASE_URL", "mysql://localhost")])),
        "bad setting `database.url` (in the environment: DATABASE_URL): must begin with `sqlite:`, \
         `postgres://` or `postgresql://`"
    );
}

#[test]
fn variable_that_could_be_a_second_name_of_a_setting_is_refused() {
    for (variable, setting) in [
        ("MIRRORY__tokens__issuer", "tokens.issuer"),
        ("MIRRORY__TOKENS__iSSUER", "tokens.issuer"),
        // The sign for kelvin, whose small letter is a plain `k`.
        ("MIRRORY__TO\u{212a}ENS__ISSUER", "tokens.issuer"),
        ("MIRRORY__TOKENS.ISSUER", "tokens.issuer"),
        (
            "MIRRORY__SERVER__TRUSTED_PROXIES[0]",
            "server.trusted_proxies[0]",
        ),
    ] {
        let variables = [("MIRRORY__TOKENS__ISSUER", "good"), (variable, "other")];
        assert_eq!(
            refused(from_environment(&variables)),
            format!(
                "bad setting `{setting}` (in the environment: {variable}): the variable's name \
                 must be in capitals, with `__` between its parts"
            )
        );
    }
}

#[test]
fn variable_with_too_few_underscores_is_refused_for_every_setting() {
    for (section, name, _) in settings() {
        for variable in [
            format!("MIRRORY_{section}_{name}").to_uppercase(),
            format!("MIRRORY_{section}__{name}").to_uppercase(),
        ] {
            assert_eq!(
                refused(from_environment(&[(&variable, "x")])),
                format!(
                    "bad setting `{section}.{name}` (in the environment: {variable}): the \
                     variable's name must have two underscores each time, as in \
                     `MIRRORY__SECTION__KEY`"
                )
            );
        }
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
        &[
            ("MIRRORY__SECRETS", "x"),
            ("MIRRORY__SECRETS__MASTER_KEY", MASTER_KEY),
        ],
        &[
            ("MIRRORY__LOG__FORMAT", "json"),
            ("MIRRORY__LOG__FORMAT__X", "1"),
        ],
    ] {
        let message = refused(from_environment(variables));
        assert!(message.starts_with("bad setting `"), "{message}");
    }
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
