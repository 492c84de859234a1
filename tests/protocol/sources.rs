//! Sources: which channels are subscribed for whom, and whom a message on a channel is for.

use callboard::protocol::{
    RoomName, Target, UserName,
    dialect::{DataShape, Delivery, Dialect, Options},
    socketio::Namespace,
    source::{Source, SourceError, Sources, Standing},
    template::{Match, Template, TemplateError},
};

fn room(name: &str) -> Target {
    Target::Room(name.parse().unwrap())
}

fn user(name: &str) -> Target {
    Target::User(name.parse().unwrap())
}

fn source(channel: &str, dialect: Dialect, room: Option<&str>) -> Result<Source, SourceError> {
    Source::new(channel, dialect, Options::default(), room.map(|name| name.parse::<RoomName>().unwrap()))
}

/// Each source as (channel, dialect, room).
fn sources(rows: &[(&str, Dialect, Option<&str>)]) -> Sources {
    Sources::new(rows.iter().map(|(channel, dialect, room)| source(channel, *dialect, *room).unwrap()).collect()).unwrap()
}

/// What config.toml has where nothing is said.
fn defaults() -> Sources {
    sources(&[
        ("callboard:room:{room}", Dialect::Callboard, None),
        ("callboard:user:{user}", Dialect::Callboard, None),
        ("sse", Dialect::DjangoSse, Some("sse")),
        ("sse_{user}", Dialect::DjangoSse, None),
        ("socketio_{room}", Dialect::GeventSocketio, None),
    ])
}

fn channels(sources: &Sources, target: &Target) -> Vec<String> {
    sources.channels_of(target).iter().map(ToString::to_string).collect()
}

/// The source's name and whom the message is for, or the reason against it.
fn route(sources: &Sources, channel: &str, payload: &str) -> Option<(String, Result<Vec<Target>, &'static str>)> {
    let decoded = sources.decode(channel, payload.as_bytes())?;
    let destinations = |deliveries: Vec<Delivery<Target>>| {
        deliveries
            .into_iter()
            .map(|delivery| match delivery {
                Delivery::Emit(emit) => emit.to,
                Delivery::Control(control) => panic!("no control here: {control:?}"),
            })
            .collect()
    };
    Some((decoded.label.to_string(), decoded.deliveries.map(destinations).map_err(|error| error.reason())))
}

#[test]
fn a_room_listens_on_every_channel_that_stands_for_it() {
    let sources = defaults();
    assert_eq!(channels(&sources, &room("lobby")), ["callboard:room:lobby", "socketio_lobby"]);
    assert_eq!(channels(&sources, &room("sse")), ["callboard:room:sse", "sse", "socketio_sse"]);
    assert_eq!(channels(&sources, &room("a:{b}*")), ["callboard:room:a:{b}*", "socketio_a:{b}*"]);
    assert_eq!(channels(&sources, &user("alice")), ["callboard:user:alice", "sse_alice"]);
    assert_eq!(sources.standing(), []);
}

