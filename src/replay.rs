//! Numbers that are used once: a sliding window over the latest, as of RFC 4303, section 3.4.3.

/// How far back a number may lie behind the highest, exclusive.
pub const WINDOW: u64 = 1024;

const WORDS: usize = (WINDOW / 64) as usize;

/// Which of the latest [`WINDOW`] numbers were used. Older ones count as used.
#[derive(Debug, Default, Clone)]
pub struct ReplayWindow {
    /// The highest that was used, plus one.
    next: u64,
    /// The bit of a number is its remainder by [`WINDOW`].
    used: [u64; WORDS],
}

impl ReplayWindow {
    /// Whether `number` was not used and may be.
    pub fn is_fresh(&self, number: u64) -> bool {
        if number >= self.next {
            // The last number of all has no successor to count by.
            return number < u64::MAX;
        }
        self.next - number <= WINDOW && self.word(number).is_some_and(|word| word & bit(number) == 0)
    }

    /// Uses `number`, and says whether it was fresh.
    pub fn take(&mut self, number: u64) -> bool {
        if !self.is_fresh(number) {
            return false;
        }
        if number >= self.next {
            if number - self.next >= WINDOW {
                self.used = [0; WORDS];
            } else {
                for skipped in self.next..number {
                    self.set(skipped, false);
                }
            }
            self.next = number + 1;
        }
        self.set(number, true);
        true
    }

    fn word(&self, number: u64) -> Option<&u64> {
        self.used.get(index(number))
    }

    fn set(&mut self, number: u64, used: bool) {
        if let Some(word) = self.used.get_mut(index(number)) {
            *word = if used { *word | bit(number) } else { *word & !bit(number) };
        }
    }
}

fn index(number: u64) -> usize {
    (number % WINDOW / 64) as usize
}

fn bit(number: u64) -> u64 {
    1 << (number % 64)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;
    use proptest::prelude::*;

    proptest! {
        /// Against a set of all numbers ever used.
        #[test]
        fn no_number_is_used_twice(jumps in proptest::collection::vec((0_u64..3000, any::<bool>()), 1..400)) {
            let (mut window, mut used, mut at) = (ReplayWindow::default(), BTreeSet::new(), 5000_u64);
            for (jump, forward) in jumps {
                let number = if forward { at + jump } else { at.saturating_sub(jump) };
                let highest = used.last().copied();
                let too_old = highest.is_some_and(|highest: u64| number + WINDOW <= highest);
                prop_assert_eq!(window.take(number), !too_old && used.insert(number), "{}", number);
                at = at.max(number);
            }
        }
    }

    #[test]
    fn the_ends_of_the_numbers_do_no_harm() {
        let mut window = ReplayWindow::default();
        assert!(window.take(0) && !window.take(0) && window.take(1));
        assert!(!window.take(u64::MAX) && window.take(u64::MAX - 1) && !window.take(u64::MAX - 1));
        assert!(!window.take(2) && window.take(u64::MAX - WINDOW) && !window.take(u64::MAX - WINDOW - 1));
    }
}
