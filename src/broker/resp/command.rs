//! Arguments to a command, or the refusal that the publisher reads. Known are PUBLISH and what client libraries send before
//! and around it.

use bytes::Bytes;
use thiserror::Error;

use super::reply::Protocol;

/// Longest connection name. Redis has no bound of its own; libraries use short words.
const MAX_CLIENT_NAME_BYTES: usize = 256;
/// A payload shorter than this is copied out of the read buffer: whoever keeps it would keep the whole buffer.
const COPY_BELOW: usize = 4096;
/// How much of a peer's word an error repeats, in characters.
const QUOTED_CHARS: usize = 64;

/// Why a command is not carried out. The text is the reply, code first, worded as Redis does where Redis has the case.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum Refusal {
    #[error(
        "ERR unknown command '{0}': this is Callboard's embedded broker, not Redis; it takes PUBLISH. For a full Redis set [broker] url"
    )]
    Unknown(String),
    #[error("ERR '{0}': this is Callboard's embedded broker, not Redis; it takes PUBLISH. Browsers subscribe over SSE or WebSocket")]
    Subscribe(String),
    #[error("ERR unknown subcommand '{subcommand}' of '{command}': this is Callboard's embedded broker, not Redis")]
    UnknownSubcommand { command: &'static str, subcommand: String },
    #[error("ERR wrong number of arguments for '{0}' command")]
    WrongArity(&'static str),
    #[error("ERR channel is not UTF-8")]
    ChannelNotText,
    #[error("ERR value is not an integer or out of range")]
    NotAnInteger,
    #[error("ERR Client names cannot contain spaces, newlines or special characters.")]
    ClientName,
    #[error("ERR client name is longer than {MAX_CLIENT_NAME_BYTES} bytes")]
    ClientNameTooLong,
    #[error("ERR Syntax error in HELLO option '{0}'")]
    HelloSyntax(String),
    #[error("ERR Protocol version is not an integer or out of range")]
    ProtocolNotAnInteger,
    #[error("NOPROTO unsupported protocol version")]
    UnsupportedProtocol,
    #[error("NOAUTH Authentication required.")]
    Unauthenticated,
    #[error(
        "NOAUTH HELLO must be called with the client already authenticated, otherwise the HELLO <proto> AUTH <user> <pass> option can be used to \
         authenticate the client and select the RESP protocol version at the same time"
    )]
    UnauthenticatedHello,
    #[error("WRONGPASS invalid username-password pair or user is disabled.")]
    WrongPassword,
    #[error("ERR AUTH <password> called without any password configured for the default user. Are you sure your configuration is correct?")]
    NoPasswordSet,
    #[error("ERR MULTI calls can not be nested")]
    NestedMulti,
    #[error("ERR {0} without MULTI")]
    WithoutMulti(&'static str),
    #[error("ERR Command not allowed inside a transaction")]
    NotInTransaction,
    #[error("ERR transaction is larger than {commands} commands or {bytes} bytes")]
    TransactionTooLarge { commands: usize, bytes: usize },
    #[error("EXECABORT Transaction discarded because of previous errors.")]
    ExecAborted,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Command {
    Hello(Hello),
    Auth(Credentials),
    Multi,
    Exec,
    Discard,
    Reset,
    Quit,
    /// What MULTI can queue.
    Plain(Plain),
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Plain {
    Publish {
        channel: Box<str>,
        payload: Bytes,
    },
    Ping(Option<Bytes>),
    Echo(Bytes),
    Info,
    ClientId,
    ClientGetName,
    /// `CLIENT INFO` and `CLIENT LIST`: nobody sees more than their own connection.
    ClientInfo,
    ClientSetName(Bytes),
    /// What is accepted and means nothing here: databases, library names, eviction.
    Accepted,
    /// `COMMAND`, `COMMAND INFO`: nothing is told of commands.
    EmptyArray,
    /// `COMMAND DOCS`, `CONFIG GET`.
    EmptyMap,
    /// `COMMAND COUNT`.
    Zero,
}

#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Hello {
    pub protocol: Option<Protocol>,
    pub credentials: Option<Credentials>,
    pub name: Option<Bytes>,
}

/// None as user is `default`.
#[derive(Clone, PartialEq, Eq)]
pub struct Credentials {
    pub user: Option<Bytes>,
    pub password: Bytes,
}

impl std::fmt::Debug for Credentials {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Credentials").field("user", &self.user).finish_non_exhaustive()
    }
}

