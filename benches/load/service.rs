//! The service as the benches run it: its release binary, its settings, its sites.

use std::{net::SocketAddr, path::Path, process::Command};

use base64::{Engine, engine::general_purpose::STANDARD};
use serde::Deserialize;

use crate::{Outcome, durability, machine::Cores, server::Server};

/// What is measured; cargo builds it with the benches, in the same profile.
pub const PROGRAM: &str = env!("CARGO_BIN_EXE_mirrory");

/// Limits are evaluated at every request and never bite.
const CALLS: &str = "1000000000000";
const VALIDATIONS_PER_TOKEN: &str = "1000000000";
const PLAN: &str = "enterprise";

/// The service on one store.
pub struct Service {
    database_url: String,
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
        Self { database_url }
    }

    /// The service on a database of PostgreSQL's.
    pub const fn on_postgres(database_url: String) -> Self {
        Self { database_url }
    }

    /// Starts it on the server's core.
    pub fn spawn(&self, cores: &Cores) -> Outcome<Server> {
        Server::spawn(|address| {
            let mut command = cores.server(Path::new(PROGRAM));
            self.configure(&mut command, address);
            command
        })
    }

    /// # Errors
    /// When the store does not flush what it commits before it says so.
    pub async fn require_durability(&self) -> Outcome<()> {
        durability::require(&self.database_url).await
    }

    /// Makes sites on a plan that is never used up, while the server runs.
    pub fn make_sites(&self, count: u32) -> Outcome<Vec<Site>> {
        (1..=count).map(|number| self.make_site(number)).collect()
    }

    fn make_site(&self, number: u32) -> Outcome<Site> {
        let mut command = Command::new(PROGRAM);
        self.configure(&mut command, SocketAddr::from(([127, 0, 0, 1], 0)));
        let name = format!("Site {number}");
        let output = command
            .args(["--json", "site", "create", "--plan", PLAN, "--name", &name])
            .output()?;
        if !output.status.success() {
            let said = String::from_utf8_lossy(&output.stderr);
            return Err(format!("no site could be made: {said}").into());
        }
        Ok(serde_json::from_slice(&output.stdout)?)
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
            );
    }
}
