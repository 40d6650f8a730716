//! What is measured: a running server, and the requests that it is sent.

use std::{net::SocketAddr, sync::Arc};

use serde::Deserialize;

use crate::{
    Outcome, bare,
    generator::Load,
    machine::Cores,
    options::Options,
    scenario::{self, Scenario},
    server::Server,
    service::{Service, Site},
    usage,
};

/// A running server with its requests.
pub struct Target {
    pub name: &'static str,
    pub server: Server,
    /// PostgreSQL's first process.
    pub database: Option<u32>,
    requests: [Arc<[Vec<u8>]>; Scenario::ALL.len()],
}

/// Of an answer, what the requests that follow need.
#[derive(Deserialize)]
struct Generated {
    token: String,
}

impl Target {
    /// This program again, as the bare axum server.
    pub fn bare(cores: &Cores, options: &Options) -> Outcome<Self> {
        let program = std::env::current_exe()?;
        let mut server = Server::spawn(|address| {
            let mut command = cores.server(&program);
            command.args(["--serve-bare", &address.to_string()]);
            command
        })?;
        server.await_ready()?;
        let sites = vec![bare::site(); options.sites as usize];
        let tokens = vec![bare::TOKEN.to_owned(); options.tokens as usize];
        let requests = requests(server.address, &sites, &tokens);
        Ok(Self {
            name: "bare axum",
            server,
            database: None,
            requests,
        })
    }

    /// The service on its embedded store.
    pub async fn sqlite(cores: &Cores, service: &Service, options: &Options) -> Outcome<Self> {
        Self::service("SQLite", cores, service, options).await
    }

    /// The service on PostgreSQL.
    pub async fn postgres(cores: &Cores, service: &Service, options: &Options) -> Outcome<Self> {
        let database = usage::child_named("postgres")?;
        let target = Self::service("PostgreSQL", cores, service, options).await?;
        Ok(Self { database, ..target })
    }

    async fn service(
        name: &'static str,
        cores: &Cores,
        service: &Service,
        options: &Options,
    ) -> Outcome<Self> {
        let mut server = service.spawn(cores)?;
        server.await_ready()?;
        service.require_durability().await?;
        let sites = service.make_sites(options.sites)?;
        let tokens = bound_tokens(server.address, &sites, options).await?;
        let requests = requests(server.address, &sites, &tokens);
        Ok(Self {
            name,
            server,
            database: None,
            requests,
        })
    }

    /// A scenario's requests to this server.
    pub fn load(&self, scenario: Scenario, connections: u32) -> Load {
        Load {
            address: self.server.address,
            requests: Arc::clone(&self.requests[scenario as usize]),
            expects: scenario.expects(),
            connections,
        }
    }
}

/// Issues tokens that are bound from birth.
async fn bound_tokens(
    address: SocketAddr,
    sites: &[Site],
    options: &Options,
) -> Outcome<Vec<String>> {
    let requests = (0..options.tokens).zip(sites.iter().cycle());
    let requests = requests.map(|(number, site)| scenario::generate_bound(address, number, site));
    let load = Load {
        address,
        requests: requests.collect(),
        expects: Scenario::Generate.expects(),
        connections: options.connections,
    };
    let answers = load.run_once().await?;
    let tokens = answers.iter().map(|body| {
        let Generated { token } = serde_json::from_slice(body)?;
        Ok(token)
    });
    tokens.collect()
}

fn requests(
    address: SocketAddr,
    sites: &[Site],
    tokens: &[String],
) -> [Arc<[Vec<u8>]>; Scenario::ALL.len()] {
    Scenario::ALL.map(|scenario| {
        let numbered = (0..).zip(tokens).zip(sites.iter().cycle());
        numbered
            .map(|((number, token), site)| match scenario {
                Scenario::Validate => scenario::validate(address, number, token),
                Scenario::Generate => scenario::generate(address, number, site),
            })
            .collect()
    })
}
