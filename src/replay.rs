//! Numbers that may each be taken once: a sliding window over the latest of them.

use crate::limits;

const WORDS: usize = limits::REPLAY_WINDOW as usize / 64;

/// Which numbers were taken. Those that lie [`limits::REPLAY_WINDOW`] or more below the highest one count as taken.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ReplayWindow {
    /// The highest number taken and one more; 0 before the first.
    next: u64,
    /// A bit for each number of the window, at the number modulo its size.
    taken: [u64; WORDS],
}

impl ReplayWindow {
    /// Whether `number` is still to be had.
    pub fn is_free(&self, number: u64) -> bool {
        if number >= self.next {
            return number < u64::MAX;
        }
        let in_window = self.next - number <= limits::REPLAY_WINDOW;
        in_window && self.word(number).is_some_and(|word| word & bit(number) == 0)
    }

    /// Takes `number`, and says whether it was still to be had.
    #[must_use]
    pub fn take(&mut self, number: u64) -> bool {
        if !self.is_free(number) {
            return false;
        }
        if number >= self.next {
            self.slide_to(number);
        }
        if let Some(word) = self.taken.get_mut(index(number)) {
            *word |= bit(number);
        }
        true
    }

    /// Makes `number` the highest: whatever comes into the window is free.
    fn slide_to(&mut self, number: u64) {
        if number - self.next >= limits::REPLAY_WINDOW {
            self.taken = [0; WORDS];
        } else {
            for new in self.next..=number {
                if let Some(word) = self.taken.get_mut(index(new)) {
                    *word &= !bit(new);
                }
            }
        }
        self.next = number + 1;
    }

    fn word(&self, number: u64) -> Option<u64> {
        self.taken.get(index(number)).copied()
    }
}

fn index(number: u64) -> usize {
    // Below WORDS, so it fits.
    (number / 64 % WORDS as u64) as usize
}

fn bit(number: u64) -> u64 {
    1 << (number % 64)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_number_is_taken_once_and_old_ones_never() {
        let mut window = ReplayWindow::default();
        assert!(window.take(5) && !window.take(5) && window.take(0) && !window.take(0));
        let last = 5 + limits::REPLAY_WINDOW;
        assert!(window.take(last));
        assert!(!window.is_free(5) && window.take(6) && !window.take(6));
        assert!(!window.take(u64::MAX));
        assert!(window.take(u64::MAX - 1) && !window.take(u64::MAX - 1) && !window.take(last + 1));
    }

    proptest! {
        /// Guards against a bit that stands for two numbers: the window is compared with a set.
        #[test]
        fn it_is_what_a_set_would_be(
            steps in prop::collection::vec((0_u64..3000, any::<bool>()), 1..2000)
        ) {
            let (mut window, mut set, mut highest) = (ReplayWindow::default(), BTreeSet::new(), 0);
            for (step, back) in steps {
                let number = if back { u64::saturating_sub(highest, step) } else { highest + step % 70 };
                let old = number + limits::REPLAY_WINDOW <= highest && !set.is_empty();
                let free = !old && !set.contains(&number);
                prop_assert_eq!(window.is_free(number), free);
                prop_assert_eq!(window.take(number), free);
                if free {
                    set.insert(number);
                    highest = highest.max(number);
                }
            }
        }
    }
}
