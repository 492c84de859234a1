//! A Redis Cluster as this node knows it: who holds which slots, the command connection to each shard, and what its links share.
//! One task asks the cluster twice a second, and at once where something points to a change.

use std::{
    cell::{Cell, RefCell},
    rc::Rc,
    sync::Arc,
    time::Duration,
};

use actix::Recipient;
use redis::{Cmd, ErrorKind, FromRedisValue, RedisError, ServerErrorKind, aio::MultiplexedConnection};
use tokio::{
    sync::{Notify, watch},
    time::{sleep, timeout},
};

use super::{
    connect::{AddressError, Connections, LinkError, answer, check_root, open},
    listen::Native,
    topology::{Layout, Shards, View},
};
use crate::{broker::link::LayoutChanged, config::Secret, protocol::resume::ResumeKey};

/// Between two looks at the cluster. A failover that the cluster is done with is noticed within this time.
const LOOK: Duration = Duration::from_millis(500);
/// The same while a shard is not served.
const ANXIOUS_LOOK: Duration = Duration::from_millis(100);

/// Where a cluster is and how to get in. It exists only for addresses that can work.
pub struct Seeds {
    addresses: Vec<Secret>,
    tls_root: Option<Vec<u8>>,
}

impl Seeds {
    pub fn new(addresses: Vec<Secret>, tls_root: Option<Vec<u8>>) -> Result<Self, AddressError> {
        check_root(tls_root.as_deref())?;
        for address in &addresses {
            if let Err(source) = open(address.expose(), tls_root.as_deref()) {
                let url = crate::config::BrokerUrl::Cluster(addresses.clone()).to_string();
                return Err(AddressError::Unusable { url, source });
            }
        }
        Ok(Self { addresses, tls_root })
    }

    fn is_tls(&self) -> bool {
        self.addresses.first().is_some_and(|address| address.expose().starts_with("rediss:"))
    }

    /// The address of a node, with the credentials of the seeds.
    fn address_of(&self, host: &str, port: u16) -> Secret {
        let seed = self.addresses.first().map(Secret::expose).unwrap_or_default();
        let (scheme, rest) = seed.split_once("://").unwrap_or(("redis", ""));
        let credentials = rest.rsplit_once('@').map(|(credentials, _)| format!("{credentials}@")).unwrap_or_default();
        let host = if host.contains(':') { format!("[{host}]") } else { host.to_owned() };
        Secret::new(&format!("{scheme}://{credentials}{host}:{port}"))
    }
}

pub struct Cluster {
    seeds: Seeds,
    prefix: String,
    shards: RefCell<Shards>,
    /// By shard: the command connection, while its link is up.
    commands: RefCell<Vec<Option<MultiplexedConnection>>>,
    /// The latest marker of any shard. Each shard's clock is kept ahead of all others, so that a room that moves to another shard
    /// goes on in time.
    latest_ms: Cell<u64>,
    /// The key that signs ids, once the shard that keeps it has told.
    key: watch::Sender<Option<ResumeKey>>,
    /// Each change of `shards`.
    changed: watch::Sender<()>,
    anxious: Notify,
    /// Why nobody could be asked, last time: said once.
    last_error: RefCell<String>,
}

impl Cluster {
    pub fn new(seeds: Seeds, prefix: &str) -> Rc<Self> {
        Rc::new(Self {
            seeds,
            prefix: prefix.to_owned(),
            shards: RefCell::new(Shards::unknown()),
            commands: RefCell::new(vec![None]),
            latest_ms: Cell::new(0),
            key: watch::Sender::new(None),
            changed: watch::Sender::new(()),
            anxious: Notify::new(),
            last_error: RefCell::default(),
        })
    }

    /// Looks after the cluster for as long as somebody wants to be told.
    #[expect(clippy::disallowed_methods, reason = "once per change of the cluster, and it must not be lost")]
    pub async fn watch(self: Rc<Self>, tell: Recipient<LayoutChanged>) {
        while tell.connected() {
            let view = self.look().await;
            if view.is_some_and(|view| self.shards.borrow_mut().apply(&view)) {
                self.commands.borrow_mut().resize(self.len(), None);
                self.changed.send_replace(());
                log::info!("the Redis Cluster has {} primaries with slots", self.shards.borrow().primaries().count());
                tell.do_send(LayoutChanged);
            }
            let pause = if self.is_complete() { LOOK } else { ANXIOUS_LOOK };
            // Whether it was time or somebody asked is the same.
            _ = timeout(pause, self.anxious.notified()).await;
            if pause == LOOK {
                // What made somebody ask comes in dozens.
                sleep(Duration::from_millis(5)).await;
            }
        }
    }

