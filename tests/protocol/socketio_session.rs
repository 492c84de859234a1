//! The dialogue of a Socket.IO connection: namespaces, rooms, acks, attachments, and what it does not put up with.

use bytes::Bytes;
use callboard::protocol::{
    CloseReason, Command, Encoding, ErrorCode, GapReason, Reference, Reply, RoomName, Target, UserName,
    engineio::{Carrier, Packet},
    socketio::{Namespace, Revision},
    socketio_legacy,
    socketio_session::{Departure, Limits, MAX_EARLY, MAX_NAMESPACES, NamespacedEvent, Outcome, Received, Session, SessionError, Terms},
    websocket,
};
use proptest::prelude::*;
use serde_json::json;

const LIMITS: Limits = Limits { attachment_bytes: 8, rooms: 4 };

/// A session with these namespaces connected, over WebSocket.
fn session(revision: Revision, namespaces: &[&str]) -> Session {
    let mut session = Session::new(revision, Carrier::WebSocket, LIMITS);
    for name in namespaces {
        let namespace = Namespace::parse(name).unwrap();
        let is_implicit = revision != Revision::V5 && namespace.is_root();
        if !is_implicit {
            assert!(matches!(text(&mut session, &format!("0{name},")), Ok(Received::Connect(_))));
        }
        assert!(session.accept(&namespace, "sid", Terms::default()).is_some());
    }
    session
}

fn text(session: &mut Session, text: &str) -> Result<Received, SessionError> {
    session.receive(Packet::Text(text))
}

fn binary(session: &mut Session, data: &'static [u8]) -> Result<Received, SessionError> {
    session.receive(Packet::Binary(Bytes::from_static(data)))
}

#[track_caller]
fn event(received: Result<Received, SessionError>) -> NamespacedEvent {
    match received {
        Ok(Received::Event(event)) => event,
        other => panic!("no event: {other:?}"),
    }
}

#[track_caller]
fn perform(session: &mut Session, packet: &str) -> Outcome {
    let event = event(text(session, packet));
    session.perform(event)
}

fn room(name: &str) -> RoomName {
    RoomName::parse(name).unwrap()
}

fn frames(packets: &[&str]) -> Vec<Bytes> {
    packets.iter().map(|packet| websocket::text(packet)).collect()
}

/// The hub grants it.
fn granted(command: &Command) -> Reply {
    match command.clone() {
        Command::Join { room, reference, .. } => Reply::Joined { room, id: None, reference },
        Command::Leave { room, reference } => Reply::Left { room, reference },
        Command::Publish { reference, .. } => Reply::Ack { id: None, reference },
        other => panic!("no command of this wire: {other:?}"),
    }
}

fn refused(command: &Command) -> Reply {
    let (Command::Join { reference, .. } | Command::Leave { reference, .. } | Command::Publish { reference, .. }) = command.clone() else {
        panic!("no command of this wire: {command:?}");
    };
    Reply::Error { code: ErrorCode::Forbidden, message: "no".into(), reference }
}

