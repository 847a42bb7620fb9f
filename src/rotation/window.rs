//! Calendar windows: when rotations that can wait may run.

use std::str::FromStr;

use jiff::Timestamp;
use jiff::civil::Weekday;
use jiff::tz::TimeZone;

use crate::error::{Error, Result};

const DAY_MIN: u16 = 24 * 60;
const DAYS: [&str; 7] = ["mon", "tue", "wed", "thu", "fri", "sat", "sun"];
/// Most spans of one setting.
const SPANS: usize = 32;

/// Times of the week, by a clock on the wall of one place. Where clocks are put forward, the hour that is left out is in
/// no window; where they are put back, the hour that comes twice is in its window twice.
#[derive(Debug, Clone)]
pub struct Windows {
    spans: Vec<Span>,
    zone: TimeZone,
}

/// A time of the day, on some days.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Span {
    /// On which days it begins, Monday first.
    days: [bool; 7],
    /// Minutes after midnight.
    from: u16,
    /// Minutes after that midnight; more than a day for one that ends on the next.
    to: u16,
}

impl Windows {
    /// Reads spans like `mon-fri 22:00-06:00; sat,sun 00:00-24:00`, without days for every day; none are always. `zone` is
    /// a name of the IANA time zone database, like `Europe/Paris`.
    pub fn new(spans: &str, zone: &str) -> Result<Self> {
        let zone = TimeZone::get(zone).map_err(|e| {
            Error::invalid(format!("`{}` is not a time zone", crate::id::shown(zone)))
                .with_remedy("write `UTC` or a name like `Europe/Paris`")
                .with_source(e)
        })?;
        let spans = spans.split(';').map(str::trim).filter(|span| !span.is_empty());
        let spans: Vec<Span> = spans.map(str::parse).collect::<Result<_>>()?;
        if spans.len() > SPANS {
            return Err(Error::invalid(format!("more than {SPANS} windows")).with_remedy("join some of them"));
        }
        Ok(Self { spans, zone })
    }

    /// Whether rotations may run at `now_ms`, a Unix time in milliseconds.
    pub fn is_open(&self, now_ms: u64) -> bool {
        if self.spans.is_empty() {
            return true;
        }
        let Some(now) = i64::try_from(now_ms).ok().and_then(|ms| Timestamp::from_millisecond(ms).ok()) else {
            return false;
        };
        let now = self.zone.to_datetime(now);
        let minute = u16::from(now.hour().unsigned_abs()) * 60 + u16::from(now.minute().unsigned_abs());
        let (today, yesterday) = (now.weekday(), now.weekday().previous());
        self.spans.iter().any(|span| span.holds(today, minute) || span.holds(yesterday, minute + DAY_MIN))
    }

    /// The next time that it is otherwise, to the minute; `None` when that is not within a week and a day.
    pub fn next_change_ms(&self, now_ms: u64) -> Option<u64> {
        const MINUTE_MS: u64 = 60_000;
        if self.spans.is_empty() {
            return None;
        }
        let now = self.is_open(now_ms);
        let first = now_ms / MINUTE_MS + 1;
        let minutes = first..first + 8 * u64::from(DAY_MIN);
        minutes.map(|minute| minute * MINUTE_MS).find(|ms| self.is_open(*ms) != now)
    }
}

impl Span {
    fn holds(&self, day: Weekday, minute: u16) -> bool {
        let day = usize::from(day.to_monday_zero_offset().unsigned_abs());
        self.days.get(day).copied().unwrap_or(false) && (self.from..self.to).contains(&minute)
    }
}

impl FromStr for Span {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        let bad = || {
            Error::invalid(format!("`{}` is not a window", crate::id::shown(text)))
                .with_remedy("write `22:00-06:00`, `mon-fri 22:00-06:00` or `sat,sun 00:00-24:00`; `;` between several")
        };
        let (days, times) = match text.rsplit_once(char::is_whitespace) {
            Some((days, times)) => (parse_days(days).ok_or_else(bad)?, times),
            None => ([true; 7], text),
        };
        let (from, to) = times.split_once('-').ok_or_else(bad)?;
        let (from, to) = (minutes(from).ok_or_else(bad)?, minutes(to).ok_or_else(bad)?);
        if from == to || from == DAY_MIN {
            return Err(bad());
        }
        Ok(Self { days, from, to: if to > from { to } else { to + DAY_MIN } })
    }
}

