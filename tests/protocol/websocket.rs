//! WebSocket frames: the rules of RFC 6455 one by one (the cases of the Autobahn suite, in groups 1 to 7, 9 and 10), then
//! against an implementation that is not ours.

use bytes::{Bytes, BytesMut};
use callboard::protocol::{
    CloseReason,
    websocket::{self, Decoder, Message, Opcode},
};
use futures_util::{SinkExt, StreamExt};
use proptest::prelude::*;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio_tungstenite::{
    WebSocketStream,
    tungstenite::{Message as Theirs, protocol::Role},
};

const MAX: usize = 1 << 16;
const KEY: [u8; 4] = [0x37, 0xfa, 0x21, 0x3d];

/// A client's frame; `first` is FIN, RSV and opcode as they stand.
fn frame(first: u8, payload: &[u8]) -> Vec<u8> {
    let mut out = header(first, payload.len() as u64);
    out.extend(payload.iter().zip(KEY.iter().cycle()).map(|(byte, key)| byte ^ key));
    out
}

fn header(first: u8, length: u64) -> Vec<u8> {
    let mut out = vec![first];
    match length {
        0..=125 => out.push(0x80 | length as u8),
        126..=0xffff => {
            out.push(0x80 | 126);
            out.extend((length as u16).to_be_bytes());
        }
        _ => {
            out.push(0x80 | 127);
            out.extend(length.to_be_bytes());
        }
    }
    out.extend(KEY);
    out
}

/// Feeds the input in chops of `chop` bytes: the messages, and how it ended.
fn decode(max: usize, input: &[u8], chop: usize) -> (Vec<Message>, Result<(), CloseReason>) {
    let mut decoder = Decoder::new(max);
    let mut messages = Vec::new();
    for mut chunk in input.chunks(chop) {
        loop {
            match decoder.decode(&mut chunk) {
                Ok(Some(message)) => messages.push(message),
                Ok(None) => break,
                Err(reason) => return (messages, Err(reason)),
            }
        }
        assert!(chunk.is_empty(), "everything is taken before more is asked for");
    }
    (messages, Ok(()))
}

/// The same whole, and byte by byte.
#[track_caller]
fn check(frames: &[Vec<u8>], expected: Vec<Message>, end: Result<(), CloseReason>) {
    let input = frames.concat();
    for chop in [1, 2, 3, 7, input.len()] {
        assert_eq!(decode(MAX, &input, chop), (expected.clone(), end), "in chops of {chop}");
    }
}

fn text(text: &str) -> Message {
    Message::Text(text.into())
}

fn binary(bytes: &[u8]) -> Message {
    Message::Binary(Bytes::copy_from_slice(bytes))
}

#[test]
fn the_examples_of_the_rfc_are_read() {
    // §5.7
    let masked = vec![0x81, 0x85, 0x37, 0xfa, 0x21, 0x3d, 0x7f, 0x9f, 0x4d, 0x51, 0x58];
    check(&[masked], vec![text("Hello")], Ok(()));
    let ping = vec![0x89, 0x85, 0x37, 0xfa, 0x21, 0x3d, 0x7f, 0x9f, 0x4d, 0x51, 0x58];
    check(&[ping], vec![Message::Ping("Hello".into())], Ok(()));
}

#[test]
fn messages_of_every_length_class_are_read() {
    for length in [0, 1, 15, 16, 17, 125, 126, 127, 128, 65_535, 65_536] {
        let payload: Vec<u8> = (0..length).map(|i| (i % 251) as u8).collect();
        let ascii = "*".repeat(length);
        check(&[frame(0x82, &payload), frame(0x81, ascii.as_bytes())], vec![binary(&payload), text(&ascii)], Ok(()));
    }
}

#[test]
fn a_length_may_be_spelled_longer_than_needed() {
    let mut long = vec![0x81, 0x80 | 127, 0, 0, 0, 0, 0, 0, 0, 1, 0, 0, 0, 0];
    long.push(b'x');
    check(&[long], vec![text("x")], Ok(()));
}

#[test]
fn pings_and_pongs_carry_up_to_125_bytes() {
    let full = [0xfe; 125];
    check(
        &[frame(0x89, b""), frame(0x89, &full), frame(0x8a, b"unsolicited")],
        vec![Message::Ping(Bytes::new()), Message::Ping(Bytes::copy_from_slice(&full)), Message::Pong("unsolicited".into())],
        Ok(()),
    );
    check(&[header(0x89, 126)], vec![], Err(CloseReason::ProtocolError));
}

