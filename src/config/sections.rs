//! The sections of config.toml, field by field: effect, unit, default, and when to change it. `tests/config` holds the shipped
//! file and docs/operations/configuration.md to what stands here.

use std::{path::PathBuf, time::Duration};

use ipnet::IpNet;
use serde::{Deserialize, Serialize};

use super::{
    address::{self, AllowedOrigin, Bind, HttpUrl, JwksLocation},
    broker_url::BrokerUrl,
    rules::Overflow,
    units::{self, Rate, Secret},
};
use crate::protocol::RoomName;

const fn seconds(count: u64) -> Duration {
    Duration::from_secs(count)
}

/// `[server]`: sockets and the process.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Server {
    /// Where to listen: `HOST:PORT` or `unix:/path`. Default loopback, for a proxy on the same machine.
    pub bind: Vec<Bind>,
    /// Worker threads. Default 0: one per core. Lower it to leave cores to others.
    pub workers: usize,
    /// Connections on this node; the next one gets 503 with Retry-After. Default 100 000. Needs as many open files.
    pub max_connections: usize,
    /// Connections of one client address. Default 0: no limit, since behind a NAT many people share one.
    pub max_connections_per_ip: usize,
    /// Connections of one identified user on this node. Default 0: no limit. Tabs and devices each have one.
    pub max_connections_per_user: usize,
    /// New connections of one client address; twice that in a burst, beyond it 429. Default none: no limit.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub connect_rate: Option<Rate>,
    /// How long reconnects are spread over after SIGTERM. Default 10s. Raise it when the other nodes feel the return.
    #[serde(with = "units::duration")]
    pub drain: Duration,
    /// Networks of proxies whose X-Forwarded-For is believed. Default none.
    #[serde(with = "address::networks")]
    pub trusted_proxies: Vec<IpNet>,
    /// A peer that acknowledges nothing for so long is cut (TCP_USER_TIMEOUT). Default 10s; 0s leaves it to the kernel.
    #[serde(with = "units::duration")]
    pub tcp_user_timeout: Duration,
    /// Kernel send buffer of a connection (SO_SNDBUF), in bytes. Default 64KiB: a client that reads nothing costs no more.
    #[serde(with = "units::size")]
    pub send_buffer: usize,
    /// Certificate and key, for TLS without a proxy. Default none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tls: Option<Tls>,
}

/// `server.tls`: PEM files.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Tls {
    /// Certificate chain, the server's own first.
    pub cert: PathBuf,
    /// Its private key.
    pub key: PathBuf,
}

impl Default for Server {
    fn default() -> Self {
        Self {
            bind: vec![Bind::Tcp { host: "127.0.0.1".into(), port: 8080 }],
            workers: 0,
            max_connections: 100_000,
            max_connections_per_ip: 0,
            max_connections_per_user: 0,
            connect_rate: None,
            drain: seconds(10),
            trusted_proxies: Vec::new(),
            tcp_user_timeout: seconds(10),
            send_buffer: 64 << 10,
            tls: None,
        }
    }
}

/// `[broker]`: the bus.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Broker {
    /// Which bus. Default `memory:`, one process alone. `REDIS_URL` wins over the file.
    pub url: BrokerUrl,
    /// First part of native channels and of every key the hub writes. Default `callboard`. Change it to share a Redis.
    pub prefix: String,
    /// Embedded broker only: where it takes PUBLISH as Redis would. Default `127.0.0.1:6380`; `""` turns it off.
    #[serde(with = "address::optional_bind")]
    pub resp: Option<Bind>,
    /// What AUTH must say at `resp`. Default none; needed off loopback.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub resp_password: Option<Secret>,
    /// Root certificates (PEM file) to trust for `rediss://`, in place of the system's. Default none: the system's.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tls_ca: Option<PathBuf>,
    /// How long a channel stays subscribed after its last local member left. Default 5s: a reload does not resubscribe.
    #[serde(with = "units::duration")]
    pub linger: Duration,
}