    /// What the first node says that answers: those we are connected to are asked first.
    async fn look(&self) -> Option<View> {
        for shard in 0..self.len() {
            let Some(mut connection) = self.commands.borrow()[shard].clone() else { continue };
            let host = self.shards.borrow().primary(shard).map(|primary| primary.host.clone()).unwrap_or_default();
            if let Ok(view) = answer(self.ask(&mut connection, &host)).await {
                return view;
            }
        }
        let known: Vec<_> = self.shards.borrow().primaries().map(|known| self.seeds.address_of(&known.host, known.port)).collect();
        let mut last_error = None;
        for address in known.iter().chain(&self.seeds.addresses) {
            match answer(self.ask_at(address)).await {
                Ok(Some(view)) => return Some(view),
                Ok(None) => {}
                Err(error) => last_error = Some(error),
            }
        }
        let text = last_error.map(|error| format!("no node of the Redis Cluster says who holds its slots: {error}{}", error.advice()));
        if let Some(text) = text.filter(|text| *self.last_error.borrow() != *text) {
            log::warn!("{text}");
            self.last_error.replace(text);
        }
        None
    }

    async fn ask_at(&self, address: &Secret) -> Result<Option<View>, RedisError> {
        let mut connection = open(address.expose(), self.seeds.tls_root.as_deref())?.get_multiplexed_async_connection().await?;
        let rest = address.expose().rsplit_once('@').or_else(|| address.expose().split_once("://")).map_or("", |(_, rest)| rest);
        let host = rest.rsplit_once(':').map_or(rest, |(host, _)| host);
        self.ask(&mut connection, host.trim_matches(['[', ']'])).await
    }

    async fn ask(&self, connection: &mut MultiplexedConnection, host: &str) -> Result<Option<View>, RedisError> {
        let text: String = redis::cmd("CLUSTER").arg("NODES").query_async(connection).await?;
        Ok(View::read(&text, host, self.seeds.is_tls()))
    }

    /// Something points to a change.
    pub(super) fn look_again(&self) {
        self.anxious.notify_one();
    }

    pub fn layout(&self) -> Layout {
        self.shards.borrow().layout().clone()
    }

    /// How many shards there have been at once.
    pub fn len(&self) -> usize {
        self.shards.borrow().len()
    }

    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// All shards that have slots are served.
    pub fn is_complete(&self) -> bool {
        let shards = self.shards.borrow();
        self.commands.borrow().iter().enumerate().all(|(shard, commands)| commands.is_some() || !shards.layout().holds_any(shard))
    }

    /// The shard that speaks for all, where each could.
    pub fn lead(&self) -> Option<usize> {
        self.commands.borrow().iter().position(Option::is_some)
    }
}

/// For the link of one shard.
impl Cluster {
    /// Waits while the shard has no slots.
    pub(super) async fn needed(&self, shard: usize) {
        let is_needed = || self.shards.borrow().layout().holds_any(shard);
        // The sender is our own.
        _ = self.changed.subscribe().wait_for(|()| is_needed()).await;
    }

    /// The name of the process that is this shard, unless it is this one.
    pub(super) fn primary(&self, shard: usize) -> Option<Arc<str>> {
        self.shards.borrow().primary(shard).map(|primary| Arc::clone(&primary.id))
    }

    /// Waits until another process is this shard.
    pub(super) async fn replaced(self: Rc<Self>, shard: usize, id: Arc<str>) {
        _ = self.changed.subscribe().wait_for(|()| self.primary(shard).is_none_or(|primary| primary != id)).await;
    }

    /// Waits until there is a process that is this shard, and another than before.
    pub(super) async fn succeeded(&self, shard: usize, before: Option<Arc<str>>) {
        let is_new = || self.primary(shard).is_some_and(|primary| Some(primary) != before);
        _ = self.changed.subscribe().wait_for(|()| is_new()).await;
    }

    pub(super) async fn connect(self: &Rc<Self>, shard: usize) -> Result<Connections, LinkError> {
        let found =
            self.shards.borrow().primary(shard).map(|found| (Arc::clone(&found.id), self.seeds.address_of(&found.host, found.port)));
        let Some((id, address)) = found else {
            self.look_again();
            return Err(LinkError::NoPrimary);
        };
        let connected = tokio::select! {
            connected = self.open(address.expose(), &id) => connected,
            () = Rc::clone(self).replaced(shard, Arc::clone(&id)) => Err(LinkError::Replaced),
        };
        connected.inspect_err(|_| self.look_again())
    }

