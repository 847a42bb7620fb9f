//! Filters in Qdrant's language: which records a search, a listing or a deletion is about.
//!
//! [`Filter::from_json`] reads the form of Qdrant's REST interface and [`Filter::to_json`] writes it in one canonical
//! way. [`Filter::matches`] says whether a record passes, with the meaning that Qdrant 1.20 gives a field that has no
//! payload index. What a filter looks at is the record's metadata and, where it is not empty, its text as field `text`.
//!
//! ```
//! # use strongroom::filter::{Condition, Filter, Match, Range};
//! let filter = Filter::default()
//!     .must(Condition::matches("city".parse()?, Match::Keyword("Berlin".into())))
//!     .must_not(Condition::range("price".parse()?, Range { gt: Some(9.5), ..Range::default() }));
//! assert!(filter == Filter::from_json(filter.to_json().as_bytes())?);
//! # Ok::<_, strongroom::Error>(())
//! ```

mod check;
mod date;
mod erase;
mod geo;
mod matches;
mod parse;
mod path;
mod record;
mod seen;
mod write;

use std::collections::BTreeSet;

use zeroize::Zeroize as _;

use crate::error::{Error, Result};
use crate::id::RecordId;
use crate::limits;

pub use check::{Check, Range, ValuesCount};
pub use date::Date;
pub(crate) use erase::erase_fields;
pub use geo::{GeoBox, GeoPoint, GeoPolygon, GeoRadius};
pub use matches::Match;
pub use path::{JsonPath, Step};
pub use record::Record;
pub(crate) use seen::Seen;

/// The field by which a filter sees the text of a chunk.
pub const TEXT_FIELD: &str = "text";

/// Which records pass: those that satisfy all four parts. An empty part is satisfied by every record.
///
/// Its values are secrets of a tenant: there is no `Debug`.
#[derive(Clone, Default, PartialEq)]
pub struct Filter {
    /// All of these hold.
    pub must: Vec<Condition>,
    /// None of these hold.
    pub must_not: Vec<Condition>,
    /// At least one of these holds.
    pub should: Vec<Condition>,
    /// At least so many of these hold.
    pub min_should: Option<MinShould>,
}

/// Conditions of which at least `min_count` hold.
#[derive(Clone, PartialEq)]
pub struct MinShould {
    /// The conditions.
    pub conditions: Vec<Condition>,
    /// How many hold at least, from 1.
    pub min_count: usize,
}

/// One thing that holds for a record or does not.
#[derive(Clone, PartialEq)]
pub enum Condition {
    /// A field has a value as described.
    Field(FieldCondition),
    /// A field is missing, `null` or an empty array, in all places that the path leads to.
    IsEmpty(JsonPath),
    /// A field is `null` or an array with a `null` in it, in one place that the path leads to.
    IsNull(JsonPath),
    /// The record has one of these ids.
    HasId(BTreeSet<RecordId>),
    /// The record has a vector of this name; the unnamed one is called the empty string.
    HasVector(String),
    /// The id of the record falls into one of equal, disjoint parts of all ids.
    Slice(Slice),
    /// An object in an array satisfies a filter all by itself.
    Nested {
        /// The array.
        key: JsonPath,
        /// What one object of it satisfies. Ids and vectors are never theirs.
        filter: Box<Filter>,
    },
    /// A filter within the filter.
    Filter(Box<Filter>),
}

/// A field and what is asked of its values.
#[derive(Clone, PartialEq)]
pub struct FieldCondition {
    /// The field.
    pub key: JsonPath,
    /// What is asked.
    pub check: Check,
}

/// Part `index` of `total` parts of all ids.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Slice {
    /// How many parts there are, from 1.
    pub total: u32,
    /// Which of them, from 0.
    pub index: u32,
}

impl Filter {
    /// The same where `condition` holds too.
    #[must_use]
    pub fn must(mut self, condition: impl Into<Condition>) -> Self {
        self.must.push(condition.into());
        self
    }

    /// The same where `condition` does not hold.
    #[must_use]
    pub fn must_not(mut self, condition: impl Into<Condition>) -> Self {
        self.must_not.push(condition.into());
        self
    }

    /// The same with `condition` among those of which one must hold.
    #[must_use]
    pub fn should(mut self, condition: impl Into<Condition>) -> Self {
        self.should.push(condition.into());
        self
    }

    /// The same where `min_count` of `conditions` hold.
    #[must_use]
    pub fn min_should(mut self, min_count: usize, conditions: Vec<Condition>) -> Self {
        self.min_should = Some(MinShould { conditions, min_count });
        self
    }

    /// Whether it asks nothing, so that every record passes.
    pub fn is_empty(&self) -> bool {
        self.must.is_empty() && self.must_not.is_empty() && self.should.is_empty() && self.min_should.is_none()
    }

