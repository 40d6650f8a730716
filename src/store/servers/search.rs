//! Asking all servers, and choosing the newest that takes writes.

use std::{cmp::Reverse, io, time::Duration};

use futures_util::{StreamExt, stream::FuturesUnordered};
use sqlx::{PgConnection, postgres::PgConnectOptions};
use tokio::time::{Instant, timeout_at};

use super::{
    address, connect,
    identity::{Identity, are_on_one_server, identify, read_only},
    refusal::Refusal,
    seen::Seen,
    within,
};

/// How much longer the others have to answer when one that takes writes has answered: they may be
/// newer.
const GRACE: Duration = Duration::from_secs(1);

/// A server that takes writes, by its place among all.
pub(super) struct Writable {
    pub(super) index: usize,
    pub(super) connection: PgConnection,
    pub(super) identity: Identity,
}

/// The newest of those that take writes.
pub(super) struct Found {
    pub(super) newest: Writable,
    /// The others that do, and why they are not used.
    pub(super) left: Vec<(usize, Refusal)>,
}

/// What each server answers, in their order.
pub(super) async fn ask_all(
    all: &[PgConnectOptions],
    deadline: Duration,
) -> Vec<Result<Writable, sqlx::Error>> {
    let late = || Err(sqlx::Error::Io(io::ErrorKind::TimedOut.into()));
    let mut answers: Vec<_> = all.iter().map(|_| late()).collect();
    let mut end = Instant::now() + deadline;
    let asking = all.iter().enumerate();
    let mut asking: FuturesUnordered<_> = asking
        .map(async |(index, options)| (index, ask(index, options).await))
        .collect();
    while let Ok(Some((index, answer))) = timeout_at(end, asking.next()).await {
        if answer.is_ok() {
            end = end.min(Instant::now() + GRACE);
        }
        answers[index] = answer;
    }
    answers
}

async fn ask(index: usize, options: &PgConnectOptions) -> Result<Writable, sqlx::Error> {
    let mut connection = connect(options).await?;
    match identify(&mut connection).await? {
        Some(identity) => Ok(Writable {
            index,
            connection,
            identity,
        }),
        None => Err(read_only(&mut connection).await),
    }
}

/// Finds the newest server that takes writes, of those that are not behind what is `known`. Where one
/// has several names, it is called by the `preferred` one.
///
/// # Errors
/// When none takes writes, with what is wrong with each; when it cannot be told which is the right one.
pub(super) async fn search(
    all: &[PgConnectOptions],
    known: Option<Seen>,
    preferred: usize,
    deadline: Duration,
) -> Result<Found, sqlx::Error> {
    let (mut writable, mut left, mut problems) = (Vec::new(), Vec::new(), Vec::new());
    for (answer, options) in ask_all(all, deadline).await.into_iter().zip(all) {
        let place = address(options);
        match answer {
            Err(error) => problems.push((place, error)),
            Ok(server) => match known.map_or(Ok(()), |known| known.check(&server.identity, &place))
            {
                Ok(()) => writable.push(server),
                Err(refusal) => left.push((server.index, refusal)),
            },
        }
    }
    writable.sort_by_key(|server| {
        let age = Reverse(server.identity.timeline);
        (age, server.index != preferred, server.index)
    });
    let mut writable = writable.into_iter();
    let Some(newest) = writable.next() else {
        let left = left.into_iter();
        problems.extend(left.map(|(index, refusal)| (address(&all[index]), refusal.into())));
        return Err(together(problems));
    };
    let comparing = compare(all, Found { newest, left }, writable);
    within(deadline, comparing).await
}

fn together(mut problems: Vec<(String, sqlx::Error)>) -> sqlx::Error {
    match &*problems {
        [_] => problems.remove(0).1,
        _ => Refusal::together(problems),
    }
}

/// That none of the others is as new as what was found.
async fn compare(
    all: &[PgConnectOptions],
    mut found: Found,
    others: impl Iterator<Item = Writable>,
) -> Result<Found, sqlx::Error> {
    let newest = &mut found.newest;
    let Identity {
        system, timeline, ..
    } = newest.identity;
    let named = address(&all[newest.index]);
    for mut other in others {
        let place = address(&all[other.index]);
        if other.identity.system != system {
            return Err(Refusal::two_systems(&named, &place).into());
        }
        if other.identity.timeline < timeline {
            let refusal = Refusal::old_timeline(&place, other.identity.timeline, timeline);
            found.left.push((other.index, refusal));
        } else if !are_on_one_server(&mut newest.connection, &mut other.connection).await? {
            return Err(Refusal::split_brain(&named, &place, timeline).into());
        }
    }
    Ok(found)
}
