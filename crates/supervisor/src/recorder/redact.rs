//! Leaving texts out of what is recorded.
//!
//! A text may quote a configuration: an error message, or the last lines of a process. So a serializer
//! stands between the two machines and the file, and gives each text a name. The names of types, fields
//! and variants pass. So a field that is added later leaves nothing in the file by mistake.

use std::fmt::Display;
use std::hash::{BuildHasher as _, RandomState};

use serde::Serialize;
use serde::ser::{
    SerializeMap, SerializeSeq, SerializeStruct, SerializeStructVariant, SerializeTuple,
    SerializeTupleStruct, SerializeTupleVariant, Serializer,
};

/// Names texts and digests: equal ones get equal names.
///
/// A name is a hash under a key that this process alone knows and forgets. So no text can be guessed
/// from its name, however short it is.
#[derive(Clone, Debug, Default)]
pub(super) struct Names(RandomState);

impl Names {
    /// The name of a text, with its length in bytes.
    fn of_text(&self, text: &str) -> String {
        format!("~{:016x}/{}", self.0.hash_one(text), text.len())
    }

    /// What stands for a digest.
    pub(super) fn of_digest(&self, digest: [u8; 32]) -> [u8; 32] {
        let name = self.0.hash_one(digest).to_le_bytes();
        let mut named = [0; 32];
        for (to, from) in named.iter_mut().zip(name) {
            *to = from;
        }
        named
    }

    /// Writes a value as JSON, without its texts.
    ///
    /// # Errors
    ///
    /// If the value has a map whose keys are no texts and no numbers.
    pub(super) fn json<T: Serialize>(&self, value: &T) -> serde_json::Result<String> {
        let mut json = Vec::with_capacity(128);
        let mut serializer = serde_json::Serializer::new(&mut json);
        value.serialize(Redacting {
            names: self,
            inner: &mut serializer,
        })?;
        // It was written by serde_json, which writes UTF-8.
        Ok(String::from_utf8(json).unwrap_or_default())
    }
}

/// A value whose texts are named when it is written.
struct Redacted<'a, T: ?Sized> {
    names: &'a Names,
    value: &'a T,
}

impl<T: Serialize + ?Sized> Serialize for Redacted<'_, T> {
    fn serialize<S: Serializer>(&self, inner: S) -> Result<S::Ok, S::Error> {
        self.value.serialize(Redacting {
            names: self.names,
            inner,
        })
    }
}

/// A serializer, or a part of one, that passes everything on but texts.
struct Redacting<'a, S> {
    names: &'a Names,
    inner: S,
}

macro_rules! pass_on {
    ($($method:ident($type:ty))*) => { $(
        fn $method(self, value: $type) -> Result<S::Ok, S::Error> {
            self.inner.$method(value)
        }
    )* };
}

impl<'a, S: Serializer> Serializer for Redacting<'a, S> {
    type Ok = S::Ok;
    type Error = S::Error;
    type SerializeSeq = Redacting<'a, S::SerializeSeq>;
    type SerializeTuple = Redacting<'a, S::SerializeTuple>;
    type SerializeTupleStruct = Redacting<'a, S::SerializeTupleStruct>;
    type SerializeTupleVariant = Redacting<'a, S::SerializeTupleVariant>;
    type SerializeMap = Redacting<'a, S::SerializeMap>;
    type SerializeStruct = Redacting<'a, S::SerializeStruct>;
    type SerializeStructVariant = Redacting<'a, S::SerializeStructVariant>;

    pass_on! {
        serialize_bool(bool)
        serialize_i8(i8) serialize_i16(i16) serialize_i32(i32) serialize_i64(i64) serialize_i128(i128)
        serialize_u8(u8) serialize_u16(u16) serialize_u32(u32) serialize_u64(u64) serialize_u128(u128)
        serialize_f32(f32) serialize_f64(f64)
    }

    fn serialize_str(self, text: &str) -> Result<S::Ok, S::Error> {
        self.inner.serialize_str(&self.names.of_text(text))
    }

    fn serialize_char(self, character: char) -> Result<S::Ok, S::Error> {
        self.serialize_str(character.encode_utf8(&mut [0; 4]))
    }

