//! Engine.IO 4 and 3: handshakes, polls, posts and upgrades.

use super::support::{Hub, answer};

const PUBLISH: (&str, &str) = ("CALLBOARD_HTTP__CLIENT_RATE", "1000/s");

#[test]
fn a_request_that_is_no_part_of_a_session_is_told_why() {
    let hub = Hub::start(&[]);
    for (method, query, status, body) in [
        ("GET", "EIO=4", 400, r#"{"code":0,"message":"Transport unknown"}"#),
        ("GET", "EIO=4&transport=abc", 400, r#"{"code":0,"message":"Transport unknown"}"#),
        ("GET", "EIO=4&transport=polling&sid=unknown", 400, r#"{"code":1,"message":"Session ID unknown"}"#),
        ("POST", "EIO=4&transport=polling", 400, r#"{"code":2,"message":"Bad handshake method"}"#),
        ("PUT", "EIO=4&transport=polling", 400, r#"{"code":2,"message":"Bad handshake method"}"#),
        ("GET", "EIO=4&transport=websocket", 400, r#"{"code":3,"message":"Bad request"}"#),
        ("GET", "transport=polling", 400, r#"{"code":5,"message":"Unsupported protocol version"}"#),
        ("GET", "EIO=5&transport=polling", 400, r#"{"code":5,"message":"Unsupported protocol version"}"#),
    ] {
        let refused = answer(hub.ask(method, &format!("/socket.io/?{query}"), "", b""));
        assert_eq!((refused.status, refused.body.as_str()), (status, body), "{method} {query}");
    }
    for query in ["EIO=4&transport=abc", "EIO=4", "transport=websocket", "EIO=5&transport=websocket", "EIO=abc&transport=websocket"] {
        assert_eq!(hub.web_socket(&format!("/socket.io/?{query}")).err(), Some(400), "{query}");
    }
    assert_eq!(hub.web_socket("/socket.io/?EIO=4&transport=websocket&sid=unknown").err(), Some(400));
}

#[test]
fn revisions_that_are_not_configured_are_not_served() {
    let hub = Hub::start(&[("CALLBOARD_SOCKETIO__PROTOCOLS", "[5]")]);
    assert_eq!(hub.get("/socket.io/?EIO=3&transport=polling").status, 400);
    assert_eq!(hub.get("/socket.io/1/").status, 404);
    assert_eq!(hub.get("/socket.io/?EIO=4&transport=polling").status, 200);
}

#[test]
fn a_polling_client_of_version_4_gets_what_waited_in_one_body() {
    let hub = Hub::start(&[PUBLISH]);
    let path = hub.session();
    assert_eq!(hub.post(&path, "42[\"subscribe\",\"demo\"]\u{1e}421[\"subscribe\",\"demo-2\"]").body, "ok");
    let mut told = String::new();
    while told.split('\u{1e}').count() < 3 {
        let more = hub.get(&path).body;
        told = if told.is_empty() { more } else { format!("{told}\u{1e}{more}") };
    }
    let mut told: Vec<&str> = told.split('\u{1e}').collect();
    told.sort_unstable();
    assert_eq!(told, [r#"42["joined","demo"]"#, r#"42["joined","demo-2"]"#, r#"431[{"ok":true}]"#]);
    hub.publish(r#"{"room":"demo","event":"a","data":1}"#);
    hub.publish(r#"{"room":"demo","event":"b","args":[2,{"é":null}]}"#);
    assert_eq!(hub.get(&path).body, "42[\"a\",1]\u{1e}42[\"b\",2,{\"é\":null}]");
}

#[test]
fn a_poll_is_answered_with_no_more_packets_than_every_client_takes() {
    let hub = Hub::start(&[PUBLISH]);
    let path = hub.session();
    assert_eq!(hub.post(&path, r#"42["subscribe","demo"]"#).body, "ok");
    assert_eq!(hub.get(&path).body, r#"42["joined","demo"]"#);
    for number in 0..40 {
        hub.publish(&format!(r#"{{"room":"demo","event":"n","data":{number}}}"#));
    }
    let bodies: Vec<String> = (0..3).map(|_| hub.get(&path).body).collect();
    let counts: Vec<usize> = bodies.iter().map(|body| body.split('\u{1e}').count()).collect();
    assert_eq!(counts, [16, 16, 8]);
    let arrived: Vec<&str> = bodies.iter().flat_map(|body| body.split('\u{1e}')).collect();
    let sent: Vec<String> = (0..40).map(|number| format!(r#"42["n",{number}]"#)).collect();
    assert_eq!(arrived, sent);
}

#[test]
fn a_polling_client_of_version_3_is_connected_unasked_and_reads_lengths() {
    let hub = Hub::start(&[PUBLISH]);
    let sid = hub.open("EIO=3&transport=polling");
    let path = format!("/socket.io/?EIO=3&transport=polling&sid={sid}");
    assert_eq!(hub.get(&path).body, "2:40");
    assert_eq!(hub.post(&path, "1:2").body, "ok");
    assert_eq!(hub.get(&path).body, "1:3");
    assert_eq!(hub.post(&path, r#"26:42["subscribe","demo-é😀"]"#).body, "ok");
    assert_eq!(hub.get(&path).body, r#"23:42["joined","demo-é😀"]"#);
    let binary = [&[0, 5, 0, 255][..], br#"451-["b","demo-x",{"_placeholder":true,"num":0}]"#].concat();
    assert_eq!(binary.len(), 4 + 48);
    let framed = [&[0, 4, 8, 255][..], &binary[4..], &[1, 3, 255, 4, 1, 2]].concat();
    assert_eq!(hub.post(&path, r#"24:42["subscribe","demo-x"]"#).body, "ok");
    assert_eq!(hub.get(&path).body, r#"21:42["joined","demo-x"]"#);
    assert_eq!(answer(hub.ask("POST", &path, "Content-Type: application/octet-stream\r\n", &framed)).body, "ok");
    let expected = [&[0, 3, 9, 255][..], br#"451-["b",{"_placeholder":true,"num":0}]"#, &[1, 3, 255, 4, 1, 2]].concat();
    assert_eq!(hub.get(&path).bytes, expected);
}

#[test]
fn a_script_of_version_3_polls_and_posts_a_form() {
    let hub = Hub::start(&[PUBLISH]);
    let opened = hub.get("/socket.io/?EIO=3&transport=polling&j=2");
    assert!(opened.head.contains("content-type: text/javascript"), "{opened:?}");
    let payload = |script: &str, index: u32| -> String {
        let json = script.strip_prefix(&format!("___eio[{index}](")).and_then(|rest| rest.strip_suffix(");"));
        serde_json::from_str(json.unwrap_or_else(|| panic!("{script}"))).expect("a string")
    };
    let open = payload(&opened.body, 2);
    let sid = open.split("\"sid\":\"").nth(1).and_then(|rest| rest.split('"').next()).expect("an id");
    let path = |index: u32| format!("/socket.io/?EIO=3&transport=polling&j={index}&sid={sid}");
    assert_eq!(hub.get(&path(3)).body, r#"___eio[3]("2:40");"#);
    let post = |form: &str| answer(hub.ask("POST", &path(3), "Content-Type: application/x-www-form-urlencoded\r\n", form.as_bytes()));
    assert_eq!(post("d=22%3A42%5B%22subscribe%22%2C%22demo%22%5D").body, "ok");
    assert_eq!(payload(&hub.get(&path(0)).body, 0), r#"19:42["joined","demo"]"#);
    // A form's line ends become CR LF: the client writes its own as \n, and a written \n as \\n.
    assert_eq!(post("d=23%3A42%5B%22say%22%2C%22demo%22%2C%22a%5C%5Cnb%22%5D").body, "ok");
    assert_eq!(payload(&hub.get(&path(0)).body, 0), r#"16:42["say","a\nb"]"#);
    hub.publish(r#"{"room":"demo","event":"e","data":"\u2028</script>"}"#);
    let script = hub.get(&path(1)).body;
    assert!(!script.contains('\u{2028}'), "{script:?}");
    assert_eq!(payload(&script, 1), r#"25:42["e","\u2028</script>"]"#);
    assert_eq!(post("no form").status, 400);
}

#[test]
fn a_second_poll_beside_one_that_waits_ends_the_session() {
    let hub = Hub::start(&[]);
    let path = hub.session();
    let first = hub.ask("GET", &path, "", b"");
    // Whichever the hub takes first waits; the other is the second.
    let second = hub.ask("GET", &path, "", b"");
    let mut statuses = [answer(first), answer(second)].map(|answer| (answer.status, answer.body));
    statuses.sort();
    assert_eq!(statuses[0], (200, "1".to_owned()));
    assert_eq!(statuses[1].0, 400);
    assert_eq!(hub.get(&path).status, 400);
}

#[test]
fn a_client_that_closes_gets_its_poll_back_and_is_forgotten() {
    let hub = Hub::start(&[]);
    let path = hub.session();
    assert_eq!(hub.post(&path, "1").body, "ok");
    assert_eq!(hub.get(&path).body, "6");
    assert_eq!(hub.get(&path).status, 400);
}

#[test]
fn what_waited_for_polls_comes_as_frames_after_the_upgrade() {
    let hub = Hub::start(&[PUBLISH]);
    let path = hub.session();
    hub.post(&path, r#"42["subscribe","demo"]"#);
    assert_eq!(hub.get(&path).body, r#"42["joined","demo"]"#);
    let mut socket = hub.web_socket(&path.replace("polling", "websocket")).expect("a WebSocket");
    socket.send("2probe");
    assert_eq!(socket.text(), "3probe");
    assert_eq!(hub.get(&path).body, "6", "the client's poll comes back");
    for n in 0..20 {
        hub.publish(&format!(r#"{{"room":"demo","event":"n","data":{n}}}"#));
    }
    socket.send("5");
    socket.send(r#"427["n","demo",20]"#);
    let mut numbers = Vec::new();
    while numbers.len() < 21 {
        let text = socket.text();
        match text.strip_prefix(r#"42["n","#).and_then(|rest| rest.strip_suffix(']')) {
            Some(number) => numbers.push(number.parse::<u32>().expect("a number")),
            None => assert!(text.starts_with(r#"437[{"ok":true"#), "{text}"),
        }
    }
    assert!(numbers.iter().copied().eq(0..21), "{numbers:?}");
    assert_eq!(hub.get(&path).status, 400, "polls are over");
    let mut second = hub.web_socket(&path.replace("polling", "websocket")).expect("a handshake");
    assert_eq!(second.close_code(), 1002, "there is one WebSocket of a session");
}

#[test]
fn a_session_whose_new_socket_fails_goes_on_polling() {
    let hub = Hub::start(&[]);
    let path = hub.session();
    for first in ["5", "2", "4x", "abc"] {
        let mut socket = hub.web_socket(&path.replace("polling", "websocket")).expect("a WebSocket");
        socket.send(first);
        assert_eq!(socket.close_code(), 1002, "{first}");
    }
    hub.post(&path, r#"421["subscribe"]"#);
    assert!(hub.get(&path).body.starts_with(r#"431[{"error":{"code":"bad_request""#));
}

#[test]
fn a_polling_client_that_answers_no_ping_is_closed() {
    let hub = Hub::start(&[("CALLBOARD_SOCKETIO__PING_INTERVAL", "3s"), ("CALLBOARD_SOCKETIO__PING_TIMEOUT", "3s")]);
    let path = hub.session();
    assert_eq!(hub.get(&path).body, "2", "the hub pings");
    assert_eq!(hub.get(&path).body, "6", "who does not answer gets its poll back");
    assert_eq!(hub.get(&path).status, 400, "and is closed");
}
