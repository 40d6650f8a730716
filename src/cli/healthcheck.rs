//! `mirrory healthcheck`

use axum::http::StatusCode;

use super::{
    Context,
    output::{Answer, Failure},
};
use crate::doctor::ask_server;

pub(super) async fn run(context: &Context) -> Result<Answer, Failure> {
    let address = context.config.server.listen;
    let (status, body) = ask_server(address).await.map_err(Failure::new)?;
    if status != StatusCode::OK {
        return Err(Failure::new(format!("{address} is not healthy: {body}")));
    }
    Ok(Answer::One(body))
}
