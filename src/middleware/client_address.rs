//! Who calls: the peer, or whom a trusted proxy says that it speaks for.

use std::{
    net::{IpAddr, SocketAddr},
    sync::Arc,
    task::{Context, Poll},
};

use axum::{
    extract::ConnectInfo,
    http::{Extensions, HeaderMap, HeaderName, Request, request::Parts},
};
use ipnet::IpNet;
use tower::{Layer, Service};

use crate::error::ApiError;

const X_FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");

/// The client's address, in canonical form: an IPv4-mapped IPv6 address is an IPv4 address.
///
/// Put into the request's extensions by [`ClientAddressLayer`]. An extractor must answer 500 when
/// it is missing, and never fall back on anything that the client sends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ClientAddress(pub IpAddr);

impl ClientAddress {
    pub(crate) fn of(parts: &Parts) -> Result<Self, ApiError> {
        let address = parts.extensions.get().copied();
        address.ok_or_else(|| ApiError::missing_layer("client address"))
    }
}

/// Layer that applies [`ClientAddressService`], which finds out the client's address.
///
/// The address is the peer's. If the peer is a trusted proxy, it is the right-most address of
/// `X-Forwarded-For` that is no trusted proxy's, since each proxy adds its peer at the right and
/// all to the left of that is the client's word. Several header lines are one list, in order. An
/// entry that is no address ends the search at the last good one; if all are trusted, it is the
/// left-most. An entry may have a port, as some proxies write it.
///
/// The peer's address is taken from [`ConnectInfo`], so the service must be made by
/// `into_make_service_with_connect_info::<SocketAddr>()`. Without it no [`ClientAddress`] is set.
#[derive(Clone, Debug)]
pub struct ClientAddressLayer {
    trusted_proxies: Arc<[IpNet]>,
}

impl ClientAddressLayer {
    /// Believes the `X-Forwarded-For` of peers in these networks, and of no other.
    #[must_use]
    pub fn new(trusted_proxies: impl Into<Arc<[IpNet]>>) -> Self {
        Self {
            trusted_proxies: trusted_proxies.into(),
        }
    }
}

impl<S> Layer<S> for ClientAddressLayer {
    type Service = ClientAddressService<S>;

    fn layer(&self, inner: S) -> Self::Service {
        ClientAddressService {
            inner,
            trusted_proxies: Arc::clone(&self.trusted_proxies),
        }
    }
}

/// Middleware that puts [`ClientAddress`] into each request's extensions.
///
/// See [`ClientAddressLayer`] for how the address is found.
#[derive(Clone, Debug)]
pub struct ClientAddressService<S> {
    inner: S,
    trusted_proxies: Arc<[IpNet]>,
}

impl<S, B> Service<Request<B>> for ClientAddressService<S>
where
    S: Service<Request<B>>,
{
    type Response = S::Response;
    type Error = S::Error;
    type Future = S::Future;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.inner.poll_ready(context)
    }

    fn call(&mut self, mut request: Request<B>) -> S::Future {
        if let Some(peer) = peer(request.extensions()) {
            let address = client_address(peer, request.headers(), &self.trusted_proxies);
            request.extensions_mut().insert(ClientAddress(address));
        }
        self.inner.call(request)
    }
}

/// The address that a connection comes from, in canonical form.
pub(crate) fn peer(extensions: &Extensions) -> Option<IpAddr> {
    let ConnectInfo(peer) = extensions.get::<ConnectInfo<SocketAddr>>()?;
    Some(peer.ip().to_canonical())
}

fn client_address(peer: IpAddr, headers: &HeaderMap, trusted_proxies: &[IpNet]) -> IpAddr {
    let trusted = |address: &IpAddr| trusted_proxies.iter().any(|net| net.contains(address));
    let mut address = peer;
    let lines = headers.get_all(X_FORWARDED_FOR).iter().rev();
    let mut entries = lines.flat_map(|line| line.as_bytes().rsplit(|byte| *byte == b','));
    while trusted(&address) {
        match entries.next().and_then(parse_entry) {
            Some(earlier) => address = earlier,
            None => break,
        }
    }
    address
}

fn parse_entry(entry: &[u8]) -> Option<IpAddr> {
    let text = str::from_utf8(entry).ok()?.trim_matches([' ', '\t']);
    let bracketed = || text.strip_prefix('[')?.strip_suffix(']')?.parse().ok();
    let with_port = || text.parse().ok().map(|address: SocketAddr| address.ip());
    let address = text.parse().ok().or_else(with_port).or_else(bracketed);
    address.map(|address: IpAddr| address.to_canonical())
}

#[cfg(test)]
mod tests {
    use std::convert::Infallible;

    use axum::http::HeaderValue;
    use tower::{ServiceExt, service_fn};

    use super::*;

