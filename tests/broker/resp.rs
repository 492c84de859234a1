//! The RESP listener over a real loopback socket: what each command is answered, in which order, and what each bound does.

use std::{cell::RefCell, future::Future, net::SocketAddr, rc::Rc, time::Duration};

use bytes::Bytes;
use callboard::broker::resp::{Options, PublishError, Sink, serve};
use proptest::{
    prelude::*,
    test_runner::{Config, TestRunner},
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    task::{JoinHandle, LocalSet},
};

/// Remembers what was published and answers how many publications it has.
#[derive(Clone, Default)]
pub struct Recorder {
    pub published: Rc<RefCell<Vec<(String, Bytes)>>>,
}

impl Sink for Recorder {
    async fn publish(&self, channel: &str, payload: Bytes) -> Result<u64, PublishError> {
        match channel {
            "busy" => return Err(PublishError::Busy),
            "refused" => return Err(PublishError::Refused("no such\r\nroom".into())),
            _ => {}
        }
        let mut published = self.published.borrow_mut();
        published.push((channel.to_owned(), payload));
        Ok(published.len() as u64)
    }
}

/// A listener on a free port, ended when dropped.
pub struct Broker {
    pub addr: SocketAddr,
    pub sink: Recorder,
    task: JoinHandle<()>,
}

impl Drop for Broker {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Broker {
    pub async fn start(options: Options) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let addr = listener.local_addr().unwrap();
        let sink = Recorder::default();
        let task = tokio::task::spawn_local(serve(listener, options, sink.clone()));
        Self { addr, sink, task }
    }

    async fn connect(&self) -> TcpStream {
        let stream = TcpStream::connect(self.addr).await.unwrap();
        stream.set_nodelay(true).unwrap();
        stream
    }

    /// All that is answered to `input` when nothing follows it.
    async fn exchange(&self, input: &[u8]) -> String {
        let mut stream = self.connect().await;
        // A refused peer may be cut while it still writes.
        let _ = stream.write_all(input).await;
        let _ = stream.shutdown().await;
        rest(stream).await
    }
}

async fn rest(mut stream: TcpStream) -> String {
    let mut output = Vec::new();
    stream.read_to_end(&mut output).await.unwrap();
    String::from_utf8(output).unwrap()
}

async fn expect(stream: &mut TcpStream, expected: &str) {
    let mut output = vec![0; expected.len()];
    stream.read_exact(&mut output).await.unwrap();
    assert_eq!(String::from_utf8_lossy(&output), expected);
}

pub fn run<F: Future<Output = ()>>(test: F) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    LocalSet::new().block_on(&runtime, test);
}

/// With the clock stopped, waiting for the broker's time-outs takes no time.
fn run_without_waiting<F: Future<Output = ()>>(test: F) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().start_paused(true).build().unwrap();
    LocalSet::new().block_on(&runtime, test);
}

fn command(words: &[&str]) -> String {
    let bulks: String = words.iter().map(|word| format!("${}\r\n{word}\r\n", word.len())).collect();
    format!("*{}\r\n{bulks}", words.len())
}

const NOT_REDIS: &str = "this is Callboard's embedded broker, not Redis";

