//! One publisher's conversation: who they are, which protocol they speak, what each command does. Moves no bytes.

use std::rc::Rc;

use bytes::Bytes;
use subtle::ConstantTimeEq;

use super::{
    Options, Sink,
    command::{Command, Credentials, Hello, Plain, Refusal},
    decode::Limits,
    reply::{Protocol, Reply},
    transaction::Transaction,
};

/// The Redis whose PUBLISH and handshake this listener follows. Libraries choose by it what they send.
const REDIS_VERSION: &str = "7.2.0";
/// What a peer without password may send, as in Redis: enough for HELLO with all its options.
const UNAUTHENTICATED: Limits = Limits { arguments: 10, bulk: 16 << 10, command: 32 << 10, line: 16 << 10 };
const MAX_ARGUMENTS: usize = 1_024;
const MAX_LINE_BYTES: usize = 64 << 10;
/// What a command may have beside its largest argument: the channel, other arguments, headers.
const COMMAND_SLACK: usize = 64 << 10;

/// A reply, and whether the connection ends behind it.
#[derive(Debug, PartialEq, Eq)]
pub struct Answer {
    pub reply: Reply,
    pub is_last: bool,
}

pub struct Session<S> {
    id: u64,
    options: Rc<Options>,
    sink: S,
    protocol: Protocol,
    name: Bytes,
    is_authenticated: bool,
    transaction: Option<Transaction>,
}

impl<S: Sink> Session<S> {
    pub fn new(id: u64, options: Rc<Options>, sink: S) -> Self {
        let is_authenticated = password(&options).is_none();
        Self { id, options, sink, protocol: Protocol::Resp2, name: Bytes::new(), is_authenticated, transaction: None }
    }

    /// The protocol of the next reply: HELLO is answered in the one it asked for.
    pub fn protocol(&self) -> Protocol {
        self.protocol
    }

    /// What the next command may be.
    pub fn limits(&self) -> Limits {
        if !self.is_authenticated {
            return UNAUTHENTICATED;
        }
        let bulk = self.options.max_payload;
        Limits { arguments: MAX_ARGUMENTS, bulk, command: bulk.saturating_add(COMMAND_SLACK), line: MAX_LINE_BYTES }
    }

    pub async fn answer(&mut self, arguments: &[Bytes]) -> Answer {
        let command = Command::parse(arguments);
        if !self.is_authenticated && !command.as_ref().is_ok_and(Command::is_open) {
            return Answer { reply: Reply::error(Refusal::Unauthenticated), is_last: false };
        }
        let is_last = command == Ok(Command::Quit);
        let outcome = match command {
            Ok(command) => self.obey(command).await,
            Err(refusal) => Err(refusal),
        };
        let reply = outcome.unwrap_or_else(|refusal| {
            if let Some(transaction) = &mut self.transaction
                && refusal != Refusal::NestedMulti
            {
                transaction.abort();
            }
            Reply::error(refusal)
        });
        Answer { reply, is_last }
    }

    async fn obey(&mut self, command: Command) -> Result<Reply, Refusal> {
        match command {
            Command::Hello(_) | Command::Auth(_) if self.transaction.is_some() => Err(Refusal::NotInTransaction),
            Command::Hello(hello) => self.hello(hello),
            Command::Auth(credentials) => self.authenticate(&credentials).map(|()| Reply::OK),
            Command::Multi if self.transaction.is_some() => Err(Refusal::NestedMulti),
            Command::Multi => {
                self.transaction = Some(Transaction::default());
                Ok(Reply::OK)
            }
            Command::Exec => {
                let commands = self.transaction.take().ok_or(Refusal::WithoutMulti("EXEC"))?.into_commands()?;
                let mut replies = Vec::with_capacity(commands.len());
                for command in commands {
                    replies.push(self.run(command).await);
                    // As between pipelined commands: a long transaction must not keep the thread.
                    tokio::task::consume_budget().await;
                }
                Ok(Reply::Array(replies))
            }
            Command::Discard => self.transaction.take().map(|_| Reply::OK).ok_or(Refusal::WithoutMulti("DISCARD")),
            Command::Reset => {
                self.protocol = Protocol::Resp2;
                self.name = Bytes::new();
                self.is_authenticated = password(&self.options).is_none();
                self.transaction = None;
                Ok(Reply::Simple("RESET"))
            }
            Command::Quit => Ok(Reply::OK),
            Command::Plain(command) => match &mut self.transaction {
                Some(transaction) => transaction.push(command).map(|()| Reply::Simple("QUEUED")),
                None => Ok(self.run(command).await),
            },
        }
    }

