//! The archive of one room: a model of what record.lua and read.lua do, and the scripts themselves on a real Redis beside it.

use std::collections::BTreeMap;

use callboard::{
    broker::{
        archive::{Archive, Batch, Coverage, Entry, Stored, Written},
        redis::RedisArchive,
    },
    protocol::{Position, RoomName},
};
use redis::aio::MultiplexedConnection;
use tokio::sync::watch;

use super::Twin;
use crate::support::Redis;

const RECORD: &str = include_str!("../../../src/broker/redis/record.lua");

/// As Redis keeps it, or would.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Shelf {
    pub entries: BTreeMap<Position, Entry>,
    /// A stream takes nothing at or before it.
    last: Position,
    record: Option<Record>,
}

#[derive(Debug, Clone, PartialEq)]
struct Record {
    start: Position,
    until: Position,
    newest: Position,
    trimmed: Position,
    top: Position,
    birth: Box<str>,
}

impl Shelf {
    fn top(&self) -> Position {
        self.entries.last_key_value().map_or(Position::default(), |(id, _)| *id)
    }

    /// `birth`: of a record that begins with this batch.
    fn record(&mut self, batch: &Batch, birth: &str, twin: Option<Twin>) -> Written {
        let known = self.record.clone();
        let before = self.top();
        let mut trimmed = known.as_ref().map_or(Position::default(), |known| known.trimmed);
        if let Some(known) = known.as_ref().filter(|known| before < known.top) {
            trimmed = trimmed.max(known.top);
        }
        let is_known = known.as_ref().is_some_and(|known| known.birth == batch.birth && known.until >= batch.written);
        let claimed = if is_known || twin == Some(Twin::AllClaims) { batch.since } else { batch.written };
        let newest = known.as_ref().map_or(before, |known| known.newest).max(claimed);
        let (mut written, late) = self.add(&batch.entries, trimmed, newest);
        if twin == Some(Twin::NothingLate) {
            written.lost = late.len() as u64;
            trimmed = late.last().map_or(trimmed, |entry| trimmed.max(entry.position));
        } else {
            written.added += late.len() as u64;
            for entry in late {
                self.last = self.last.max(entry.position);
                self.entries.insert(entry.position, entry);
            }
        }
        let top = self.top();
        let (mut start, mut until) = known.as_ref().map_or((claimed, claimed), |known| (known.start, known.until));
        if until < claimed {
            (start, until) = (claimed, batch.until);
        } else if batch.until >= start {
            (start, until) = (start.min(claimed), until.max(batch.until));
        }
        while self.entries.len() > batch.size {
            trimmed = trimmed.max(self.entries.pop_first().unwrap().0);
        }
        let kept = batch.ttl + callboard::broker::clock::INTERVAL;
        let oldest = Position { marker_ms: until.marker_ms.saturating_sub(kept.as_millis() as u64), count: 0 };
        while self.entries.first_key_value().is_some_and(|(id, _)| *id < oldest) {
            trimmed = trimmed.max(self.entries.pop_first().unwrap().0);
        }
        let birth = known.map_or_else(|| birth.into(), |known| known.birth);
        self.record = Some(Record { start, until, newest, trimmed, top, birth: birth.clone() });
        Written { birth, since: claimed, ..written }
    }

    /// Adds what goes behind; returns what comes late.
    fn add(&mut self, entries: &[Entry], trimmed: Position, newest: Position) -> (Written, Vec<Entry>) {
        let (mut written, mut late) = (Written::default(), Vec::new());
        for entry in entries {
            if entry.position > self.last {
                self.last = entry.position;
                self.entries.insert(entry.position, entry.clone());
                written.added += 1;
            } else if entry.position <= trimmed || entry.position > newest || self.entries.contains_key(&entry.position) {
                written.duplicates += 1;
            } else {
                late.push(entry.clone());
            }
        }
        (written, late)
    }

    fn read(&self, after: Position, size: usize) -> Stored {
        let mut entries: Vec<_> =
            self.entries.range(after..).map(|(_, entry)| entry.clone()).filter(|entry| entry.position > after).collect();
        entries.drain(..entries.len().saturating_sub(size));
        let coverage = self.record.as_ref().map_or_else(Coverage::default, |record| Coverage {
            recorded: Some((record.start, record.until)),
            trimmed: if self.top() < record.top { record.trimmed.max(record.top) } else { record.trimmed },
            birth: record.birth.clone(),
        });
        Stored { entries, coverage }
    }

    fn evict_stream(&mut self) {
        self.entries.clear();
        self.last = Position::default();
    }
}

/// What may happen to keys.
#[derive(Debug, Clone, Copy)]
pub enum Harm {
    StreamEvicted,
    RecordEvicted,
    Flushed,
    /// Back to what was [`Archives::copy`]'d: a failover that lost writes, or a Redis that was restarted.
    Restored,
}