#[test]
fn a_header_that_breaks_a_rule_ends_it_after_the_messages_before() {
    let wrong: &[(&str, Vec<u8>)] = &[
        ("RSV1", header(0xc1, 1)),
        ("RSV2", header(0xa1, 1)),
        ("RSV3 on a ping", header(0x99, 1)),
        ("opcode 3", header(0x83, 0)),
        ("opcode 7", header(0x87, 1)),
        ("opcode 11", header(0x8b, 0)),
        ("opcode 15", header(0x8f, 1)),
        ("no mask", vec![0x81, 0x00]),
        ("fragmented ping", header(0x09, 0)),
        ("fragmented close", header(0x08, 2)),
        ("close of 126 bytes", header(0x88, 126)),
        ("nothing to continue", header(0x80, 1)),
        ("nothing to continue, unfinished", header(0x00, 0)),
    ];
    for (name, bytes) in wrong {
        let input = [frame(0x81, b"before"), bytes.clone(), frame(0x81, b"after")].concat();
        for chop in [1, input.len()] {
            assert_eq!(decode(MAX, &input, chop), (vec![text("before")], Err(CloseReason::ProtocolError)), "{name}");
        }
    }
}

#[test]
fn a_frame_without_mask_is_refused_by_its_first_two_bytes() {
    assert_eq!(decode(MAX, &[0x82, 0x7f], 2).1, Err(CloseReason::ProtocolError));
}

#[test]
fn fragments_are_put_together_around_control_frames() {
    check(
        &[
            frame(0x01, b""),
            frame(0x89, b"p1"),
            frame(0x00, b"frag"),
            frame(0x8a, b"p2"),
            frame(0x00, b""),
            frame(0x80, b"ment"),
            frame(0x02, b"\xff"),
            frame(0x80, b"\xfe"),
            frame(0x01, b""),
            frame(0x80, b""),
        ],
        vec![Message::Ping("p1".into()), Message::Pong("p2".into()), text("fragment"), binary(b"\xff\xfe"), text("")],
        Ok(()),
    );
}

#[test]
fn a_new_message_inside_another_is_refused() {
    check(&[frame(0x01, b"a"), frame(0x81, b"b")], vec![], Err(CloseReason::ProtocolError));
    check(&[frame(0x02, b"a"), frame(0x02, b"b")], vec![], Err(CloseReason::ProtocolError));
    let again = [frame(0x01, b"a"), frame(0x80, b"b"), frame(0x80, b"c")];
    check(&again, vec![text("ab")], Err(CloseReason::ProtocolError));
}

#[test]
fn a_declared_gibibyte_is_refused_by_its_header() {
    for length in [MAX as u64 + 1, 1 << 30, 1 << 63, u64::MAX] {
        for first in [0x81, 0x01, 0x82] {
            assert_eq!(decode(MAX, &header(first, length), 14).1, Err(CloseReason::TooLarge), "{length}");
        }
    }
}

#[test]
fn fragments_count_together_against_the_limit() {
    let fits = [frame(0x01, &[b'a'; 60]), frame(0x89, &[b'p'; 100]), frame(0x80, &[b'b'; 40])].concat();
    assert_eq!(decode(100, &fits, 9).1, Ok(()));
    let exceeds = [frame(0x01, &[b'a'; 60]), header(0x80, 41)].concat();
    assert_eq!(decode(100, &exceeds, 9), (vec![], Err(CloseReason::TooLarge)));
}

#[test]
fn text_is_utf8_however_it_is_cut() {
    let word = "Hello-µ@ßöäüàá-κόσμε-𐀀\u{10ffff}\u{fffe}\0!!";
    check(&[frame(0x81, word.as_bytes())], vec![text(word)], Ok(()));
    let bytes = word.as_bytes();
    let mut fragments: Vec<_> = bytes.iter().map(|byte| frame(0x00, &[*byte])).collect();
    fragments[0][0] = 0x01;
    fragments.push(frame(0x80, b""));
    check(&fragments, vec![text(word)], Ok(()));
}

