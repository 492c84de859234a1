//! A Redis Cluster of the test's own: three primaries, each with a replica, that fail over within six seconds.

use std::process::{Command, Stdio};

use super::{eventually, free_port, hub::Process, publisher::Publisher, unique_dir};

/// What the cluster waits for before it calls a node dead, in milliseconds: more than a busy machine keeps a living one waiting.
const NODE_TIMEOUT: &str = "3000";
const PRIMARIES: usize = 3;
const SLOTS: usize = 16_384;

/// What signed its certificate, where it has one.
pub const AUTHORITY: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/security/tls/ca.pem");
const CERTIFICATE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/security/tls/first.pem");
const KEY: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/security/tls/first.key.pem");
const MANUAL: &str = include_str!("../../docs/operations/redis.md");

pub struct Cluster {
    /// The primaries, then a replica of each. `None` where one was killed.
    nodes: Vec<Option<Process>>,
    pub ports: Vec<u16>,
    /// Where it speaks TLS, among its nodes too, and takes the user of the manual.
    secured: Option<Vec<u16>>,
}

/// One command, in redis-cli's words; follows redirections where `-c` is among them.
pub fn cli(port: u16, words: &[&str]) -> String {
    let mut command = Command::new("redis-cli");
    command.args(["-h", "127.0.0.1", "-p", &port.to_string()]).args(words).stdin(Stdio::null());
    let output = command.output().expect("redis-cli, which comes with redis-server");
    String::from_utf8_lossy(&output.stdout).trim_end().to_owned()
}

impl Cluster {
    pub fn start() -> Self {
        (0..5).find_map(|_| Self::try_start(false)).expect("free ports in five attempts")
    }

    /// With TLS and the users of the manual. Its tests go in by plain ports, as the administrator.
    pub fn start_secured() -> Self {
        (0..5).find_map(|_| Self::try_start(true)).expect("free ports in five attempts")
    }

    fn try_start(is_secured: bool) -> Option<Self> {
        let all: Vec<u16> = (0..6 * PRIMARIES).map(|_| free_port()).collect();
        let (ports, rest) = all.split_at(2 * PRIMARIES);
        let (buses, secured) = rest.split_at(2 * PRIMARIES);
        let secured = is_secured.then(|| secured.to_vec());
        let start = |node: usize| start_node(ports[node], buses[node], secured.as_ref().map(|secured| secured[node]));
        let mut nodes: Vec<_> = (0..ports.len()).map(start).collect();
        let are_up = nodes.iter_mut().zip(ports).all(|(node, port)| {
            eventually("a node answers", || match node.is_running() {
                false => Some(false),
                true => (cli(*port, &["PING"]) == "PONG").then_some(true),
            })
        });
        let cluster = Self { nodes: nodes.into_iter().map(Some).collect(), ports: ports.to_vec(), secured };
        are_up.then(|| {
            cluster.join(buses);
            cluster
        })
    }

    fn join(&self, buses: &[u16]) {
        for (number, port) in self.ports.iter().enumerate() {
            cli(*port, &["CLUSTER", "SET-CONFIG-EPOCH", &(number + 1).to_string()]);
            if number < PRIMARIES {
                let (first, last) = (SLOTS * number / PRIMARIES, SLOTS * (number + 1) / PRIMARIES - 1);
                assert_eq!(cli(*port, &["CLUSTER", "ADDSLOTSRANGE", &first.to_string(), &last.to_string()]), "OK");
            }
        }
        self.let_in();
        for (port, bus) in self.secured.as_ref().unwrap_or(&self.ports).iter().zip(buses).skip(1) {
            assert_eq!(cli(self.ports[0], &["CLUSTER", "MEET", "127.0.0.1", &port.to_string(), &bus.to_string()]), "OK");
        }
        for port in &self.ports {
            eventually("all nodes know each other", || (cli(*port, &["CLUSTER", "INFO"]).contains("cluster_known_nodes:6")).then_some(()));
        }
        for replica in PRIMARIES..2 * PRIMARIES {
            let primary = self.id(replica - PRIMARIES);
            eventually("a replica has its primary", || {
                (cli(self.ports[replica], &["CLUSTER", "REPLICATE", &primary]) == "OK").then_some(())
            });
        }
        for (number, port) in self.ports.iter().enumerate() {
            eventually("the cluster is up", || {
                let is_up = cli(*port, &["CLUSTER", "INFO"]).contains("cluster_state:ok");
                let follows = number < PRIMARIES || cli(*port, &["INFO", "replication"]).contains("master_link_status:up");
                // A primary that has not heard of its replica has nobody to hand over to.
                let nodes = cli(*port, &["CLUSTER", "NODES"]);
                (is_up && follows && nodes.lines().filter(|line| line.contains("slave")).count() == PRIMARIES).then_some(())
            });
        }
    }

