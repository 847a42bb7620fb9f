//! Points by id, page by page, counted, and counted by value.

use std::collections::{HashMap, HashSet};

use super::ask::Every;
use super::payload::{self, Cut};
use super::{Session, order, values, vectors};
use crate::audit::Access;
use crate::error::Error;
use crate::filter::{Filter, JsonPath};
use crate::id::RecordId;
use crate::limits;
use crate::server::qdrant::failure::{Answer, Code, Failure};
use crate::server::qdrant::model::PointId;
use crate::server::qdrant::model::points::{OrderValue, Record, ScoredPoint};
use crate::server::qdrant::model::query::{Facet, FacetValue, Facets, LIMIT, Page, Scroll};
use crate::server::qdrant::model::select::{Wanted, WithVector};
use crate::server::qdrant::model::vector::VectorStruct;
use crate::store::{Collection, Looked};
use crate::vectors::{CollectionSpec, StoredChunk};

/// What of a chunk is shown.
#[derive(Clone)]
pub(super) struct Shape {
    cut: Cut,
    vector: WithVector,
    spec: CollectionSpec,
}

impl Shape {
    pub(super) fn new(wanted: &Wanted, collection: &Collection) -> Answer<Self> {
        if let WithVector::Named(names) = &wanted.vector {
            names.iter().try_for_each(|name| vectors::known(collection.spec(), name))?;
        }
        let cut = Cut::new(&wanted.payload)?;
        Ok(Self { cut, vector: wanted.vector.clone(), spec: collection.spec().clone() })
    }

    /// A chunk as it is shown.
    pub(super) fn record(&self, chunk: StoredChunk, order_value: Option<OrderValue>) -> Record {
        let vector = vectors::wanted(&chunk.vectors, &self.spec, &self.vector);
        let payload = self.cut.apply(payload::of_chunk(chunk.metadata, chunk.text));
        Record { id: PointId(chunk.id), payload, vector, order_value }
    }

    /// The same with the score that it was found with.
    pub(super) fn scored(&self, chunk: StoredChunk, score: f32, order_value: Option<OrderValue>) -> ScoredPoint {
        let version = chunk.version;
        let Record { id, payload, vector, order_value } = self.record(chunk, order_value);
        ScoredPoint { id, version, score, payload, vector, order_value }
    }
}

impl Session {
    /// The points with `ids` that are there, in the order of `ids`.
    pub(in super::super) async fn retrieve(
        &self,
        name: &str,
        ids: Vec<PointId>,
        wanted: &Wanted,
    ) -> Answer<Vec<Record>> {
        let collection = self.readable(name).await?;
        let shape = Shape::new(wanted, &collection)?;
        let mut seen = HashSet::new();
        let ids: Vec<RecordId> = ids.into_iter().map(|id| id.0).filter(|id| seen.insert(id.clone())).collect();
        within(ids.len(), limits::QDRANT_POINTS, "points at once")?;
        let chunks = collection.get(ids).await?;
        Ok(chunks.into_iter().map(|chunk| shape.record(chunk, None)).collect())
    }

    /// A page of points, in the order of their ids or by a field.
    pub(in super::super) async fn scroll(&self, name: &str, asked: Scroll) -> Answer<Page> {
        let collection = self.readable(name).await?;
        let Scroll { offset, limit, filter, wanted, order_by } = asked;
        positive(limit, "limit")?;
        within(limit, limits::QDRANT_POINTS, "points on a page")?;
        let shape = Shape::new(&wanted, &collection)?;
        if let Some(order_by) = order_by {
            if offset.is_some() {
                return Err(Failure::bad(
                    "Wrong input: Cannot use an `offset` when using `order_by`. The alternative for paging is to use \
                     `order_by.start_from` and a filter to exclude the IDs that you've already seen for the \
                     `order_by.start_from` value",
                ));
            }
            let ordered = order::ordered(&collection, order_by, filter, limit, Every).await?;
            let points = ordered.into_iter().map(|(chunk, value)| shape.record(chunk, Some(value))).collect();
            return Ok(Page { points, next_page_offset: None });
        }
        let from = offset.map(|id| id.0);
        let look = move |looker: &crate::store::Looker| {
            let mut found: Vec<StoredChunk> = Vec::new();
            let (mut room, mut fits) = (Room::default(), true);
            looker.each(from.as_ref(), filter.as_ref(), limit + 1, |chunk| {
                fits = room.take(&chunk)?;
                found.push(chunk);
                Ok(fits && found.len() <= limit)
            })?;
            if !fits {
                return Ok(Looked { value: None, revealed: Vec::new(), bytes: 0 });
            }
            let next = if found.len() > limit { found.pop().map(|chunk| chunk.id) } else { None };
            let revealed = found.iter().map(|chunk| chunk.id.clone()).collect();
            let bytes = found.iter().map(|chunk| chunk.text.len()).sum();
            Ok(Looked { value: Some((found, next)), revealed, bytes })
        };
        let (found, next) = collection.look(Access::Scroll, look).await?.ok_or_else(too_large)?;
        let points = found.into_iter().map(|chunk| shape.record(chunk, None)).collect();
        Ok(Page { points, next_page_offset: next.map(PointId) })
    }

    /// How many points pass `filter`.
    pub(in super::super) async fn count(&self, name: &str, filter: Option<Filter>) -> Answer<u64> {
        let collection = self.readable(name).await?;
        let count = match filter {
            None => collection.count().await?,
            Some(filter) => collection.count_filtered(filter).await?,
        };
        Ok(count as u64)
    }

