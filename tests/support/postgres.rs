//! A throw-away PostgreSQL cluster for tests: made in a second, private to one test process, gone
//! with it. A test binary uses it through `#[path = "../support/postgres.rs"] mod postgres;`.
#![allow(dead_code, reason = "each test binary uses a part of it")]
#![allow(
    clippy::expect_used,
    clippy::unwrap_used,
    reason = "without its server a test fails at once"
)]

#[path = "postgres/host.rs"]
mod host;
#[path = "postgres/processes.rs"]
mod processes;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Mutex, OnceLock};

use sqlx::{AssertSqlSafe, Connection, PgConnection};

pub use host::free_ports;
use host::{Fsync, Host};
use processes::{children_of, signal};

/// A running PostgreSQL on a loopback port of its own; when dropped, it is stopped and removed.
pub struct Cluster {
    host: Host,
    port: u16,
    server: Mutex<Child>,
    watchdog: Child,
    databases: AtomicU32,
}

/// The cluster that the tests of one binary share, for those that do not break it.
pub fn shared() -> &'static Cluster {
    static SHARED: OnceLock<Cluster> = OnceLock::new();
    SHARED.get_or_init(Cluster::start)
}

impl Cluster {
    /// Makes a cluster without fsync: what is committed survives [`Cluster::stop`], but no power cut.
    ///
    /// Blocks for about a second, as [`Cluster::start_durable`] does.
    pub fn start() -> Self {
        Self::start_with(Fsync::Off, Host::make_data)
    }

    /// Makes a cluster that flushes every commit to the disk, as one in production does.
    pub fn start_durable() -> Self {
        Self::start_with(Fsync::On, Host::make_data)
    }

    /// Makes a streaming replica, which this one does not wait for.
    pub fn start_late_replica(&self) -> Self {
        Self::start_with(Fsync::Off, |host| host.copy_data(self.port, &["-R"]))
    }

    /// Makes a copy that takes writes, too, as if the data had been copied by hand.
    pub fn start_copy(&self) -> Self {
        Self::start_with(Fsync::Off, |host| host.copy_data(self.port, &[]))
    }

    /// Waits until a replica has all that was committed here.
    pub async fn until_followed(&self) {
        let is_there = "SELECT count(*) > 0 FROM pg_stat_replication \
                        WHERE replay_lsn >= pg_current_wal_flush_lsn()";
        while !self.ask::<bool>(is_there).await {
            tokio::task::yield_now().await;
        }
    }

    /// Makes a streaming replica, which this one waits for at every commit from now on.
    pub async fn start_replica(&self) -> Self {
        let replica = self.start_late_replica();
        self.set("synchronous_standby_names = '*'").await;
        let is_in_step = "SELECT count(*) > 0 FROM pg_stat_replication WHERE sync_state = 'sync'";
        while !self.ask::<bool>(is_in_step).await {
            tokio::task::yield_now().await;
        }
        replica
    }

    /// Makes a replica one that takes writes.
    pub async fn promote(&self) {
        assert!(self.ask::<bool>("SELECT pg_promote()").await);
    }

    /// Changes a setting of the server while it runs.
    pub async fn set(&self, setting: &str) {
        self.execute(&format!("ALTER SYSTEM SET {setting}")).await;
        assert!(self.ask::<bool>("SELECT pg_reload_conf()").await);
    }

    async fn connect(&self) -> PgConnection {
        // Each test has a runtime of its own, so no connection outlives the call.
        PgConnection::connect(&self.url("postgres"))
            .await
            .expect("the server takes connections")
    }

    /// Runs a statement as the superuser, in no database of a test.
    pub async fn execute(&self, statement: &str) {
        let mut connection = self.connect().await;
        sqlx::raw_sql(AssertSqlSafe(statement.to_owned()))
            .execute(&mut connection)
            .await
            .expect("the server does as it is told");
        connection.close().await.expect("the connection closes");
    }

