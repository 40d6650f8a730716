//! `mirrory clock …`

use serde_json::json;

use super::{
    Context,
    output::{Answer, Failure},
};
use crate::{
    error::Chain,
    store::{changes::Actor, time},
};

pub(super) async fn accept(context: &Context) -> Result<Answer, Failure> {
    let database = context.open_store().await?;
    let now = context.clock.now();
    let mut tx = database.begin().await?;
    let by = Actor::Operator.into();
    time::accept(&mut tx, &by, now, &context.randomness)
        .await
        .map_err(|error| Failure::new(Chain(&error).to_string()))?;
    tx.commit().await?;
    let text = format!("{now} is the present time; a server takes it over within a second");
    Ok(Answer::Text(text, json!({ "accepted_at": now })))
}
