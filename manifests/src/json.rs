//! Strict JSON: the one function that turns bytes of a document into values.
//!
//! Two readers must never see different values in one document, so everything on which JSON parsers
//! disagree is refused, at any depth and also in parts a reader ignores: duplicate names (after their
//! escapes are resolved), numbers that are not integers within ±(2^53 - 1), nesting deeper than
//! [`DEPTH_CAP`], bytes after the value, a byte-order mark, invalid UTF-8. The typed layer adds:
//! unknown names refused (each struct says so), no `null`, a struct is never read from an array.
//! Documented in `docs/format/envelope.md`. Layer: pure.

use std::collections::HashSet;
use std::fmt;

use serde::de::value::{MapDeserializer, SeqDeserializer};
use serde::de::{self, DeserializeOwned, DeserializeSeed, IntoDeserializer, MapAccess, SeqAccess, Visitor};

use crate::refusal::{Class, Refusal};

/// The deepest nesting of arrays and objects.
pub const DEPTH_CAP: usize = 32;
/// The first integer that some JSON parsers round: 2^53.
pub const INTEGER_LIMIT: u64 = 1 << 53;

/// Reads an unsigned file of strict JSON: at most `cap` bytes, with the fields of `T` and no other.
///
/// # Errors
/// [`Class::TooBig`] or [`Class::Json`].
pub fn read<T: DeserializeOwned>(bytes: &[u8], cap: usize, object: &str) -> Result<T, Refusal> {
    Tree::read(bytes, cap, object)?.into_typed(object)
}

/// A checked document whose fields have not been given meaning yet.
#[derive(Debug, Clone, PartialEq)]
pub enum Tree {
    /// `null`.
    Null,
    /// `true` or `false`.
    Bool(bool),
    /// An integer that is not below zero.
    Positive(u64),
    /// An integer below zero.
    Negative(i64),
    /// A string.
    Text(String),
    /// An array.
    Array(Vec<Tree>),
    /// An object, in the order it was written, each name once.
    Object(Vec<(String, Tree)>),
}

impl Tree {
    /// Reads `bytes`, which must be one strict JSON value and no longer than `cap` bytes.
    ///
    /// # Errors
    /// [`Class::TooBig`], and [`Class::Json`] for everything on which JSON parsers disagree.
    pub fn read(bytes: &[u8], cap: usize, object: &str) -> Result<Tree, Refusal> {
        if bytes.len() > cap {
            return Err(Refusal::new(Class::TooBig, object, format!("at most {cap} bytes"), "more"));
        }
        let mut reader = serde_json::Deserializer::from_slice(bytes);
        Level(0)
            .deserialize(&mut reader)
            .and_then(|tree| reader.end().map(|()| tree))
            .map_err(|error| Refusal::new(Class::Json, object, "strict JSON", error))
    }

    /// Gives the document its meaning.
    pub(crate) fn into_typed<T: DeserializeOwned>(self, object: &str) -> Result<T, Refusal> {
        T::deserialize(self).map_err(|error| Refusal::new(Class::Json, object, "the fields its format names", error))
    }

    /// The value of `name`, if this is an object that has it.
    pub fn get(&self, name: &str) -> Option<&Tree> {
        match self {
            Tree::Object(fields) => fields.iter().find(|(field, _)| field == name).map(|(_, value)| value),
            _ => None,
        }
    }

    /// Removes and returns the value of `name`, if this is an object that has it.
    pub(crate) fn take(&mut self, name: &str) -> Option<Tree> {
        let Tree::Object(fields) = self else {
            return None;
        };
        let at = fields.iter().position(|(field, _)| field == name)?;
        Some(fields.remove(at).1)
    }
}

/// The reader of one value that has this many arrays and objects around it.
#[derive(Clone, Copy)]
struct Level(usize);

impl Level {
    fn deeper<E: de::Error>(self) -> Result<Level, E> {
        if self.0 == DEPTH_CAP {
            return Err(E::custom(format_args!("nested deeper than {DEPTH_CAP} levels")));
        }
        Ok(Level(self.0 + 1))
    }
}