    fn serialize_bytes(self, bytes: &[u8]) -> Result<S::Ok, S::Error> {
        self.serialize_str(&String::from_utf8_lossy(bytes))
    }

    fn collect_str<T: Display + ?Sized>(self, value: &T) -> Result<S::Ok, S::Error> {
        self.serialize_str(&value.to_string())
    }

    fn serialize_none(self) -> Result<S::Ok, S::Error> {
        self.inner.serialize_none()
    }

    fn serialize_some<T: Serialize + ?Sized>(self, value: &T) -> Result<S::Ok, S::Error> {
        let names = self.names;
        self.inner.serialize_some(&Redacted { names, value })
    }

    fn serialize_unit(self) -> Result<S::Ok, S::Error> {
        self.inner.serialize_unit()
    }

    fn serialize_unit_struct(self, name: &'static str) -> Result<S::Ok, S::Error> {
        self.inner.serialize_unit_struct(name)
    }

    fn serialize_unit_variant(
        self,
        name: &'static str,
        index: u32,
        variant: &'static str,
    ) -> Result<S::Ok, S::Error> {
        self.inner.serialize_unit_variant(name, index, variant)
    }

    fn serialize_newtype_struct<T: Serialize + ?Sized>(
        self,
        name: &'static str,
        value: &T,
    ) -> Result<S::Ok, S::Error> {
        let names = self.names;
        let value = Redacted { names, value };
        self.inner.serialize_newtype_struct(name, &value)
    }

    fn serialize_newtype_variant<T: Serialize + ?Sized>(
        self,
        name: &'static str,
        index: u32,
        variant: &'static str,
        value: &T,
    ) -> Result<S::Ok, S::Error> {
        let names = self.names;
        let value = Redacted { names, value };
        let inner = self.inner;
        inner.serialize_newtype_variant(name, index, variant, &value)
    }

    fn serialize_seq(self, length: Option<usize>) -> Result<Self::SerializeSeq, S::Error> {
        let names = self.names;
        let inner = self.inner.serialize_seq(length)?;
        Ok(Redacting { names, inner })
    }

    fn serialize_tuple(self, length: usize) -> Result<Self::SerializeTuple, S::Error> {
        let names = self.names;
        let inner = self.inner.serialize_tuple(length)?;
        Ok(Redacting { names, inner })
    }

    fn serialize_tuple_struct(
        self,
        name: &'static str,
        length: usize,
    ) -> Result<Self::SerializeTupleStruct, S::Error> {
        let names = self.names;
        let inner = self.inner.serialize_tuple_struct(name, length)?;
        Ok(Redacting { names, inner })
    }

    fn serialize_tuple_variant(
        self,
        name: &'static str,
        index: u32,
        variant: &'static str,
        length: usize,
    ) -> Result<Self::SerializeTupleVariant, S::Error> {
        let names = self.names;
        let inner = self.inner;
        let inner = inner.serialize_tuple_variant(name, index, variant, length)?;
        Ok(Redacting { names, inner })
    }

    fn serialize_map(self, length: Option<usize>) -> Result<Self::SerializeMap, S::Error> {
        let names = self.names;
        let inner = self.inner.serialize_map(length)?;
        Ok(Redacting { names, inner })
    }

    fn serialize_struct(
        self,
        name: &'static str,
        length: usize,
    ) -> Result<Self::SerializeStruct, S::Error> {
        let names = self.names;
        let inner = self.inner.serialize_struct(name, length)?;
        Ok(Redacting { names, inner })
    }

    fn serialize_struct_variant(
        self,
        name: &'static str,
        index: u32,
        variant: &'static str,
        length: usize,
    ) -> Result<Self::SerializeStructVariant, S::Error> {
        let names = self.names;
        let inner = self.inner;
        let inner = inner.serialize_struct_variant(name, index, variant, length)?;
        Ok(Redacting { names, inner })
    }
}

/// The parts whose elements have no name.
macro_rules! elements {
    ($($part:ident::$method:ident)*) => { $(
        impl<S: $part> $part for Redacting<'_, S> {
            type Ok = S::Ok;
            type Error = S::Error;

            fn $method<T: Serialize + ?Sized>(&mut self, value: &T) -> Result<(), S::Error> {
                let names = self.names;
                self.inner.$method(&Redacted { names, value })
            }

            fn end(self) -> Result<S::Ok, S::Error> {
                self.inner.end()
            }
        }
    )* };
}