#[test]
fn every_command_is_answered_as_redis_would_or_says_that_this_is_not_redis() {
    run(async {
        let unknown =
            |name: &str| format!("-ERR unknown command '{name}': {NOT_REDIS}; it takes PUBLISH. For a full Redis set [broker] url\r\n");
        let subscribe = |name: &str| format!("-ERR '{name}': {NOT_REDIS}; it takes PUBLISH. Browsers subscribe over SSE or WebSocket\r\n");
        let arity = |name: &str| format!("-ERR wrong number of arguments for '{name}' command\r\n");
        let ok = "+OK\r\n".to_owned();
        let cases: Vec<(&[&str], String)> = vec![
            (&["PUBLISH", "room", "hello"], ":1\r\n".into()),
            (&["publish", "room", ""], ":1\r\n".into()),
            (&["SPUBLISH", "room", "hello"], ":1\r\n".into()),
            (&["PUBLISH", "room"], arity("publish")),
            (&["PUBLISH", "busy", "x"], "-ERR the hub is busy, publish again later\r\n".into()),
            (&["PUBLISH", "refused", "x"], "-ERR no such  room\r\n".into()),
            (&["PING"], "+PONG\r\n".into()),
            (&["PING", "you there"], "$9\r\nyou there\r\n".into()),
            (&["PING", "a", "b"], arity("ping")),
            (&["ECHO", "x"], "$1\r\nx\r\n".into()),
            (&["SELECT", "3"], ok.clone()),
            (&["SELECT", "zero"], "-ERR value is not an integer or out of range\r\n".into()),
            (&["CLIENT", "SETNAME", "worker-1"], ok.clone()),
            (&["CLIENT", "SETNAME", "worker 1"], "-ERR Client names cannot contain spaces, newlines or special characters.\r\n".into()),
            (&["CLIENT", "SETINFO", "LIB-NAME", "redis-py"], ok.clone()),
            (&["CLIENT", "GETNAME"], "$-1\r\n".into()),
            (&["CLIENT", "ID"], ":*\r\n".into()),
            (&["CLIENT", "NO-EVICT", "on"], ok.clone()),
            (&["CLIENT", "NO-TOUCH", "on"], ok),
            (&["CLIENT", "TRACKING", "ON"], format!("-ERR unknown subcommand 'TRACKING' of 'CLIENT': {NOT_REDIS}\r\n")),
            (&["COMMAND"], "*0\r\n".into()),
            (&["COMMAND", "DOCS"], "*0\r\n".into()),
            (&["COMMAND", "COUNT"], ":0\r\n".into()),
            (&["CONFIG", "GET", "maxmemory"], "*0\r\n".into()),
            (&["CONFIG", "SET", "maxmemory", "1"], format!("-ERR unknown subcommand 'SET' of 'CONFIG': {NOT_REDIS}\r\n")),
            (&["AUTH", "x"], "-ERR AUTH <password> called without any password configured for the default user. Are you sure your configuration is correct?\r\n".into()),
            (&["AUTH", "default", "any"], "+OK\r\n".into()),
            (&["HELLO", "x"], "-ERR Protocol version is not an integer or out of range\r\n".into()),
            (&["HELLO", "4"], "-NOPROTO unsupported protocol version\r\n".into()),
            (&["HELLO", "3", "SETNAME"], "-ERR Syntax error in HELLO option 'SETNAME'\r\n".into()),
            (&["RESET"], "+RESET\r\n".into()),
            (&["QUIT"], "+OK\r\n".into()),
            (&["EXEC"], "-ERR EXEC without MULTI\r\n".into()),
            (&["DISCARD"], "-ERR DISCARD without MULTI\r\n".into()),
            (&["GET", "key"], unknown("GET")),
            (&["g\r\nt"], unknown("g??t")),
            (&["SUBSCRIBE", "room"], subscribe("SUBSCRIBE")),
            (&["psubscribe", "*"], subscribe("psubscribe")),
        ];
        for (words, expected) in cases {
            // A broker each: the recorder counts from one.
            let broker = Broker::start(Options::default()).await;
            let answer = broker.exchange(command(words).as_bytes()).await;
            match expected.split_once('*').filter(|(head, _)| *head == ":") {
                Some(_) => assert!(answer.starts_with(':'), "{words:?}: {answer}"),
                None => assert_eq!(answer, expected, "{words:?}"),
            }
        }
    });
}

#[test]
fn a_command_cut_at_any_byte_is_the_same_command() {
    run(async {
        let broker = Broker::start(Options::default()).await;
        let input = [command(&["PUBLISH", "room", "multi\r\nline"]), "PUBLISH room 'as typed'\r\n".into(), command(&["PING"])].concat();
        for cut in 1..input.len() {
            let before = broker.sink.published.borrow().len();
            let mut stream = broker.connect().await;
            stream.write_all(&input.as_bytes()[..cut]).await.unwrap();
            // The broker runs and reads the first part before the second is sent.
            for _ in 0..8 {
                tokio::task::yield_now().await;
            }
            stream.write_all(&input.as_bytes()[cut..]).await.unwrap();
            stream.shutdown().await.unwrap();
            assert_eq!(rest(stream).await, format!(":{}\r\n:{}\r\n+PONG\r\n", before + 1, before + 2), "cut at {cut}");
            let published = broker.sink.published.borrow()[before..].to_vec();
            assert_eq!(published, [("room".into(), "multi\r\nline".into()), ("room".into(), "as typed".into())], "cut at {cut}");
        }
    });
}

