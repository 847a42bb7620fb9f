//! Decides whether a failed request is sent again, and when.

use std::time::{Duration, SystemTime};

use crate::error::{Error, ErrorKind};
use crate::limits;

/// What may help after a failure.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Again {
    /// Nothing.
    Never,
    /// The same request, a little later.
    Later,
    /// The same request, not before this time has passed.
    After(Duration),
    /// A request with fewer texts.
    Smaller,
}

/// Why a request failed, and what may help.
pub(super) struct Failure {
    pub(super) again: Again,
    kind: ErrorKind,
    message: String,
    remedy: Option<String>,
    source: Option<Box<dyn std::error::Error + Send + Sync>>,
    attempts: u32,
}

impl Failure {
    pub(super) fn new(kind: ErrorKind, message: impl Into<String>) -> Self {
        Self { again: Again::Never, kind, message: message.into(), remedy: None, source: None, attempts: 1 }
    }

    pub(super) fn from_error(e: &Error) -> Self {
        let failure = Self::new(e.kind(), e.to_string());
        match e.remedy() {
            Some(remedy) => failure.remedy(remedy),
            None => failure,
        }
    }

    pub(super) fn again(mut self, again: Again) -> Self {
        self.again = again;
        self
    }

    pub(super) fn remedy(mut self, remedy: &str) -> Self {
        self.remedy = Some(remedy.to_owned());
        self
    }

    pub(super) fn source(mut self, source: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> Self {
        self.source = Some(source.into());
        self
    }

    /// The failure of the last of so many attempts.
    pub(super) fn after(mut self, attempts: u32) -> Self {
        self.attempts = attempts;
        self
    }

    pub(super) fn into_error(self) -> Error {
        let mut message = self.message;
        if self.attempts > 1 {
            message = format!("{message}, {} times", self.attempts);
        }
        if let Again::After(wait) = self.again {
            message = format!("{message}, and asks to wait {} s", wait.as_secs());
        }
        let mut error = Error::new(self.kind, message);
        if let Some(remedy) = self.remedy {
            error = error.with_remedy(remedy);
        }
        match self.source {
            Some(source) => error.with_source(source),
            None => error,
        }
    }
}

/// Attempts and the waits between them: doubling from `first` up to `longest`, half of each wait at random.
pub(super) struct Pace {
    pub(super) attempts: u32,
    pub(super) first: Duration,
    pub(super) longest: Duration,
}

impl Default for Pace {
    fn default() -> Self {
        Self {
            attempts: limits::EMBED_ATTEMPTS,
            first: Duration::from_millis(500),
            longest: Duration::from_millis(limits::EMBED_WAIT_MS),
        }
    }
}

impl Pace {
    /// How long to wait after the failure of attempt `attempt` (counted from 1); `None` to give up.
    pub(super) fn wait(&self, attempt: u32, again: Again) -> Option<Duration> {
        if attempt >= self.attempts {
            return None;
        }
        match again {
            Again::Never | Again::Smaller => None,
            Again::After(wait) if wait > self.longest => None,
            Again::After(wait) => Some(wait.saturating_add(self.first.mul_f64(random()))),
            Again::Later => {
                let whole = self.first.saturating_mul(1_u32.checked_shl(attempt - 1).unwrap_or(u32::MAX));
                Some(whole.min(self.longest).mul_f64(0.5 + random() / 2.0))
            }
        }
    }
}

/// The value of a `Retry-After` header: seconds or a date (RFC 9110, section 10.2.3).
pub(super) fn parse_after(value: &str) -> Option<Duration> {
    if let Ok(seconds) = value.trim().parse::<u64>() {
        return Some(Duration::from_secs(seconds));
    }
    let date = httpdate::parse_http_date(value.trim()).ok()?;
    Some(date.duration_since(SystemTime::now()).unwrap_or_default())
}

/// 0 up to 1; the middle where the system has no randomness, since it is only for jitter.
fn random() -> f64 {
    getrandom::u32().map_or(0.5, |n| f64::from(n) / (f64::from(u32::MAX) + 1.0))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn retry_after_is_seconds_or_a_date() {
        assert_eq!(parse_after(" 7 "), Some(Duration::from_secs(7)));
        assert_eq!(parse_after("Wed, 21 Oct 2015 07:28:00 GMT"), Some(Duration::ZERO));
        let soon = httpdate::fmt_http_date(SystemTime::now() + Duration::from_secs(30));
        assert!((25..=30).contains(&parse_after(&soon).unwrap().as_secs()));
        for bad in ["", "-1", "soon", "1.5", "99999999999999999999999"] {
            assert_eq!(parse_after(bad), None, "{bad}");
        }
    }

    #[test]
    fn a_wait_that_was_asked_for_is_kept_or_ends_the_run() {
        let pace = Pace::default();
        let asked = Duration::from_secs(20);
        let wait = pace.wait(1, Again::After(asked)).unwrap();
        assert!(wait >= asked && wait <= asked + pace.first);
        assert_eq!(pace.wait(1, Again::After(pace.longest + Duration::from_secs(1))), None);
        assert_eq!(pace.wait(1, Again::After(Duration::MAX)), None);
    }

    proptest! {
        #[test]
        fn waits_grow_and_end(attempt in 1_u32..200) {
            let pace = Pace { attempts: 100, ..Pace::default() };
            let wait = pace.wait(attempt, Again::Later);
            prop_assert_eq!(wait.is_some(), attempt < 100);
            if let Some(wait) = wait {
                let whole = Duration::from_millis(500).saturating_mul(2_u32.saturating_pow(attempt - 1)).min(pace.longest);
                prop_assert!(wait >= whole / 2 && wait <= whole);
            }
            prop_assert_eq!(pace.wait(attempt, Again::Never), None);
        }

        #[test]
        fn hostile_retry_after_never_panics(value: String) {
            parse_after(&value);
        }
    }
}