    async fn open(&self, address: &str, id: &str) -> Result<Connections, LinkError> {
        let client = open(address, self.seeds.tls_root.as_deref())?;
        // Of the process and not of its slots, so that all nodes that listen to it count by one clock whatever they know.
        Connections::open(client, Some(Native::new(&self.prefix)), format!("{}:clock:{id}", self.prefix).into()).await
    }

    /// The shard's link is up, or down.
    pub(super) fn set_commands(&self, shard: usize, commands: Option<MultiplexedConnection>) {
        if commands.is_none() {
            self.look_again();
        }
        if let Some(known) = self.commands.borrow_mut().get_mut(shard) {
            *known = commands;
        }
    }

    pub(super) fn see(&self, marker_ms: u64) {
        self.latest_ms.set(self.latest_ms.get().max(marker_ms));
    }

    pub(super) fn latest_ms(&self) -> u64 {
        self.latest_ms.get()
    }

    pub(super) fn set_key(&self, key: ResumeKey) {
        self.key.send_replace(Some(key));
    }

    /// Waits until the shard that keeps it has told.
    pub(super) async fn key(&self) -> Option<ResumeKey> {
        self.key.subscribe().wait_for(Option::is_some).await.ok().and_then(|key| *key)
    }
}

/// How often a command is asked again where its keys are on their way to another primary.
const ATTEMPTS: usize = 5;
const BETWEEN_ATTEMPTS: Duration = Duration::from_millis(100);

/// For commands about one key, or several of one slot.
impl Cluster {
    /// `None`: the shard of the key is not reachable.
    pub(super) async fn run<T: FromRedisValue>(&self, key: &str, command: &Cmd) -> Option<Result<T, RedisError>> {
        for _ in 1..ATTEMPTS {
            let error = match self.attempt(key, command).await? {
                Err(error) if is_passing(&error) => error,
                done => return Some(done),
            };
            if let (ErrorKind::Server(ServerErrorKind::Ask), Some((address, _))) = (error.kind(), error.redirect_node())
                && let Some(answer) = self.ask_for_once(address, command).await
            {
                return Some(answer);
            }
            self.look_again();
            sleep(BETWEEN_ATTEMPTS).await;
        }
        self.attempt(key, command).await
    }

    async fn attempt<T: FromRedisValue>(&self, key: &str, command: &Cmd) -> Option<Result<T, RedisError>> {
        let mut connection = self.commands_for(key)?;
        Some(command.query_async(&mut connection).await)
    }

    /// The slot is on its way, and its new primary takes commands about this key already.
    async fn ask_for_once<T: FromRedisValue>(&self, address: &str, command: &Cmd) -> Option<Result<T, RedisError>> {
        let (host, port) = address.rsplit_once(':')?;
        let shard = self.shards.borrow().find(host, port.parse().ok()?)?;
        let mut connection = self.commands.borrow()[shard].clone()?;
        let mut pipeline = redis::pipe();
        pipeline.cmd("ASKING").ignore().add_command(command.clone());
        Some(pipeline.query_async::<(T,)>(&mut connection).await.map(|(answer,)| answer))
    }

    pub(super) fn commands_for(&self, key: &str) -> Option<MultiplexedConnection> {
        let shard = self.shards.borrow().layout().shard_of(key);
        self.commands.borrow().get(shard)?.clone()
    }
}

/// It passes when the cluster has settled again.
pub(super) fn is_passing(error: &RedisError) -> bool {
    use ServerErrorKind::{Ask, BusyLoading, ClusterDown, MasterDown, Moved, ReadOnly, TryAgain};
    matches!(error.kind(), ErrorKind::Server(Ask | BusyLoading | ClusterDown | MasterDown | Moved | ReadOnly | TryAgain))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_nodes_of_a_cluster_are_entered_with_the_credentials_of_its_seeds() {
        let address =
            |seed: &str, host| Seeds { addresses: vec![Secret::new(seed)], tls_root: None }.address_of(host, 7000).expose().to_owned();
        assert_eq!(address("rediss://u:p@a:1", "10.0.0.1"), "rediss://u:p@10.0.0.1:7000");
        assert_eq!(address("redis://a:1", "::1"), "redis://[::1]:7000");
    }
}
