//! Whom a request is for (RFC 9112, section 3.2; RFC 9113, section 8.3.1).

use std::net::Ipv6Addr;

use axum::http::{HeaderMap, Request, Version, header};

const MISSING: &str = "Send a Host header.";
const DOUBLED: &str = "Send one Host header.";
const INVALID: &str = "Send a Host header with a host name or an address, and a port if need be.";
const CONTRADICTED: &str =
    "Send the same host in :authority and in the Host header, or no such header.";

/// What is wrong with how a request says whom it is for, if anything is: who reads it otherwise than a
/// proxy before us did could be led astray.
pub(super) fn fault<B>(request: &Request<B>) -> Option<&'static str> {
    match (hosts(request.headers()), request.version()) {
        (Hosts::None, Version::HTTP_11) => Some(MISSING),
        (Hosts::Several, _) => Some(DOUBLED),
        (Hosts::One(host), _) if !is_valid(host) => Some(INVALID),
        (Hosts::One(host), Version::HTTP_2) => {
            let authority = request.uri().authority()?.as_str().as_bytes();
            (!is_same(host, authority)).then_some(CONTRADICTED)
        }
        (Hosts::None | Hosts::One(_), _) => None,
    }
}

enum Hosts<'a> {
    None,
    One(&'a [u8]),
    Several,
}

fn hosts(headers: &HeaderMap) -> Hosts<'_> {
    let mut hosts = headers.get_all(header::HOST).iter();
    match (hosts.next(), hosts.next()) {
        (None, _) => Hosts::None,
        (Some(host), None) => Hosts::One(host.as_bytes()),
        (Some(_), Some(_)) => Hosts::Several,
    }
}

/// Whether it is a host with or without a port (RFC 3986, section 3.2.2), and not empty, as no host of
/// an `http` URI is.
fn is_valid(host: &[u8]) -> bool {
    match end_of_name(host).map(|end| &host[end..]) {
        Some([]) => true,
        Some([b':', port @ ..]) => port.iter().all(u8::is_ascii_digit),
        _ => false,
    }
}

/// Where the name or the address ends, if it begins with one.
fn end_of_name(host: &[u8]) -> Option<usize> {
    if let [b'[', rest @ ..] = host {
        let length = rest.iter().position(|byte| *byte == b']')?;
        let address = str::from_utf8(&rest[..length]).ok()?;
        address.parse::<Ipv6Addr>().ok()?;
        return Some(length + 2);
    }
    let colon = host.iter().position(|byte| *byte == b':');
    let end = colon.unwrap_or(host.len());
    let is_name = end > 0 && host[..end].iter().all(|byte| is_of_name(*byte));
    is_name.then_some(end)
}

fn is_of_name(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"-._~%!$&'()*+,;=".contains(&byte)
}

/// The port of the scheme may be left out in one of them.
fn is_same(one: &[u8], other: &[u8]) -> bool {
    fn without_port(host: &[u8]) -> &[u8] {
        let stripped = host.strip_suffix(b":80").or(host.strip_suffix(b":443"));
        stripped.unwrap_or(host)
    }
    without_port(one).eq_ignore_ascii_case(without_port(other))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fault_of(version: Version, target: &str, hosts: &[&[u8]]) -> Option<&'static str> {
        let mut request = Request::builder().version(version).uri(target);
        for host in hosts {
            request = request.header("host", *host);
        }
        fault(&request.body(()).unwrap())
    }

    #[test]
    fn http_1_1_has_one_host() {
        for target in ["/livez", "http://here/livez"] {
            let fault = |hosts: &[&[u8]]| fault_of(Version::HTTP_11, target, hosts);
            assert_eq!(fault(&[]), Some(MISSING));
            assert_eq!(fault(&[b"here", b"here"]), Some(DOUBLED));
            assert_eq!(fault(&[b"here", b""]), Some(DOUBLED));
            assert_eq!(fault(&[b"here"]), None);
            // What the target says goes before it.
            assert_eq!(fault(&[b"elsewhere"]), None);
        }
    }

    #[test]
    fn http_1_0_may_have_none() {
        let fault = |hosts: &[&[u8]]| fault_of(Version::HTTP_10, "/livez", hosts);
        assert_eq!(fault(&[]), None);
        assert_eq!(fault(&[b"here"]), None);
        assert_eq!(fault(&[b"here", b"there"]), Some(DOUBLED));
        assert_eq!(fault(&[b"h ere"]), Some(INVALID));
    }

    #[test]
    fn http_2_does_not_contradict_its_authority() {
        let fault = |hosts: &[&[u8]]| fault_of(Version::HTTP_2, "http://Here:80/livez", hosts);
        assert_eq!(fault(&[]), None);
        for same in [&b"here"[..], b"HERE:80"] {
            assert_eq!(fault(&[same]), None);
        }
        assert_eq!(fault(&[b"there"]), Some(CONTRADICTED));
        assert_eq!(fault(&[b"here:8080"]), Some(CONTRADICTED));
        assert_eq!(fault(&[b"here", b"here"]), Some(DOUBLED));
        assert_eq!(fault_of(Version::HTTP_2, "/livez", &[b"here"]), None);
    }

    #[test]
    fn a_host_is_a_name_or_an_address_with_or_without_a_port() {
        let is_taken = |host: &[u8]| fault_of(Version::HTTP_11, "/", &[host]).is_none();
        let valid: [&[u8]; 11] = [
            b"here",
            b"shop.example:8080",
            b"shop.example:",
            b"SHOP_1.example.",
            b"xn--bcher-kva.example",
            b"192.0.2.1:80",
            b"[::1]",
            b"[2001:db8::1]:8080",
            b"[::ffff:192.0.2.1]",
            b"a%20b",
            b"a-b~c!$&'()*+,;=",
        ];
        for host in valid {
            assert!(is_taken(host), "{}", host.escape_ascii());
        }
        let invalid: [&[u8]; 19] = [
            b"",
            b":80",
            b"h ere",
            b"here, there",
            b"here:80a",
            b"here:-1",
            b"here:80:80",
            b"http://here",
            b"here/there",
            b"user@here",
            b"here?",
            b"here#",
            b"h\xc3\xa9re",
            b"::1",
            b"[::1",
            b"[::1]x",
            b"[::1]:a",
            b"[here]",
            b"[]",
        ];
        for host in invalid {
            assert!(!is_taken(host), "{}", host.escape_ascii());
        }
    }
}
