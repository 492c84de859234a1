//! The task behind a link: it connects, proves the subscription, subscribes, reads, marks the time, and begins anew.

use std::{
    collections::{HashMap, HashSet},
    sync::Arc,
    time::Duration,
};

use actix::{Addr, prelude::SendError};
use bytes::Bytes;
use foldhash::fast::RandomState;
use futures_util::{
    FutureExt, StreamExt,
    future::{self, LocalBoxFuture},
    stream,
};
use redis::{Cmd, Msg, RedisError, aio::MultiplexedConnection};
use tokio::{
    sync::{mpsc, watch},
    task::unconstrained,
    time::{Instant, MissedTickBehavior, interval, sleep, sleep_until, timeout},
};

use super::{
    connect::{Connections, LinkError, answer},
    is_answer,
    listen::Heard,
    orders::{CHANNELS_PER_COMMAND, Carried, Order, Orders, Wish, carry, is_forbidden, log_refusal},
    way::{FAREWELL, Way},
};
use crate::{
    broker::{
        backoff::Backoff,
        bridge::RedisBridge,
        clock::{self, Clock},
        link::{Confirmed, Inbound, InboundLost, LinkDown, LinkUp, Moved, Refused, Torn},
    },
    metrics::Metrics,
    protocol::{
        resume::{ResumeKey, RoomHash},
        source::Standing,
    },
};

/// Messages handed on before the other work of the link has its turn.
const MESSAGES_PER_TURN: usize = 256;
/// SUBSCRIBE commands on their way at once when all is subscribed anew: a thousandth of a second there and back must not be
/// paid for each five hundred channels.
const COMMANDS_IN_FLIGHT: usize = 16;
/// A connection that held for so long was a good one: the next loss is answered at once. One that did not is not, or a Redis
/// that lets us in only to throw us out would be asked twenty times a second.
const GOOD_CONNECTION: Duration = Duration::from_secs(5);
/// For so long nobody goes back to a primary that said farewell: by then the cluster says who follows it.
const FAREWELL_HOLDS: Duration = Duration::from_secs(5);

pub(super) struct Task {
    pub way: Way,
    pub clock_channel: Arc<str>,
    pub standing: Vec<Standing>,
    pub clock: Clock,
    pub bridge: Addr<RedisBridge>,
    pub metrics: Metrics,
    pub wished: mpsc::UnboundedReceiver<Wish>,
    pub commands: watch::Sender<Option<MultiplexedConnection>>,
    /// All concrete channels that are to be subscribed, connected or not, refused or not: an ACL may change.
    /// With the order in which they were: a room's channels stand together.
    pub wanted: HashMap<Arc<str>, u64, RandomState>,
    /// How many were ever wanted.
    pub joined: u64,
    /// What was confirmed since the last message.
    pub confirmed: Vec<Arc<str>>,
    pub orders: Orders,
    /// Messages that the bridge's full mailbox refused, by channel.
    pub lost: HashMap<Arc<str>, u64, RandomState>,
    pub refusal_logged: Option<Instant>,
    pub marks: Marks,
    /// The bridge has had every message since the last marker that it has had.
    pub is_whole: bool,
    pub prefix: String,
    pub key: ResumeKey,
    /// Where nodes talk to each other.
    pub gossip: Vec<String>,
    /// Channels that could not be subscribed for now.
    pub astray: Vec<Arc<str>>,
    /// Channels that are being unsubscribed, so that their end is no surprise.
    pub leaving: HashSet<Arc<str>, RandomState>,
    /// The primary that said farewell, and when.
    pub farewell: Option<(Arc<str>, Instant)>,
}

/// Markers out of turn that the bridge has asked for.
#[derive(Default)]
pub(super) struct Marks {
    rooms: Vec<RoomHash>,
    due: Option<Instant>,
}

