//! What every handler of the door shares: the hub behind it, and the rules at it.

use std::{
    net::IpAddr,
    ops::Deref,
    sync::{
        Arc, Weak,
        atomic::{AtomicU32, Ordering},
    },
    time::Duration,
};

use actix::{Actor, Addr, Recipient};
use actix_web::HttpRequest;
use arc_swap::ArcSwap;
use tokio::time::Instant;

use super::{
    address::{self, Arrivals},
    error::ApiError,
    forward::ForwardAuth,
};
use crate::{
    actors::{
        Connection, Outbox, RoomRegistry,
        connection::{ConnectionOptions, ConnectionParts},
        lease::{Capacity, Lease, Tally},
        messages::{HistoryExtent, Open, Publish, Reconfigure},
        outbox::OutboxLimits,
        recovery::Recoveries,
        session::SessionParts,
        sessions::Sessions,
    },
    auth::{Identity, Keyring},
    config::Config,
    lifeline::Readiness,
    metrics::Metrics,
    protocol::{
        ConnectionId, ErrorCode, RoomName, UserName,
        engineio::Carrier,
        socketio::{Revision, Spelling},
        socketio_wire::ping,
        sse,
        wire::{Heartbeat, Wire, WireName},
    },
};

/// A ping frame without payload.
const PING: &[u8] = &[0x89, 0x00];

pub struct Door {
    policy: ArcSwap<Policy>,
    pub registry: Addr<RoomRegistry>,
    pub publish: Recipient<Publish>,
    pub history: Recipient<HistoryExtent>,
    pub keyring: Arc<Keyring>,
    pub anonymous: Arc<Identity>,
    pub metrics: Metrics,
    pub readiness: Arc<Readiness>,
    pub capacity: Capacity,
    addresses: Tally<IpAddr>,
    common: Common,
    arrivals: Arrivals,
    /// The upper half of this node's connection ids.
    pub node: u32,
    pub conformance: bool,
    /// Connections that polls find by an id.
    pub sessions: Sessions,
    next_connection: AtomicU32,
}

/// What all connections share, whatever the configuration of the moment.
struct Common {
    registry: Addr<RoomRegistry>,
    keyring: Arc<Keyring>,
    users: Tally<UserName>,
    recoveries: Recoveries,
}

/// What may change while the hub runs.
struct Policy {
    config: Arc<Config>,
    forward: Option<Arc<ForwardAuth>>,
    stream: Arc<ConnectionOptions>,
    web_socket: Arc<ConnectionOptions>,
    socket_io: [(Revision, Carrier, Arc<ConnectionOptions>); SOCKET_IO_STARTS.len()],
}

pub struct DoorParts {
    pub config: Arc<Config>,
    pub registry: Addr<RoomRegistry>,
    pub publish: Recipient<Publish>,
    pub history: Recipient<HistoryExtent>,
    pub keyring: Arc<Keyring>,
    pub forward: Option<Arc<ForwardAuth>>,
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
    /// For a body that takes over a connection which nothing else will hold.
    pub fn hold(outbox: Arc<Outbox>) -> Self {
        Self { outbox, is_held: true }
    }

    /// The connection lives by polls from now on.
    pub fn release(mut self) -> Arc<Outbox> {
        self.is_held = false;
        Arc::clone(&self.outbox)
    }

    pub fn downgrade(&self) -> Weak<Outbox> {
        Arc::downgrade(&self.outbox)
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
        let DoorParts { config, registry, publish, history, keyring, forward, metrics, readiness, node, conformance } = parts;
        let common = Common {
            registry: registry.clone(),
            keyring: Arc::clone(&keyring),
            users: Tally::default(),
            recoveries: Recoveries::new(config.server.max_connections),
        };
        Self {
            capacity: Capacity::new(config.server.max_connections),
            addresses: Tally::default(),
            arrivals: Arrivals::default(),
            sessions: Sessions::default(),
            anonymous: Arc::new(Identity::anonymous()),
            next_connection: AtomicU32::new(1),
            policy: ArcSwap::from_pointee(Policy::new(config, forward, &common)),
            common,
            registry,
            publish,
            history,
            keyring,
            metrics,
            readiness,
            node,
            conformance,
        }
    }

    /// The configuration of the moment.
    pub fn config(&self) -> Arc<Config> {
        Arc::clone(&self.policy.load().config)
    }

    /// Who is asked about clients, if anybody.
    pub fn forward(&self) -> Option<Arc<ForwardAuth>> {
        self.policy.load().forward.clone()
    }

