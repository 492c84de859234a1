//! TLS without a proxy: the same streams over HTTP/1.1 and HTTP/2.

use std::{
    fs,
    io::{BufRead, BufReader, Read, Write},
    net::TcpStream,
    path::Path,
    sync::Arc,
};

use actix_web::http::Version;
use rustls::{
    ClientConfig, ClientConnection, RootCertStore, StreamOwned,
    pki_types::{CertificateDer, ServerName, pem::PemObject},
};
use serde_json::json;
use tokio_tungstenite::tungstenite::{self, Message, client::IntoClientRequest};

use super::{
    process::free_port,
    support::{Hub, PATIENCE, eventually},
};

const CA: &[u8] = include_bytes!("tls/ca.pem");

pub type Stream = StreamOwned<ClientConnection, TcpStream>;

pub fn config(more: &str) -> String {
    let directory = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/security/tls");
    format!("[server]\ntls = {{ cert = '{directory}/first.pem', key = '{directory}/first.key.pem' }}\n{more}")
}

pub fn trusting(protocols: &[&[u8]]) -> Arc<ClientConfig> {
    let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
    let mut roots = RootCertStore::empty();
    roots.add(CertificateDer::from_pem_slice(CA).expect("a certificate")).expect("a root");
    let mut config = ClientConfig::builder().with_root_certificates(roots).with_no_client_auth();
    config.alpn_protocols = protocols.iter().map(|name| name.to_vec()).collect();
    Arc::new(config)
}

fn connect(hub: &Hub) -> Stream {
    connect_with(hub, &[b"http/1.1"])
}

/// The handshake comes with the first bytes.
pub fn connect_with(hub: &Hub, protocols: &[&[u8]]) -> Stream {
    let name = ServerName::try_from("localhost").expect("a name");
    StreamOwned::new(ClientConnection::new(trusting(protocols), name).expect("a client"), hub.connect())
}

pub fn request(hub: &Hub, path: &str) -> (u16, BufReader<Stream>) {
    let mut stream = connect(hub);
    stream.write_all(format!("GET {path} HTTP/1.1\r\nHost: localhost\r\n\r\n").as_bytes()).expect("a request");
    let mut reader = BufReader::new(stream);
    let mut head = String::new();
    while !head.ends_with("\r\n\r\n") && reader.read_line(&mut head).expect("a head") > 0 {}
    (head.split(' ').nth(1).and_then(|status| status.parse().ok()).unwrap_or(0), reader)
}

pub fn hears(reader: &mut impl BufRead, text: &str) -> bool {
    let mut line = String::new();
    while reader.read_line(&mut line).is_ok_and(|count| count > 0) {
        if line.contains(text) {
            return true;
        }
        line.clear();
    }
    false
}

/// Publishes over TLS.
pub fn publish(hub: &Hub, room: &str, data: &str) {
    let body = json!({ "room": room, "event": "e", "data": data }).to_string();
    let mut stream = connect(hub);
    let head = format!("POST /api/publish HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\nContent-Length: {}\r\n\r\n", body.len());
    stream.write_all(format!("{head}{body}").as_bytes()).expect("a request");
    assert!(hears(&mut BufReader::new(stream), "200 OK"));
}

pub fn metric(hub: &Hub, name: &str) -> f64 {
    let mut stream = connect(hub);
    stream.write_all(b"GET /metrics HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n").expect("a request");
    let mut text = String::new();
    // An end without close_notify is an error of the reader, and no matter here.
    let _ = stream.read_to_string(&mut text);
    text.lines().find(|line| line.starts_with(name)).map_or(0.0, |line| line.rsplit(' ').next().unwrap().parse().unwrap())
}

