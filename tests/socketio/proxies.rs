//! The proxies of docs/operations/several-nodes.md in front of two nodes on one Redis, with the very text of the document but
//! for addresses and ports.

use std::{fs, net::SocketAddr, process::Command};

use super::{
    clients::{client, succeeds},
    shared::{
        eventually, free_port,
        hub::{Hub, Process, Setup},
        redis::Redis,
        sse::Stream,
        unique_dir, websocket,
    },
};

/// Source addresses: enough that each node is somebody's.
const ADDRESSES: u8 = 16;

/// The block of this language in the document.
fn documented(language: &str) -> String {
    let document = fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/docs/operations/several-nodes.md")).expect("the document");
    let block = document.split(&format!("```{language}\n")).nth(1).and_then(|rest| rest.split("```").next());
    block.unwrap_or_else(|| panic!("no block of {language}")).to_owned()
}

fn replaced(text: &str, changes: &[(&str, &str)]) -> String {
    changes.iter().fold(text.to_owned(), |text, (old, new)| {
        assert_eq!(text.matches(old).count(), 1, "{old:?} stands once in the document");
        text.replace(old, new)
    })
}

struct Site {
    nodes: [Hub; 2],
    _proxy: Process,
    address: SocketAddr,
    _redis: Redis,
}

impl Site {
    /// `start` is given the nodes and the port to listen on.
    fn start(start: impl Fn([&str; 2], u16) -> Command) -> Self {
        let redis = Redis::start();
        let node = || {
            let setup = Setup::new("[socketio]\nmax_payload = \"4MB\"\n[http]\nclient_rate = \"500/s\"");
            setup.variable("REDIS_URL", &redis.url()).start()
        };
        let nodes = [node(), node()];
        let [one, two] = nodes.each_ref().map(|node| node.address.to_string());
        let port = free_port();
        let address = SocketAddr::from(([127, 0, 0, 1], port));
        let mut proxy = Process::spawn(start([&one, &two], port));
        eventually("the proxy listens", || {
            assert!(proxy.is_running(), "it ended: {}", proxy.log());
            std::net::TcpStream::connect(address).ok()
        });
        Self { nodes, _proxy: proxy, address, _redis: redis }
    }

    fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// With real clients, whose events are published at the one node and at the other.
    fn serves_every_client(&self) {
        for (number, (package, transports)) in ["sioc4", "sioc2", "python"]
            .into_iter()
            .flat_map(|package| ["polling", "websocket", "polling,websocket"].map(|by| (package, by)))
            .enumerate()
        {
            let mut command = client(package, "page", &self.url(), transports);
            command.arg(format!("http://{}", self.nodes[number % 2].address));
            succeeds(command);
        }
        let mut legacy = client("sioc0", "page", &self.url(), "xhr-polling");
        succeeds({
            legacy.arg(format!("http://{}", self.nodes[0].address));
            legacy
        });
    }

    /// Clients of many addresses: each finds its session again, and both nodes have some.
    fn keeps_sessions_together(&self) {
        let ask = |address: u8, path: &str| {
            let from = format!("127.0.0.{address}");
            let output = Command::new("curl").args(["--silent", "--fail", "--interface", &from, &format!("{}{path}", self.url())]).output();
            let output = output.expect("curl: ./scripts/test installs it");
            assert!(output.status.success(), "{path} from {from}");
            String::from_utf8(output.stdout).expect("text")
        };
        for address in 1..=ADDRESSES {
            let opened = ask(address, "/socket.io/?EIO=3&transport=polling&b64=1");
            let sid = opened.split("\"sid\":\"").nth(1).and_then(|rest| rest.split('"').next()).expect("an id");
            assert_eq!(ask(address, &format!("/socket.io/?EIO=3&transport=polling&b64=1&sid={sid}")), "2:40");
        }
        for node in &self.nodes {
            assert!(node.metric(r#"callboard_connections{wire="socketio"}"#) > 0.0, "no address came to {}", node.address);
        }
    }

    /// What the other wires need of a proxy: events at once, and frames.
    fn streams(&self) {
        let mut stream = Stream::open(self.address, "/sse?room=proxied");
        let mut socket = websocket::Socket::open(self.address, "/ws?room=proxied");
        socket.expect("welcome");
        socket.expect("joined");
        for (number, node) in self.nodes.iter().enumerate() {
            node.publish(&format!(r#"{{"room":"proxied","event":"e","data":{number}}}"#));
            assert_eq!(stream.next().expect("an event").data, number.to_string());
            assert_eq!(socket.expect("event")["data"], number);
        }
    }
}

fn nginx() -> Site {
    Site::start(|[one, two], port| {
        let directory = unique_dir("nginx");
        let listen = format!("listen 127.0.0.1:{port};");
        let site = replaced(&documented("nginx"), &[("10.0.0.1:8080", one), ("10.0.0.2:8080", two), ("listen 80;", &listen)]);
        let temporary: String =
            ["client_body", "proxy", "fastcgi", "uwsgi", "scgi"].map(|name| format!("{name}_temp_path {name};\n")).concat();
        let global = "daemon off;\nmaster_process off;\npid nginx.pid;\nerror_log stderr;\nevents {}\n";
        let config = directory.join("nginx.conf");
        fs::write(&config, format!("{global}http {{\naccess_log off;\n{temporary}{site}}}\n")).expect("a configuration");
        let mut command = Command::new("nginx");
        command.arg("-p").arg(&directory).arg("-c").arg(config).args(["-e", "stderr"]);
        command
    })
}

fn haproxy() -> Site {
    Site::start(|[one, two], port| {
        let bind = format!("bind 127.0.0.1:{port}");
        let text = replaced(&documented("haproxy"), &[("10.0.0.1:8080", one), ("10.0.0.2:8080", two), ("bind :80", &bind)]);
        let config = unique_dir("haproxy").join("haproxy.cfg");
        fs::write(&config, text).expect("a configuration");
        let mut command = Command::new("haproxy");
        command.arg("-db").arg("-f").arg(config);
        command
    })
}

#[test]
fn nginx_as_documented_carries_every_client() {
    let site = nginx();
    site.streams();
    site.keeps_sessions_together();
    site.serves_every_client();
}

#[test]
fn haproxy_as_documented_carries_every_client() {
    let site = haproxy();
    site.streams();
    site.keeps_sessions_together();
    site.serves_every_client();
}
