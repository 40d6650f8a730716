//! How long a start takes, until the service is ready.

use std::time::Duration;

use crate::{
    Outcome,
    machine::{Cores, Folder},
    measure::median,
    postgres::Cluster,
    service::Service,
};

const STARTS: u32 = 5;

/// The medians of a store, in milliseconds.
pub struct Starts {
    pub store: &'static str,
    /// On a store that is not there yet: tables and a signing key are made.
    pub fresh: f64,
    pub existing: f64,
}

pub async fn measure(cores: &Cores, folder: &Folder, cluster: &Cluster) -> Outcome<[Starts; 2]> {
    let mut sqlite = Vec::new();
    let mut postgres = Vec::new();
    for number in 0..STARTS {
        let folder = folder.path().join(format!("start-{number}"));
        let service = Service::on_sqlite(&folder);
        sqlite.push([ready_after(cores, &service)?, ready_after(cores, &service)?]);
        let service = Service::on_postgres(cluster.create_database().await);
        postgres.push([ready_after(cores, &service)?, ready_after(cores, &service)?]);
    }
    Ok([starts("SQLite", &sqlite), starts("PostgreSQL", &postgres)])
}

fn ready_after(cores: &Cores, service: &Service) -> Outcome<Duration> {
    service.spawn(cores)?.await_ready()
}

fn starts(store: &'static str, pairs: &[[Duration; 2]]) -> Starts {
    let milliseconds =
        |place: usize| median(pairs.iter().map(|pair| pair[place].as_secs_f64() * 1000.0));
    Starts {
        store,
        fresh: milliseconds(0),
        existing: milliseconds(1),
    }
}
