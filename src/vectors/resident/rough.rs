//! The best so many rows by a rough merit, in few comparisons.

/// Keeps the best `count` rows of those added, and some more.
pub(super) struct Rough {
    count: usize,
    rows: Vec<(f64, usize)>,
    /// What a row must exceed to be among them.
    least: f64,
}

impl Rough {
    pub fn new(count: usize) -> Self {
        Self { count, rows: Vec::new(), least: f64::NEG_INFINITY }
    }

    /// What a row must exceed to be worth adding.
    pub fn least(&self) -> f64 {
        self.least
    }

    pub fn add(&mut self, row: usize, merit: f64) {
        self.rows.push((merit, row));
        if self.rows.len() >= 2 * self.count.max(1) {
            self.prune();
        }
    }

    /// Those of both.
    pub fn merge(mut self, other: Self) -> Self {
        self.rows.extend(other.rows);
        self.prune();
        self
    }

    /// The best, in no particular order.
    pub fn into_rows(mut self) -> Vec<usize> {
        self.prune();
        self.rows.into_iter().map(|(_, row)| row).collect()
    }

    /// Throws out all but the best. Each costs about two comparisons altogether, for half go each time.
    fn prune(&mut self) {
        if self.rows.len() <= self.count {
            return;
        }
        // Ties by row, so that the same search always leaves the same.
        self.rows.select_nth_unstable_by(self.count, |a, b| b.0.total_cmp(&a.0).then(a.1.cmp(&b.1)));
        self.rows.truncate(self.count);
        let worst = self.rows.iter().map(|(merit, _)| *merit).min_by(f64::total_cmp);
        self.least = worst.unwrap_or(f64::NEG_INFINITY);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_best_stay_whatever_the_order() {
        let merit = |row: usize| ((row * 7919) % 1009) as f64;
        let mut expected: Vec<usize> = (0..1009).collect();
        expected.sort_unstable_by(|a, b| merit(*b).total_cmp(&merit(*a)));
        for count in [0, 1, 10, 400, 2000] {
            let mut halves = [Rough::new(count), Rough::new(count)];
            for row in 0..1009 {
                let half = &mut halves[row % 2];
                if merit(row) > half.least() {
                    half.add(row, merit(row));
                }
            }
            let [a, b] = halves;
            let (mut found, mut best) = (a.merge(b).into_rows(), expected[..count.min(1009)].to_vec());
            found.sort_unstable();
            best.sort_unstable();
            assert_eq!(found, best, "{count}");
        }
    }
}
