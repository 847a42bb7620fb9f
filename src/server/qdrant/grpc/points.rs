//! The calls about points.

use qdrant_client::qdrant as wire;
use tonic::{Request, Response, Status};

use super::{Call, Grpc, fields, filter, finish, input, output, questions, refuse};
use crate::server::qdrant::failure::Answer;
use crate::server::qdrant::model::collections::{fixed_vectors, index_declaration};
use crate::server::qdrant::model::no_shard_key;
use crate::server::qdrant::model::points::{Operation, UpdateStatus};
use crate::server::qdrant::model::query::Question;
use crate::server::qdrant::model::select::Wanted;
use crate::server::qdrant::service::Session;
use crate::server::qdrant::unoffered;

type Changed = Result<Response<wire::PointsOperationResponse>, Status>;

/// Does one thing to points.
async fn change(
    session: &Session,
    name: &str,
    operation: impl FnOnce() -> Answer<Operation>,
    status: UpdateStatus,
) -> Answer<wire::PointsOperationResponse> {
    session.may_write(name)?;
    let result = session.change(name, operation()?, status).await?;
    Ok(wire::PointsOperationResponse { result: Some(output::update_result(result)), time: 0.0, usage: None })
}

fn timed(answer: wire::PointsOperationResponse, time: f64) -> wire::PointsOperationResponse {
    wire::PointsOperationResponse { time, ..answer }
}

/// Answers several questions of one collection.
async fn all(session: &Session, name: &str, asked: Vec<Question>) -> Answer<Vec<wire::BatchResult>> {
    let found = session.query_all(name, asked).await?.into_iter();
    Ok(found.map(|found| wire::BatchResult { result: output::all_scored(found.points) }).collect())
}

#[tonic::async_trait]
impl wire::points_server::Points for Grpc {
    async fn upsert(&self, request: Request<wire::UpsertPoints>) -> Changed {
        let Call { session, asked, began } = Call::new(request)?;
        let (name, status) = (asked.collection_name.clone(), input::status(asked.wait));
        let operation = || {
            no_shard_key(&asked.shard_key_selector)?;
            Operation::upsert(
                input::points(asked.points)?,
                filter::maybe(asked.update_filter)?,
                input::mode(asked.update_mode)?,
            )
        };
        finish(change(&session, &name, operation, status).await, began, timed)
    }

    async fn delete(&self, request: Request<wire::DeletePoints>) -> Changed {
        let Call { session, asked, began } = Call::new(request)?;
        let (name, status) = (asked.collection_name.clone(), input::status(asked.wait));
        let operation = || {
            no_shard_key(&asked.shard_key_selector)?;
            Ok(Operation::Delete(input::selection(asked.points)?))
        };
        finish(change(&session, &name, operation, status).await, began, timed)
    }

    async fn get(&self, request: Request<wire::GetPoints>) -> Result<Response<wire::GetResponse>, Status> {
        let Call { session, asked, began } = Call::new(request)?;
        let call = async {
            no_shard_key(&asked.shard_key_selector)?;
            let (payload, vector) = (input::with_payload(asked.with_payload), input::with_vector(asked.with_vectors));
            let wanted = Wanted::new(payload, vector, true);
            let found = session.retrieve(&asked.collection_name, input::ids(asked.ids)?, &wanted).await?;
            let result = found.into_iter().map(output::record).collect();
            Ok(wire::GetResponse { result, time: 0.0, usage: None })
        };
        finish(call.await, began, |answer, time| wire::GetResponse { time, ..answer })
    }

    async fn update_vectors(&self, request: Request<wire::UpdatePointVectors>) -> Changed {
        let Call { session, asked, began } = Call::new(request)?;
        let (name, status) = (asked.collection_name.clone(), input::status(asked.wait));
        let operation = || {
            no_shard_key(&asked.shard_key_selector)?;
            Operation::update_vectors(input::point_vectors(asked.points)?, filter::maybe(asked.update_filter)?)
        };
        finish(change(&session, &name, operation, status).await, began, timed)
    }

