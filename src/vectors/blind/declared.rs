//! The declared fields of a collection: those that an engine filters by.

use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::error::{Error, Result};
use crate::filter::JsonPath;
use crate::limits;

/// What values a declared field mostly has, named as Qdrant names its payload indexes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum IndexKind {
    /// Texts, to be matched whole.
    Keyword = 0,
    /// Integers of 64 bits.
    Integer = 1,
    /// Numbers.
    Float = 2,
    /// Truth values.
    Bool = 3,
    /// Dates.
    Datetime = 4,
    /// UUIDs, matched as they are written.
    Uuid = 5,
}

/// How a field is declared.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FieldIndexSpec {
    /// What values it mostly has.
    #[serde(rename = "type")]
    pub kind: IndexKind,
    /// Of a `keyword` field: whether it may be asked for texts that start so. That they start alike shows then.
    #[serde(default, skip_serializing_if = "is_false")]
    pub prefix: bool,
    /// Of an `integer` field: whether it may be asked for ranges. That integers are close shows then.
    #[serde(default = "yes", skip_serializing_if = "is_true")]
    pub range: bool,
    /// Whether points that were there when it was declared may still be without its tokens.
    #[serde(default, skip_serializing_if = "is_false")]
    pub building: bool,
    /// Whether it is declared no more, and points may still have its tokens.
    #[serde(default, skip_serializing_if = "is_false")]
    pub dropping: bool,
}

impl FieldIndexSpec {
    /// A field of `kind`, without prefixes and with ranges.
    pub fn new(kind: IndexKind) -> Self {
        Self { kind, prefix: false, range: true, building: false, dropping: false }
    }

    /// The same with prefixes.
    #[must_use]
    pub fn with_prefix(mut self) -> Self {
        self.prefix = true;
        self
    }

    /// The same without ranges.
    #[must_use]
    pub fn without_range(mut self) -> Self {
        self.range = false;
        self
    }

    fn validate(&self) -> Result<()> {
        if self.prefix && self.kind != IndexKind::Keyword {
            return Err(Error::invalid("only a `keyword` field has prefixes"));
        }
        if !self.range && self.kind != IndexKind::Integer {
            return Err(Error::invalid("only an `integer` field can do without ranges"));
        }
        Ok(())
    }
}

impl FromStr for IndexKind {
    type Err = Error;

    fn from_str(s: &str) -> Result<Self> {
        match s {
            "keyword" => Ok(Self::Keyword),
            "integer" => Ok(Self::Integer),
            "float" => Ok(Self::Float),
            "bool" => Ok(Self::Bool),
            "datetime" => Ok(Self::Datetime),
            "uuid" => Ok(Self::Uuid),
            _ => Err(Error::invalid(format!("`{}` is not a type of an index", crate::id::shown(s)))
                .with_remedy("use `keyword`, `integer`, `float`, `bool`, `datetime` or `uuid`")),
        }
    }
}

impl fmt::Display for IndexKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Keyword => "keyword",
            Self::Integer => "integer",
            Self::Float => "float",
            Self::Bool => "bool",
            Self::Datetime => "datetime",
            Self::Uuid => "uuid",
        })
    }
}

/// The declared fields, by path.
#[derive(Clone, Default)]
pub(in crate::vectors) struct Declared(BTreeMap<JsonPath, FieldIndexSpec>);

impl Declared {
    /// Reads and checks what a description has.
    pub(in crate::vectors) fn new(indexes: &BTreeMap<String, FieldIndexSpec>) -> Result<Self> {
        if indexes.len() > limits::FIELD_INDEXES {
            return Err(Error::invalid(format!("a collection has at most {} declared fields", limits::FIELD_INDEXES)));
        }
        let read = |(path, spec): (&String, &FieldIndexSpec)| {
            let parsed: JsonPath = path.parse()?;
            if parsed.to_string() != *path {
                return Err(Error::invalid(format!("`{}` is written as `{}`", crate::id::shown(path), parsed.shown())));
            }
            spec.validate()?;
            Ok((parsed, *spec))
        };
        Ok(Self(indexes.iter().map(read).collect::<Result<_>>()?))
    }

    pub(in crate::vectors) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Whether there is one whose tokens some points have and others do not.
    pub(in crate::vectors) fn is_changing(&self) -> bool {
        self.0.values().any(|spec| spec.building || spec.dropping)
    }

    /// Those that points have tokens of.
    pub(super) fn iter(&self) -> impl Iterator<Item = (&JsonPath, &FieldIndexSpec)> {
        self.0.iter().filter(|(_, spec)| !spec.dropping)
    }

    /// How `path` is declared.
    ///
    /// # Errors
    ///
    /// [`InvalidInput`](crate::ErrorKind::InvalidInput) when it is not, [`Busy`](crate::ErrorKind::Busy) while its tokens
    /// are being made.
    pub(super) fn get(&self, path: &JsonPath) -> Result<&FieldIndexSpec> {
        match self.0.get(path).filter(|spec| !spec.dropping) {
            Some(spec) if spec.building => {
                Err(Error::new(crate::ErrorKind::Busy, format!("the index of field `{}` is being made", path.shown()))
                    .with_remedy(
                        "try again later, or run `strongroom collection index create` again if that was ended",
                    ))
            }
            Some(spec) => Ok(spec),
            None => Err(Error::invalid(format!("the collection has no index of field `{}`", path.shown()))
                .with_remedy(
                    "declare it with `strongroom collection index create`: the engine filters by declared fields only",
                )),
        }
    }
}

fn is_false(value: &bool) -> bool {
    !value
}

fn is_true(value: &bool) -> bool {
    *value
}

fn yes() -> bool {
    true
}
