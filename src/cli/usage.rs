//! `mirrory usage`

use serde_json::{Value, json};

use super::{
    Context,
    output::{Answer, Failure},
    site::no_site,
};
use crate::{
    quota::{DayCounts, Ledger, WindowUsage},
    sites::Sites,
    types::{clock::Timestamp, ids::SiteId},
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
    Ok(Answer::One(json!({
        "day": window(&standing.day),
        "month": window(&standing.month),
        "history": history.iter().map(day).collect::<Vec<_>>(),
    })))
}

fn window(usage: &WindowUsage) -> Value {
    json!({
        "limit": usage.limit,
        "used": usage.used,
        "reserved": usage.reserved,
        "remaining": usage.remaining(),
        "resets_at": usage.resets_at,
    })
}

fn day(counts: &DayCounts) -> Value {
    let start = Timestamp::from_seconds(counts.day * 86_400).to_string();
    json!({
        "date": start.split('T').next(),
        "issued": counts.issued,
        "validated": counts.validated,
    })
}
