//! `broker.url`: which bus. Parsed here so that a typing error shows at start, and masked here so that its password never shows.

use std::fmt;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

use super::units::{MASK, Secret, read};

/// The bus between nodes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum BrokerUrl {
    /// `memory:`: this process alone, with the embedded broker.
    Memory,
    /// One Redis: `redis://`, `rediss://`, `redis+unix://` or `unix://`, as Redis clients write it.
    Redis(Secret),
    /// `redis-sentinel://[USER:PASSWORD@]HOST:PORT,…/MASTER[/DATABASE]`, with `rediss-sentinel` for TLS.
    Sentinel(Sentinel),
    /// `redis-cluster://[USER:PASSWORD@]HOST:PORT,…`, with `rediss-cluster` for TLS: the address of each seed.
    Cluster(Vec<Secret>),
}

/// A Redis found through its sentinels.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Sentinel {
    /// The sentinels' own addresses, `redis://HOST:PORT`, without credentials.
    pub sentinels: Vec<String>,
    /// The name under which they know the master.
    pub master: String,
    pub database: i64,
    /// `USER:PASSWORD`, percent-encoded as in the address, for the master.
    pub credentials: Option<Secret>,
    pub tls: bool,
}

impl Sentinel {
    /// The address of a master that the sentinels named.
    pub fn master_url(&self, host: &str, port: u16) -> Secret {
        let scheme = scheme(self.tls);
        let host = if host.contains(':') { format!("[{host}]") } else { host.to_owned() };
        let credentials = self.credentials.as_ref().map(|credentials| format!("{}@", credentials.expose())).unwrap_or_default();
        Secret::new(&format!("{scheme}://{credentials}{host}:{port}/{}", self.database))
    }
}

const fn scheme(tls: bool) -> &'static str {
    if tls { "rediss" } else { "redis" }
}

impl BrokerUrl {
    pub fn parse(text: &str) -> Option<Self> {
        if text == "memory:" {
            return Some(Self::Memory);
        }
        let (scheme, rest) = text.split_once("://")?;
        if rest.is_empty() || text.contains(|c: char| c.is_whitespace() || c.is_control()) {
            return None;
        }
        match scheme {
            "redis" | "rediss" => is_redis_address(rest).then(|| Self::Redis(Secret::new(text))),
            "redis+unix" | "unix" => Some(Self::Redis(Secret::new(text))),
            "redis-sentinel" | "rediss-sentinel" => parse_sentinel(scheme.starts_with("rediss"), rest).map(Self::Sentinel),
            "redis-cluster" | "rediss-cluster" => parse_cluster(scheme.starts_with("rediss"), rest).map(Self::Cluster),
            _ => None,
        }
    }

    /// Whether its connections are encrypted, so that `broker.tls_ca` has an effect.
    pub fn is_tls(&self) -> bool {
        match self {
            Self::Memory => false,
            Self::Redis(url) => url.expose().starts_with("rediss:"),
            Self::Sentinel(sentinel) => sentinel.tls,
            Self::Cluster(seeds) => seeds.iter().any(|url| url.expose().starts_with("rediss:")),
        }
    }
}

/// `[USER:PASSWORD@]HOST[:PORT][/DATABASE][?…]`. What else may be wrong with it, the Redis client says at start.
fn is_redis_address(rest: &str) -> bool {
    let address = rest.split_once('?').map_or(rest, |(address, _)| address);
    let (host, database) = split_credentials(address).1.split_once('/').unwrap_or((split_credentials(address).1, ""));
    let port = match host.rsplit_once(']') {
        Some((_, after)) => after.strip_prefix(':'),
        None => host.split_once(':').map(|(_, port)| port),
    };
    !host.is_empty() && port.is_none_or(|port| port.parse::<u16>().is_ok()) && (database.is_empty() || database.parse::<u32>().is_ok())
}

fn split_credentials(text: &str) -> (Option<&str>, &str) {
    text.rsplit_once('@').map_or((None, text), |(credentials, hosts)| (Some(credentials), hosts))
}

fn hosts(text: &str) -> Option<Vec<&str>> {
    let hosts: Vec<&str> = text.split(',').collect();
    hosts.iter().all(|host| super::Bind::parse(host).is_some()).then_some(hosts)
}

fn parse_sentinel(tls: bool, rest: &str) -> Option<Sentinel> {
    let (credentials, rest) = split_credentials(rest);
    let mut parts = rest.split('/');
    let sentinels = hosts(parts.next()?)?.into_iter().map(|host| format!("{}://{host}", scheme(tls))).collect();
    let master = parts.next().filter(|name| !name.is_empty())?.to_owned();
    let database = parts.next().map_or(Some(0), |number| number.parse().ok())?;
    parts.next().is_none().then_some(())?;
    Some(Sentinel { sentinels, master, database, credentials: credentials.map(Secret::new), tls })
}

fn parse_cluster(tls: bool, rest: &str) -> Option<Vec<Secret>> {
    let (credentials, list) = split_credentials(rest);
    let credentials = credentials.map(|credentials| format!("{credentials}@")).unwrap_or_default();
    let list = list.strip_suffix('/').unwrap_or(list);
    Some(hosts(list)?.into_iter().map(|host| Secret::new(&format!("{}://{credentials}{host}", scheme(tls)))).collect())
}

