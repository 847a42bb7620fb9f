//! Buckets: the points of a collection, cut by their ids so that a change rewrites little, and as bytes.

use std::collections::VecDeque;

use uuid::Uuid;

use crate::error::{Error, Result};
use crate::limits;
use crate::vectors::FirstPoint;
use crate::vectors::engine::{Page, Point};

const FORMAT_VERSION: u8 = 2;
/// The format before points had tags and tokens.
const FIRST_FORMAT: u8 = 1;

/// Cuts the points that `page` gives into buckets, which `emit` is given one by one; `page` is asked for the points from
/// an id on, in the order of ids, and for the id to go on from.
///
/// A bucket has the points whose ids begin with some bits. It is cut in two at the next bit when it would be larger than
/// [`BACKUP_BUCKET_BYTES`](limits::BACKUP_BUCKET_BYTES): so where it is cut depends on nothing but the points in it.
pub fn cut(
    page: impl FnMut(Option<Uuid>) -> Result<Page>,
    mut emit: impl FnMut(Vec<Point>) -> Result<()>,
) -> Result<()> {
    let mut source = Source { page, from: None, ended: false, buffer: VecDeque::new() };
    let mut start = 0_u128;
    loop {
        // The largest block of ids that begins here: all larger ones were cut.
        let mut bits = if start == 0 { 0 } else { 128 - start.trailing_zeros() };
        let last = loop {
            let last = start | u128::MAX.checked_shr(bits).unwrap_or(0);
            if source.fits(last)? {
                break last;
            }
            bits += 1;
        };
        let bucket = source.take(last);
        if !bucket.is_empty() {
            emit(bucket)?;
        }
        match last.checked_add(1) {
            Some(next) if !source.is_empty() => start = next,
            _ => return Ok(()),
        }
    }
}

/// Points in the order of their ids, read ahead as far as is needed.
struct Source<P> {
    page: P,
    from: Option<Uuid>,
    ended: bool,
    buffer: VecDeque<Point>,
}

impl<P: FnMut(Option<Uuid>) -> Result<Page>> Source<P> {
    /// Whether the points up to `last` are few enough for one bucket. One alone always is.
    fn fits(&mut self, last: u128) -> Result<bool> {
        loop {
            let inside = self.buffer.iter().take_while(|point| point.id.as_u128() <= last);
            let (count, bytes) = inside.fold((0, 0), |(count, bytes), point| (count + 1, bytes + weight(point)));
            if count > 1 && bytes > limits::BACKUP_BUCKET_BYTES {
                return Ok(false);
            }
            if count < self.buffer.len() || self.ended {
                return Ok(true);
            }
            let (points, next) = (self.page)(self.from)?;
            let ordered =
                self.buffer.back().into_iter().chain(&points).map(|point| point.id).is_sorted_by(|a, b| a < b);
            if !ordered {
                return Err(Error::integrity("the order of an engine's points"));
            }
            self.buffer.extend(points);
            self.ended = next.is_none();
            self.from = next;
        }
    }

    fn take(&mut self, last: u128) -> Vec<Point> {
        let count = self.buffer.iter().take_while(|point| point.id.as_u128() <= last).count();
        self.buffer.drain(..count).collect()
    }

    fn is_empty(&self) -> bool {
        self.buffer.is_empty() && self.ended
    }
}

/// About how many bytes a point takes.
fn weight(point: &Point) -> usize {
    const POINT: usize = 48;
    let vectors = point.searchable.iter().map(|(_, v)| v.len() * size_of::<f32>()).sum::<usize>();
    POINT + point.payload.len() + point.vector.len() + vectors + point.tokens.len() * 16
}

/// The bytes of a bucket.
pub fn encode(points: &[Point]) -> Result<Vec<u8>> {
    let mut bytes = Vec::with_capacity(1 + points.iter().map(weight).sum::<usize>());
    bytes.push(FORMAT_VERSION);
    postcard::to_extend(points, bytes).map_err(|e| Error::internal("encoding a bucket").with_source(e))
}