    /// The address that a handler sees, for a call from `peer` with these header lines.
    async fn seen(peer: &str, lines: &[&[u8]], trusted_proxies: &[&str]) -> Option<String> {
        let mut request = Request::new(());
        let peer = SocketAddr::new(peer.parse().unwrap(), 50_000);
        request.extensions_mut().insert(ConnectInfo(peer));
        for line in lines {
            let line = HeaderValue::from_bytes(line).unwrap();
            request.headers_mut().append("X-Forwarded-For", line);
        }
        address_of(request, trusted_proxies).await
    }

    async fn address_of(request: Request<()>, trusted_proxies: &[&str]) -> Option<String> {
        let networks = trusted_proxies.iter().map(|text| text.parse().unwrap());
        let layer = ClientAddressLayer::new(networks.collect::<Vec<IpNet>>());
        let handler = service_fn(async |request: Request<()>| {
            let address = request.extensions().get::<ClientAddress>();
            Ok::<_, Infallible>(address.map(|ClientAddress(address)| address.to_string()))
        });
        layer.layer(handler).oneshot(request).await.unwrap()
    }

    const PROXIES: &[&str] = &["10.0.0.0/8", "2001:db8:ffff::/48"];

    macro_rules! assert_seen {
        ($peer:literal, $lines:expr, $expected:literal) => {
            let lines: &[&[u8]] = &$lines;
            assert_eq!(
                seen($peer, lines, PROXIES).await.as_deref(),
                Some($expected)
            );
        };
    }

    #[tokio::test]
    async fn header_of_an_untrusted_peer_is_not_believed() {
        assert_seen!("192.0.2.1", [b"203.0.113.9"], "192.0.2.1");
        assert_seen!("192.0.2.1", [b"10.0.0.1"], "192.0.2.1");
        let address = seen("10.0.0.1", &[b"203.0.113.9"], &[]).await;
        assert_eq!(address.as_deref(), Some("10.0.0.1"));
    }

    #[tokio::test]
    async fn right_most_untrusted_entry_is_the_client() {
        assert_seen!("10.0.0.1", [b"198.51.100.7, 203.0.113.9"], "203.0.113.9");
        assert_seen!(
            "10.0.0.1",
            [b"198.51.100.7,203.0.113.9 ,\t10.1.1.1"],
            "203.0.113.9"
        );
        assert_seen!(
            "2001:db8:ffff::1",
            [b"2001:db8::9, 10.0.0.2"],
            "2001:db8::9"
        );
    }

    #[tokio::test]
    async fn several_header_lines_are_one_list() {
        assert_seen!(
            "10.0.0.1",
            [b"198.51.100.7", b"203.0.113.9", b"10.0.0.3"],
            "203.0.113.9"
        );
    }

    #[tokio::test]
    async fn entry_that_is_no_address_ends_the_search_at_the_last_good_one() {
        assert_seen!("10.0.0.1", [b"203.0.113.9, unknown, 10.0.0.2"], "10.0.0.2");
        assert_seen!("10.0.0.1", [b"203.0.113.9, , 10.0.0.2"], "10.0.0.2");
        assert_seen!("10.0.0.1", [b"203.0.113.9", b"", b"10.0.0.2"], "10.0.0.2");
        assert_seen!("10.0.0.1", [b"203.0.113.9, \xff, 10.0.0.2"], "10.0.0.2");
        assert_seen!("10.0.0.1", [b"203.0.113.9, 10.0.0.256"], "10.0.0.1");
        assert_seen!("10.0.0.1", [b"fe80::1%eth0"], "10.0.0.1");
    }

    #[tokio::test]
    async fn left_most_entry_is_the_client_when_all_are_trusted() {
        assert_seen!("10.0.0.1", [b"10.0.0.3, 10.0.0.2"], "10.0.0.3");
        assert_seen!("10.0.0.1", [], "10.0.0.1");
    }

    #[tokio::test]
    async fn address_is_canonical_wherever_it_comes_from() {
        assert_seen!("::ffff:192.0.2.1", [], "192.0.2.1");
        assert_seen!("::ffff:10.0.0.1", [b"::ffff:203.0.113.9"], "203.0.113.9");
        assert_seen!("10.0.0.1", [b"203.0.113.9, ::ffff:10.0.0.2"], "203.0.113.9");
    }

    #[tokio::test]
    async fn entry_may_have_a_port_or_brackets() {
        assert_seen!("10.0.0.1", [b"203.0.113.9:4711"], "203.0.113.9");
        assert_seen!(
            "10.0.0.1",
            [b"[2001:db8::9]:4711, [2001:db8:ffff::2]"],
            "2001:db8::9"
        );
    }

    #[tokio::test]
    async fn without_a_peer_there_is_no_address() {
        let mut request = Request::new(());
        let header = HeaderValue::from_static("203.0.113.9");
        request.headers_mut().insert("X-Forwarded-For", header);
        assert_eq!(address_of(request, PROXIES).await, None);
    }
}