/// The address with its password masked. Written for people; it does not read back.
impl fmt::Display for BrokerUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Memory => f.write_str("memory:"),
            Self::Redis(url) => f.write_str(&mask_password(url.expose())),
            Self::Sentinel(sentinel) => {
                let hosts: Vec<_> = sentinel.sentinels.iter().map(|url| host_of(url)).collect();
                let credentials = sentinel.credentials.as_ref().map(|_| format!("{MASK}@")).unwrap_or_default();
                let (scheme, master, database) = (scheme(sentinel.tls), &sentinel.master, sentinel.database);
                write!(f, "{scheme}-sentinel://{credentials}{}/{master}/{database}", hosts.join(","))
            }
            Self::Cluster(seeds) => {
                let hosts: Vec<_> = seeds.iter().map(|url| host_of(url.expose())).collect();
                let has_credentials = seeds.iter().any(|url| url.expose().contains('@'));
                let credentials = if has_credentials { format!("{MASK}@") } else { String::new() };
                write!(f, "{}-cluster://{credentials}{}", scheme(self.is_tls()), hosts.join(","))
            }
        }
    }
}

fn host_of(url: &str) -> &str {
    let rest = url.split_once("://").map_or(url, |(_, rest)| rest);
    split_credentials(rest).1
}

/// Masks what stands before an `@`, but for a user's name, and the value of a `pass` or `password` parameter.
pub(super) fn mask_password(url: &str) -> String {
    let Some((scheme, rest)) = url.split_once("://") else { return MASK.to_owned() };
    let (address, query) = rest.split_once('?').map_or((rest, None), |(address, query)| (address, Some(query)));
    let mut masked = format!("{scheme}://");
    match split_credentials(address) {
        (Some(credentials), host) => {
            let user = credentials.split_once(':').map_or("", |(user, _)| user);
            masked.push_str(&format!("{user}:{MASK}@{host}"));
        }
        (None, host) => masked.push_str(host),
    }
    if let Some(query) = query {
        let parameters = query.split('&').map(|parameter| match parameter.split_once('=') {
            Some((key @ ("pass" | "password"), _)) => format!("{key}={MASK}"),
            _ => parameter.to_owned(),
        });
        masked.push_str(&format!("?{}", parameters.collect::<Vec<_>>().join("&")));
    }
    masked
}

impl Serialize for BrokerUrl {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for BrokerUrl {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let expected = "expected memory:, redis://, rediss://, redis+unix://, unix://, redis-sentinel://HOST:PORT,…/MASTER or \
                        redis-cluster://HOST:PORT,…";
        read(deserializer, Self::parse, expected)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_shows_without_its_password() {
        for (text, shown) in [
            ("memory:", "memory:"),
            ("redis://127.0.0.1:6379/1", "redis://127.0.0.1:6379/1"),
            ("redis://[::1]/?protocol=resp3", "redis://[::1]/?protocol=resp3"),
            ("redis://:hunter2@h", "redis://:***@h"),
            ("rediss://app:hunter2@h:6380/0", "rediss://app:***@h:6380/0"),
            ("redis://app:hunt@er2@h", "redis://app:***@h"),
            ("redis://hunter2@h", "redis://:***@h"),
            ("redis+unix:///run/r.sock?db=1&pass=hunter2", "redis+unix:///run/r.sock?db=1&pass=***"),
            ("redis-sentinel://u:hunter2@a:1,b:2/main/3", "redis-sentinel://***@a:1,b:2/main/3"),
            ("rediss-cluster://u:hunter2@a:1,b:2", "rediss-cluster://***@a:1,b:2"),
        ] {
            let url = BrokerUrl::parse(text).expect(text);
            assert_eq!(url.to_string(), shown);
            assert!(!format!("{url:?}").contains("hunter2"), "{text}");
        }
    }

    #[test]
    fn a_sentinel_address_names_its_master() {
        let Some(BrokerUrl::Sentinel(sentinel)) = BrokerUrl::parse("rediss-sentinel://u:p@a:1,b:2/main/3") else { panic!("no sentinel") };
        assert_eq!(sentinel.sentinels, ["rediss://a:1", "rediss://b:2"]);
        assert_eq!(sentinel.master_url("10.0.0.1", 6379).expose(), "rediss://u:p@10.0.0.1:6379/3");
        let Some(BrokerUrl::Cluster(seeds)) = BrokerUrl::parse("redis-cluster://u:p@a:1,b:2/") else { panic!("no cluster") };
        assert_eq!(seeds.iter().map(Secret::expose).collect::<Vec<_>>(), ["redis://u:p@a:1", "redis://u:p@b:2"]);
    }

    #[test]
    fn what_is_no_bus_is_refused() {
        for text in [
            "",
            "memory",
            "http://h",
            "redis://",
            "redis:6379",
            "redis-sentinel://a:1",
            "redis-sentinel://a/m",
            "redis-cluster://a",
            "redis://a b",
            "redis://h:port",
            "redis://u:p@h:65536/0",
            "redis://h:6379/zero",
            "redis://[::1]:x",
            "redis:///0",
        ] {
            assert_eq!(BrokerUrl::parse(text), None, "{text:?}");
        }
    }
}
