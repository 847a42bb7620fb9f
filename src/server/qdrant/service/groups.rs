//! Questions in groups: the best of each value of a field.

use std::collections::{HashMap, HashSet};

use super::read::{Room, Shape, positive, too_large, within};
use super::{Session, ask, payload, values};
use crate::filter::JsonPath;
use crate::id::RecordId;
use crate::limits;
use crate::server::qdrant::failure::{Answer, Failure};
use crate::server::qdrant::model::PointId;
use crate::server::qdrant::model::points::{Record, ScoredPoint};
use crate::server::qdrant::model::query::{Group, GroupId, GroupQuestion, Groups, WithLookup};
use crate::store::Collection;

impl Session {
    /// The answer to a question, in groups. As many of the best points as may be asked for are looked at.
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
        // A point is in the group of each of its values.
        let mut room = Room::default();
        for (chunk, score, value) in ask::answer(&collection, ready).await? {
            let payload = payload::of_chunk(chunk.metadata.clone(), chunk.text.clone());
            for id in group_ids(&payload, &path) {
                let group = match hits.get_mut(&id) {
                    Some(group) => group,
                    // Points come best first: a group that is not among the first by now will not be.
                    None if order.len() >= groups => continue,
                    None => {
                        order.push(id.clone());
                        hits.entry(id).or_default()
                    }
                };
                if group.len() < size {
                    if !room.take(&chunk)? {
                        return Err(too_large());
                    }
                    group.push(shape.scored(chunk.clone(), score, value));
                }
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

/// The groups of a point. One that has a value which is no group is in none.
fn group_ids(payload: &crate::server::qdrant::model::Object, path: &JsonPath) -> Vec<GroupId> {
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
    use super::*;
    use serde_json::json;

    #[test]
    fn a_point_is_in_the_group_of_each_of_its_values_or_in_none() {
        let ids = |payload: serde_json::Value| group_ids(payload.as_object().unwrap(), &"a.b".parse().unwrap()).len();
        assert_eq!(ids(json!({"a": {"b": 7}})), 1);
        assert_eq!(ids(json!({"a": {"b": ["x", "y", "x"]}})), 2);
        assert_eq!(ids(json!({"a": {"b": ["x", true]}})), 0);
        assert_eq!(ids(json!({"a": 7})), 0);
    }
}