    /// Checks every bound: for a filter that was put together by a caller. One that was read has been checked.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::InvalidInput`](crate::ErrorKind::InvalidInput) for a filter that is nested too deeply or too large,
    /// or that asks what cannot be asked.
    pub fn validate(&self) -> Result<()> {
        let mut left = Left { conditions: limits::FILTER_CONDITIONS, values: limits::FILTER_VALUES };
        self.check_bounds(0, &mut left)
    }

    /// All conditions of all parts.
    pub(crate) fn conditions(&self) -> impl Iterator<Item = &Condition> {
        let min_should = self.min_should.iter().flat_map(|m| &m.conditions);
        self.must.iter().chain(&self.must_not).chain(&self.should).chain(min_should)
    }

    fn check_bounds(&self, depth: usize, left: &mut Left) -> Result<()> {
        if depth >= limits::FILTER_DEPTH {
            return Err(Error::invalid(format!("a filter is nested deeper than {} levels", limits::FILTER_DEPTH)));
        }
        if self.min_should.as_ref().is_some_and(|m| m.min_count == 0) {
            return Err(Error::invalid("`min_count` is 0").with_remedy("ask for 1 or more, or leave `min_should` out"));
        }
        for condition in self.conditions() {
            left.take_condition()?;
            match condition {
                Condition::Field(field) => left.take_values(field.check.validate()?)?,
                Condition::HasId(ids) => left.take_values(ids.len())?,
                Condition::Slice(slice) if slice.index >= slice.total => {
                    return Err(Error::invalid("the index of a slice is not below its total"));
                }
                Condition::Nested { filter, .. } | Condition::Filter(filter) => filter.check_bounds(depth + 1, left)?,
                Condition::HasVector(_) | Condition::IsEmpty(_) | Condition::IsNull(_) | Condition::Slice(_) => {}
            }
        }
        Ok(())
    }
}

impl From<Condition> for Filter {
    fn from(condition: Condition) -> Self {
        Self::default().must(condition)
    }
}

impl Condition {
    /// `key` has a value that is as `check` says.
    pub fn field(key: JsonPath, check: Check) -> Self {
        Self::Field(FieldCondition { key, check })
    }

    /// `key` has a value that matches.
    pub fn matches(key: JsonPath, value: impl Into<Match>) -> Self {
        Self::field(key, Check::Match(value.into()))
    }

    /// `key` has a number within `range`.
    pub fn range(key: JsonPath, range: Range<f64>) -> Self {
        Self::field(key, Check::Range(range))
    }

    /// `key` has a date within `range`.
    pub fn dates(key: JsonPath, range: Range<Date>) -> Self {
        Self::field(key, Check::Dates(range))
    }

    /// An object of the array `key` satisfies `filter` all by itself.
    pub fn nested(key: JsonPath, filter: Filter) -> Self {
        Self::Nested { key, filter: Box::new(filter) }
    }

    /// What a condition of Qdrant's with several `checks` of one field means: the number of values comes first, then
    /// whether there are any, and of the others one must hold.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::InvalidInput`](crate::ErrorKind::InvalidInput) when there is no check.
    pub fn of_checks(key: JsonPath, mut checks: Vec<Check>) -> Result<Self> {
        let first = |of: fn(&Check) -> bool| checks.iter().position(of);
        let alone = first(|c| matches!(c, Check::ValuesCount(_)))
            .or_else(|| first(|c| matches!(c, Check::IsEmpty(_))))
            .or_else(|| first(|c| matches!(c, Check::IsNull(_))));
        if let Some(at) = alone {
            return Ok(Self::field(key, checks.swap_remove(at)));
        }
        match checks.pop() {
            None => Err(Error::invalid(format!("the condition on `{}` asks nothing", key.shown()))
                .with_remedy("add `match`, `range` or another check")),
            Some(only) if checks.is_empty() => Ok(Self::field(key, only)),
            Some(last) => {
                checks.push(last);
                let should = checks.into_iter().map(|check| Self::field(key.clone(), check)).collect();
                Ok(Self::Filter(Box::new(Filter { should, ..Filter::default() })))
            }
        }
    }
}

impl From<Filter> for Condition {
    fn from(filter: Filter) -> Self {
        Self::Filter(Box::new(filter))
    }
}

impl Drop for FieldCondition {
    fn drop(&mut self) {
        self.check.zeroize();
    }
}

/// What a filter may still hold.
struct Left {
    conditions: usize,
    values: usize,
}

impl Left {
    fn take_condition(&mut self) -> Result<()> {
        self.conditions = self.conditions.checked_sub(1).ok_or_else(|| {
            Error::invalid(format!("a filter has more than {} conditions", limits::FILTER_CONDITIONS))
                .with_remedy("ask for several values at once with `any`, or ask several times")
        })?;
        Ok(())
    }

    fn take_values(&mut self, values: usize) -> Result<()> {
        self.values = self.values.checked_sub(values).ok_or_else(|| {
            Error::invalid(format!("a filter names more than {} values", limits::FILTER_VALUES))
                .with_remedy("ask several times with fewer values")
        })?;
        Ok(())
    }
}

#[cfg(test)]
mod tests;
