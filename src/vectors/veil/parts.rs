//! The parts of a veiled collection: each has a rotation of its own and is searched alone, so that what somebody finds out
//! about one says nothing of another.

/// Points that a part has, about: an attack by who has other texts of the same kind needs more of them.
const PART_POINTS: usize = 2500;
/// Most parts of a collection: each is another search.
pub(crate) const MOST_PARTS: u16 = 32;

/// How many parts `points` need.
pub(crate) fn parts_for(points: usize) -> u16 {
    u16::try_from(points.div_ceil(PART_POINTS)).unwrap_or(MOST_PARTS).clamp(1, MOST_PARTS)
}

/// Which of `parts` a record with this keyed hash belongs to (Lamping and Veach, "A fast, minimal memory, consistent hash
/// algorithm"). As parts are added, a record stays where it is or goes to one of the new.
pub(crate) fn part_of(mut hash: u64, parts: u16) -> u16 {
    let (mut part, mut next) = (0, 0_u64);
    while next < u64::from(parts) {
        part = next;
        hash = hash.wrapping_mul(2_862_933_555_777_941_757).wrapping_add(1);
        #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a positive number, rounded down")]
        let jump = ((part + 1) as f64 * ((1_u64 << 31) as f64 / ((hash >> 33) + 1) as f64)) as u64;
        next = jump;
    }
    u16::try_from(part).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn records_move_to_new_parts_only(hash: u64) {
            for parts in 1..MOST_PARTS {
                let (before, after) = (part_of(hash, parts), part_of(hash, parts + 1));
                prop_assert!(before < parts);
                prop_assert!(after == before || after == parts);
            }
        }
    }

    #[test]
    fn parts_are_about_equal() {
        for parts in [1, 2, 7, 32] {
            let mut sizes = vec![0_u32; usize::from(parts)];
            for i in 0..32_000_u64 {
                sizes[usize::from(part_of(i.wrapping_mul(0x9e37_79b9_7f4a_7c15).rotate_left(31), parts))] += 1;
            }
            let mean = 32_000 / u32::from(parts);
            assert!(sizes.iter().all(|size| size.abs_diff(mean) < mean / 5), "{sizes:?}");
        }
    }

    #[test]
    fn more_points_have_more_parts() {
        let expected = [(0, 1), (1, 1), (2500, 1), (2501, 2), (20_000, 8), (80_000, 32), (usize::MAX, 32)];
        assert!(expected.iter().all(|(points, parts)| parts_for(*points) == *parts));
    }
}
