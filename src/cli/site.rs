//! `mirrory site …`

use std::io::{self, IsTerminal, Write};

use serde_json::{Value, json};

use super::{
    Context,
    args::{SiteChange, SiteCommand},
    output::{Answer, Failure, Format},
};
use crate::{
    accounts::Accounts,
    config::Plans,
    sites::{NewSite, Site, SiteUpdate, Sites, may_own_another},
    store::{Database, Tx, changes::Actor},
    types::{
        ids::{AccountId, SiteId},
        secret::ProxySecret,
    },
};

const COLUMNS: &[&str] = &["id", "name", "url", "plan", "status", "owner", "created_at"];

pub(super) async fn run(
    context: &Context,
    command: SiteCommand,
    format: Format,
) -> Result<Answer, Failure> {
    match command {
        SiteCommand::Create { name, url, plan } => {
            require_plan(&context.config.plans, &plan)?;
            let site = NewSite::parse(&name, url.as_deref(), &plan)
                .map_err(|invalid| Failure::usage(invalid.to_string()))?;
            create(context, &site).await
        }
        SiteCommand::List => {
            let sites = sites(context, &context.open_store().await?);
            Answer::many(&sites.list().await?, COLUMNS)
        }
        SiteCommand::Show { site_id } => {
            let sites = sites(context, &context.open_store().await?);
            found(sites.find(site_id).await?, site_id)
        }
        SiteCommand::Change(change) => {
            if let SiteChange::SetPlan { plan, .. } = &change {
                require_plan(&context.config.plans, plan)?;
            }
            let database = context.open_store().await?;
            let sites = sites(context, &database);
            if let SiteChange::Delete { site_id, yes } = change
                && !yes
                && format == Format::Text
            {
                let site = sites.find(site_id).await?;
                confirm_deletion(&site.ok_or_else(|| no_site(site_id))?)?;
            }
            let mut tx = database.begin().await?;
            let most = context.config.limits.sites_per_owner;
            let answer = apply(&sites, &mut tx, change, most).await?;
            tx.commit().await?;
            Ok(answer)
        }
    }
}

fn sites(context: &Context, database: &Database) -> Sites {
    Sites::new(
        database.clone(),
        context.clock.clone(),
        context.randomness.clone(),
        None,
    )
}

/// Has a person type the name of the site that is to go; a script is not asked.
fn confirm_deletion(site: &Site) -> Result<(), Failure> {
    if !io::stdin().is_terminal() {
        return Ok(());
    }
    let mut stderr = io::stderr().lock();
    writeln!(
        stderr,
        "The tokens of {:?} end with it, for good.",
        site.name
    )?;
    write!(stderr, "Type its name to delete it: ")?;
    let mut typed = String::new();
    io::stdin().read_line(&mut typed)?;
    if typed.trim() == site.name.trim() {
        return Ok(());
    }
    Err(Failure::new("that is not its name: nothing was deleted"))
}

async fn create(context: &Context, site: &NewSite) -> Result<Answer, Failure> {
    let database = context.make_store().await?;
    let mut tx = database.begin().await?;
    let (site, secret) = sites(context, &database)
        .create(&mut tx, Actor::Operator, site)
        .await?;
    tx.commit().await?;
    Ok(Answer::One(with_secret(&site, &secret)?))
}

async fn apply(
    sites: &Sites,
    tx: &mut Tx,
    change: SiteChange,
    sites_per_owner: u32,
) -> Result<Answer, Failure> {
    let actor = Actor::Operator;
    match change {
        SiteChange::SetPlan { site_id, plan } => {
            found(sites.set_plan(tx, actor, site_id, &plan).await?, site_id)
        }
        SiteChange::Suspend { site_id } => found(sites.suspend(tx, actor, site_id).await?, site_id),
        SiteChange::Resume { site_id } => found(sites.resume(tx, actor, site_id).await?, site_id),
        SiteChange::Delete { site_id, .. } => {
            let site = sites.delete(tx, actor, site_id).await?;
            let mut shown = serde_json::to_value(site.ok_or_else(|| no_site(site_id))?)?;
            shown["status"] = "deleted".into();
            Ok(Answer::One(shown))
        }
        SiteChange::Assign {
            site_id,
            account_id,
        } => {
            let site = sites.find_locked(tx, site_id).await?;
            let site = site.ok_or_else(|| no_site(site_id))?;
            if Accounts::find_in(tx, account_id).await?.is_none() {
                return Err(no_account(account_id));
            }
            if site.owner != Some(account_id)
                && !may_own_another(tx, account_id, sites_per_owner).await?
            {
                return Err(owner_is_full(account_id));
            }
            let update = SiteUpdate {
                owner: Some(Some(account_id)),
                ..SiteUpdate::default()
            };
            found(sites.update(tx, actor, site_id, &update).await?, site_id)
        }
        SiteChange::RotateSecret { site_id, grace } => {
            let rotated = sites.rotate_secret(tx, actor, site_id, grace).await?;
            let rotated = rotated.ok_or_else(|| no_site(site_id))?;
            Ok(Answer::One(json!({
                "id": site_id,
                "proxy_secret": rotated.secret.reveal(),
                "previous_expires_at": rotated.previous_expires_at,
            })))
        }
    }
}

/// A new site as it is shown the one time that its secret is.
pub(super) fn with_secret(site: &Site, secret: &ProxySecret) -> Result<Value, Failure> {
    let mut shown = serde_json::to_value(site)?;
    shown["proxy_secret"] = secret.reveal().into();
    Ok(shown)
}

fn found(site: Option<Site>, site_id: SiteId) -> Result<Answer, Failure> {
    Answer::one(&site.ok_or_else(|| no_site(site_id))?)
}

pub(super) fn no_site(site_id: SiteId) -> Failure {
    Failure::new(format!(
        "there is no site {site_id}; `mirrory site list` shows those that there are"
    ))
}

pub(super) fn no_account(account_id: AccountId) -> Failure {
    Failure::new(format!(
        "there is no account {account_id}; `mirrory account list` shows those that there are"
    ))
}

fn owner_is_full(account_id: AccountId) -> Failure {
    Failure::new(format!(
        "the account {account_id} has as many sites as limits.sites_per_owner lets it have"
    ))
}

fn require_plan(plans: &Plans, plan: &str) -> Result<(), Failure> {
    if plans.contains_key(plan) {
        return Ok(());
    }
    let names: Vec<_> = plans.keys().map(ToString::to_string).collect();
    Err(Failure::usage(format!(
        "there is no plan {plan:?}; the configuration has {}",
        names.join(", ")
    )))
}
