//! `callboard publish`: one event, by PUBLISH, on the native channel; so it takes the way that every publisher's events take. With
//! the embedded broker it goes to the address where that listens.

use std::{fs, path::PathBuf, time::Duration};

use clap::Args;
use redis::{Client, Connection, ConnectionAddr, ConnectionInfo, IntoConnectionInfo, RedisConnectionInfo, RedisError, TlsCertificates};
use serde_json::{Value, value::RawValue};
use thiserror::Error;

use super::{CliError, ConfigFile, print};
use crate::{
    config::{Bind, Broker, BrokerUrl, Secret, Sentinel},
    protocol::{EventName, RoomName, UserName},
};

/// How long connecting may take, and how long an answer.
const PATIENCE: Duration = Duration::from_secs(5);

#[derive(Debug, Args)]
pub struct Publish {
    /// The room whose members receive it
    #[arg(long, required_unless_present = "user", conflicts_with = "user")]
    room: Option<RoomName>,
    /// The user whose connections receive it
    #[arg(long)]
    user: Option<UserName>,
    /// The event's name
    #[arg(long, default_value = EventName::DEFAULT)]
    event: EventName,
    /// The event's data: JSON where it is JSON, else a text
    #[arg(value_name = "DATA", allow_hyphen_values = true)]
    data: String,
    #[command(flatten)]
    config: ConfigFile,
}

/// Why nothing was published.
#[derive(Debug, Error)]
pub enum PublishError {
    #[error("broker.url is memory: and broker.resp is off, so there is nothing to publish to; use the HTTP API, or set either")]
    NothingListens,
    #[error("nothing listens at {at}: is {} running?", if *.is_embedded { "callboard" } else { "Redis" })]
    Refused { at: String, is_embedded: bool },
    #[error("{at} refuses the password or the user's rights: {reason}")]
    Denied { at: String, reason: String },
    #[error("cannot read {}: {error}", path.display())]
    RootCertificate { path: PathBuf, error: std::io::Error },
    #[error("no sentinel at {at} knows a master \"{master}\"")]
    UnknownMaster { at: String, master: String },
    #[error("cannot publish to {at}: {reason}")]
    Failed { at: String, reason: String },
}

/// Publishes, and prints how many subscribers Redis handed it to: nodes, not browsers.
pub fn run(arguments: &Publish) -> Result<(), CliError> {
    let broker = arguments.config.load()?.broker;
    let channel = channel(&broker.prefix, arguments.room.as_ref(), arguments.user.as_ref());
    let receivers = send(&broker, &channel, &payload(&arguments.event, &arguments.data))?;
    print(&format!("{receivers} receivers"))
}

fn send(broker: &Broker, channel: &str, payload: &str) -> Result<u64, PublishError> {
    let target = Target { broker };
    let mut connection = target.connect()?;
    redis::cmd("PUBLISH").arg(channel).arg(payload).query(&mut connection).map_err(|error| target.explain(&error))
}

fn channel(prefix: &str, room: Option<&RoomName>, user: Option<&UserName>) -> String {
    match (room, user) {
        (Some(room), _) => format!("{prefix}:room:{room}"),
        (None, Some(user)) => format!("{prefix}:user:{user}"),
        // clap demands one of them.
        (None, None) => unreachable!("neither a room nor a user"),
    }
}

/// JSON goes out as it was written: numbers that fit no type of ours keep their digits.
fn payload(event: &EventName, data: &str) -> String {
    let text = match serde_json::from_str::<&RawValue>(data) {
        Ok(json) => json.get().to_owned(),
        Err(_) => Value::from(data).to_string(),
    };
    format!(r#"{{"event":{},"data":{text}}}"#, Value::from(event.as_str()))
}

/// Where to publish, in the words of the configuration.
struct Target<'a> {
    broker: &'a Broker,
}

