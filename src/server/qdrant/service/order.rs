//! Points in the order of a field of their payloads.

use std::cmp::Ordering;
use std::collections::HashSet;

use super::ask::Pick;
use super::read::{Room, too_large};
use super::{payload, values};
use crate::audit::Access;
use crate::filter::{Filter, JsonPath};
use crate::id::RecordId;
use crate::limits;
use crate::server::qdrant::failure::{Answer, Failure};
use crate::server::qdrant::model::points::OrderValue;
use crate::server::qdrant::model::query::{Direction, OrderBy, StartFrom};
use crate::store::{Collection, Looked};
use crate::vectors::StoredChunk;

/// Values beyond those wanted that are kept before they are sorted out.
const SLACK: usize = 4096;

/// The first `limit` values of a field among the points that pass `filter`, each with its point if that is picked: one that
/// has several values is there several times.
pub(super) async fn ordered(
    collection: &Collection,
    order: OrderBy,
    filter: Option<Filter>,
    limit: usize,
    mut pick: impl Pick,
) -> Answer<Vec<(StoredChunk, OrderValue)>> {
    let path: JsonPath = order.key.parse()?;
    let descending = order.direction == Some(Direction::Desc);
    let start = order.start_from.map(start_value).transpose()?;
    let look = move |looker: &crate::store::Looker| {
        let mut first = First { found: Vec::new(), limit, descending };
        looker.each(None, filter.as_ref(), limits::LOOK_CHUNKS, |chunk| {
            let payload = payload::of_chunk(chunk.metadata, chunk.text);
            payload::each_at(&payload, &path, &mut |value| {
                let Some(value) = values::order(value) else { return };
                let before = |start: &OrderValue| directed(compare(&value, start), descending) == Ordering::Less;
                if !start.as_ref().is_some_and(before) {
                    first.add(value, &chunk.id);
                }
            });
            Ok(true)
        })?;
        let found = first.finish();
        let mut seen = HashSet::new();
        let ids: Vec<RecordId> =
            found.iter().map(|(_, id)| id).filter(|id| seen.insert((*id).clone())).cloned().collect();
        let chunks = looker.get(&ids)?;
        // What was deleted meanwhile is left out.
        let chunk = |id: &RecordId| chunks.iter().find(|chunk| chunk.id == *id).cloned();
        let (mut room, mut shown) = (Room::default(), HashSet::new());
        let (mut value, mut revealed, mut bytes) = (Vec::with_capacity(found.len()), Vec::new(), 0);
        for (of, id) in &found {
            let Some(chunk) = chunk(id).filter(|chunk| pick.takes(chunk)) else { continue };
            // A point is there once for each of its values.
            if !room.take(&chunk)? {
                return Ok(Looked { value: None, revealed: Vec::new(), bytes: 0 });
            }
            if shown.insert(id) {
                revealed.push(id.clone());
                bytes += chunk.text.len();
            }
            value.push((chunk, *of));
        }
        Ok(Looked { value: Some(value), revealed, bytes })
    };
    collection.look(Access::Scroll, look).await?.ok_or_else(too_large)
}

/// The first values that were seen.
struct First {
    found: Vec<(OrderValue, RecordId)>,
    limit: usize,
    descending: bool,
}

impl First {
    fn add(&mut self, value: OrderValue, id: &RecordId) {
        self.found.push((value, id.clone()));
        if self.found.len() > self.limit.saturating_mul(2).saturating_add(SLACK) {
            self.sort_out();
        }
    }

    fn sort_out(&mut self) {
        let descending = self.descending;
        self.found.sort_by(|(a, a_id), (b, b_id)| directed(compare(a, b).then_with(|| a_id.cmp(b_id)), descending));
        // The same value twice in one point is there once.
        self.found.dedup_by(|(a, a_id), (b, b_id)| a_id == b_id && compare(a, b) == Ordering::Equal);
        self.found.truncate(self.limit);
    }

    fn finish(mut self) -> Vec<(OrderValue, RecordId)> {
        self.sort_out();
        self.found
    }
}

fn directed(order: Ordering, descending: bool) -> Ordering {
    if descending { order.reverse() } else { order }
}

#[expect(clippy::cast_precision_loss, reason = "numbers of both kinds are compared as Qdrant compares them")]
pub(super) fn compare(a: &OrderValue, b: &OrderValue) -> Ordering {
    match (a, b) {
        (OrderValue::Int(a), OrderValue::Int(b)) => a.cmp(b),
        (OrderValue::Float(a), OrderValue::Float(b)) => a.total_cmp(b),
        (OrderValue::Int(a), OrderValue::Float(b)) => (*a as f64).total_cmp(b),
        (OrderValue::Float(a), OrderValue::Int(b)) => a.total_cmp(&(*b as f64)),
    }
}

fn start_value(start: StartFrom) -> Answer<OrderValue> {
    match start {
        StartFrom::Int(n) => Ok(OrderValue::Int(n)),
        StartFrom::Float(x) => Ok(OrderValue::Float(x)),
        StartFrom::Datetime(words) => {
            let date = values::date(&words);
            let bad = || Failure::bad("Wrong input: `start_from` is neither a number nor a date");
            date.map(OrderValue::Int).ok_or_else(bad)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn first(limit: usize, descending: bool, values: &[(i64, u64)]) -> Vec<(i64, RecordId)> {
        let mut first = First { found: Vec::new(), limit, descending };
        values.iter().for_each(|(value, id)| first.add(OrderValue::Int(*value), &RecordId::Number(*id)));
        let int = |value| if let OrderValue::Int(n) = value { n } else { panic!("no integer") };
        first.finish().into_iter().map(|(value, id)| (int(value), id)).collect()
    }

    #[test]
    fn the_first_are_kept_in_either_direction() {
        let values: Vec<(i64, u64)> = (0..10_000).map(|n| ((n * 7919) % 10_007, n as u64)).collect();
        let mut sorted: Vec<i64> = values.iter().map(|(value, _)| *value).collect();
        sorted.sort_unstable();
        let up: Vec<i64> = first(5, false, &values).into_iter().map(|(value, _)| value).collect();
        assert_eq!(up, sorted[..5]);
        sorted.reverse();
        let down: Vec<i64> = first(5, true, &values).into_iter().map(|(value, _)| value).collect();
        assert_eq!(down, sorted[..5]);
        assert_eq!(first(5, false, &[(1, 1), (1, 1), (1, 2)]).len(), 2);
    }
}
