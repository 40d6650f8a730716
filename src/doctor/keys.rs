//! The keys: whether the master key opens what the store has sealed, and tokens can be signed.

use std::time::Duration;

use super::{Check, Status};
use crate::{
    app::{assemble_keys, present_master_keys},
    config::Config,
    error::Chain,
    keys::{self, KeyState, Keys, KeysError, TokenClaims, vault::MasterKey},
    store::{Database, StoreError, freshness::Freshness},
    types::{
        clock::Clock,
        ids::{SiteId, TokenId, WpUserId},
        randomness::Randomness,
    },
};

pub(super) async fn examine(
    config: &Config,
    database: &Database,
    clock: &Clock,
    randomness: &Randomness,
) -> Vec<Check> {
    let (check, key) = match of_master_key(config, database).await {
        Ok(found) => found,
        Err(error) => {
            let advice = "see what the database's own log says";
            let check = Check::failed("master_key", Chain(&error).to_string(), advice);
            (check, None)
        }
    };
    let Some(key) = key else {
        return vec![check];
    };
    let signing = match try_keys(config, database, &key, clock, randomness).await {
        Ok(check) => check,
        Err(error) => Check::failed(
            "signing_keys",
            Chain(&error).to_string(),
            "restore the keys from a back-up, or end the one that does not open with `mirrory key \
             revoke KID` and make another with `mirrory key rotate`",
        ),
    };
    vec![check, signing]
}

/// How the master key is, and the one that opens the store.
async fn of_master_key(
    config: &Config,
    database: &Database,
) -> Result<(Check, Option<MasterKey>), StoreError> {
    const CHECK: &str = "master_key";
    let present = match present_master_keys(config) {
        Ok(present) => present,
        Err(error) => {
            let advice = "put the key there that the store was made with";
            let check = Check::failed(CHECK, Chain(&error).to_string(), advice);
            return Ok((check, None));
        }
    };
    if !keys::has_vault(database).await? {
        let detail = "the store has no keys yet: the first start makes them";
        return Ok((Check::ok(CHECK, detail), None));
    }
    let (count, mut opening) = (present.len(), None);
    for key in present {
        if keys::opens(database, &key).await? {
            opening = Some(key);
        }
    }
    let check = match (&opening, count) {
        (Some(_), 1) => Check::ok(CHECK, "it opens the store's data key"),
        (Some(_), _) => Check::warning(
            CHECK,
            "there are two: a change of it was cut off",
            "run `mirrory key rotate-master` again",
        ),
        (None, 0) => Check::failed(
            CHECK,
            "there is none, and the store's keys are sealed",
            "restore master.key beside the store from your back-up, or set secrets.master_key",
        ),
        (None, _) => Check::failed(
            CHECK,
            "it does not open the store's data key",
            "configure the one that the store was made with, or was given last",
        ),
    };
    Ok((check, opening))
}

/// Opens every key that verifies, and has one sign a token that is then verified.
async fn try_keys(
    config: &Config,
    database: &Database,
    master_key: &MasterKey,
    clock: &Clock,
    randomness: &Randomness,
) -> Result<Check, KeysError> {
    const CHECK: &str = "signing_keys";
    let vault = keys::open_vault(database, master_key, clock, randomness).await?;
    let freshness = Freshness::new(clock.clone());
    let keys = assemble_keys(config, database, vault, clock, randomness, freshness);
    let known = keys.list().await?;
    if known.is_empty() {
        return Ok(Check::ok(CHECK, "none yet: the first start makes one"));
    }
    let Some(signing) = known.iter().find(|key| key.state == KeyState::Signing) else {
        let advice = "make one with `mirrory key rotate`";
        return Ok(Check::failed(CHECK, "none of them signs", advice));
    };
    let detail = format!(
        "{} known, {} signs: {}",
        known.len(),
        signing.kid,
        signing.algorithm
    );
    Ok(if signs(&keys, clock, randomness).await? {
        Check::ok(CHECK, detail)
    } else {
        let advice = "make another key with `mirrory key rotate`, and revoke this one";
        Check {
            status: Status::Failed,
            ..Check::warning(CHECK, format!("{detail}, and does not verify"), advice)
        }
    })
}

async fn signs(keys: &Keys, clock: &Clock, randomness: &Randomness) -> Result<bool, KeysError> {
    let now = clock.now().whole_second();
    let claims = TokenClaims {
        site_id: SiteId::new(now, randomness),
        token_id: TokenId::new(now, randomness),
        user_id: WpUserId::MIN,
        issued_at: now,
        expires_at: now.after(Duration::from_secs(1)),
    };
    let token = keys.sign(&claims).await?;
    Ok(keys.verify(&token).await? == Ok(claims))
}