impl Command {
    /// `arguments` start with the command's name.
    pub fn parse(arguments: &[Bytes]) -> Result<Self, Refusal> {
        let (name, arguments) = arguments.split_first().ok_or_else(|| Refusal::Unknown(String::new()))?;
        let name = printable(name);
        match (name.to_ascii_uppercase().as_str(), arguments) {
            ("PUBLISH" | "SPUBLISH", [channel, payload]) => publish(channel, payload).map(Self::Plain),
            ("PUBLISH" | "SPUBLISH", _) => Err(Refusal::WrongArity("publish")),
            ("PING", []) => Ok(Self::Plain(Plain::Ping(None))),
            ("PING", [text]) => Ok(Self::Plain(Plain::Ping(Some(text.clone())))),
            ("PING", _) => Err(Refusal::WrongArity("ping")),
            ("ECHO", [text]) => Ok(Self::Plain(Plain::Echo(text.clone()))),
            ("ECHO", _) => Err(Refusal::WrongArity("echo")),
            ("SELECT", [database]) => integer(database).map(|_| Self::Plain(Plain::Accepted)),
            ("SELECT", _) => Err(Refusal::WrongArity("select")),
            ("HELLO", arguments) => hello(arguments).map(Self::Hello),
            ("AUTH", [password]) => Ok(Self::Auth(Credentials { user: None, password: password.clone() })),
            ("AUTH", [user, password]) => Ok(Self::Auth(Credentials { user: Some(user.clone()), password: password.clone() })),
            ("AUTH", _) => Err(Refusal::WrongArity("auth")),
            ("CLIENT", arguments) => client(arguments).map(Self::Plain),
            ("COMMAND", arguments) => command_table(arguments).map(Self::Plain),
            ("CONFIG", arguments) => config(arguments).map(Self::Plain),
            ("INFO", _) => Ok(Self::Plain(Plain::Info)),
            ("MULTI", []) => Ok(Self::Multi),
            ("MULTI", _) => Err(Refusal::WrongArity("multi")),
            ("EXEC", []) => Ok(Self::Exec),
            ("EXEC", _) => Err(Refusal::WrongArity("exec")),
            ("DISCARD", []) => Ok(Self::Discard),
            ("DISCARD", _) => Err(Refusal::WrongArity("discard")),
            ("RESET", _) => Ok(Self::Reset),
            ("QUIT", _) => Ok(Self::Quit),
            ("SUBSCRIBE" | "PSUBSCRIBE" | "SSUBSCRIBE" | "UNSUBSCRIBE" | "PUNSUBSCRIBE" | "SUNSUBSCRIBE", _) => {
                Err(Refusal::Subscribe(name))
            }
            _ => Err(Refusal::Unknown(name)),
        }
    }

    /// Whether it may come before authentication.
    pub fn is_open(&self) -> bool {
        matches!(self, Self::Hello(_) | Self::Auth(_) | Self::Reset | Self::Quit)
    }
}

impl Plain {
    /// Bytes that a queued command keeps in memory, about.
    pub fn retained_bytes(&self) -> usize {
        let content = match self {
            Self::Publish { channel, payload } => channel.len() + payload.len(),
            Self::Ping(Some(text)) | Self::Echo(text) | Self::ClientSetName(text) => text.len(),
            _ => 0,
        };
        content + size_of::<Self>()
    }
}

fn publish(channel: &Bytes, payload: &Bytes) -> Result<Plain, Refusal> {
    let channel = std::str::from_utf8(channel).map_err(|_| Refusal::ChannelNotText)?;
    Ok(Plain::Publish { channel: channel.into(), payload: unshared(payload) })
}

fn unshared(bytes: &Bytes) -> Bytes {
    if bytes.len() < COPY_BELOW { Bytes::copy_from_slice(bytes) } else { bytes.clone() }
}