    /// How many points have each value of a field, the commonest first.
    pub(in super::super) async fn facet(
        &self,
        name: &str,
        key: &str,
        filter: Option<Filter>,
        limit: Option<usize>,
    ) -> Answer<Facets> {
        let collection = self.readable(name).await?;
        let limit = limit.unwrap_or(LIMIT);
        positive(limit, "limit")?;
        let path: JsonPath = key.parse()?;
        let look = move |looker: &crate::store::Looker| {
            let mut counts: HashMap<FacetValue, u64> = HashMap::new();
            let (mut revealed, mut bytes) = (Vec::new(), 0);
            looker.each(None, filter.as_ref(), limits::LOOK_CHUNKS, |chunk| {
                let payload = payload::of_chunk(chunk.metadata, chunk.text);
                // Each value counts once for a point.
                let mut of_point = HashSet::new();
                payload::each_at(&payload, &path, &mut |value| of_point.extend(values::facet(value)));
                if !of_point.is_empty() {
                    revealed.push(chunk.id);
                }
                for value in of_point {
                    let known = counts.entry(value).or_insert_with_key(|value| {
                        bytes += value.len();
                        0
                    });
                    *known += 1;
                }
                if counts.len() > limits::QDRANT_VALUES {
                    return Err(Error::invalid(format!("the field has more than {} values", limits::QDRANT_VALUES))
                        .with_remedy("count among fewer points, with a filter"));
                }
                Ok(true)
            })?;
            // Each value is told once, of whatever records have it.
            Ok(Looked { value: counts, revealed, bytes })
        };
        let counts = collection.look(Access::Scroll, look).await?;
        let mut hits: Vec<(FacetValue, u64)> = counts.into_iter().collect();
        hits.sort_by(|(a, a_count), (b, b_count)| b_count.cmp(a_count).then_with(|| a.cmp(b)));
        hits.truncate(limit);
        Ok(Facets { hits: hits.into_iter().map(|(value, count)| Facet { value, count }).collect() })
    }
}

/// What is left of the room for what one answer holds, those to all questions of a batch together: points that it has more
/// than once count each time.
pub(super) struct Room(usize);

impl Default for Room {
    fn default() -> Self {
        Self(limits::QDRANT_GRPC_ANSWER_BYTES)
    }
}

impl Room {
    /// Takes what `chunk` needs, and says whether there was as much.
    pub(super) fn take(&mut self, chunk: &StoredChunk) -> Result<bool, Error> {
        let vectors = chunk.vectors.iter().map(|(_, vector)| vector.len() * 4);
        let sparse = chunk.vectors.iter_sparse().map(|(_, vector)| vector.indices().len() * 8);
        let bytes =
            chunk.text.len() + crate::vectors::json_bytes(&chunk.metadata)? + vectors.chain(sparse).sum::<usize>();
        Ok(self.take_bytes(bytes))
    }

    /// The same for what of a point is shown.
    pub(super) fn show(&mut self, point: &ScoredPoint) -> Result<bool, Error> {
        let payload = point.payload.as_ref().map(crate::vectors::json_bytes).transpose()?.unwrap_or(0);
        let vectors = point.vector.as_ref().map_or(0, VectorStruct::bytes);
        Ok(self.take_bytes(size_of::<ScoredPoint>() + payload + vectors))
    }

    fn take_bytes(&mut self, bytes: usize) -> bool {
        let left = self.0.checked_sub(bytes);
        self.0 = left.unwrap_or(0);
        left.is_some()
    }
}

/// There is no room for the answer.
pub(super) fn too_large() -> Failure {
    let mib = limits::QDRANT_GRPC_ANSWER_BYTES >> 20;
    let message = format!(
        "the answer has more than {mib} MiB: ask fewer questions at once, for fewer points, or for less of their payloads \
         and vectors"
    );
    Failure::new(Code::TooLarge, message)
}

pub(super) fn positive(n: usize, what: &str) -> Answer<()> {
    if n > 0 { Ok(()) } else { Err(Failure::bad(format!("Validation error: `{what}` must be 1 or larger"))) }
}

pub(super) fn within(n: usize, most: usize, what: &str) -> Answer<()> {
    if n <= most { Ok(()) } else { Err(Failure::bad(format!("Wrong input: there are at most {most} {what}"))) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    /// Guards against an answer that is as large as the questions in a batch are many.
    #[test]
    fn what_is_shown_takes_room_each_time() {
        let point = ScoredPoint {
            id: PointId(RecordId::Number(1)),
            version: 1,
            score: 1.0,
            payload: json!({"blob": "x".repeat(1_000)}).as_object().cloned(),
            vector: None,
            order_value: None,
        };
        let fits = |point: &ScoredPoint, room: usize| Room(room).show(point).unwrap();
        assert!(!fits(&point, 1_000) && fits(&point, 2_000));
        let mut room = Room(2_000);
        assert_eq!([room.show(&point).unwrap(), room.show(&point).unwrap()], [true, false]);
        let bare = ScoredPoint { payload: None, ..point };
        assert!(!fits(&bare, 0) && fits(&bare, 1_000), "one without a payload takes little, and not nothing");
        assert_eq!(too_large().http().as_u16(), 413);
        assert_eq!(tonic::Status::from(too_large()).code(), tonic::Code::ResourceExhausted);
    }
}