    async fn ask<T>(&self, question: &'static str) -> T
    where
        T: for<'r> sqlx::Decode<'r, sqlx::Postgres> + sqlx::Type<sqlx::Postgres> + Send + Unpin,
    {
        let mut connection = self.connect().await;
        let answer = sqlx::query_scalar(question)
            .fetch_one(&mut connection)
            .await
            .expect("the server answers");
        connection.close().await.expect("the connection closes");
        answer
    }

    fn start_with(fsync: Fsync, make_data: impl FnOnce(&Host)) -> Self {
        let host = Host::find(fsync);
        let watchdog = host.spawn_watchdog();
        make_data(&host);
        let mut log = String::new();
        for port in free_ports().take(5) {
            match host.start_server(port) {
                Ok(server) => {
                    let server = Mutex::new(server);
                    return Self {
                        host,
                        port,
                        server,
                        watchdog,
                        databases: AtomicU32::new(1),
                    };
                }
                // Another process may have been quicker to take the port.
                Err(its_log) => log = its_log,
            }
        }
        panic!("PostgreSQL does not start:\n{log}");
    }

    /// Makes an empty database and returns its `postgres://` URL.
    pub async fn create_database(&self) -> String {
        let name = format!("test_{}", self.databases.fetch_add(1, Ordering::Relaxed));
        self.execute(&format!("CREATE DATABASE {name}")).await;
        self.url(&name)
    }

    /// A program that is to work beside the server: under its account, in its folder.
    pub fn beside(&self, program: &Path) -> Command {
        self.host.command(program)
    }

    /// Writes a file for such a program.
    pub fn write(&self, name: &str, text: &str) -> PathBuf {
        let file = self.host.folder().join(name);
        fs::write(&file, text).expect("the folder is writable");
        file
    }

    /// The port that it listens on, of 127.0.0.1.
    pub const fn port(&self) -> u16 {
        self.port
    }

    /// Where one of PostgreSQL's programs lies, if it is there.
    pub fn program(&self, name: &str) -> PathBuf {
        self.host.program(name)
    }

    /// The URL of a database, which need not be there.
    pub fn url(&self, database: &str) -> String {
        format!("postgres://postgres@127.0.0.1:{}/{database}", self.port)
    }

    /// Ends the server at once, as a crash does: open transactions are lost, the next start recovers.
    pub fn stop(&self) {
        self.thaw();
        let mut server = self.server.lock().unwrap();
        signal("QUIT", &[server.id()]);
        server
            .wait()
            .expect("the server is a child of this process");
    }

    /// Starts the server after [`Cluster::stop`] on the same port and data; returns when it accepts
    /// connections.
    pub fn start_again(&self) {
        let server = self.host.start_server(self.port);
        *self.server.lock().unwrap() =
            server.unwrap_or_else(|log| panic!("PostgreSQL does not start again:\n{log}"));
    }

    /// Stops all the server's processes where they are: connections stay open, and nothing answers.
    pub fn freeze(&self) {
        let postmaster = self.server.lock().unwrap().id();
        // It goes first, so that it starts nothing any more that the list would miss.
        signal("STOP", &[postmaster]);
        let backends = children_of(postmaster);
        let list: Vec<String> = backends.iter().map(u32::to_string).collect();
        fs::write(self.host.frozen_file(), list.join("\n")).expect("the folder is writable");
        signal("STOP", &backends);
    }

    /// Lets the server go on after [`Cluster::freeze`].
    pub fn thaw(&self) {
        let Ok(list) = fs::read_to_string(self.host.frozen_file()) else {
            return;
        };
        let mut processes: Vec<u32> = list.lines().filter_map(|line| line.parse().ok()).collect();
        processes.push(self.server.lock().unwrap().id());
        signal("CONT", &processes);
        fs::remove_file(self.host.frozen_file()).expect("the folder is writable");
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        drop(self.watchdog.stdin.take());
        // What goes wrong here must not turn a failed test into an abort.
        let _ = self.watchdog.wait();
        let _ = self.server.get_mut().map(Child::wait);
    }
}
