//! `mirrory usage`

use super::{
    Context,
    output::{Answer, Failure},
    site::no_site,
};
use crate::{
    quota::{Ledger, UsageReport},
    sites::Sites,
    types::ids::SiteId,
};

pub(super) async fn run(context: &Context, site_id: SiteId) -> Result<Answer, Failure> {
    let database = context.open_store().await?;
    let Context {
        config,
        clock,
        randomness,
    } = context;
    let sites = Sites::new(database.clone(), clock.clone(), randomness.clone(), None);
    let site = sites.find(site_id).await?.ok_or_else(|| no_site(site_id))?;
    let ledger = Ledger::new(database, config.plans.clone(), clock.clone());
    let standing = ledger.standing(site_id, &site.plan).await?;
    let history = ledger.history(site_id).await?;
    Answer::one(&UsageReport::new(&standing, &history))
}
