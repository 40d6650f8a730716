use super::{File, environment, from_environment, settings};
use crate::config::{Config, ConfigError, DatabaseKind, process_environment};

#[test]
fn defaults_are_those_of_the_contract() {
    let config = Config::load(None, []).unwrap();
    assert_eq!(config.to_toml().unwrap().trim_end(), DEFAULTS);
    assert!(config.secrets.master_key.is_none() && config.bootstrap.proxy_secret.is_none());
    assert_eq!(config.log.format, None);
}

const DEFAULTS: &str = r#"[server]
listen = "127.0.0.1:8080"
trusted_proxies = []
cors_origins = []
body_timeout_seconds = 10
request_timeout_seconds = 15
concurrent_requests = 1000
drain_seconds = 30

[database]
url = "sqlite://data/mirrory.db"
urls = []
max_connections = 16

[secrets]

[tokens]
ttl_seconds = 86400
algorithm = "HS256"
issuer = "mirrory"
audience = "mirrory-desktop"
coins = 200
cache_capacity = 100000

[limits]
failures_per_minute = 30
validations_per_token_per_hour = 30
connections_per_address = 512
sites_per_owner = 100
changes_per_minute = 120

[bootstrap]
plan = "free"

[audit]
kept_days = 400

[log]

[telemetry]
trace_ratio = 0.01

[plans.developer]
calls_per_day = 20
calls_per_month = 500

[plans.enterprise]
calls_per_day = 100000
calls_per_month = 1000000

[plans.free]
calls_per_day = 5
calls_per_month = 50

[plans.professional]
calls_per_day = 200
calls_per_month = 5000"#;

#[test]
fn every_setting_is_documented_in_the_file_of_defaults() {
    let text = include_str!("../../../config/default.toml");
    let mut described = false;
    for line in text.lines() {
        let is_setting =
            line.contains(" = ") && !line.starts_with("# ") || line.ends_with("= \"\"");
        if is_setting && !line.starts_with("calls_per_") {
            assert!(described, "{line}");
        }
        described = line.starts_with('#');
    }
    for (section, name, default) in settings() {
        let sign = if default.is_null() { "# " } else { "" };
        let line = format!("\n{sign}{name} = ");
        let (_, after) = text.split_once(&format!("\n[{section}]\n")).unwrap();
        let content = after.split("\n[").next().unwrap();
        assert!(content.contains(&line), "{section}.{name}");
    }
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
fn several_urls_stand_in_the_place_of_one() {
    let one = ("DATABASE_URL", "sqlite:one.db");
    let several = (
        "MIRRORY__DATABASE__URLS",
        "postgres://u:secret%2C@a/d, postgres://b/d",
    );
    let database = from_environment(&[one]).unwrap().database;
    assert_eq!(database.kind(), DatabaseKind::Sqlite);
    assert_eq!(database.redacted(), "sqlite:one.db");
    let database = from_environment(&[one, several]).unwrap().database;
    assert_eq!(database.kind(), DatabaseKind::Postgres);
    let shown = "postgres://u:[secret]@a/d, postgres://b/d";
    assert_eq!(database.redacted(), shown);
    assert_eq!(database.places()[0].expose(), "postgres://u:secret%2C@a/d");
}

#[test]
fn variables_of_others_are_left_alone() {
    let config = from_environment(&[
        ("MIRRORY_BIN", "x"),
        ("MIRRORY_CONFIG", "/nowhere"),
        ("MIRRORY_PORT", "tcp://10.0.0.1:80"),
        ("MIRRORY_SERVER_PORT_80_TCP", "tcp://10.0.0.1:80"),
        ("MIRRORY_SERVER_SERVICE_HOST", "10.0.0.1"),
        ("MIRRORY_DATABASE_RW_SERVICE_HOST", "10.0.0.1"),
        ("MIRRORY_DATABASE_PASSWORD", "x"),
        ("MIRRORY_PLANS_FREE", "x"),
        ("MIRRORY_MASTER_KEY", "x"),
        ("MIRRORY_TESTS_PYTHON", "x"),
        ("MIRRORY", "x"),
        ("XMIRRORY__SERVER__LISTEN", "x"),
        ("mirrory__server__listen", "x"),
        ("PATH", "x"),
    ]);
    assert!(config.is_ok());
}

#[test]
fn files_for_deployment_name_settings_that_there_are() {
    let files = [
        include_str!("../../../compose.yaml"),
        include_str!("../../../Dockerfile"),
        include_str!("../../../config/deploy/mirrory.service"),
        include_str!("../../../config/deploy/kubernetes/deployment.yaml"),
        include_str!("../../../config/deploy/kubernetes/secret.example.yaml"),
    ];
    let is_part = |character: char| character.is_ascii_uppercase() || character == '_';
    for file in files {
        let words = file.split(|character| !is_part(character));
        let variables: Vec<_> = words.filter(|word| word.starts_with("MIRRORY__")).collect();
        assert!(!variables.is_empty(), "{file}");
        for variable in variables {
            let outcome = from_environment(&[(variable, "x")]);
            let is_unknown = matches!(outcome, Err(ConfigError::Unknown { .. }));
            assert!(!is_unknown, "{variable}");
        }
    }
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
fn variables_of_this_process_are_those_that_count() {
    for (name, _) in process_environment().unwrap() {
        assert!(
            name == "DATABASE_URL" || name.starts_with("MIRRORY_"),
            "{name}"
        );
    }
}
