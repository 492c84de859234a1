//! Pages of other sites: who may connect, with credentials, and what a browser asks first.

use super::{
    shared::hub::Setup,
    support::{Answer, Hub, answer},
};

const SITE: &str = "https://app.example.org";

fn hub() -> Hub {
    Hub::of(Setup::new(&format!("[http]\nallowed_origins = [\"{SITE}\"]")).start())
}

fn from(hub: &Hub, origin: &str, method: &str, path: &str, body: &[u8]) -> Answer {
    answer(hub.ask(method, path, &format!("Origin: {origin}\r\n"), body))
}

fn assert_is_readable(answer: &Answer) {
    for line in [&format!("access-control-allow-origin: {SITE}"), "access-control-allow-credentials: true", "vary: origin"] {
        assert!(answer.head.lines().any(|known| known == line), "{line}: {answer:?}");
    }
}

/// The sid of a handshake's answer of any revision.
fn sid(answer: &Answer) -> String {
    let sid = answer.body.split("\"sid\":\"").nth(1).and_then(|rest| rest.split('"').next());
    sid.or_else(|| answer.body.split(':').next()).expect("an id").to_owned()
}

#[test]
fn an_allowed_page_may_read_every_answer_and_an_error_too() {
    let hub = hub();
    for (handshake, session, posted) in [
        ("/socket.io/?EIO=4&transport=polling", "/socket.io/?EIO=4&transport=polling&sid={sid}", "40"),
        ("/socket.io/?EIO=3&transport=polling", "/socket.io/?EIO=3&transport=polling&sid={sid}", "1:2"),
        ("/socket.io/1/", "/socket.io/1/xhr-polling/{sid}", "2::"),
    ] {
        let opened = from(&hub, SITE, "GET", handshake, b"");
        assert_eq!(opened.status, 200, "{opened:?}");
        assert_is_readable(&opened);
        let path = session.replace("{sid}", &sid(&opened));
        for (method, body) in [("POST", posted), ("GET", "")] {
            let answer = from(&hub, SITE, method, &path, body.as_bytes());
            assert_eq!(answer.status, 200, "{answer:?}");
            assert_is_readable(&answer);
        }
    }
    for path in ["/socket.io/?EIO=7&transport=polling", "/socket.io/?EIO=4&transport=polling&sid=unknown"] {
        let refused = from(&hub, SITE, "GET", path, b"");
        assert_eq!(refused.status, 400);
        assert_is_readable(&refused);
    }
}

#[test]
fn a_preflight_allows_what_a_client_sends() {
    let hub = hub();
    let asked =
        format!("Origin: {SITE}\r\nAccess-Control-Request-Method: POST\r\nAccess-Control-Request-Headers: content-type,x-application\r\n");
    for path in ["/socket.io/?EIO=4&transport=polling", "/socket.io/?EIO=3&transport=polling&sid=any", "/socket.io/1/xhr-polling/any"] {
        let allowed = answer(hub.ask("OPTIONS", path, &asked, b""));
        assert_eq!(allowed.status, 204, "{allowed:?}");
        assert_is_readable(&allowed);
        assert!(allowed.head.contains("access-control-allow-headers: content-type,x-application"), "{allowed:?}");
        assert!(allowed.head.contains("access-control-allow-methods: get, post, options"), "{allowed:?}");
    }
}

#[test]
fn a_page_of_another_site_is_refused_on_every_way_in() {
    let hub = hub();
    for origin in ["https://evil.test", "http://app.example.org", "https://app.example.org.evil.test", "null"] {
        for path in
            ["/socket.io/?EIO=4&transport=polling", "/socket.io/?EIO=3&transport=polling", "/socket.io/1/", "/socket.io/1/websocket/any"]
        {
            for method in ["GET", "POST", "OPTIONS"] {
                let refused = from(&hub, origin, method, path, b"");
                assert_eq!(refused.status, 403, "{method} {path} from {origin}");
                assert!(!refused.head.contains("access-control-"), "{refused:?}");
            }
        }
        let handshake =
            "Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n";
        let headers = format!("Origin: {origin}\r\n{handshake}");
        assert_eq!(answer(hub.ask("GET", "/socket.io/?EIO=4&transport=websocket", &headers, b"")).status, 403);
    }
    let refused = from(&hub, "https://evil.test", "GET", "/socket.io/?EIO=4&transport=polling", b"");
    assert_eq!(refused.body, r#"{"code":4,"message":"Forbidden"}"#);
}

#[test]
fn a_page_of_the_hub_itself_may_connect() {
    let hub = Hub::start(&[]);
    let origin = hub.url();
    for method in ["GET", "OPTIONS"] {
        let allowed = from(&hub, &origin, method, "/socket.io/?EIO=4&transport=polling", b"");
        assert!(allowed.head.contains(&format!("access-control-allow-origin: {origin}\r\n")), "{allowed:?}");
    }
}