#[test]
fn a_long_pipeline_is_answered_in_order() {
    run(async {
        let broker = Broker::start(Options::default()).await;
        let count = 20_000;
        let (mut input, mut expected) = (String::new(), String::new());
        for number in 1..=count {
            input += &command(&["PUBLISH", "room", &number.to_string()]);
            expected += &format!(":{number}\r\n");
        }
        let (mut reader, mut writer) = broker.connect().await.into_split();
        let write = async move {
            writer.write_all(input.as_bytes()).await.unwrap();
            writer.shutdown().await.unwrap();
        };
        let mut output = String::new();
        let (_, read) = tokio::join!(write, reader.read_to_string(&mut output));
        read.unwrap();
        assert!(output == expected, "replies are out of order or missing");
        let published = broker.sink.published.borrow();
        assert!(published.iter().enumerate().all(|(index, (_, payload))| payload == &(index + 1).to_string()));
    });
}

#[test]
fn a_peer_that_takes_no_replies_is_not_read_from_and_in_the_end_is_cut() {
    run_without_waiting(async {
        let broker = Broker::start(Options::default()).await;
        let mut stream = broker.connect().await;
        let echo = command(&["ECHO", &"x".repeat(60_000)]);
        let mut sent = 0;
        // Ends by an error once the broker has cut the connection; until then only the kernel's buffers take anything.
        while stream.write_all(echo.as_bytes()).await.is_ok() {
            sent += echo.len();
            assert!(sent < 256 << 20, "the broker buffers replies without bound");
        }
    });
}

#[test]
fn half_a_command_may_not_be_held_for_ever_but_an_idle_connection_may() {
    run_without_waiting(async {
        let broker = Broker::start(Options::default()).await;
        let mut half = broker.connect().await;
        let mut idle = broker.connect().await;
        half.write_all(b"*3\r\n$7\r\nPUBL").await.unwrap();
        assert_eq!(rest(half).await, "");
        tokio::time::advance(Duration::from_secs(30 * 24 * 3600)).await;
        idle.write_all(b"PING\r\n").await.unwrap();
        expect(&mut idle, "+PONG\r\n").await;
    });
}

#[test]
fn hello_changes_the_protocol_from_its_own_reply_on() {
    run(async {
        let broker = Broker::start(Options::default()).await;
        let input = [command(&["HELLO", "2"]), command(&["CLIENT", "GETNAME"])].concat();
        let version2 = broker.exchange(input.as_bytes()).await;
        // node-redis reads RESP2's reply by position.
        assert!(version2.starts_with("*14\r\n$6\r\nserver\r\n$9\r\ncallboard\r\n$7\r\nversion\r\n"), "{version2}");
        assert!(version2.contains("$5\r\nproto\r\n:2\r\n$2\r\nid\r\n:") && version2.ends_with("$-1\r\n"), "{version2}");

        let input = [command(&["HELLO", "3"]), command(&["CLIENT", "GETNAME"]), command(&["CONFIG", "GET", "x"])].concat();
        let version3 = broker.exchange(input.as_bytes()).await;
        assert!(version3.starts_with("%7\r\n") && version3.contains("$5\r\nproto\r\n:3\r\n"), "{version3}");
        assert!(version3.ends_with("_\r\n%0\r\n"), "{version3}");
    });
}

#[test]
fn without_the_password_nothing_but_authentication_is_taken() {
    run(async {
        let broker = Broker::start(Options { password: Some("secret".into()), ..Options::default() }).await;
        let noauth = "-NOAUTH Authentication required.\r\n";
        let wrong = "-WRONGPASS invalid username-password pair or user is disabled.\r\n";
        for words in [&["PUBLISH", "room", "x"][..], &["PING"], &["GET", "x"], &["MULTI"], &["CLIENT", "SETNAME", "x"], &["COMMAND"]] {
            assert_eq!(broker.exchange(command(words).as_bytes()).await, noauth, "{words:?}");
        }
        for words in [
            &["AUTH", "secre"][..],
            &["AUTH", "secret2"],
            &["AUTH", ""],
            &["AUTH", "other", "secret"],
            &["HELLO", "3", "AUTH", "default", "no"],
        ] {
            let input = [command(words), command(&["PUBLISH", "room", "x"])].concat();
            assert_eq!(broker.exchange(input.as_bytes()).await, format!("{wrong}{noauth}"), "{words:?}");
        }
        assert!(broker.exchange(command(&["HELLO", "3"]).as_bytes()).await.starts_with("-NOAUTH HELLO must be called"));
        assert!(broker.sink.published.borrow().is_empty());

        for words in [&["AUTH", "secret"][..], &["AUTH", "default", "secret"], &["HELLO", "2", "AUTH", "default", "secret", "SETNAME", "w"]]
        {
            let input = [command(words), command(&["PUBLISH", "room", "x"]), command(&["RESET"]), command(&["PING"])].concat();
            let count = broker.sink.published.borrow().len() + 1;
            let answer = broker.exchange(input.as_bytes()).await;
            assert!(answer.ends_with(&format!(":{count}\r\n+RESET\r\n{noauth}")), "{words:?}: {answer}");
        }
    });
}

