//! Where a client is: its socket's peer, or what trusted proxies say of it; and how often one address may come.

use std::{
    collections::HashMap,
    net::{IpAddr, Ipv6Addr, SocketAddr},
    sync::{Mutex, PoisonError},
};

use actix_web::{
    HttpRequest,
    http::{header, uri::Authority},
};
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

/// Whether the peer is a program on this machine that speaks for itself. Behind a proxy on this machine everybody would be; and so
/// would each page whose own host name was made to lead here (DNS rebinding), were the name not looked at.
pub fn is_own_machine(request: &HttpRequest) -> bool {
    let is_forwarded = [FORWARDED_FOR, header::FORWARDED.as_str()].iter().any(|name| request.headers().contains_key(*name));
    let asks_here = |peer: SocketAddr| peer.ip().to_canonical().is_loopback() && is_unmistakable(host(request));
    !is_forwarded && request.peer_addr().is_none_or(asks_here)
}

/// The name that the client has for the hub, with the port.
pub fn host(request: &HttpRequest) -> &str {
    let named = request.headers().get(header::HOST).and_then(|host| host.to_str().ok());
    // HTTP/2 has no Host header but an authority.
    named.or_else(|| request.uri().authority().map(Authority::as_str)).unwrap_or_default()
}

/// What no site's name server has a say in: an address, a name of one label, or one below `localhost` (RFC 6761 §6.3).
fn is_unmistakable(host: &str) -> bool {
    let Ok(authority) = host.parse::<Authority>() else { return host.is_empty() };
    let name = authority.host().trim_start_matches('[').trim_end_matches(']').to_ascii_lowercase();
    !name.contains('.') || name.ends_with(".localhost") || name.parse::<IpAddr>().is_ok()
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
    let with_port = || text.parse::<SocketAddr>().ok().map(|address| address.ip());
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

    #[test]
    fn a_name_that_a_name_server_could_lead_here_is_not_this_machines_own() {
        for (host, expected) in [
            ("localhost", true),
            ("LocalHost:8080", true),
            ("hub.localhost:8080", true),
            ("127.0.0.1:8080", true),
            ("[::1]:8080", true),
            ("[::1]", true),
            ("0.0.0.0:8080", true),
            ("", true),
            ("workstation:8080", true),
            ("evil.test:8080", false),
            ("evil.:8080", false),
            ("localhost.evil.test", false),
            ("127.0.0.1.evil.test:8080", false),
            ("not-localhost.test", false),
            ("local host", false),
        ] {
            assert_eq!(is_unmistakable(host), expected, "{host}");
        }
    }

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
