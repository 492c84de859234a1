//! Sixty origins at every door: a page that is not meant gets nothing.

use super::{
    socketio::{Client, Kind},
    support::{Answer, Hub, WITH_TOKENS, token_of},
};

const SAME: &str = "same-origin";
const APP: &str = "https://app.example.org";
const ANY: &str = "*";

/// What is allowed, the Origin, the Host, and whether it may.
#[rustfmt::skip]
const CASES: [(&str, &str, &str, bool); 60] = [
    (SAME, "http://hub.example.org", "hub.example.org", true),
    (SAME, "https://hub.example.org", "hub.example.org", true),
    (SAME, "https://hub.example.org:443", "hub.example.org", true),
    (SAME, "http://hub.example.org:80", "hub.example.org", true),
    (SAME, "https://hub.example.org", "hub.example.org:443", true),
    (SAME, "http://hub.example.org:8080", "hub.example.org:8080", true),
    (SAME, "https://HUB.example.org", "hub.EXAMPLE.org", true),
    (SAME, "http://127.0.0.1:8080", "127.0.0.1:8080", true),
    (SAME, "http://[::1]:8080", "[::1]:8080", true),
    (SAME, "http://localhost", "localhost", true),
    (SAME, "http://hub.example.org:8081", "hub.example.org:8080", false),
    (SAME, "http://hub.example.org", "hub.example.org:8080", false),
    (SAME, "http://hub.example.org:8080", "hub.example.org", false),
    (SAME, "https://hub.example.org:80", "hub.example.org", false),
    (SAME, "http://hub.example.org:443", "hub.example.org", false),
    (SAME, "http://example.org", "hub.example.org", false),
    (SAME, "http://www.hub.example.org", "hub.example.org", false),
    (SAME, "http://hub.example.org.evil.test", "hub.example.org", false),
    (SAME, "http://evilhub.example.org", "hub.example.org", false),
    (SAME, "http://hub.example.org@evil.test", "hub.example.org", false),
    (SAME, "http://evil.test/hub.example.org", "hub.example.org", false),
    (SAME, "http://evil.test#hub.example.org", "hub.example.org", false),
    (SAME, "http://evil.test?hub.example.org", "hub.example.org", false),
    (SAME, "http://hub.example.org/", "hub.example.org", false),
    (SAME, "http://hub.example.org.", "hub.example.org", false),
    (SAME, "http://127.0.0.1", "localhost", false),
    (SAME, "null", "hub.example.org", false),
    (SAME, "null", "null", false),
    (SAME, "NULL", "hub.example.org", false),
    (SAME, "file://", "hub.example.org", false),
    (SAME, "file://hub.example.org", "hub.example.org", false),
    (SAME, "ftp://hub.example.org", "hub.example.org", false),
    (SAME, "chrome-extension://hub.example.org", "hub.example.org", false),
    (SAME, "hub.example.org", "hub.example.org", false),
    (SAME, "//hub.example.org", "hub.example.org", false),
    (SAME, "http:/hub.example.org", "hub.example.org", false),
    (SAME, "http://", "hub.example.org", false),
    (SAME, "http://hub.example.org http://evil.test", "hub.example.org", false),
    (SAME, "http://evil.test, http://hub.example.org", "hub.example.org", false),
    (SAME, "http://xn--hb-hka.example.org", "hub.example.org", false),
    (APP, "https://app.example.org", "hub.example.org", true),
    (APP, "https://APP.example.org", "hub.example.org", true),
    (APP, "http://app.example.org", "hub.example.org", false),
    (APP, "https://app.example.org:8443", "hub.example.org", false),
    (APP, "https://app.example.org.evil.test", "hub.example.org", false),
    (APP, "https://sub.app.example.org", "hub.example.org", false),
    (APP, "https://app.example.org/", "hub.example.org", false),
    (APP, "https://app.example.or", "hub.example.org", false),
    (APP, "https://app-example.org", "hub.example.org", false),
    (APP, "https://appXexample.org", "hub.example.org", false),
    (APP, "https://hub.example.org", "hub.example.org", false),
    (APP, "https://user@app.example.org", "hub.example.org", false),
    (APP, "null", "hub.example.org", false),
    (APP, "*", "hub.example.org", false),
    (APP, "", "hub.example.org", false),
    (ANY, "https://anything.test", "hub.example.org", true),
    (ANY, "http://localhost:3000", "hub.example.org", true),
    (ANY, "https://hub.example.org", "hub.example.org", true),
    (ANY, "null", "hub.example.org", false),
    (ANY, "null", "null", false),
];

