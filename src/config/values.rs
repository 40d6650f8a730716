//! How each kind of value is read and shown.
//!
//! A value comes as TOML from a file and as a text from the environment. The messages say what it
//! must be and never what it was.

use std::{
    fmt::Display,
    net::{IpAddr, SocketAddr},
    str::FromStr,
};

use axum::http::HeaderValue;
use ipnet::{IpNet, Ipv4Net};
use secrecy::SecretString;
use serde::{Deserialize, Deserializer, Serializer, de, ser::SerializeSeq};
use toml::Value;
use url::Url;

use super::{DatabaseKind, DatabaseUrl, PlanName};
use crate::{
    keys::{signer::Algorithm, vault::MasterKey},
    telemetry::LogFormat,
    types::{
        secret::ProxySecret,
        text::{plain, unquoted},
    },
};

const MIN_CHOSEN_SECRET_BYTES: usize = 16;
/// IPv4-mapped IPv6 addresses (RFC 4291, section 2.5.5.2) begin with so many fixed bits.
const MAPPED_PREFIX_BITS: u8 = 96;

pub(super) fn whole_number<'de, const MIN: i64, const MAX: i64, T, D>(
    deserializer: D,
) -> Result<T, D::Error>
where
    T: TryFrom<i64>,
    D: Deserializer<'de>,
{
    let number = match Value::deserialize(deserializer)? {
        Value::Integer(number) => Some(number),
        Value::String(text) => text.parse().ok(),
        _ => None,
    };
    number
        .filter(|number| (MIN..=MAX).contains(number))
        .and_then(|number| T::try_from(number).ok())
        .ok_or_else(|| {
            de::Error::custom(format_args!("must be a whole number from {MIN} to {MAX}"))
        })
}

pub(super) fn optional_number<'de, const MIN: i64, const MAX: i64, T, D>(
    deserializer: D,
) -> Result<Option<T>, D::Error>
where
    T: TryFrom<i64>,
    D: Deserializer<'de>,
{
    whole_number::<MIN, MAX, T, D>(deserializer).map(Some)
}

fn text<'de, D: Deserializer<'de>>(deserializer: D) -> Result<String, D::Error> {
    match Value::deserialize(deserializer)? {
        Value::String(text) => Ok(text),
        _ => Err(de::Error::custom("must be a string in quotes")),
    }
}

fn parsed<'de, T: FromStr, D: Deserializer<'de>>(
    deserializer: D,
    expected: &str,
) -> Result<T, D::Error> {
    let text = text(deserializer)?;
    text.parse().map_err(|_| de::Error::custom(expected))
}

pub(super) fn socket_address<'de, D: Deserializer<'de>>(
    deserializer: D,
) -> Result<SocketAddr, D::Error> {
    let expected = "must be an IP address and a port, such as `127.0.0.1:8080` or `[::]:8080`";
    parsed(deserializer, expected)
}

pub(super) fn metrics_address<'de, D: Deserializer<'de>>(
    deserializer: D,
) -> Result<Option<SocketAddr>, D::Error> {
    let expected = "must be an IP address and a port, such as `127.0.0.1:9464` or `[::]:9464`";
    parsed(deserializer, expected).map(Some)
}

/// The message must not show what may have a password in it, so none is taken.
pub(super) fn endpoint<'de, D: Deserializer<'de>>(
    deserializer: D,
) -> Result<Option<Url>, D::Error> {
    let url: Option<Url> = text(deserializer)?.parse().ok();
    let is_plain = |url: &Url| {
        matches!(url.scheme(), "http" | "https")
            && url.username().is_empty()
            && url.password().is_none()
            && url.query().is_none()
            && url.fragment().is_none()
    };
    let expected = "must be a URL such as `http://127.0.0.1:4318`, without a user, a password or a \
                    query";
    let url = url.filter(is_plain);
    url.map(Some).ok_or_else(|| de::Error::custom(expected))
}

pub(super) fn share<'de, D: Deserializer<'de>>(deserializer: D) -> Result<f64, D::Error> {
    let share = match Value::deserialize(deserializer)? {
        Value::Float(share) => Some(share),
        Value::Integer(0) => Some(0.0),
        Value::Integer(1) => Some(1.0),
        Value::String(text) => text.parse().ok(),
        _ => None,
    };
    share
        .filter(|share| (0.0..=1.0).contains(share))
        .ok_or_else(|| de::Error::custom("must be a number from 0 to 1"))
}

pub(super) fn algorithm<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Algorithm, D::Error> {
    parsed(deserializer, "must be `HS256`, `RS256`, `ES256` or `EdDSA`")
}

pub(super) fn plan_name<'de, D: Deserializer<'de>>(deserializer: D) -> Result<PlanName, D::Error> {
    parsed(deserializer, "must be one of the plans")
}

pub(super) fn log_format<'de, D: Deserializer<'de>>(
    deserializer: D,
) -> Result<Option<LogFormat>, D::Error> {
    parsed(deserializer, "must be `pretty` or `json`").map(Some)
}

pub(super) fn claim<'de, D: Deserializer<'de>>(deserializer: D) -> Result<String, D::Error> {
    let claim = text(deserializer)?;
    if claim.is_empty() || claim.len() > 255 || claim.chars().any(char::is_control) {
        let expected = "must be 1 to 255 bytes without control characters";
        return Err(de::Error::custom(expected));
    }
    Ok(claim)
}

pub(super) fn database_url<'de, D: Deserializer<'de>>(
    deserializer: D,
) -> Result<DatabaseUrl, D::Error> {
    text(deserializer)?.parse().map_err(de::Error::custom)
}

