//! What becomes of the bus when Redis dies, stalls, drops us or comes back. Where it is cheap, a bare connection stands beside
//! the link and shows the fault without the cure.

use std::time::{Duration, Instant};

use callboard::{actors::messages::BrokerError, protocol::Target};
use futures_util::{FutureExt, StreamExt, future};

use crate::support::{Bus, Fixture, Listener, Proxy, Redis, Setup, Stopwatch, Way, event, eventually, logged, room};

const EVENT: &str = r#"{"event":"e","data":"x"}"#;

async fn start() -> Bus {
    Fixture::Redis.start(Setup::default()).await
}

fn native_channels(rooms: usize) -> Vec<String> {
    (0..rooms).map(|number| format!("callboard:room:r{number:04}")).collect()
}

async fn join_all(bus: &Bus, rooms: usize) -> Vec<Listener> {
    future::join_all((0..rooms).map(|number| bus.join(room(&format!("r{number:04}"))))).await
}

fn targets_of(listeners: &[Listener]) -> Vec<Target> {
    listeners.iter().map(|listener| listener.target.clone()).collect()
}

/// The gap is told once, to exactly these, and each hears again.
async fn assert_restored(bus: &mut Bus, listeners: &mut [Listener]) {
    assert_eq!(bus.restored.recv().await.unwrap(), targets_of(listeners));
    let publisher = bus.redis().connect().await;
    for listener in listeners.iter_mut() {
        listener.so_far();
        let Target::Room(name) = &listener.target else { panic!("rooms only") };
        let mut command = redis::cmd("PUBLISH");
        command.arg(format!("callboard:room:{name}")).arg(r#"{"event":"again"}"#);
        assert_eq!(command.query_async::<u64>(&mut publisher.clone()).await.unwrap(), 1, "one connection listens to {name}");
        while listener.next_event().await.0 != "again" {}
    }
    assert!(bus.restored.try_recv().is_err(), "the gap was told twice");
    assert!(bus.readiness.is_ready());
    assert_eq!(bus.metric("callboard_broker_up"), 1);
    assert_eq!(bus.metric("callboard_broker_reconnects_total"), 1);
    assert_eq!(bus.metric("callboard_broker_gaps_total"), 1);
}

#[actix::test]
async fn a_killed_redis_is_missed_at_once_and_used_within_a_second_of_its_return() {
    const ROOMS: usize = 300;
    let mut bus = start().await;
    let mut listeners = join_all(&bus, ROOMS).await;
    let publisher = bus.publisher.clone();
    let load = actix::spawn(async move {
        let mut number = 0;
        while publisher.try_publish(&format!("callboard:room:r{number:04}"), EVENT).await {
            number = (number + 1) % ROOMS;
        }
    });
    listeners[0].next().await;
    bus.redis().kill();
    bus.wait_until_down().await;
    load.await.unwrap();
    assert_eq!(bus.metric("callboard_broker_up"), 0);
    assert!(!bus.readiness.is_ready());

    // Long enough for the pause between two attempts to have grown to its bound.
    eventually("attempts fail", {
        let since = Instant::now();
        async move || since.elapsed() > Duration::from_secs(2)
    })
    .await;
    bus.redis().restart().await;
    let watch = Stopwatch::start([bus.redis().pid()]);
    bus.wait_until_up().await;
    let took = watch.read();
    println!("up {took} after Redis listened again, with {ROOMS} rooms");
    assert!(took.is_within(Duration::from_millis(1_500)), "{took}");
    assert_restored(&mut bus, &mut listeners).await;
    assert_eq!(bus.redis().listeners(&native_channels(ROOMS)).await, vec![1; ROOMS]);
}

#[actix::test]
async fn a_subscription_that_redis_ends_is_made_anew_at_once() {
    let mut bus = start().await;
    let mut listeners = join_all(&bus, 1_000).await;
    let since = Instant::now();
    let killed: u64 = bus.redis().ask(&["CLIENT", "KILL", "TYPE", "pubsub"]).await;
    assert_eq!(killed, 1);
    eventually("the gap is told", async || bus.metric("callboard_broker_reconnects_total") == 1).await;
    println!("up {:?} after CLIENT KILL, with 1,000 rooms", since.elapsed());
    assert_restored(&mut bus, &mut listeners).await;
}

#[actix::test]
async fn a_command_connection_that_redis_ends_is_made_anew() {
    let mut bus = start().await;
    let mut listeners = join_all(&bus, 2).await;
    let _: u64 = bus.redis().ask(&["CLIENT", "KILL", "TYPE", "normal"]).await;
    bus.wait_until_down().await;
    bus.wait_until_up().await;
    assert_restored(&mut bus, &mut listeners).await;
    assert!(bus.send(&[room("r0000")], event("e", "x")).await.is_ok());
}

/// The twin: a bare subscription notices nothing, however long it waits.
#[actix::test]
async fn a_stopped_redis_is_noticed_within_five_seconds_and_used_again_when_it_goes_on() {
    let mut bus = start().await;
    let mut listeners = join_all(&bus, 3).await;
    let mut bare = redis::Client::open(bus.redis().url()).unwrap().get_async_pubsub().await.unwrap();
    bare.subscribe("callboard:room:r0000").await.unwrap();
    let mut bare = bare.into_on_message();

    let watch = Stopwatch::start([]);
    bus.redis().signal("STOP");
    bus.wait_until_down().await;
    let took = watch.read();
    println!("a stopped Redis was noticed after {took}");
    assert!(took.is_within(Duration::from_secs(5)), "{took}");
    assert!(bare.next().now_or_never().is_none(), "without markers, a stopped Redis is as quiet as an idle one");
    drop(bare);
    assert_eq!(bus.send(&[room("r0000")], event("e", "x")).await, Err(BrokerError::Unavailable));

    bus.redis().signal("CONT");
    bus.wait_until_up().await;
    let redis = bus.redis();
    eventually("Redis sees the old connections end", async || redis.listeners(&native_channels(1)).await == [1]).await;
    assert_restored(&mut bus, &mut listeners).await;
}

#[actix::test]
async fn what_is_joined_and_left_in_an_outage_is_so_after_it() {
    let mut bus = start().await;
    let mut kept = join_all(&bus, 1).await;
    let left = bus.join(room("left")).await;
    bus.redis().kill();
    bus.wait_until_down().await;

    bus.leave(&left).await;
    let mut joined = Listener::new(room("joined"));
    let mut answer = bus.bridge.send(joined.order()).boxed_local();
    // Also what is left again before it could be joined.
    let fleeting = Listener::new(room("fleeting"));
    let given_up = bus.bridge.send(fleeting.order());
    bus.leave(&fleeting).await;
    assert_eq!(given_up.await.unwrap(), Err(BrokerError::Unavailable));
    assert!((&mut answer).now_or_never().is_none(), "nothing listens yet");

    bus.redis().restart().await;
    assert_eq!(answer.await.unwrap(), Ok(()));
    assert_restored(&mut bus, &mut kept).await;
    let mut publisher = bus.redis().connect().await;
    redis::cmd("PUBLISH").arg("callboard:room:joined").arg(EVENT).query_async::<()>(&mut publisher).await.unwrap();
    joined.next().await;
    let channels = ["callboard:room:left", "callboard:room:fleeting", "callboard:room:joined"].map(str::to_owned);
    assert_eq!(bus.redis().listeners(&channels).await, [0, 0, 1]);
}

#[actix::test]
async fn a_publish_in_an_outage_is_refused_and_not_kept() {
    let mut bus = start().await;
    let mut listeners = join_all(&bus, 1).await;
    bus.redis().kill();
    bus.wait_until_down().await;
    assert_eq!(bus.send(&[room("r0000")], event("lost", "x")).await, Err(BrokerError::Unavailable));
    bus.redis().restart().await;
    bus.wait_until_up().await;
    let came = async |listener: &mut Listener| listener.next_event().await.0;
    assert_eq!(bus.restored.recv().await.unwrap(), [room("r0000")]);
    assert_eq!(bus.send(&[room("r0000")], event("kept", "x")).await.map(|published| published.delivered), Ok(0));
    assert_eq!(came(&mut listeners[0]).await, "kept");
}

#[actix::test]
async fn publishes_to_a_redis_that_does_not_answer_do_not_heap_up() {
    const BOUND: usize = 5;
    let mut bus = Fixture::Redis.start(Setup { mailbox: BOUND, ..Setup::default() }).await;
    bus.redis().signal("STOP");
    let publishes: Vec<_> = (0..=BOUND).map(|_| event("e", "x")).collect();
    let target = [room("r")];
    let mut results = future::join_all(publishes.into_iter().map(|event| bus.send(&target, event))).await;
    assert_eq!(results.pop(), Some(Err(BrokerError::Overloaded)));
    assert_eq!(results, vec![Err(BrokerError::Unavailable); BOUND]);
    bus.redis().signal("CONT");
    bus.wait_until_up().await;
    assert!(bus.send(&target, event("e", "x")).await.is_ok(), "their places are free again");
}

#[actix::test]
async fn an_absent_redis_is_waited_for() {
    let mut redis = Redis::prepare(&[]);
    let mut bus = Bus::on_url(&redis.url(), Setup::default());
    let listener = Listener::new(room("early"));
    let answer = bus.bridge.send(listener.order());
    eventually("it is logged", async || !logged("trying again until it works").is_empty()).await;
    assert!(!bus.readiness.is_ready());
    assert_eq!(bus.send(&[room("early")], event("e", "x")).await, Err(BrokerError::Unavailable));

    redis.restart().await;
    bus.wait_until_up().await;
    assert_eq!(answer.await.unwrap(), Ok(()));
    assert!(bus.restored.try_recv().is_err(), "nobody was promised anything before");
    assert_eq!(bus.metric("callboard_broker_reconnects_total"), 0);
    assert_eq!(logged("trying again until it works").len(), 1, "the same error is logged once");
}

/// The twin: what came before the cut is less than what was published, and nothing but the link's gap says so.
#[actix::test]
async fn a_listener_that_redis_drops_for_its_full_buffer_is_told_of_the_gap() {
    const EVENTS: usize = 4_000;
    let mut bus = start().await;
    let mut listeners = join_all(&bus, 2).await;
    let _: () = bus.redis().ask(&["CONFIG", "SET", "client-output-buffer-limit", "pubsub 256kb 256kb 1"]).await;
    // One script is one step: Redis can send nothing while it runs.
    let flood = format!("for i = 1, {EVENTS} do redis.call('PUBLISH', KEYS[1], ARGV[1]) end");
    let payload = format!(r#"{{"event":"e","data":"{}"}}"#, "x".repeat(1_000));
    let _: () = bus.redis().ask(&["EVAL", &flood, "1", "callboard:room:r0000", &payload]).await;
    eventually("the link is up again", async || bus.metric("callboard_broker_reconnects_total") == 1).await;
    assert!(listeners[0].so_far().len() < EVENTS, "Redis dropped nothing");
    assert_restored(&mut bus, &mut listeners).await;
}

#[actix::test]
async fn a_full_bridge_loses_by_count_and_never_stops_the_reader() {
    const EVENTS: u64 = 3_000;
    let mut bus = Fixture::Redis.start(Setup { mailbox: 8, ..Setup::default() }).await;
    let mut busy = bus.join(room("busy")).await;
    let mut calm = bus.join(room("calm")).await;
    let flood = format!("for i = 1, {EVENTS} do redis.call('PUBLISH', KEYS[1], ARGV[1]) end");
    let _: () = bus.redis().ask(&["EVAL", &flood, "1", "callboard:room:busy", EVENT]).await;
    let mut came = 0;
    eventually("all are accounted for", async || {
        came += busy.so_far().len() as u64;
        came + busy.missed() == EVENTS
    })
    .await;
    assert!(busy.missed() > 0);
    assert_eq!(calm.missed(), 0);
    assert_eq!(bus.metric(r#"callboard_mailbox_full_total{actor="bridge"}"#), busy.missed());
    assert_eq!(bus.metric(r#"callboard_events_published_total{source="callboard:room:{room}"}"#), EVENTS);
    bus.publish("callboard:room:calm", EVENT).await;
    calm.next().await;
    assert_eq!(bus.metric("callboard_broker_reconnects_total"), 0, "Redis never had to wait");
}

/// Its payloads name their rooms, and they are gone: anybody may have missed something.
#[actix::test]
async fn what_a_full_bridge_loses_of_a_channel_for_many_rooms_is_told_to_all() {
    use callboard::protocol::dialect::Dialect;
    let mut setup = Setup { mailbox: 2, ..Setup::default() };
    setup.sources.push(crate::support::source("__anycable__", Dialect::Anycable, None));
    let mut bus = Fixture::Redis.start(setup).await;
    let listeners = join_all(&bus, 3).await;
    let flood = "for i = 1, 500 do redis.call('PUBLISH', KEYS[1], ARGV[1]) end";
    let _: () = bus.redis().ask(&["EVAL", flood, "1", "__anycable__", r#"{"stream":"r0000","data":"1"}"#]).await;
    assert_eq!(bus.restored.recv().await.unwrap(), targets_of(&listeners));
}

/// Redis is well, and sees nothing of it either: the old subscription stays open at its end.
#[actix::test]
async fn a_network_that_swallows_all_is_noticed_within_five_seconds_and_its_end_within_one_and_a_half() {
    let redis = Redis::start(&[]).await;
    let proxy = Proxy::start(redis.port).await;
    let mut bus = Bus::on_url(&proxy.url(), Setup::default());
    let mut listeners = join_all(&bus, 3).await;
    let watch = Stopwatch::start([]);
    proxy.set(Way::Partitioned);
    bus.wait_until_down().await;
    let took = watch.read();
    assert!(took.is_within(Duration::from_secs(5)), "{took}");
    assert!(!bus.readiness.is_ready());
    proxy.set(Way::Cut);
    proxy.set(Way::Open);
    let watch = Stopwatch::start([redis.pid()]);
    bus.wait_until_up().await;
    let took = watch.read();
    assert!(took.is_within(Duration::from_millis(3_000)), "{took}");
    assert_eq!(bus.restored.recv().await.unwrap(), targets_of(&listeners));
    let mut publisher = redis.connect().await;
    redis::cmd("PUBLISH").arg("callboard:room:r0001").arg(EVENT).query_async::<()>(&mut publisher).await.unwrap();
    listeners[1].next().await;
    assert!(bus.restored.try_recv().is_err(), "the gap was told twice");
}

/// What can't be written is no reason not to deliver. The history says what it lacks once it can be written again.
#[actix::test]
async fn a_redis_without_memory_or_that_takes_no_writes_still_delivers_with_numbers() {
    const ROOMS: &str = "[[room]]\nmatch = \"*\"\nhistory = { size = 100, ttl = \"1m\" }\n";
    let redis = Redis::start(&["--maxmemory-policy", "noeviction"]).await;
    let bus = Bus::on_url(&redis.url(), Setup { config: ROOMS, ..Setup::default() });
    let mut listener = bus.join(room("r0000")).await;
    let mut publisher = redis.connect().await;
    let written = |outcome: &str| bus.metric(&format!(r#"callboard_history_writes_total{{outcome="{outcome}"}}"#));
    for (expected, refuse, allow) in [
        (1, ["CONFIG", "SET", "maxmemory", "1"], ["CONFIG", "SET", "maxmemory", "0"]),
        (2, ["CONFIG", "SET", "min-replicas-to-write", "1"], ["CONFIG", "SET", "min-replicas-to-write", "0"]),
    ] {
        let _: () = redis.ask(&refuse).await;
        let failed = written("failed");
        redis::cmd("PUBLISH").arg("callboard:room:r0000").arg(EVENT).query_async::<()>(&mut publisher).await.unwrap();
        assert!(listener.next().await.point.is_some(), "{refuse:?}");
        eventually("Redis refuses to keep it", async || written("failed") > failed).await;
        assert!(bus.is_up(), "{refuse:?}");
        let _: () = redis.ask(&allow).await;
        eventually("it is written after all", async || written("added") == expected).await;
    }
    assert_eq!(bus.metric("callboard_broker_gaps_total"), 0);
    assert_eq!(logged("Redis refuses to keep history").len(), 1);
}
