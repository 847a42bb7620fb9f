//! Who was told of what a moment ago: an operator is told once, and then how often it happened.

use std::collections::HashMap;

use super::Rule;
use crate::limits;

/// What alerts of one rule are about: a tenant, or a service where none is known.
pub(super) type Subject = (Rule, String);

/// Holds back alerts that say what was just said.
#[derive(Default)]
pub(super) struct Limiter {
    said: HashMap<Subject, Said>,
    minute: u64,
    in_minute: u32,
}

struct Said {
    at_ms: u64,
    held_back: u64,
}

impl Limiter {
    /// How many were held back since the last one, if this one is not.
    pub(super) fn admit(&mut self, subject: &Subject, now_ms: u64, repeat_ms: u64) -> Option<u64> {
        if let Some(said) = self.said.get_mut(subject)
            && now_ms.abs_diff(said.at_ms) < repeat_ms
        {
            said.held_back += 1;
            return None;
        }
        // Whatever they are about: nobody reads more.
        let minute = now_ms / 60_000;
        if minute != self.minute {
            (self.minute, self.in_minute) = (minute, 0);
        }
        if self.in_minute >= limits::ALERTS_PER_MINUTE {
            return None;
        }
        self.in_minute += 1;
        let held_back = self.said.get(subject).map_or(0, |said| said.held_back);
        if !self.said.contains_key(subject) && self.said.len() >= limits::ALERT_SUBJECTS {
            let oldest = self.said.iter().min_by_key(|(_, said)| said.at_ms).map(|(subject, _)| subject.clone());
            oldest.and_then(|subject| self.said.remove(&subject));
        }
        self.said.insert(subject.clone(), Said { at_ms: now_ms, held_back: 0 });
        Some(held_back)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn about(name: &str) -> Subject {
        (Rule::CrossTenant, name.to_owned())
    }

    #[test]
    fn the_same_is_said_once_and_then_counted() {
        let mut limiter = Limiter::default();
        assert_eq!(limiter.admit(&about("a"), 0, 1_000), Some(0));
        assert_eq!(limiter.admit(&about("b"), 1, 1_000), Some(0));
        assert_eq!((1..4).filter_map(|at| limiter.admit(&about("a"), at, 1_000)).count(), 0);
        assert_eq!(limiter.admit(&about("a"), 1_000, 1_000), Some(3));
    }

    #[test]
    fn many_subjects_are_not_many_alerts() {
        let mut limiter = Limiter::default();
        let said = (0..10_000).filter(|n| limiter.admit(&about(&n.to_string()), 5, 1_000).is_some()).count();
        assert_eq!(said, limits::ALERTS_PER_MINUTE as usize);
        for minute in 1..200 {
            for n in 0..100 {
                limiter.admit(&about(&format!("{minute} {n}")), minute * 60_000, 1);
            }
        }
        assert!(limiter.said.len() <= limits::ALERT_SUBJECTS);
    }
}
