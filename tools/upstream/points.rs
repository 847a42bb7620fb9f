//! The service of points.

use std::sync::Arc;

use ::qdrant_client::qdrant::points_server::Points;
use ::qdrant_client::qdrant::query::Variant;
use ::qdrant_client::qdrant::*;
use qdrant_edge::{
    CountRequest, NamedQuery, QueryEnum, Record, ScrollRequest, SearchRequest, VectorInternal, WithVector,
};
use tonic::{Request, Response, Status};

use crate::collection::{Collection, Write};
use crate::convert;
use crate::shelf::Shelf;

/// Results and pages, when a call does not say how many.
const LIMIT: usize = 10;

pub struct Service(pub Arc<Shelf>);

type Answer<T> = Result<Response<T>, Status>;

/// Runs what the engine takes its time for.
pub async fn waiting<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, Status> + Send + 'static,
) -> Result<T, Status> {
    tokio::task::spawn_blocking(work).await.map_err(|e| Status::internal(e.to_string()))?
}

fn missing<T>(call: &str) -> Answer<T> {
    Err(Status::unimplemented(format!("the upstream for tests has no `{call}`")))
}

fn number(value: Option<u64>, default: usize) -> usize {
    value.map_or(default, |value| usize::try_from(value).unwrap_or(usize::MAX))
}

impl Service {
    async fn write(&self, name: &str, write: Write) -> Answer<PointsOperationResponse> {
        let shelf = self.0.clone();
        shelf.faults.pass().await?;
        let collection = shelf.get(name)?;
        if !shelf.faults.drops() {
            waiting(move || collection.write(&write, shelf.faults.remembers())).await?;
        }
        let result = UpdateResult { operation_id: Some(0), status: UpdateStatus::Completed.into() };
        Ok(Response::new(PointsOperationResponse { result: Some(result), time: 0.0, usage: None }))
    }

    /// What is there, or what was there before.
    fn told(&self, collection: &Collection, record: Record) -> Record {
        if !self.0.faults.is_old() {
            return record;
        }
        match collection.kept(record.id) {
            Some(kept) => {
                Record { payload: record.payload.and(kept.payload), vector: record.vector.and(kept.vector), ..record }
            }
            None => record,
        }
    }

    async fn found(&self, name: &str, request: SearchRequest) -> Result<Vec<ScoredPoint>, Status> {
        self.0.faults.pass().await?;
        let collection = self.0.get(name)?;
        let asked = collection.clone();
        let found = waiting(move || asked.shard()?.search(request).map_err(convert::failed)).await?;
        let told = found.into_iter().map(|point| {
            let record = Record { payload: point.payload, vector: point.vector, ..Record::new_empty(point.id) };
            let record = self.told(&collection, record);
            ScoredPoint {
                id: Some(convert::to_id(point.id)),
                payload: convert::payload(record.payload),
                score: point.score,
                version: point.version,
                vectors: record.vector.and_then(convert::vectors),
                shard_key: None,
                order_value: None,
            }
        });
        Ok(told.collect())
    }
}

fn params(params: Option<SearchParams>) -> Option<qdrant_edge::SearchParams> {
    params.map(|params| qdrant_edge::SearchParams {
        hnsw_ef: params.hnsw_ef.and_then(|ef| usize::try_from(ef).ok()),
        exact: params.exact(),
        ..qdrant_edge::SearchParams::default()
    })
}

#[tonic::async_trait]
impl Points for Service {
    async fn upsert(&self, request: Request<UpsertPoints>) -> Answer<PointsOperationResponse> {
        let request = request.into_inner();
        self.write(&request.collection_name.clone(), Write::Upsert(request)).await
    }

    async fn delete(&self, request: Request<DeletePoints>) -> Answer<PointsOperationResponse> {
        let request = request.into_inner();
        self.write(&request.collection_name.clone(), Write::Delete(request)).await
    }

