//! Where to listen, whom to trust, where the keys are: addresses and origins, parsed once.

use std::{fmt, path::PathBuf};

use ipnet::IpNet;
use serde::{Deserialize, Deserializer, Serialize, Serializer, de::Error};

use super::{broker_url::mask_password, units::read};

/// A place to listen at.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Bind {
    /// `HOST:PORT`; an IPv6 host stands in brackets and is kept here without them.
    Tcp { host: String, port: u16 },
    /// `unix:/path`
    Unix(PathBuf),
}

impl Bind {
    pub fn parse(text: &str) -> Option<Self> {
        if let Some(path) = text.strip_prefix("unix:") {
            return path.starts_with('/').then(|| Self::Unix(PathBuf::from(path)));
        }
        let (host, port) = text.rsplit_once(':')?;
        let port = port.bytes().all(|byte| byte.is_ascii_digit()).then(|| port.parse().ok())??;
        let host = match host.strip_prefix('[') {
            Some(bracketed) => bracketed.strip_suffix(']').filter(|host| host.parse::<std::net::Ipv6Addr>().is_ok())?,
            None => Some(host).filter(|host| is_host_name(host))?,
        };
        Some(Self::Tcp { host: host.to_owned(), port })
    }

    /// Whether only this machine can reach it. A host name counts as reachable from outside unless it is `localhost`.
    pub fn is_loopback(&self) -> bool {
        match self {
            Self::Tcp { host, .. } => host == "localhost" || host.parse::<std::net::IpAddr>().is_ok_and(|ip| ip.is_loopback()),
            Self::Unix(_) => true,
        }
    }
}

fn is_host_name(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'-' | b'_'))
}

impl fmt::Display for Bind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tcp { host, port } if host.contains(':') => write!(f, "[{host}]:{port}"),
            Self::Tcp { host, port } => write!(f, "{host}:{port}"),
            Self::Unix(path) => write!(f, "unix:{}", path.display()),
        }
    }
}

impl Serialize for Bind {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Bind {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        read(deserializer, Self::parse, r#"expected "HOST:PORT" or "unix:/path""#)
    }
}

/// An address that may be turned off with an empty text: `#[serde(with = "address::optional_bind")]`
pub(super) mod optional_bind {
    use super::*;

    pub fn serialize<S: Serializer>(value: &Option<Bind>, serializer: S) -> Result<S::Ok, S::Error> {
        match value {
            Some(bind) => bind.serialize(serializer),
            None => serializer.serialize_str(""),
        }
    }

    pub fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Bind>, D::Error> {
        let parse = |text: &str| if text.is_empty() { Some(None) } else { Bind::parse(text).map(Some) };
        read(deserializer, parse, r#"expected "HOST:PORT", "unix:/path" or "" for none"#)
    }
}

/// Networks, also bare addresses: `#[serde(with = "address::networks")]`
pub(super) mod networks {
    use super::*;

    pub fn serialize<S: Serializer>(value: &[IpNet], serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_seq(value)
    }

    pub fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<IpNet>, D::Error> {
        Vec::<Network>::deserialize(deserializer).map(|networks| networks.into_iter().map(|network| network.0).collect())
    }

    struct Network(IpNet);

    impl<'de> Deserialize<'de> for Network {
        fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
            let parse = |text: &str| text.parse().ok().or_else(|| text.parse::<std::net::IpAddr>().ok().map(IpNet::from));
            read(deserializer, parse, r#"expected a network such as "10.0.0.0/8" or "::1""#).map(Self)
        }
    }
}

/// Pages of which site may use the hub from a browser.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum AllowedOrigin {
    /// The origin that the request itself was addressed to.
    SameOrigin,
    /// Every page of every site. With cookies this hands each visitor's identity to each site.
    Any,
    /// Scheme, host and port as browsers send them: lower case, no path, no default port.
    Exact(String),
}

impl AllowedOrigin {
    fn parse(text: &str) -> Option<Self> {
        match text {
            "same-origin" => Some(Self::SameOrigin),
            "*" => Some(Self::Any),
            exact => {
                let (scheme, host) = exact.split_once("://")?;
                let is_scheme = !scheme.is_empty() && scheme.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'+' | b'-' | b'.'));
                let is_host = !host.is_empty() && !host.contains(|c: char| matches!(c, '/' | '*' | '@' | '?' | '#') || c.is_whitespace());
                (is_scheme && is_host).then(|| Self::Exact(exact.to_ascii_lowercase()))
            }
        }
    }
}

