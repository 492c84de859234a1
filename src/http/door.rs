//! What every handler of the door shares: the hub behind it, and the rules at it.

use std::{
    net::IpAddr,
    ops::Deref,
    sync::{
        Arc,
        atomic::{AtomicU32, Ordering},
    },
    time::Duration,
};

use actix::{Actor, Addr, Recipient};

use super::error::ApiError;
use crate::{
    actors::{
        Connection, Outbox, RoomRegistry,
        connection::{ConnectionOptions, ConnectionParts},
        lease::Capacity,
        messages::{HistoryExtent, Open, Publish},
        outbox::OutboxLimits,
    },
    auth::{Identity, Verifier},
    config::Config,
    lifeline::Readiness,
    metrics::Metrics,
    protocol::{
        ConnectionId, ErrorCode, RoomName, sse,
        wire::{Heartbeat, Wire, WireName},
    },
};

/// A ping frame without payload.
const PING: &[u8] = &[0x89, 0x00];

pub struct Door {
    pub config: Arc<Config>,
    pub registry: Addr<RoomRegistry>,
    pub publish: Recipient<Publish>,
    pub history: Recipient<HistoryExtent>,
    pub verifier: Option<Verifier>,
    pub anonymous: Arc<Identity>,
    pub metrics: Metrics,
    pub readiness: Arc<Readiness>,
    pub capacity: Capacity,
    /// The upper half of this node's connection ids.
    pub node: u32,
    pub conformance: bool,
    next_connection: AtomicU32,
    stream: Arc<ConnectionOptions>,
    web_socket: Arc<ConnectionOptions>,
}

pub struct DoorParts {
    pub config: Arc<Config>,
    pub registry: Addr<RoomRegistry>,
    pub publish: Recipient<Publish>,
    pub history: Recipient<HistoryExtent>,
    pub verifier: Option<Verifier>,
    pub metrics: Metrics,
    pub readiness: Arc<Readiness>,
    pub node: u32,
    pub conformance: bool,
}

/// A connection that was started for a client, and where its bytes wait.
pub struct Started {
    pub id: ConnectionId,
    pub connection: Addr<Connection>,
    pub outbox: Leash,
}

impl Started {
    /// Registers the connection and joins these rooms; done when the client may be told that it is listening.
    pub async fn open(&self, rooms: Vec<RoomName>, since: Option<Box<str>>) -> Result<(), ApiError> {
        let opened = self.connection.send(Open { rooms, since }).await;
        opened.map_err(|_| ApiError::new(ErrorCode::Internal, "the hub is going down"))?.map_err(ApiError::from)
    }
}

/// Ends the connection unless something else came to hold it: a client may go, and its handler with it, before the response
/// has a body.
pub struct Leash {
    outbox: Arc<Outbox>,
    is_held: bool,
}

impl Leash {
    /// The connection lives by its own socket from now on.
    pub fn let_go(&mut self) {
        self.is_held = false;
    }
}

impl Deref for Leash {
    type Target = Outbox;

    fn deref(&self) -> &Outbox {
        &self.outbox
    }
}

impl Drop for Leash {
    fn drop(&mut self) {
        if self.is_held {
            self.outbox.end();
        }
    }
}

impl Door {
    pub fn new(parts: DoorParts) -> Self {
        let DoorParts { config, registry, publish, history, verifier, metrics, readiness, node, conformance } = parts;
        let options = |heartbeat| {
            Arc::new(ConnectionOptions {
                registry: registry.clone(),
                heartbeat,
                stall_limit: stall_limit(&config),
                messages_per_second: config.http.client_rate.per_second,
                retry: config.http.sse_retry,
                drain: config.server.drain,
            })
        };
        let ping = config.http.ws_ping;
        Self {
            stream: options(Heartbeat { bytes: sse::KEEP_ALIVE, every: config.http.sse_keepalive, answer_within: None }),
            web_socket: options(Heartbeat { bytes: PING, every: ping, answer_within: Some(ping) }),
            capacity: Capacity::new(config.server.max_connections),
            anonymous: Arc::new(Identity::anonymous()),
            next_connection: AtomicU32::new(1),
            config,
            registry,
            publish,
            history,
            verifier,
            metrics,
            readiness,
            node,
            conformance,
        }
    }

    /// Starts the connection of a client on this thread, if there is a place for it.
    pub fn start(&self, wire: Wire, identity: Arc<Identity>) -> Result<Started, ApiError> {
        if self.readiness.is_draining() {
            return Err(ApiError::new(ErrorCode::Draining, "this node is going down, connect again"));
        }
        let Some(lease) = self.capacity.take() else {
            return Err(ApiError::new(ErrorCode::Overloaded, "this node has all the connections it takes"));
        };
        let id = ConnectionId::new(self.node, self.next_connection.fetch_add(1, Ordering::Relaxed));
        let events = self.config.mailbox.connection;
        let limits = OutboxLimits { events, bytes: events.saturating_mul(self.config.http.max_frame) };
        let outbox = Arc::new(Outbox::new(limits, wire.name(), self.metrics.clone()));
        let options = match wire.name() {
            WireName::Sse => Arc::clone(&self.stream),
            WireName::WebSocket | WireName::SocketIo => Arc::clone(&self.web_socket),
        };
        let parts = ConnectionParts { id, wire, outbox: Arc::clone(&outbox), identity, options, lease };
        Ok(Started { id, connection: Connection::new(parts).start(), outbox: Leash { outbox, is_held: true } })
    }

    /// Whether this peer is on the same machine and speaks for itself: behind a proxy on this machine everybody would be.
    pub fn is_local(peer: Option<IpAddr>, is_forwarded: bool) -> bool {
        !is_forwarded && peer.is_none_or(|address| address.to_canonical().is_loopback())
    }
}

/// 0 in the configuration leaves it to the kernel, and then nothing is watched here either.
fn stall_limit(config: &Config) -> Duration {
    match config.server.tcp_user_timeout {
        Duration::ZERO => Duration::from_secs(24 * 60 * 60),
        limit => limit,
    }
}