/// What a page of this origin gets at every door, with the status that welcomes it.
fn knock(hub: &Hub, headers: &[(&str, &str)]) -> Vec<(String, Answer, u16)> {
    let with_key = [headers, &[("X-API-Key", "a-key-of-sixteen-bytes")]].concat();
    let mut answers = vec![
        ("/sse".to_owned(), hub.get("/sse", headers), 200),
        ("POST /sse".to_owned(), hub.send("POST", "/sse", headers, ""), 200),
        ("/ws".to_owned(), hub.handshake("/ws", headers), 101),
        ("/api".to_owned(), hub.get("/api/rooms", &with_key), 200),
        ("preflight".to_owned(), hub.send("OPTIONS", "/api/publish", headers, ""), 204),
        ("Socket.IO preflight".to_owned(), hub.send("OPTIONS", Kind::Polling5.path(), headers, ""), 204),
    ];
    for kind in Kind::ALL {
        let answer = if kind.is_web_socket() { hub.handshake(kind.path(), headers) } else { hub.get(kind.path(), headers) };
        answers.push((format!("{kind:?}"), answer, if kind.is_web_socket() { 101 } else { 200 }));
    }
    answers
}

#[test]
fn every_door_looks_at_the_origin_alike() {
    for allowed in [SAME, APP, ANY] {
        let hub = Hub::start(&format!("[http]\nallowed_origins = ['{allowed}']\n[api]\nkeys = ['a-key-of-sixteen-bytes']"));
        for (_, origin, host, is_allowed) in CASES.iter().filter(|case| case.0 == allowed) {
            for (door, answer, welcome) in knock(&hub, &[("Origin", *origin), ("Host", *host)]) {
                // Clients of Socket.IO 0.9 outside of browsers leave the scheme out.
                let is_allowed = *is_allowed || (door == "Polling1" && origin == host && *host != "null");
                let expected = if is_allowed { welcome } else { 403 };
                assert_eq!(answer.status, expected, "{door}: {origin:?} at {host:?} under {allowed:?}");
                let may_read = answer.header("access-control-allow-origin");
                if is_allowed && welcome != 101 {
                    assert_eq!(may_read, Some(*origin), "{door}");
                } else {
                    assert_eq!(may_read, None, "{door}: {origin:?}");
                }
            }
        }
    }
}

/// An id that leaked gives a page of another site nothing.
#[test]
fn a_session_is_polled_and_moved_by_its_own_site_alone() {
    let hub = Hub::start("");
    let foreign = [("Origin", "https://evil.test")];
    for kind in [Kind::Polling5, Kind::Polling4, Kind::Polling1] {
        let mut client = Client::connect(&hub, kind, None).expect("anybody may");
        let path = client.poll_path().to_owned();
        assert_eq!(hub.get(&path, &foreign).status, 403, "{kind:?}: poll");
        assert_eq!(hub.send("POST", &path, &foreign, "41").status, 403, "{kind:?}: post");
        let moved = path.replace("transport=polling", "transport=websocket").replace("xhr-polling", "websocket");
        assert_eq!(hub.handshake(&moved, &foreign).status, 403, "{kind:?}: WebSocket");
        assert_eq!(client.call("subscribe", &serde_json::json!(["r"]))["ok"], true, "{kind:?}: the session goes on");
    }
}

#[test]
fn a_request_without_origin_is_no_page_of_another_site() {
    let hub = Hub::start("[http]\nallowed_origins = ['https://app.example.org']");
    assert_eq!(hub.get("/sse", &[]).status, 200);
    assert_eq!(hub.handshake("/ws", &[]).status, 101);
    assert_eq!(hub.get("/api/rooms", &[]).status, 200);
    for kind in Kind::ALL {
        assert!(Client::connect(&hub, kind, None).is_some(), "{kind:?}");
    }
}

/// Whom a script is taken for that a page loads with its visitor's cookies.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Taken {
    ForTheVisitor,
    ForNobody,
    /// It is refused.
    Not,
}

use Taken::{ForNobody, ForTheVisitor, Not};

