//! The server in use, as an instance knows it.

use tokio::time::Instant;

use super::{identity::Identity, refusal::Refusal, search::Writable, seen::Seen};

/// The server that the pool connects to.
#[derive(Clone, Debug)]
pub(super) struct InUse {
    /// Its place among all: two may have one address, and lead to different ones by their options.
    pub(super) index: usize,
    pub(super) identity: Option<Identity>,
    /// When the search began that found it.
    pub(super) sought: Instant,
    /// When it came into use: a connection from before leads to another.
    pub(super) since: Instant,
    /// Whether none is used, for two are as new.
    pub(super) is_split: bool,
    /// The others that took writes.
    pub(super) left: Vec<usize>,
}

impl InUse {
    /// Whether this is the server in use; if not, it is newer.
    pub(super) fn is(&self, identity: &Identity, place: &str) -> Result<bool, Refusal> {
        if self.is_split {
            return Err(Refusal::undecided());
        }
        let Some(known) = self.identity else {
            return Ok(false);
        };
        Seen::from(known).check(identity, place)?;
        // A restart is later than what it ends.
        if identity.timeline == known.timeline && identity.started < known.started {
            return Err(Refusal::another_server(place));
        }
        Ok(*identity == known)
    }

    /// Refuses a server at another place that is as new as the one in use, and is not that one by
    /// another name: a promotion would have made it newer.
    pub(super) fn check_successor(&self, found: &Writable, place: &str) -> Result<(), Refusal> {
        let Writable {
            index, identity, ..
        } = found;
        let is_as_new = |known: Identity| {
            identity.timeline == known.timeline && identity.started != known.started
        };
        if *index != self.index && self.identity.is_some_and(is_as_new) {
            return Err(Refusal::another_server(place));
        }
        Ok(())
    }
}
