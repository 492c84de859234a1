//! Forward auth, asked of an application that the tests play.

use std::{
    io::{BufRead, BufReader, Write},
    net::{SocketAddr, TcpListener, TcpStream},
    sync::{
        Arc, Condvar, Mutex,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    thread,
};

use serde_json::json;

use super::support::{Hub, SECRET, eventually, now, sign};

/// Answers each request by its cookie, when it may.
pub struct Application {
    address: SocketAddr,
    asked: Arc<AtomicUsize>,
    gate: Arc<(Mutex<bool>, Condvar)>,
}

impl Application {
    pub fn start(answer: fn(&str) -> String) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let this = Self {
            address: listener.local_addr().expect("an address"),
            asked: Arc::default(),
            gate: Arc::new((Mutex::new(true), Condvar::new())),
        };
        let (asked, gate) = (Arc::clone(&this.asked), Arc::clone(&this.gate));
        thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let (asked, gate) = (Arc::clone(&asked), Arc::clone(&gate));
                thread::spawn(move || serve(stream, &asked, &gate, answer));
            }
        });
        this
    }

    pub fn address(&self) -> SocketAddr {
        self.address
    }

    fn config(&self, more: &str) -> String {
        format!("[auth.forward]\nurl = 'http://{}/callboard/auth/'\n{more}", self.address)
    }

    pub fn asked(&self) -> usize {
        self.asked.load(Ordering::SeqCst)
    }

    fn open(&self, is_open: bool) {
        *self.gate.0.lock().expect("the gate") = is_open;
        self.gate.1.notify_all();
    }
}

fn serve(mut stream: TcpStream, asked: &AtomicUsize, (is_open, opened): &(Mutex<bool>, Condvar), answer: fn(&str) -> String) {
    let mut reader = BufReader::new(stream.try_clone().expect("a descriptor"));
    loop {
        let mut head = String::new();
        while !head.ends_with("\r\n\r\n") {
            if reader.read_line(&mut head).unwrap_or(0) == 0 {
                return;
            }
        }
        asked.fetch_add(1, Ordering::SeqCst);
        drop(opened.wait_while(is_open.lock().expect("the gate"), |is_open| !*is_open));
        let answer = answer(&head);
        if stream.write_all(answer.as_bytes()).is_err() || answer.contains("Connection: close") {
            return;
        }
    }
}

pub fn response(status: &str, headers: &str, body: &str) -> String {
    format!("HTTP/1.1 {status}\r\n{headers}Content-Length: {}\r\n\r\n{body}", body.len())
}