/// `mon-fri`, `sat,sun`, `fri-mon,wed`.
fn parse_days(text: &str) -> Option<[bool; 7]> {
    let number = |name: &str| DAYS.iter().position(|day| name.trim().eq_ignore_ascii_case(day));
    let mut days = [false; 7];
    for part in text.split(',') {
        let (first, last) = part.split_once('-').unwrap_or((part, part));
        let (mut day, last) = (number(first)?, number(last)?);
        *days.get_mut(day)? = true;
        while day != last {
            day = (day + 1) % 7;
            *days.get_mut(day)? = true;
        }
    }
    Some(days)
}

/// `06:30`, up to `24:00`.
fn minutes(text: &str) -> Option<u16> {
    let (hours, minutes) = text.split_once(':')?;
    let is_two = |text: &str| text.len() == 2 && text.bytes().all(|b| b.is_ascii_digit());
    let two = |text: &str| is_two(text).then(|| text.parse::<u16>().ok()).flatten();
    let all = two(hours)? * 60 + two(minutes).filter(|minutes| *minutes < 60)?;
    (all <= DAY_MIN).then_some(all)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ms(at: &str) -> u64 {
        at.parse::<Timestamp>().unwrap().as_millisecond().unsigned_abs()
    }

    #[test]
    fn windows_open_and_close_on_the_minute() {
        let always = Windows::new(" ", "UTC").unwrap();
        assert!(always.is_open(0) && always.next_change_ms(0).is_none());
        // 2026-11-23 is a Monday.
        let windows = Windows::new("mon-fri 22:00-06:00; sat,sun 00:00-24:00", "UTC").unwrap();
        for (at, open) in [
            ("2026-11-23T05:59:59.999Z", false), // Sunday's ended at midnight, and Sunday has no night.
            ("2026-11-23T21:59:59.999Z", false),
            ("2026-11-23T22:00:00Z", true),
            ("2026-11-24T05:59:59.999Z", true),
            ("2026-11-24T06:00:00Z", false),
            ("2026-11-28T03:00:00Z", true),
            ("2026-11-29T23:59:59Z", true),
            ("2026-11-30T00:00:00Z", false),
        ] {
            assert_eq!(windows.is_open(ms(at)), open, "{at}");
        }
        assert_eq!(windows.next_change_ms(ms("2026-11-24T06:00:00Z")), Some(ms("2026-11-24T22:00:00Z")));
        assert_eq!(windows.next_change_ms(ms("2026-11-27T22:10:00Z")), Some(ms("2026-11-30T00:00:00Z")));
    }

    #[test]
    fn windows_are_those_of_the_clock_on_the_wall() {
        let paris = Windows::new("01:00-05:00", "Europe/Paris").unwrap();
        // One hour ahead in winter, two in summer.
        assert!(paris.is_open(ms("2026-01-10T00:30:00Z")) && !paris.is_open(ms("2026-01-09T23:30:00Z")));
        assert!(paris.is_open(ms("2026-07-09T23:30:00Z")) && !paris.is_open(ms("2026-07-10T03:30:00Z")));
        // 02:00 to 03:00 is left out on 2026-03-29 and comes twice on 2026-10-25.
        let gone = Windows::new("02:00-03:00", "Europe/Paris").unwrap();
        let open = |windows: &Windows, from: &str| {
            (0..24 * 60).filter(|minute| windows.is_open(ms(from) + minute * 60_000)).count()
        };
        assert_eq!(open(&gone, "2026-03-28T23:00:00Z"), 0);
        assert_eq!(open(&gone, "2026-10-24T22:00:00Z"), 120);
        assert_eq!(open(&gone, "2026-06-01T22:00:00Z"), 60);
    }

    #[test]
    fn what_is_no_window_is_refused() {
        for bad in [
            "1:00-5:00",
            "01:00",
            "25:00-26:00",
            "24:00-01:00",
            "01:60-02:00",
            "03:00-03:00",
            "moon 01:00-02:00",
            "mon- 01:00-02:00",
            "01:00-05:00,06:00-07:00",
            "mon 01:00 - 02:00",
            "+1:00-02:00",
        ] {
            assert!(Windows::new(bad, "UTC").is_err(), "{bad}");
        }
        assert!(Windows::new("", "Mars/Olympus").is_err());
        assert!(Windows::new(&"01:00-02:00;".repeat(33), "UTC").is_err());
    }
}
