//! `mirrory usage …`

use super::{
    Context,
    args::UsageCommand,
    output::{Answer, Failure},
    site::no_site,
};
use crate::{
    quota::{Ledger, UsageReport},
    sites::{Site, Sites},
    store::{Database, changes::Actor},
    types::ids::SiteId,
};

pub(super) async fn show(context: &Context, site_id: Option<SiteId>) -> Result<Answer, Failure> {
    let site_id = site_id.ok_or_else(|| Failure::usage("a site is missing"))?;
    let database = context.open_store().await?;
    let site = find(context, &database, site_id).await?;
    report(&ledger(context, database), &site).await
}

/// Prints what is used when it is done: nothing, or what instances were charged since.
pub(super) async fn change(context: &Context, command: UsageCommand) -> Result<Answer, Failure> {
    let UsageCommand::Reset { site_id } = command;
    let database = context.open_store().await?;
    let site = find(context, &database, site_id).await?;
    let ledger = ledger(context, database.clone());
    let mut tx = database.begin().await?;
    ledger
        .reset(&mut tx, Actor::Operator, site_id, &context.randomness)
        .await?;
    tx.commit().await?;
    report(&ledger, &site).await
}

fn ledger(context: &Context, database: Database) -> Ledger {
    Ledger::new(
        database,
        context.config.plans.clone(),
        context.clock.clone(),
    )
}

async fn find(context: &Context, database: &Database, site_id: SiteId) -> Result<Site, Failure> {
    let (clock, randomness) = (context.clock.clone(), context.randomness.clone());
    let sites = Sites::new(database.clone(), clock, randomness, None);
    sites.find(site_id).await?.ok_or_else(|| no_site(site_id))
}

async fn report(ledger: &Ledger, site: &Site) -> Result<Answer, Failure> {
    let standing = ledger.standing(site.id, &site.plan).await?;
    let history = ledger.history(site.id).await?;
    Answer::one(&UsageReport::new(&standing, &history))
}