pub(super) fn database_urls<'de, D: Deserializer<'de>>(
    deserializer: D,
) -> Result<Vec<DatabaseUrl>, D::Error> {
    list(deserializer, |text| {
        let url: DatabaseUrl = text.parse().map_err(|error| format!("{error}"))?;
        match url.kind() {
            DatabaseKind::Postgres => Ok(url),
            DatabaseKind::Sqlite => Err("must be a URL of PostgreSQL".to_owned()),
        }
    })
}

pub(super) fn master_key<'de, D: Deserializer<'de>>(
    deserializer: D,
) -> Result<Option<SecretString>, D::Error> {
    let key = text(deserializer)?;
    MasterKey::parse(&key).map_err(de::Error::custom)?;
    Ok(Some(key.into()))
}

pub(super) fn proxy_secret<'de, D: Deserializer<'de>>(
    deserializer: D,
) -> Result<Option<ProxySecret>, D::Error> {
    let secret = ProxySecret::parse(text(deserializer)?)
        .ok()
        .filter(|secret| secret.reveal().len() >= MIN_CHOSEN_SECRET_BYTES)
        .ok_or_else(|| de::Error::custom("must be 16 to 512 bytes"))?;
    if secret.has_our_prefix() {
        return Err(de::Error::custom(
            "must not begin with `mps_`, which marks the secrets that the service makes",
        ));
    }
    Ok(Some(secret))
}

#[expect(clippy::ref_option, reason = "the form that serde calls")]
pub(super) fn hide<T, S: Serializer>(secret: &Option<T>, serializer: S) -> Result<S::Ok, S::Error> {
    match secret {
        Some(_) => serializer.serialize_some("[secret]"),
        None => serializer.serialize_none(),
    }
}

/// A list, or the same separated by commas; a bad entry is told by its number.
fn list<'de, T, E: Display, D: Deserializer<'de>>(
    deserializer: D,
    parse: impl Fn(&str) -> Result<T, E>,
) -> Result<Vec<T>, D::Error> {
    let entries: Option<Vec<String>> = match Value::deserialize(deserializer)? {
        Value::String(text) => Some(separated(&text)?),
        Value::Array(entries) => entries
            .into_iter()
            .map(|entry| entry.as_str().map(str::to_owned))
            .collect(),
        _ => None,
    };
    let entries = entries.ok_or_else(|| de::Error::custom("must be a list of strings"))?;
    let parse_entry = |(index, entry): (usize, &String)| {
        let bad = |problem: &dyn Display| {
            let number = index + 1;
            de::Error::custom(format_args!("entry {number} {problem}"))
        };
        let entry = plain(entry).map_err(|problem| bad(&problem))?;
        parse(entry).map_err(|problem| bad(&problem))
    };
    entries.iter().enumerate().map(parse_entry).collect()
}

/// The entries of a list that is one text, with commas between them.
fn separated<E: de::Error>(text: &str) -> Result<Vec<String>, E> {
    let text = unquoted(text.trim()).map_err(E::custom)?;
    if text.is_empty() {
        return Ok(Vec::new());
    }
    if text.starts_with('[') && text.ends_with(']') {
        return Err(E::custom(
            "is a list as JSON has it: leave out the brackets and the quotes, and write commas \
             between the entries, as in `a,b`",
        ));
    }
    Ok(text.split(',').map(str::to_owned).collect())
}

pub(super) fn networks<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<IpNet>, D::Error> {
    list(deserializer, |text| {
        network(text).ok_or("must be a network such as `10.0.0.0/8`, or one address")
    })
}

fn network(text: &str) -> Option<IpNet> {
    let network: IpNet = text
        .parse()
        .ok()
        .or_else(|| text.parse::<IpAddr>().ok().map(IpNet::from))?;
    Some(canonical(network).trunc())
}

/// A network of IPv4-mapped addresses as the IPv4 network that it means: client addresses are
/// compared in that form.
fn canonical(network: IpNet) -> IpNet {
    let IpNet::V6(v6) = network else {
        return network;
    };
    let mapped = v6.addr().to_ipv4_mapped();
    let bits = v6.prefix_len().checked_sub(MAPPED_PREFIX_BITS);
    mapped
        .zip(bits)
        .and_then(|(address, bits)| Ipv4Net::new(address, bits).ok())
        .map_or(network, IpNet::V4)
}

pub(super) fn origins<'de, D: Deserializer<'de>>(
    deserializer: D,
) -> Result<Vec<HeaderValue>, D::Error> {
    list(deserializer, |text| {
        origin(text).ok_or(
            "must be an origin as browsers send it: scheme://host or scheme://host:port, in lower \
             case, without a path or a default port; `*` would let any page ask, so name the \
             origins",
        )
    })
}

/// An origin (RFC 6454, section 6.2). Other schemes than the web's are those of desktop shells,
/// such as `tauri://localhost`.
fn origin(text: &str) -> Option<HeaderValue> {
    let (scheme, authority) = text.split_once("://")?;
    let plain = |byte: u8| byte.is_ascii_graphic() && !byte.is_ascii_uppercase();
    let in_authority = |byte: u8| plain(byte) && !b"/\\?#@,*".contains(&byte);
    if authority.is_empty() || !authority.bytes().all(in_authority) || !scheme.bytes().all(plain) {
        return None;
    }
    let url = Url::parse(text).ok()?;
    let web = matches!(scheme, "http" | "https");
    if web && url.origin().ascii_serialization() != text {
        return None;
    }
    HeaderValue::from_str(text).ok()
}

pub(super) fn show_origins<S: Serializer>(
    origins: &[HeaderValue],
    serializer: S,
) -> Result<S::Ok, S::Error> {
    let mut list = serializer.serialize_seq(Some(origins.len()))?;
    for origin in origins {
        list.serialize_element(&String::from_utf8_lossy(origin.as_bytes()))?;
    }
    list.end()
}