    async fn delete_vectors(&self, request: Request<wire::DeletePointVectors>) -> Changed {
        let Call { session, asked, began } = Call::new(request)?;
        let (name, status) = (asked.collection_name.clone(), input::status(asked.wait));
        let operation = || {
            no_shard_key(&asked.shard_key_selector)?;
            Operation::delete_vectors(input::names(asked.vectors), input::selection(asked.points_selector)?)
        };
        finish(change(&session, &name, operation, status).await, began, timed)
    }

    async fn set_payload(&self, request: Request<wire::SetPayloadPoints>) -> Changed {
        let Call { session, asked, began } = Call::new(request)?;
        let (name, status) = (asked.collection_name.clone(), input::status(asked.wait));
        let operation = || {
            no_shard_key(&asked.shard_key_selector)?;
            let points = input::selection(asked.points_selector)?;
            Ok(Operation::SetPayload { payload: super::value::object(asked.payload)?, points, key: asked.key })
        };
        finish(change(&session, &name, operation, status).await, began, timed)
    }

    async fn overwrite_payload(&self, request: Request<wire::SetPayloadPoints>) -> Changed {
        let Call { session, asked, began } = Call::new(request)?;
        let (name, status) = (asked.collection_name.clone(), input::status(asked.wait));
        let operation = || {
            no_shard_key(&asked.shard_key_selector)?;
            let points = input::selection(asked.points_selector)?;
            Operation::overwrite(super::value::object(asked.payload)?, points, asked.key)
        };
        finish(change(&session, &name, operation, status).await, began, timed)
    }

    async fn delete_payload(&self, request: Request<wire::DeletePayloadPoints>) -> Changed {
        let Call { session, asked, began } = Call::new(request)?;
        let (name, status) = (asked.collection_name.clone(), input::status(asked.wait));
        let operation = || {
            no_shard_key(&asked.shard_key_selector)?;
            Ok(Operation::DeletePayload { keys: asked.keys, points: input::selection(asked.points_selector)? })
        };
        finish(change(&session, &name, operation, status).await, began, timed)
    }

    async fn clear_payload(&self, request: Request<wire::ClearPayloadPoints>) -> Changed {
        let Call { session, asked, began } = Call::new(request)?;
        let (name, status) = (asked.collection_name.clone(), input::status(asked.wait));
        let operation = || {
            no_shard_key(&asked.shard_key_selector)?;
            Ok(Operation::ClearPayload(input::selection(asked.points)?))
        };
        finish(change(&session, &name, operation, status).await, began, timed)
    }

    async fn create_field_index(&self, request: Request<wire::CreateFieldIndexCollection>) -> Changed {
        let Call { session, asked, began } = Call::new(request)?;
        let call = async {
            let declared = index_declaration(fields::declared(asked.field_type, asked.field_index_params)?)?;
            let status = input::status(asked.wait);
            let result = session.declare(&asked.collection_name, &asked.field_name, declared, status).await?;
            Ok(wire::PointsOperationResponse { result: Some(output::update_result(result)), time: 0.0, usage: None })
        };
        finish(call.await, began, timed)
    }

    async fn delete_field_index(&self, request: Request<wire::DeleteFieldIndexCollection>) -> Changed {
        let Call { session, asked, began } = Call::new(request)?;
        let call = async {
            let status = input::status(asked.wait);
            let result = session.undeclare(&asked.collection_name, &asked.field_name, status).await?;
            Ok(wire::PointsOperationResponse { result: Some(output::update_result(result)), time: 0.0, usage: None })
        };
        finish(call.await, began, timed)
    }

    async fn create_vector_name(&self, _: Request<wire::CreateVectorNameRequest>) -> Changed {
        Err(fixed_vectors().into())
    }

    async fn delete_vector_name(&self, _: Request<wire::DeleteVectorNameRequest>) -> Changed {
        Err(fixed_vectors().into())
    }

    async fn search(&self, request: Request<wire::SearchPoints>) -> Result<Response<wire::SearchResponse>, Status> {
        let Call { session, mut asked, began } = Call::new(request)?;
        let name = std::mem::take(&mut asked.collection_name);
        let call = async {
            let found = session.query(&name, questions::search(asked)?).await?;
            Ok(wire::SearchResponse { result: output::all_scored(found.points), time: 0.0, usage: None })
        };
        finish(call.await, began, |answer, time| wire::SearchResponse { time, ..answer })
    }

