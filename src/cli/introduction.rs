//! What a server says on stdout when it begins to serve.

use std::net::{Ipv4Addr, SocketAddr};

use serde_json::json;

use super::{
    output::{Answer, Failure},
    site::with_secret,
};
use crate::{
    config::DatabaseKind,
    sites::{NewSite, Site},
    state::AppState,
    types::secret::ProxySecret,
};

/// The plan of the site that is made on the first start of an embedded store.
const FIRST_PLAN: &str = "enterprise";

/// Makes the first site where one is due, and tells where the service is and what to do next.
pub(super) async fn prepare(state: &AppState, address: SocketAddr) -> Result<Answer, Failure> {
    let mut local = address;
    if address.ip().is_unspecified() {
        local.set_ip(Ipv4Addr::LOCALHOST.into());
    }
    let url = format!("http://{local}");
    if let Some((site, secret)) = make_first_site(state).await? {
        return of_first_site(&url, &site, &secret);
    }
    let mut text = format!("Mirrory is at {url}, its documentation at {url}/docs.");
    if !state.sites.has_any().await? {
        text += "\nThere is no site yet: mirrory site create --name NAME --plan PLAN";
    }
    Ok(Answer::Text(text, json!({ "url": url })))
}

/// An embedded store that is empty gets a site, so that its service can be tried at once; but not
/// one that has a secret of its own in the configuration.
async fn make_first_site(state: &AppState) -> Result<Option<(Site, ProxySecret)>, Failure> {
    let config = &state.config;
    let is_wanted = config.database.kind() == DatabaseKind::Sqlite
        && config.bootstrap.proxy_secret.is_none()
        && !state.database.time().is_wrong()
        && config.plans.contains_key(FIRST_PLAN);
    if !is_wanted {
        return Ok(None);
    }
    let site = NewSite::parse("First site", None, FIRST_PLAN)
        .map_err(|invalid| Failure::new(invalid.to_string()))?;
    let mut tx = state.database.begin().await?;
    let created = state.sites.create_first(&mut tx, &site).await?;
    tx.commit().await?;
    Ok(created)
}

/// Where the service is, and how to try it when there is a first site.
fn of_first_site(url: &str, site: &Site, secret: &ProxySecret) -> Result<Answer, Failure> {
    let commands = [generate_command(url, secret), validate_command(url)];
    let text = format!(
        "Mirrory is at {url}, its documentation at {url}/docs.\n\n\
         This store was empty, so there is a first site now, on the plan {plan}: {id}\n\
         Its proxy secret, which is shown this once:\n\n  {secret}\n\n\
         Issue a token, as the site's proxy would, and validate it, as the app would:\n\n\
         {generate}\n\n{validate}\n",
        plan = site.plan,
        id = site.id,
        secret = secret.reveal(),
        generate = commands[0],
        validate = commands[1],
    );
    let shown = with_secret(site, secret)?;
    let document = json!({ "url": url, "site": shown, "commands": commands });
    Ok(Answer::Text(text, document))
}

/// The answer is shown and kept, for the second command to take the token from.
fn generate_command(url: &str, secret: &ProxySecret) -> String {
    format!(
        "curl -sS {url}/mirrory/generate-token -H 'Content-Type: application/json' \
         -d '{{\"wp_user_id\": 12345, \"proxy_secret\": \"{}\"}}' | tee token.json",
        secret.reveal()
    )
}

fn validate_command(url: &str) -> String {
    format!(
        "curl -sS {url}/mirrory/validate-token -H 'Content-Type: application/json' \
         -d \"{{\\\"token\\\": \\\"$(sed 's/.*\"token\":\"\\([^\"]*\\)\".*/\\1/' token.json)\\\", \
         \\\"machine_id\\\": \\\"desktop-machine-uuid-1234567890\\\"}}\""
    )
}