    /// Goes by another configuration from now on. Those who are connected stay.
    #[expect(clippy::disallowed_methods, reason = "once per change of the configuration, and it must not be lost")]
    pub fn change(&self, config: Arc<Config>, forward: Option<Arc<ForwardAuth>>) {
        self.capacity.set_limit(config.server.max_connections);
        self.arrivals.clear();
        self.registry.do_send(Reconfigure(Arc::clone(&config)));
        self.policy.store(Arc::new(Policy::new(config, forward, &self.common)));
    }

    /// Counts a client that got no connection.
    pub fn note_refusal(&self, wire: WireName, error: &ApiError) {
        self.metrics.refused(wire, error.code);
    }

    /// Refuses an address that comes too often. Asked before anything is done for the client.
    pub fn check_rate(&self, request: &HttpRequest) -> Result<(), ApiError> {
        let config = self.config();
        let Some(rate) = config.server.connect_rate else { return Ok(()) };
        match address::of(request, &config.server.trusted_proxies).map(address::counted_as) {
            Some(address) if !self.arrivals.is_within(address, rate, Instant::now()) => {
                Err(ApiError::new(ErrorCode::RateLimited, "too many new connections from your address"))
            }
            _ => Ok(()),
        }
    }

    /// A place for one connection more: on this node, of its address and of its user.
    fn admit(&self, request: &HttpRequest, identity: &Identity, config: &Config) -> Result<Lease, ApiError> {
        if self.readiness.is_draining() {
            return Err(ApiError::new(ErrorCode::Draining, "this node is going down, connect again"));
        }
        let Some(mut lease) = self.capacity.take() else {
            return Err(ApiError::new(ErrorCode::Overloaded, "this node has all the connections it takes"));
        };
        let server = &config.server;
        let too_many = |whose| ApiError::new(ErrorCode::TooManyConnections, format!("{whose} has all the connections it may have"));
        if server.max_connections_per_ip > 0
            && let Some(address) = address::of(request, &server.trusted_proxies).map(address::counted_as)
            && !lease.share(&self.addresses, address, server.max_connections_per_ip)
        {
            return Err(too_many("your address"));
        }
        if let Some(user) = &identity.user
            && !lease.share(&self.common.users, user.clone(), server.max_connections_per_user)
        {
            return Err(too_many("this user"));
        }
        Ok(lease)
    }

    /// Starts the connection of a client on this thread, if there is a place for it.
    pub fn start(&self, request: &HttpRequest, wire: Wire, identity: Arc<Identity>) -> Result<Started, ApiError> {
        self.start_with(request, wire, identity, None)
    }

    /// As [`Self::start`], with what Socket.IO needs beside.
    pub fn start_with(
        &self,
        request: &HttpRequest,
        wire: Wire,
        identity: Arc<Identity>,
        session: Option<Box<SessionParts>>,
    ) -> Result<Started, ApiError> {
        let policy = self.policy.load_full();
        let config = &policy.config;
        let lease = self.admit(request, &identity, config)?;
        let id = ConnectionId::new(self.node, self.next_connection.fetch_add(1, Ordering::Relaxed));
        let events = config.mailbox.connection;
        let limits = OutboxLimits { events, bytes: events.saturating_mul(config.http.max_frame) };
        let outbox = Arc::new(Outbox::new(limits, wire.name(), self.metrics.clone()));
        let options = Arc::clone(policy.options_of(&wire));
        let parts = ConnectionParts { id, wire, outbox: Arc::clone(&outbox), identity, options, lease, session };
        Ok(Started { id, connection: Connection::new(parts).start(), outbox: Leash::hold(outbox) })
    }
}

impl Policy {
    fn new(config: Arc<Config>, forward: Option<Arc<ForwardAuth>>, common: &Common) -> Self {
        let options = |heartbeat| {
            Arc::new(ConnectionOptions {
                registry: common.registry.clone(),
                keyring: Arc::clone(&common.keyring),
                heartbeat,
                stall_limit: stall_limit(&config),
                messages_per_second: config.http.client_rate.per_second,
                retry: config.http.sse_retry,
                drain: config.server.drain,
                connect_timeout: config.socketio.connect_timeout,
                recoveries: config.socketio.recovery.then(|| common.recoveries.clone()),
                hears_namespaces: config.hears_namespaces(),
                users: common.users.clone(),
                max_per_user: config.server.max_connections_per_user,
            })
        };
        let ping = config.http.ws_ping;
        let socket_io = |(revision, carrier)| (revision, carrier, options(socket_io_heartbeat(revision, carrier, &config)));
        Self {
            socket_io: SOCKET_IO_STARTS.map(socket_io),
            stream: options(Heartbeat { bytes: sse::KEEP_ALIVE, every: config.http.sse_keepalive, answer_within: None }),
            web_socket: options(Heartbeat { bytes: PING, every: ping, answer_within: Some(ping) }),
            config,
            forward,
        }
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