/// The model, and where there is a real Redis, what must be the same.
pub struct Archives {
    pub model: Shelf,
    copy: Shelf,
    real: Option<Real>,
    pub twin: Option<Twin>,
    births: u32,
}

struct Real {
    connection: MultiplexedConnection,
    archive: RedisArchive,
    /// `DUMP` of the stream and of the record.
    copy: [Option<Vec<u8>>; 2],
    _commands: watch::Sender<Option<MultiplexedConnection>>,
}

const KEYS: [&str; 2] = ["callboard:history:{r}", "callboard:recording:{r}"];

impl Archives {
    pub fn new(twin: Option<Twin>) -> Self {
        Self { model: Shelf::default(), copy: Shelf::default(), real: None, twin, births: 0 }
    }

    /// With the scripts on this Redis, whose keys are dropped.
    pub async fn beside(redis: &Redis, twin: Option<Twin>) -> Self {
        let mut connection = redis.connect().await;
        redis::cmd("DEL").arg(&KEYS).query_async::<()>(&mut connection).await.unwrap();
        let (keep, commands) = watch::channel(Some(connection.clone()));
        let archive = RedisArchive::new("callboard".to_owned(), commands);
        Self { real: Some(Real { connection, archive, copy: [None, None], _commands: keep }), ..Self::new(twin) }
    }

    pub async fn record(&mut self, batch: &Batch) -> Written {
        self.births += 1;
        let Some(real) = &mut self.real else { return self.model.record(batch, &self.births.to_string(), self.twin) };
        let written = real.record(batch, self.twin).await;
        assert_eq!(self.model.record(batch, &written.birth, self.twin), written, "{batch:?}");
        written
    }

    pub async fn read(&self, after: Position, size: usize) -> Stored {
        let stored = self.model.read(after, size);
        if let Some(real) = &self.real {
            let room = RoomName::parse("r").unwrap();
            assert_eq!(stored, real.archive.read(&room, after, size).await.unwrap());
        }
        stored
    }

    pub async fn copy(&mut self) {
        self.copy = self.model.clone();
        if let Some(Real { connection, copy, .. }) = &mut self.real {
            for (key, copy) in KEYS.iter().zip(copy) {
                *copy = redis::cmd("DUMP").arg(key).query_async(connection).await.unwrap();
            }
        }
    }

    pub async fn suffer(&mut self, harm: Harm) {
        let gone = match harm {
            Harm::StreamEvicted => &KEYS[..1],
            Harm::RecordEvicted => &KEYS[1..],
            Harm::Flushed | Harm::Restored => &KEYS,
        };
        if !matches!(harm, Harm::RecordEvicted) {
            self.model.evict_stream();
        }
        if !matches!(harm, Harm::StreamEvicted) {
            self.model.record = None;
        }
        if matches!(harm, Harm::Restored) {
            self.model = self.copy.clone();
        }
        let Some(Real { connection, copy, .. }) = &mut self.real else { return };
        redis::cmd("DEL").arg(gone).query_async::<()>(connection).await.unwrap();
        if matches!(harm, Harm::Restored) {
            for (key, copy) in KEYS.iter().zip(copy) {
                if let Some(copy) = copy {
                    redis::cmd("RESTORE").arg(key).arg(0).arg(&copy[..]).query_async::<()>(connection).await.unwrap();
                }
            }
        }
    }
}

impl Real {
    async fn record(&mut self, batch: &Batch, twin: Option<Twin>) -> Written {
        let script = match twin {
            Some(Twin::NothingLate) => RECORD.replace("LONGEST = 10000", "LONGEST = -1"),
            Some(Twin::AllClaims) => RECORD.replace("claimed = written end", "claimed = since end"),
            _ => RECORD.to_owned(),
        };
        assert_eq!(script != RECORD, twin.is_some_and(|twin| Twin::OF_THE_SCRIPTS.contains(&twin)), "the script has other words");
        let mut command = redis::cmd("EVAL");
        command.arg(script).arg(2).arg(&KEYS).arg(batch.size).arg(batch.ttl.as_millis() as u64);
        command.arg([batch.since, batch.until, batch.written].map(|position| position.to_string()).as_slice()).arg(&*batch.birth);
        for Entry { position, channel, payload, index } in &batch.entries {
            command.arg(position.to_string()).arg(&**channel).arg(*index).arg(&payload[..]);
        }
        let answer: (u64, u64, u64, String, String) = command.query_async(&mut self.connection).await.unwrap();
        let (added, duplicates, lost, birth, since) = answer;
        Written { added, duplicates, lost, birth: birth.into(), since: since.parse().unwrap() }
    }
}
