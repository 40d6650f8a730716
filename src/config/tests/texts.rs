//! Texts as they are pasted: with white space, in quotes, with what nobody sees.

use secrecy::ExposeSecret;

use super::{File, MASTER_KEY, environment, from_environment, from_file, refused};
use crate::config::{Config, ConfigError};

/// A good value of each kind of setting, which holds one text.
const TEXTS: [(&str, &str, &str); 12] = [
    ("server", "listen", "127.0.0.1:1"),
    ("server", "trusted_proxies", "10.0.0.0/8"),
    ("server", "cors_origins", "tauri://localhost"),
    ("database", "url", "sqlite://data/mirrory.db"),
    ("database", "urls", "postgres://a/b"),
    ("secrets", "master_key", MASTER_KEY),
    ("tokens", "algorithm", "ES256"),
    ("tokens", "issuer", "https://tokens.example"),
    ("bootstrap", "proxy_secret", "a secret of my own"),
    ("bootstrap", "plan", "free"),
    ("log", "format", "json"),
    ("telemetry", "otlp_endpoint", "http://127.0.0.1:4318"),
];

fn variable(section: &str, name: &str) -> String {
    format!("MIRRORY__{section}__{name}").to_uppercase()
}

/// A text in TOML, whatever is in it.
fn quoted(text: &str) -> String {
    toml::Value::String(text.to_owned()).to_string()
}

/// What a text comes to, in the environment and in a file.
fn both(section: &str, name: &str, text: &str) -> [Result<Config, ConfigError>; 2] {
    let file = format!("[{section}]\n{name} = {}\n", quoted(text));
    [
        from_environment(&[(&variable(section, name), text)]),
        from_file(&file),
    ]
}

#[test]
fn white_space_around_a_text_is_cut_off() {
    for (section, name, good) in TEXTS {
        let plain = from_environment(&[(&variable(section, name), good)]).unwrap();
        for (before, after) in [
            ("", "\r"),
            ("", "\n"),
            (" \t", "\r\n"),
            ("\u{a0}", "\u{3000}"),
        ] {
            for config in both(section, name, &format!("{before}{good}{after}")) {
                let config = config.unwrap_or_else(|error| panic!("{section}.{name}: {error}"));
                assert_eq!(config.to_toml().unwrap(), plain.to_toml().unwrap());
                let secret = |config: &Config| {
                    let Config {
                        bootstrap, secrets, ..
                    } = config;
                    let chosen = bootstrap.proxy_secret.as_ref();
                    let key = secrets.master_key.as_ref();
                    let chosen = chosen.map(|secret| secret.reveal().to_owned());
                    (chosen, key.map(|key| key.expose_secret().to_owned()))
                };
                assert_eq!(secret(&config), secret(&plain));
                assert_eq!(config.database.url.expose(), plain.database.url.expose());
            }
        }
    }
    let padded = from_environment(&[("DATABASE_URL", "sqlite://data/mirrory.db\r")]).unwrap();
    assert_eq!(padded.database.url.expose(), "sqlite://data/mirrory.db");
    for number in [" 7", "7\r"] {
        let padded = from_environment(&[("MIRRORY__TOKENS__COINS", number)]).unwrap();
        assert_eq!(padded.tokens.coins, 7);
    }
}

#[test]
fn a_text_in_quotes_or_with_control_characters_is_refused() {
    for (section, name, good) in TEXTS {
        let middle = good.len() / 2;
        let (begin, end) = good.split_at(middle);
        for (text, problem) in [
            (format!("\"{good}\""), "is in quotes: leave them out"),
            (format!(" '{good}'\r"), "is in quotes: leave them out"),
            (
                format!("{begin}\n{end}"),
                "must not have control characters in it",
            ),
            (
                format!("{begin}\u{7f}{end}"),
                "must not have control characters in it",
            ),
        ] {
            for outcome in both(section, name, &text) {
                let message = refused(outcome);
                let named = format!("bad setting `{section}.{name}` (in the ");
                assert!(message.starts_with(&named), "{message}");
                assert!(message.ends_with(problem), "{message}");
                let told = [begin, end].map(|part| part.len() > 8 && message.contains(part));
                assert_eq!(told, [false; 2], "{message}");
            }
        }
    }
    let number = from_environment(&[("MIRRORY__TOKENS__COINS", "\"7\"")]);
    assert!(refused(number).ends_with("is in quotes: leave them out"));
    let url = refused(from_environment(&[("DATABASE_URL", "'sqlite:a.db'")]));
    let expected = "bad setting `database.url` (in the environment: DATABASE_URL): is in quotes: \
                    leave them out";
    assert_eq!(url, expected);
}

