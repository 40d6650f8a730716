//! What counts as one client: an IPv4 address, or an IPv6 network of 64 bits.

use std::{
    fmt,
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
};

/// One client, as far as addresses can tell.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum AddressKey {
    /// The address.
    V4(Ipv4Addr),
    /// The first 64 bits: a provider gives a customer at least so many, and whoever has them can
    /// take any address below.
    V6([u16; 4]),
}

impl From<IpAddr> for AddressKey {
    fn from(address: IpAddr) -> Self {
        match address.to_canonical() {
            IpAddr::V4(address) => Self::V4(address),
            IpAddr::V6(address) => Self::V6(network(address)),
        }
    }
}

impl fmt::Display for AddressKey {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::V4(address) => address.fmt(formatter),
            Self::V6([first, second, third, fourth]) => {
                let network = Ipv6Addr::new(*first, *second, *third, *fourth, 0, 0, 0, 0);
                write!(formatter, "{network}/64")
            }
        }
    }
}

fn network(address: Ipv6Addr) -> [u16; 4] {
    let [first, second, third, fourth, ..] = address.segments();
    [first, second, third, fourth]
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(address: &str) -> AddressKey {
        AddressKey::from(address.parse::<IpAddr>().unwrap())
    }

    #[test]
    fn ipv4_counts_by_address_in_either_spelling() {
        assert_eq!(key("192.0.2.1"), key("::ffff:192.0.2.1"));
        assert_ne!(key("192.0.2.1"), key("192.0.2.2"));
    }

    #[test]
    fn a_network_shows_as_one() {
        assert_eq!(key("::ffff:192.0.2.1").to_string(), "192.0.2.1");
        assert_eq!(key("2001:db8:1:2::9").to_string(), "2001:db8:1:2::/64");
    }

    #[test]
    fn ipv6_counts_by_its_first_64_bits() {
        assert_eq!(key("2001:db8:1:2::1"), key("2001:db8:1:2:ffff::9"));
        assert_ne!(key("2001:db8:1:2::1"), key("2001:db8:1:3::1"));
    }
}
