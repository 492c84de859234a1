//! Answers, and their bytes in RESP2 and RESP3.

use bytes::{Bytes, BytesMut};
use redis_protocol::{error::RedisProtocolError, resp2, resp3};

/// The version of the protocol that a connection speaks; HELLO changes it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Protocol {
    Resp2,
    Resp3,
}

impl Protocol {
    pub fn number(self) -> i64 {
        match self {
            Self::Resp2 => 2,
            Self::Resp3 => 3,
        }
    }
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Reply {
    Simple(&'static str),
    /// With its code: `ERR …`, `NOAUTH …`.
    Error(String),
    Integer(i64),
    Bulk(Bytes),
    Null,
    Array(Vec<Reply>),
    /// In RESP2 an array of keys and values in this order, which node-redis relies on.
    Map(Vec<(&'static str, Reply)>),
}

impl Reply {
    pub const OK: Self = Self::Simple("OK");

    /// Control characters become spaces: a line break would end the line and forge a reply.
    pub fn error(text: impl ToString) -> Self {
        Self::Error(text.to_string().replace(char::is_control, " "))
    }

    pub fn text(text: impl Into<String>) -> Self {
        Self::Bulk(Bytes::from(text.into()))
    }

    pub fn encode(self, protocol: Protocol, out: &mut BytesMut) -> Result<(), RedisProtocolError> {
        match protocol {
            Protocol::Resp2 => resp2::encode::extend_encode(out, &self.into_resp2(), false)?,
            Protocol::Resp3 => resp3::encode::complete::extend_encode(out, &self.into_resp3(), false)?,
        };
        Ok(())
    }

    fn into_resp2(self) -> resp2::types::BytesFrame {
        use resp2::types::BytesFrame as Frame;
        match self {
            Self::Simple(text) => Frame::SimpleString(Bytes::from_static(text.as_bytes())),
            Self::Error(text) => Frame::Error(text.into()),
            Self::Integer(number) => Frame::Integer(number),
            Self::Bulk(bytes) => Frame::BulkString(bytes),
            Self::Null => Frame::Null,
            Self::Array(items) => Frame::Array(items.into_iter().map(Self::into_resp2).collect()),
            Self::Map(pairs) => {
                Frame::Array(pairs.into_iter().flat_map(|(key, value)| [Self::text(key).into_resp2(), value.into_resp2()]).collect())
            }
        }
    }

    fn into_resp3(self) -> resp3::types::BytesFrame {
        use resp3::types::BytesFrame as Frame;
        let attributes = None;
        match self {
            Self::Simple(text) => Frame::SimpleString { data: Bytes::from_static(text.as_bytes()), attributes },
            Self::Error(text) => Frame::SimpleError { data: text.into(), attributes },
            Self::Integer(data) => Frame::Number { data, attributes },
            Self::Bulk(data) => Frame::BlobString { data, attributes },
            Self::Null => Frame::Null,
            Self::Array(items) => Frame::Array { data: items.into_iter().map(Self::into_resp3).collect(), attributes },
            Self::Map(pairs) => Frame::Map {
                data: pairs.into_iter().map(|(key, value)| (Self::text(key).into_resp3(), value.into_resp3())).collect(),
                attributes,
            },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_kind_of_answer_has_its_bytes_in_both_protocols() {
        let cases: [(Reply, &str, &str); 9] = [
            (Reply::OK, "+OK\r\n", "+OK\r\n"),
            (Reply::error("ERR no"), "-ERR no\r\n", "-ERR no\r\n"),
            (Reply::error("ERR a\r\n+OK"), "-ERR a  +OK\r\n", "-ERR a  +OK\r\n"),
            (Reply::Integer(-7), ":-7\r\n", ":-7\r\n"),
            (Reply::text("é"), "$2\r\né\r\n", "$2\r\né\r\n"),
            (Reply::Null, "$-1\r\n", "_\r\n"),
            (Reply::Array(vec![Reply::Integer(1), Reply::Null]), "*2\r\n:1\r\n$-1\r\n", "*2\r\n:1\r\n_\r\n"),
            (Reply::Map(vec![]), "*0\r\n", "%0\r\n"),
            (Reply::Map(vec![("proto", Reply::Integer(3))]), "*2\r\n$5\r\nproto\r\n:3\r\n", "%1\r\n$5\r\nproto\r\n:3\r\n"),
        ];
        for (reply, resp2, resp3) in cases {
            for (protocol, expected) in [(Protocol::Resp2, resp2), (Protocol::Resp3, resp3)] {
                let mut out = BytesMut::new();
                reply.clone().encode(protocol, &mut out).unwrap();
                assert_eq!(out, expected.as_bytes(), "{reply:?} in {protocol:?}");
            }
        }
    }
}
