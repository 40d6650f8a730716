//! `mirrory api-token …`

use super::{
    Context,
    args::ApiTokenCommand,
    output::{Answer, Failure},
    site::no_account,
};
use crate::{
    accounts::Accounts,
    api_tokens::{ApiTokens, OwnedApiToken},
    store::{
        Database,
        changes::{self, Actor},
    },
    types::ids::ApiTokenId,
};

const COLUMNS: &[&str] = &[
    "id",
    "account_id",
    "name",
    "scopes",
    "created_at",
    "expires_at",
    "last_used_at",
];

pub(super) async fn run(context: &Context, command: ApiTokenCommand) -> Result<Answer, Failure> {
    let database = context.open_store().await?;
    let Context {
        clock, randomness, ..
    } = context;
    let tokens = ApiTokens::new(database.clone(), clock.clone(), randomness.clone());
    match command {
        ApiTokenCommand::List { account: None } => Answer::many(&tokens.list_all().await?, COLUMNS),
        ApiTokenCommand::List {
            account: Some(account_id),
        } => {
            let accounts = Accounts::new(database, clock.clone(), randomness.clone());
            if accounts.find(account_id).await?.is_none() {
                return Err(no_account(account_id));
            }
            Answer::many(&tokens.list(account_id).await?, COLUMNS)
        }
        ApiTokenCommand::Revoke { token_id } => {
            Answer::one(&revoke(&database, &tokens, token_id).await?)
        }
    }
}

/// Ends a token; as it was.
async fn revoke(
    database: &Database,
    tokens: &ApiTokens,
    token_id: ApiTokenId,
) -> Result<OwnedApiToken, Failure> {
    let mut tx = database.begin().await?;
    changes::lock(&mut tx).await?;
    let Some(owned) = ApiTokens::find_in(&mut tx, token_id).await? else {
        return Err(Failure::new(format!("there is no API token {token_id}")));
    };
    let by = Actor::Operator.into();
    tokens
        .revoke(&mut tx, &by, owned.account_id, token_id)
        .await?;
    tx.commit().await?;
    Ok(owned)
}
