//! Events whose sender waits for an answer. One event may be several commands; its answer goes out once, with the last reply.

use serde_json::json;

use crate::protocol::command::ErrorCode;

/// Most answers a client may wait for at a time.
pub const MAX_CALLS: usize = 128;

#[derive(Debug, Default)]
pub struct Calls {
    open: Vec<Call>,
    next: u32,
}

#[derive(Debug)]
struct Call {
    number: u32,
    socket: u32,
    ack: u64,
    /// Replies that are still to come.
    waiting: usize,
    answer: Answer,
}

/// What a client is told when all is done: JSON text.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Answer(String);

impl Answer {
    pub fn ok(id: Option<&str>) -> Self {
        Self(id.map_or_else(|| json!({ "ok": true }), |id| json!({ "ok": true, "id": id })).to_string())
    }

    pub fn error(code: ErrorCode, message: &str) -> Self {
        Self(json!({ "error": { "code": code.as_str(), "message": message } }).to_string())
    }

    pub fn as_str(&self) -> &str {
        &self.0
    }

    fn is_error(&self) -> bool {
        self.0.starts_with(r#"{"error""#)
    }
}

/// A call is done: what to answer, and to which ack id.
#[derive(Debug, PartialEq, Eq)]
pub struct Settled {
    pub socket: u32,
    pub ack: u64,
    pub answer: Answer,
}

impl Calls {
    /// Opens a call that waits for so many replies. None where a client waits for too many answers already.
    pub fn open(&mut self, socket: u32, ack: u64, waiting: usize) -> Option<u32> {
        if self.open.len() >= MAX_CALLS {
            return None;
        }
        let number = self.next;
        self.next = self.next.wrapping_add(1);
        self.open.push(Call { number, socket, ack, waiting, answer: Answer::ok(None) });
        Some(number)
    }

    /// Takes one reply. The first error is the answer, else what the last reply says.
    pub fn settle(&mut self, number: u32, answer: Answer) -> Option<Settled> {
        let at = self.open.iter().position(|call| call.number == number)?;
        let call = &mut self.open[at];
        if !call.answer.is_error() {
            call.answer = answer;
        }
        call.waiting = call.waiting.saturating_sub(1);
        if call.waiting > 0 {
            return None;
        }
        let Call { socket, ack, answer, .. } = self.open.swap_remove(at);
        Some(Settled { socket, ack, answer })
    }

    /// A namespace is gone: nobody waits for its answers.
    pub fn forget(&mut self, socket: u32) {
        self.open.retain(|call| call.socket != socket);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_call_of_several_commands_is_answered_once_with_its_first_error() {
        let mut calls = Calls::default();
        let call = calls.open(0, 9, 3).unwrap();
        assert_eq!(calls.settle(call, Answer::ok(None)), None);
        assert_eq!(calls.settle(call, Answer::error(ErrorCode::Forbidden, "no")), None);
        let settled = calls.settle(call, Answer::ok(None)).unwrap();
        assert_eq!((settled.ack, settled.answer), (9, Answer::error(ErrorCode::Forbidden, "no")));
        assert_eq!(calls.settle(call, Answer::ok(None)), None);
    }

    #[test]
    fn no_more_calls_are_open_than_the_bound() {
        let mut calls = Calls::default();
        assert!((0..MAX_CALLS as u64).all(|ack| calls.open(0, ack, 1).is_some()));
        assert_eq!(calls.open(0, 1, 1), None);
        calls.forget(0);
        assert!(calls.open(0, 1, 1).is_some());
    }
}