#[test]
fn the_articles_page_subscribes_and_is_told_so() {
    let mut session = session(Revision::V1, &["/"]);
    let packet = socketio_legacy::Packet::from_text(r#"5:::{"name":"subscribe","args":["default_room"]}"#).unwrap();
    let event = event(session.receive_legacy(packet));
    let outcome = session.perform(event);
    assert!(outcome.packets.is_empty());
    assert!(matches!(&outcome.commands[..], [Command::Join { room, since: None, .. }] if room.as_str() == "default_room"));
    let packets = session.reply(&granted(&outcome.commands[0]));
    assert_eq!(packets.to_vec(), frames(&[r#"5:::{"name":"joined","args":["default_room"]}"#]));
}

#[test]
fn a_subscribe_of_several_rooms_answers_its_ack_once_at_the_end() {
    let mut session = session(Revision::V5, &["/", "/chat"]);
    let outcome = perform(&mut session, r#"2/chat,12["subscribe","a","b"]"#);
    assert!(
        matches!(&outcome.commands[..], [Command::Join { room: a, .. }, Command::Join { room: b, .. }] if a.as_str() == "chat/a" && b.as_str() == "chat/b")
    );
    assert_eq!(session.reply(&granted(&outcome.commands[1])).to_vec(), frames(&[r#"42/chat,["joined","b"]"#]));
    let last = session.reply(&granted(&outcome.commands[0]));
    assert_eq!(last.to_vec(), frames(&[r#"42/chat,["joined","a"]"#, r#"43/chat,12[{"ok":true}]"#]));
}

#[test]
fn one_refused_room_is_the_answer_for_all() {
    let mut session = session(Revision::V5, &["/"]);
    let outcome = perform(&mut session, r#"21["subscribe","a","",7,"b"]"#);
    assert_eq!((outcome.commands.len(), outcome.packets.len()), (2, 0));
    session.reply(&granted(&outcome.commands[0]));
    let packets = session.reply(&granted(&outcome.commands[1]));
    let answer = r#"431[{"error":{"code":"room_name_invalid","message":"room name is empty"}}]"#;
    assert_eq!(packets.to_vec(), frames(&[r#"42["joined","b"]"#, answer]));
    let alone = perform(&mut session, r#"22["subscribe",""]"#);
    assert_eq!(alone.packets.to_vec(), frames(&[r#"432[{"error":{"code":"room_name_invalid","message":"room name is empty"}}]"#]));
}

#[test]
fn any_other_event_is_a_publish_to_the_room_it_names() {
    let mut session = session(Revision::V5, &["/chat"]);
    let outcome = perform(&mut session, r#"2/chat,3["say","lobby",{"t": 1}]"#);
    let [command @ Command::Publish { room, event, .. }] = &outcome.commands[..] else { panic!("{outcome:?}") };
    assert_eq!((room.as_str(), event.name.as_str(), &*event.json_arguments()[0]), ("chat/lobby", "say", r#"{"t": 1}"#));
    assert_eq!(session.reply(&granted(command)).to_vec(), frames(&[r#"43/chat,3[{"ok":true}]"#]));
    assert!(session.reply(&granted(command)).is_empty(), "an ack goes out once");
    for packet in [r#"2/chat,["say"]"#, r#"2/chat,["say",1]"#, r#"2/chat,["a\nb","lobby"]"#] {
        let outcome = perform(&mut session, packet);
        assert!(outcome.commands.is_empty(), "{packet}");
        assert!(outcome.packets[0].windows(15).any(|part| part == b"callboard:error"), "{packet}");
    }
}

#[test]
fn an_error_reaches_the_ack_or_the_error_event() {
    let mut session = session(Revision::V5, &["/"]);
    let outcome = perform(&mut session, r#"25["say","lobby"]"#);
    assert_eq!(session.reply(&refused(&outcome.commands[0])).to_vec(), frames(&[r#"435[{"error":{"code":"forbidden","message":"no"}}]"#]));
    let outcome = perform(&mut session, r#"2["subscribe","lobby"]"#);
    let packets = session.reply(&refused(&outcome.commands[0]));
    assert_eq!(packets.to_vec(), frames(&[r#"42["callboard:error",{"code":"forbidden","message":"no"}]"#]));
}

#[test]
fn attachments_are_gathered_and_travel_with_the_event() {
    let mut session = session(Revision::V5, &["/"]);
    let header = r#"52-1["bin","r",{"_placeholder":true,"num":1},{"_placeholder":true,"num":0}]"#;
    assert!(matches!(text(&mut session, header), Ok(Received::Nothing)));
    assert!(matches!(binary(&mut session, &[1]), Ok(Received::Nothing)));
    let whole = event(binary(&mut session, &[2, 3]));
    let outcome = session.perform(whole);
    let Command::Publish { event, .. } = &outcome.commands[0] else { panic!("{outcome:?}") };
    assert_eq!(event.attachments, [Bytes::from_static(&[1]), Bytes::from_static(&[2, 3])]);
    assert_eq!(event.json_arguments().to_vec(), [r#""AgM=""#, r#""AQ==""#]);
}

#[test]
fn announced_attachments_are_bounded_and_nothing_else_may_come_between() {
    let header = r#"52-["bin","r"]"#;
    let mut greedy = session(Revision::V5, &["/"]);
    text(&mut greedy, header).unwrap();
    binary(&mut greedy, &[0; 8]).unwrap();
    let error = binary(&mut greedy, &[0]).unwrap_err();
    assert_eq!((&error, error.close_reason()), (&SessionError::AttachmentBytes(8), CloseReason::TooLarge));

    let mut hasty = session(Revision::V5, &["/"]);
    text(&mut hasty, header).unwrap();
    assert_eq!(text(&mut hasty, r#"2["a","r"]"#).unwrap_err(), SessionError::MissingAttachment);

    let mut stray = session(Revision::V5, &["/"]);
    let error = binary(&mut stray, &[1]).unwrap_err();
    assert_eq!((&error, error.close_reason()), (&SessionError::UnexpectedAttachment, CloseReason::ProtocolError));
}

#[test]
fn the_answer_to_an_event_of_ours_passes_with_its_attachments() {
    let mut session = session(Revision::V5, &["/"]);
    assert!(matches!(text(&mut session, r#"31["x"]"#), Ok(Received::Nothing)));
    assert!(matches!(text(&mut session, r#"61-1[{"_placeholder":true,"num":0}]"#), Ok(Received::Nothing)));
    assert!(matches!(binary(&mut session, &[1]), Ok(Received::Nothing)));
    assert!(binary(&mut session, &[1]).is_err());
}

#[test]
fn a_packet_for_a_namespace_that_is_not_connected_ends_the_session() {
    for packet in [r#"2/admin,["a","r"]"#, "1/admin,", r#"3/admin,1["x"]"#] {
        let mut session = session(Revision::V5, &["/"]);
        assert_eq!(text(&mut session, packet).unwrap_err(), SessionError::NotConnected("/admin".into()), "{packet}");
    }
    let mut early = Session::new(Revision::V5, Carrier::WebSocket, LIMITS);
    assert!(text(&mut early, r#"2["a","r"]"#).is_err());
    text(&mut early, "0").unwrap();
    assert!(matches!(text(&mut early, "0"), Ok(Received::Nothing)), "asked twice, decided once");
    let mut twice = session(Revision::V5, &["/"]);
    assert_eq!(text(&mut twice, "0").unwrap_err(), SessionError::AlreadyConnected("/".into()));
}

/// What a client that does not wait for its namespace says, as it is acted on afterwards: names of events, or that it leaves.
fn said_early(session: &mut Session, namespace: &Namespace) -> Vec<String> {
    let mut said = Vec::new();
    while let Some(received) = session.next_early(namespace) {
        said.push(match received {
            Received::Event(event) => format!("{} {}", event.event.name, event.event.attachments.len()),
            Received::Left(_) => "left".into(),
            other => panic!("{other:?}"),
        });
    }
    said
}

#[test]
fn what_a_client_says_before_its_namespace_is_accepted_follows_in_order() {
    let mut session = Session::new(Revision::V5, Carrier::WebSocket, Limits { attachment_bytes: 100, ..LIMITS });
    text(&mut session, "0").unwrap();
    session.accept(&Namespace::root(), "sid", Terms::default()).unwrap();
    let chat = Namespace::parse("/chat").unwrap();
    for packet in ["0/chat,", r#"2/chat,["a","r"]"#, r#"51-/chat,["b","r",{"_placeholder":true,"num":0}]"#] {
        assert!(!matches!(text(&mut session, packet), Ok(Received::Event(_)) | Err(_)), "{packet}");
    }
    assert!(matches!(binary(&mut session, &[1]), Ok(Received::Nothing)));
    assert!(matches!(text(&mut session, r#"2["other","r"]"#), Ok(Received::Event(_))), "another namespace does not wait");
    assert!(matches!(text(&mut session, "1/chat,"), Ok(Received::Nothing)));
    assert!(session.next_early(&chat).is_none(), "not before it is accepted");
    session.accept(&chat, "sid", Terms::default()).unwrap();
    assert_eq!(said_early(&mut session, &chat), ["a 0", "b 1", "left"]);
    assert!(!session.is_connected("/chat"));
}

#[test]
fn what_was_said_on_a_refused_namespace_is_forgotten() {
    let mut session = session(Revision::V5, &["/"]);
    let chat = Namespace::parse("/chat").unwrap();
    text(&mut session, "0/chat,").unwrap();
    text(&mut session, r#"2/chat,["a","r"]"#).unwrap();
    session.refuse(&chat, "no", None).unwrap();
    text(&mut session, "0/chat,").unwrap();
    session.accept(&chat, "sid", Terms::default()).unwrap();
    assert_eq!(said_early(&mut session, &chat), Vec::<String>::new());
}

#[test]
fn no_more_waits_for_namespaces_than_the_bounds() {
    let bounds = |bytes| {
        let mut session = Session::new(Revision::V5, Carrier::WebSocket, Limits { attachment_bytes: bytes, ..LIMITS });
        text(&mut session, "0").unwrap();
        text(&mut session, "0/chat,").unwrap();
        session
    };
    let mut session = bounds(10_000);
    for number in 0..MAX_EARLY {
        let namespace = if number % 2 == 0 { "" } else { "/chat," };
        assert!(matches!(text(&mut session, &format!(r#"2{namespace}["a"]"#)), Ok(Received::Nothing)));
    }
    assert_eq!(text(&mut session, r#"2["a"]"#).unwrap_err(), SessionError::TooMuchTooEarly);
    assert_eq!(SessionError::TooMuchTooEarly.close_reason(), CloseReason::Policy);
    let mut session = bounds(8);
    assert!(text(&mut session, r#"2["a","1234"]"#).is_ok(), "a name and a string of 6 bytes");
    assert_eq!(text(&mut session, r#"2/chat,["ab"]"#).unwrap_err(), SessionError::TooMuchTooEarly);
}

#[test]
fn a_client_that_wants_ids_finds_one_behind_every_event_or_null() {
    let mut session = Session::new(Revision::V5, Carrier::WebSocket, LIMITS);
    text(&mut session, "0").unwrap();
    let terms = Terms { shows_ids: true, since: Some("last".into()), pid: Some("secret".into()) };
    assert_eq!(session.accept(&Namespace::root(), "s", terms), Some(websocket::text(r#"40{"pid":"secret","sid":"s"}"#)));
    let entered = perform(&mut session, r#"2["subscribe","a"]"#).commands;
    assert!(matches!(&entered[..], [Command::Join { since: Some(since), .. }] if &**since == "last"));
    let reply = granted(&entered[0]);
    assert!(session.settle_move(&reply).is_none());
    let encoding = session.encoding(&room("a"));
    assert!(encoding.has_stream_ids() && session.user_encoding() == Some(encoding));
    let joined = Reply::Joined { room: room("a"), id: Some("here".into()), reference: Reference::default() };
    assert_eq!(encoding.reply(&joined), Some(websocket::text(r#"42["joined","a","here"]"#)));
    assert_eq!(
        session.announce_move(&Reply::Left { room: room("a"), reference: Reference::default() }),
        Some(websocket::text(r#"42["left","a",null]"#))
    );
    assert_eq!(
        session.recoverable().map(|(pid, _, rooms)| (pid.to_owned(), rooms)).collect::<Vec<_>>(),
        [("secret".into(), vec![room("a")])]
    );
    let again = perform(&mut session, r#"2["subscribe","a"]"#).commands;
    assert!(matches!(&again[..], [Command::Join { since: None, .. }]), "what was missed comes once");
}

#[test]
fn pings_go_the_way_of_the_version() {
    let mut new = session(Revision::V5, &["/"]);
    assert!(matches!(new.receive(Packet::Pong("")), Ok(Received::Nothing)));
    assert!(new.receive(Packet::Ping("")).is_err());
    let mut old = session(Revision::V4, &["/"]);
    assert!(matches!(old.receive(Packet::Ping("")), Ok(Received::Send(pong)) if pong == websocket::text("3")));
    assert!(old.receive(Packet::Pong("")).is_err());
    assert!(old.receive(Packet::Open("")).is_err());
    assert!(matches!(old.receive(Packet::Close), Ok(Received::Closed)));
}

#[test]
fn the_root_namespace_is_implicit_before_protocol_5() {
    let mut old = Session::new(Revision::V4, Carrier::Polling, LIMITS);
    assert!(old.is_idle());
    assert_eq!(old.accept(&Namespace::root(), "sid", Terms::default()).unwrap(), "2:40");
    assert!(!old.is_idle());
    assert_eq!(old.accept(&Namespace::root(), "sid", Terms::default()), None);
    let mut new = Session::new(Revision::V5, Carrier::Polling, LIMITS);
    assert_eq!(new.accept(&Namespace::root(), "sid", Terms::default()), None);
}

#[test]
fn a_refused_namespace_may_be_asked_for_again() {
    let mut session = session(Revision::V5, &["/"]);
    let Ok(Received::Connect(request)) = text(&mut session, r#"0/admin,{"token":"no"}"#) else { panic!("no connect") };
    let refusal = session.refuse(&request.namespace, "Not authorized", Some(&json!({"code": 7}))).unwrap();
    assert_eq!(refusal, websocket::text(r#"44/admin,{"data":{"code":7},"message":"Not authorized"}"#));
    assert!(matches!(text(&mut session, "0/admin,"), Ok(Received::Connect(_))));
}

#[test]
fn a_connection_has_a_bounded_number_of_namespaces() {
    let mut session = Session::new(Revision::V5, Carrier::WebSocket, LIMITS);
    for number in 0..MAX_NAMESPACES {
        assert!(matches!(text(&mut session, &format!("0/{number},")), Ok(Received::Connect(_))));
    }
    let refusal = websocket::text(r#"44/more,{"message":"Too many namespaces"}"#);
    for _ in 0..3 {
        assert!(matches!(text(&mut session, "0/more,"), Ok(Received::Send(packet)) if packet == refusal));
    }
    assert!(matches!(text(&mut session, &format!("0/{},", "a".repeat(200))), Err(SessionError::Namespace(_))));
}

#[test]
fn a_connection_has_a_bounded_number_of_rooms_and_of_awaited_answers() {
    let mut session = session(Revision::V5, &["/"]);
    let outcome = perform(&mut session, r#"2["subscribe","a","b","c","d","e"]"#);
    assert_eq!((outcome.commands.len(), outcome.packets.len()), (4, 1));
    let answers: Vec<_> = (0..200).map(|id| perform(&mut session, &format!(r#"2{id}["say","a"]"#))).collect();
    assert_eq!(answers.iter().filter(|outcome| outcome.commands.len() == 1).count(), 128);
    assert!(answers[199].packets[0].windows(12).any(|part| part == b"rate_limited"));
}

#[test]
fn leaving_a_namespace_leaves_its_rooms_and_late_replies_fall_away() {
    let mut session = session(Revision::V5, &["/", "/chat"]);
    let joins = perform(&mut session, r#"2/chat,1["subscribe","a","b"]"#).commands;
    session.reply(&granted(&joins[0]));
    let Ok(Received::Left(Departure { leaves, .. })) = text(&mut session, "1/chat,") else { panic!("not left") };
    let mut left: Vec<_> =
        leaves.iter().map(|leave| matches!(leave, Command::Leave { room, .. } if room.as_str().starts_with("chat/"))).collect();
    left.dedup();
    assert_eq!((leaves.len(), left), (2, vec![true]));
    assert!(matches!(text(&mut session, "0/chat,"), Ok(Received::Connect(_))));
    session.accept(&Namespace::parse("/chat").unwrap(), "another", Terms::default());
    perform(&mut session, r#"2/chat,["subscribe","a"]"#);
    for late in [granted(&joins[1]), granted(&leaves[0]), granted(&leaves[1])] {
        assert!(session.reply(&late).is_empty(), "{late:?}");
    }
    assert!(matches!(session.encoding(&room("chat/a")), Encoding::SocketIo { namespace_length: 4, .. }));
}

#[test]
fn a_room_is_seen_through_the_namespace_that_joined_it() {
    let mut session = session(Revision::V5, &["/", "/chat"]);
    perform(&mut session, r#"2["subscribe","chat/a"]"#);
    let length = |session: &Session, name| match session.encoding(&room(name)) {
        Encoding::SocketIo { namespace_length, .. } => namespace_length,
        other => panic!("{other:?}"),
    };
    assert_eq!((length(&session, "chat/a"), length(&session, "chat/b"), length(&session, "c")), (0, 4, 0));
    let outcome = perform(&mut session, r#"2/chat,["subscribe","a"]"#);
    assert!(outcome.commands.is_empty());
    let server_side = Reply::Joined { room: room("chat/b"), id: None, reference: Reference(None) };
    assert_eq!(session.reply(&server_side).to_vec(), frames(&[r#"42/chat,["joined","b"]"#]));
}

#[test]
fn a_gap_in_what_is_emitted_to_all_of_a_namespace_names_no_room() {
    let mut session = session(Revision::V5, &["/", "/chat"]);
    let gap = Reply::Gap { rooms: Vec::new(), user: false, reason: GapReason::BrokerLost, dropped: None };
    let told = r#"["callboard:gap",{"reason":"broker_lost","rooms":[]}]"#;
    assert_eq!(session.reply(&gap).to_vec(), frames(&[&format!("42{told}"), &format!("42/chat,{told}")]));
    let chat = Namespace::parse("/chat").unwrap();
    let spelled = session.namespace_encoding(&chat, false).reply_in(&Target::Namespace(chat), &gap);
    assert_eq!(spelled, Some(websocket::text(r#"42/chat,["callboard:gap",{"rooms":[],"reason":"broker_lost"}]"#)));
}

#[test]
fn gaps_and_presence_name_rooms_as_each_namespace_does() {
    let mut session = session(Revision::V5, &["/", "/chat"]);
    let gap = Reply::Gap { rooms: vec![room("chat/a"), room("b")], user: true, reason: GapReason::BrokerLost, dropped: None };
    let packets = session.reply(&gap);
    let root = r#"42["callboard:gap",{"reason":"broker_lost","rooms":["b"],"user":true}]"#;
    assert_eq!(packets.to_vec(), frames(&[root, r#"42/chat,["callboard:gap",{"reason":"broker_lost","rooms":["a"]}]"#]));
    let presence = Reply::Presence { room: room("chat/a"), joined: vec![UserName::parse("al").unwrap()], left: vec![] };
    let notice = r#"42/chat,["callboard:presence",{"joined":["al"],"left":[],"room":"a"}]"#;
    assert_eq!(session.reply(&presence).to_vec(), frames(&[notice]));
}

#[test]
fn a_message_of_protocol_1_that_asks_for_a_receipt_gets_it_at_once() {
    let mut session = session(Revision::V1, &["/"]);
    let packet = socketio_legacy::Packet::from_text("3:2::r").unwrap();
    let event = event(session.receive_legacy(packet));
    let outcome = session.perform(event);
    assert_eq!(outcome.packets.to_vec(), frames(&["6:::2"]));
    assert!(matches!(&outcome.commands[..], [Command::Publish { room, event, .. }] if room.as_str() == "r" && event.name.is_default()));
}

#[test]
fn endpoints_of_protocol_1_are_namespaces() {
    let mut session = session(Revision::V1, &["/"]);
    let mut legacy = |text: &str| session.receive_legacy(socketio_legacy::Packet::from_text(text).unwrap());
    assert!(matches!(legacy("1::/chat:?token=x"), Ok(Received::Connect(request)) if request.query.as_deref() == Some("token=x")));
    assert!(matches!(legacy("1::/chat"), Ok(Received::Nothing)));
    assert!(matches!(legacy("2::"), Ok(Received::Nothing)));
    assert!(legacy("3::/other:a").is_err());
    assert!(matches!(legacy("0::/chat"), Ok(Received::Nothing)), "it is not decided on yet");
    assert!(matches!(legacy("1::/chat"), Ok(Received::Nothing)), "and stays after all");
    let chat = Namespace::parse("/chat").unwrap();
    assert!(session.accept(&chat, "sid", Terms::default()).is_some());
    assert!(session.next_early(&chat).is_none());
    let mut legacy = |text: &str| session.receive_legacy(socketio_legacy::Packet::from_text(text).unwrap());
    assert!(matches!(legacy("0::/chat"), Ok(Received::Left(_))));
    assert!(matches!(legacy("0::"), Ok(Received::Closed)));
}

#[test]
fn a_goodbye_tells_who_may_come_back() {
    let new = session(Revision::V5, &["/", "/chat"]);
    assert_eq!(new.goodbye(CloseReason::Disconnected).to_vec(), frames(&["41", "41/chat,"]));
    assert!(new.goodbye(CloseReason::Draining).is_empty());
    let old = session(Revision::V1, &["/"]);
    assert_eq!(old.goodbye(CloseReason::Draining).to_vec(), frames(&["7:::1+0"]));
    let mut polling = session(Revision::V4, &["/"]);
    polling.carry_by(Carrier::Polling);
    assert_eq!(polling.goodbye(CloseReason::Draining).to_vec(), [Bytes::from_static(b"1:6")]);
    assert_eq!(polling.goodbye(CloseReason::ProtocolError).to_vec(), [Bytes::from_static(b"1:1")]);
}

proptest! {
    #[test]
    fn no_sequence_of_packets_panics_or_outgrows_its_bounds(
        packets in proptest::collection::vec("(0|1|2|3|51-|62-)(/[ab],)?[0-9]?(\\[\"(subscribe|unsubscribe|say)\"(,\"[a-c]\"){0,3}\\])?|b", 0..60),
        grants in proptest::collection::vec(any::<bool>(), 60),
    ) {
        let mut session = session(Revision::V5, &["/"]);
        for (packet, is_granted) in packets.iter().zip(grants) {
            let received = if packet == "b" { binary(&mut session, &[1]) } else { text(&mut session, packet) };
            match received {
                Ok(Received::Connect(request)) if is_granted => drop(session.accept(&request.namespace, "s", Terms::default())),
                Ok(Received::Connect(request)) => drop(session.refuse(&request.namespace, "no", None)),
                Ok(Received::Event(event)) => {
                    for command in session.perform(event).commands {
                        let reply = if is_granted { granted(&command) } else { refused(&command) };
                        prop_assert!(session.reply(&reply).len() <= 2);
                    }
                }
                Ok(_) => {}
                Err(_) => break,
            }
        }
    }
}
