//! From a tree to typed configuration: a serde deserializer over [`Node`] whose errors know where they happened.

use serde::{
    de::{
        DeserializeSeed, Deserializer, EnumAccess, Error, Expected, IntoDeserializer, MapAccess, SeqAccess, Unexpected, VariantAccess,
        Visitor,
    },
    forward_to_deserialize_any,
};

use super::{
    error::{ConfigError, Mistake, nearest},
    tree::{Entry, Kind, Node, Place},
    units::MASK,
};

/// Longest part of a value that an error repeats.
const SHOWN_CHARACTERS: usize = 60;

/// Keys whose values no error repeats.
const SECRET_KEYS: [&str; 5] = ["url", "secret", "keys", "resp_password", "room_secret"];

/// Reads a whole tree.
pub(super) fn read<T: serde::de::DeserializeOwned>(root: &Node) -> Result<T, ConfigError> {
    T::deserialize(At(root)).map_err(|fault| fault.into_mistake().into())
}

/// A mistake on its way up to where its path is known.
#[derive(Debug)]
pub(super) struct Fault {
    problem: Problem,
    place: Option<Place>,
    written: Option<String>,
    /// From the inside out.
    path: Vec<Step>,
}

#[derive(Debug)]
enum Problem {
    UnknownKey { key: String, known: &'static [&'static str] },
    MissingKey(&'static str),
    Bad(String),
}

#[derive(Debug)]
enum Step {
    Key(String),
    Item,
}

impl Fault {
    fn new(problem: Problem) -> Self {
        Self { problem, place: None, written: None, path: Vec::new() }
    }

    /// One level up: the innermost value that failed is the one to name.
    fn within(mut self, node: &Node, step: Step) -> Self {
        self.place.get_or_insert_with(|| node.place.clone());
        self.written.get_or_insert_with(|| shorten(&node.written));
        self.path.push(step);
        self
    }

    fn into_mistake(self) -> Mistake {
        let path: Vec<&Step> = self.path.iter().rev().collect();
        let section = section(&path);
        let mut keys: Vec<&str> =
            path.iter().skip(1).filter_map(|step| if let Step::Key(key) = step { Some(&**key) } else { None }).collect();
        match self.problem {
            Problem::UnknownKey { key, known } => {
                // An unknown key is always noted with the place of the key itself.
                let place = self.place.unwrap_or(Place::Environment("configuration".into()));
                if path.is_empty() {
                    let nearest = nearest(&key, known).map(|name| format!("[{name}]"));
                    let known = known.iter().map(|name| format!("[{name}]")).collect();
                    return Mistake::UnknownSection { place, section: key, nearest, known };
                }
                let prefix: String = keys.iter().map(|part| format!("{part}.")).collect();
                let nearest = nearest(&key, known).map(|name| format!("\"{prefix}{name}\""));
                let known = known.iter().map(|name| (*name).to_owned()).collect();
                Mistake::UnknownKey { place, section, key: format!("{prefix}{key}"), nearest, known }
            }
            Problem::MissingKey(key) => {
                keys.push(key);
                let expected = format!("key \"{}\" is missing", keys.join("."));
                Mistake::BadSection { place: self.place, section, expected }
            }
            Problem::Bad(expected) if keys.is_empty() => Mistake::BadSection { place: self.place, section, expected },
            Problem::Bad(expected) => {
                let is_secret = keys.last().is_some_and(|key| SECRET_KEYS.contains(key));
                let value = if is_secret { MASK.to_owned() } else { self.written.unwrap_or_default() };
                Mistake::BadValue { place: self.place, section, key: keys.join("."), value, expected }
            }
        }
    }
}

/// `[server]`, or `[[room]]` for one of many.
fn section(path: &[&Step]) -> String {
    match path {
        [Step::Key(name), Step::Item, ..] => format!("[[{name}]]"),
        [Step::Key(name), ..] => format!("[{name}]"),
        _ => String::new(),
    }
}

fn shorten(written: &str) -> String {
    let line = written.lines().next().unwrap_or_default();
    match line.char_indices().nth(SHOWN_CHARACTERS) {
        Some((end, _)) => format!("{}…", &line[..end]),
        None => line.to_owned(),
    }
}

impl std::fmt::Display for Fault {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{:?}", self.problem)
    }
}

impl std::error::Error for Fault {}

impl Error for Fault {
    fn custom<T: std::fmt::Display>(message: T) -> Self {
        Self::new(Problem::Bad(message.to_string()))
    }

    fn invalid_type(_: Unexpected<'_>, expected: &dyn Expected) -> Self {
        Self::custom(format_args!("expected {}", plain(&expected.to_string())))
    }

    fn invalid_value(_: Unexpected<'_>, expected: &dyn Expected) -> Self {
        Self::custom(format_args!("expected {}", plain(&expected.to_string())))
    }

    fn unknown_variant(_: &str, expected: &'static [&'static str]) -> Self {
        let names: Vec<String> = expected.iter().map(|name| format!("\"{name}\"")).collect();
        Self::custom(format_args!("expected one of {}", names.join(", ")))
    }

    fn missing_field(field: &'static str) -> Self {
        Self::new(Problem::MissingKey(field))
    }
}

/// serde's words for Rust's types, in an operator's words.
fn plain(expected: &str) -> String {
    match expected {
        "a string" => "a text in quotes".to_owned(),
        "a boolean" => "true or false".to_owned(),
        "a sequence" => "a list such as [\"…\"]".to_owned(),
        "u8" | "u16" | "u32" | "u64" | "usize" => "a whole number, not negative".to_owned(),
        other if other.starts_with("struct") || other == "a map" => "a table".to_owned(),
        other if other.starts_with("path") => "a path in quotes".to_owned(),
        other => other.to_owned(),
    }
}