impl Default for Broker {
    fn default() -> Self {
        Self {
            url: BrokerUrl::Memory,
            prefix: "callboard".into(),
            resp: Some(Bind::Tcp { host: "127.0.0.1".into(), port: 6380 }),
            resp_password: None,
            tls_ca: None,
            linger: seconds(5),
        }
    }
}

/// `[mailbox]`: how many events may wait for whom. actix takes 0 for "no bound", so it is refused.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Mailbox {
    /// Events that may wait for one connection. Default 256. Raise it for bursts; a client that reads nothing costs so many.
    pub connection: usize,
    /// Events that may wait for one room's fan-out. Default 4096.
    pub room: usize,
    /// Events that may wait for one user's fan-out. Default 1024.
    pub user: usize,
    /// Joins and leaves that may wait. Default 65 536: a thundering herd after a deployment.
    pub registry: usize,
    /// Events between the bus and the rooms. Default 65 536. Beyond, members are told of a gap.
    pub bridge: usize,
    /// What happens to a connection whose queue is full. Default `disconnect`. A room may say otherwise.
    pub overflow: Overflow,
}

impl Default for Mailbox {
    fn default() -> Self {
        Self { connection: 256, room: 4096, user: 1024, registry: 65_536, bridge: 65_536, overflow: Overflow::Disconnect }
    }
}

/// `[http]`: what clients may do.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Http {
    /// Sites whose pages may connect. Default `same-origin`. A request without Origin is no page of another site.
    pub allowed_origins: Vec<AllowedOrigin>,
    /// Rooms joined by an SSE or WebSocket request that names none. Default `sse`.
    #[serde(deserialize_with = "address::room_names")]
    pub default_rooms: Vec<RoomName>,
    /// Between comment lines on a silent SSE stream. Default 15s. Keep it below the idle timeout of every proxy.
    #[serde(with = "units::duration")]
    pub sse_keepalive: Duration,
    /// The `retry:` field: how long a browser waits before it returns. Default 3s.
    #[serde(with = "units::duration")]
    pub sse_retry: Duration,
    /// Between pings on a WebSocket; one that is unanswered when the next is due ends it. Default 25s.
    #[serde(with = "units::duration")]
    pub ws_ping: Duration,
    /// Largest message from a client, in bytes; larger closes with 1009. Default 64KiB.
    #[serde(with = "units::size")]
    pub max_frame: usize,
    /// Largest body of an API request, in bytes; larger gets 413. Default 1MiB.
    #[serde(with = "units::size")]
    pub max_body: usize,
    /// Rooms that one connection may be in. Default 128.
    pub max_rooms_per_connection: usize,
    /// Messages from one client; twice that in a burst, beyond it an error, then 1008. Default 50/s.
    pub client_rate: Rate,
}

impl Default for Http {
    fn default() -> Self {
        Self {
            allowed_origins: vec![AllowedOrigin::SameOrigin],
            // Three letters: a valid name, so nothing is left out.
            default_rooms: RoomName::parse("sse").into_iter().collect(),
            sse_keepalive: seconds(15),
            sse_retry: seconds(3),
            ws_ping: seconds(25),
            max_frame: 64 << 10,
            max_body: 1 << 20,
            max_rooms_per_connection: 128,
            client_rate: Rate { per_second: 50 },
        }
    }
}

/// `[socketio]`: the names and defaults of Socket.IO's own server.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct SocketIo {
    /// Protocol revisions served: 5 for clients 3.x and 4.x, 4 for 2.x, 1 for 0.9. Default all; `[]` turns Socket.IO off.
    pub protocols: Vec<u8>,
    /// Between the server's pings. Default 25s.
    #[serde(with = "units::duration")]
    pub ping_interval: Duration,
    /// How long a pong may take. Default 20s.
    #[serde(with = "units::duration")]
    pub ping_timeout: Duration,
    /// Largest polling body or frame, in bytes. Default 1MB, as Socket.IO has it.
    #[serde(with = "units::size")]
    pub max_payload: usize,
    /// How long a session may be without a namespace. Default 45s.
    #[serde(with = "units::duration")]
    pub connect_timeout: Duration,
    /// Socket.IO's own connection state recovery. Default false: it adds an argument to every event.
    pub recovery: bool,
}

