//! What there is one of: the registry, the bridge and its link. Prepared on the main thread, where every mistake of the
//! configuration shows; started on the first worker's, because each thread that an event crosses costs a wake-up.

use std::{
    net::{SocketAddr, TcpListener},
    sync::Arc,
};

use actix::{Actor, Addr, AsyncContext};

use super::{HubError, listen, sources};
use crate::{
    actors::{
        RoomRegistry,
        attendance::Attendance,
        registry::{Bridge, RegistryParts},
    },
    auth::Keyring,
    broker::{
        bridge::{BridgeParts, RedisBridge, Reports, nodes},
        link::Link,
        memory::MemoryBus,
        redis::{Connector, LinkParts, RedisLink},
        resp,
    },
    config::{BrokerUrl, Config},
    http::{
        door::{Door, DoorParts},
        forward::ForwardAuth,
        jwks,
    },
    lifeline::{Lifeline, Readiness, Watch},
    metrics::Metrics,
    protocol::{resume::ResumeKey, source::Sources},
};

pub struct Core {
    config: Arc<Config>,
    sources: Sources,
    keyring: Arc<Keyring>,
    forward: Option<Arc<ForwardAuth>>,
    /// The way to Redis; none with the embedded broker.
    connector: Option<Connector>,
    /// Where the embedded broker takes PUBLISH.
    resp: Option<TcpListener>,
    node: u32,
    /// Signs ids where the nodes share no other key.
    key: ResumeKey,
    conformance: bool,
    metrics: Metrics,
    readiness: Arc<Readiness>,
    registry_lifeline: Lifeline,
    bridge_lifeline: Lifeline,
}

impl Core {
    pub fn prepare(config: Arc<Config>, readiness: Arc<Readiness>, watch: &Watch, conformance: bool) -> Result<Self, HubError> {
        let read_root = |path: &std::path::PathBuf| std::fs::read(path).map_err(|error| HubError::TlsRoot { path: path.clone(), error });
        let tls_root = config.broker.tls_ca.as_ref().map(read_root).transpose()?;
        let connector = match &config.broker.url {
            BrokerUrl::Memory => None,
            url => Some(Connector::new(url.clone(), tls_root)?),
        };
        Ok(Self {
            sources: sources(&config)?,
            keyring: Arc::new(Keyring::new(config.auth.jwt.as_ref())?),
            forward: forward(&config)?,
            connector,
            resp: listen::open_resp(&config)?,
            node: getrandom::u32().map_err(HubError::Randomness)?,
            key: resume_key().map_err(HubError::Randomness)?,
            conformance,
            metrics: Metrics::new(),
            readiness,
            registry_lifeline: watch.lifeline("room registry"),
            bridge_lifeline: watch.lifeline("bridge"),
            config,
        })
    }

    /// Where the embedded broker takes PUBLISH.
    pub fn resp_address(&self) -> Option<SocketAddr> {
        self.resp.as_ref().and_then(|listener| listener.local_addr().ok())
    }

    /// Starts it on this thread.
    pub fn start(self) -> Door {
        let Self { config, sources, key, keyring, forward, connector, resp, node, conformance, metrics, readiness, .. } = self;
        let attendance = if config.hears_namespaces() { Attendance::kept() } else { Attendance::default() };
        let bridge_parts = |reports| BridgeParts {
            config: Arc::clone(&config),
            sources: sources.clone(),
            key,
            prefix: config.broker.prefix.clone(),
            mailbox: config.mailbox.bridge,
            reports,
            readiness: Arc::clone(&readiness),
            metrics: metrics.clone(),
            lifeline: Some(self.bridge_lifeline),
            attendance: attendance.clone(),
        };
        let mut started = None;
        // Each needs the other's address.
        let registry = RoomRegistry::create(|ctx| {
            let reports = Reports {
                restored: ctx.address().recipient(),
                up: ctx.address().recipient(),
                node_said: ctx.address().recipient(),
                steer: ctx.address().recipient(),
            };
            let bridge = RedisBridge::create(|bridge| {
                let mut actor = RedisBridge::new(bridge_parts(reports));
                actor.attach(link(
                    bridge.address(),
                    &config,
                    sources.clone(),
                    LinkSeeds { connector, resp, node, key, metrics: metrics.clone() },
                ));
                actor
            });
            let recipients = Bridge {
                subscribe: bridge.clone().recipient(),
                unsubscribe: bridge.clone().recipient(),
                publish: bridge.clone().recipient(),
                tell_nodes: bridge.clone().recipient(),
                replay: bridge.clone().recipient(),
            };
            started = Some(bridge);
            RoomRegistry::new(RegistryParts {
                node,
                config: Arc::clone(&config),
                bridge: recipients,
                metrics: metrics.clone(),
                lifeline: Some(self.registry_lifeline),
                attendance: attendance.clone(),
            })
        });
        let Some(bridge) = started else { unreachable!("the registry is created with its bridge") };
        let (publish, history) = (bridge.clone().recipient(), bridge.recipient());
        actix_web::rt::spawn(jwks::keep(Arc::clone(&keyring)));
        Door::new(DoorParts { config, registry, publish, history, keyring, forward, metrics, readiness, node, conformance })
    }
}

/// Who is asked about clients, under this configuration.
pub fn forward(config: &Config) -> Result<Option<Arc<ForwardAuth>>, HubError> {
    let forward = config.auth.forward.as_ref().map(ForwardAuth::new).transpose();
    Ok(forward.map_err(HubError::Randomness)?.map(Arc::new))
}

fn resume_key() -> Result<ResumeKey, getrandom::Error> {
    let mut key = [0; 16];
    getrandom::fill(&mut key)?;
    Ok(ResumeKey::new(key))
}

struct LinkSeeds {
    connector: Option<Connector>,
    resp: Option<TcpListener>,
    node: u32,
    key: ResumeKey,
    metrics: Metrics,
}

fn link(bridge: Addr<RedisBridge>, config: &Config, sources: Sources, seeds: LinkSeeds) -> Box<dyn Link> {
    let LinkSeeds { connector, resp, node, key, metrics } = seeds;
    let standing = sources.standing().into_iter().chain(nodes::standing(&config.broker.prefix)).collect();
    if let Some(connector) = connector {
        return Box::new(RedisLink::start(LinkParts {
            connector,
            prefix: config.broker.prefix.clone(),
            standing,
            node: format!("{node:08x}"),
            key,
            bridge,
            metrics,
        }));
    }
    let bus = MemoryBus::new(bridge, standing);
    if let Some(listener) = resp {
        let password = config.broker.resp_password.as_ref().map(|password| password.expose().to_owned());
        let options = resp::Options { password, ..resp::Options::default() };
        let sink = bus.clone();
        actix_web::rt::spawn(async move {
            match tokio::net::TcpListener::from_std(listener) {
                Ok(listener) => resp::serve(listener, options, sink).await,
                Err(error) => log::error!("the embedded broker takes no PUBLISH: {error}"),
            }
        });
    }
    Box::new(bus.link())
}