#[test]
fn broken_text_fails_at_its_first_broken_byte() {
    let broken: &[&[u8]] = &[
        b"\x80",             // a continuation byte alone
        b"\xc0\xaf",         // overlong
        b"\xe0\x80\xaf",     // overlong
        b"\xed\xa0\x80",     // a surrogate
        b"\xf4\x90\x80\x80", // beyond U+10FFFF
        b"\xf5",
        b"\xff",
        b"\xce\xba\xe1\xbd\xb9\xcf\x83\xce\xbc\xce\xb5\xed\xa0\x80edited", // Autobahn's own
    ];
    for bytes in broken {
        check(&[frame(0x81, bytes)], vec![], Err(CloseReason::InvalidText));
        check(&[frame(0x01, bytes), frame(0x80, b"later")], vec![], Err(CloseReason::InvalidText));
        // Though most of the frame is still to come (6.4.3, 6.4.4).
        let early = [&header(0x81, 1000)[..], &frame(0, bytes)[6..]].concat();
        assert_eq!(decode(MAX, &early, early.len()).1, Err(CloseReason::InvalidText), "{bytes:?}");
    }
    // F4 90 can't begin a character: known at the second byte.
    let early = [frame(0x01, b"ok \xf4"), frame(0x00, b"\x90")].concat();
    assert_eq!(decode(MAX, &early, 1).1, Err(CloseReason::InvalidText));
}

#[test]
fn text_that_ends_inside_a_character_is_refused_at_its_end() {
    check(&[frame(0x81, b"\xce\xba\xe1\xbd")], vec![], Err(CloseReason::InvalidText));
    check(&[frame(0x01, b"\xce"), frame(0x80, b"")], vec![], Err(CloseReason::InvalidText));
    check(&[frame(0x01, b"\xce"), frame(0x80, b"\xba")], vec![text("κ")], Ok(()));
}

#[test]
fn binary_may_hold_anything() {
    check(&[frame(0x02, b"\xff\xc0"), frame(0x80, b"\xed\xa0")], vec![binary(b"\xff\xc0\xed\xa0")], Ok(()));
}

#[test]
fn nothing_counts_after_a_close_frame() {
    check(
        &[frame(0x01, b"frag"), frame(0x88, b"\x03\xe8bye"), frame(0x89, b"ping"), vec![0xff; 20]],
        vec![Message::Close(Some(1000), "bye".into())],
        Ok(()),
    );
}

#[test]
fn nothing_counts_after_an_error() {
    let mut decoder = Decoder::new(MAX);
    assert_eq!(decoder.decode(&mut &[0xff; 14][..]), Err(CloseReason::ProtocolError));
    let more = frame(0x81, b"more");
    let mut input = &more[..];
    assert_eq!(decoder.decode(&mut input), Ok(None));
    assert!(input.is_empty());
}

#[test]
fn a_close_frame_may_be_empty_or_carry_a_code_and_a_reason() {
    check(&[frame(0x88, b"")], vec![Message::Close(None, String::new())], Ok(()));
    let reason = "é".repeat(61) + "!";
    let payload = [&1000u16.to_be_bytes(), reason.as_bytes()].concat();
    check(&[frame(0x88, &payload)], vec![Message::Close(Some(1000), reason)], Ok(()));
    check(&[frame(0x88, b"\x03")], vec![], Err(CloseReason::ProtocolError));
    check(&[frame(0x88, b"\x03\xe8\xce")], vec![], Err(CloseReason::ProtocolError));
}

#[test]
fn a_close_code_is_one_that_may_be_sent() {
    for code in 0..=u16::MAX {
        let allowed = matches!(code, 1000..=1003 | 1007..=1014 | 3000..=4999);
        let (messages, end) = decode(MAX, &frame(0x88, &code.to_be_bytes()), 100);
        assert_eq!(end, if allowed { Ok(()) } else { Err(CloseReason::ProtocolError) }, "{code}");
        assert_eq!(messages.len(), usize::from(allowed));
    }
    let ours = CloseReason::ALL.map(CloseReason::code);
    assert!(ours.iter().all(|code| decode(MAX, &frame(0x88, &code.to_be_bytes()), 100).1.is_ok()), "{ours:?}");
}

#[test]
fn sixteen_mebibytes_in_small_chops_are_read() {
    let payload = "κόσμε-".repeat((16 << 20) / 11 + 1);
    let payload = &payload.as_bytes()[..(16 << 20) - 1];
    let payload = &payload[..std::str::from_utf8(payload).map_or_else(|error| error.valid_up_to(), str::len)];
    let (messages, end) = decode(16 << 20, &frame(0x81, payload), 64);
    assert_eq!(end, Ok(()));
    assert!(matches!(&messages[..], [Message::Text(text)] if text.as_bytes() == payload));
}