    async fn run(&mut self, command: Plain) -> Reply {
        match command {
            Plain::Publish { channel, payload } => match self.sink.publish(&channel, payload).await {
                Ok(receivers) => Reply::Integer(i64::try_from(receivers).unwrap_or(i64::MAX)),
                Err(error) => Reply::error(format_args!("ERR {error}")),
            },
            Plain::Ping(None) => Reply::Simple("PONG"),
            Plain::Ping(Some(text)) | Plain::Echo(text) => Reply::Bulk(text),
            Plain::Info => Reply::text(info()),
            Plain::ClientId => Reply::Integer(self.number()),
            Plain::ClientGetName if self.name.is_empty() => Reply::Null,
            Plain::ClientGetName => Reply::Bulk(self.name.clone()),
            Plain::ClientInfo => {
                let name = String::from_utf8_lossy(&self.name);
                Reply::text(format!("id={} name={name} db=0 user=default resp={}\n", self.id, self.protocol.number()))
            }
            Plain::ClientSetName(name) => {
                self.name = name;
                Reply::OK
            }
            Plain::Accepted => Reply::OK,
            Plain::EmptyArray => Reply::Array(Vec::new()),
            Plain::EmptyMap => Reply::Map(Vec::new()),
            Plain::Zero => Reply::Integer(0),
        }
    }

    fn hello(&mut self, hello: Hello) -> Result<Reply, Refusal> {
        if let Some(credentials) = &hello.credentials {
            self.authenticate(credentials)?;
        }
        if !self.is_authenticated {
            return Err(Refusal::UnauthenticatedHello);
        }
        self.protocol = hello.protocol.unwrap_or(self.protocol);
        if let Some(name) = hello.name {
            self.name = name;
        }
        Ok(Reply::Map(vec![
            ("server", Reply::text("callboard")),
            ("version", Reply::text(REDIS_VERSION)),
            ("proto", Reply::Integer(self.protocol.number())),
            ("id", Reply::Integer(self.number())),
            ("mode", Reply::text("standalone")),
            ("role", Reply::text("master")),
            ("modules", Reply::Array(Vec::new())),
        ]))
    }

    /// A wrong password leaves the session as it was.
    fn authenticate(&mut self, credentials: &Credentials) -> Result<(), Refusal> {
        let is_default_user = credentials.user.as_ref().is_none_or(|user| &user[..] == b"default");
        let is_right = match password(&self.options) {
            Some(password) => bool::from(password.as_bytes().ct_eq(&credentials.password)),
            None if credentials.user.is_none() => return Err(Refusal::NoPasswordSet),
            // As Redis' user without password: any will do.
            None => true,
        };
        if !(is_default_user && is_right) {
            return Err(Refusal::WrongPassword);
        }
        self.is_authenticated = true;
        Ok(())
    }

    fn number(&self) -> i64 {
        i64::try_from(self.id).unwrap_or(i64::MAX)
    }
}

/// An empty password is none, as in `check_bind`.
fn password(options: &Options) -> Option<&str> {
    options.password.as_deref().filter(|password| !password.is_empty())
}

/// What libraries look for: the version, and that nothing is loading (ioredis' ready check).
fn info() -> String {
    let version = env!("CARGO_PKG_VERSION");
    format!(
        "# Server\r\nserver_name:callboard\r\ncallboard_version:{version}\r\nredis_version:{REDIS_VERSION}\r\nredis_mode:standalone\r\n\r\n\
         # Persistence\r\nloading:0\r\n\r\n# Replication\r\nrole:master\r\n"
    )
}
