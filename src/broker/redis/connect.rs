//! Where Redis is and how to get in: addresses, sentinels, TLS, and what an operator can do when it fails.

use std::{future::Future, sync::Arc, time::Duration};

use redis::{AsyncConnectionConfig, Client, ErrorKind, ProtocolVersion, RedisError, TlsCertificates, aio::MultiplexedConnection};
use rustls::pki_types::{CertificateDer, pem::PemObject};
use thiserror::Error;
use tokio::{sync::mpsc, time::timeout};

use super::{
    listen::{Ear, Native, Sink},
    orders::is_forbidden,
};
use crate::config::{BrokerUrl, Sentinel};

/// For connecting, and for each answer. A stopped Redis accepts connections and answers nothing.
pub(super) const PATIENCE: Duration = Duration::from_secs(2);

/// Commands that may wait for a connection to take them, in the crate's own queue. What waits is bounded where it is begun
/// (`mailbox.bridge`, and the histories' own bounds), so this one must never be full: who finds it full waits outside, and is
/// overtaken by who comes when there is a place again.
const COMMANDS_WAITING: usize = 1 << 26;

/// Why an address can't even be tried.
#[derive(Debug, Error)]
pub enum AddressError {
    #[error("broker.url {0} is a Redis Cluster, not one Redis")]
    Cluster(String),
    #[error("broker.url {0} is the embedded broker, not a Redis")]
    Embedded(String),
    #[error("broker.tls_ca: the file holds no certificate in PEM")]
    NoCertificate,
    #[error("broker.url {url}, or broker.tls_ca, is of no use: {source}")]
    Unusable { url: String, source: RedisError },
}

/// Why there is no link.
#[derive(Debug, Error)]
pub(super) enum LinkError {
    #[error("{0}")]
    Redis(#[from] RedisError),
    #[error("Redis does not answer within {} s", PATIENCE.as_secs())]
    Silent,
    #[error("the subscription is dead: the clock's markers do not come back")]
    Dead,
    #[error("Redis ended the subscription")]
    Ended,
    #[error("no sentinel knows a reachable master named {0:?}")]
    NoMaster(String),
    #[error("no node of the cluster knows a primary for these slots")]
    NoPrimary,
    #[error("another process is the primary of these slots now")]
    Replaced,
    #[error("a slot moved while channels were being subscribed, and the answers can't be told apart")]
    Confused,
    #[error("the shard that keeps the key of ids is not reachable")]
    NoKey,
}

impl LinkError {
    /// What an operator can do about it, where Redis' own words leave that open.
    pub fn advice(&self) -> &'static str {
        match self {
            Self::Redis(error) if is_stranger(error) => "; check the user and password of broker.url (or REDIS_URL)",
            Self::Redis(error) if is_forbidden(error) || is_forbidden_to_script(error) => {
                "; the ACL of this user lacks a right that the hub needs: see docs/operations/redis.md for the recipe"
            }
            Self::Redis(error) if is_unknown(error) => "; Redis 6.2 or newer is needed, on a cluster 7.0",
            Self::Redis(error) if error.detail().is_some_and(|detail| detail.contains("cluster support disabled")) => {
                "; broker.url names a cluster, and this is a single Redis: write redis://"
            }
            _ => "",
        }
    }
}

fn is_unknown(error: &RedisError) -> bool {
    error.detail().is_some_and(|detail| detail.contains("unknown command"))
}

fn is_stranger(error: &RedisError) -> bool {
    error.kind() == ErrorKind::AuthenticationFailed || matches!(error.code(), Some("WRONGPASS" | "NOAUTH"))
}

/// A script that may not do what it does is a general error (Redis 6 and 7.0 in other words than from 7.2 on).
fn is_forbidden_to_script(error: &RedisError) -> bool {
    let says = |words| error.detail().is_some_and(|detail| detail.contains(words));
    says("user executing the script can't") || says("ACL failure in script")
}

/// Waits as long as is reasonable for one answer.
pub(super) async fn answer<T, E>(asked: impl Future<Output = Result<T, E>>) -> Result<T, LinkError>
where
    LinkError: From<E>,
{
    Ok(timeout(PATIENCE, asked).await.map_err(|_| LinkError::Silent)??)
}

/// How every connection for commands is made.
pub(super) fn options() -> AsyncConnectionConfig {
    AsyncConnectionConfig::new()
        .set_connection_timeout(Some(PATIENCE))
        .set_response_timeout(Some(PATIENCE))
        .set_pipeline_buffer_size(COMMANDS_WAITING)
}