    async fn search_batch(
        &self,
        request: Request<wire::SearchBatchPoints>,
    ) -> Result<Response<wire::SearchBatchResponse>, Status> {
        let Call { session, mut asked, began } = Call::new(request)?;
        let name = std::mem::take(&mut asked.collection_name);
        let call = async {
            let asked = asked.search_points.into_iter().map(questions::search).collect::<Answer<_>>()?;
            Ok(wire::SearchBatchResponse { result: all(&session, &name, asked).await?, time: 0.0, usage: None })
        };
        finish(call.await, began, |answer, time| wire::SearchBatchResponse { time, ..answer })
    }

    async fn search_groups(
        &self,
        request: Request<wire::SearchPointGroups>,
    ) -> Result<Response<wire::SearchGroupsResponse>, Status> {
        let Call { session, mut asked, began } = Call::new(request)?;
        let name = std::mem::take(&mut asked.collection_name);
        let call = async {
            let groups = session.groups(&name, questions::search_groups(asked)?).await?;
            Ok(wire::SearchGroupsResponse { result: Some(output::groups(groups)), time: 0.0, usage: None })
        };
        finish(call.await, began, |answer, time| wire::SearchGroupsResponse { time, ..answer })
    }

    async fn scroll(&self, request: Request<wire::ScrollPoints>) -> Result<Response<wire::ScrollResponse>, Status> {
        let Call { session, mut asked, began } = Call::new(request)?;
        let name = std::mem::take(&mut asked.collection_name);
        let call = async {
            let page = session.scroll(&name, questions::scroll(asked)?).await?;
            let result = page.points.into_iter().map(output::record).collect();
            let next_page_offset = page.next_page_offset.map(output::id);
            Ok(wire::ScrollResponse { next_page_offset, result, time: 0.0, usage: None })
        };
        finish(call.await, began, |answer, time| wire::ScrollResponse { time, ..answer })
    }

    async fn recommend(
        &self,
        request: Request<wire::RecommendPoints>,
    ) -> Result<Response<wire::RecommendResponse>, Status> {
        let Call { session, mut asked, began } = Call::new(request)?;
        let name = std::mem::take(&mut asked.collection_name);
        let call = async {
            let found = session.query(&name, questions::recommend(asked)?).await?;
            Ok(wire::RecommendResponse { result: output::all_scored(found.points), time: 0.0, usage: None })
        };
        finish(call.await, began, |answer, time| wire::RecommendResponse { time, ..answer })
    }

    async fn recommend_batch(
        &self,
        request: Request<wire::RecommendBatchPoints>,
    ) -> Result<Response<wire::RecommendBatchResponse>, Status> {
        let Call { session, mut asked, began } = Call::new(request)?;
        let name = std::mem::take(&mut asked.collection_name);
        let call = async {
            let asked = asked.recommend_points.into_iter().map(questions::recommend).collect::<Answer<_>>()?;
            Ok(wire::RecommendBatchResponse { result: all(&session, &name, asked).await?, time: 0.0, usage: None })
        };
        finish(call.await, began, |answer, time| wire::RecommendBatchResponse { time, ..answer })
    }

    async fn recommend_groups(
        &self,
        request: Request<wire::RecommendPointGroups>,
    ) -> Result<Response<wire::RecommendGroupsResponse>, Status> {
        let Call { session, mut asked, began } = Call::new(request)?;
        let name = std::mem::take(&mut asked.collection_name);
        let call = async {
            let groups = session.groups(&name, questions::recommend_groups(asked)?).await?;
            Ok(wire::RecommendGroupsResponse { result: Some(output::groups(groups)), time: 0.0, usage: None })
        };
        finish(call.await, began, |answer, time| wire::RecommendGroupsResponse { time, ..answer })
    }

    async fn discover(&self, _: Request<wire::DiscoverPoints>) -> Result<Response<wire::DiscoverResponse>, Status> {
        refuse(unoffered::DISCOVER)
    }

    async fn discover_batch(
        &self,
        _: Request<wire::DiscoverBatchPoints>,
    ) -> Result<Response<wire::DiscoverBatchResponse>, Status> {
        refuse(unoffered::DISCOVER)
    }

