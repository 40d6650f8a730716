//! `mirrory database …`

use serde_json::json;

use super::{
    Context,
    args::DatabaseCommand,
    output::{Answer, Failure},
};
use crate::{
    app::open_store_to_accept,
    config::DatabaseKind,
    store::{Accepted, database::COMMAND_DEADLINE},
};

pub(super) async fn run(context: &Context, command: &DatabaseCommand) -> Result<Answer, Failure> {
    match command {
        DatabaseCommand::Accept => accept(context).await,
    }
}

async fn accept(context: &Context) -> Result<Answer, Failure> {
    let Context {
        config,
        clock,
        randomness,
        ..
    } = context;
    let embedded = || Failure::new("an embedded store has no server: there is nothing to accept");
    if config.database.kind() == DatabaseKind::Sqlite {
        return Err(embedded());
    }
    let database = open_store_to_accept(&config.database, COMMAND_DEADLINE).await?;
    let database = context.check_clock(database).await?;
    let accepted = database.accept_server(clock.now(), randomness).await?;
    let Accepted {
        system,
        timeline,
        is_news,
    } = accepted.ok_or_else(embedded)?;
    let (status, text) = if is_news {
        ("accepted", "From now on the store is")
    } else {
        ("unchanged", "There was nothing to accept: the store is")
    };
    let text = format!("{text} on the database system {system}, on timeline {timeline}.");
    let system = system.to_string();
    let document = json!({ "status": status, "system": system, "timeline": timeline });
    Ok(Answer::Text(text, document))
}
