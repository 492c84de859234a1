//! Events that two hubs take while something happens to their Redis, and what must come of them.

use std::{
    collections::{HashMap, HashSet},
    sync::atomic::{AtomicBool, AtomicU32, Ordering},
    time::Instant,
};

use crate::support::{
    PATIENCE, eventually,
    hub::{Hub, Setup},
    sse::{Block, Stream},
};

const ROOMS: &str = r#"
[[room]]
match = "kept*"
history = { size = 10000, ttl = "5m" }
[[room]]
match = "*"
"#;

pub fn node(url: &str) -> Hub {
    Setup::new(ROOMS).variable("REDIS_URL", url).start()
}

/// Where Redis has a certificate of its own authority.
pub fn node_trusting(url: &str, authority: &str) -> Hub {
    Setup::new(ROOMS).variable("REDIS_URL", url).variable("CALLBOARD_BROKER__TLS_CA", authority).start()
}

pub fn open(hub: &Hub, room: &str) -> Stream {
    Stream::open(hub.address, &format!("/sse?room={room}"))
}

/// Where a load stands.
#[derive(Default)]
struct Load {
    taken: AtomicU32,
    is_over: AtomicBool,
}

/// Events that are to be taken before something happens, and after it.
const SOME: u32 = 20;

impl Load {
    /// Publishes numbers over HTTP until it is over; says which were taken.
    fn run(&self, hub: &Hub, room: &str) -> Vec<u32> {
        let deadline = Instant::now() + 2 * PATIENCE;
        let mut taken = Vec::new();
        let mut left = SOME;
        for number in 0.. {
            assert!(Instant::now() < deadline, "{} were taken, and then nothing", taken.len());
            let was_over = self.is_over.load(Ordering::Acquire);
            let answer = hub.post("/api/publish", &format!(r#"{{"room":"{room}","data":{number}}}"#));
            assert!(answer.status == 200 || answer.status == 503, "{answer:?}");
            if answer.status == 200 {
                taken.push(number);
                self.taken.fetch_add(1, Ordering::Release);
                left -= u32::from(was_over);
            }
            if left == 0 {
                break;
            }
        }
        taken
    }

    fn wait_for_some(&self) {
        eventually("some are taken", || (self.taken.load(Ordering::Acquire) >= SOME).then_some(()));
    }
}

impl Drop for Over<'_> {
    fn drop(&mut self) {
        self.0.is_over.store(true, Ordering::Release);
    }
}

/// Ends a load, whatever comes.
struct Over<'a>(&'a Load);

/// What came on a stream up to an event with this number, and how many gaps.
fn read_until(stream: &mut Stream, last: u32) -> (Vec<Block>, usize) {
    let (mut events, mut gaps) = (Vec::new(), 0);
    while events.last().is_none_or(|event| number(event) != Some(last)) {
        let block = stream.next().expect("an event");
        match block.event.as_str() {
            "callboard:gap" => gaps += 1,
            _ => events.push(block),
        }
    }
    (events, gaps)
}

/// What came on a stream up to a gap.
fn read_until_gap(stream: &mut Stream) -> Vec<Block> {
    std::iter::from_fn(|| Some(stream.next().expect("a gap")).filter(|block| block.event != "callboard:gap")).collect()
}

/// One more number, once it is taken.
fn publish_last(hub: &Hub, room: &str, taken: &mut Vec<u32>) -> u32 {
    let last = taken.last().expect("the last one") + 1;
    let body = format!(r#"{{"room":"{room}","data":{last}}}"#);
    eventually("the last is taken", || (hub.post("/api/publish", &body).status == 200).then_some(()));
    taken.push(last);
    last
}

fn number(block: &Block) -> Option<u32> {
    block.data.parse().ok()
}

fn assert_in_order(what: &str, events: &[Block]) {
    let numbers: Vec<_> = events.iter().filter_map(number).collect();
    let back = numbers.windows(2).find(|pair| pair[0] >= pair[1]);
    assert_eq!(back, None, "{what}: out of order or doubled");
}

fn missing(events: &[Block], taken: &[u32]) -> Vec<u32> {
    let came: HashSet<_> = events.iter().filter_map(number).collect();
    taken.iter().filter(|number| !came.contains(number)).copied().collect()
}

/// Numbers go to a room with history and one without, while something happens to their Redis. In the first, what was taken comes
/// to those who listen on either hub, once and in order, or they hear of a gap; and all of it is replayed. In the second, they
/// hear of a gap.
pub fn check_under_load(hubs: &[Hub; 2], [kept, plain]: [&str; 2], happens: impl FnOnce()) {
    let mut kept_streams = [open(&hubs[0], kept), open(&hubs[1], kept)];
    let mut plain_streams = [open(&hubs[0], plain), open(&hubs[1], plain)];
    hubs[0].publish(&format!(r#"{{"room":"{kept}","data":"first"}}"#));
    let first = kept_streams.each_mut().map(|stream| stream.next().expect("an event"));
    assert_eq!(first[0], first[1]);
    let load = [Load::default(), Load::default()];
    let [mut taken, mut plain_taken] = std::thread::scope(|scope| {
        let _over = load.each_ref().map(Over);
        let loads = [(&load[0], kept), (&load[1], plain)].map(|(load, room)| scope.spawn(|| load.run(&hubs[0], room)));
        load.iter().for_each(Load::wait_for_some);
        happens();
        let since = Instant::now();
        for hub in hubs {
            eventually("the hub is ready again", || (hub.get("/readyz").status == 200).then_some(()));
        }
        println!("ready again {:?} after Redis", since.elapsed());
        load.iter().for_each(|load| drop(Over(load)));
        loads.map(|load| load.join().expect("the load"))
    });
    // A hub may hear of it later than the other, when all of that has been published.
    let plain_seen = plain_streams.each_mut().map(read_until_gap);
    let last = publish_last(&hubs[0], kept, &mut taken);
    let seen = kept_streams.each_mut().map(|stream| read_until(stream, last));
    for ((events, gaps), stream) in seen.iter().zip(&mut kept_streams) {
        assert_in_order("live", events);
        let missing = missing(events, &taken);
        println!("{} taken, {} came, {gaps} gaps, missing {missing:?}", taken.len(), events.len());
        // One node may be back so much later than the other that what came meanwhile is not written yet.
        assert!(missing.is_empty() || *gaps > 0 || stream.next().is_some_and(|block| block.event == "callboard:gap"), "{missing:?}");
    }
    let ids: [HashMap<_, _>; 2] = seen.each_ref().map(|(events, _)| events.iter().map(|event| (&event.data, &event.id)).collect());
    assert!(ids[0].iter().all(|(data, id)| ids[1].get(data).is_none_or(|other| other == id)), "under the same ids on both");
    let from = first[0].id.as_deref().expect("an id");
    eventually("all is replayed", || {
        let mut resumed = Stream::request(hubs[1].address, "GET", &format!("/sse?room={kept}"), &[("Last-Event-ID", from)], b"");
        let (replayed, _) = read_until(&mut resumed, last);
        assert_in_order("replayed", &replayed);
        missing(&replayed, &taken).is_empty().then_some(())
    });
    let last = publish_last(&hubs[0], plain, &mut plain_taken);
    for (stream, mut events) in plain_streams.iter_mut().zip(plain_seen) {
        let (more, gaps) = read_until(stream, last);
        events.extend(more);
        assert_in_order("without history", &events);
        let logs = hubs.each_ref().map(|hub| hub.process.log()).join("\n---\n");
        assert_eq!(gaps, 0, "who may have missed something is told, once: {logs}");
    }
}
