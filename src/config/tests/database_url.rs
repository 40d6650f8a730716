use crate::config::{DatabaseKind, DatabaseUrl, InvalidDatabaseUrl};

fn parse(text: &str) -> Result<DatabaseUrl, InvalidDatabaseUrl> {
    text.parse()
}

#[test]
fn kind_is_told_by_the_scheme() {
    for text in [
        "sqlite:x.db",
        "sqlite://data/x.db",
        "sqlite:///var/x.db?mode=rwc",
    ] {
        let url = parse(text).unwrap();
        assert_eq!(url.kind(), DatabaseKind::Sqlite);
        assert_eq!((url.expose(), url.redacted()), (text, text));
    }
    for text in [
        "postgres://host/db",
        "postgresql://user@host:5432/db?sslmode=require",
    ] {
        let url = parse(text).unwrap();
        assert_eq!(url.kind(), DatabaseKind::Postgres);
        assert_eq!((url.expose(), url.redacted()), (text, text));
    }
    for text in ["", "x.db", "mysql://host/db", "postgres:db", "SQLITE:x.db"] {
        assert!(
            parse(text)
                .unwrap_err()
                .to_string()
                .starts_with("must begin with"),
            "{text}"
        );
    }
}

#[test]
fn password_is_shown_in_no_form() {
    for (text, redacted) in [
        ("postgres://u:hidden@h/d", "postgres://u:[secret]@h/d"),
        (
            "postgres://u:hid%40den%2F@h:1/d",
            "postgres://u:[secret]@h:1/d",
        ),
        ("postgres://:hidden@h", "postgres://:[secret]@h"),
        ("postgres://u:hid:den@h/d", "postgres://u:[secret]@h/d"),
        ("postgres://u:hid@den@h/d", "postgres://u:[secret]@h/d"),
        (
            "postgres:///d?host=/run&user=u&password=hidden&sslmode=disable",
            "postgres:///d?host=/run&user=u&password=[secret]&sslmode=disable",
        ),
        (
            "postgres://u:hidden@[::1]/d?pass%77ord=hidden&password=hid+den",
            "postgres://u:[secret]@[::1]/d?password=[secret]&password=[secret]",
        ),
    ] {
        let url = parse(text).unwrap();
        assert_eq!(url.expose(), text);
        assert_eq!(url.redacted(), redacted);
        assert_eq!(format!("{url} {url:?}"), format!("{redacted} {redacted}"));
    }
}

#[test]
fn password_that_ends_the_authority_is_refused() {
    for text in [
        "postgres://u:12/34@h/d",
        "postgres://u:12?34@h/d",
        "postgres://u:12#34@h/d",
        "postgres://u@h/d?password=12#34",
        "postgres://u:ab/cd@h/d",
    ] {
        assert!(parse(text).is_err(), "{text}");
    }
}

#[test]
fn what_the_driver_would_ignore_or_refuse_is_refused() {
    for text in [
        "postgres://h/d?target_session_attrs=read-write",
        "postgres://h/d?passwrd=hidden",
        "postgres://h/d?password=ab&cd",
        "postgres://h/d?sslmode=maybe",
        "postgres://h/d?port=x",
        "postgres://h:99999/d",
        "postgres://%ff@h/d",
        "postgres://h/d?application_name=a%00b",
        "postgres://u:%00@h/d",
    ] {
        let message = parse(text).unwrap_err().to_string();
        assert!(
            !message.contains("hidden") && !message.contains("cd"),
            "{message}"
        );
    }
    assert!(parse("postgres://h/d?options[search_path]=a&application_name=b").is_ok());
}

#[test]
fn what_other_programs_take_is_refused_with_what_to_write_here() {
    for (parameter, advice) in [
        ("schema=hidden", "`options[search_path]=NAME`"),
        ("pgbouncer=true", "`pool_mode = session`"),
        ("connection_limit=5", "database.max_connections"),
        ("connect_timeout=10", "has a deadline"),
        ("pool_timeout=10", "has a deadline"),
        ("keepalives=1", "has a deadline"),
        ("target_session_attrs=read-write", "database.urls"),
        ("load_balance_hosts=random", "database.urls"),
        ("channel_binding=require", "`sslmode=verify-full`"),
        ("gssencmode=prefer", "`sslmode`"),
        ("ssl=true", "`sslmode=verify-full`"),
        ("sslaccept=strict", "`sslmode=verify-full`"),
        ("sslpassword=hidden", "`sslkey`"),
        ("statement_cache_size=0", "`statement-cache-capacity`"),
        ("fallback_application_name=x", "`application_name`"),
        ("service=hidden", "the server, the user and the password"),
    ] {
        let name = parameter.split('=').next().unwrap();
        for url in [
            format!("postgres://u:hidden@h/d?{parameter}"),
            format!("postgres://u:hidden@h/d?sslmode=require&{parameter}"),
        ] {
            let message = parse(&url).unwrap_err().to_string();
            assert!(
                message.starts_with(&format!("has the parameter `{name}`, ")),
                "{message}"
            );
            assert!(message.contains(advice), "{message}");
            assert!(!message.contains("hidden"), "{message}");
        }
    }
    let unknown = parse("postgres://u:hidden@h/d?hid%64en=1").unwrap_err();
    assert!(!unknown.to_string().contains("hidden"), "{unknown}");
}

#[test]
fn one_url_names_one_server() {
    for text in [
        "postgres://a,b/d",
        "postgres://a:1,b:2/d",
        "postgres://u:hidden@a:1,b:2/d?sslmode=require",
    ] {
        let message = parse(text).unwrap_err().to_string();
        assert!(message.contains("database.urls"), "{text}: {message}");
        assert!(!message.contains("hidden"), "{message}");
    }
    assert!(parse("postgres://u:a,b@h/d").is_ok());
    let message = parse("postgres://u:a,b/c@h/d").unwrap_err().to_string();
    assert!(message.contains("percent-encoded"), "{message}");
}

#[test]
fn sqlite_must_name_a_file() {
    for text in [
        "sqlite:",
        "sqlite://",
        "sqlite::memory:",
        "sqlite://:memory:",
        "sqlite:%3Amemory%3A",
        "sqlite://x.db?mode=memory",
        "sqlite:file:x?mode=memory",
        "sqlite:file:x.db",
        "sqlite:x%00.db",
    ] {
        let message = parse(text).unwrap_err().to_string();
        assert!(message.starts_with("must name a file"), "{text}: {message}");
    }
    for text in [
        "sqlite:x.db?vfs=memdb",
        "sqlite:x.db?cache=shared",
        "sqlite:x.db?immutable=1",
        "sqlite:x.db?x",
        "sqlite:%ff",
    ] {
        assert!(parse(text).is_err(), "{text}");
    }
}