impl<'de> DeserializeSeed<'de> for Level {
    type Value = Tree;

    fn deserialize<D: de::Deserializer<'de>>(self, deserializer: D) -> Result<Tree, D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Level {
    type Value = Tree;

    fn expecting(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str("an integer, a string, a boolean, an array or an object")
    }

    fn visit_unit<E: de::Error>(self) -> Result<Tree, E> {
        Ok(Tree::Null)
    }

    fn visit_bool<E: de::Error>(self, value: bool) -> Result<Tree, E> {
        Ok(Tree::Bool(value))
    }

    fn visit_u64<E: de::Error>(self, value: u64) -> Result<Tree, E> {
        if value >= INTEGER_LIMIT {
            return Err(E::custom("an integer of 2^53 or more"));
        }
        Ok(Tree::Positive(value))
    }

    fn visit_i64<E: de::Error>(self, value: i64) -> Result<Tree, E> {
        if value.unsigned_abs() >= INTEGER_LIMIT {
            return Err(E::custom("an integer of -2^53 or less"));
        }
        Ok(Tree::Negative(value))
    }

    fn visit_f64<E: de::Error>(self, _: f64) -> Result<Tree, E> {
        Err(E::custom("a number that is not written as an integer below 2^53"))
    }

    fn visit_str<E: de::Error>(self, value: &str) -> Result<Tree, E> {
        Ok(Tree::Text(value.to_owned()))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Tree, A::Error> {
        let inner = self.deeper()?;
        let mut array = Vec::new();
        while let Some(item) = items.next_element_seed(inner)? {
            array.push(item);
        }
        Ok(Tree::Array(array))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut fields: A) -> Result<Tree, A::Error> {
        let inner = self.deeper()?;
        let mut object: Vec<(String, Tree)> = Vec::new();
        let mut names = HashSet::new();
        while let Some(name) = fields.next_key::<String>()? {
            if !names.insert(name.clone()) {
                return Err(de::Error::custom(format_args!("the name `{}` twice", name.escape_debug())));
            }
            object.push((name, fields.next_value_seed(inner)?));
        }
        Ok(Tree::Object(object))
    }
}

type Error = de::value::Error;

impl IntoDeserializer<'_, Error> for Tree {
    type Deserializer = Tree;

    fn into_deserializer(self) -> Tree {
        self
    }
}

impl<'de> de::Deserializer<'de> for Tree {
    type Error = Error;

    fn deserialize_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        match self {
            Tree::Null => visitor.visit_unit(),
            Tree::Bool(value) => visitor.visit_bool(value),
            Tree::Positive(value) => visitor.visit_u64(value),
            Tree::Negative(value) => visitor.visit_i64(value),
            Tree::Text(text) => visitor.visit_string(text),
            Tree::Array(items) => {
                let mut access = SeqDeserializer::new(items.into_iter());
                let value = visitor.visit_seq(&mut access)?;
                access.end().map(|()| value)
            }
            Tree::Object(fields) => {
                let mut access = MapDeserializer::new(fields.into_iter());
                let value = visitor.visit_map(&mut access)?;
                access.end().map(|()| value)
            }
        }
    }

    fn deserialize_option<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        match self {
            // An absent field is the only way to say nothing.
            Tree::Null => Err(de::Error::custom("`null`, which no field may be")),
            value => visitor.visit_some(value),
        }
    }

    fn deserialize_struct<V: Visitor<'de>>(
        self,
        name: &'static str,
        _: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Error> {
        // The derived reader would also take the fields from an array, in order and without names.
        match self {
            Tree::Object(_) => self.deserialize_any(visitor),
            _ => Err(de::Error::custom(format_args!("something else than an object for {name}"))),
        }
    }

    fn deserialize_newtype_struct<V: Visitor<'de>>(self, _: &'static str, visitor: V) -> Result<V::Value, Error> {
        visitor.visit_newtype_struct(self)
    }

    serde::forward_to_deserialize_any! {
        bool i8 i16 i32 i64 i128 u8 u16 u32 u64 u128 f32 f64 char str string bytes byte_buf unit
        unit_struct seq tuple tuple_struct map enum identifier ignored_any
    }
}

