//! Tokens to validate, issued by the service itself.

use std::net::SocketAddr;

use serde::Deserialize;

use crate::{
    Outcome,
    generator::Load,
    requests::{self, Endpoint},
    service::Site,
};

/// Issuing is quick when many wait for one commit.
const CONNECTIONS: u32 = 128;

/// A token, and the machine that shows it.
#[derive(Clone)]
pub struct Token {
    pub text: String,
    pub id: String,
    pub machine_id: String,
}

/// How tokens come into the world.
#[derive(Clone, Copy)]
pub enum Birth {
    Bound,
    Unbound,
}

/// Of an answer, what the requests that follow need.
#[derive(Deserialize)]
struct Generated {
    token: String,
    token_id: String,
}

pub fn machine_id(number: u32) -> String {
    format!("desktop-machine-uuid-{number:010}")
}

/// Has the service at `address` issue tokens of the sites in turn.
pub async fn issue(
    address: SocketAddr,
    sites: &[Site],
    count: u32,
    birth: Birth,
) -> Outcome<Vec<Token>> {
    let requests = match birth {
        Birth::Bound => requests::generate_bound(sites, count),
        Birth::Unbound => requests::generate(sites, count),
    };
    let load = Load::new(
        address,
        Endpoint::Generate,
        requests,
        CONNECTIONS.min(count),
    );
    let bodies = load.fetch_all().await?;
    let tokens = (0..).zip(&bodies).map(|(number, body)| {
        let Generated { token, token_id } = serde_json::from_slice(body)?;
        Ok(Token {
            text: token,
            id: token_id,
            machine_id: machine_id(number),
        })
    });
    tokens.collect()
}
