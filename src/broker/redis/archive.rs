//! The archive in Redis: a stream for each room, a record beside it of what is whole, and the keys of publishers.
//!
//! `prefix:history:{room}` is the stream, its entries under the very positions that every node computes, so that the same
//! publication written by five nodes is kept once. `prefix:recording:{room}` says what is whole. On a Redis Cluster both lie in
//! the slot of the room's native channel, where the room is listened to: `prefix:history:{tag}:room`, with a number in the
//! braces that falls into that slot. What a slot's migration or failover does to the room, it does to its history.

use std::{collections::HashMap, rc::Rc};

use bytes::Bytes;
use futures_util::future::{self, LocalBoxFuture};
use redis::{Cmd, FromRedisValue, aio::MultiplexedConnection};
use tokio::sync::watch;

use super::{
    cluster::{Cluster, is_passing},
    refusal,
    slots::{slot_of, tag_of},
};
use crate::{
    actors::messages::BrokerError,
    broker::{
        archive::{Archive, Batch, Coverage, Entry, Extent, Stored, Written},
        claims::{Claim, HONOURED},
    },
    protocol::{Position, RoomName},
};

const RECORD: &str = include_str!("record.lua");
const READ: &str = include_str!("read.lua");
/// Claims a key, and publishes to the channels behind its arguments where it was not claimed before. Answers the id under which it
/// was, and the listeners on each channel. Redis 6.2 takes no `SET … NX GET`.
const CLAIM: &str = include_str!("claim.lua");
const RELEASE: &str = "if redis.call('GET', KEYS[1]) == ARGV[1] then redis.call('DEL', KEYS[1]) end";

pub struct RedisArchive {
    prefix: String,
    place: Place,
}

enum Place {
    /// The command connection, while the link is up.
    One(watch::Receiver<Option<MultiplexedConnection>>),
    Cluster(Rc<Cluster>),
}

impl RedisArchive {
    pub fn new(prefix: String, commands: watch::Receiver<Option<MultiplexedConnection>>) -> Self {
        Self { prefix, place: Place::One(commands) }
    }

    pub fn on_cluster(prefix: String, cluster: Rc<Cluster>) -> Self {
        Self { prefix, place: Place::Cluster(cluster) }
    }

    fn keys(&self, room: &RoomName) -> [String; 2] {
        let (prefix, name) = (&self.prefix, room.as_str());
        let place = match &self.place {
            Place::One(_) => format!("{{{name}}}"),
            Place::Cluster(_) => format!("{{{}}}:{name}", tag_of(slot_of(&format!("{prefix}:room:{name}")))),
        };
        ["history", "recording"].map(|kind| format!("{prefix}:{kind}:{place}"))
    }

    /// For `ask`: the command and a key that it is about.
    fn script(&self, text: &str, room: &RoomName) -> (String, Cmd) {
        let mut command = redis::cmd("EVAL");
        let [stream, record] = self.keys(room);
        command.arg(text).arg(2).arg(&stream).arg(record);
        (stream, command)
    }

    fn ask<T: FromRedisValue + 'static>(&self, key: String, command: Cmd) -> LocalBoxFuture<'static, Result<T, BrokerError>> {
        let commands = match &self.place {
            Place::One(commands) => commands,
            Place::Cluster(cluster) => {
                let cluster = Rc::clone(cluster);
                return Box::pin(async move {
                    let answer = cluster.run(&key, &command).await.ok_or(BrokerError::Unavailable)?;
                    answer.map_err(|error| if is_passing(&error) { BrokerError::Unavailable } else { refusal(&error) })
                });
            }
        };
        let Some(mut connection) = commands.borrow().clone() else {
            return Box::pin(future::ready(Err(BrokerError::Unavailable)));
        };
        Box::pin(async move { command.query_async(&mut connection).await.map_err(|error| refusal(&error)) })
    }
}

fn claim_key(prefix: &str, claim: &Claim) -> String {
    format!("{prefix}:idempotency:{}", claim.key)
}

/// The command that claims a key, and the key that it is about. What is added is published with the claim: a payload, and channels.
pub(super) fn claiming(prefix: &str, claim: &Claim) -> (String, Cmd) {
    let (key, mut command) = (claim_key(prefix, claim), redis::cmd("EVAL"));
    command.arg(CLAIM).arg(1).arg(&key).arg(&*claim.id).arg(HONOURED.as_millis() as u64);
    (key, command)
}

/// What [`claiming`] answers: whether it was claimed before, under which id, and the listeners on each channel.
pub(super) type Claimed = (bool, String, Vec<u64>);

