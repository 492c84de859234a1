//! What cannot be replayed is said to be missing.

use serde_json::Value;

use crate::{
    fleet::{Fleet, Store, rooms},
    ledger::Room,
    load::Load,
    support::{hub::Hub, sse::Stream, websocket::Socket},
    trial::{Report, Trial},
    wire::mark,
};

const SIZE: usize = 10;
const EVENTS: usize = 50;

/// An id from before the history begins, one of another hub, a damaged one and an invented one: each gets what is held and the
/// notice that it is not all. In the twin the clients show no id, and are told nothing.
pub fn honest_non_recovery(trial: &mut Trial) -> Report {
    let mut report = Report::default();
    let room = Room(0);
    let store = Store::start();
    let other_store = Store::start();
    let fleet = Fleet::start(&rooms(SIZE as u32), &[store.url(), store.url()]);
    let stranger = Fleet::start(&rooms(SIZE as u32), &[other_store.url()]);
    let old = first_id(fleet.hub(0), room);
    let foreign = first_id(stranger.hub(0), room);
    // A member at each node, so that both record.
    let _members = [0, 1].map(|node| Stream::open(fleet.hub(node).address, &format!("/sse?room={}", room.name())));
    let published = Load { count: EVENTS, ..Load::new(&[store.door()], &[room], 0) }.start().wait();
    fleet.wait_until_kept(&store, room, EVENTS);
    let middle = old.len() / 2;
    let changed = if old.as_bytes()[middle] == b'A' { "B" } else { "A" };
    let damaged = format!("{}{changed}{}", &old[..middle], &old[middle + 1..]);
    let cases = [
        ("trimmed", old, "history_trimmed"),
        ("foreign", foreign, "unknown_position"),
        ("damaged", damaged, "unknown_position"),
        ("invented", "1-0".into(), "unknown_position"),
    ];
    let rounds = trial.size(1, 100);
    for (kind, id, reason) in &cases {
        for round in 0..rounds {
            let id = trial.has_cure.then_some(id.as_str());
            for (wire, said) in
                [("sse", over_sse(fleet.hub(round % 2), room, id)), ("websocket", over_websocket(fleet.hub(round % 2), room, id))]
            {
                let expected: Vec<String> = (EVENTS - SIZE + 1..=EVENTS).map(|number| mark(room, number as u32, 40)).collect();
                report.claim(&format!("{kind} over {wire} is told {reason}, not {:?}", said.1), said.1.as_deref() == Some(*reason));
                report.claim(&format!("{kind} over {wire} replays what is held, not {} events", said.0.len()), said.0 == expected);
            }
        }
    }
    report.figure(format!(
        "{} resumptions by {} kinds of ids, {} events, the last {SIZE} held",
        rounds * cases.len() * 2,
        cases.len(),
        published.taken()
    ));
    report
}

fn first_id(hub: &Hub, room: Room) -> String {
    let mut socket = Socket::open(hub.address, "/ws?room=");
    socket.expect("welcome");
    let joined = socket.ask(&format!(r#"{{"type":"join","room":"{}"}}"#, room.name()));
    // On a machine that is busy with other things the broker may not have answered within the two seconds that joining waits.
    let id = joined["id"].as_str().map(str::to_owned);
    drop(socket);
    id.unwrap_or_else(|| first_id(hub, room))
}

/// What a client hears.
enum Said {
    /// It is in the room, and in room `end`.
    Joined,
    Gap(Option<String>),
    Event(String),
    Else,
}

/// The data that was replayed, and the reason of the gap. An event of another room follows; as rooms have no order among
/// themselves, who is to have a replay waits for it, and then for one more such event, so that none comes too often.
fn listen(hub: &Hub, is_resumed: bool, said: impl Iterator<Item = Said>) -> (Vec<String>, Option<String>) {
    let end = || hub.publish(r#"{"room":"end","data":"end"}"#);
    let (mut data, mut reason) = (Vec::new(), None);
    let (mut ends, mut is_last) = (0, false);
    for said in said {
        match said {
            Said::Joined => end(),
            Said::Gap(why) => reason = why,
            Said::Event(event) if event == "end" => ends += 1,
            Said::Event(event) => data.push(event),
            Said::Else => {}
        }
        if ends == 2 {
            break;
        }
        // Who shows no id is told nothing.
        let is_served = !is_resumed || (reason.is_some() && data.len() >= SIZE);
        if ends == 1 && is_served && !is_last {
            end();
            is_last = true;
        }
    }
    (data, reason)
}

fn over_sse(hub: &Hub, room: Room, id: Option<&str>) -> (Vec<String>, Option<String>) {
    let headers: Vec<_> = id.iter().map(|id| ("Last-Event-ID", *id)).collect();
    let mut stream = Stream::request(hub.address, "GET", &format!("/sse?room={}&room=end", room.name()), &headers, b"");
    let said = std::iter::repeat_with(|| {
        let block = stream.next().expect("an open stream");
        if block.event != "callboard:gap" {
            return Said::Event(block.data.trim_matches('"').to_owned());
        }
        let notice: Value = serde_json::from_str(&block.data).expect("JSON");
        let is_of_room = notice["rooms"].as_array().is_some_and(|rooms| rooms.contains(&room.name().into()));
        if is_of_room { Said::Gap(notice["reason"].as_str().map(str::to_owned)) } else { Said::Else }
    });
    // The head says that it is in.
    listen(hub, id.is_some(), std::iter::once(Said::Joined).chain(said))
}

fn over_websocket(hub: &Hub, room: Room, id: Option<&str>) -> (Vec<String>, Option<String>) {
    let mut socket = Socket::open(hub.address, "/ws?room=end");
    let since = id.map(|id| format!(r#","since":"{id}""#)).unwrap_or_default();
    socket.send(&format!(r#"{{"type":"join","room":"{}"{since}}}"#, room.name()));
    let said = std::iter::repeat_with(|| {
        let message = socket.next();
        match message["type"].as_str().expect("a type") {
            "joined" if message["room"] == room.name() => Said::Joined,
            "gap" => Said::Gap(message["reason"].as_str().map(str::to_owned)),
            "event" => Said::Event(message["data"].as_str().expect("text").to_owned()),
            _ => Said::Else,
        }
    });
    listen(hub, id.is_some(), said)
}
