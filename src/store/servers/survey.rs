//! How each server of a configuration is.

use std::time::Duration;

use super::{
    identity::{Identity, are_on_one_server},
    options_of,
    search::{Writable, ask_all},
    within,
};
use crate::{config::DatabaseUrl, store::StoreError};

/// How one of several servers is.
pub(crate) struct Surveyed {
    /// Which copy of the data it has; an error is a refusal where it is read-only.
    pub(crate) identity: Result<Identity, StoreError>,
    /// Whether it is another name of one before it.
    pub(crate) is_named_before: bool,
}

/// How each server is, in their order.
///
/// # Errors
/// When a URL cannot be read, or a server that answered falls silent.
pub(crate) async fn survey(
    urls: &[DatabaseUrl],
    deadline: Duration,
) -> Result<Vec<Surveyed>, StoreError> {
    let surveying = async {
        let all = options_of(urls)?;
        let mut servers: Vec<Writable> = Vec::new();
        let mut surveyed = Vec::new();
        for answer in ask_all(&all, deadline).await {
            let mut is_named_before = false;
            let identity = match answer {
                Err(error) => Err(StoreError::of_connecting(error)),
                Ok(mut server) => {
                    let identity = server.identity;
                    for known in &mut servers {
                        let comparing =
                            are_on_one_server(&mut known.connection, &mut server.connection);
                        is_named_before |= within(deadline, comparing).await?;
                    }
                    if !is_named_before {
                        servers.push(server);
                    }
                    Ok(identity)
                }
            };
            surveyed.push(Surveyed {
                identity,
                is_named_before,
            });
        }
        Ok(surveyed)
    };
    surveying.await.map_err(StoreError::of_connecting)
}