elements! {
    SerializeSeq::serialize_element
    SerializeTuple::serialize_element
    SerializeTupleStruct::serialize_field
    SerializeTupleVariant::serialize_field
}

/// The parts whose fields have names, which pass.
macro_rules! fields {
    ($($part:ident)*) => { $(
        impl<S: $part> $part for Redacting<'_, S> {
            type Ok = S::Ok;
            type Error = S::Error;

            fn serialize_field<T: Serialize + ?Sized>(
                &mut self,
                key: &'static str,
                value: &T,
            ) -> Result<(), S::Error> {
                let names = self.names;
                self.inner.serialize_field(key, &Redacted { names, value })
            }

            fn end(self) -> Result<S::Ok, S::Error> {
                self.inner.end()
            }
        }
    )* };
}

fields! { SerializeStruct SerializeStructVariant }

impl<S: SerializeMap> SerializeMap for Redacting<'_, S> {
    type Ok = S::Ok;
    type Error = S::Error;

    fn serialize_key<T: Serialize + ?Sized>(&mut self, value: &T) -> Result<(), S::Error> {
        let names = self.names;
        self.inner.serialize_key(&Redacted { names, value })
    }

    fn serialize_value<T: Serialize + ?Sized>(&mut self, value: &T) -> Result<(), S::Error> {
        let names = self.names;
        self.inner.serialize_value(&Redacted { names, value })
    }

    fn end(self) -> Result<S::Ok, S::Error> {
        self.inner.end()
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use serde::Serialize;

    use super::*;

    #[derive(Serialize)]
    enum All<'a> {
        Unit,
        Newtype(&'a str),
        Tuple(&'a str, u8),
        Struct {
            text: &'a str,
            more: Option<&'a str>,
        },
    }

    #[derive(Serialize)]
    struct Outer<'a> {
        all: Vec<All<'a>>,
        tuple: (&'a str, Wrapped<'a>),
        pair: Pair<'a>,
        map: BTreeMap<&'a str, &'a str>,
        numbers: BTreeMap<u32, Option<bool>>,
        letter: char,
        result: Result<u8, &'a str>,
    }

    #[derive(Serialize)]
    struct Wrapped<'a>(&'a str);

    #[derive(Serialize)]
    struct Pair<'a>(&'a str, char);

    #[test]
    fn no_text_passes_wherever_it_is_and_every_name_of_a_type_does() {
        let secret = "x-marker";
        let value = Outer {
            all: vec![
                All::Unit,
                All::Newtype(secret),
                All::Tuple(secret, 7),
                All::Struct {
                    text: secret,
                    more: Some(secret),
                },
            ],
            tuple: (secret, Wrapped(secret)),
            pair: Pair(secret, 'Q'),
            map: BTreeMap::from([(secret, secret)]),
            numbers: BTreeMap::from([(3, Some(true)), (4, None)]),
            letter: 'Q',
            result: Err(secret),
        };
        let names = Names::default();
        let json = names.json(&value).unwrap();
        assert!(!json.contains("marker") && !json.contains('Q'), "{json}");
        let name = names.of_text(secret);
        assert!(name.ends_with("/8"), "{name}");
        assert_eq!(json.matches(&name).count(), 10, "{json}");
        for known in [
            "\"Unit\"",
            "\"Struct\"",
            "\"more\"",
            "\"numbers\":{\"3\":true,\"4\":null}",
        ] {
            assert!(json.contains(known), "{known}: {json}");
        }
    }

    #[test]
    fn equal_texts_have_equal_names_and_another_process_has_others() {
        let names = Names::default();
        assert_eq!(names.of_text("a"), names.of_text("a"));
        assert_ne!(names.of_text("a"), names.of_text("b"));
        assert_ne!(names.of_text("a"), Names::default().of_text("a"));
        assert_eq!(names.of_digest([1; 32]), names.of_digest([1; 32]));
        assert_ne!(names.of_digest([1; 32]), names.of_digest([2; 32]));
        assert_ne!(names.of_digest([1; 32]), [1; 32]);
    }
}
