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
        messages::{Open, Publish},
        outbox::OutboxLimits,
        session::SessionParts,
        sessions::Sessions,
    },
    auth::{Identity, Verifier},
    config::Config,
    lifeline::Readiness,
    metrics::Metrics,
    protocol::{
        ConnectionId, ErrorCode, RoomName,
        engineio::Carrier,
        socketio::{Revision, Spelling},
        socketio_wire::ping,
        sse,
        wire::{Heartbeat, Wire},
    },
};

/// A ping frame without payload.
const PING: &[u8] = &[0x89, 0x00];

pub struct Door {
    pub config: Arc<Config>,
    pub registry: Addr<RoomRegistry>,
    pub publish: Recipient<Publish>,
    pub verifier: Option<Arc<Verifier>>,
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
    socket_io: Vec<(Revision, Carrier, Arc<ConnectionOptions>)>,
    /// Connections that polls find by an id.
    pub sessions: Sessions,
}

pub struct DoorParts {
    pub config: Arc<Config>,
    pub registry: Addr<RoomRegistry>,
    pub publish: Recipient<Publish>,
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
    pub async fn open(&self, rooms: Vec<RoomName>) -> Result<(), ApiError> {
        let opened = self.connection.send(Open { rooms }).await;
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
    /// For a body that takes over a connection which nothing else will hold.
    pub fn hold(outbox: Arc<Outbox>) -> Self {
        Self { outbox, is_held: true }
    }

    /// The connection lives by polls from now on.
    pub fn release(mut self) -> Arc<Outbox> {
        self.is_held = false;
        Arc::clone(&self.outbox)
    }

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
        let DoorParts { config, registry, publish, verifier, metrics, readiness, node, conformance } = parts;
        let verifier = verifier.map(Arc::new);
        let options = |heartbeat| {
            Arc::new(ConnectionOptions {
                registry: registry.clone(),
                heartbeat,
                stall_limit: stall_limit(&config),
                messages_per_second: config.http.client_rate.per_second,
                retry: config.http.sse_retry,
                drain: config.server.drain,
                verifier: verifier.clone(),
                connect_timeout: config.socketio.connect_timeout,
            })
        };
        let ping = config.http.ws_ping;
        let socket_io = |(revision, carrier)| (revision, carrier, options(socket_io_heartbeat(revision, carrier, &config)));
        Self {
            socket_io: SOCKET_IO_STARTS.map(socket_io).to_vec(),
            sessions: Sessions::default(),
            stream: options(Heartbeat { bytes: sse::KEEP_ALIVE, every: config.http.sse_keepalive, answer_within: None }),
            web_socket: options(Heartbeat { bytes: PING, every: ping, answer_within: Some(ping) }),
            capacity: Capacity::new(config.server.max_connections),
            anonymous: Arc::new(Identity::anonymous()),
            next_connection: AtomicU32::new(1),
            config,
            registry,
            publish,
            verifier,
            metrics,
            readiness,
            node,
            conformance,
        }
    }

    /// Starts the connection of a client on this thread, if there is a place for it.
    pub fn start(&self, wire: Wire, identity: Arc<Identity>) -> Result<Started, ApiError> {
        self.start_with(wire, identity, None)
    }

    /// As [`Self::start`], with what Socket.IO needs beside.
    pub fn start_with(&self, wire: Wire, identity: Arc<Identity>, session: Option<Box<SessionParts>>) -> Result<Started, ApiError> {
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
        let options = Arc::clone(self.options_of(&wire));
        let parts = ConnectionParts { id, wire, outbox: Arc::clone(&outbox), identity, options, lease, session };
        Ok(Started { id, connection: Connection::new(parts).start(), outbox: Leash::hold(outbox) })
    }

    fn options_of(&self, wire: &Wire) -> &Arc<ConnectionOptions> {
        match wire {
            Wire::Sse => &self.stream,
            Wire::WebSocket { .. } | Wire::Echo { .. } => &self.web_socket,
            Wire::SocketIo(wire) => {
                let Spelling { revision, carrier } = wire.session().spelling();
                let start = self.socket_io.iter().find(|start| (start.0, start.1) == (revision, carrier));
                start.map_or(&self.web_socket, |(.., options)| options)
            }
        }
    }

    /// Whether this peer is on the same machine and speaks for itself: behind a proxy on this machine everybody would be.
    pub fn is_local(peer: Option<IpAddr>, is_forwarded: bool) -> bool {
        !is_forwarded && peer.is_none_or(|address| address.to_canonical().is_loopback())
    }
}

/// How Socket.IO connections begin.
const SOCKET_IO_STARTS: [(Revision, Carrier); 5] = [
    (Revision::V5, Carrier::WebSocket),
    (Revision::V5, Carrier::Polling),
    (Revision::V4, Carrier::WebSocket),
    (Revision::V4, Carrier::Polling),
    (Revision::V1, Carrier::Polling),
];

fn socket_io_heartbeat(revision: Revision, carrier: Carrier, config: &Config) -> Heartbeat {
    let (interval, timeout) = (config.socketio.ping_interval, config.socketio.ping_timeout);
    let answer_within = match revision {
        // The client pings each interval; the hub listens.
        Revision::V4 => interval + timeout,
        Revision::V5 | Revision::V1 => timeout,
    };
    Heartbeat { bytes: ping(revision, carrier), every: interval, answer_within: Some(answer_within) }
}

/// 0 in the configuration leaves it to the kernel, and then nothing is watched here either.
fn stall_limit(config: &Config) -> Duration {
    match config.server.tcp_user_timeout {
        Duration::ZERO => Duration::from_secs(24 * 60 * 60),
        limit => limit,
    }
}
