//! What there is one of: the registry, the bridge and its link. Prepared on the main thread, where every mistake of the
//! configuration shows; started on the first worker's, because each thread that an event crosses costs a wake-up.

use std::{net::SocketAddr, sync::Arc};

use actix::{Actor, AsyncContext};

use super::{
    HubError,
    bus::{Bus, BusParts, Way},
    listen, sources,
};
use crate::{
    actors::{RoomRegistry, attendance::Attendance, registry::RegistryParts},
    auth::Keyring,
    broker::{
        bridge::Reports,
        redis::{Connector, Seeds},
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
    way: Way,
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
        let way = match config.broker.url.clone() {
            BrokerUrl::Memory => Way::Memory(listen::open_resp(&config)?),
            BrokerUrl::Cluster(addresses) => Way::Cluster(Seeds::new(addresses, tls_root)?),
            url => Way::Redis(Connector::new(url, tls_root)?),
        };
        Ok(Self {
            sources: sources(&config)?,
            keyring: Arc::new(Keyring::new(config.auth.jwt.as_ref())?),
            forward: forward(&config)?,
            way,
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
        let Way::Memory(Some(listener)) = &self.way else { return None };
        listener.local_addr().ok()
    }

    /// Starts it on this thread.
    pub fn start(self) -> Door {
        let Self { config, keyring, forward, node, conformance, metrics, readiness, .. } = self;
        let attendance = if config.hears_namespaces() { Attendance::kept() } else { Attendance::default() };
        let parts = BusParts {
            config: Arc::clone(&config),
            sources: self.sources,
            node,
            key: self.key,
            metrics: metrics.clone(),
            readiness: Arc::clone(&readiness),
            attendance: attendance.clone(),
        };
        let (way, lifeline, registry_lifeline) = (self.way, self.bridge_lifeline, self.registry_lifeline);
        let mut started = None;
        // Each needs the other's address.
        let registry = RoomRegistry::create(|ctx| {
            let registry = ctx.address();
            let reports = Reports {
                restored: registry.clone().recipient(),
                revoked: registry.clone().recipient(),
                up: registry.clone().recipient(),
                down: registry.clone().recipient(),
                node_said: registry.clone().recipient(),
                steer: registry.recipient(),
            };
            let Bus { bridge, publish, history } = parts.start(way, reports, lifeline);
            started = Some((publish, history));
            RoomRegistry::new(RegistryParts {
                node,
                config: Arc::clone(&config),
                bridge,
                metrics: metrics.clone(),
                lifeline: Some(registry_lifeline),
                attendance: attendance.clone(),
            })
        });
        let Some((publish, history)) = started else { unreachable!("the registry is created with its bridge") };
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
