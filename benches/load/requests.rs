//! The requests, byte by byte. Whoever is compared is sent the same ones.

use std::sync::Arc;

use serde_json::{Value, json};

use crate::{
    service::Site,
    tokens::{Token, machine_id},
};

/// An endpoint that is measured.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Endpoint {
    /// Validate a token on the machine that it is bound to.
    Validate,
    /// Issue a token, without an idempotency key.
    Generate,
    /// Take a token back.
    Revoke,
    /// Sign somebody in.
    SignIn,
}

/// Whole requests as they go over the wire.
pub type Requests = Arc<[Vec<u8>]>;

/// As many digits as the user of the bare server's answers.
pub const FIRST_USER: u32 = 10_000;

impl Endpoint {
    pub const fn path(self) -> &'static str {
        match self {
            Self::Validate => "/mirrory/validate-token",
            Self::Generate => "/mirrory/generate-token",
            Self::Revoke => "/mirrory/revoke-token",
            Self::SignIn => "/api/v1/jwt",
        }
    }

    /// A text without which an answer is not the one that is measured.
    pub const fn expects(self) -> &'static [u8] {
        match self {
            Self::Validate => br#""valid":true"#,
            Self::Generate => br#""token":"eyJ"#,
            Self::Revoke => b"{}",
            Self::SignIn => br#""access_token":"eyJ"#,
        }
    }
}

/// One for each token, from its machine.
pub fn validate(tokens: &[Token]) -> Requests {
    tokens.iter().map(validate_one).collect()
}

pub fn validate_one(token: &Token) -> Vec<u8> {
    validate_text(&token.text, &token.machine_id)
}

pub fn validate_text(token: &str, machine_id: &str) -> Vec<u8> {
    let body = json!({"token": token, "machine_id": machine_id});
    request(Endpoint::Validate, &body)
}

/// One for each of `count` users, of the sites in turn.
pub fn generate(sites: &[Site], count: u32) -> Requests {
    let turns = (0..count).zip(sites.iter().cycle());
    let requests = turns.map(|(number, site)| generate_text(number, &site.proxy_secret));
    requests.collect()
}

pub fn generate_text(number: u32, proxy_secret: &str) -> Vec<u8> {
    let body = json!({"wp_user_id": FIRST_USER + number, "proxy_secret": proxy_secret});
    request(Endpoint::Generate, &body)
}

/// As [`generate`], each with an idempotency key that no other one has.
pub fn generate_with_keys(sites: &[Site], count: u32) -> Requests {
    let keyed = |(number, request): (usize, &Vec<u8>)| {
        let request = String::from_utf8_lossy(request);
        let key = format!("\r\nidempotency-key: {number:010}\r\ncontent-length:");
        request
            .replacen("\r\ncontent-length:", &key, 1)
            .into_bytes()
    };
    generate(sites, count)
        .iter()
        .enumerate()
        .map(keyed)
        .collect()
}

/// As [`generate`], and each token is bound from birth.
pub fn generate_bound(sites: &[Site], count: u32) -> Requests {
    let turns = (0..count).zip(sites.iter().cycle());
    let requests = turns.map(|(number, site)| {
        let body = json!({
            "wp_user_id": FIRST_USER + number,
            "proxy_secret": site.proxy_secret,
            "machine_id": machine_id(number),
        });
        request(Endpoint::Generate, &body)
    });
    requests.collect()
}

pub fn revoke(token_id: &str, site: &Site) -> Vec<u8> {
    let body = json!({"token_id": token_id, "proxy_secret": site.proxy_secret});
    request(Endpoint::Revoke, &body)
}

pub fn sign_in(email: &str, password: &str) -> Vec<u8> {
    let body = json!({"email": email, "password": password});
    request(Endpoint::SignIn, &body)
}

fn request(endpoint: Endpoint, body: &Value) -> Vec<u8> {
    let path = endpoint.path();
    let body = body.to_string();
    let length = body.len();
    format!(
        "POST {path} HTTP/1.1\r\nhost: 127.0.0.1\r\ncontent-type: application/json\r\n\
         content-length: {length}\r\n\r\n{body}"
    )
    .into_bytes()
}
