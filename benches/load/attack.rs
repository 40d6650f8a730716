//! An attack: wrong secrets and forged tokens from many addresses.

use std::net::{Ipv4Addr, SocketAddr};

use data_encoding::BASE64URL_NOPAD;
use mirrory::{
    keys::Kid,
    types::{clock::Clock, ids::SecretId, randomness::Randomness, secret::ProxySecret},
};

use crate::{
    Outcome,
    paced::{Pace, Paced},
    requests::{self, Requests},
    service::Site,
    tokens::Token,
};

const PACE: Pace = Pace {
    rate: 200,
    first: Ipv4Addr::new(127, 0, 1, 1),
    addresses: 50,
};

/// Enough for most of a run; then they come again.
const REQUESTS: u32 = 10_000;

/// One of these is in the answer to what is wrong.
const REFUSALS: &[&[u8]] = &[
    b"\"invalid_proxy_secret\"",
    b"\"bad_signature\"",
    b"\"too_many_attempts\"",
];

/// On the service at `address`, by somebody who has seen a secret and a token of it.
pub fn attack(address: SocketAddr, site: &Site, token: &Token) -> Outcome<Paced> {
    Ok(Paced::new(address, PACE, attempts(site, token)?, REFUSALS))
}

/// Four kinds in turn, no two alike: a secret of nobody, a site's secret but for its random part, a
/// token with another signature, and a token of a key that is not there.
fn attempts(site: &Site, token: &Token) -> Outcome<Requests> {
    let randomness = Randomness::seeded(1);
    let now = Clock::system().now();
    let known = ProxySecret::parse(site.proxy_secret.clone())?.id();
    let known = known.ok_or("a secret without an id")?;
    let (header, rest) = token.text.split_once('.').ok_or("no JWT")?;
    let (claims, _signature) = rest.split_once('.').ok_or("no JWT")?;
    let forged = |header: &str| {
        let signature = BASE64URL_NOPAD.encode(&randomness.bytes::<32>());
        requests::validate_text(&format!("{header}.{claims}.{signature}"), &token.machine_id)
    };
    let guessed = |number, id| {
        let secret = ProxySecret::generate(id, &randomness);
        requests::generate_text(number, secret.reveal())
    };
    let requests = (0..REQUESTS).map(|number| match number % 4 {
        0 => guessed(number, SecretId::new(now, &randomness)),
        1 => forged(header),
        2 => guessed(number, known),
        _ => forged(&header_of(&Kid::generate(&randomness))),
    });
    Ok(requests.collect())
}

fn header_of(kid: &Kid) -> String {
    let header = format!(r#"{{"typ":"JWT","alg":"HS256","kid":"{}"}}"#, kid.as_str());
    BASE64URL_NOPAD.encode(header.as_bytes())
}