fn by_cookie(head: &str) -> String {
    let session = head.lines().find_map(|line| line.strip_prefix("cookie: session=")).unwrap_or_default();
    match session {
        "alice" => response("200 OK", "Content-Type: application/json\r\n", r#"{"user":"alice","join":["team/*"],"publish":[]}"#),
        "short" => response("200 OK", "", &json!({ "user": "short", "expires_at": now() + 4 }).to_string()),
        "headers" => response("200 OK", "X-User: bob\r\nX-Rooms: team/7, other\r\n", ""),
        // As Django's own server answers: the body ends with the connection.
        "unsized" => "HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n{\"user\":\"alice\",\"join\":[\"team/*\"]}".to_owned(),
        "cut" => "HTTP/1.1 200 OK\r\nContent-Length: 99\r\nConnection: close\r\n\r\n".to_owned(),
        "nobody" => "HTTP/1.1 204 No Content\r\n\r\n".to_owned(),
        "forbidden" => response("403 Forbidden", "", ""),
        "login" => response("302 Found", "Location: /login\r\n", ""),
        "broken" => response("500 Internal Server Error", "", r#"{"user":"alice"}"#),
        "page" => response("200 OK", "", "<html>please log in</html>"),
        _ => response("401 Unauthorized", "", ""),
    }
}

const TEAM: &str = "[[room]]\nmatch = 'team/*'\njoin = 'granted'";

#[test]
fn the_application_says_who_a_client_is() {
    let application = Application::start(by_cookie);
    let hub = Hub::start(&application.config(TEAM));
    for (session, room, status) in [
        ("alice", "team/7", 200),
        ("unsized", "team/7", 200),
        ("cut", "open", 503),
        ("headers", "team/7", 200),
        ("headers", "team/8", 403),
        ("nobody", "open", 200),
        ("nobody", "team/7", 403),
        ("forbidden", "open", 403),
        ("unknown", "open", 401),
        ("login", "open", 503),
        ("broken", "open", 503),
        ("page", "open", 503),
    ] {
        let cookie = format!("session={session}");
        let answer = hub.get(&format!("/sse?room={room}"), &[("Cookie", &cookie)]);
        assert_eq!(answer.status, status, "{session} {room}");
        if status == 503 {
            let seconds: u32 = answer.header("retry-after").expect("when to come back").parse().expect("seconds");
            assert!((1..=5).contains(&seconds));
            assert_eq!(answer.error_code(), "auth_unavailable");
        }
        let welcome = if status == 200 { 101 } else { status };
        // On a WebSocket the room is joined afterwards, so only the identity decides here.
        if room == "open" || status == 200 {
            assert_eq!(hub.handshake(&format!("/ws?room={room}"), &[("Cookie", &cookie)]).status, welcome, "{session} {room}");
        }
    }
    let before = application.asked();
    assert_eq!(hub.get("/sse", &[]).status, 200);
    assert_eq!(hub.get("/socket.io/?EIO=3&transport=polling&j=0", &[("Cookie", "session=not-asked-about-yet")]).status, 200);
    assert_eq!(application.asked(), before, "who brings nothing is not asked about, nor a script that nobody knows the page of");
}

#[test]
fn a_thousand_tabs_of_one_session_are_one_question() {
    let application = Application::start(by_cookie);
    let hub = Hub::start(&application.config("timeout = '30s'"));
    application.open(false);
    let mut streams: Vec<_> = (0..300).map(|_| hub.connect()).collect();
    for stream in &mut streams {
        stream.write_all(b"GET /sse HTTP/1.1\r\nHost: hub\r\nCookie: session=alice\r\n\r\n").expect("a request");
    }
    eventually("the question", || (application.asked() == 1).then_some(()));
    application.open(true);
    for stream in streams {
        assert_eq!(super::support::Answer::read(stream).status, 200);
    }
    assert_eq!(hub.get("/sse", &[("Cookie", "session=alice")]).status, 200);
    assert_eq!(application.asked(), 1);
    assert_eq!(hub.get("/sse", &[("Cookie", "session=headers")]).status, 200);
    assert_eq!(application.asked(), 2);
}

#[test]
fn an_application_is_asked_so_many_questions_at_a_time() {
    let application = Application::start(|_| response("200 OK", "", r#"{"user":"alice"}"#));
    let hub = Hub::start(&application.config("timeout = '30s'"));
    application.open(false);
    let mut streams: Vec<_> = (0..100).map(|_| hub.connect()).collect();
    for (number, stream) in streams.iter_mut().enumerate() {
        let request = format!("GET /sse HTTP/1.1\r\nHost: hub\r\nCookie: session={number}\r\n\r\n");
        stream.write_all(request.as_bytes()).expect("a request");
    }
    eventually("as many questions as may be", || (application.asked() == 64).then_some(()));
    assert_eq!(hub.get("/sse", &[]).status, 200, "who needs no question is not held up");
    assert_eq!(application.asked(), 64);
    application.open(true);
    for stream in streams {
        assert_eq!(super::support::Answer::read(stream).status, 200);
    }
    assert_eq!(application.asked(), 100);
}

#[test]
fn an_application_that_is_down_ends_nobody_and_lets_nobody_in() {
    let application = Application::start(by_cookie);
    let hub = Hub::start(&application.config("timeout = '3s'\ncache = '0s'"));
    let mut stream = hub.get("/sse?room=r", &[("Cookie", "session=alice")]);
    assert_eq!(stream.status, 200);
    application.open(false);
    assert_eq!(hub.get("/sse?room=r", &[("Cookie", "session=alice")]).status, 503);
    hub.publish("r", &json!("still here"));
    assert!(stream.hears("still here"));
    application.open(true);
    eventually("it is asked again", || (hub.get("/sse?room=r", &[("Cookie", "session=alice")]).status == 200).then_some(()));
}

/// The application forgets whom it knew.
#[test]
fn who_has_logged_out_is_heard_of() {
    static IS_LOGGED_IN: AtomicBool = AtomicBool::new(true);
    let application = Application::start(|head| match IS_LOGGED_IN.load(Ordering::SeqCst) {
        true => by_cookie(head),
        false => response("401 Unauthorized", "", ""),
    });
    let hub = Hub::start(&application.config("cache = '0s'\nrecheck = '1s'"));
    let alice = [("Cookie", "session=alice")];
    let mut stream = hub.get("/sse?room=r", &alice);
    let (mut socket, mut nobody) = (hub.socket_with("/ws?room=", &alice), hub.socket("/ws?room="));
    assert_eq!(socket.hear_type("welcome")["user"], "alice");
    let asked = application.asked();
    eventually("it is asked again", || (application.asked() >= asked + 4).then_some(()));
    hub.publish("r", &json!("still known"));
    assert!(stream.hears("still known"));
    IS_LOGGED_IN.store(false, Ordering::SeqCst);
    assert_eq!(socket.hear(), Err((1008, "expired".to_owned())));
    assert!(!stream.hears("an end, and nothing else"));
    nobody.hear_type("welcome");
    nobody.say(&json!({ "type": "ping", "ref": 1 }));
    nobody.hear_type("pong");
}

#[test]
fn a_signed_room_keeps_nobody_connected_who_has_logged_out() {
    static IS_LOGGED_IN: AtomicBool = AtomicBool::new(true);
    let application = Application::start(|head| match IS_LOGGED_IN.load(Ordering::SeqCst) {
        true => by_cookie(head),
        false => response("401 Unauthorized", "", ""),
    });
    let config = application
        .config(&format!("cache = '0s'\nrecheck = '1s'\n[auth]\nroom_secret = '{SECRET}'\n[[room]]\nmatch = '*'\njoin = 'granted'"));
    let hub = Hub::start(&config);
    let a_month = sign("invoice/7", now() + 30 * 86_400);
    let mut socket = hub.socket_with(&format!("/ws?signed={a_month}"), &[("Cookie", "session=alice")]);
    assert_eq!(socket.hear_type("joined")["room"], "invoice/7");
    let asked = application.asked();
    eventually("it is asked again", || (application.asked() >= asked + 2).then_some(()));
    for (kind, room, answer) in [("leave", "invoice/7", "left"), ("join", "invoice/7", "joined"), ("join", "invoice/8", "error")] {
        socket.say(&json!({ "type": kind, "room": room }));
        assert_eq!(socket.hear().expect("it is open")["type"], answer, "{kind} {room}");
    }
    IS_LOGGED_IN.store(false, Ordering::SeqCst);
    assert_eq!(socket.hear(), Err((1008, "expired".to_owned())));
}

#[test]
fn an_application_that_fails_to_say_again_ends_nobody() {
    static STATE: AtomicUsize = AtomicUsize::new(0);
    let application = Application::start(|_| match STATE.load(Ordering::SeqCst) {
        0 => response("200 OK", "", r#"{"user":"alice"}"#),
        1 => response("500 Internal Server Error", "", ""),
        2 => response("200 OK", "", r#"{"user":"alice","join":["team/*"]}"#),
        _ => response("200 OK", "", r#"{"user":"mallory"}"#),
    });
    let hub = Hub::start(&application.config(&format!("cache = '0s'\nrecheck = '1s'\n{TEAM}")));
    let alice = [("Cookie", "session=alice")];
    let mut socket = hub.socket_with("/ws?room=", &alice);
    let mut joins = |expected: &str| {
        eventually("the answer of the rule", || {
            socket.say(&json!({ "type": "join", "room": "team/7", "ref": 1 }));
            let answer = loop {
                let answer = socket.hear().expect("it is open");
                if answer["ref"] == 1 {
                    break answer;
                }
            };
            (answer["type"] == expected).then_some(())
        });
    };
    joins("error");
    STATE.store(1, Ordering::SeqCst);
    application.open(false);
    let asked = application.asked();
    eventually("it is asked in vain", || (application.asked() > asked).then_some(()));
    application.open(true);
    eventually("it fails", || (application.asked() > asked + 2).then_some(()));
    assert_eq!(hub.get("/sse", &alice).status, 503, "and lets nobody in");
    joins("error");
    STATE.store(2, Ordering::SeqCst);
    joins("joined");
    STATE.store(3, Ordering::SeqCst);
    while socket.hear().is_ok() {}
}

#[test]
fn what_the_application_limits_in_time_ends() {
    let application = Application::start(by_cookie);
    let hub = Hub::start(&application.config(""));
    let mut stream = hub.get("/sse", &[("Cookie", "session=short")]);
    assert_eq!(stream.status, 200);
    assert!(!stream.hears("an end, and nothing else"));
}
