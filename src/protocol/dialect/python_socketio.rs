//! `python-socketio`: the JSON that its client managers (also Flask-SocketIO's) publish since 5.14, on one channel for all.
//!
//! Before 5.14 they publish pickles, and unpickling runs the publisher's code: those are refused, with advice.
//! Acknowledgements (`callback`) are between their servers: nothing here waits for one.

use std::{borrow::Cow, sync::Arc};

use serde::Deserialize;
use serde_json::value::RawValue;

use super::{
    super::{
        event::{Argument, Event},
        json,
        socketio::Namespace,
    },
    Control, DataShape, DecodeError, Delivery, Options, event_name,
    namespace::{self, deliveries, emit_to_all, emit_to_rooms, room_of},
    payload,
};

const SHAPE: &str = r#"an object {"method", "event", "data", "namespace", "room", …} of python-socketio"#;
const WRONG_SHAPE: DecodeError = DecodeError::WrongShape { expected: SHAPE };

#[derive(Deserialize)]
struct Message<'a> {
    method: String,
    event: Option<String>,
    #[serde(borrow, default, deserialize_with = "json::present")]
    data: Option<&'a RawValue>,
    #[serde(default)]
    binary: bool,
    namespace: Option<String>,
    room: Option<OneOrMany>,
    skip_sid: Option<OneOrMany>,
    sid: Option<Box<str>>,
}

#[derive(Deserialize)]
#[serde(untagged)]
enum OneOrMany {
    One(Name),
    Many(Vec<Name>),
}

/// Rooms are any hashable value in Python; the ones that JSON brings over are texts and numbers.
#[derive(Deserialize)]
#[serde(untagged)]
enum Name {
    Text(String),
    Number(i64),
}

impl Name {
    fn text(&self) -> Cow<'_, str> {
        match self {
            Self::Text(text) => Cow::Borrowed(text),
            Self::Number(number) => Cow::Owned(number.to_string()),
        }
    }
}

impl OneOrMany {
    fn names(&self) -> Vec<Cow<'_, str>> {
        match self {
            Self::One(name) => vec![name.text()],
            Self::Many(names) => names.iter().map(Name::text).collect(),
        }
    }
}

pub(super) fn decode(options: Options, bytes: &[u8]) -> Result<Vec<Delivery>, DecodeError> {
    let message: Message<'_> = payload::object(bytes, SHAPE)?;
    match &*message.method {
        "emit" => message.emit(options.data),
        "callback" => Ok(Vec::new()),
        "enter_room" | "leave_room" | "disconnect" | "close_room" if !options.control => Ok(Vec::new()),
        _ => Ok(vec![Delivery::Control(message.control()?)]),
    }
}

impl Message<'_> {
    fn namespace(&self) -> Result<Namespace, DecodeError> {
        namespace::parse(self.namespace.as_deref())
    }

    fn emit(&self, shape: DataShape) -> Result<Vec<Delivery>, DecodeError> {
        let namespace = self.namespace()?;
        let event = self.read_event(shape)?;
        let emits = match &self.room {
            None => vec![emit_to_all(namespace, event)],
            Some(rooms) => emit_to_rooms(&namespace, &rooms.names(), event)?,
        };
        let except = self.skip_sid.iter().flat_map(OneOrMany::names).map(|sid| Box::from(&*sid)).collect();
        Ok(deliveries(emits, except, Arc::default()))
    }

    fn read_event(&self, shape: DataShape) -> Result<Event, DecodeError> {
        let name = event_name(self.event.as_deref().ok_or(WRONG_SHAPE)?)?;
        let mut data = self.data.ok_or(WRONG_SHAPE)?;
        let mut attachments = Vec::new();
        if self.binary {
            let parts: Vec<&RawValue> = payload::value(data.get(), SHAPE)?;
            let (first, rest) = parts.split_first().ok_or(WRONG_SHAPE)?;
            let texts = rest.iter().map(|raw| payload::value::<String>(raw.get(), SHAPE)).collect::<Result<Vec<_>, _>>()?;
            attachments = payload::attachments(texts.iter().map(String::as_str), SHAPE)?;
            data = first;
        }
        let arguments = match shape {
            DataShape::List => payload::value::<Vec<&RawValue>>(data.get(), SHAPE)?,
            DataShape::Raw if data.get() == "null" => Vec::new(),
            DataShape::Raw => vec![data],
        };
        let mut event = Event::new(name, arguments.into_iter().map(|raw| Argument::Json(raw.to_owned())));
        payload::check_placeholders(&event.arguments, &attachments, SHAPE)?;
        event.attachments = attachments;
        Ok(event)
    }

    fn control(self) -> Result<Control, DecodeError> {
        let namespace = self.namespace()?;
        let room = || match &self.room {
            Some(OneOrMany::One(name)) => room_of(&namespace, &name.text()),
            _ => Err(WRONG_SHAPE),
        };
        let sid = || self.sid.clone().ok_or(WRONG_SHAPE);
        Ok(match &*self.method {
            "enter_room" => Control::EnterRoom { sid: sid()?, room: room()? },
            "leave_room" => Control::LeaveRoom { sid: sid()?, room: room()? },
            "disconnect" => Control::Disconnect { sid: sid()?, namespace },
            "close_room" => Control::CloseRoom { room: room()? },
            _ => return Err(WRONG_SHAPE),
        })
    }
}
