//! `mirrory token …`

use super::{
    Context,
    args::{TokenChange, TokenCommand},
    output::{Answer, Failure},
    site::no_site,
};
use crate::{
    app::open_tokens,
    sites::{SiteState, Sites},
    store::{Tx, changes::Actor},
    tokens::{HeldToken, TokenStatus, TokenSummary, Tokens},
    types::{clock::Timestamp, ids::TokenId},
};

const COLUMNS: &[&str] = &[
    "token_id",
    "user_id",
    "state",
    "machine_id",
    "last_validated_at",
    "coins",
    "issued_at",
    "expires_at",
];

pub(super) async fn run(context: &Context, command: TokenCommand) -> Result<Answer, Failure> {
    let database = context.open_store().await?;
    let Context {
        config,
        clock,
        randomness,
        ..
    } = context;
    let tokens = open_tokens(config, &database, clock, randomness);
    let now = clock.now();
    match command {
        TokenCommand::List { site, user, limit } => {
            let sites = Sites::new(database, clock.clone(), randomness.clone(), None);
            if sites.find(site).await?.is_none() {
                return Err(no_site(site));
            }
            let records = tokens.list(site, user, limit.into()).await?;
            let shown: Vec<_> = records
                .iter()
                .map(|record| TokenSummary::new(record, TokenStatus::of(record, now)))
                .collect();
            Answer::many(&shown, COLUMNS)
        }
        TokenCommand::Show { token_id } => find(&tokens, token_id, now).await,
        TokenCommand::Change(change) => {
            let mut tx = database.begin().await?;
            let token_id = apply(&tokens, &mut tx, change).await?;
            tx.commit().await?;
            find(&tokens, token_id, now).await
        }
    }
}

async fn apply(tokens: &Tokens, tx: &mut Tx, change: TokenChange) -> Result<TokenId, Failure> {
    match change {
        TokenChange::Revoke { token_id } => {
            tokens.revoke(tx, Actor::Operator, token_id).await?;
            Ok(token_id)
        }
        TokenChange::Release { token_id } => {
            tokens.release(tx, Actor::Operator, token_id).await?;
            Ok(token_id)
        }
    }
}

async fn find(tokens: &Tokens, token_id: TokenId, now: Timestamp) -> Result<Answer, Failure> {
    let HeldToken { record, site, .. } = tokens
        .find(token_id)
        .await?
        .ok_or_else(|| Failure::new(format!("there is no token {token_id}")))?;
    let state = match site {
        SiteState::Deleted => TokenStatus::Revoked,
        SiteState::Present { .. } => TokenStatus::of(&record, now),
    };
    Answer::one(&TokenSummary::new(&record, state))
}
