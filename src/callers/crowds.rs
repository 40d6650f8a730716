//! How many requests of one client, and of one account, are worked on at once.

use std::{net::IpAddr, time::Duration};

use crate::{
    attempts::AddressKey,
    error::ApiError,
    middleware::client::Client,
    store::Share,
    types::{
        ids::AccountId,
        turnstile::{Crowded, Place, Turn, Turnstile},
    },
};

/// How many requests of one client address (IPv6: /64) may be worked on before it is known who asks.
const AT_ONE_ADDRESS: usize = 512;

/// How many of them may want to take something back, for which there are few places: else strangers
/// could have them all.
const URGENT_AT_ONE_ADDRESS: usize = 16;

/// How many requests of one account may be worked on, so that others of the management API come by.
const AT_ONE_ACCOUNT: usize = 256;

/// How many accounts may wait for the lock of changes.
const AT_THE_LOCK: usize = 1024;

/// Who is at work in the management API. Requests that take something back are counted apart, so that
/// they come by those that do not. Clones share it.
#[derive(Clone, Debug)]
pub struct Crowds {
    addresses: Turnstile<(Share, AddressKey)>,
    urgent_addresses: Turnstile<(Share, AddressKey)>,
    accounts: Turnstile<(Share, AccountId)>,
    changes: Turnstile<(Share, AccountId)>,
    lock: Turnstile<Share>,
}

impl Default for Crowds {
    fn default() -> Self {
        Self {
            addresses: Turnstile::new(AT_ONE_ADDRESS),
            urgent_addresses: Turnstile::new(URGENT_AT_ONE_ADDRESS),
            accounts: Turnstile::new(AT_ONE_ACCOUNT),
            changes: Turnstile::new(AT_ONE_ACCOUNT),
            lock: Turnstile::new(AT_THE_LOCK),
        }
    }
}

/// A request's place among those of its client's address.
pub(crate) type AddressPlace = Place<(Share, AddressKey)>;

/// A request's place among those of its account.
pub(super) type AccountPlace = Place<(Share, AccountId)>;

/// The turn of a request to ask for the lock of changes.
pub(super) type ChangeTurn = (Turn<Share>, Turn<(Share, AccountId)>);

impl Crowds {
    /// Works for a client that is yet to prove who it is, with the share of the connections that the
    /// management API has.
    ///
    /// # Errors
    /// 503 `overloaded` when too much is worked on for its address already, and those of the work.
    pub(crate) async fn of_stranger<T>(
        &self,
        client: &Client,
        work: impl Future<Output = Result<T, ApiError>>,
    ) -> Result<T, ApiError> {
        let _place = self.at_address(client.address, Share::Management)?;
        Share::Management.around(work).await
    }

    /// A place among the requests of an address that are yet to prove who they are from.
    pub(crate) fn at_address(
        &self,
        address: IpAddr,
        share: Share,
    ) -> Result<AddressPlace, Crowded> {
        let addresses = match share {
            Share::Urgent => &self.urgent_addresses,
            _ => &self.addresses,
        };
        addresses.enter((share, address.into()))
    }

    /// A place among the requests of an account.
    pub(super) fn at_account(
        &self,
        account_id: AccountId,
        share: Share,
    ) -> Result<AccountPlace, Crowded> {
        self.accounts.enter((share, account_id))
    }

    /// Waits for the turn to ask for the lock of changes: an account's among its own requests, then
    /// among those of the others, so that one request at a time waits for it on a connection.
    pub(super) async fn change_turn(
        &self,
        account_id: AccountId,
        share: Share,
        patience: Duration,
    ) -> Result<ChangeTurn, Crowded> {
        let own = self.changes.enter((share, account_id))?;
        let own = own.turn(patience).await.ok_or(Crowded)?;
        let lock = self
            .lock
            .enter(share)?
            .turn(patience)
            .await
            .ok_or(Crowded)?;
        Ok((lock, own))
    }
}