    /// Makes the user of the manual on each node, in its words.
    fn let_in(&self) {
        let recipe = MANUAL.lines().filter(|line| line.starts_with("ACL SETUSER callboard "));
        for line in recipe.filter(|_| self.secured.is_some()) {
            let words: Vec<_> = line.split(' ').collect();
            self.ports.iter().for_each(|port| assert_eq!(cli(*port, &words), "OK", "{line}"));
        }
    }

    pub fn url(&self) -> String {
        let seeds = |ports: &[u16]| ports.iter().map(|port| format!("127.0.0.1:{port}")).collect::<Vec<_>>().join(",");
        match &self.secured {
            None => format!("redis-cluster://{}", seeds(&self.ports)),
            Some(secured) => format!("rediss-cluster://callboard:choose-a-password@{}", seeds(secured)),
        }
    }

    pub fn id(&self, node: usize) -> String {
        cli(self.ports[node], &["CLUSTER", "MYID"])
    }

    pub fn slot(&self, name: &str) -> usize {
        let running = self.nodes.iter().position(Option::is_some).expect("a node that runs");
        cli(self.ports[running], &["CLUSTER", "KEYSLOT", name]).parse().expect("a slot")
    }

    /// The primary of a name, as the cluster was built.
    pub fn home(&self, name: &str) -> usize {
        (0..PRIMARIES).rfind(|number| SLOTS * number / PRIMARIES <= self.slot(name)).expect("a primary")
    }

    /// A name of this form that this primary has.
    pub fn name_at(&self, home: usize, form: impl Fn(usize) -> String) -> usize {
        (0..).find(|number| self.home(&form(*number)) == home).expect("there are enough numbers")
    }

    pub fn publisher(&self, node: usize) -> Publisher {
        Publisher::connect(self.ports[node])
    }

    /// `kill -9`.
    pub fn kill(&mut self, node: usize) {
        self.nodes[node] = None;
    }

    /// Makes a primary hand over to its replica, both alive.
    pub fn fail_over(&self, primary: usize) {
        let replica = self.ports[primary + PRIMARIES];
        assert_eq!(cli(replica, &["CLUSTER", "FAILOVER"]), "OK");
        eventually("the replica is the primary", || cli(replica, &["ROLE"]).starts_with("master").then_some(()));
    }

    /// Moves a slot and its keys, as redis-cli's reshard does.
    pub fn migrate(&self, slot: usize, from: usize, to: usize) {
        let (slot, ids) = (slot.to_string(), [self.id(from), self.id(to)]);
        let set = |node: usize, words: &[&str]| assert_eq!(cli(self.ports[node], &[&["CLUSTER", "SETSLOT", &slot], words].concat()), "OK");
        set(to, &["IMPORTING", &ids[0]]);
        set(from, &["MIGRATING", &ids[1]]);
        loop {
            let keys = cli(self.ports[from], &["CLUSTER", "GETKEYSINSLOT", &slot, "100"]);
            let keys: Vec<_> = keys.lines().filter(|key| !key.is_empty()).collect();
            if keys.is_empty() {
                break;
            }
            let port = self.secured.as_ref().unwrap_or(&self.ports)[to].to_string();
            let moved = cli(self.ports[from], &[&["MIGRATE", "127.0.0.1", &port, "", "0", "5000", "KEYS"], keys.as_slice()].concat());
            assert!(moved == "OK" || moved == "NOKEY", "{moved}");
        }
        set(to, &["NODE", &ids[1]]);
        set(from, &["NODE", &ids[1]]);
    }
}

fn start_node(port: u16, bus: u16, secured: Option<u16>) -> Process {
    let mut command = Command::new("redis-server");
    command.args(["--port", &port.to_string(), "--bind", "127.0.0.1", "--save", "", "--appendonly", "no"]);
    command.args(["--cluster-enabled", "yes", "--cluster-port", &bus.to_string(), "--cluster-node-timeout", NODE_TIMEOUT]);
    command.args(["--cluster-config-file", "nodes.conf", "--repl-diskless-sync-delay", "0"]);
    if let Some(secured) = secured {
        command.args(["--tls-port", &secured.to_string(), "--tls-cluster", "yes", "--tls-replication", "yes", "--tls-auth-clients", "no"]);
        command.args(["--tls-cert-file", CERTIFICATE, "--tls-key-file", KEY, "--tls-ca-cert-file", AUTHORITY]);
    }
    command.current_dir(unique_dir("cluster-node"));
    Process::spawn(command)
}
