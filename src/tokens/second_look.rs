//! The last look before a call is refused for its quota.

use axum::http::Extensions;

use super::{generate::GenerateToken, identify::Known, registry::Tokens, validate::ValidateToken};
use crate::{error::ApiError, quota::SecondLook, types::clock::Clock};

/// Looks an idempotency key and a token's record up once more: the request that this one repeats
/// may have used up the last call meanwhile, and a machine that came first has the token. A refusal
/// with a reason is told in place of the quota's, and costs nothing.
#[derive(Clone)]
pub(super) struct LastLook {
    tokens: Tokens,
    clock: Clock,
}

impl LastLook {
    pub(super) const fn new(tokens: Tokens, clock: Clock) -> Self {
        Self { tokens, clock }
    }
}

impl SecondLook for LastLook {
    async fn costs_nothing(&self, extensions: &mut Extensions) -> Result<bool, ApiError> {
        if let Some(Known(call)) = extensions.get_mut::<Known<GenerateToken>>() {
            return call.find_replay(&self.tokens).await;
        }
        if let Some(Known(call)) = extensions.get_mut::<Known<ValidateToken>>() {
            return call.judge_again(&self.tokens, self.clock.now()).await;
        }
        Ok(false)
    }
}
