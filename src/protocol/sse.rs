//! Server-Sent Events (WHATWG HTML §9.2): the blocks of a stream, and the id that a client resumes by.
//!
//! Clients differ on everything but the plainest form, so only that is written: an id stands inside the block of its event
//! (some forget an id-only block), `data:` has its space (one is stripped), and nothing but an event ends in a blank line
//! (fetch-event-source takes each blank line for a message).

use std::{borrow::Cow, iter, time::Duration};

use bytes::Bytes;
use form_urlencoded::parse as parse_form;

use super::{
    command::Reply,
    event::{Argument, Event},
    notice::Notice,
    publication::Publication,
};

/// A comment, so that neither a proxy nor the client's timer takes the stream for dead.
pub const KEEP_ALIVE: &[u8] = b":\n";

/// What old polyfills need before Internet Explorer shows anything of a stream: 2 KiB of comment.
static PADDING: [u8; 2050] = {
    let mut line = [b' '; 2050];
    line[0] = b':';
    line[2049] = b'\n';
    line
};

/// One event as a block of the stream, with the id to resume by.
pub fn event_block(publication: &Publication, id: Option<&str>) -> Bytes {
    let event = &*publication.event;
    let name = (!event.name.is_default()).then(|| event.name.as_str());
    block(id, name, &data(event))
}

/// A notice as an event of the hub. `None` for the answers to commands, which a stream has no way to give.
pub fn reply(reply: &Reply) -> Option<Bytes> {
    Notice::of(reply).map(|notice| block(None, Some(notice.event_name()), &notice.to_json()))
}

/// The first bytes of a stream: how long the client waits before it reconnects, and a comment that flushes proxies.
pub fn head(retry: Duration) -> Bytes {
    format!("retry: {}\n:\n", retry.as_millis()).into()
}

/// The last bytes of a stream when this node drains: come back after `retry`.
pub fn goodbye(retry: Duration) -> Bytes {
    format!("retry: {}\n: draining\n", retry.as_millis()).into()
}

/// The id of the last event of a stream that the server side ended. Who comes back with it is answered with 204.
pub const DISMISSED_ID: &str = "callboard:disconnected";

/// The last event of a stream that the server side ended: do not come back.
pub fn dismissal() -> Bytes {
    block(Some(DISMISSED_ID), Some("callboard:disconnected"), "{}")
}

/// A comment of 2 KiB, sent where the query says `padding=true`.
pub fn padding() -> Bytes {
    Bytes::from_static(&PADDING)
}

/// The id of the last event that a client saw: the header, or where its polyfill puts it instead. Empty ones do not count.
pub fn last_event_id(header: Option<&str>, query: &str, form_body: Option<&str>) -> Option<String> {
    header
        .filter(|id| !id.is_empty())
        .map(str::to_owned)
        .or_else(|| first_of(["lastEventId", "last_event_id", "Last-Event-ID"], query))
        .or_else(|| first_of(["Last-Event-ID"], form_body?))
}

/// The value of the first of these names that has one, read in one pass: every connect asks.
fn first_of<const N: usize>(names: [&str; N], pairs: &str) -> Option<String> {
    let mut found = [const { None }; N];
    for (key, value) in parse_form(pairs.as_bytes()).filter(|(_, value)| !value.is_empty()) {
        if let Some(place) = names.iter().position(|name| *name == key) {
            found[place].get_or_insert(value);
        }
    }
    found.into_iter().flatten().next().map(Cow::into_owned)
}

/// The text of the data: ready text as it is, everything else as JSON.
fn data(event: &Event) -> Cow<'_, str> {
    if let [Argument::Text(text)] = &event.arguments[..] {
        return Cow::Borrowed(text);
    }
    let mut arguments = event.json_arguments();
    match arguments.len() {
        0 => Cow::Borrowed("null"),
        1 => arguments.remove(0),
        _ => Cow::Owned(format!("[{}]", arguments.join(","))),
    }
}

/// `id` and `name` hold no CR, LF or NUL: ids are made by the hub, and an `EventName` cannot hold them.
fn block(id: Option<&str>, name: Option<&str>, data: &str) -> Bytes {
    let mut out = String::with_capacity(32 + id.map_or(0, str::len) + name.map_or(0, str::len) + data.len());
    let fields = [("id: ", id), ("event: ", name)].into_iter().filter_map(|(field, value)| Some((field, value?)));
    for (field, value) in fields.chain(lines(data).map(|line| ("data: ", line))) {
        out.extend([field, value, "\n"]);
    }
    out.push('\n');
    out.into()
}

/// The lines of a text as a stream's reader would find them: they end in CRLF, LF or CR and in nothing else. A text always
/// has one, though it may be empty.
fn lines(text: &str) -> impl Iterator<Item = &str> {
    let mut rest = Some(text);
    iter::from_fn(move || {
        let text = rest?;
        let end = text.find(['\r', '\n']);
        rest = end.map(|end| text[end..].strip_prefix("\r\n").unwrap_or(&text[end + 1..]));
        Some(&text[..end.unwrap_or(text.len())])
    })
}