#[test]
fn each_entry_of_a_list_is_a_text() {
    let proxies = |value: &str| from_environment(&[("MIRRORY__SERVER__TRUSTED_PROXIES", value)]);
    let read = proxies(" 10.0.0.0/8 ,\n\t::1\r").unwrap();
    assert_eq!(read.server.trusted_proxies.len(), 2);
    let message = refused(proxies("10.0.0.0/8,\"::1\""));
    assert!(
        message.ends_with("entry 2 is in quotes: leave them out"),
        "{message}"
    );
    let file = from_file("[server]\ntrusted_proxies = [' 10.0.0.0/8\\r', \"::1\\r\\n\"]");
    assert!(file.is_err(), "a literal string of TOML has no escapes");
    let file = from_file("[server]\ntrusted_proxies = [\" 10.0.0.0/8\\r\", \"::1\\r\\n\"]");
    assert_eq!(file.unwrap().server.trusted_proxies.len(), 2);
    let message = refused(from_file("[server]\ntrusted_proxies = [\"'::1'\"]"));
    assert!(
        message.ends_with("entry 1 is in quotes: leave them out"),
        "{message}"
    );
}

#[test]
fn a_list_of_json_where_commas_are_wanted_is_refused_with_what_to_write() {
    for (name, value) in [
        ("SERVER__TRUSTED_PROXIES", r#"["10.0.0.0/8","::1"]"#),
        ("SERVER__TRUSTED_PROXIES", "[10.0.0.0/8]"),
        ("SERVER__TRUSTED_PROXIES", "[]"),
        ("SERVER__CORS_ORIGINS", r#" ["https://app.example.com"] "#),
        ("DATABASE__URLS", r#"["postgres://u:hidden@a/b"]"#),
    ] {
        let message = refused(from_environment(&[(&format!("MIRRORY__{name}"), value)]));
        let expected = "is a list as JSON has it: leave out the brackets and the quotes, and write \
                        commas between the entries, as in `a,b`";
        assert!(message.ends_with(expected), "{message}");
        assert!(!message.contains("hidden"), "{message}");
    }
}

#[test]
fn an_empty_variable_is_unset_where_there_is_no_default() {
    let file =
        File::new("[log]\nformat = 'json'\n[bootstrap]\nproxy_secret = 'a secret of the file'\n");
    let names = [
        "SECRETS__MASTER_KEY",
        "BOOTSTRAP__PROXY_SECRET",
        "LOG__FORMAT",
        "TELEMETRY__METRICS_LISTEN",
        "TELEMETRY__OTLP_ENDPOINT",
    ];
    for empty in ["", " ", "\r\n"] {
        let variables = names.map(|name| (format!("MIRRORY__{name}"), empty.to_owned()));
        let config = Config::load(None, variables.clone()).unwrap();
        let defaults = Config::load(None, []).unwrap();
        assert_eq!(config.to_toml().unwrap(), defaults.to_toml().unwrap());
        let config = Config::load(Some(&file.0), variables).unwrap();
        let chosen = config.bootstrap.proxy_secret.unwrap();
        assert_eq!(chosen.reveal(), "a secret of the file");
        assert!(config.log.format.is_some());
    }
    for (name, problem) in [
        ("DATABASE_URL", "must begin with"),
        ("MIRRORY__TOKENS__ISSUER", "must be 1 to 255 bytes"),
        ("MIRRORY__SERVER__LISTEN", "must be an IP address"),
    ] {
        let message = refused(from_environment(&[(name, "")]));
        assert!(message.contains(problem), "{message}");
    }
}

#[test]
fn a_file_may_begin_with_a_byte_order_mark_and_have_the_line_ends_of_windows() {
    let file = File::new("\u{feff}[tokens]\r\nissuer = \"shop\"\r\n");
    let config = Config::load(Some(&file.0), environment(&[])).unwrap();
    assert_eq!(config.tokens.issuer, "shop");
}