impl Archive for RedisArchive {
    fn record(&self, batch: Batch) -> LocalBoxFuture<'static, Result<Written, BrokerError>> {
        let (key, mut command) = self.script(RECORD, &batch.room);
        let ttl = u64::try_from(batch.ttl.as_millis()).unwrap_or(u64::MAX / 2);
        command.arg(batch.size).arg(ttl).arg(batch.since.to_string()).arg(batch.until.to_string());
        command.arg(batch.written.to_string()).arg(&*batch.birth);
        for entry in &batch.entries {
            command.arg(entry.position.to_string()).arg(&*entry.channel).arg(entry.index).arg(&entry.payload[..]);
        }
        let answer = self.ask::<(u64, u64, u64, String, String)>(key, command);
        Box::pin(async move {
            let (added, duplicates, lost, birth, since) = answer.await?;
            Ok(Written { added, duplicates, lost, birth: birth.into(), since: since.parse().unwrap_or_default() })
        })
    }

    fn read(&self, room: &RoomName, after: Position, size: usize) -> LocalBoxFuture<'static, Result<Stored, BrokerError>> {
        let (key, mut command) = self.script(READ, room);
        command.arg(after.to_string()).arg(size);
        let answer = self.ask::<Answer>(key, command);
        Box::pin(async move { Ok(stored(answer.await?)) })
    }

    fn extent(&self, room: &RoomName) -> LocalBoxFuture<'static, Result<Extent, BrokerError>> {
        let [stream, _] = self.keys(room);
        let mut length = redis::cmd("XLEN");
        length.arg(&stream);
        let mut first = redis::cmd("XRANGE");
        first.arg(&stream).arg("-").arg("+").arg("COUNT").arg(1);
        let mut last = redis::cmd("XREVRANGE");
        last.arg(&stream).arg("+").arg("-").arg("COUNT").arg(1);
        let length = self.ask(stream.clone(), length);
        let (first, last) = (self.ask::<Vec<StreamEntry>>(stream.clone(), first), self.ask::<Vec<StreamEntry>>(stream, last));
        Box::pin(async move {
            let (length, first, last) = future::try_join3(length, first, last).await?;
            let id = |entries: Vec<StreamEntry>| entries.first().and_then(|(id, _)| id.parse().ok());
            Ok(Extent { length, first: id(first), last: id(last) })
        })
    }

    fn claim(&self, claim: &Claim) -> LocalBoxFuture<'static, Result<Option<Box<str>>, BrokerError>> {
        let (key, command) = claiming(&self.prefix, claim);
        let answer = self.ask::<Claimed>(key, command);
        Box::pin(async move {
            let (is_known, id, _) = answer.await?;
            Ok(is_known.then(|| id.into()))
        })
    }

    fn release(&self, claim: &Claim) -> LocalBoxFuture<'static, ()> {
        let (key, mut command) = (claim_key(&self.prefix, claim), redis::cmd("EVAL"));
        command.arg(RELEASE).arg(1).arg(&key).arg(&*claim.id);
        let answer = self.ask::<()>(key, command);
        // If it fails, the key runs out by itself.
        Box::pin(async move { _ = answer.await })
    }
}

type StreamEntry = (String, HashMap<String, Vec<u8>>);
/// `start`, `until`, `trimmed`, `top`, `birth`, the stream's last id, and the entries, newest first.
type Answer = (String, String, String, String, String, String, Vec<StreamEntry>);

fn stored((start, until, trimmed, top, birth, last, entries): Answer) -> Stored {
    let recorded = start.parse().ok().zip(until.parse().ok());
    let (top, last) = (top.parse().unwrap_or_default(), last.parse::<Position>().unwrap_or_default());
    let trimmed: Position = trimmed.parse().unwrap_or_default();
    // What the record knows of is not there: evicted, or lost in a failover.
    let trimmed = if last < top { trimmed.max(top) } else { trimmed };
    // An entry that is none of ours leaves a hole where it stands.
    let mut coverage = Coverage { recorded, trimmed, birth: birth.into() };
    let mut read = Vec::with_capacity(entries.len());
    for (id, fields) in entries.into_iter().rev() {
        let position = id.parse().unwrap_or_default();
        match entry(position, fields) {
            Some(entry) => read.push(entry),
            None => coverage.trimmed = coverage.trimmed.max(position),
        }
    }
    Stored { entries: read, coverage }
}

fn entry(position: Position, mut fields: HashMap<String, Vec<u8>>) -> Option<Entry> {
    let mut text = |name| String::from_utf8(fields.remove(name)?).ok();
    let (channel, index) = (text("c")?.into_boxed_str(), text("i")?.parse().ok()?);
    Some(Entry { position, channel, index, payload: Bytes::from(fields.remove("p")?) })
}