/// What a browser says of the page that loads a script, where it says anything.
#[rustfmt::skip]
const SCRIPTS: [(&[(&str, &str)], Taken); 24] = [
    (&[], ForNobody),
    (&[("Referer", "")], ForNobody),
    (&[("Sec-Fetch-Site", "none")], ForNobody),
    (&[("Referer", "http://hub.example.org/page?a=b")], ForTheVisitor),
    (&[("Referer", "https://app.example.org/")], ForTheVisitor),
    (&[("Referer", "https://app.example.org")], ForTheVisitor),
    (&[("Referer", "https://app.example.org?q")], ForTheVisitor),
    (&[("Sec-Fetch-Site", "same-origin")], ForTheVisitor),
    (&[("Sec-Fetch-Site", "same-site"), ("Referer", "https://app.example.org/a")], ForTheVisitor),
    (&[("Sec-Fetch-Site", "cross-site"), ("Referer", "https://app.example.org/")], ForTheVisitor),
    (&[("Origin", "https://app.example.org")], ForTheVisitor),
    (&[("Referer", "https://evil.test/")], Not),
    (&[("Referer", "http://app.example.org/")], Not),
    (&[("Referer", "https://app.example.org.evil.test/")], Not),
    (&[("Referer", "https://app.example.org@evil.test/")], Not),
    (&[("Referer", "https://app.example.org:8443/")], Not),
    (&[("Referer", "https://evil.test/https://app.example.org/")], Not),
    (&[("Referer", "about:blank")], Not),
    (&[("Referer", "null")], Not),
    (&[("Sec-Fetch-Site", "same-site")], Not),
    (&[("Sec-Fetch-Site", "cross-site")], Not),
    (&[("Sec-Fetch-Site", "cross-site"), ("Referer", "https://evil.test/")], Not),
    (&[("Sec-Fetch-Site", "same-origin"), ("Referer", "https://evil.test/")], Not),
    (&[("Origin", "https://evil.test"), ("Referer", "https://app.example.org/")], Not),
];

/// Any page may load a script of the hub's with its visitor's cookies, and no Origin tells which.
#[test]
fn a_script_is_its_visitors_on_an_allowed_page_alone() {
    let hub = Hub::start(&format!(
        "[http]\nallowed_origins = ['{SAME}', '{APP}']\n[[room]]\nmatch = '*'\njoin = 'user'\n[auth]\nanonymous = false\n{WITH_TOKENS}"
    ));
    let (cookie, query) = (format!("callboard_token={}", token_of("alice")), format!("&token={}", token_of("alice")));
    for (told, taken) in SCRIPTS {
        let headers = [told, &[("Host", "hub.example.org"), ("Cookie", &cookie)]].concat();
        let opened = hub.get("/socket.io/?EIO=3&transport=polling&j=0", &headers);
        let [legacy, with_token] = ["", &query].map(|query| hub.get(&format!("/socket.io/1/?jsonp=0{query}"), &headers));
        if taken == Not {
            assert_eq!([opened.status, legacy.status, with_token.status], [403; 3], "{told:?}");
            continue;
        }
        let opened = opened.text();
        let sid = opened.split(r#"\"sid\":\""#).nth(1).and_then(|rest| rest.split('\\').next()).unwrap_or_else(|| panic!("{opened}"));
        let poll = format!("/socket.io/?EIO=3&transport=polling&j=1&sid={sid}");
        let answer = if taken == ForTheVisitor { r#"___eio[1]("2:40");"# } else { "unauthorized" };
        let said = hub.get(&poll, &headers).text();
        assert!(said.contains(answer), "{told:?}: {said}");
        let said = legacy.text();
        assert_eq!(said.starts_with("io.j[0](new Error("), taken == ForNobody, "{told:?}: {said}");
        assert!(with_token.text().starts_with(r#"io.j[0](""#), "{told:?}: the page shows a token by itself");
    }
    // A session's id that leaked is of no use either.
    let foreign = [("Host", "hub.example.org"), ("Referer", "https://evil.test/")];
    for path in ["/socket.io/?EIO=3&transport=polling&j=0&sid=any", "/socket.io/1/jsonp-polling/any?i=0"] {
        assert_eq!(hub.get(path, &foreign).status, 403, "{path}");
    }
}