/// The points of a bucket. Bytes that [`encode`] does not make are refused.
pub fn decode(bytes: &[u8]) -> Result<Vec<Point>> {
    let bad = || Error::integrity("a bucket of a backup");
    let points = match bytes.split_first().ok_or_else(bad)? {
        (&FORMAT_VERSION, body) => {
            let points: Vec<Point> = postcard::from_bytes(body).map_err(|_| bad())?;
            let canonical = encode(&points)? == bytes;
            canonical.then_some(points)
        }
        (&FIRST_FORMAT, body) => {
            let points: Vec<FirstPoint> = postcard::from_bytes(body).map_err(|_| bad())?;
            let canonical = postcard::to_stdvec(&points).is_ok_and(|again| again == body);
            canonical.then(|| points.into_iter().map(Point::from).collect())
        }
        _ => None,
    };
    points.filter(|points| points.is_sorted_by(|a, b| a.id < b.id)).ok_or_else(bad)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn point(id: u128, bytes: usize) -> Point {
        Point {
            id: Uuid::from_u128(id),
            epoch: 1,
            version: 7,
            payload: vec![id as u8; bytes],
            vector: Vec::new(),
            searchable: vec![(0, vec![0.5, -1.0])],
            tag: Some([3; 16]),
            tokens: vec![[4; 16]],
        }
    }

    fn buckets(points: &[Point], page: usize) -> Vec<Vec<u128>> {
        let mut buckets = Vec::new();
        let read = |from: Option<Uuid>| {
            let from = points.partition_point(|p| from.is_some_and(|from| p.id < from));
            let end = (from + page).min(points.len());
            Ok((points[from..end].to_vec(), points.get(end).map(|p| p.id)))
        };
        cut(read, |bucket| {
            buckets.push(bucket.iter().map(|p| p.id.as_u128()).collect());
            Ok(())
        })
        .unwrap();
        buckets
    }

    /// Ids that look like blinded ones.
    fn spread(n: u128) -> Vec<u128> {
        let mut ids: Vec<u128> = (1..=n).map(|i| i.wrapping_mul(0x9e37_79b9_7f4a_7c15_f39c_c060_5ced_c835)).collect();
        ids.sort_unstable();
        ids
    }

    #[test]
    fn nothing_is_left_out_and_a_page_is_of_no_matter() {
        let points: Vec<_> = spread(300).into_iter().map(|id| point(id, 64 << 10)).collect();
        let cut = buckets(&points, 256);
        assert!(cut.len() > 8);
        assert_eq!(cut.concat(), points.iter().map(|p| p.id.as_u128()).collect::<Vec<_>>());
        for page in [1, 2, 7, 1000] {
            assert_eq!(buckets(&points, page), cut);
        }
        assert!(cut.iter().all(|bucket| bucket.len() * (64 << 10) <= limits::BACKUP_BUCKET_BYTES));
    }

    #[test]
    fn another_point_changes_the_bucket_that_it_belongs_to() {
        let mut points: Vec<_> = spread(200).into_iter().map(|id| point(id, 64 << 10)).collect();
        let before = buckets(&points, 64);
        let new = before[0][0] + 1;
        points.push(point(new, 100));
        points.sort_by_key(|p| p.id);
        let after = buckets(&points, 64);
        let changed = after.iter().filter(|bucket| !before.contains(bucket)).count();
        assert!(changed <= 2, "{changed} of {} buckets changed", after.len());
    }

    #[test]
    fn large_points_and_extreme_ids_have_their_bucket() {
        let large = limits::BACKUP_BUCKET_BYTES + 1;
        let points: Vec<_> = [0, 1, 2, u128::MAX - 1, u128::MAX].map(|id| point(id, large)).into();
        assert_eq!(buckets(&points, 2), [[0], [1], [2], [u128::MAX - 1], [u128::MAX]]);
        assert!(buckets(&[], 2).is_empty());
    }

    #[test]
    fn what_is_not_canonical_is_refused() {
        let (a, b) = (point(1, 3), point(2, 3));
        let bytes = encode(&[a.clone(), b.clone()]).unwrap();
        assert_eq!(decode(&bytes).unwrap().len(), 2);
        assert!(decode(&bytes[..bytes.len() - 1]).is_err());
        assert!(decode(&[&bytes[..], &[0]].concat()).is_err());
        assert!(decode(&encode(&[b.clone(), a]).unwrap()).is_err());
        assert!(decode(&encode(&[b.clone(), b]).unwrap()).is_err());
        for format in [0, FIRST_FORMAT, 3] {
            let mut other = bytes.clone();
            other[0] = format;
            assert!(decode(&other).is_err());
        }
        // A number of points in two bytes that fits into one.
        assert!(decode(&[&[FORMAT_VERSION, 0x82, 0][..], &bytes[2..]].concat()).is_err());
    }

    #[test]
    fn the_first_format_is_read() {
        // One point: id, epoch, version, payload, vector, one searchable vector of two values.
        let mut first = vec![FIRST_FORMAT, 1, 16];
        first.extend(7_u128.to_be_bytes());
        first.extend([1, 7, 3, 7, 7, 7, 0, 1, 0, 2]);
        first.extend([0.5_f32, -1.0].into_iter().flat_map(f32::to_le_bytes));
        assert!(decode(&first).unwrap() == [Point { tag: None, tokens: Vec::new(), ..point(7, 3) }]);
        assert!(decode(&first[..first.len() - 1]).is_err());
        // The number of points in two bytes.
        assert!(decode(&[&[FIRST_FORMAT, 0x81, 0][..], &first[2..]].concat()).is_err());
    }

    proptest! {
        #[test]
        fn hostile_buckets_never_panic(bytes: Vec<u8>) {
            let _ = decode(&bytes);
            let _ = decode(&[&[FORMAT_VERSION][..], &bytes].concat());
            let _ = decode(&[&[FIRST_FORMAT][..], &bytes].concat());
        }
    }
}
