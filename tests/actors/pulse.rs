//! The pulse: keep-alives, pings, and the end of those who do not answer.

use std::{sync::Arc, time::Duration};

use actix::{Actor, Addr};
use callboard::{
    actors::{Outbox, messages::Watch, outbox::Notice, pulse::Pulse},
    metrics::Metrics,
    protocol::{
        CloseReason,
        sse::KEEP_ALIVE,
        wire::{Heartbeat, WireName},
    },
};

use super::support::{drain, outbox, pass};

const PING: &[u8] = b"\x89\x00";

async fn watched(heartbeat: Heartbeat) -> (Arc<Outbox>, Addr<Pulse>) {
    tokio::time::pause();
    let pulse = Pulse::default().start();
    let outbox = outbox(16, WireName::WebSocket, &Metrics::new());
    pulse.send(Watch { outbox: Arc::clone(&outbox), heartbeat }).await.expect("a pulse");
    // Half a second behind every beat, which comes within the pulse's tick of a tenth.
    pass(Duration::from_millis(500)).await;
    (outbox, pulse)
}

fn pings() -> Heartbeat {
    Heartbeat { bytes: PING, every: Duration::from_secs(25), answer_within: Some(Duration::from_secs(10)) }
}

#[actix::test]
async fn a_silent_stream_gets_a_comment_each_fifteen_seconds() {
    let heartbeat = Heartbeat { bytes: KEEP_ALIVE, every: Duration::from_secs(15), answer_within: None };
    let (outbox, _pulse) = watched(heartbeat).await;
    for _ in 0..10 {
        pass(Duration::from_secs(14)).await;
        assert_eq!(drain(&outbox), b"");
        pass(Duration::from_secs(1)).await;
        assert_eq!(drain(&outbox), KEEP_ALIVE);
    }
    assert_eq!(outbox.take_notice(), None, "nobody expects a stream's client to answer");
}

/// A thousand who came within a tenth of a second are not all served in one turn of the thread.
#[actix::test]
async fn those_who_came_one_after_the_other_are_served_one_after_the_other() {
    let heartbeat = Heartbeat { bytes: KEEP_ALIVE, every: Duration::from_secs(15), answer_within: None };
    let (first, pulse) = watched(heartbeat).await;
    let second = outbox(16, WireName::Sse, &Metrics::new());
    pulse.send(Watch { outbox: Arc::clone(&second), heartbeat }).await.expect("a pulse");
    pass(Duration::from_millis(20)).await;
    let third = outbox(16, WireName::Sse, &Metrics::new());
    pulse.send(Watch { outbox: Arc::clone(&third), heartbeat }).await.expect("a pulse");
    let mut served = Vec::new();
    while served.len() < 3 {
        pass(Duration::from_millis(1)).await;
        let due = [&first, &second, &third].into_iter().enumerate().filter(|(_, outbox)| !drain(outbox).is_empty());
        served.push(due.map(|(number, _)| number).collect::<Vec<_>>());
        served.retain(|together| !together.is_empty());
    }
    assert_eq!(served, [[0], [1], [2]]);
}

#[actix::test]
async fn who_answers_each_ping_stays() {
    let (outbox, _pulse) = watched(pings()).await;
    for _ in 0..10 {
        pass(Duration::from_secs(24)).await;
        assert_eq!(drain(&outbox), b"");
        pass(Duration::from_secs(1)).await;
        assert_eq!(drain(&outbox), PING);
        outbox.note_heard();
        assert_eq!(outbox.take_notice(), None);
    }
}

#[actix::test]
async fn who_does_not_answer_a_ping_is_cut_although_it_spoke_before() {
    let (outbox, _pulse) = watched(pings()).await;
    outbox.note_heard();
    pass(Duration::from_secs(25)).await;
    assert_eq!(drain(&outbox), PING);
    pass(Duration::from_secs(9)).await;
    assert_eq!(outbox.take_notice(), None);
    pass(Duration::from_secs(1)).await;
    assert_eq!(outbox.take_notice(), Some(Notice::Closing(CloseReason::TimedOut)));
}

#[actix::test]
async fn an_ended_connection_is_forgotten() {
    let (outbox, _pulse) = watched(pings()).await;
    outbox.end();
    pass(Duration::from_secs(30)).await;
    assert_eq!(Arc::strong_count(&outbox), 1);
}
