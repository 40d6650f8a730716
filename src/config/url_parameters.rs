//! The parameters of a URL of PostgreSQL: which there are here, and what to write in the place of those
//! that other programs know.

/// What the driver takes. It would log any other parameter with its value, which may be a misspelt
/// password, and go on without it.
const TAKEN: [&str; 18] = [
    "sslmode",
    "ssl-mode",
    "sslrootcert",
    "ssl-root-cert",
    "ssl-ca",
    "sslcert",
    "ssl-cert",
    "sslkey",
    "ssl-key",
    "statement-cache-capacity",
    "host",
    "hostaddr",
    "port",
    "dbname",
    "user",
    "password",
    "application_name",
    "options",
];

/// What libpq, Prisma, JDBC and others take, and what to do instead.
const ELSEWHERE: [(&[&str], &str); 12] = [
    (
        &["schema", "currentSchema", "search_path"],
        "write `options[search_path]=NAME`",
    ),
    (
        &["pgbouncer", "prepareThreshold"],
        "leave it out, and let a pooler keep a session for each connection (PgBouncer: `pool_mode = \
         session`)",
    ),
    (
        &["connection_limit", "pool_size", "max_connections"],
        "leave it out, and set database.max_connections",
    ),
    (
        &[
            "connect_timeout",
            "pool_timeout",
            "socket_timeout",
            "connectTimeout",
            "socketTimeout",
            "tcp_user_timeout",
            "keepalives",
            "keepalives_idle",
            "keepalives_interval",
            "keepalives_count",
            "tcpKeepAlive",
        ],
        "leave it out: whatever is asked of the store has a deadline",
    ),
    (
        &[
            "target_session_attrs",
            "targetServerType",
            "load_balance_hosts",
        ],
        "leave it out, and list the servers in database.urls: one that takes writes is used",
    ),
    (
        &["ssl", "sslaccept", "requiressl", "sslnegotiation"],
        "write `sslmode=verify-full`, `require` or `disable`",
    ),
    (
        &["channel_binding", "require_auth"],
        "leave it out: `sslmode=verify-full` makes sure of the server",
    ),
    (
        &["gssencmode", "krbsrvname", "gsslib", "gssdelegation"],
        "leave it out: connections are encrypted by TLS, as `sslmode` says",
    ),
    (
        &["sslidentity", "sslpassword"],
        "write `sslcert` and `sslkey`: the names of files in PEM, not encrypted",
    ),
    (
        &["statement_cache_size"],
        "write `statement-cache-capacity`",
    ),
    (
        &["fallback_application_name", "ApplicationName"],
        "write `application_name`",
    ),
    (
        &["service", "servicefile", "passfile"],
        "write the server, the user and the password into the URL",
    ),
];

/// Refuses a parameter that would be ignored. A name that nobody knows is not told: it may be a part of
/// a password.
pub(super) fn require_taken(name: &str) -> Result<(), String> {
    if TAKEN.contains(&name) || name.starts_with("options[") {
        return Ok(());
    }
    let mut elsewhere = ELSEWHERE.iter();
    Err(match elsewhere.find(|(names, _)| names.contains(&name)) {
        Some((_, advice)) => {
            format!("has the parameter `{name}`, which is not known here: {advice}")
        }
        None => "has a parameter that is not known here; known are sslmode, sslrootcert, sslcert, \
                 sslkey, statement-cache-capacity, host, hostaddr, port, dbname, user, password, \
                 application_name and options"
            .to_owned(),
    })
}
