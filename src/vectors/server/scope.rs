//! The points of one place, and no others: every message about points is made here, with the place in it.

use qdrant_client::qdrant::condition::ConditionOneOf;
use qdrant_client::qdrant::r#match::MatchValue;
use qdrant_client::qdrant::points_selector::PointsSelectorOneOf;
use qdrant_client::qdrant::with_payload_selector::SelectorOptions as PayloadOptions;
use qdrant_client::qdrant::with_vectors_selector::SelectorOptions as VectorOptions;
use qdrant_client::qdrant::{
    Condition, CountPoints, DeletePoints, DenseVector, FieldCondition, Filter, GetPoints, HasIdCondition, Match,
    PayloadIncludeSelector, PointStruct, PointsSelector, Query, QueryPoints, Range, RepeatedStrings, ScrollPoints,
    SearchParams, UpsertPoints, VectorInput, WithPayloadSelector, WithVectorsSelector, query, vector_input,
};
use uuid::Uuid;

use super::point;
use crate::crypto;
use crate::vectors::engine::{Fields, Nearest, SearchableVector, TokenFilter};
use crate::vectors::{CollectionId, Metric, Placement};

/// Longest shape that stands in a name as it is.
const SHAPE_BYTES: usize = 64;

/// One place of a server.
pub(super) struct Scope {
    /// The physical collection.
    physical: String,
    /// What every point of the place carries.
    tag: String,
    shared: bool,
}

/// What physical collections are called.
pub(super) struct Names {
    prefix: String,
    /// What those begin with that places share.
    shared: String,
}

impl Names {
    pub(super) fn new(prefix: String, instance: &str) -> Self {
        let between = if instance.is_empty() { "" } else { "-" };
        let shared = format!("{prefix}-shared-{instance}{between}");
        Self { prefix, shared }
    }

    /// One for `place` alone.
    pub(super) fn dedicated(&self, place: CollectionId) -> String {
        format!("{}-{place}", self.prefix)
    }
}

/// A message that has its place in it. Only this module makes one.
#[derive(Clone)]
pub(super) struct InScope<M>(M);

impl<M> InScope<M> {
    /// For sending.
    pub(super) fn into_message(self) -> M {
        self.0
    }
}

/// How the points with some ids are asked for.
pub(super) enum Retrieve {
    /// Where there are no others.
    Ids(InScope<GetPoints>),
    /// Among those of the place.
    Filtered(InScope<ScrollPoints>),
}

impl Scope {
    pub(super) fn new(
        names: &Names,
        place: CollectionId,
        placement: Placement,
        searchable: &[SearchableVector],
    ) -> Self {
        let physical = match placement {
            Placement::Dedicated => names.dedicated(place),
            Placement::Shared => format!("{}{}", names.shared, shape(searchable)),
        };
        Self { physical, tag: place.to_string(), shared: placement == Placement::Shared }
    }

    /// `place` in the physical collection `physical`, if that is a shared one.
    pub(super) fn of_shared(names: &Names, physical: String, place: CollectionId) -> Option<Self> {
        let shared = physical.starts_with(&names.shared);
        shared.then(|| Self { physical, tag: place.to_string(), shared })
    }

    pub(super) fn physical(&self) -> &str {
        &self.physical
    }

    pub(super) fn is_shared(&self) -> bool {
        self.shared
    }

    /// What every point of the place carries.
    pub(super) fn tag(&self) -> &str {
        &self.tag
    }

    /// Writes points where no newer version than `newest` is: the newest of these.
    pub(super) fn upsert(&self, points: Vec<PointStruct>, newest: u64) -> InScope<UpsertPoints> {
        InScope(UpsertPoints {
            collection_name: self.physical.clone(),
            wait: Some(true),
            points,
            update_filter: Some(self.with([up_to(newest)])),
            ..UpsertPoints::default()
        })
    }

