//! One client: connects, joins, writes down what comes, and comes back elsewhere when the conversation ends, as a careful
//! page does.

use std::{
    collections::{HashMap, HashSet},
    io,
    net::SocketAddr,
    ops::Range,
    sync::{
        Arc, Mutex, RwLock,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpSocket, TcpStream},
    sync::Semaphore,
    time,
};

use crate::{
    ledger::{Entry, Record, Room},
    polling,
    wire::{Decoder, Item, Wire},
};

/// Where the nodes are at the moment. A node that was started again has another address.
pub type Board = RwLock<Vec<SocketAddr>>;

/// How a client behaves.
#[derive(Debug, Clone)]
pub struct Plan {
    pub wire: Wire,
    pub rooms: Vec<Room>,
    /// The place on the board of the node that it tries first.
    pub home: usize,
    /// Each further attempt goes to the next node.
    pub roams: bool,
    /// Comes back with the ids that it saw. A twin forgets them.
    pub remembers: bool,
    /// Between the end of a conversation and the next attempt, in milliseconds.
    pub pause: Range<u64>,
    /// Whether it reads what comes after its rooms are joined.
    pub reads: bool,
}

impl Plan {
    pub fn new(client: usize, rooms: Vec<Room>) -> Self {
        Self { wire: Wire::of(client), rooms, home: client, roams: true, remembers: true, pause: 20..200, reads: true }
    }
}

pub struct Client {
    pub plan: Plan,
    pub record: Mutex<Record>,
    ids: Mutex<Ids>,
    pub is_listening: AtomicBool,
}

#[derive(Default)]
struct Ids {
    of_rooms: HashMap<Room, String>,
    /// Of the other wires: one covers all rooms.
    last: Option<String>,
    /// Rooms to which it could come back, if it remembered.
    shown: HashSet<Room>,
}

/// What all clients of a crowd share.
pub struct Shared {
    pub board: Arc<Board>,
    /// Entries in all records: what stands still is settled.
    pub entries: AtomicU64,
    /// Of the crowd's thread: without one, nothing that has come is read.
    pub turns: AtomicU64,
    /// How many may shake hands at once.
    pub openings: Semaphore,
}

const HANDSHAKE_PATIENCE: Duration = Duration::from_secs(30);
/// Of a client that does not read: small, so that the hub notices soon.
const SMALL_BUFFER: u32 = 4096;

impl Client {
    pub fn new(plan: Plan) -> Self {
        Self { plan, record: Mutex::default(), ids: Mutex::default(), is_listening: AtomicBool::new(false) }
    }

    /// Runs until the crowd is dropped.
    pub async fn live(self: Arc<Self>, shared: Arc<Shared>, seed: u64) {
        let mut attempt = 0;
        let mut dice = seed;
        loop {
            let node = {
                let board = shared.board.read().expect("the board");
                let place = (self.plan.home + if self.plan.roams { attempt } else { 0 }) % board.len();
                (place, board[place])
            };
            if let Err(error) = self.visit(node, &shared).await {
                self.is_listening.store(false, Ordering::Relaxed);
                let was_open =
                    matches!(self.record.lock().expect("the record").0.last(), Some((_, entry)) if !matches!(entry, Entry::Ended(_)));
                if was_open {
                    self.note(&shared, Entry::Ended(error.to_string()));
                }
            }
            attempt += 1;
            dice = dice.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            let Range { start, end } = self.plan.pause;
            time::sleep(Duration::from_millis(start + (dice >> 33) % (end - start).max(1))).await;
        }
    }

    pub fn note(&self, shared: &Shared, entry: Entry) {
        self.record.lock().expect("the record").0.push((Instant::now(), entry));
        shared.entries.fetch_add(1, Ordering::Relaxed);
    }

    async fn visit(&self, (place, address): (usize, SocketAddr), shared: &Shared) -> io::Result<()> {
        if self.plan.wire == Wire::Polling {
            return polling::visit(self, (place, address), shared).await;
        }
        let mut decoder = Decoder::new(self.plan.wire);
        let mut items = Vec::new();
        let turn = shared.openings.acquire().await.expect("never closed");
        let opening = time::timeout(HANDSHAKE_PATIENCE, self.open(address, &mut decoder, &mut items));
        let mut stream = opening.await.map_err(|_| io::Error::other("no handshake in time"))??;
        drop(turn);
        self.note(shared, Entry::Opened(place));
        match self.plan.wire {
            Wire::Sse => self.is_listening.store(true, Ordering::Relaxed),
            Wire::WebSocket => stream.write_all(&Wire::WebSocket.joins(&self.plan.rooms, |room| self.since(room))).await?,
            // Its rooms can be joined when its namespace is connected.
            Wire::SocketIo | Wire::Polling => {}
        }
        self.listen(stream, decoder, items, shared).await
    }