impl Target<'_> {
    fn connect(&self) -> Result<Connection, PublishError> {
        match &self.broker.url {
            BrokerUrl::Memory => {
                let resp = self.broker.resp.as_ref().ok_or(PublishError::NothingListens)?;
                let info = embedded(resp, self.broker.resp_password.as_ref()).map_err(|error| self.explain(&error))?;
                self.open(info)
            }
            BrokerUrl::Redis(url) => self.open(url.expose()),
            BrokerUrl::Cluster(seeds) => self.open_first(seeds.iter().map(Secret::expose)),
            BrokerUrl::Sentinel(sentinel) => self.open(self.find_master(sentinel)?.expose()),
        }
    }

    /// Any node of a cluster passes a PUBLISH on to all others.
    fn open_first<'s>(&self, mut urls: impl Iterator<Item = &'s str>) -> Result<Connection, PublishError> {
        let first = match urls.next() {
            Some(url) => self.open(url),
            None => Err(PublishError::NothingListens),
        };
        urls.fold(first, |found, url| found.or_else(|_| self.open(url)))
    }

    fn find_master(&self, sentinel: &Sentinel) -> Result<Secret, PublishError> {
        let mut connection = self.open_first(sentinel.sentinels.iter().map(String::as_str))?;
        let mut command = redis::cmd("SENTINEL");
        command.arg("GET-MASTER-ADDR-BY-NAME").arg(&sentinel.master);
        match command.query::<Option<(String, u16)>>(&mut connection) {
            Ok(Some((host, port))) => Ok(sentinel.master_url(&host, port)),
            Ok(None) => Err(PublishError::UnknownMaster { at: self.shown(), master: sentinel.master.clone() }),
            Err(error) => Err(self.explain(&error)),
        }
    }

    fn open(&self, address: impl IntoConnectionInfo) -> Result<Connection, PublishError> {
        let root_cert = match &self.broker.tls_ca {
            Some(path) => Some(fs::read(path).map_err(|error| PublishError::RootCertificate { path: path.clone(), error })?),
            None => None,
        };
        let client = match root_cert {
            Some(_) => Client::build_with_tls(address, TlsCertificates { client_tls: None, root_cert }),
            None => Client::open(address),
        };
        // rustls comes without cryptography of its own; a second installation is refused and changes nothing.
        let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
        let connection = client.and_then(|client| {
            let connection = client.get_connection_with_timeout(PATIENCE)?;
            connection.set_read_timeout(Some(PATIENCE))?;
            connection.set_write_timeout(Some(PATIENCE))?;
            Ok(connection)
        });
        connection.map_err(|error| self.explain(&error))
    }

    /// The address without its password.
    fn shown(&self) -> String {
        match (&self.broker.url, &self.broker.resp) {
            (BrokerUrl::Memory, Some(resp)) => resp.to_string(),
            (url, _) => url.to_string(),
        }
    }

    fn explain(&self, error: &RedisError) -> PublishError {
        let at = self.shown();
        let is_denial = matches!(error.code(), Some("NOAUTH" | "WRONGPASS" | "NOPERM"));
        if error.is_connection_refusal() {
            PublishError::Refused { at, is_embedded: self.broker.url == BrokerUrl::Memory }
        } else if is_denial || error.kind() == redis::ErrorKind::AuthenticationFailed {
            PublishError::Denied { at, reason: error.to_string() }
        } else if error.is_timeout() {
            PublishError::Failed { at, reason: format!("no answer within {} s", PATIENCE.as_secs()) }
        } else {
            PublishError::Failed { at, reason: error.to_string() }
        }
    }
}

fn embedded(resp: &Bind, password: Option<&Secret>) -> Result<ConnectionInfo, RedisError> {
    let address = match resp {
        Bind::Tcp { host, port } => ConnectionAddr::Tcp(reachable(host).to_owned(), *port),
        Bind::Unix(path) => ConnectionAddr::Unix(path.clone()),
    };
    let mut settings = RedisConnectionInfo::default().set_skip_set_lib_name();
    if let Some(password) = password {
        settings = settings.set_password(password.expose());
    }
    Ok(address.into_connection_info()?.set_redis_settings(settings))
}

/// An address to connect to, where every address of this machine is listened at.
fn reachable(host: &str) -> &str {
    match host {
        "0.0.0.0" => "127.0.0.1",
        "::" => "::1",
        other => other,
    }
}