    async fn get(&self, request: Request<GetPoints>) -> Answer<GetResponse> {
        self.0.faults.pass().await?;
        let request = request.into_inner();
        let collection = self.0.get(&request.collection_name)?;
        let ids = request.ids.iter().map(convert::id).collect::<Result<Vec<_>, _>>()?;
        let payload = convert::with_payload(request.with_payload.as_ref(), true)?;
        let vectors = convert::with_vectors(request.with_vectors.as_ref());
        let asked = collection.clone();
        let found =
            waiting(move || asked.shard()?.retrieve(&ids, Some(payload), Some(vectors)).map_err(convert::failed));
        let result = found.await?.into_iter().map(|record| convert::record(self.told(&collection, record)));
        Ok(Response::new(GetResponse { result: result.collect(), time: 0.0, usage: None }))
    }

    async fn scroll(&self, request: Request<ScrollPoints>) -> Answer<ScrollResponse> {
        self.0.faults.pass().await?;
        let request = request.into_inner();
        if request.order_by.is_some() {
            return missing("scroll with an order");
        }
        let collection = self.0.get(&request.collection_name)?;
        let scroll = ScrollRequest {
            offset: request.offset.as_ref().map(convert::id).transpose()?,
            limit: Some(number(request.limit.map(u64::from), LIMIT)),
            filter: request.filter.as_ref().map(convert::filter).transpose()?,
            with_payload: Some(convert::with_payload(request.with_payload.as_ref(), true)?),
            with_vector: convert::with_vectors(request.with_vectors.as_ref()),
            order_by: None,
        };
        let asked = collection.clone();
        let (records, next) = waiting(move || asked.shard()?.scroll(scroll).map_err(convert::failed)).await?;
        let result = records.into_iter().map(|record| convert::record(self.told(&collection, record)));
        let (result, next_page_offset) = (result.collect(), next.map(convert::to_id));
        Ok(Response::new(ScrollResponse { next_page_offset, result, time: 0.0, usage: None }))
    }

    async fn count(&self, request: Request<CountPoints>) -> Answer<CountResponse> {
        self.0.faults.pass().await?;
        let request = request.into_inner();
        let collection = self.0.get(&request.collection_name)?;
        let filter = request.filter.as_ref().map(convert::filter).transpose()?;
        let count = CountRequest { filter, exact: request.exact.unwrap_or(true) };
        let count = waiting(move || collection.shard()?.count(count).map_err(convert::failed)).await?;
        let result = Some(CountResult { count: count as u64 });
        Ok(Response::new(CountResponse { result, time: 0.0, usage: None }))
    }

    async fn search(&self, request: Request<SearchPoints>) -> Answer<SearchResponse> {
        let request = request.into_inner();
        let search = SearchRequest {
            query: nearest(request.vector, request.vector_name),
            filter: request.filter.as_ref().map(convert::filter).transpose()?,
            params: params(request.params),
            limit: number(Some(request.limit), LIMIT),
            offset: number(request.offset, 0),
            with_payload: Some(convert::with_payload(request.with_payload.as_ref(), false)?),
            with_vector: Some(convert::with_vectors(request.with_vectors.as_ref())),
            score_threshold: request.score_threshold,
        };
        let result = self.found(&request.collection_name, search).await?;
        Ok(Response::new(SearchResponse { result, time: 0.0, usage: None }))
    }

    async fn query(&self, request: Request<QueryPoints>) -> Answer<QueryResponse> {
        let request = request.into_inner();
        if !request.prefetch.is_empty() || request.lookup_from.is_some() {
            return missing("query with prefetches");
        }
        let variant = request.query.and_then(|query| query.variant);
        let Some(Variant::Nearest(VectorInput { variant: Some(vector_input::Variant::Dense(dense)) })) = variant else {
            return missing("query by anything but a dense vector");
        };
        let with_vector: WithVector = convert::with_vectors(request.with_vectors.as_ref());
        let search = SearchRequest {
            query: nearest(dense.data, request.using),
            filter: request.filter.as_ref().map(convert::filter).transpose()?,
            params: params(request.params),
            limit: number(request.limit, LIMIT),
            offset: number(request.offset, 0),
            with_payload: Some(convert::with_payload(request.with_payload.as_ref(), false)?),
            with_vector: Some(with_vector),
            score_threshold: request.score_threshold,
        };
        let result = self.found(&request.collection_name, search).await?;
        Ok(Response::new(QueryResponse { result, time: 0.0, usage: None }))
    }

