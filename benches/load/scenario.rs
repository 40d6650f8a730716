//! Kinds of requests.

use std::net::SocketAddr;

use serde_json::{Value, json};

use crate::service::Site;

/// One kind of request, and what a right answer to it has in it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scenario {
    /// Validate a live token that is bound to the machine that asks.
    Validate,
    /// Issue a token, without an idempotency key.
    Generate,
}

impl Scenario {
    pub const ALL: [Self; 2] = [Self::Validate, Self::Generate];

    pub const fn name(self) -> &'static str {
        match self {
            Self::Validate => "validate",
            Self::Generate => "generate",
        }
    }

    pub const fn path(self) -> &'static str {
        match self {
            Self::Validate => "/mirrory/validate-token",
            Self::Generate => "/mirrory/generate-token",
        }
    }

    /// A text without which an answer is not the one that is measured.
    pub const fn expects(self) -> &'static [u8] {
        match self {
            Self::Validate => br#""valid":true"#,
            Self::Generate => br#""token":"eyJ"#,
        }
    }
}

/// A request to validate the token of this number.
pub fn validate(address: SocketAddr, number: u32, token: &str) -> Vec<u8> {
    let body = json!({"token": token, "machine_id": machine_id(number)});
    request(address, Scenario::Validate, &body)
}

/// A request to issue a token.
pub fn generate(address: SocketAddr, number: u32, site: &Site) -> Vec<u8> {
    let body = json!({"wp_user_id": number + 1, "proxy_secret": site.proxy_secret});
    request(address, Scenario::Generate, &body)
}

/// A request to issue the token of this number, bound to its machine.
pub fn generate_bound(address: SocketAddr, number: u32, site: &Site) -> Vec<u8> {
    let body = json!({
        "wp_user_id": number + 1,
        "proxy_secret": site.proxy_secret,
        "machine_id": machine_id(number),
    });
    request(address, Scenario::Generate, &body)
}

fn machine_id(number: u32) -> String {
    format!("desktop-machine-uuid-{number:010}")
}

/// A whole request as it goes over the wire.
fn request(address: SocketAddr, scenario: Scenario, body: &Value) -> Vec<u8> {
    let path = scenario.path();
    let body = body.to_string();
    let length = body.len();
    format!(
        "POST {path} HTTP/1.1\r\nhost: {address}\r\ncontent-type: application/json\r\n\
         content-length: {length}\r\n\r\n{body}"
    )
    .into_bytes()
}