impl Default for SocketIo {
    fn default() -> Self {
        Self {
            protocols: vec![5, 4, 1],
            ping_interval: seconds(25),
            ping_timeout: seconds(20),
            max_payload: 1_000_000,
            connect_timeout: seconds(45),
            recovery: false,
        }
    }
}

/// `[auth]`: who a client is.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Auth {
    /// Whether a client without an identity may connect. Default true; false answers 401.
    pub anonymous: bool,
    /// Signs room names for pages whose readers have no identity. Default none: the secret of the tokens, where they have one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub room_secret: Option<Secret>,
    /// Tokens. Default none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub jwt: Option<Jwt>,
    /// Ask the application. Default no.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub forward: Option<Forward>,
}

impl Default for Auth {
    fn default() -> Self {
        Self { anonymous: true, room_secret: None, jwt: None, forward: None }
    }
}

/// A signature algorithm of tokens (RFC 7518, RFC 8037).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Algorithm {
    HS256,
    HS384,
    HS512,
    RS256,
    ES256,
    EdDSA,
}

impl Algorithm {
    /// Whether a shared secret, not a key pair, signs with it.
    pub const fn is_shared_secret(self) -> bool {
        matches!(self, Self::HS256 | Self::HS384 | Self::HS512)
    }
}

/// `auth.jwt`: exactly one of `secret`, `public_key` and `jwks`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Jwt {
    /// The secret that signs and verifies (HS256, HS384, HS512). At least 32 random bytes.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub secret: Option<Secret>,
    /// PEM file of the key that verifies (RS256, ES256, EdDSA).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub public_key: Option<PathBuf>,
    /// File or address of a JWKS document: several keys, chosen by `kid`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub jwks: Option<JwksLocation>,
    /// Algorithms accepted. Default none named: HS256 for a secret, else the one that the key is made for.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub algorithms: Vec<Algorithm>,
    /// What `iss` must be. Default none: not checked.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub issuer: Option<String>,
    /// What `aud` must be or hold. Default none: a token that names an audience is then refused (RFC 7519 §4.1.3).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub audience: Option<String>,
    /// How far clocks may differ when `exp` and `nbf` are checked. Default 30s.
    #[serde(with = "units::duration")]
    pub leeway: Duration,
    /// The cookie that may carry the token. Default `callboard_token`; `""`: no cookie is read.
    pub cookie: String,
}

impl Default for Jwt {
    fn default() -> Self {
        Self {
            secret: None,
            public_key: None,
            jwks: None,
            algorithms: Vec::new(),
            issuer: None,
            audience: None,
            leeway: seconds(30),
            cookie: "callboard_token".into(),
        }
    }
}

/// `auth.forward`: the application says who a client is.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Forward {
    /// Where to ask, by GET. No default.
    pub url: HttpUrl,
    /// Request headers passed along. Default `cookie` and `authorization`.
    #[serde(default = "Forward::default_headers")]
    pub headers: Vec<String>,
    /// How long an answer may take; then new connections get 503. Default 3s.
    #[serde(default = "Forward::default_timeout", with = "units::duration")]
    pub timeout: Duration,
    /// How long an answer holds for the same headers. Default 10s; 0s asks each time.
    #[serde(default = "Forward::default_cache", with = "units::duration")]
    pub cache: Duration,
    /// Longest time until a connection whose grant has no end is asked about again. Default 10m; 0s never asks again.
    #[serde(default = "Forward::default_recheck", with = "units::duration")]
    pub recheck: Duration,
}

impl Forward {
    fn default_headers() -> Vec<String> {
        vec!["cookie".into(), "authorization".into()]
    }

    const fn default_timeout() -> Duration {
        seconds(3)
    }

    const fn default_cache() -> Duration {
        seconds(10)
    }

    const fn default_recheck() -> Duration {
        seconds(600)
    }
}

/// `[api]`: the publish API.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Api {
    /// Keys that callers must show. Default none: the API answers loopback peers only. Several, so that one can be replaced.
    pub keys: Vec<Secret>,
}