/// One listening and one command connection.
pub(super) struct Connections {
    pub sink: Sink,
    pub ear: Ear,
    pub commands: MultiplexedConnection,
    /// Where the markers of the clock come.
    pub clock_channel: Arc<str>,
}

impl Connections {
    /// `native`: on a primary of a cluster.
    pub async fn open(client: Client, native: Option<Native>, clock_channel: Arc<str>) -> Result<Self, LinkError> {
        // In a flood, answers on the listening connection come behind all that Redis still holds for us. The clock knows when it
        // is dead.
        let (tell, pushes) = mpsc::unbounded_channel();
        let place = client.get_connection_info().clone();
        let settings = place.redis_settings().clone().set_protocol(ProtocolVersion::RESP3);
        let listening = Client::open(place.set_redis_settings(settings))?;
        let connection =
            answer(listening.get_multiplexed_async_connection_with_config(&options().set_response_timeout(None).set_push_sender(tell)))
                .await?;
        let commands = answer(client.get_multiplexed_async_connection_with_config(&options())).await?;
        Ok(Self { sink: Sink::new(connection, native.clone()), ear: Ear::new(pushes, native), commands, clock_channel })
    }
}

/// Knows the way in. It exists only for an address that can work; a Redis that is not there yet is no error.
pub struct Connector {
    place: Place,
    /// The root certificates for `rediss:` in place of the system's, PEM.
    tls_root: Option<Vec<u8>>,
}

enum Place {
    One(Box<Client>),
    Sentinel(Sentinel),
}

impl Connector {
    pub fn new(url: BrokerUrl, tls_root: Option<Vec<u8>>) -> Result<Self, AddressError> {
        let shown = url.to_string();
        check_root(tls_root.as_deref())?;
        let place = match url {
            BrokerUrl::Redis(url) => match open(url.expose(), tls_root.as_deref()) {
                Ok(client) => Place::One(Box::new(client)),
                Err(source) => return Err(AddressError::Unusable { url: shown, source }),
            },
            BrokerUrl::Sentinel(sentinel) => Place::Sentinel(sentinel),
            BrokerUrl::Cluster(_) => return Err(AddressError::Cluster(shown)),
            BrokerUrl::Memory => return Err(AddressError::Embedded(shown)),
        };
        Ok(Self { place, tls_root })
    }

    pub(super) async fn connect(&self, prefix: &str) -> Result<Connections, LinkError> {
        Connections::open(self.client().await?, None, format!("{prefix}:clock").into()).await
    }

    async fn client(&self) -> Result<Client, LinkError> {
        let sentinel = match &self.place {
            Place::One(client) => return Ok(Client::clone(client)),
            Place::Sentinel(sentinel) => sentinel,
        };
        for address in &sentinel.sentinels {
            // Each sentinel has its own time to answer: one that is cut off must not hide the others.
            if let Ok(Some((host, port))) = answer(self.ask_sentinel(address, &sentinel.master)).await {
                return Ok(open(sentinel.master_url(&host, port).expose(), self.tls_root.as_deref())?);
            }
        }
        Err(LinkError::NoMaster(sentinel.master.clone()))
    }

    async fn ask_sentinel(&self, address: &str, master: &str) -> Result<Option<(String, u16)>, RedisError> {
        let mut connection = open(address, self.tls_root.as_deref())?.get_multiplexed_async_connection().await?;
        redis::cmd("SENTINEL").arg("get-master-addr-by-name").arg(master).query_async(&mut connection).await
    }
}

/// The crate would trust nobody and say nothing.
pub(super) fn check_root(tls_root: Option<&[u8]>) -> Result<(), AddressError> {
    let is_certificate = |root: &[u8]| matches!(CertificateDer::pem_slice_iter(root).next(), Some(Ok(_)));
    if tls_root.is_none_or(is_certificate) { Ok(()) } else { Err(AddressError::NoCertificate) }
}

pub(super) fn open(url: &str, tls_root: Option<&[u8]>) -> Result<Client, RedisError> {
    match tls_root {
        Some(root) if url.starts_with("rediss:") => {
            Client::build_with_tls(url, TlsCertificates { client_tls: None, root_cert: Some(root.to_vec()) })
        }
        _ => Client::open(url),
    }
}