impl Serialize for AllowedOrigin {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(match self {
            Self::SameOrigin => "same-origin",
            Self::Any => "*",
            Self::Exact(origin) => origin,
        })
    }
}

impl<'de> Deserialize<'de> for AllowedOrigin {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        read(deserializer, Self::parse, r#"expected "same-origin", "*" or an origin without a path, such as "https://example.org""#)
    }
}

/// Where the keys that verify tokens are.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum JwksLocation {
    File(PathBuf),
    Url(HttpUrl),
}

impl Serialize for JwksLocation {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::File(path) => path.serialize(serializer),
            Self::Url(url) => url.serialize(serializer),
        }
    }
}

impl<'de> Deserialize<'de> for JwksLocation {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let parse = |text: &str| match text {
            "" => None,
            url if url.contains("://") => HttpUrl::parse(url).map(Self::Url),
            path => Some(Self::File(PathBuf::from(path))),
        };
        read(deserializer, parse, "expected a file or an http(s) address")
    }
}

/// An http(s) address. It may hold a password, so it shows without one.
#[derive(Clone, PartialEq, Eq)]
pub struct HttpUrl(Box<str>);

impl HttpUrl {
    fn parse(text: &str) -> Option<Self> {
        let rest = text.strip_prefix("http://").or_else(|| text.strip_prefix("https://"))?;
        let is_address = !rest.is_empty() && !rest.starts_with('/') && !text.contains(|c: char| c.is_whitespace() || c.is_control());
        is_address.then(|| Self(Box::from(text)))
    }

    /// The address itself, for the one who asks there.
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for HttpUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&mask_password(&self.0))
    }
}

impl fmt::Debug for HttpUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl Serialize for HttpUrl {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for HttpUrl {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        read(deserializer, Self::parse, "expected an address such as \"http://127.0.0.1:8000/auth/\"")
    }
}

/// Names of rooms: `#[serde(deserialize_with = "address::room_names")]`
pub(super) fn room_names<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<crate::protocol::RoomName>, D::Error> {
    let texts = Vec::<String>::deserialize(deserializer)?;
    texts.iter().map(|text| text.parse().map_err(|error| D::Error::custom(format_args!("room {text:?} {error}")))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_to_listen_at_is_a_host_and_a_port_or_a_path() {
        for (text, loopback) in [
            ("127.0.0.1:8080", true),
            ("[::1]:8080", true),
            ("localhost:0", true),
            ("unix:/run/callboard.sock", true),
            ("0.0.0.0:80", false),
            ("[::]:80", false),
            ("hub.example.org:80", false),
        ] {
            let bind = Bind::parse(text).expect(text);
            assert_eq!((bind.to_string().as_str(), bind.is_loopback()), (text, loopback));
        }
        for text in ["", "8080", ":8080", "127.0.0.1", "127.0.0.1:65536", "127.0.0.1:+80", "::1:80", "[x]:80", "unix:relative", "a b:80"] {
            assert_eq!(Bind::parse(text), None, "{text:?}");
        }
    }

    #[test]
    fn an_origin_has_no_path_and_no_star_inside() {
        assert_eq!(AllowedOrigin::parse("https://Example.org:8443"), Some(AllowedOrigin::Exact("https://example.org:8443".into())));
        for text in ["", "example.org", "https://example.org/", "https://*.example.org", "https://u@example.org", "://x", "null"] {
            assert_eq!(AllowedOrigin::parse(text), None, "{text:?}");
        }
    }
}
