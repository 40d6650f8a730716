//! What every scenario needs: servers, stores, sites, tokens, comparisons.

use crate::{
    Outcome, bare,
    generator::Load,
    machine::{Cores, Folder},
    measure::{self, Contender, Plan, Series},
    options::Options,
    postgres::Cluster,
    report::Report,
    requests::{Endpoint, Requests},
    server::Server,
    service::{Service, Site},
    tokens::{self, Birth, Token},
};

pub struct Bench {
    pub options: Options,
    pub plan: Plan,
    pub cores: Cores,
    pub cluster: Cluster,
    pub report: Report,
    pub folder: Folder,
}

/// A running instance of the service whose store has sites, and tokens that are bound.
pub struct Instance {
    pub server: Server,
    pub sites: Vec<Site>,
    pub tokens: Vec<Token>,
}

impl Bench {
    /// The service on a new database of PostgreSQL's.
    pub async fn on_postgres(&self) -> Service {
        Service::on_postgres(self.cluster.create_database().await)
    }

    /// The service on a new embedded store.
    pub fn on_sqlite(&self, name: &str) -> Service {
        Service::on_sqlite(&self.folder.path().join(name))
    }

    /// Bare axum, which stores nothing.
    pub fn bare(&self) -> Outcome<Server> {
        bare::spawn(&self.cores, None)
    }

    /// Starts an instance, and gives its store what a measurement needs.
    pub async fn start(&self, service: &Service) -> Outcome<Instance> {
        let server = service.start(&self.cores).await?;
        let sites = service.make_sites(self.options.sites)?;
        let tokens =
            tokens::issue(server.address, &sites, self.options.tokens, Birth::Bound).await?;
        Ok(Instance {
            server,
            sites,
            tokens,
        })
    }

    /// Starts an instance on a store whose `count` tokens another one has issued, so that it has
    /// seen none of them.
    pub async fn start_afresh(
        &self,
        service: &Service,
        count: u32,
        birth: Birth,
    ) -> Outcome<Instance> {
        let issuer = service.start(&self.cores).await?;
        let sites = service.make_sites(self.options.sites)?;
        let tokens = tokens::issue(issuer.address, &sites, count, birth).await?;
        drop(issuer);
        Ok(Instance {
            server: service.start(&self.cores).await?,
            sites,
            tokens,
        })
    }

    /// A load of as many connections as the plan says.
    pub fn load(&self, server: &Server, endpoint: Endpoint, requests: Requests) -> Load {
        Load::new(server.address, endpoint, requests, self.plan.connections)
    }

    /// Gives each contender its turns and prints what came of them.
    pub async fn compare<const N: usize>(
        &mut self,
        title: &str,
        contenders: &[Contender; N],
    ) -> Outcome<[Series; N]> {
        let results = measure::interleaved(&self.plan, contenders).await?;
        self.report.compared(title, contenders, &results);
        Ok(results)
    }
}

/// # Errors
/// When two servers answer the first of a load's requests with bodies of different lengths: one
/// would have more to write than the other.
pub async fn require_like_answers(load: &Load, other: &Load) -> Outcome<()> {
    let first = |load: &Load| Load {
        requests: load.requests[..1].into(),
        connections: 1,
        ..load.clone()
    };
    let own = first(load).fetch_all().await?.concat();
    let its = first(other).fetch_all().await?.concat();
    if own.len() == its.len() {
        return Ok(());
    }
    let [own, its] = [own, its].map(|body| String::from_utf8_lossy(&body).into_owned());
    Err(format!("answers of different lengths:\n{own}\n{its}").into())
}
