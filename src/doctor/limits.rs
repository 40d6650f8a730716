//! How many files the system lets a process open.

use super::Check;
use crate::{
    app::{Room, room},
    config::Config,
};

const CHECK: &str = "open_files";

/// Whether what is configured fits below the limit that holds here; a server that is started otherwise
/// may have another.
pub(super) fn examine(config: &Config) -> Check {
    check(&room(config))
}

fn check(room: &Room) -> Check {
    let limit = room
        .limit
        .map_or_else(|| "no limit".to_owned(), |limit| format!("{limit} at most"));
    let connections = room.connections;
    let detail =
        format!("{limit}, with room for {connections} connections, to a server started from here");
    match room.needed {
        None => Check::ok(CHECK, detail),
        Some(needed) => Check::warning(
            CHECK,
            format!("{detail}; what is configured takes {needed}"),
            "raise the limit (`ulimit -n`, or LimitNOFILE= in systemd), or set \
             server.max_connections or database.max_connections to less",
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::doctor::Status;

    #[test]
    fn a_limit_that_is_too_low_is_a_warning() {
        let enough = Room {
            limit: Some(1024),
            connections: 819,
            needed: None,
        };
        let found = check(&enough);
        assert_eq!(found.status, Status::Ok);
        assert!(found.detail.contains("1024") && found.detail.contains("819"));
        let short = Room {
            needed: Some(5088),
            ..enough
        };
        let found = check(&short);
        assert_eq!(found.status, Status::Warning);
        assert!(found.detail.contains("5088"), "{found:?}");
        let unlimited = Room {
            limit: None,
            ..enough
        };
        assert_eq!(check(&unlimited).status, Status::Ok);
    }
}