#[cfg(test)]
mod tests {
    use std::{
        io::{Read, Write},
        net::TcpListener,
        thread,
    };

    use super::*;

    #[test]
    fn data_is_json_where_it_is_json() {
        let event = EventName::default();
        for (data, expected) in [
            (r#"{"a": 1}"#, r#"{"event":"message","data":{"a": 1}}"#),
            ("123456789012345678901234567890", r#"{"event":"message","data":123456789012345678901234567890}"#),
            ("hello", r#"{"event":"message","data":"hello"}"#),
            (r#""12""#, r#"{"event":"message","data":"12"}"#),
            ("", r#"{"event":"message","data":""}"#),
        ] {
            assert_eq!(payload(&event, data), expected);
        }
    }

    #[test]
    fn rooms_and_users_have_channels_of_their_own() {
        assert_eq!(channel("hub", Some(&"a b".parse().expect("a name")), None), "hub:room:a b");
        assert_eq!(channel("hub", None, Some(&"7".parse().expect("a name"))), "hub:user:7");
    }

    /// Answers each command with the next of these, and hands back all that it was told.
    fn fake_redis(answers: &'static [&'static str]) -> (Bind, thread::JoinHandle<String>) {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
        let address = Bind::parse(&listener.local_addr().expect("an address").to_string()).expect("an address");
        let told = thread::spawn(move || {
            let (mut socket, _) = listener.accept().expect("a client");
            let (mut told, mut buffer) = (String::new(), [0; 1024]);
            for answer in answers {
                let count = socket.read(&mut buffer).expect("a command");
                told.push_str(&String::from_utf8_lossy(&buffer[..count]));
                socket.write_all(answer.as_bytes()).expect("an open socket");
            }
            told
        });
        (address, told)
    }

    #[test]
    fn the_embedded_broker_is_published_to_with_its_password() {
        let (resp, told) = fake_redis(&["+OK\r\n", ":2\r\n"]);
        let broker = Broker { resp: Some(resp), resp_password: Some(Secret::new("p w")), ..Broker::default() };
        assert_eq!(send(&broker, "callboard:room:a", r#"{"event":"e","data":1}"#).expect("published"), 2);
        let told = told.join().expect("a fake Redis");
        assert!(told.contains("AUTH\r\n$3\r\np w\r\n"), "{told}");
        assert!(told.ends_with("PUBLISH\r\n$16\r\ncallboard:room:a\r\n$22\r\n{\"event\":\"e\",\"data\":1}\r\n"), "{told}");
    }

    #[test]
    fn a_password_that_is_missing_or_wrong_is_said_to_be() {
        let (resp, told) = fake_redis(&["-NOAUTH Authentication required.\r\n"]);
        let error = send(&Broker { resp: Some(resp), ..Broker::default() }, "c", "1").expect_err("no password");
        assert!(matches!(error, PublishError::Denied { .. }), "{error}");
        told.join().expect("a fake Redis");
        let (resp, told) = fake_redis(&["-WRONGPASS invalid username-password pair\r\n"]);
        let broker = Broker { resp: Some(resp), resp_password: Some(Secret::new("x")), ..Broker::default() };
        let error = send(&broker, "c", "1").expect_err("a wrong password");
        assert!(matches!(error, PublishError::Denied { .. }), "{error}");
        told.join().expect("a fake Redis");
    }

    #[test]
    fn a_refused_connection_says_who_should_be_running() {
        // Port 1 is reserved and nothing of ours listens there.
        let nowhere = Some(Bind::Tcp { host: "127.0.0.1".into(), port: 1 });
        let broker = Broker { resp: nowhere, ..Broker::default() };
        let error = Target { broker: &broker }.connect().err().expect("nothing listens");
        assert_eq!(error.to_string(), "nothing listens at 127.0.0.1:1: is callboard running?");
        let off = Broker { resp: None, ..Broker::default() };
        assert!(matches!(Target { broker: &off }.connect(), Err(PublishError::NothingListens)));
    }
}
