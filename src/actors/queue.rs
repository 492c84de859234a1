//! What waits in an outbox: a plain queue that knows its events and bytes, writes itself to a socket and forgets by policy.

use std::{
    collections::VecDeque,
    io::{self, IoSlice},
};

use bytes::{Buf, Bytes, BytesMut};

use super::socket::Socket;
use crate::protocol::{Target, engineio::polling};

/// Buffers handed to the kernel in one vectored write.
const BUFFERS_PER_WRITE: usize = 32;
/// A response body takes about this much at a time, so that a burst leaves in few chunks.
const CHUNK_BYTES: usize = 32 * 1024;
/// A queue that grew beyond this many entries gives its memory back when it is empty.
const KEPT_ENTRIES: usize = 16;

pub struct Entry {
    pub bytes: Bytes,
    /// How many events the bytes hold; 0 for a reply or ping.
    pub events: u32,
    /// Whose events they are.
    pub target: Option<Target>,
    /// Under keep-latest, what makes two events replace each other; 0 otherwise.
    pub key: u64,
}

impl Entry {
    pub fn control(bytes: Bytes) -> Self {
        Self { bytes, events: 0, target: None, key: 0 }
    }
}

#[derive(Default)]
pub struct Queue {
    entries: VecDeque<Entry>,
    /// The kernel has a part of the first entry, which is therefore past changing.
    is_first_started: bool,
    events: usize,
    bytes: usize,
}

impl Queue {
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    #[cfg(test)]
    pub fn has_memory(&self) -> bool {
        self.entries.capacity() > 0
    }

    pub fn len(&self) -> usize {
        self.entries.len()
    }

    pub fn events(&self) -> usize {
        self.events
    }

    pub fn bytes(&self) -> usize {
        self.bytes
    }

    pub fn push(&mut self, entry: Entry) {
        self.events += entry.events as usize;
        self.bytes += entry.bytes.len();
        self.entries.push_back(entry);
    }

    pub fn push_front(&mut self, entry: Entry) {
        debug_assert!(!self.is_first_started, "nothing can overtake what is on its way");
        self.push_next(entry);
    }

    /// In front of all that is not on its way yet.
    pub fn push_next(&mut self, entry: Entry) {
        self.events += entry.events as usize;
        self.bytes += entry.bytes.len();
        self.entries.insert(self.changeable_from(), entry);
    }

    /// For an entry of which the kernel has the first `written` bytes.
    pub fn push_partial(&mut self, mut entry: Entry, written: usize) {
        debug_assert!(self.is_empty(), "only the first entry can have been started");
        entry.bytes.advance(written);
        self.is_first_started = true;
        self.push(entry);
    }

    fn forget(&mut self, entry: &Entry) {
        self.events -= entry.events as usize;
        self.bytes -= entry.bytes.len();
        if self.entries.is_empty() && self.entries.capacity() > KEPT_ENTRIES {
            self.entries = VecDeque::new();
        }
    }

    fn remove(&mut self, index: usize) -> Option<Entry> {
        let entry = self.entries.remove(index)?;
        self.forget(&entry);
        Some(entry)
    }

    fn changeable_from(&self) -> usize {
        usize::from(self.is_first_started)
    }

    fn position(&self, wanted: impl Fn(&Entry) -> bool) -> Option<usize> {
        (self.changeable_from()..self.entries.len()).find(|&index| wanted(&self.entries[index]))
    }

    /// Takes out the waiting event of this key.
    pub fn supersede(&mut self, key: u64) -> Option<Entry> {
        self.position(|entry| entry.key == key).and_then(|index| self.remove(index))
    }

    /// Takes out the event that has waited longest and is not on its way yet.
    pub fn pop_oldest_event(&mut self) -> Option<Entry> {
        self.position(|entry| entry.events > 0).and_then(|index| self.remove(index))
    }

    /// Forgets all that is not on its way yet; says how many events that were.
    pub fn clear_unstarted(&mut self) -> u64 {
        let mut events = 0;
        while self.entries.len() > self.changeable_from() {
            if let Some(entry) = self.remove(self.entries.len() - 1) {
                events += u64::from(entry.events);
            }
        }
        events
    }

    /// Forgets all; says how many events that were.
    pub fn clear(&mut self) -> u64 {
        let events = self.events as u64;
        *self = Self::default();
        events
    }

    /// Writes what the socket takes at once; says how many events are complete by it.
    pub fn write_to(&mut self, socket: &Socket) -> io::Result<u64> {
        let written = if self.entries.len() == 1 {
            socket.try_write(&self.entries[0].bytes)?
        } else {
            let mut buffers = [IoSlice::new(&[]); BUFFERS_PER_WRITE];
            let mut count = 0;
            for (slot, entry) in buffers.iter_mut().zip(&self.entries) {
                *slot = IoSlice::new(&entry.bytes);
                count += 1;
            }
            socket.try_write_vectored(&buffers[..count])?
        };
        Ok(self.advance(written))
    }

    /// Spells anew all that waits. Nothing of it may be on its way.
    pub fn respell(&mut self, respell: fn(&Bytes) -> Bytes) {
        debug_assert!(!self.is_first_started, "what is on its way can't be spelled anew");
        self.entries.iter_mut().for_each(|entry| entry.bytes = respell(&entry.bytes));
        self.bytes = self.entries.iter().map(|entry| entry.bytes.len()).sum();
    }

    /// Takes out entries of about so many bytes and packets together, at least one; says how many events they are.
    pub fn take_units(&mut self, max_bytes: usize, max_packets: usize) -> (Vec<Bytes>, u64) {
        let (mut units, mut bytes, mut packets, mut events) = (Vec::new(), 0, 0, 0);
        while let Some(first) = self.entries.front() {
            bytes += first.bytes.len();
            packets += polling::packets_in(&first.bytes);
            if (bytes > max_bytes || packets > max_packets) && !units.is_empty() {
                break;
            }
            if let Some(entry) = self.remove(0) {
                events += u64::from(entry.events);
                units.push(entry.bytes);
            }
        }
        (units, events)
    }

    fn advance(&mut self, mut written: usize) -> u64 {
        let mut events = 0;
        while let Some(first) = self.entries.front_mut() {
            if written < first.bytes.len() {
                first.bytes.advance(written);
                self.bytes -= written;
                self.is_first_started |= written > 0;
                break;
            }
            written -= first.bytes.len();
            self.is_first_started = false;
            if let Some(entry) = self.remove(0) {
                events += u64::from(entry.events);
            }
        }
        events
    }

    /// Takes out what waits, joined up to about [`CHUNK_BYTES`]; says how many events that are.
    pub fn take_chunk(&mut self) -> Option<(Bytes, u64)> {
        let first = self.remove(0)?;
        let mut events = u64::from(first.events);
        if self.entries.is_empty() || first.bytes.len() >= CHUNK_BYTES {
            return Some((first.bytes, events));
        }
        let mut chunk = BytesMut::with_capacity(CHUNK_BYTES.min(first.bytes.len() + self.bytes));
        chunk.extend_from_slice(&first.bytes);
        while self.entries.front().is_some_and(|next| chunk.len() + next.bytes.len() <= CHUNK_BYTES) {
            if let Some(entry) = self.remove(0) {
                chunk.extend_from_slice(&entry.bytes);
                events += u64::from(entry.events);
            }
        }
        Some((chunk.freeze(), events))
    }
}