impl Task {
    pub async fn run(mut self) {
        let mut backoff = Backoff::default();
        let mut last_error = String::new();
        while self.bridge.connected() {
            self.way.needed().await;
            let before = self.way.primary();
            let error = match self.connect().await {
                Ok(connections) => {
                    log::info!("subscribed to Redis with {} channels", self.wanted.len());
                    last_error.clear();
                    let since = Instant::now();
                    let error = self.serve(connections).await;
                    if since.elapsed() >= GOOD_CONNECTION {
                        backoff.reset();
                    }
                    error
                }
                Err(error) => {
                    self.give_up_attempt();
                    error
                }
            };
            let text = format!("Redis: {error}{}", error.advice());
            if text != last_error {
                log::warn!("{text}; trying again until it works");
                last_error = text;
            }
            // Who knows of a new primary need not wait.
            tokio::select! {
                () = sleep(backoff.next_wait()) => {}
                () = self.way.successor(before) => {}
            }
        }
    }

    /// Connects, subscribes to all that is wanted, and proves the subscription by a marker that comes back.
    async fn connect(&mut self) -> Result<Connections, LinkError> {
        self.take_wishes();
        if self.farewell.as_ref().is_some_and(|(id, since)| self.way.primary().as_ref() == Some(id) && since.elapsed() < FAREWELL_HOLDS) {
            self.way.look_again();
            return Err(LinkError::Replaced);
        }
        self.farewell = None;
        let mut connections = self.way.connect(&self.prefix).await?;
        self.clock_channel = Arc::clone(&connections.clock_channel);
        answer(self.listen_standing(&mut connections)).await?;
        self.share_key(connections.commands.clone()).await?;
        self.subscribe_wanted(&connections).await?;
        answer(self.prove(&mut connections)).await?;
        Ok(connections)
    }

    /// What was confirmed and numbered before the link could be up was in vain.
    #[expect(clippy::disallowed_methods, reason = "once per attempt to connect, and it must not be lost")]
    fn give_up_attempt(&mut self) {
        self.confirmed.clear();
        self.bridge.do_send(LinkDown);
    }