    fn since(&self, room: Room) -> Option<String> {
        self.ids.lock().expect("the ids").of_rooms.get(&room).cloned()
    }

    pub fn last_id(&self) -> Option<String> {
        self.ids.lock().expect("the ids").last.clone()
    }

    async fn open(&self, address: SocketAddr, decoder: &mut Decoder, items: &mut Vec<Item>) -> io::Result<TcpStream> {
        let socket = TcpSocket::new_v4()?;
        if !self.plan.reads {
            socket.set_recv_buffer_size(SMALL_BUFFER)?;
        }
        let mut stream = socket.connect(address).await?;
        let last_id = self.last_id();
        stream.write_all(self.plan.wire.handshake(&self.plan.rooms, last_id.as_deref()).as_bytes()).await?;
        let mut head = Vec::new();
        loop {
            let mut chunk = [0; 4096];
            match stream.read(&mut chunk).await? {
                0 => return Err(io::Error::other("cut in the head")),
                count => head.extend_from_slice(&chunk[..count]),
            }
            if let Some(end) = head.windows(4).position(|window| window == b"\r\n\r\n") {
                let status = head.get(9..12).unwrap_or_default();
                if status != b"200" && status != b"101" {
                    return Err(io::Error::other(format!("status {}", String::from_utf8_lossy(status))));
                }
                decoder.feed(&head[end + 4..], items);
                return Ok(stream);
            }
        }
    }

    async fn listen(&self, mut stream: TcpStream, mut decoder: Decoder, mut items: Vec<Item>, shared: &Shared) -> io::Result<()> {
        let mut joined = 0;
        let mut chunk = vec![0; 8 * 1024];
        loop {
            for item in items.drain(..) {
                match item {
                    Item::Answer(bytes) => stream.write_all(&bytes).await?,
                    Item::Greeted => stream.write_all(&self.plan.wire.connect(&self.last_id().unwrap_or_default())).await?,
                    Item::Connected => stream.write_all(&self.plan.wire.joins(&self.plan.rooms, |_| None)).await?,
                    item => self.take(item, &mut joined, shared)?,
                }
            }
            if !self.plan.reads && self.is_listening.load(Ordering::Relaxed) {
                std::future::pending::<()>().await;
            }
            match stream.read(&mut chunk).await? {
                0 => return Err(io::Error::other("cut")),
                count => decoder.feed(&chunk[..count], &mut items),
            }
        }
    }

    /// Writes down what came. `joined` counts the rooms of this visit.
    pub fn take(&self, item: Item, joined: &mut usize, shared: &Shared) -> io::Result<()> {
        match item {
            Item::Event { room, number, id } => {
                self.remember(room, id);
                self.note(shared, Entry::Event(room, number));
            }
            Item::Gap { rooms, reason } => self.note(shared, Entry::Gap(rooms, reason)),
            Item::Joined { room, id } => {
                self.remember(room, id);
                *joined += 1;
                if *joined == self.plan.rooms.len() {
                    self.is_listening.store(true, Ordering::Relaxed);
                }
            }
            Item::Goodbye(why) => {
                self.note(shared, Entry::Ended(why));
                return Err(io::Error::other("goodbye"));
            }
            Item::Refused(why) => return Err(io::Error::other(why)),
            Item::Greeted | Item::Answer(_) | Item::Connected => {}
        }
        Ok(())
    }

    fn remember(&self, room: Room, id: Option<String>) {
        let Some(id) = id else { return };
        let mut ids = self.ids.lock().expect("the ids");
        match self.plan.wire {
            Wire::WebSocket => _ = ids.shown.insert(room),
            _ => ids.shown.extend(&self.plan.rooms),
        }
        match self.plan.wire {
            _ if !self.plan.remembers => {}
            Wire::WebSocket => drop(ids.of_rooms.insert(room, id)),
            _ => ids.last = Some(id),
        }
    }

    /// How often it was accepted, beyond the first time.
    pub fn returns(&self) -> usize {
        let record = self.record.lock().expect("the record");
        record.0.iter().filter(|(_, entry)| matches!(entry, Entry::Opened(_))).count().saturating_sub(1)
    }

    /// Whether it has been shown what to come back with. Before that it has nothing to resume from, and must not be harmed.
    pub fn is_settled(&self) -> bool {
        let ids = self.ids.lock().expect("the ids");
        self.plan.rooms.iter().all(|room| !room.keeps() || ids.shown.contains(room))
    }
}
