//! Turns: requests about the same thing pass one at a time within an instance.
//!
//! No promise rests on it; those are statements of the store. But of requests that race for one
//! idempotency key, or for the binding of one token, all but one lose in the store, and until they
//! do they hold a call of the site's quota, which another request may be refused for.

use std::time::Duration;

use super::registry::Tokens;
use crate::{
    error::ApiError,
    middleware::admission::Admitted,
    types::{
        ids::{SiteId, TokenId},
        turnstile,
        turnstile::Crowded,
    },
};

/// How long a request waits for its turn.
const PATIENCE: Duration = Duration::from_secs(2);

/// How many requests may be at one subject: more than ever race for one in earnest, and few enough
/// that their turns come in time.
pub(super) const AT_ONE_SUBJECT: usize = 256;

/// What requests can be about.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) enum Subject {
    /// An idempotency key of a site, as its digest.
    Key(SiteId, [u8; 32]),
    /// A token that is not known to be bound.
    Token(TokenId),
}

/// A request among those that are about the same.
pub(super) type Place = turnstile::Place<Subject>;

/// The turn of one request; the next one's begins when it is dropped.
pub(super) type Turn = turnstile::Turn<Subject>;

impl Tokens {
    /// Takes a place among the requests of this instance that are about the same.
    ///
    /// # Errors
    /// When there are too many already.
    pub(super) fn enter(&self, subject: Subject) -> Result<Place, Crowded> {
        self.turns.enter(subject)
    }
}

/// Waits until none of the requests that came before is about the same. Meanwhile the request leaves
/// its place among those that are worked on to others.
///
/// # Errors
/// 503 `overloaded` when it takes too long.
pub(super) async fn turn_of(place: Place, admitted: &mut Admitted) -> Result<Turn, ApiError> {
    let turn = admitted.aside(place.turn(PATIENCE)).await?;
    turn.ok_or(ApiError::Overloaded)
}
