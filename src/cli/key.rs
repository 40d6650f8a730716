//! `mirrory key …`

use std::time::Duration;

use super::{
    Context,
    args::{KeyCommand, SigningKeyCommand},
    master_key,
    output::{Answer, Failure},
};
use crate::{
    app::{open_keys, open_tokens},
    keys::{Algorithm, KeyInfo, KeyRecord, KeyState, Keys, Kid, SIGNS_AFTER},
    store::{Database, changes::Actor, freshness::Freshness},
    tokens::Tokens,
};

const COLUMNS: &[&str] = &["kid", "algorithm", "state", "created_at"];

/// What the commands about keys work with.
struct KeyRoom<'a> {
    context: &'a Context,
    database: Database,
    keys: Keys,
    tokens: Tokens,
}

pub(super) async fn run(context: &Context, command: KeyCommand) -> Result<Answer, Failure> {
    match command {
        KeyCommand::RotateMaster { new_key_file } => {
            master_key::rotate(context, new_key_file).await
        }
        KeyCommand::OfTokens(command) => run_on_signing_keys(context, command).await,
    }
}

async fn run_on_signing_keys(
    context: &Context,
    command: SigningKeyCommand,
) -> Result<Answer, Failure> {
    let database = context.open_store().await?;
    let Context {
        config,
        clock,
        randomness,
        ..
    } = context;
    // Never fresh: a command reads the keys from the store.
    let freshness = Freshness::new(clock.clone());
    let room = KeyRoom {
        keys: open_keys(config, &database, clock, randomness, freshness).await?,
        tokens: open_tokens(config, &database, clock, randomness),
        database,
        context,
    };
    match command {
        SigningKeyCommand::List => Answer::many(&room.keys.list().await?, COLUMNS),
        SigningKeyCommand::Rotate { algorithm } => {
            let algorithm = algorithm.unwrap_or(config.tokens.algorithm);
            let made = room.rotate(algorithm).await?;
            Answer::one(&room.find(&made.kid).await?)
        }
        SigningKeyCommand::Revoke { kid } => {
            room.revoke(&kid).await?;
            Answer::one(&room.find(&kid).await?)
        }
    }
}

impl KeyRoom<'_> {
    async fn find(&self, kid: &Kid) -> Result<KeyInfo, Failure> {
        let keys = self.keys.list().await?;
        keys.into_iter().find(|key| key.kid == *kid).ok_or_else(|| {
            Failure::new(format!(
                "there is no key {kid}; `mirrory key list` shows those that there are"
            ))
        })
    }

    async fn rotate(&self, algorithm: Algorithm) -> Result<KeyRecord, Failure> {
        let key = self.keys.generate(algorithm).await?;
        let mut tx = self.database.begin().await?;
        // Until then the key that is replaced signs on.
        let signs_from = self.context.clock.now().after(SIGNS_AFTER);
        let last_token_ends = self.tokens.latest_end(&mut tx, signs_from).await?;
        let made = self
            .keys
            .rotate(&mut tx, Actor::Operator, &key, last_token_ends)
            .await?;
        tx.commit().await?;
        Ok(made)
    }

    /// Ends a key at once, but the one that signs only when its successor does.
    async fn revoke(&self, kid: &Kid) -> Result<(), Failure> {
        let key = self.find(kid).await?;
        if key.state == KeyState::Signing {
            let signs_from = match self.keys.successor().await? {
                Some(successor) => successor.signs_from,
                None => self.rotate(key.algorithm).await?.signs_from,
            };
            let wait = signs_from.as_micros() - self.context.clock.now().as_micros();
            tokio::time::sleep(Duration::from_micros(wait.max(0).unsigned_abs())).await;
        }
        let mut tx = self.database.begin().await?;
        self.keys.revoke(&mut tx, Actor::Operator, kid).await?;
        tx.commit().await?;
        Ok(())
    }
}