    /// Deletes those of `ids` that have no newer version than `through`.
    pub(super) fn delete(&self, ids: &[Uuid], through: u64) -> InScope<DeletePoints> {
        self.delete_where(self.with([has_id(ids), up_to(through)]))
    }

    /// Deletes everything in the place.
    pub(super) fn everything(&self) -> InScope<DeletePoints> {
        // In a collection of its own too: a filter without a condition would be everybody's.
        self.delete_where(Filter { must: vec![self.tagged()], ..Filter::default() })
    }

    pub(super) fn retrieve(&self, ids: &[Uuid], fields: Fields) -> Retrieve {
        if self.shared {
            return Retrieve::Filtered(InScope(ScrollPoints {
                collection_name: self.physical.clone(),
                filter: Some(self.with([has_id(ids)])),
                limit: Some(u32::try_from(ids.len()).unwrap_or(u32::MAX)),
                with_payload: Some(with_payload(fields)),
                with_vectors: Some(with_vectors(false)),
                ..ScrollPoints::default()
            }));
        }
        Retrieve::Ids(InScope(GetPoints {
            collection_name: self.physical.clone(),
            ids: ids.iter().map(point::to_id).collect(),
            with_payload: Some(with_payload(fields)),
            with_vectors: Some(with_vectors(false)),
            ..GetPoints::default()
        }))
    }

    pub(super) fn scroll(
        &self,
        from: Option<&Uuid>,
        limit: usize,
        fields: Fields,
        vectors: bool,
        filter: Option<&TokenFilter>,
    ) -> InScope<ScrollPoints> {
        InScope(ScrollPoints {
            collection_name: self.physical.clone(),
            filter: self.passing(filter),
            offset: from.map(point::to_id),
            limit: Some(u32::try_from(limit).unwrap_or(u32::MAX)),
            with_payload: Some(with_payload(fields)),
            with_vectors: Some(with_vectors(vectors)),
            ..ScrollPoints::default()
        })
    }

    /// With these fields in place of those that are wanted in the end.
    pub(super) fn nearest(&self, nearest: &Nearest<'_>, fields: Fields) -> InScope<QueryPoints> {
        let dense = DenseVector { data: nearest.vector.to_vec() };
        let input = VectorInput { variant: Some(vector_input::Variant::Dense(dense)) };
        let params = SearchParams {
            exact: Some(nearest.exact),
            hnsw_ef: nearest.ef.map(|ef| ef as u64),
            ..SearchParams::default()
        };
        InScope(QueryPoints {
            collection_name: self.physical.clone(),
            query: Some(Query { variant: Some(query::Variant::Nearest(input)) }),
            using: Some(point::vector_name(nearest.position)),
            filter: self.passing(nearest.filter),
            params: Some(params),
            limit: Some(nearest.limit as u64),
            with_payload: Some(with_payload(fields)),
            with_vectors: Some(with_vectors(false)),
            ..QueryPoints::default()
        })
    }

    pub(super) fn count(&self) -> InScope<CountPoints> {
        InScope(CountPoints {
            collection_name: self.physical.clone(),
            filter: self.passing(None),
            exact: Some(true),
            ..CountPoints::default()
        })
    }

    fn delete_where(&self, filter: Filter) -> InScope<DeletePoints> {
        let selector = PointsSelector { points_selector_one_of: Some(PointsSelectorOneOf::Filter(filter)) };
        InScope(DeletePoints {
            collection_name: self.physical.clone(),
            wait: Some(true),
            points: Some(selector),
            ..DeletePoints::default()
        })
    }

    /// The points of the place that pass `filter`; `None` where these are all.
    fn passing(&self, filter: Option<&TokenFilter>) -> Option<Filter> {
        match filter {
            Some(filter) => Some(self.with([condition(filter)])),
            None => self.shared.then(|| self.with([])),
        }
    }

    /// The points of the place that meet `conditions`.
    fn with<const N: usize>(&self, conditions: [Condition; N]) -> Filter {
        let place = self.shared.then(|| self.tagged());
        Filter { must: place.into_iter().chain(conditions).collect(), ..Filter::default() }
    }