    async fn count(&self, request: Request<wire::CountPoints>) -> Result<Response<wire::CountResponse>, Status> {
        let Call { session, mut asked, began } = Call::new(request)?;
        let name = std::mem::take(&mut asked.collection_name);
        let call = async {
            no_shard_key(&asked.shard_key_selector)?;
            let count = session.count(&name, filter::maybe(asked.filter)?).await?;
            Ok(wire::CountResponse { result: Some(wire::CountResult { count }), time: 0.0, usage: None })
        };
        finish(call.await, began, |answer, time| wire::CountResponse { time, ..answer })
    }

    async fn update_batch(
        &self,
        request: Request<wire::UpdateBatchPoints>,
    ) -> Result<Response<wire::UpdateBatchResponse>, Status> {
        let Call { session, mut asked, began } = Call::new(request)?;
        let name = std::mem::take(&mut asked.collection_name);
        let call = async {
            session.may_write(&name)?;
            let operations = asked.operations.into_iter().map(input::operation).collect::<Answer<_>>()?;
            let results = session.change_all(&name, operations, input::status(asked.wait)).await?;
            let result = results.into_iter().map(output::update_result).collect();
            Ok(wire::UpdateBatchResponse { result, time: 0.0, usage: None })
        };
        finish(call.await, began, |answer, time| wire::UpdateBatchResponse { time, ..answer })
    }

    async fn query(&self, request: Request<wire::QueryPoints>) -> Result<Response<wire::QueryResponse>, Status> {
        let Call { session, mut asked, began } = Call::new(request)?;
        let name = std::mem::take(&mut asked.collection_name);
        let call = async {
            let found = session.query(&name, questions::query(asked)?).await?;
            Ok(wire::QueryResponse { result: output::all_scored(found.points), time: 0.0, usage: None })
        };
        finish(call.await, began, |answer, time| wire::QueryResponse { time, ..answer })
    }

    async fn query_batch(
        &self,
        request: Request<wire::QueryBatchPoints>,
    ) -> Result<Response<wire::QueryBatchResponse>, Status> {
        let Call { session, mut asked, began } = Call::new(request)?;
        let name = std::mem::take(&mut asked.collection_name);
        let call = async {
            let asked = asked.query_points.into_iter().map(questions::query).collect::<Answer<_>>()?;
            Ok(wire::QueryBatchResponse { result: all(&session, &name, asked).await?, time: 0.0, usage: None })
        };
        finish(call.await, began, |answer, time| wire::QueryBatchResponse { time, ..answer })
    }

    async fn query_groups(
        &self,
        request: Request<wire::QueryPointGroups>,
    ) -> Result<Response<wire::QueryGroupsResponse>, Status> {
        let Call { session, mut asked, began } = Call::new(request)?;
        let name = std::mem::take(&mut asked.collection_name);
        let call = async {
            let groups = session.groups(&name, questions::query_groups(asked)?).await?;
            Ok(wire::QueryGroupsResponse { result: Some(output::groups(groups)), time: 0.0, usage: None })
        };
        finish(call.await, began, |answer, time| wire::QueryGroupsResponse { time, ..answer })
    }

    async fn facet(&self, request: Request<wire::FacetCounts>) -> Result<Response<wire::FacetResponse>, Status> {
        let Call { session, mut asked, began } = Call::new(request)?;
        let name = std::mem::take(&mut asked.collection_name);
        let call = async {
            no_shard_key(&asked.shard_key_selector)?;
            let limit = asked.limit.map(input::size).transpose()?;
            let facets = session.facet(&name, &asked.key, filter::maybe(asked.filter)?, limit).await?;
            Ok(wire::FacetResponse { hits: output::facets(facets), time: 0.0, usage: None })
        };
        finish(call.await, began, |answer, time| wire::FacetResponse { time, ..answer })
    }

    async fn search_matrix_pairs(
        &self,
        _: Request<wire::SearchMatrixPoints>,
    ) -> Result<Response<wire::SearchMatrixPairsResponse>, Status> {
        refuse(unoffered::MATRIX)
    }

    async fn search_matrix_offsets(
        &self,
        _: Request<wire::SearchMatrixPoints>,
    ) -> Result<Response<wire::SearchMatrixOffsetsResponse>, Status> {
        refuse(unoffered::MATRIX)
    }
}
