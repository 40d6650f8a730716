//! The service as the benches run it: its release binary, its settings, its sites.

use std::{
    fs::File,
    io::Write,
    net::SocketAddr,
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use base64::{Engine, engine::general_purpose::STANDARD};
use mirrory::keys::Algorithm;
use serde::Deserialize;

use crate::{Outcome, durability, machine::Cores, server::Server};

/// What is measured; cargo builds it with the benches, in the same profile.
pub const PROGRAM: &str = env!("CARGO_BIN_EXE_mirrory");

/// Limits are evaluated at every request and never bite.
const CALLS: &str = "1000000000000";
const VALIDATIONS_PER_TOKEN: &str = "1000000000";
const PLAN: &str = "enterprise";

/// The service on one store.
#[derive(Clone)]
pub struct Service {
    pub database_url: String,
    /// What is set besides, by its variable.
    settings: Vec<(String, String)>,
}

/// What an instance says of its requests.
pub enum Lines {
    None,
    /// One line of JSON a request, into a file.
    JsonTo(PathBuf),
}

/// A site with a live secret.
#[derive(Clone, Deserialize)]
pub struct Site {
    pub proxy_secret: String,
}

impl Service {
    /// The service on the embedded store in `folder`, which is made by its first start.
    pub fn on_sqlite(folder: &Path) -> Self {
        let database_url = format!("sqlite://{}/mirrory.db", folder.display());
        Self::on(database_url)
    }

    /// The service on a database of PostgreSQL's.
    pub const fn on_postgres(database_url: String) -> Self {
        Self::on(database_url)
    }

    const fn on(database_url: String) -> Self {
        Self {
            database_url,
            settings: Vec::new(),
        }
    }

    /// The service on the same store with one more setting: `TOKENS__COINS`.
    pub fn with(&self, setting: &str, value: &str) -> Self {
        let mut other = self.clone();
        let variable = format!("MIRRORY__{setting}");
        other.settings.push((variable, value.to_owned()));
        other
    }

    /// Starts an instance on the server's core.
    pub fn spawn(&self, cores: &Cores, lines: &Lines) -> Outcome<Server> {
        let stderr = match lines {
            Lines::None => Stdio::inherit(),
            Lines::JsonTo(path) => File::create(path)?.into(),
        };
        Server::spawn(|address| {
            let mut command = cores.server(Path::new(PROGRAM));
            self.configure(&mut command, address);
            command.stderr(stderr);
            if matches!(lines, Lines::JsonTo(_)) {
                command.env("RUST_LOG", "info");
                command.env("MIRRORY__LOG__FORMAT", "json");
            }
            command
        })
    }

    /// Starts an instance that logs no requests, and waits until it is ready.
    ///
    /// # Errors
    /// Also when its store does not flush what it commits before it says so.
    pub async fn start(&self, cores: &Cores) -> Outcome<Server> {
        self.start_with(cores, &Lines::None).await
    }

    pub async fn start_with(&self, cores: &Cores, lines: &Lines) -> Outcome<Server> {
        let mut server = self.spawn(cores, lines)?;
        server.await_ready()?;
        durability::require(&self.database_url).await?;
        Ok(server)
    }

    /// Makes the store's tables.
    pub fn migrate(&self) -> Outcome<()> {
        self.run(&["migrate"])?;
        Ok(())
    }

    /// Has the store's tokens signed with another algorithm, from two seconds later on.
    pub fn rotate_key(&self, algorithm: Algorithm) -> Outcome<()> {
        self.run(&["key", "rotate", "--algorithm", algorithm.name()])?;
        Ok(())
    }

    /// Makes sites on a plan that is never used up, while the server runs.
    pub fn make_sites(&self, count: u32) -> Outcome<Vec<Site>> {
        (1..=count).map(|number| self.make_site(number)).collect()
    }

    fn make_site(&self, number: u32) -> Outcome<Site> {
        let name = format!("Site {number}");
        let output = self.run(&["--json", "site", "create", "--plan", PLAN, "--name", &name])?;
        Ok(serde_json::from_slice(&output)?)
    }

    /// Makes accounts with this password; their e-mail addresses.
    pub fn make_accounts(&self, count: u32, password: &str) -> Outcome<Vec<String>> {
        let emails = (1..=count).map(|number| format!("owner{number}@shop.example"));
        emails
            .map(|email| {
                let create = ["account", "create", "--email", &email, "--password-stdin"];
                self.run_with(&create, password)?;
                Ok(email)
            })
            .collect()
    }

    /// Runs a command of the service's own; what it printed.
    fn run(&self, arguments: &[&str]) -> Outcome<Vec<u8>> {
        self.run_with(arguments, "")
    }

    fn run_with(&self, arguments: &[&str], input: &str) -> Outcome<Vec<u8>> {
        let mut command = Command::new(PROGRAM);
        self.configure(&mut command, SocketAddr::from(([127, 0, 0, 1], 0)));
        command.args(arguments).stdin(Stdio::piped());
        command.stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut process = command.spawn()?;
        let stdin = process.stdin.take().ok_or("a command without an input")?;
        { stdin }.write_all(input.as_bytes())?;
        let output = process.wait_with_output()?;
        if !output.status.success() {
            let said = String::from_utf8_lossy(&output.stderr);
            return Err(format!("{arguments:?} failed: {said}").into());
        }
        Ok(output.stdout)
    }

    /// Nothing of the caller's environment changes what is measured.
    fn configure(&self, command: &mut Command, listen: SocketAddr) {
        command
            .env_clear()
            .env("PATH", std::env::var_os("PATH").unwrap_or_default())
            .env("RUST_LOG", "warn")
            .env("MIRRORY__SERVER__LISTEN", listen.to_string())
            .env("MIRRORY__DATABASE__URL", &self.database_url)
            .env("MIRRORY__SECRETS__MASTER_KEY", STANDARD.encode([7; 32]))
            .env("MIRRORY__PLANS__ENTERPRISE__CALLS_PER_DAY", CALLS)
            .env("MIRRORY__PLANS__ENTERPRISE__CALLS_PER_MONTH", CALLS)
            .env(
                "MIRRORY__LIMITS__VALIDATIONS_PER_TOKEN_PER_HOUR",
                VALIDATIONS_PER_TOKEN,
            )
            .envs(self.settings.iter().map(|(name, value)| (name, value)));
    }
}
