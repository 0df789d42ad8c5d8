//! What the types that are published let their fields be, as serde knows it.

use std::collections::BTreeSet;

use serde::{
    Serialize,
    de::{DeserializeOwned, Deserializer, Error as _, Visitor, value::Error},
    forward_to_deserialize_any,
};
use serde_json::Value;

/// Asked for a value, it only notes which names there are.
struct Names<'a>(&'a mut BTreeSet<String>);

impl Names<'_> {
    fn note<T>(self, names: &[&str]) -> Result<T, Error> {
        self.0.extend(names.iter().map(|name| (*name).to_owned()));
        Err(Error::custom("there is no value"))
    }
}

impl<'de> Deserializer<'de> for Names<'_> {
    type Error = Error;

    fn deserialize_any<V: Visitor<'de>>(self, _: V) -> Result<V::Value, Error> {
        self.note(&[])
    }

    fn deserialize_struct<V: Visitor<'de>>(
        self,
        _: &'static str,
        fields: &'static [&'static str],
        _: V,
    ) -> Result<V::Value, Error> {
        self.note(fields)
    }

    fn deserialize_enum<V: Visitor<'de>>(
        self,
        _: &'static str,
        variants: &'static [&'static str],
        _: V,
    ) -> Result<V::Value, Error> {
        self.note(variants)
    }

    forward_to_deserialize_any! {
        bool i8 i16 i32 i64 i128 u8 u16 u32 u64 u128 f32 f64 char str string bytes byte_buf option
        unit unit_struct newtype_struct seq tuple tuple_struct map identifier ignored_any
    }
}

/// Fields of a struct, or variants of an enum.
pub fn names<T: DeserializeOwned>() -> BTreeSet<String> {
    let mut names = BTreeSet::new();
    assert!(T::deserialize(Names(&mut names)).is_err());
    names
}

/// Whether a field may be absent, and whether it may be `null`, when such a value is published.
#[derive(Debug, PartialEq, Eq)]
pub struct May {
    pub be_absent: bool,
    pub be_null: bool,
}

pub fn may<T: DeserializeOwned + Serialize>(value: &Value, field: &str) -> May {
    let published = |value: Value| {
        let value: T = serde_json::from_value(value).ok()?;
        Some(serde_json::to_value(value).unwrap().get(field).cloned())
    };
    let mut without = value.clone();
    without.as_object_mut().unwrap().remove(field);
    let mut with_null = value.clone();
    with_null[field] = Value::Null;
    May {
        be_absent: published(without) == Some(None),
        be_null: published(with_null) == Some(Some(Value::Null)),
    }
}
