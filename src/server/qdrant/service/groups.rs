//! Questions in groups: the best of each value of a field.

use std::collections::{HashMap, HashSet};

use super::read::{Room, Shape, positive, too_large, within};
use super::{Session, ask, payload, values};
use crate::filter::JsonPath;
use crate::id::RecordId;
use crate::limits;
use crate::server::qdrant::failure::{Answer, Failure};
use crate::server::qdrant::model::points::{Record, ScoredPoint};
use crate::server::qdrant::model::query::{Group, GroupId, GroupQuestion, Groups, WithLookup};
use crate::server::qdrant::model::{Object, PointId};
use crate::store::Collection;
use crate::vectors::StoredChunk;

impl Session {
    /// The answer to a question, in groups. As many of the best points as may be asked for are looked at, until all groups
    /// are full.
    pub(in super::super) async fn groups(&self, name: &str, asked: GroupQuestion) -> Answer<Groups> {
        let collection = self.readable(name).await?;
        let GroupQuestion { mut question, by, groups, size, lookup } = asked;
        positive(groups, "limit")?;
        positive(size, "group_size")?;
        within(groups.saturating_mul(size), limits::QDRANT_POINTS, "hits in all groups")?;
        let path: JsonPath = by.parse()?;
        if path.rest().iter().any(|step| !matches!(step, crate::filter::Step::Key(_))) {
            return Err(Failure::bad("Wrong input: a group is a field, not an element of an array"));
        }
        let shape = Shape::new(&question.wanted, &collection)?;
        // Which points are in a full group is only known once all are looked at that may be in it.
        question.limit = collection.count().await?.clamp(1, limits::QDRANT_POINTS);
        let ready = self.ready(&collection, question).await?;
        let mut order: Vec<GroupId> = Vec::new();
        let mut hits: HashMap<GroupId, Vec<ScoredPoint>> = HashMap::new();
        let mut room = Room::default();
        // Those that are in no group are not among what is found, and would take no place in one.
        let places = || Places { by: path.clone(), groups, size, taken: HashMap::new() };
        let found = ask::answer(&collection, ready, places()).await?;
        let mut places = places();
        for (chunk, score, value) in found {
            for id in places.take(&payload::of_chunk(chunk.metadata.clone(), chunk.text.clone())) {
                if !room.take(&chunk)? {
                    return Err(too_large());
                }
                if !hits.contains_key(&id) {
                    order.push(id.clone());
                }
                hits.entry(id).or_default().push(shape.scored(chunk.clone(), score, value));
            }
        }
        let mut lookups = match lookup {
            Some(lookup) => self.lookups(&order, lookup).await?,
            None => HashMap::new(),
        };
        let groups = order.into_iter().map(|id| {
            let hits = hits.remove(&id).unwrap_or_default();
            Group { hits, lookup: lookups.remove(&id), id }
        });
        Ok(Groups { groups: groups.collect() })
    }

    /// The points of another collection whose ids are those of groups.
    async fn lookups(&self, groups: &[GroupId], lookup: WithLookup) -> Answer<HashMap<GroupId, Record>> {
        let collection: Collection = self.readable(&lookup.collection).await?;
        let shape = Shape::new(&lookup.wanted, &collection)?;
        let ids: Vec<(RecordId, &GroupId)> =
            groups.iter().filter_map(|group| Some((point_id(group)?, group))).collect();
        let chunks = collection.get(ids.iter().map(|(id, _)| id.clone()).collect()).await?;
        let found = chunks.into_iter().filter_map(|chunk| {
            let (_, group) = ids.iter().find(|(id, _)| *id == chunk.id)?;
            Some(((*group).clone(), shape.record(chunk, None)))
        });
        Ok(found.collect())
    }
}

/// The places in groups, which points take that come best first.
struct Places {
    by: JsonPath,
    groups: usize,
    size: usize,
    taken: HashMap<GroupId, usize>,
}

impl Places {
    /// Takes those of a point with this payload: one in the group of each of its values, where there is one left.
    fn take(&mut self, payload: &Object) -> Vec<GroupId> {
        let mut ids = group_ids(payload, &self.by);
        ids.retain(|id| {
            // A group that is not among the first by now will not be.
            if !self.taken.contains_key(id) && self.taken.len() >= self.groups {
                return false;
            }
            let taken = self.taken.entry(id.clone()).or_default();
            let is_left = *taken < self.size;
            *taken += usize::from(is_left);
            is_left
        });
        ids
    }
}

impl ask::Pick for Places {
    const PAGE: usize = limits::LOOK_CHUNKS;

    fn takes(&mut self, chunk: &StoredChunk) -> bool {
        !self.take(&payload::of_chunk(chunk.metadata.clone(), chunk.text.clone())).is_empty()
    }

    fn is_done(&self) -> bool {
        self.taken.len() >= self.groups && self.taken.values().all(|taken| *taken >= self.size)
    }
}

/// The groups of a point. One that has a value which is no group is in none.
fn group_ids(payload: &Object, path: &JsonPath) -> Vec<GroupId> {
    let (mut ids, mut seen, mut whole) = (Vec::new(), HashSet::new(), true);
    payload::each_at(payload, path, &mut |value| match values::group(value) {
        Some(id) if seen.contains(&id) => {}
        Some(id) => {
            seen.insert(id.clone());
            ids.push(id);
        }
        None => whole = false,
    });
    if whole { ids } else { Vec::new() }
}

fn point_id(group: &GroupId) -> Option<RecordId> {
    match group {
        GroupId::Unsigned(n) => Some(RecordId::Number(*n)),
        GroupId::Signed(_) => None,
        GroupId::Words(words) => PointId::from_words(words).ok().map(|id| id.0),
    }
}

#[cfg(test)]
mod tests {
    use super::ask::Pick as _;
    use super::*;
    use serde_json::json;

    /// Guards against points that are in no group that is shown, and are read and written down all the same.
    #[test]
    fn a_point_takes_a_place_where_one_is_left() {
        let mut places = Places { by: "a".parse().unwrap(), groups: 2, size: 2, taken: HashMap::new() };
        let mut take = |payload: serde_json::Value| places.take(payload.as_object().unwrap()).len();
        assert_eq!([take(json!({"a": 1})), take(json!({"b": 1})), take(json!({"a": [1, 2]}))], [1, 0, 2]);
        assert_eq!([take(json!({"a": 1})), take(json!({"a": 3}))], [0, 0], "it is full, and one too many");
        let mut again = places;
        assert!(!again.is_done());
        assert_eq!(again.take(json!({"a": [1, 2, 3]}).as_object().unwrap()).len(), 1);
        assert!(again.is_done());
    }

    #[test]
    fn a_point_is_in_the_group_of_each_of_its_values_or_in_none() {
        let ids = |payload: serde_json::Value| group_ids(payload.as_object().unwrap(), &"a.b".parse().unwrap()).len();
        assert_eq!(ids(json!({"a": {"b": 7}})), 1);
        assert_eq!(ids(json!({"a": {"b": ["x", "y", "x"]}})), 2);
        assert_eq!(ids(json!({"a": {"b": ["x", true]}})), 0);
        assert_eq!(ids(json!({"a": 7})), 0);
    }
}