#[cfg(test)]
mod tests {
    use serde::Deserialize;

    use super::*;

    #[derive(Debug, PartialEq, Deserialize)]
    #[serde(deny_unknown_fields)]
    struct Sample {
        seq: u64,
        #[serde(default)]
        name: Option<String>,
        #[serde(default)]
        inner: Vec<Inner>,
        #[serde(default)]
        ext: serde_json::Map<String, serde_json::Value>,
    }

    #[derive(Debug, PartialEq, Deserialize)]
    #[serde(deny_unknown_fields)]
    struct Inner {
        bytes: u32,
    }

    fn parse(text: impl AsRef<[u8]>) -> Result<Sample, Class> {
        let tree = Tree::read(text.as_ref(), 1000, "sample").map_err(|refusal| refusal.class())?;
        tree.into_typed("sample").map_err(|refusal| refusal.class())
    }

    #[test]
    fn what_the_format_names_is_read() {
        let sample =
            parse(r#" {"seq":9007199254740991,"name":"a","inner":[{"bytes":4294967295}],"ext":{"x":[true,null,-1]}} "#);
        let sample = sample.unwrap();
        assert_eq!((sample.seq, sample.name.as_deref()), ((1 << 53) - 1, Some("a")));
        assert_eq!(sample.inner, [Inner { bytes: u32::MAX }]);
        assert_eq!(sample.ext.len(), 1);
        assert_eq!(parse(r#"{"seq":0}"#).map(|sample| sample.seq), Ok(0));
    }

    #[test]
    fn everything_on_which_parsers_disagree_is_refused() {
        for text in [
            "",
            "{}",
            "[0]",
            r#"{"seq":1,"seq":2}"#,
            r#"{"seq":1,"s\u0065q":2}"#,
            r#"{"seq":1,"Seq":2}"#,
            r#"{"seq":1,"other":2}"#,
            r#"{"seq":9007199254740992}"#,
            r#"{"seq":18446744073709551617}"#,
            r#"{"seq":-1}"#,
            r#"{"seq":-0}"#,
            r#"{"seq":1.0}"#,
            r#"{"seq":1e3}"#,
            r#"{"seq":NaN}"#,
            r#"{"seq":01}"#,
            r#"{"seq":"1"}"#,
            r#"{"seq":null}"#,
            r#"{"seq":1,"name":null}"#,
            r#"{"seq":1,"inner":[[1]]}"#,
            r#"{"seq":1,"inner":[{"bytes":4294967296}]}"#,
            r#"{"seq":1,"inner":{"0":{"bytes":1}}}"#,
            r#"{"seq":1} x"#,
            r#"{"seq":1}{"seq":1}"#,
            r#"{"seq":1,}"#,
            r#"{'seq':1}"#,
            "{\"seq\":1}\u{0}",
            "\u{feff}{\"seq\":1}",
            r#"{"seq":1,"name":"\ud800"}"#,
            r#"{"seq":1,"ext":{"a":1,"a":2}}"#,
            r#"{"seq":1,"ext":{"a":[{"b":1.5}]}}"#,
            r#"{"seq":1,"ext":{"a":-9007199254740992}}"#,
            r#"{"seq":1,"ext":[]}"#,
        ] {
            assert_eq!(parse(text), Err(Class::Json), "{text}");
        }
        assert_eq!(parse(b"{\"seq\":1,\"name\":\"\xff\"}"), Err(Class::Json));
    }

    #[test]
    fn nesting_is_refused_beyond_the_cap_and_never_overflows_the_stack() {
        let nested = |levels: usize| format!("{}{}", "[".repeat(levels), "]".repeat(levels));
        let read = |text: &str| Tree::read(text.as_bytes(), 1 << 20, "sample").is_ok();
        assert!(read(&nested(DEPTH_CAP)));
        assert!(!read(&nested(DEPTH_CAP + 1)));
        assert!(!read(&"[".repeat(100_000)));
    }

    #[test]
    fn the_cap_is_checked_before_parsing() {
        assert_eq!(parse("x".repeat(1001)), Err(Class::TooBig));
    }
}
