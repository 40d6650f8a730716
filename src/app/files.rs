//! The limit of open files: a connection is one, and so is one to the store.

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

use crate::config::{Config, DatabaseKind};

/// What the process has open besides connections: the log, what it listens on, the runtime's own.
const OWN_FILES: u64 = 64;

/// What each connection of an embedded store has open: the file, its log and the log's index.
const FILES_OF_EMBEDDED: u64 = 3 * 5;

/// The most that `server.max_connections` may say.
pub(crate) const MOST_CONNECTIONS: u64 = 1_000_000;

/// How many connections are kept, and what that takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Room {
    /// The limit of open files; none is no limit.
    pub(crate) limit: Option<u64>,
    /// As many connections fit below it.
    pub(crate) connections: usize,
    /// The least limit with that all that is configured fits, if it does not.
    pub(crate) needed: Option<u64>,
}

/// How many connections fit, with the soft limit raised as far as is needed and the hard one lets it.
/// It changes nothing.
pub(crate) fn room(config: &Config) -> Room {
    let Rlimit { current, maximum } = getrlimit(Resource::Nofile);
    let wanted = config.server.max_connections.map(u64::from);
    Plan::new(wanted, beside(config), current, maximum).room
}

/// The same, and raises the soft limit.
pub(crate) fn make_room(config: &Config) -> Room {
    let Rlimit { current, maximum } = getrlimit(Resource::Nofile);
    let wanted = config.server.max_connections.map(u64::from);
    let Plan { room, raised } = Plan::new(wanted, beside(config), current, maximum);
    let limit = Rlimit {
        current: raised,
        maximum,
    };
    if raised == current || setrlimit(Resource::Nofile, limit).is_ok() {
        return room;
    }
    // Some systems have one more limit.
    Plan::new(wanted, beside(config), current, current).room
}

/// What is opened that is no client's connection.
fn beside(config: &Config) -> u64 {
    let store = match config.database.kind() {
        DatabaseKind::Sqlite => FILES_OF_EMBEDDED,
        // One more listens for changes, and others are made while one is given up.
        DatabaseKind::Postgres => u64::from(config.database.max_connections) + 8,
    };
    let metrics = match config.telemetry.metrics_listen {
        Some(_) => METRICS_CONNECTIONS as u64,
        None => 0,
    };
    OWN_FILES + store + metrics
}

/// How many connections the listener for metrics has.
pub(crate) const METRICS_CONNECTIONS: usize = 32;

struct Plan {
    room: Room,
    raised: Option<u64>,
}

impl Plan {
    fn new(wanted: Option<u64>, beside: u64, soft: Option<u64>, hard: Option<u64>) -> Self {
        let needed = match wanted {
            Some(connections) => connections + beside,
            // A fifth is for what is beside.
            None => beside * 5,
        };
        let unlimited = |limit: Option<u64>| limit.unwrap_or(u64::MAX);
        let is_enough = unlimited(soft) >= needed;
        let raised = match hard {
            _ if is_enough => soft,
            Some(hard) => Some(hard.min(needed)),
            None => Some(needed),
        };
        let limit = unlimited(raised);
        let most =
            wanted.unwrap_or_else(|| (limit / 5 * 4 + limit % 5 * 4 / 5).min(MOST_CONNECTIONS));
        let connections = most.min(limit.saturating_sub(beside)).max(1);
        Self {
            room: Room {
                limit: raised,
                connections: usize::try_from(connections).unwrap_or(usize::MAX),
                needed: (limit < needed).then_some(needed),
            },
            raised,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const BESIDE: u64 = 88;

    fn plan(wanted: Option<u64>, soft: u64, hard: u64) -> (Option<u64>, usize, Option<u64>) {
        let Plan { room, raised } = Plan::new(wanted, BESIDE, Some(soft), Some(hard));
        assert_eq!(room.limit, raised);
        (raised, room.connections, room.needed)
    }

    #[test]
    fn unless_told_connections_have_four_fifths() {
        assert_eq!(plan(None, 1024, 4096), (Some(1024), 819, None));
        assert_eq!(plan(None, 20_000, 20_000), (Some(20_000), 16_000, None));
        let unlimited = Plan::new(None, BESIDE, None, None);
        assert_eq!(unlimited.room.limit, None);
        assert_eq!(unlimited.room.connections, 1_000_000);
    }

    #[test]
    fn the_limit_is_raised_to_what_is_needed() {
        assert_eq!(plan(Some(5000), 1024, 524_288), (Some(5088), 5000, None));
        assert_eq!(plan(Some(10), 1024, 524_288), (Some(1024), 10, None));
        assert_eq!(plan(None, 256, 524_288), (Some(440), 352, None));
        let unlimited = Plan::new(Some(5000), BESIDE, Some(1024), None);
        assert_eq!(unlimited.raised, Some(5088));
    }

    #[test]
    fn where_it_cannot_be_there_are_fewer_connections() {
        assert_eq!(plan(Some(5000), 1024, 1024), (Some(1024), 936, Some(5088)));
        assert_eq!(plan(Some(5000), 1024, 2048), (Some(2048), 1960, Some(5088)));
        assert_eq!(plan(None, 256, 256), (Some(256), 168, Some(440)));
        assert_eq!(plan(None, 64, 64), (Some(64), 1, Some(440)));
    }
}