#[test]
fn a_stream_and_a_socket_work_over_tls() {
    let hub = Hub::start(&config(""));
    assert!(hub.log().contains("https://127.0.0.1:"));
    let (status, mut stream) = request(&hub, "/sse?room=r");
    assert_eq!(status, 200);
    let request = "wss://localhost/ws?room=r".into_client_request().expect("a request");
    let (mut socket, _) = tungstenite::client(request, connect(&hub)).expect("a WebSocket");
    let mut hear = |kind: &str| loop {
        if let Message::Text(text) = socket.read().expect("a message")
            && text.contains(&format!(r#""type":"{kind}""#))
        {
            return text.to_string();
        }
    };
    hear("welcome");
    hear("joined");
    publish(&hub, "r", "over TLS");
    assert!(hear("event").contains("over TLS"));
    assert!(hears(&mut stream, "over TLS"));
    socket.send(Message::text(r#"{"type":"ping","ref":1}"#)).expect("it is open");
    loop {
        if let Message::Text(text) = socket.read().expect("a message")
            && text.contains("pong")
        {
            break;
        }
    }
    socket.close(None).expect("it is open");
    while socket.read().is_ok() {}
    drop(stream);
    eventually("both are gone", || (metric(&hub, r#"callboard_connections{wire="websocket"}"#) == 0.0).then_some(()));
}

#[actix_web::test]
async fn a_stream_works_over_http_2() {
    use futures_util::StreamExt;

    let hub = Hub::start(&config(""));
    let connector = awc::Connector::new().rustls_0_23(trusting(&[b"h2"]));
    let client = awc::Client::builder().connector(connector).disable_timeout().finish();
    let url = format!("https://localhost:{}/sse?room=r", hub.address.port());
    let mut response = client.get(url).send().await.expect("an answer");
    assert_eq!((response.status().as_u16(), response.version()), (200, Version::HTTP_2));
    let hub = tokio::task::spawn_blocking(move || {
        publish(&hub, "r", "over HTTP/2");
        hub
    });
    let mut seen = Vec::new();
    while !String::from_utf8_lossy(&seen).contains("over HTTP/2") {
        let chunk = tokio::time::timeout(PATIENCE, response.next()).await.expect("in time").expect("an event").expect("bytes");
        seen.extend_from_slice(&chunk);
    }
    drop(hub.await);
}

#[test]
fn the_streams_of_an_http_2_client_end_with_it() {
    // No comment would tell of it within the test.
    let hub = Hub::start(&config("[http]\nsse_keepalive = '1h'"));
    let ca = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/security/tls/ca.pem");
    let mut bench = std::process::Command::new(env!("CARGO_BIN_EXE_callboard"));
    bench.arg("bench").arg(format!("https://{}", hub.address)).args(["--tls-ca", ca, "--wire", "h2", "--mode", "idle", "-n", "2"]);
    let output = bench.args(["--streams", "20", "--cycles", "1", "--hold-seconds", "0.1"]).output().expect("the program starts");
    assert!(output.status.success(), "{output:?}");
    eventually("all are gone", || (metric(&hub, r#"callboard_connections{wire="sse"}"#) == 0.0).then_some(()));
    assert_eq!(metric(&hub, r#"callboard_closes_total{wire="sse",reason="gone"}"#), 40.0);
}

#[test]
fn a_client_that_never_reads_is_cut_over_tls_too() {
    let hub = Hub::start(&config("tcp_user_timeout = '1s'\nsend_buffer = '8KiB'\n[mailbox]\nconnection = 8"));
    let (_, stalled) = request(&hub, "/sse?room=r");
    let (_, mut neighbour) = request(&hub, "/sse?room=r");
    let filler = "x".repeat(60_000);
    // More than the kernel, TLS and actix hold for it together.
    for number in 0..200 {
        publish(&hub, "r", &format!("{filler}{number}"));
        assert!(hears(&mut neighbour, &format!("x{number}\"")));
    }
    eventually("the stalled one is cut", || (metric(&hub, r#"callboard_connections{wire="sse"}"#) == 1.0).then_some(()));
    publish(&hub, "r", "and the neighbour listens");
    assert!(hears(&mut neighbour, "and the neighbour listens"));
    drop(stalled);
}

#[test]
fn a_certificate_is_replaced_while_streams_go_on() {
    let directory = Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/security/tls"));
    let files = ["cert", "key"].map(|name| Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("{}-{name}.pem", std::process::id())));
    let put = |certificate: &str, key: &str| {
        fs::copy(directory.join(certificate), &files[0]).expect("a certificate");
        fs::copy(directory.join(key), &files[1]).expect("a key");
    };
    let shown = |hub: &Hub| {
        let mut stream = connect(hub);
        stream.write_all(b"GET /healthz HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n").expect("a request");
        stream.conn.peer_certificates().expect("a certificate")[0].to_vec()
    };
    let der = |name: &str| CertificateDer::from_pem_file(directory.join(name)).expect("a certificate").to_vec();
    put("first.pem", "first.key.pem");
    let config = format!("[server]\ntls = {{ cert = '{}', key = '{}' }}", files[0].display(), files[1].display());
    let hub = Hub::start(&config);
    let (_, mut stream) = request(&hub, "/sse?room=r");
    assert_eq!(shown(&hub), der("first.pem"));
    put("second.pem", "first.key.pem");
    hub.reload(&config);
    hub.wait_for_line("the key does not fit the certificate");
    assert_eq!(shown(&hub), der("first.pem"));
    put("second.pem", "second.key.pem");
    hub.reload(&config);
    hub.wait_for_line("the configuration was read again");
    assert_eq!(shown(&hub), der("second.pem"));
    publish(&hub, "r", "still here");
    assert!(hears(&mut stream, "still here"));
    files.iter().for_each(|file| fs::remove_file(file).expect("it is there"));
}

#[test]
fn the_generator_of_load_finds_no_fault_over_tls() {
    let port = free_port();
    let hub = Hub::start_with(&config(""), &[("CALLBOARD_BROKER__RESP", &format!("127.0.0.1:{port}"))]);
    let ca = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/security/tls/ca.pem");
    for wire in ["sse", "ws", "socketio"] {
        let mut bench = std::process::Command::new(env!("CARGO_BIN_EXE_callboard"));
        bench.arg("bench").arg(format!("https://{}", hub.address)).args(["--tls-ca", ca, "--wire", wire, "-n", "10", "--closed-loop"]);
        bench.args(["--seconds", "0.3", "--warm-up-seconds", "0.1", "--via", &format!("redis://127.0.0.1:{port}"), "--json"]);
        let output = bench.output().expect("the program starts");
        assert!(output.status.success(), "{wire}: {output:?}");
        let report: serde_json::Value = serde_json::from_slice(&output.stdout).expect("JSON");
        assert!(report["traffic"]["delivered"].as_u64() > Some(0), "{wire}: {report}");
    }
}