    async fn create_field_index(
        &self,
        request: Request<CreateFieldIndexCollection>,
    ) -> Answer<PointsOperationResponse> {
        self.0.faults.pass().await?;
        let request = request.into_inner();
        let collection = self.0.get(&request.collection_name)?;
        waiting(move || collection.create_index(request)).await?;
        let result = UpdateResult { operation_id: Some(0), status: UpdateStatus::Completed.into() };
        Ok(Response::new(PointsOperationResponse { result: Some(result), time: 0.0, usage: None }))
    }

    async fn update_vectors(&self, _: Request<UpdatePointVectors>) -> Answer<PointsOperationResponse> {
        missing("update_vectors")
    }

    async fn delete_vectors(&self, _: Request<DeletePointVectors>) -> Answer<PointsOperationResponse> {
        missing("delete_vectors")
    }

    async fn set_payload(&self, _: Request<SetPayloadPoints>) -> Answer<PointsOperationResponse> {
        missing("set_payload")
    }

    async fn overwrite_payload(&self, _: Request<SetPayloadPoints>) -> Answer<PointsOperationResponse> {
        missing("overwrite_payload")
    }

    async fn delete_payload(&self, _: Request<DeletePayloadPoints>) -> Answer<PointsOperationResponse> {
        missing("delete_payload")
    }

    async fn clear_payload(&self, _: Request<ClearPayloadPoints>) -> Answer<PointsOperationResponse> {
        missing("clear_payload")
    }

    async fn delete_field_index(&self, _: Request<DeleteFieldIndexCollection>) -> Answer<PointsOperationResponse> {
        missing("delete_field_index")
    }

    async fn create_vector_name(&self, _: Request<CreateVectorNameRequest>) -> Answer<PointsOperationResponse> {
        missing("create_vector_name")
    }

    async fn delete_vector_name(&self, _: Request<DeleteVectorNameRequest>) -> Answer<PointsOperationResponse> {
        missing("delete_vector_name")
    }

    async fn search_batch(&self, _: Request<SearchBatchPoints>) -> Answer<SearchBatchResponse> {
        missing("search_batch")
    }

    async fn search_groups(&self, _: Request<SearchPointGroups>) -> Answer<SearchGroupsResponse> {
        missing("search_groups")
    }

    async fn recommend(&self, _: Request<RecommendPoints>) -> Answer<RecommendResponse> {
        missing("recommend")
    }

    async fn recommend_batch(&self, _: Request<RecommendBatchPoints>) -> Answer<RecommendBatchResponse> {
        missing("recommend_batch")
    }

    async fn recommend_groups(&self, _: Request<RecommendPointGroups>) -> Answer<RecommendGroupsResponse> {
        missing("recommend_groups")
    }

    async fn discover(&self, _: Request<DiscoverPoints>) -> Answer<DiscoverResponse> {
        missing("discover")
    }

    async fn discover_batch(&self, _: Request<DiscoverBatchPoints>) -> Answer<DiscoverBatchResponse> {
        missing("discover_batch")
    }

    async fn update_batch(&self, _: Request<UpdateBatchPoints>) -> Answer<UpdateBatchResponse> {
        missing("update_batch")
    }

    async fn query_batch(&self, _: Request<QueryBatchPoints>) -> Answer<QueryBatchResponse> {
        missing("query_batch")
    }

    async fn query_groups(&self, _: Request<QueryPointGroups>) -> Answer<QueryGroupsResponse> {
        missing("query_groups")
    }

    async fn facet(&self, _: Request<FacetCounts>) -> Answer<FacetResponse> {
        missing("facet")
    }

    async fn search_matrix_pairs(&self, _: Request<SearchMatrixPoints>) -> Answer<SearchMatrixPairsResponse> {
        missing("search_matrix_pairs")
    }

    async fn search_matrix_offsets(&self, _: Request<SearchMatrixPoints>) -> Answer<SearchMatrixOffsetsResponse> {
        missing("search_matrix_offsets")
    }
}

fn nearest(vector: Vec<f32>, using: Option<String>) -> QueryEnum {
    QueryEnum::Nearest(NamedQuery::new(VectorInternal::Dense(vector), using.unwrap_or_default()))
}