    async fn listen_standing(&mut self, connections: &mut Connections) -> Result<(), RedisError> {
        connections.sink.subscribe(&self.clock_channel).await?;
        for standing in &self.standing {
            let (name, answer) = match standing {
                Standing::Channel(channel) => (channel, connections.sink.subscribe(channel).await),
                Standing::Pattern(pattern) => (pattern, connections.sink.psubscribe(pattern).await),
            };
            match answer {
                Ok(()) => {}
                // The other sources work without it.
                Err(error) if is_forbidden(&error) => log_refusal(name, 1, &error, &mut self.refusal_logged),
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    /// Sends a marker and waits to see it.
    async fn prove(&mut self, connections: &mut Connections) -> Result<(), LinkError> {
        self.clock.restart();
        self.mark(connections).await?;
        while let Some(heard) = connections.ear.next().await {
            match heard {
                Heard::Message(message) if self.hand_on(&message).is_some() => return Ok(()),
                Heard::Message(_) => {}
                Heard::Confirmed(channel) => self.confirm(&channel),
                Heard::Gone(channel) => self.lose_channel(&channel, true)?,
            }
        }
        Err(LinkError::Ended)
    }

    /// A marker goes out behind each command, on the same connection: between the two there is hardly a message, and from the
    /// marker on all have numbers.
    async fn subscribe_wanted(&mut self, connections: &Connections) -> Result<(), LinkError> {
        self.take_wishes();
        self.orders = Orders::default();
        let mut wanted: Vec<_> = self.wanted.iter().map(|(channel, joined)| (*joined, Arc::clone(channel))).collect();
        wanted.sort_unstable();
        let carrying: Vec<_> = wanted
            .chunks(CHANNELS_PER_COMMAND)
            .map(|channels| {
                let order = Order::Subscribe(channels.iter().map(|(_, channel)| Arc::clone(channel)).collect());
                let head = self.clock.extra_marker();
                let marked = connections.sink.clone().run(self.marker(head));
                let carried = carry(connections.sink.clone(), order);
                // Whether it works is proven at the end.
                answer(future::join(carried, marked).map(|(carried, _)| carried))
            })
            .collect();
        let mut all = Carried::default();
        let mut carried = stream::iter(carrying).buffered(COMMANDS_IN_FLIGHT);
        while let Some(carried) = carried.next().await {
            all.extend(carried?);
        }
        drop(carried);
        self.report(all);
        Ok(())
    }

    #[expect(clippy::disallowed_methods, reason = "once per subscription, and it must not be lost")]
    fn report(&mut self, carried: Carried) {
        let Carried { refused, astray } = carried;
        if !astray.is_empty() {
            // Asked again by whoever has their slots when the cluster has settled; here, where it hasn't, with the next marker.
            self.way.look_again();
            self.astray.extend(astray);
        }
        if let Some((channel, error)) = refused.first() {
            log_refusal(channel, refused.len(), error, &mut self.refusal_logged);
            let error = error.to_string();
            self.bridge.do_send(Refused { channels: refused.into_iter().map(|(channel, _)| channel).collect(), error });
        }
    }

    /// To be told in front of the next message.
    fn confirm(&mut self, name: &str) {
        if let Some((channel, _)) = self.wanted.get_key_value(name) {
            self.confirmed.push(Arc::clone(channel));
        }
    }

    #[expect(clippy::disallowed_methods, reason = "once per subscription, and it must not be lost")]
    fn tell_confirmed(&mut self) {
        if !self.confirmed.is_empty() {
            self.bridge.do_send(Confirmed { channels: std::mem::take(&mut self.confirmed) });
        }
    }

    fn take_wishes(&mut self) {
        while let Ok(wish) = self.wished.try_recv() {
            self.note(wish);
        }
    }

    fn note(&mut self, wish: Wish) {
        match &wish {
            Wish::Mark(rooms) => {
                self.marks.rooms.extend(rooms);
                self.marks.due.get_or_insert_with(|| Instant::now() + clock::COALESCE);
                return;
            }
            Wish::Subscribe(channels) => {
                for channel in channels {
                    self.joined += 1;
                    self.wanted.insert(Arc::clone(channel), self.joined);
                }
            }
            Wish::Unsubscribe(channels) => channels.iter().for_each(|channel| _ = self.wanted.remove(channel)),
        }
        self.orders.note(wish);
    }

    #[expect(clippy::disallowed_methods, reason = "once per connection, and it must not be lost")]
    async fn serve(&mut self, mut connections: Connections) -> LinkError {
        self.commands.send_replace(Some(connections.commands.clone()));
        self.way.set_commands(Some(connections.commands.clone()));
        self.bridge.do_send(LinkUp);
        let error = self.carry_on(&mut connections).await;
        self.commands.send_replace(None);
        self.way.set_commands(None);
        self.bridge.do_send(LinkDown);
        error
    }

    /// Carries until something breaks; says what.
    async fn carry_on(&mut self, connections: &mut Connections) -> LinkError {
        let mut ticks = interval(clock::INTERVAL);
        // After a standstill of this thread, a marker must have its second to come back before the next is due.
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut replaced = self.way.replaced().boxed_local();
        let mut carrying = None;
        let mut marking = None;
        loop {
            if carrying.is_none() {
                carrying = self.next_order(connections);
            }
            tokio::select! {
                heard = connections.ear.next() => {
                    if let Err(error) = self.take_messages(connections, heard, carrying.is_some()) {
                        return error;
                    }
                }
                Some(wish) = self.wished.recv() => {
                    self.note(wish);
                    self.take_wishes();
                }
                Some(carried) = finished(&mut carrying) => match carried {
                    Ok(carried) => self.report(carried),
                    Err(error) => return error.into(),
                },
                Some(marked) = finished(&mut marking) => match marked {
                    Ok(()) => self.clock.note_taken(),
                    // If it stays so, the missing markers end the connection.
                    Err(error) if is_answer(&error) || error.is_timeout() => log::warn!("Redis took no clock marker: {error}"),
                    Err(error) => return error.into(),
                },
                () = due(self.marks.due) => {
                    let head = self.clock.extra_marker();
                    let marked = self.publish_marker(head, connections.commands.clone());
                    // If it fails, the next marker does as well.
                    actix::spawn(async move { _ = marked.await });
                }
                _ = ticks.tick() => {
                    if self.clock.is_dead() {
                        return LinkError::Dead;
                    }
                    self.tell_lost();
                    self.seek_astray();
                    self.offer_key(connections.commands.clone());
                    marking = Some(self.mark(connections).boxed_local());
                }
                () = &mut replaced => {
                    self.say_farewell(connections).await;
                    return LinkError::Replaced;
                }
            }
        }
    }

    fn next_order(&mut self, connections: &Connections) -> Option<LocalBoxFuture<'static, Result<Carried, RedisError>>> {
        let order = self.orders.next()?;
        self.leaving.clear();
        if let Order::Unsubscribe(channels) = &order {
            self.leaving.extend(channels.iter().cloned());
        }
        Some(carry(connections.sink.clone(), order).boxed_local())
    }

    fn seek_astray(&mut self) {
        let wanted = &self.wanted;
        let astray: Vec<_> = self.astray.drain(..).filter(|channel| wanted.contains_key(channel)).collect();
        if !astray.is_empty() {
            self.orders.note(Wish::Subscribe(astray));
        }
    }

    /// Others listen here too, and may be slower to notice. All are to stop at the same place, or the same event would get two
    /// positions: one by this clock, and one by its successor's. Waited for, because what we then publish at the successor comes to
    /// those who still listen here too, and has to come behind this.
    async fn say_farewell(&self, connections: &Connections) {
        // What were published behind it would be heard by nobody.
        self.commands.send_replace(None);
        let (mut commands, mut command) = (connections.commands.clone(), redis::cmd("PUBLISH"));
        command.arg(&*self.clock_channel).arg(FAREWELL);
        // Where it is gone, or hangs, nobody counts by it.
        _ = timeout(Duration::from_millis(250), command.query_async::<()>(&mut commands)).await;
    }

    /// Hands on all that has come, up to a turn's worth.
    ///
    /// The crate's reader puts no bound to what waits here, so this must not be the slower of the two: it is exempt from the
    /// runtime's own turns, which end after 128 messages where the reader's end after as many reads of the socket.
    fn take_messages(&mut self, connections: &mut Connections, first: Option<Heard>, is_carrying: bool) -> Result<(), LinkError> {
        let mut heard = first;
        let mut left = MESSAGES_PER_TURN;
        loop {
            match heard.ok_or(LinkError::Ended)? {
                Heard::Message(message) => _ = self.hand_on(&message),
                Heard::Confirmed(channel) => self.confirm(&channel),
                Heard::Gone(channel) => self.lose_channel(&channel, is_carrying)?,
            }
            if self.farewell.is_some() {
                return Err(LinkError::Replaced);
            }
            left -= 1;
            match if left == 0 { None } else { unconstrained(connections.ear.next()).now_or_never() } {
                Some(next) => heard = next,
                None => {
                    self.tell_confirmed();
                    return Ok(());
                }
            }
        }
    }

    /// The primary ended the subscription to a channel whose slot it no longer has.
    #[expect(clippy::disallowed_methods, reason = "once per channel and migration, and it must not be lost")]
    fn lose_channel(&mut self, name: &str, is_carrying: bool) -> Result<(), LinkError> {
        if self.leaving.contains(name) {
            return Ok(());
        }
        self.way.look_again();
        self.tell_confirmed();
        if let Some((channel, _)) = self.wanted.get_key_value(name) {
            self.astray.push(Arc::clone(channel));
            self.bridge.do_send(Moved { channels: vec![Arc::clone(channel)] });
        }
        // The crate takes it for the answer to what was asked last.
        if is_carrying { Err(LinkError::Confused) } else { Ok(()) }
    }

    /// To the bridge, or to the clock: then the answer is some round trip if the marker is ours.
    fn hand_on(&mut self, message: &Msg) -> Option<Duration> {
        self.tell_confirmed();
        let name = message.get_channel_name();
        if name == &*self.clock_channel {
            let text = std::str::from_utf8(message.get_payload_bytes()).ok()?;
            if text == FAREWELL {
                self.farewell = self.way.primary().map(|id| (id, Instant::now()));
                return None;
            }
            if let Some(marker) = self.clock.read(text) {
                self.way.see(marker.ms);
                // A marker that is missed is a loss like any other: the bridge would count on where others begin anew.
                self.is_whole = self.tell_torn() && self.bridge.try_send(marker).is_ok();
            }
            let round_trip = self.clock.see(text, Instant::now())?;
            self.metrics.clock_round_trip().set(round_trip.as_secs_f64());
            return Some(round_trip);
        }
        self.clock.note_heard();
        if !self.way.is_lead() && self.gossip.iter().any(|known| known == name) {
            return None;
        }
        let channel = self.wanted.get_key_value(name).map_or_else(|| Arc::from(name), |(channel, _)| Arc::clone(channel));
        let payload = Bytes::copy_from_slice(message.get_payload_bytes());
        if !self.tell_torn() {
            self.metrics.mailbox_full("bridge");
            *self.lost.entry(channel).or_default() += 1;
        } else if let Err(SendError::Full(refused)) = self.bridge.try_send(Inbound { channel, payload }) {
            self.metrics.mailbox_full("bridge");
            self.is_whole = false;
            *self.lost.entry(refused.channel).or_default() += 1;
        }
        None
    }

    /// Where something was lost, the bridge is told in front of the next message. False if there is no place for it.
    fn tell_torn(&mut self) -> bool {
        if !self.is_whole {
            self.is_whole = self.bridge.try_send(Torn).is_ok();
        }
        self.is_whole
    }

    #[expect(clippy::disallowed_methods, reason = "once per second at most, and it must not be lost")]
    fn tell_lost(&mut self) {
        if !self.lost.is_empty() {
            let channels = std::mem::take(&mut self.lost).into_iter().collect();
            self.bridge.do_send(InboundLost { channels });
        }
    }

    fn mark(&mut self, connections: &Connections) -> impl Future<Output = Result<(), RedisError>> + use<> {
        let head = self.clock.next_marker(Instant::now());
        self.publish_marker(head, connections.commands.clone())
    }

    /// Every marker answers all that was asked for before it.
    fn publish_marker(
        &mut self,
        head: String,
        mut connection: MultiplexedConnection,
    ) -> impl Future<Output = Result<(), RedisError>> + use<> {
        let command = self.marker(head);
        async move { command.query_async(&mut connection).await }
    }

    fn marker(&mut self, head: String) -> Cmd {
        let tail = clock::tail(&std::mem::take(&mut self.marks.rooms));
        self.marks.due = None;
        let (key, past) = self.way.clock_limits(&self.prefix);
        let mut command = redis::cmd("EVAL");
        command.arg(clock::MARKER_SCRIPT).arg(0).arg(&*self.clock_channel).arg(head).arg(tail).arg(key).arg(past);
        command
    }
}

/// Waits until then; forever without a time.
async fn due(at: Option<Instant>) {
    match at {
        Some(at) => sleep_until(at).await,
        None => future::pending().await,
    }
}

/// What a future came to that may not be there; it is gone then.
async fn finished<T>(slot: &mut Option<LocalBoxFuture<'static, T>>) -> Option<T> {
    let output = slot.as_mut()?.await;
    *slot = None;
    Some(output)
}