#[test]
fn frames_of_the_server_have_no_mask_and_the_shortest_length() {
    assert_eq!(websocket::text("Hello"), &[0x81, 0x05, b'H', b'e', b'l', b'l', b'o'][..]);
    assert_eq!(websocket::binary(&[7; 256])[..4], [0x82, 126, 1, 0]);
    assert_eq!(websocket::binary(&[7; 65_536])[..10], [0x82, 127, 0, 0, 0, 0, 0, 1, 0, 0]);
    assert_eq!(websocket::ping(b"a"), &[0x89, 1, b'a'][..]);
    assert_eq!(websocket::pong(&[0; 200]).len(), 127);
    assert_eq!(websocket::close(1001, "bye"), &[0x88, 5, 3, 0xe9, b'b', b'y', b'e'][..]);
    assert_eq!(websocket::close_echo(None), &[0x88, 0][..]);
    assert_eq!(websocket::close_echo(Some(4000)), &[0x88, 2, 0x0f, 0xa0][..]);
}

#[test]
fn a_long_reason_is_cut_between_characters() {
    let frame = websocket::close(1000, &"é".repeat(100));
    assert_eq!((frame.len(), frame[1]), (2 + 2 + 122, 124));
    assert_eq!(std::str::from_utf8(&frame[4..]), Ok(&*"é".repeat(61)));
}

#[test]
fn a_text_put_together_in_place_is_the_same_frame() {
    for length in [0, 125, 126, 65_535, 65_536] {
        let payload = "x".repeat(length);
        let expected = websocket::text(&payload);
        assert_eq!(websocket::text_with(0, |out| out.extend_from_slice(payload.as_bytes())), expected);
        let mut buffer = BytesMut::new();
        websocket::put_header(&mut buffer, Opcode::Text, length);
        buffer.extend_from_slice(payload.as_bytes());
        assert_eq!(buffer, expected);
    }
}

proptest! {
    #[test]
    fn any_bytes_in_any_chops_end_the_same_way(input in prop::collection::vec(any::<u8>(), 0..200), chop in 1usize..20) {
        prop_assert_eq!(decode(100, &input, chop), decode(100, &input, 1000));
    }

    #[test]
    fn messages_come_back_however_they_are_fragmented_and_cut(
        sent in prop::collection::vec((any::<bool>(), any::<String>(), prop::collection::vec(0usize..40, 0..4)), 1..6),
        chop in 1usize..50,
    ) {
        let (mut input, mut expected) = (Vec::new(), Vec::new());
        for (is_text, payload, cuts) in &sent {
            let mut rest = payload.as_bytes();
            let mut opcode = if *is_text { 0x01 } else { 0x02 };
            for cut in cuts {
                let (fragment, tail) = rest.split_at((*cut).min(rest.len()));
                input.extend([frame(opcode, fragment), frame(0x89, &[*cut as u8])].concat());
                expected.push(Message::Ping(Bytes::copy_from_slice(&[*cut as u8])));
                (rest, opcode) = (tail, 0x00);
            }
            input.extend(frame(0x80 | opcode, rest));
            expected.push(if *is_text { text(payload) } else { binary(payload.as_bytes()) });
        }
        prop_assert_eq!(decode(MAX, &input, chop), (expected, Ok(())));
    }
}

/// An echo server over the codec, on one end of a pipe.
async fn echo(mut pipe: tokio::io::DuplexStream) {
    let (mut decoder, mut buffer) = (Decoder::new(1 << 20), [0; 1000]);
    loop {
        let count = pipe.read(&mut buffer).await.unwrap();
        let mut input = &buffer[..count];
        while let Some(message) = decoder.decode(&mut input).unwrap() {
            let (answer, is_last) = match message {
                Message::Text(text) => (websocket::text(&text), false),
                Message::Binary(bytes) => (websocket::binary(&bytes), false),
                Message::Ping(bytes) => (websocket::pong(&bytes), false),
                Message::Pong(_) => continue,
                Message::Close(code, _) => (websocket::close_echo(code), true),
            };
            pipe.write_all(&answer).await.unwrap();
            if is_last {
                return;
            }
        }
    }
}

#[tokio::test]
async fn another_implementation_gets_its_echo() {
    let (server, client) = tokio::io::duplex(4096);
    let dialogue = async {
        let mut client = WebSocketStream::from_raw_socket(client, Role::Client, None).await;
        for message in
            [Theirs::text("κόσμε".repeat(20_000)), Theirs::binary(vec![0xff; 200_000]), Theirs::text(""), Theirs::binary(vec![1; 126])]
        {
            client.send(message.clone()).await.unwrap();
            assert_eq!(client.next().await.unwrap().unwrap(), message);
        }
        client.send(Theirs::Ping("p".into())).await.unwrap();
        assert_eq!(client.next().await.unwrap().unwrap(), Theirs::Pong("p".into()));
        client.close(None).await.unwrap();
        assert_eq!(client.next().await.unwrap().unwrap(), Theirs::Close(None));
    };
    tokio::join!(echo(server), dialogue);
}