fn hello(arguments: &[Bytes]) -> Result<Hello, Refusal> {
    let mut hello = Hello::default();
    let Some((version, mut options)) = arguments.split_first() else { return Ok(hello) };
    hello.protocol = match integer(version).map_err(|_| Refusal::ProtocolNotAnInteger)? {
        2 => Some(Protocol::Resp2),
        3 => Some(Protocol::Resp3),
        _ => return Err(Refusal::UnsupportedProtocol),
    };
    while let Some((option, values)) = options.split_first() {
        options = match (printable(option).to_ascii_uppercase().as_str(), values) {
            ("AUTH", [user, password, rest @ ..]) => {
                hello.credentials = Some(Credentials { user: Some(user.clone()), password: password.clone() });
                rest
            }
            ("SETNAME", [name, rest @ ..]) => {
                hello.name = Some(client_name(name)?);
                rest
            }
            (option, _) => return Err(Refusal::HelloSyntax(option.to_owned())),
        };
    }
    Ok(hello)
}

fn client(arguments: &[Bytes]) -> Result<Plain, Refusal> {
    let (subcommand, arguments) = arguments.split_first().ok_or(Refusal::WrongArity("client"))?;
    let subcommand = printable(subcommand);
    match (subcommand.to_ascii_uppercase().as_str(), arguments) {
        ("SETNAME", [name]) => client_name(name).map(Plain::ClientSetName),
        ("GETNAME", []) => Ok(Plain::ClientGetName),
        ("ID", []) => Ok(Plain::ClientId),
        ("INFO", []) | ("LIST", _) => Ok(Plain::ClientInfo),
        ("SETINFO", [_, _]) | ("NO-EVICT" | "NO-TOUCH", [_]) => Ok(Plain::Accepted),
        ("SETNAME" | "GETNAME" | "ID" | "INFO" | "SETINFO" | "NO-EVICT" | "NO-TOUCH", _) => Err(Refusal::WrongArity("client")),
        _ => Err(Refusal::UnknownSubcommand { command: "CLIENT", subcommand }),
    }
}

fn command_table(arguments: &[Bytes]) -> Result<Plain, Refusal> {
    let Some(subcommand) = arguments.first() else { return Ok(Plain::EmptyArray) };
    let subcommand = printable(subcommand);
    match subcommand.to_ascii_uppercase().as_str() {
        "COUNT" => Ok(Plain::Zero),
        "DOCS" => Ok(Plain::EmptyMap),
        "INFO" | "LIST" => Ok(Plain::EmptyArray),
        _ => Err(Refusal::UnknownSubcommand { command: "COMMAND", subcommand }),
    }
}

fn config(arguments: &[Bytes]) -> Result<Plain, Refusal> {
    let (subcommand, _) = arguments.split_first().ok_or(Refusal::WrongArity("config"))?;
    let subcommand = printable(subcommand);
    match subcommand.to_ascii_uppercase().as_str() {
        "GET" => Ok(Plain::EmptyMap),
        _ => Err(Refusal::UnknownSubcommand { command: "CONFIG", subcommand }),
    }
}

fn client_name(name: &Bytes) -> Result<Bytes, Refusal> {
    if name.len() > MAX_CLIENT_NAME_BYTES {
        return Err(Refusal::ClientNameTooLong);
    }
    // The name stands in the one line of CLIENT INFO, so Redis takes '!' to '~' only.
    if !name.iter().all(u8::is_ascii_graphic) {
        return Err(Refusal::ClientName);
    }
    Ok(Bytes::copy_from_slice(name))
}

fn integer(text: &Bytes) -> Result<u32, Refusal> {
    std::str::from_utf8(text).ok().and_then(|text| text.parse().ok()).ok_or(Refusal::NotAnInteger)
}

/// A peer's word as an error may repeat it: short and without control characters.
fn printable(word: &[u8]) -> String {
    let head = &word[..word.len().min(4 * QUOTED_CHARS)];
    String::from_utf8_lossy(head).chars().take(QUOTED_CHARS).map(|c| if c.is_control() { '?' } else { c }).collect()
}