/// A node, being read.
#[derive(Clone, Copy)]
struct At<'a>(&'a Node);

impl<'de> Deserializer<'de> for At<'_> {
    type Error = Fault;

    fn deserialize_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Fault> {
        match &self.0.kind {
            Kind::Text(text) => visitor.visit_str(text),
            Kind::Integer(number) if *number >= 0 => visitor.visit_u64(number.unsigned_abs()),
            Kind::Integer(number) => visitor.visit_i64(*number),
            Kind::Float(number) => visitor.visit_f64(*number),
            Kind::Boolean(value) => visitor.visit_bool(*value),
            Kind::Other => Err(Fault::invalid_type(Unexpected::Other("date"), &visitor)),
            Kind::List(items) => visitor.visit_seq(Items(items.iter())),
            Kind::Table(entries) => visitor.visit_map(Entries { rest: entries.iter(), value: None }),
        }
    }

    /// From the environment a text needs no quotes, so `12345` is one where a text is due.
    fn deserialize_str<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Fault> {
        match (&self.0.place, &self.0.kind) {
            (Place::Environment(_), Kind::Integer(_) | Kind::Float(_) | Kind::Boolean(_) | Kind::Other) => {
                visitor.visit_str(&self.0.written)
            }
            _ => self.deserialize_any(visitor),
        }
    }

    fn deserialize_string<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Fault> {
        self.deserialize_str(visitor)
    }

    fn deserialize_option<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Fault> {
        visitor.visit_some(self)
    }

    fn deserialize_newtype_struct<V: Visitor<'de>>(self, _: &'static str, visitor: V) -> Result<V::Value, Fault> {
        visitor.visit_newtype_struct(self)
    }

    /// serde would find an unknown key too, but not say where it stands.
    fn deserialize_struct<V: Visitor<'de>>(self, _: &'static str, fields: &'static [&'static str], visitor: V) -> Result<V::Value, Fault> {
        if let Kind::Table(entries) = &self.0.kind
            && let Some(entry) = entries.iter().find(|entry| !fields.contains(&&*entry.key))
        {
            let mut fault = Fault::new(Problem::UnknownKey { key: entry.key.clone(), known: fields });
            fault.place = Some(entry.place.clone());
            return Err(fault);
        }
        self.deserialize_any(visitor)
    }

    fn deserialize_enum<V: Visitor<'de>>(self, _: &'static str, variants: &'static [&'static str], visitor: V) -> Result<V::Value, Fault> {
        match &self.0.kind {
            Kind::Text(text) => visitor.visit_enum(Word(text)),
            _ => Err(Fault::unknown_variant("", variants)),
        }
    }

    forward_to_deserialize_any! {
        bool i8 i16 i32 i64 i128 u8 u16 u32 u64 u128 f32 f64 char bytes byte_buf unit unit_struct seq tuple tuple_struct map
        identifier ignored_any
    }
}

struct Items<'a>(std::slice::Iter<'a, Node>);

impl<'de> SeqAccess<'de> for Items<'_> {
    type Error = Fault;

    fn next_element_seed<T: DeserializeSeed<'de>>(&mut self, seed: T) -> Result<Option<T::Value>, Fault> {
        self.0.next().map(|node| seed.deserialize(At(node)).map_err(|fault| fault.within(node, Step::Item))).transpose()
    }
}

struct Entries<'a> {
    rest: std::slice::Iter<'a, Entry>,
    value: Option<&'a Entry>,
}

impl<'de> MapAccess<'de> for Entries<'_> {
    type Error = Fault;

    fn next_key_seed<K: DeserializeSeed<'de>>(&mut self, seed: K) -> Result<Option<K::Value>, Fault> {
        self.value = self.rest.next();
        self.value.map(|entry| seed.deserialize(entry.key.as_str().into_deserializer())).transpose()
    }

    fn next_value_seed<V: DeserializeSeed<'de>>(&mut self, seed: V) -> Result<V::Value, Fault> {
        // serde asks for a value only after its key.
        let Some(entry) = self.value.take() else { return Err(Fault::custom("a value without a key")) };
        seed.deserialize(At(&entry.value)).map_err(|fault| fault.within(&entry.value, Step::Key(entry.key.clone())))
    }
}

/// A text that chooses a variant.
struct Word<'a>(&'a str);

impl<'de> EnumAccess<'de> for Word<'_> {
    type Error = Fault;
    type Variant = Self;

    fn variant_seed<V: DeserializeSeed<'de>>(self, seed: V) -> Result<(V::Value, Self), Fault> {
        Ok((seed.deserialize(self.0.into_deserializer())?, self))
    }
}

impl<'de> VariantAccess<'de> for Word<'_> {
    type Error = Fault;

    fn unit_variant(self) -> Result<(), Fault> {
        Ok(())
    }

    fn newtype_variant_seed<T: DeserializeSeed<'de>>(self, _: T) -> Result<T::Value, Fault> {
        Err(Fault::custom("expected a word"))
    }

    fn tuple_variant<V: Visitor<'de>>(self, _: usize, _: V) -> Result<V::Value, Fault> {
        Err(Fault::custom("expected a word"))
    }

    fn struct_variant<V: Visitor<'de>>(self, _: &'static [&'static str], _: V) -> Result<V::Value, Fault> {
        Err(Fault::custom("expected a word"))
    }
}