#[test]
fn without_the_password_only_little_may_be_sent() {
    run(async {
        let broker = Broker::start(Options { password: Some("secret".into()), ..Options::default() }).await;
        for (input, bound) in [("*11\r\n", "invalid multibulk length"), ("*2\r\n$4\r\nAUTH\r\n$16385\r\n", "invalid bulk length")] {
            let answer = broker.exchange(input.as_bytes()).await;
            assert!(answer.starts_with(&format!("-ERR Protocol error: {bound}")), "{answer}");
        }
        // In one pipeline, the bounds widen with the AUTH before.
        let input = [command(&["AUTH", "secret"]), command(&["PUBLISH", "room", &"x".repeat(20_000)])].concat();
        assert_eq!(broker.exchange(input.as_bytes()).await, "+OK\r\n:1\r\n");
    });
}

#[test]
fn multi_queues_until_exec_and_an_error_among_the_queued_aborts_all() {
    run(async {
        let broker = Broker::start(Options::default()).await;
        let input = |lines: &[&str]| lines.join("\r\n") + "\r\n";
        let cases = [
            (
                input(&["MULTI", "PUBLISH a 1", "PUBLISH busy x", "PING", "EXEC"]),
                "+OK\r\n+QUEUED\r\n+QUEUED\r\n+QUEUED\r\n*3\r\n:1\r\n-ERR the hub is busy, publish again later\r\n+PONG\r\n",
                1,
            ),
            (input(&["MULTI", "PUBLISH a 2", "DISCARD", "PING"]), "+OK\r\n+QUEUED\r\n+OK\r\n+PONG\r\n", 1),
            (input(&["MULTI", "MULTI", "EXEC"]), "+OK\r\n-ERR MULTI calls can not be nested\r\n*0\r\n", 1),
            (
                input(&["MULTI", "PUBLISH a 2", "PUBLISH a", "PUBLISH a 3", "EXEC", "PING"]),
                "+OK\r\n+QUEUED\r\n-ERR wrong number of arguments for 'publish' command\r\n+QUEUED\r\n-EXECABORT Transaction discarded because of previous errors.\r\n+PONG\r\n",
                1,
            ),
            (
                input(&["MULTI", "AUTH default x", "EXEC"]),
                "+OK\r\n-ERR Command not allowed inside a transaction\r\n-EXECABORT Transaction discarded because of previous errors.\r\n",
                1,
            ),
            (input(&["MULTI", "PUBLISH a 2", "RESET", "EXEC"]), "+OK\r\n+QUEUED\r\n+RESET\r\n-ERR EXEC without MULTI\r\n", 1),
        ];
        for (input, expected, published) in cases {
            assert_eq!(broker.exchange(input.as_bytes()).await, expected, "{input}");
            assert_eq!(broker.sink.published.borrow().len(), published, "{input}");
        }
    });
}

#[test]
fn what_is_too_large_is_refused_by_its_header_and_the_peer_reads_why() {
    run(async {
        let broker = Broker::start(Options { max_payload: 1_000, ..Options::default() }).await;
        let bounds = [
            ("*1025\r\n".to_owned(), "-ERR Protocol error: invalid multibulk length: 1025 arguments, this broker takes 1024\r\n"),
            (
                "*3\r\n$7\r\nPUBLISH\r\n$1\r\na\r\n$1001\r\n".to_owned(),
                "-ERR Protocol error: invalid bulk length: 1001 bytes, this broker takes 1000\r\n",
            ),
            ("*1\r\n$1073741824\r\n".to_owned(), "-ERR Protocol error: invalid bulk length: 1073741824 bytes, this broker takes 1000\r\n"),
            ("x".repeat(65_537), "-ERR Protocol error: too big inline request: more than 65536 bytes\r\n"),
            ("PUBLISH a \"b\r\n".to_owned(), "-ERR Protocol error: unbalanced quotes in request\r\n"),
            ("*1\r\n:1\r\n".to_owned(), "-ERR Protocol error: expected '$', got ':'\r\n"),
        ];
        for (input, expected) in bounds {
            // What came before is answered, what comes behind is not read.
            let input = format!("PING\r\n{input}{}", "PING\r\n".repeat(100_000));
            assert_eq!(broker.exchange(input.as_bytes()).await, format!("+PONG\r\n{expected}"));
        }
        let largest = command(&["PUBLISH", "a", &"x".repeat(1_000)]);
        assert_eq!(broker.exchange(largest.as_bytes()).await, ":1\r\n");
        let arguments = command(&["x"; 1_024]);
        assert!(broker.exchange(arguments.as_bytes()).await.starts_with("-ERR unknown command 'x'"));
    });
}

