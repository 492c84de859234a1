//! Where a client is: its socket's peer, or what trusted proxies say of it; and how often one address may come.

use std::{
    collections::HashMap,
    net::{IpAddr, Ipv6Addr},
    sync::{Mutex, PoisonError},
};

use actix_web::HttpRequest;
use ipnet::IpNet;
use tokio::time::Instant;

use crate::{actors::rate::Allowance, config::Rate};

const FORWARDED_FOR: &str = "x-forwarded-for";
/// Addresses whose rate is remembered. An attacker with more has the memory of the others cleared, which costs nobody a place.
const MAX_ADDRESSES: usize = 100_000;

/// The client's address. `None` on a Unix socket without X-Forwarded-For.
pub fn of(request: &HttpRequest, trusted: &[IpNet]) -> Option<IpAddr> {
    let forwarded = request.headers().get_all(FORWARDED_FOR).filter_map(|value| value.to_str().ok());
    let forwarded: Vec<&str> = forwarded.flat_map(|value| value.split(',')).map(str::trim).collect();
    behind(request.peer_addr().map(|peer| peer.ip()), &forwarded, trusted)
}

/// Each proxy appends the peer it saw. So from the right, as long as the one who says it is trusted; a Unix socket is a
/// proxy's on this machine.
fn behind(peer: Option<IpAddr>, forwarded: &[&str], trusted: &[IpNet]) -> Option<IpAddr> {
    let is_trusted = |address: IpAddr| trusted.iter().any(|network| network.contains(&address));
    let mut client = peer.map(|address| address.to_canonical());
    for said in forwarded.iter().rev() {
        if client.is_some_and(|speaker| !is_trusted(speaker)) {
            break;
        }
        let Some(address) = parse(said) else { break };
        client = Some(address);
    }
    client
}

/// Some proxies add a port.
fn parse(text: &str) -> Option<IpAddr> {
    let bare = text.strip_prefix('[').and_then(|rest| rest.split_once(']')).map_or(text, |(address, _)| address);
    let with_port = || text.parse::<std::net::SocketAddr>().ok().map(|address| address.ip());
    bare.parse().ok().or_else(with_port).map(|address: IpAddr| address.to_canonical())
}

/// What limits are counted by: an IPv6 subscriber has a /64 to choose addresses from.
pub fn counted_as(address: IpAddr) -> IpAddr {
    match address {
        IpAddr::V4(_) => address,
        IpAddr::V6(v6) => Ipv6Addr::from(u128::from(v6) >> 64 << 64).into(),
    }
}

/// How often each address came lately.
#[derive(Debug, Default)]
pub struct Arrivals(Mutex<HashMap<IpAddr, Allowance>>);

impl Arrivals {
    pub fn is_within(&self, address: IpAddr, rate: Rate, now: Instant) -> bool {
        let mut known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if known.len() >= MAX_ADDRESSES && !known.contains_key(&address) {
            known.clear();
        }
        known.entry(address).or_insert_with(|| Allowance::new(rate.per_second)).take(now)
    }

    /// Forgets all, for another rate.
    pub fn clear(&self) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ip(text: &str) -> IpAddr {
        text.parse().expect(text)
    }

    #[test]
    fn only_trusted_proxies_are_believed() {
        let trusted: Vec<IpNet> = ["10.0.0.0/8", "2001:db8::/32"].iter().map(|text| text.parse().expect("a network")).collect();
        for (peer, forwarded, expected) in [
            (Some("203.0.113.9"), &[][..], Some("203.0.113.9")),
            (Some("203.0.113.9"), &["198.51.100.1"], Some("203.0.113.9")),
            (Some("10.0.0.1"), &["198.51.100.1"], Some("198.51.100.1")),
            (Some("10.0.0.1"), &["1.1.1.1", "198.51.100.1"], Some("198.51.100.1")),
            (Some("10.0.0.1"), &["1.1.1.1", "198.51.100.1", "10.0.0.2"], Some("198.51.100.1")),
            (Some("10.0.0.1"), &["unknown", "10.0.0.2"], Some("10.0.0.2")),
            (Some("10.0.0.1"), &["198.51.100.1:4711"], Some("198.51.100.1")),
            (Some("10.0.0.1"), &["[2001:db9::1]:80"], Some("2001:db9::1")),
            (Some("::ffff:10.0.0.1"), &["::ffff:198.51.100.1"], Some("198.51.100.1")),
            (Some("10.0.0.1"), &[""], Some("10.0.0.1")),
            (None, &["198.51.100.1"], Some("198.51.100.1")),
            (None, &[], None),
        ] {
            assert_eq!(behind(peer.map(ip), forwarded, &trusted), expected.map(ip), "{peer:?} {forwarded:?}");
        }
    }

    #[test]
    fn a_subscriber_is_counted_once_with_all_its_addresses() {
        assert_eq!(counted_as(ip("2001:db8:1:2:3:4:5:6")), counted_as(ip("2001:db8:1:2::1")));
        assert_ne!(counted_as(ip("2001:db8:1:3::1")), counted_as(ip("2001:db8:1:2::1")));
        assert_ne!(counted_as(ip("192.0.2.1")), counted_as(ip("192.0.2.2")));
    }
}
