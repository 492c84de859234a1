//! Which bus the configuration asks for, and starting it: one bridge on the embedded broker or on one Redis, one for each shard of
//! a cluster.

use std::{net::TcpListener, rc::Rc, sync::Arc};

use actix::{Actor, Addr, AsyncContext, Handler, Recipient, dev::ToEnvelope};

use crate::{
    actors::{
        attendance::Attendance,
        messages::{HistoryExtent, Publish, Reconfigure, Replay, Subscribe, TellNodes, Unsubscribe},
        registry::Bridge,
    },
    broker::{
        bridge::{BridgeParts, RedisBridge, Reports, nodes},
        cluster::{ClusterBridge, ClusterParts},
        link::Link,
        memory::MemoryBus,
        redis::{Cluster, Connector, LinkParts, Place, RedisArchive, RedisLink, Seeds},
        resp,
    },
    config::Config,
    lifeline::{Lifeline, Readiness},
    metrics::Metrics,
    protocol::{
        resume::ResumeKey,
        source::{Sources, Standing},
    },
};

/// The way to the broker.
pub enum Way {
    /// The embedded one; where it takes PUBLISH.
    Memory(Option<TcpListener>),
    Redis(Connector),
    Cluster(Seeds),
}

/// Whom the registry and the door ask.
pub struct Bus {
    pub bridge: Bridge,
    pub publish: Recipient<Publish>,
    pub history: Recipient<HistoryExtent>,
}

pub struct BusParts {
    pub config: Arc<Config>,
    pub sources: Sources,
    pub node: u32,
    /// Signs ids where the nodes share no other key.
    pub key: ResumeKey,
    pub metrics: Metrics,
    pub readiness: Arc<Readiness>,
    pub attendance: Attendance,
}

impl BusParts {
    /// Starts it on this thread.
    pub fn start(self, way: Way, reports: Reports, lifeline: Lifeline) -> Bus {
        let place = match way {
            Way::Memory(resp) => {
                return Bus::of(&self.start_bridge(reports, lifeline, |bridge| Box::new(self.memory(bridge, resp).link())));
            }
            Way::Cluster(seeds) => return Bus::of(&self.start_cluster(seeds, reports, lifeline)),
            Way::Redis(connector) => Place::One(connector),
        };
        Bus::of(&self.start_bridge(reports, lifeline, |bridge| Box::new(self.redis(bridge, place))))
    }

    fn start_bridge(
        &self,
        reports: Reports,
        lifeline: Lifeline,
        link: impl FnOnce(Addr<RedisBridge>) -> Box<dyn Link>,
    ) -> Addr<RedisBridge> {
        let parts = BridgeParts {
            config: Arc::clone(&self.config),
            sources: self.sources.clone(),
            key: self.key,
            prefix: self.config.broker.prefix.clone(),
            mailbox: self.config.mailbox.bridge,
            reports,
            readiness: Arc::clone(&self.readiness),
            metrics: self.metrics.clone(),
            lifeline: Some(lifeline),
            attendance: self.attendance.clone(),
        };
        RedisBridge::create(|ctx| {
            let mut bridge = RedisBridge::new(parts);
            bridge.attach(link(ctx.address()));
            bridge
        })
    }

    fn start_cluster(self, seeds: Seeds, reports: Reports, lifeline: Lifeline) -> Addr<ClusterBridge> {
        let prefix = self.config.broker.prefix.clone();
        let cluster = Cluster::new(seeds, &prefix);
        ClusterBridge::new(ClusterParts {
            archive: Rc::new(RedisArchive::on_cluster(prefix.clone(), Rc::clone(&cluster))),
            prefix,
            readiness: Arc::clone(&self.readiness),
            metrics: self.metrics.clone(),
            lifeline: Some(lifeline.another()),
            cluster: Rc::clone(&cluster),
            start_shard: Box::new(move |shard| {
                let place = Place::Shard(Rc::clone(&cluster), shard);
                self.start_bridge(reports.clone(), lifeline.another(), |bridge| Box::new(self.redis(bridge, place)))
            }),
        })
        .start()
    }

    fn standing(&self) -> Vec<Standing> {
        self.sources.standing().into_iter().chain(nodes::standing(&self.config.broker.prefix)).collect()
    }

    fn redis(&self, bridge: Addr<RedisBridge>, place: Place) -> RedisLink {
        RedisLink::start(LinkParts {
            place,
            prefix: self.config.broker.prefix.clone(),
            standing: self.standing(),
            node: format!("{:08x}", self.node),
            key: self.key,
            bridge,
            metrics: self.metrics.clone(),
        })
    }

    fn memory(&self, bridge: Addr<RedisBridge>, resp: Option<TcpListener>) -> MemoryBus {
        let mailbox = &self.config.mailbox;
        let bus = MemoryBus::new(bridge, self.standing(), mailbox.room.min(mailbox.user));
        if let Some(listener) = resp {
            let password = self.config.broker.resp_password.as_ref().map(|password| password.expose().to_owned());
            let options = resp::Options { password, ..resp::Options::default() };
            let sink = bus.clone();
            actix_web::rt::spawn(async move {
                match tokio::net::TcpListener::from_std(listener) {
                    Ok(listener) => resp::serve(listener, options, sink).await,
                    Err(error) => log::error!("the embedded broker takes no PUBLISH: {error}"),
                }
            });
        }
        bus
    }
}

impl Bus {
    fn of<A>(bus: &Addr<A>) -> Self
    where
        A: Handler<Subscribe>
            + Handler<Unsubscribe>
            + Handler<Publish>
            + Handler<TellNodes>
            + Handler<Replay>
            + Handler<Reconfigure>
            + Handler<HistoryExtent>,
        A::Context: ToEnvelope<A, Subscribe>
            + ToEnvelope<A, Unsubscribe>
            + ToEnvelope<A, Publish>
            + ToEnvelope<A, TellNodes>
            + ToEnvelope<A, Replay>
            + ToEnvelope<A, Reconfigure>
            + ToEnvelope<A, HistoryExtent>,
    {
        let bridge = Bridge {
            subscribe: bus.clone().recipient(),
            unsubscribe: bus.clone().recipient(),
            publish: bus.clone().recipient(),
            tell_nodes: bus.clone().recipient(),
            replay: bus.clone().recipient(),
            reconfigure: bus.clone().recipient(),
        };
        Self { bridge, publish: bus.clone().recipient(), history: bus.clone().recipient() }
    }
}