#[test]
fn a_message_goes_to_whom_its_channel_stands_for() {
    let sources = defaults();
    let to = |target: Target| Ok(vec![target]);
    let native = r#"{"event":"e"}"#;
    let table = [
        ("callboard:room:a:b", native, "callboard:room:{room}", to(room("a:b"))),
        ("callboard:user:alice", native, "callboard:user:{user}", to(user("alice"))),
        ("sse", r#"["e","t"]"#, "sse", to(room("sse"))),
        ("sse_alice", r#"["e","t"]"#, "sse_{user}", to(user("alice"))),
        ("socketio_r", r#"{"name":"e","args":["r"]}"#, "socketio_{room}", to(room("r"))),
        ("sse_alice", native, "sse_{user}", Err("wrong_shape")),
    ];
    for (channel, payload, label, expected) in table {
        assert_eq!(route(&sources, channel, payload), Some((label.to_owned(), expected)), "{channel}");
    }
    for channel in ["ss", "sse_", "ssex", "callboard:room:", "callboard:clock", "SSE", ""] {
        assert_eq!(route(&sources, channel, native), None, "{channel}");
    }
}

#[test]
fn a_channel_that_names_no_valid_name_is_counted_as_such() {
    let sources = defaults();
    for channel in ["callboard:room:a\nb".to_owned(), format!("sse_{}", "x".repeat(201))] {
        let (_, outcome) = route(&sources, &channel, r#"["e","t"]"#).unwrap();
        assert_eq!(outcome, Err("name_invalid"), "{channel}");
    }
}

#[test]
fn the_first_matching_source_decides_for_subscribing_and_for_reading() {
    let sources = sources(&[("x_{user}", Dialect::Raw, None), ("x_{room}", Dialect::Raw, None), ("x_y", Dialect::Raw, Some("z"))]);
    assert_eq!(channels(&sources, &user("y")), ["x_y"]);
    assert_eq!(channels(&sources, &room("y")), [""; 0]);
    assert_eq!(channels(&sources, &room("z")), [""; 0]);
    assert_eq!(route(&sources, "x_y", "1").unwrap().1, Ok(vec![user("y")]));
}

#[test]
fn a_channel_of_two_sources_for_one_room_is_subscribed_once() {
    let sources = sources(&[("news", Dialect::Raw, Some("news")), ("{room}", Dialect::Callboard, None), ("n{room}", Dialect::Raw, None)]);
    assert_eq!(channels(&sources, &room("news")), ["news"]);
    assert_eq!(channels(&sources, &room("ews")), ["ews"]);
    assert_eq!(route(&sources, "news", "plain").unwrap().0, "news");
}

#[test]
fn channels_whose_payloads_name_their_rooms_are_always_subscribed() {
    let sources = sources(&[
        ("events_channel", Dialect::DjangoEventstream, None),
        ("socketio", Dialect::PythonSocketio, None),
        ("socket.io#*", Dialect::SocketioEmitter, None),
        ("__anycable__", Dialect::Anycable, None),
        ("sse", Dialect::FlaskSse, Some("sse")),
        ("firehose.*", Dialect::Raw, Some("firehose")),
        ("socketio", Dialect::PythonSocketio, None),
    ]);
    let names = |standing: Vec<Standing>| -> Vec<String> {
        standing
            .into_iter()
            .map(|one| match one {
                Standing::Channel(text) => format!("channel {text}"),
                Standing::Pattern(text) => format!("pattern {text}"),
            })
            .collect()
    };
    assert_eq!(
        names(sources.standing()),
        ["channel events_channel", "channel socketio", "pattern socket.io#*", "channel __anycable__", "pattern firehose.*"]
    );
    assert_eq!(channels(&sources, &room("sse")), ["sse"]);
    assert_eq!(channels(&sources, &room("firehose")), [""; 0]);
    assert_eq!(route(&sources, "firehose.7", "1").unwrap(), ("firehose.*".to_owned(), Ok(vec![room("firehose")])));
    let emit = r#"{"method":"emit","event":"e","data":[],"namespace":"/chat","room":null}"#;
    assert_eq!(route(&sources, "socketio", emit).unwrap().1, Ok(vec![Target::Namespace(Namespace::parse("/chat").unwrap())]));
    let broadcast = r#"{"stream":"s","data":"1"}"#;
    assert_eq!(route(&sources, "__anycable__", broadcast).unwrap().1, Ok(vec![room("s")]));
}

#[test]
fn a_pattern_reads_every_channel_below_it_and_trusts_the_payload() {
    let sources = sources(&[("socket.io#*", Dialect::SocketioEmitter, None)]);
    // [0, {type: 2, data: ["e"]}, {rooms: ["r"]}]
    let payload = b"\x93\0\x82\xa4type\x02\xa4data\x91\xa1e\x81\xa5rooms\x91\xa1r";
    for channel in ["socket.io#/#", "socket.io#/#other#", "socket.io#/#a#b c#"] {
        let deliveries = sources.decode(channel, payload).unwrap().deliveries.unwrap();
        let [Delivery::Emit(emit)] = &deliveries[..] else { panic!("{deliveries:?}") };
        assert_eq!(emit.to, room("r"), "{channel}");
    }
    assert!(sources.decode("socket.io-request#/#", payload).is_none());
}

#[test]
fn a_source_that_cannot_work_is_refused_with_the_reason() {
    let table = [
        (source("events", Dialect::Raw, None), "channel `events` says no room"),
        (source("a.*", Dialect::Callboard, None), "channel `a.*` says no room"),
        (source("e_{room}", Dialect::DjangoEventstream, None), "takes no placeholder and no `room`"),
        (source("events", Dialect::PythonSocketio, Some("r")), "takes no placeholder and no `room`"),
        (source("e_{room}", Dialect::Raw, Some("r")), "has a placeholder and a `room`"),
    ];
    for (result, expected) in table {
        let error = result.unwrap_err().to_string();
        assert!(error.contains(expected), "{error}");
    }
}

#[test]
fn an_option_of_another_dialect_is_refused_by_name() {
    let with = |dialect, options| Source::new("c", dialect, options, None).map(|_| ()).map_err(|error| error.to_string());
    let control = Options { control: true, ..Options::default() };
    let raw = Options { data: DataShape::Raw, ..Options::default() };
    let room_argument = Options { room_argument: true, ..Options::default() };
    assert_eq!(with(Dialect::PythonSocketio, control), Ok(()));
    assert_eq!(with(Dialect::PythonSocketio, raw), Ok(()));
    for (options, name) in [(control, "control"), (raw, "data"), (room_argument, "room_argument")] {
        assert_eq!(with(Dialect::Anycable, options), Err(format!("channel `c`: dialect anycable has no option `{name}`")));
    }
}

#[test]
fn a_pattern_beside_a_channel_below_it_is_refused() {
    let pattern = || source("a#*", Dialect::SocketioEmitter, None).unwrap();
    for overlapping in ["a#b", "a#{room}", "a{room}", "{user}"] {
        let fixed = (!overlapping.contains('{')).then_some("r");
        let other = source(overlapping, Dialect::Raw, fixed).unwrap();
        assert!(matches!(Sources::new(vec![other.clone(), pattern()]), Err(SourceError::Overlap { .. })), "{overlapping}");
        assert!(matches!(Sources::new(vec![pattern(), other]), Err(SourceError::Overlap { .. })), "{overlapping}");
    }
    assert!(Sources::new(vec![pattern(), pattern()]).is_err());
    for apart in ["a", "b#{room}", "a-{room}"] {
        let fixed = (!apart.contains('{')).then_some("r");
        assert!(Sources::new(vec![pattern(), source(apart, Dialect::Raw, fixed).unwrap()]).is_ok(), "{apart}");
    }
}

#[test]
fn a_text_that_is_no_template_is_refused_with_the_reason() {
    let text = str::to_owned;
    let table = [
        ("", TemplateError::Empty),
        ("a\nb", TemplateError::ControlCharacter(text("a\nb"))),
        ("x_{channel}", TemplateError::UnknownPlaceholder { channel: text("x_{channel}"), placeholder: text("{channel}") }),
        ("x_{}", TemplateError::UnknownPlaceholder { channel: text("x_{}"), placeholder: text("{}") }),
        ("{room}_{user}", TemplateError::SeveralPlaceholders(text("{room}_{user}"))),
        ("{room}_{room}", TemplateError::SeveralPlaceholders(text("{room}_{room}"))),
        ("{room}}", TemplateError::SeveralPlaceholders(text("{room}}"))),
        ("x_{room", TemplateError::UnpairedBrace(text("x_{room"))),
        ("x_}room{", TemplateError::UnpairedBrace(text("x_}room{"))),
        ("*a", TemplateError::BadPattern(text("*a"))),
        ("a**", TemplateError::BadPattern(text("a**"))),
        ("a?*", TemplateError::BadPattern(text("a?*"))),
        ("x_{room}*", TemplateError::BadPattern(text("x_{room}*"))),
    ];
    for (channel, expected) in table {
        assert_eq!(Template::parse(channel), Err(expected), "{channel:?}");
    }
}

#[test]
fn a_template_reads_the_channels_that_it_writes() {
    let template = Template::parse("é:{room}:x").unwrap();
    for name in ["a", "a:x", ":x", "é", "{room}"] {
        let channel = template.channel_of(&room(name)).unwrap();
        assert_eq!(template.read(&channel), Some(Match::Target(room(name))), "{channel}");
    }
    // Prefix and suffix may not share characters, and there must be a name between them.
    for channel in ["é::x", "é:x", "é:a", "e:a:x"] {
        assert_eq!(template.read(channel), None, "{channel}");
    }
    assert_eq!(template.channel_of(&Target::User(UserName::parse("a").unwrap())), None);
}
