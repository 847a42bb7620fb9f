//! Dates as Qdrant reads them.

use std::fmt;
use std::str::FromStr;

use chrono::{DateTime, FixedOffset, NaiveDate, NaiveDateTime, SecondsFormat, Utc};

use crate::error::{Error, Result};

/// A moment, in microseconds since 1970 began in UTC: what is finer is cut off, as in Qdrant.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Date(i64);

impl Date {
    /// From microseconds since 1970.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::InvalidInput`](crate::ErrorKind::InvalidInput) for a year that calendars do not have.
    pub fn from_micros(micros: i64) -> Result<Self> {
        let date = DateTime::<Utc>::from_timestamp_micros(micros);
        date.map(|_| Self(micros)).ok_or_else(|| Error::invalid("a date is out of range"))
    }

    /// Microseconds since 1970.
    pub fn as_micros(self) -> i64 {
        self.0
    }
}

impl FromStr for Date {
    type Err = Error;

    /// RFC 3339, and what Qdrant reads besides: a space in place of the `T`, an offset without colon or without minutes,
    /// no offset (UTC), no seconds, no time of day.
    fn from_str(s: &str) -> Result<Self> {
        parse(s).map(Self).ok_or_else(|| {
            Error::invalid("a date is not written as one").with_remedy("write it as in `2026-01-31T12:00:00Z`")
        })
    }
}

impl fmt::Display for Date {
    /// RFC 3339 in UTC.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let date = DateTime::<Utc>::from_timestamp_micros(self.0).unwrap_or_default();
        f.write_str(&date.to_rfc3339_opts(SecondsFormat::AutoSi, true))
    }
}

/// The microseconds of a date in one of the forms that Qdrant knows, tried in its order.
fn parse(s: &str) -> Option<i64> {
    let with_offset = DateTime::parse_from_rfc3339(s)
        .or_else(|_| DateTime::<FixedOffset>::from_str(s))
        .or_else(|_| DateTime::parse_from_str(s, "%Y-%m-%dT%H:%M:%S%.f%#z"))
        .or_else(|_| DateTime::parse_from_str(s, "%Y-%m-%d %H:%M:%S%.f%#z"));
    if let Ok(date) = with_offset {
        return Some(date.timestamp_micros());
    }
    let local = NaiveDateTime::parse_from_str(s, "%Y-%m-%dT%H:%M:%S%.f")
        .or_else(|_| NaiveDateTime::parse_from_str(s, "%Y-%m-%d %H:%M:%S%.f"))
        .or_else(|_| NaiveDateTime::parse_from_str(s, "%Y-%m-%dT%H:%M"))
        .or_else(|_| NaiveDateTime::parse_from_str(s, "%Y-%m-%d %H:%M"))
        .or_else(|_| NaiveDate::parse_from_str(s, "%Y-%m-%d").map(NaiveDateTime::from));
    Some(local.ok()?.and_utc().timestamp_micros())
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn the_forms_of_qdrant_are_read() {
        let micros = |s: &str| s.parse::<Date>().ok().map(Date::as_micros);
        let noon = Some(1_580_558_400_000_000);
        for same in [
            "2020-02-01T12:00:00Z",
            "2020-02-01T13:00:00+01:00",
            "2020-02-01T12:00:00.000000999Z",
            "2020-02-01T13:00:00+0100",
            "2020-02-01 13:00:00+01",
            "2020-02-01 12:00:00 UTC",
            "2020-02-01T12:00:00",
            "2020-02-01 12:00:00.000",
            "2020-02-01T12:00",
            "2020-02-01 12:00",
        ] {
            assert_eq!(micros(same), noon, "{same}");
        }
        assert_eq!(micros("2020-02-01"), Some(1_580_515_200_000_000));
        assert_eq!(micros("1969-12-31T23:59:59.9999999Z"), Some(-1));
        for bad in ["", "today", "2020-02-30", "2020-02-01T25:00", "1580558400", "2020-02", "12:00:00Z"] {
            assert_eq!(micros(bad), None, "{bad}");
        }
    }

    proptest! {
        #[test]
        fn what_is_written_is_read_again(micros in any::<i64>()) {
            if let Ok(date) = Date::from_micros(micros) {
                prop_assert!(date.to_string().parse::<Date>().unwrap() == date, "{date}");
            }
        }
    }
}
