//! What is published in the model: events that are numbered, in one room.

use std::sync::Arc;

use callboard::{
    broker::archive::Entry,
    protocol::{
        Argument, Event, EventName, Publication, RoomName,
        resume::{Point, ResumeKey},
    },
};

pub const KEY: ResumeKey = ResumeKey::new([1; 16]);

pub fn room() -> RoomName {
    RoomName::parse("r").unwrap()
}

pub fn publication(number: u64) -> Publication {
    let event = Event::new(EventName::parse("n").unwrap(), [Argument::from_value(&number.into())]);
    Publication::new(room().into(), Arc::new(event))
}

pub fn number(publication: &Publication) -> u64 {
    publication.event.json_arguments()[0].parse().unwrap()
}

pub fn read(entry: &Entry) -> Option<Arc<Publication>> {
    let mut publication = publication(std::str::from_utf8(&entry.payload).unwrap().parse().unwrap());
    publication.place(Point { room: KEY.room(&room()), position: entry.position, key: KEY });
    Some(Arc::new(publication))
}