#[test]
fn a_browser_that_was_lured_here_publishes_nothing_and_learns_nothing() {
    run(async {
        let broker = Broker::start(Options::default()).await;
        for head in ["GET / HTTP/1.1\r\n", "POST / HTTP/1.1\r\nHost: localhost:6380\r\n", "PUT /x HTTP/1.0\r\n", "Host: a\r\n"] {
            let mut stream = broker.connect().await;
            stream.write_all(head.as_bytes()).await.unwrap();
            let mut output = Vec::new();
            let _ = stream.write_all(b"\r\nPUBLISH room stolen\r\n").await;
            let _ = stream.read_to_end(&mut output).await;
            assert_eq!(output, b"", "{head}");
        }
        assert!(broker.sink.published.borrow().is_empty());
    });
}

#[test]
fn a_channel_that_is_not_text_is_refused_and_a_payload_may_be_any_bytes() {
    run(async {
        let broker = Broker::start(Options::default()).await;
        assert_eq!(broker.exchange(b"*3\r\n$7\r\nPUBLISH\r\n$1\r\n\xff\r\n$1\r\nx\r\n").await, "-ERR channel is not UTF-8\r\n");
        assert_eq!(broker.exchange(b"*3\r\n$7\r\nPUBLISH\r\n$1\r\na\r\n$3\r\n\xff\0\n\r\n").await, ":1\r\n");
        assert_eq!(broker.sink.published.borrow()[0].1, &b"\xff\0\n"[..]);
    });
}

#[test]
fn one_connection_too_many_is_told_so_and_a_freed_place_is_given_again() {
    run(async {
        let broker = Broker::start(Options { max_connections: 2, ..Options::default() }).await;
        let (mut first, mut second) = (broker.connect().await, broker.connect().await);
        for stream in [&mut first, &mut second] {
            stream.write_all(b"PING\r\n").await.unwrap();
            expect(stream, "+PONG\r\n").await;
        }
        assert_eq!(rest(broker.connect().await).await, "-ERR max number of clients reached\r\n");
        first.write_all(b"QUIT\r\n").await.unwrap();
        expect(&mut first, "+OK\r\n").await;
        drop(first);
        // Until the broker has seen the close, a newcomer is turned away, perhaps by a reset as it has already written.
        loop {
            let mut third = broker.connect().await;
            let mut answer = [0; 7];
            if third.write_all(b"PING\r\n").await.is_ok() && third.read_exact(&mut answer).await.is_ok() && &answer == b"+PONG\r\n" {
                break;
            }
        }
        second.write_all(b"PING\r\n").await.unwrap();
        expect(&mut second, "+PONG\r\n").await;
    });
}

#[test]
fn dropping_the_listener_ends_its_connections() {
    run(async {
        let broker = Broker::start(Options::default()).await;
        let mut stream = broker.connect().await;
        stream.write_all(b"PING\r\n").await.unwrap();
        expect(&mut stream, "+PONG\r\n").await;
        drop(broker);
        assert_eq!(rest(stream).await, "");
    });
}

#[test]
fn random_bytes_harm_neither_the_broker_nor_the_next_publisher() {
    let bytes = prop::collection::vec(
        prop_oneof![
            prop::collection::vec(any::<u8>(), 0..64),
            prop::sample::select(vec![
                "*3\r\n$7\r\nPUBLISH\r\n",
                "*",
                "$5\r\n",
                "\r\n",
                "MULTI\r\n",
                "EXEC\r\n",
                "HELLO 3\r\n",
                "\"",
                "*99999999\r\n"
            ])
            .prop_map(|text| text.as_bytes().to_vec()),
        ],
        0..32,
    );
    TestRunner::new(Config { cases: 64, failure_persistence: None, ..Config::default() })
        .run(&bytes, |pieces| {
            run(async move {
                let broker = Broker::start(Options::default()).await;
                let mut stream = broker.connect().await;
                let _ = stream.write_all(&pieces.concat()).await;
                let _ = stream.shutdown().await;
                let mut output = Vec::new();
                let _ = stream.read_to_end(&mut output).await;
                assert_eq!(broker.exchange(b"PING\r\n").await, "+PONG\r\n");
            });
            Ok(())
        })
        .unwrap();
}