    fn tagged(&self) -> Condition {
        has(point::PLACE, is(self.tag.clone()))
    }
}

/// What collections have in common that may share a physical one: size and metric of every vector.
fn shape(searchable: &[SearchableVector]) -> String {
    if searchable.is_empty() {
        return super::NO_VECTOR.to_owned();
    }
    let of = |v: &SearchableVector| {
        let metric = match v.metric {
            Metric::Cosine => "cosine",
            Metric::Dot => "dot",
            Metric::Euclid => "euclid",
        };
        format!("{}-{}-{metric}", v.position, v.size)
    };
    let shape = searchable.iter().map(of).collect::<Vec<_>>().join("-");
    if shape.len() <= SHAPE_BYTES {
        return shape;
    }
    let digest = crypto::default_provider().sha256(&[shape.as_bytes()]);
    digest.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// `filter` in the server's terms: tags and tokens are keywords to it.
fn condition(filter: &TokenFilter) -> Condition {
    let all = |parts: &[TokenFilter]| parts.iter().map(condition).collect();
    let filter = match filter {
        TokenFilter::Token(token) => return has(point::TOKENS, is(point::word(token))),
        TokenFilter::Tag(tag) => return has(point::TAG, is(point::word(tag))),
        TokenFilter::All(parts) => Filter { must: all(parts), ..Filter::default() },
        // An empty list is no condition to the server.
        TokenFilter::Any(parts) if parts.is_empty() => Filter { must: vec![has_id(&[])], ..Filter::default() },
        TokenFilter::Any(parts) => match tokens(parts) {
            Some(strings) => {
                let any = Match { match_value: Some(MatchValue::Keywords(RepeatedStrings { strings })) };
                return has(point::TOKENS, any);
            }
            None => Filter { should: all(parts), ..Filter::default() },
        },
        TokenFilter::Not(part) => Filter { must_not: vec![condition(part)], ..Filter::default() },
    };
    Condition { condition_one_of: Some(ConditionOneOf::Filter(filter)) }
}

/// The tokens that `parts` consist of, if of nothing else.
fn tokens(parts: &[TokenFilter]) -> Option<Vec<String>> {
    let token = |part: &TokenFilter| match part {
        TokenFilter::Token(token) => Some(point::word(token)),
        _ => None,
    };
    parts.iter().map(token).collect()
}

fn has(key: &str, value: Match) -> Condition {
    field(FieldCondition { key: key.to_owned(), r#match: Some(value), ..FieldCondition::default() })
}

fn is(word: String) -> Match {
    Match { match_value: Some(MatchValue::Keyword(word)) }
}

fn has_id(ids: &[Uuid]) -> Condition {
    let has_id = ids.iter().map(point::to_id).collect();
    Condition { condition_one_of: Some(ConditionOneOf::HasId(HasIdCondition { has_id })) }
}

/// Versions are counted from 1: far below where a double is not exact any more.
#[expect(clippy::cast_precision_loss, reason = "exact up to 2^53")]
fn up_to(version: u64) -> Condition {
    let range = Range { lte: Some(version as f64), ..Range::default() };
    field(FieldCondition { key: point::VERSION.to_owned(), range: Some(range), ..FieldCondition::default() })
}

fn field(condition: FieldCondition) -> Condition {
    Condition { condition_one_of: Some(ConditionOneOf::Field(condition)) }
}

fn with_payload(fields: Fields) -> WithPayloadSelector {
    let include = |fields: &[&str]| {
        let fields = fields.iter().map(|field| (*field).to_owned()).collect();
        PayloadOptions::Include(PayloadIncludeSelector { fields })
    };
    let options = match fields {
        Fields::Both => PayloadOptions::Enable(true),
        Fields::Payload => include(&[point::PLACE, point::EPOCH, point::VERSION, point::PAYLOAD]),
        Fields::Vector => include(&[point::PLACE, point::EPOCH, point::VERSION, point::VECTOR]),
        Fields::Head => include(&[point::PLACE, point::EPOCH, point::VERSION]),
        Fields::Id => include(&[point::PLACE]),
    };
    WithPayloadSelector { selector_options: Some(options) }
}

fn with_vectors(vectors: bool) -> WithVectorsSelector {
    WithVectorsSelector { selector_options: Some(VectorOptions::Enable(vectors)) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn place(byte: u8) -> CollectionId {
        CollectionId::try_from(&[byte; 16][..]).unwrap()
    }

    fn vector(position: u8, size: usize) -> SearchableVector {
        SearchableVector { position, size, metric: Metric::Cosine }
    }

    fn names(instance: &str) -> Names {
        Names::new("p".into(), instance)
    }

    fn shared() -> Scope {
        Scope::new(&names("i"), place(7), Placement::Shared, &[vector(0, 384)])
    }

    fn has_tag(filter: Option<&Filter>) -> bool {
        filter.is_some_and(|filter| {
            filter.should.is_empty() && filter.min_should.is_none() && filter.must.contains(&shared().tagged())
        })
    }

    /// Guards against a call that would see or change what others have in the same physical collection.
    #[test]
    fn in_a_shared_collection_every_message_has_the_place_in_it() {
        let scope = shared();
        let ids = [Uuid::from_u128(1), Uuid::from_u128(2)];
        let query = [1.0; 384];
        let any =
            TokenFilter::Any(vec![TokenFilter::Tag([1; 16]), TokenFilter::Not(Box::new(TokenFilter::Token([2; 16])))]);
        let nearest = Nearest {
            position: 0,
            vector: &query,
            limit: 3,
            exact: false,
            ef: None,
            filter: Some(&any),
            fields: Fields::Both,
        };
        assert!(has_tag(scope.upsert(Vec::new(), 5).into_message().update_filter.as_ref()));
        for delete in [scope.delete(&ids, 5), scope.everything()] {
            let selector = delete.into_message().points.unwrap().points_selector_one_of;
            assert!(matches!(selector, Some(PointsSelectorOneOf::Filter(filter)) if has_tag(Some(&filter))));
        }
        let Retrieve::Filtered(retrieve) = scope.retrieve(&ids, Fields::Both) else { panic!("not filtered") };
        assert!(has_tag(retrieve.into_message().filter.as_ref()));
        assert!(has_tag(scope.scroll(None, 9, Fields::Head, true, Some(&any)).into_message().filter.as_ref()));
        assert!(has_tag(scope.nearest(&nearest, Fields::Both).into_message().filter.as_ref()));
        assert!(has_tag(scope.count().into_message().filter.as_ref()));
    }

    #[test]
    fn names_tell_stores_places_and_shapes_apart_and_nothing_else() {
        let name = |placement, byte, vectors: &[SearchableVector]| {
            Scope::new(&names("i"), place(byte), placement, vectors).physical().to_owned()
        };
        let id = "07".repeat(16);
        assert_eq!(name(Placement::Dedicated, 7, &[]), format!("p-{id}"));
        assert_eq!(name(Placement::Shared, 7, &[]), "p-shared-i-none");
        assert_eq!(name(Placement::Shared, 7, &[vector(0, 384)]), "p-shared-i-0-384-cosine");
        assert_eq!(name(Placement::Shared, 8, &[vector(0, 384)]), "p-shared-i-0-384-cosine");
        let many: Vec<_> = (0..16).map(|position| vector(position, 65_536)).collect();
        assert!(name(Placement::Shared, 7, &many).len() < 255);
        let of_shared = |instance, name: &str| Scope::of_shared(&names(instance), name.into(), place(7)).is_some();
        assert!(of_shared("i", "p-shared-i-none") && of_shared("", "p-shared-none"));
        for other in [&format!("p-{id}"), "q-shared-i-none", "p-shared-j-none", "p-shared-none"] {
            assert!(!of_shared("i", other), "{other}");
        }
    }
}
