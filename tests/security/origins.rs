//! Sixty origins at every door: a page that is not meant gets nothing.

use super::support::Hub;

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

#[test]
fn every_door_looks_at_the_origin_alike() {
    for allowed in [SAME, APP, ANY] {
        let hub = Hub::start(&format!("[http]\nallowed_origins = ['{allowed}']\n[api]\nkeys = ['a-key-of-sixteen-bytes']"));
        for (_, origin, host, is_allowed) in CASES.iter().filter(|case| case.0 == allowed) {
            let headers = [("Origin", *origin), ("Host", *host)];
            let with_key = [headers[0], headers[1], ("X-API-Key", "a-key-of-sixteen-bytes")];
            let answers = [
                ("/sse", hub.get("/sse", &headers), 200),
                ("POST /sse", hub.send("POST", "/sse", &headers, ""), 200),
                ("/ws", hub.handshake("/ws", &headers), 101),
                ("/api", hub.get("/api/rooms", &with_key), 200),
                ("preflight", hub.send("OPTIONS", "/api/publish", &headers, ""), 204),
            ];
            for (door, answer, welcome) in answers {
                let expected = if *is_allowed { welcome } else { 403 };
                assert_eq!(answer.status, expected, "{door}: {origin:?} at {host:?} under {allowed:?}");
                let may_read = answer.header("access-control-allow-origin");
                if *is_allowed && door != "/ws" {
                    assert_eq!(may_read, Some(*origin), "{door}");
                } else {
                    assert_eq!(may_read, None, "{door}: {origin:?}");
                }
            }
        }
    }
}

#[test]
fn a_request_without_origin_is_no_page_of_another_site() {
    let hub = Hub::start("[http]\nallowed_origins = ['https://app.example.org']");
    assert_eq!(hub.get("/sse", &[]).status, 200);
    assert_eq!(hub.handshake("/ws", &[]).status, 101);
    assert_eq!(hub.get("/api/rooms", &[]).status, 200);
}
