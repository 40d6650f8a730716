//! How many connections are kept, and whose turn it is to go when there are too many.

use std::{
    collections::{BTreeMap, HashMap, hash_map::Entry},
    net::{IpAddr, SocketAddr},
    num::NonZeroUsize,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use ipnet::IpNet;
use tokio::{sync::Notify, time::timeout};

use super::{conversation::Conversation, gate::Gate, pulse::Pulse};
use crate::attempts::AddressKey;

/// How many connections are looked at in the search for an idle one.
const SEARCHED: usize = 1000;

/// How many connections may be on their way out while others come.
const LEAVING: usize = 32;

/// When it is looked again for a connection that has become idle.
const SEARCHED_AGAIN: Duration = Duration::from_millis(50);

/// How often it is said, in seconds, that connections are short.
const SAID_AGAIN: u32 = 60;

/// How many connections there may be.
#[derive(Clone, Debug)]
pub struct Limits {
    /// In all.
    pub connections: usize,
    /// From one address.
    pub per_address: Option<NonZeroUsize>,
    /// Whose connections are not counted by address.
    pub trusted_proxies: Arc<[IpNet]>,
}

impl Limits {
    /// So many in all, from wherever they come.
    #[must_use]
    pub fn of(connections: usize) -> Self {
        Self {
            connections,
            per_address: None,
            trusted_proxies: Arc::default(),
        }
    }
}

/// The connections that are kept. When they are short, the one goes that has been idle for the longest
/// time; one that is being answered never does.
#[derive(Clone)]
pub(super) struct Places(Arc<Shared>);

struct Shared {
    limits: Limits,
    pulse: Pulse,
    kept: Mutex<Kept>,
    left: Notify,
}

/// Since when a connection may have been idle at the earliest, and a number that makes it one of a kind.
/// Whoever is found to have been busy since then takes a new place in the order: nothing needs to be
/// noted down for each request.
type Rank = (u32, u64);

#[derive(Default)]
struct Kept {
    members: HashMap<u64, Member>,
    order: BTreeMap<Rank, u64>,
    addresses: HashMap<AddressKey, BTreeMap<Rank, u64>>,
    numbers: u64,
    dismissed: u32,
    refused: u32,
    said: Option<u32>,
}

struct Member {
    conversation: Arc<Conversation>,
    address: Option<AddressKey>,
    /// None on the way out.
    rank: Option<Rank>,
}

/// A connection's place, until it is dropped.
pub(super) struct Place {
    places: Places,
    number: u64,
    conversation: Arc<Conversation>,
    is_of_proxy: bool,
}

impl Places {
    pub(super) fn new(limits: Limits) -> Self {
        Self(Arc::new(Shared {
            limits,
            pulse: Pulse::default(),
            kept: Mutex::default(),
            left: Notify::new(),
        }))
    }

    pub(super) fn pulse(&self) -> &Pulse {
        &self.0.pulse
    }

    fn kept(&self) -> MutexGuard<'_, Kept> {
        self.0.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits until there is room for one more. The next connection after it makes the room itself.
    pub(super) async fn room(&self) {
        while !self.make_room() {
            let _looked_again = timeout(SEARCHED_AGAIN, self.0.left.notified()).await;
        }
    }

    fn make_room(&self) -> bool {
        let now = self.0.pulse.now();
        let mut kept = self.kept();
        while kept.order.len() > self.0.limits.connections {
            if !kept.dismiss_longest_idle(None, now) {
                break;
            }
        }
        kept.order.len() <= self.0.limits.connections && kept.leaving() < LEAVING
    }

    /// Sends the one away that has been idle for the longest time, if any is.
    pub(super) fn dismiss_one(&self) {
        self.kept().dismiss_longest_idle(None, self.0.pulse.now());
    }

    /// Takes a connection in. One that is too many for its address takes the place of another from
    /// there.
    pub(super) fn enter(&self, gate: &Gate, peer: SocketAddr) -> Option<Place> {
        let limits = &self.0.limits;
        let now = self.0.pulse.now();
        let ip = peer.ip().to_canonical();
        let is_of_proxy = is_any_of(&limits.trusted_proxies, ip);
        let counted = limits.per_address.filter(|_| !is_of_proxy);
        let address = counted.map(|_| AddressKey::from(ip));
        let mut kept = self.kept();
        if let (Some(most), Some(address)) = (counted, address) {
            let has = kept.addresses.get(&address).map_or(0, BTreeMap::len);
            if has >= most.get() && !kept.dismiss_longest_idle(Some(address), now) {
                kept.refused += 1;
                kept.say_that_they_are_short(now);
                return None;
            }
        }
        let conversation = Conversation::new(gate.clone(), peer, self.0.pulse.clone());
        let conversation = Arc::new(conversation);
        let number = kept.next_number();
        let member = Member {
            conversation: Arc::clone(&conversation),
            address,
            rank: None,
        };
        kept.members.insert(number, member);
        kept.rank(number, now);
        Some(Place {
            places: self.clone(),
            number,
            conversation,
            is_of_proxy,
        })
    }
}

fn is_any_of(networks: &[IpNet], address: IpAddr) -> bool {
    networks.iter().any(|network| network.contains(&address))
}

impl Kept {
    fn next_number(&mut self) -> u64 {
        self.numbers += 1;
        self.numbers
    }

    fn leaving(&self) -> usize {
        self.members.len() - self.order.len()
    }

    /// Puts a member into the order, as one that may be idle since then.
    fn rank(&mut self, number: u64, since: u32) {
        let rank = (since, self.next_number());
        if let Some(member) = self.members.get_mut(&number) {
            member.rank = Some(rank);
            self.order.insert(rank, number);
            if let Some(address) = member.address {
                self.addresses
                    .entry(address)
                    .or_default()
                    .insert(rank, number);
            }
        }
    }

    /// Takes a member out of the order.
    fn unrank(&mut self, number: u64) -> Option<&Member> {
        let member = self.members.get_mut(&number)?;
        let rank = member.rank.take()?;
        self.order.remove(&rank);
        if let Some(Entry::Occupied(mut of_address)) =
            member.address.map(|address| self.addresses.entry(address))
        {
            of_address.get_mut().remove(&rank);
            if of_address.get().is_empty() {
                of_address.remove();
            }
        }
        Some(member)
    }

    fn dismiss_longest_idle(&mut self, address: Option<AddressKey>, now: u32) -> bool {
        for _ in 0..SEARCHED {
            let order = match address {
                Some(address) => self.addresses.get(&address),
                None => Some(&self.order),
            };
            let first = order.and_then(BTreeMap::first_key_value);
            let Some((&(earliest, _), &number)) = first else {
                return false;
            };
            let Some(member) = self.unrank(number) else {
                return false;
            };
            match member.conversation.idle_since() {
                Some(since) if since <= earliest => {
                    member.conversation.dismiss();
                    self.dismissed += 1;
                    self.say_that_they_are_short(now);
                    return true;
                }
                since => self.rank(number, since.unwrap_or(now)),
            }
        }
        false
    }

    fn say_that_they_are_short(&mut self, now: u32) {
        if self.said.is_some_and(|said| now - said < SAID_AGAIN) {
            return;
        }
        self.said = Some(now);
        tracing::warn!(
            kept = self.members.len(),
            closed = std::mem::take(&mut self.dismissed),
            refused = std::mem::take(&mut self.refused),
            "connections are short, idle ones are closed: see server.max_connections and \
             limits.connections_per_address"
        );
    }
}

impl Place {
    pub(super) fn conversation(&self) -> &Arc<Conversation> {
        &self.conversation
    }

    pub(super) const fn is_of_proxy(&self) -> bool {
        self.is_of_proxy
    }

    /// Keeps its place, though it was asked for: something is being answered.
    pub(super) fn stay(&self) {
        let now = self.places.0.pulse.now();
        self.places.kept().rank(self.number, now);
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut kept = self.places.kept();
        kept.unrank(self.number);
        kept.members.remove(&self.number);
        drop(kept);
        self.places.0.left.notify_one();
    }
}

#[cfg(test)]
mod tests;
