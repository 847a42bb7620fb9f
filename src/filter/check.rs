//! What is asked of the values of a field.

use zeroize::Zeroize;

use crate::error::{Error, Result};

use super::{Date, GeoBox, GeoPolygon, GeoRadius, Match, Seen};

/// What is asked of the values of a field. Of an array, one element has to be so.
#[derive(Clone, PartialEq)]
pub enum Check {
    /// It matches.
    Match(Match),
    /// It is a number within bounds.
    Range(Range<f64>),
    /// It is a date within bounds.
    Dates(Range<Date>),
    /// It is a place in a rectangle.
    GeoBox(GeoBox),
    /// It is a place in a circle.
    GeoRadius(GeoRadius),
    /// It is a place in a polygon.
    GeoPolygon(GeoPolygon),
    /// So many values are there: an array's elements, or one.
    ValuesCount(ValuesCount),
    /// Whether the field is missing, `null` or an empty array.
    IsEmpty(bool),
    /// Whether the field is `null` or an array with a `null` in it.
    IsNull(bool),
}

/// Bounds, each of which may be missing.
#[derive(Clone, Copy, PartialEq)]
pub struct Range<T> {
    /// Less than this.
    pub lt: Option<T>,
    /// Greater than this.
    pub gt: Option<T>,
    /// Greater than this or the same.
    pub gte: Option<T>,
    /// Less than this or the same.
    pub lte: Option<T>,
}

/// How many values.
pub type ValuesCount = Range<usize>;

impl<T> Default for Range<T> {
    /// Without bounds.
    fn default() -> Self {
        Self { lt: None, gt: None, gte: None, lte: None }
    }
}

impl<T: PartialOrd + Copy> Range<T> {
    /// Whether `value` is within all bounds.
    pub fn has(&self, value: T) -> bool {
        self.lt.is_none_or(|bound| value < bound)
            && self.gt.is_none_or(|bound| value > bound)
            && self.gte.is_none_or(|bound| value >= bound)
            && self.lte.is_none_or(|bound| value <= bound)
    }

    /// The same with other bounds.
    pub(crate) fn map<U>(&self, f: impl Fn(T) -> U) -> Range<U> {
        Range { lt: self.lt.map(&f), gt: self.gt.map(&f), gte: self.gte.map(&f), lte: self.lte.map(&f) }
    }

    fn bounds(&self) -> impl Iterator<Item = T> {
        [self.lt, self.gt, self.gte, self.lte].into_iter().flatten()
    }
}

impl Check {
    /// Whether it holds for a value that a path leads to.
    pub(crate) fn holds(&self, value: Seen<'_>) -> bool {
        match (self, value) {
            (Check::ValuesCount(range), value) => range.has(value.count()),
            (Check::IsEmpty(wanted), value) => value.is_empty() == *wanted,
            (Check::IsNull(wanted), value) => value.is_null() == *wanted,
            (_, Seen::Array(items)) => items.iter().any(|item| self.holds_for_one(item.into())),
            (_, value) => self.holds_for_one(value),
        }
    }

    /// Whether it holds where a path leads nowhere.
    pub(super) fn holds_without_value(&self) -> bool {
        match self {
            Check::ValuesCount(range) => range.has(0),
            Check::IsEmpty(wanted) => *wanted,
            Check::IsNull(wanted) => !wanted,
            _ => false,
        }
    }

    /// Whether it holds for a value that is no array, or for an element of one.
    fn holds_for_one(&self, value: Seen<'_>) -> bool {
        match self {
            Check::Match(wanted) => wanted.holds(value),
            Check::Range(range) => match value {
                Seen::Number(number) => number.as_f64().is_some_and(|n| range.has(n)),
                _ => false,
            },
            Check::Dates(range) => match value {
                Seen::Text(text) => text.parse().is_ok_and(|date| range.has(date)),
                _ => false,
            },
            Check::GeoBox(_) | Check::GeoRadius(_) | Check::GeoPolygon(_) => {
                value.place().is_some_and(|(lon, lat)| self.has_place(lon, lat))
            }
            Check::ValuesCount(_) | Check::IsEmpty(_) | Check::IsNull(_) => self.holds(value),
        }
    }

    /// Whether it asks for places and takes this one, in degrees.
    pub(crate) fn has_place(&self, lon: f64, lat: f64) -> bool {
        match self {
            Check::GeoBox(area) => area.has(lon, lat),
            Check::GeoRadius(area) => area.has(lon, lat),
            Check::GeoPolygon(area) => area.has(lon, lat),
            _ => false,
        }
    }

    /// Checks its bounds and returns how many values it names.
    pub(super) fn validate(&self) -> Result<usize> {
        match self {
            Check::Match(wanted) => Ok(wanted.len()),
            Check::Range(range) if range.bounds().any(|bound| !bound.is_finite()) => {
                Err(Error::invalid("a bound of a range is not a finite number"))
            }
            // Without bounds it would be written as a range of numbers.
            Check::Dates(range) if range.bounds().next().is_none() => {
                Err(Error::invalid("a range of dates has no bound"))
            }
            Check::GeoRadius(area) if !area.radius.is_finite() => {
                Err(Error::invalid("the radius of a circle is not a finite number"))
            }
            Check::GeoPolygon(area) => Ok(area.len()),
            _ => Ok(1),
        }
    }
}

impl Zeroize for Check {
    fn zeroize(&mut self) {
        match self {
            Check::Match(wanted) => wanted.zeroize(),
            Check::Range(range) => *range = Range::default(),
            Check::Dates(range) => *range = Range::default(),
            _ => {}
        }
    }
}
