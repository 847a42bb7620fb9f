//! The gRPC service: it translates, and decides nothing.

use std::pin::Pin;
use std::sync::Arc;

use tonic::codegen::tokio_stream::{self, Stream};
use tonic::service::Routes;
use tonic::{Request, Response, Status};

use super::redeem::Output;
use super::wire::{self, sidecar_server};
use super::{Sidecar, convert};
use crate::error::{Error, Result};
use crate::limits;
use crate::scrub::blocking;
use crate::server::Known;
use crate::server::error::to_status;

/// The service over `sidecar`, with the health service of gRPC beside it.
pub(super) async fn routes(sidecar: Arc<Sidecar>) -> Routes {
    let service = sidecar_server::SidecarServer::new(Service(sidecar))
        .max_decoding_message_size(limits::RPC_BYTES)
        .max_encoding_message_size(limits::RPC_BYTES);
    let (health, health_service) = tonic_health::server::health_reporter();
    health.set_serving::<sidecar_server::SidecarServer<Service>>().await;
    Routes::new(service).add_service(health_service)
}

struct Service(Arc<Sidecar>);

impl Service {
    /// Has `work` done as the caller of `request`, on a thread that may wait.
    async fn answer<Q, A>(
        &self,
        request: Request<Q>,
        work: impl FnOnce(&Sidecar, &Known, Q) -> Result<A> + Send + 'static,
    ) -> Result<A, Status>
    where
        Q: Send + 'static,
        A: Send + 'static,
    {
        let (_, extensions, message) = request.into_parts();
        let known = extensions.get::<Known>().cloned();
        let known = known.ok_or_else(|| to_status(&Error::internal("a request came in without its caller")))?;
        let sidecar = self.0.clone();
        blocking(move || work(&sidecar, &known, message)).await.map_err(|e| to_status(&e))
    }

    async fn opened(&self, request: Request<wire::RedeemRequest>) -> Result<Vec<Output>, Status> {
        self.answer(request, |sidecar, known, asked| {
            sidecar.redeem(known.caller(), known.is_local(), &convert::request(asked)?)
        })
        .await
    }
}

#[tonic::async_trait]
impl sidecar_server::Sidecar for Service {
    type RedeemBatchStream = Pin<Box<dyn Stream<Item = Result<wire::OpenedRecord, Status>> + Send>>;

    async fn contact(&self, request: Request<wire::ContactRequest>) -> Result<Response<wire::ContactResponse>, Status> {
        let welcome = self.answer(request, |sidecar, known, asked| {
            Ok(convert::welcome_to_wire(sidecar.contact(known.caller(), &convert::hello(asked)?)?))
        });
        welcome.await.map(Response::new)
    }

    async fn redeem(&self, request: Request<wire::RedeemRequest>) -> Result<Response<wire::RedeemResponse>, Status> {
        let outputs = self.opened(request).await?;
        Ok(Response::new(wire::RedeemResponse { records: outputs.iter().map(convert::output_to_wire).collect() }))
    }

    async fn redeem_batch(
        &self,
        request: Request<wire::RedeemRequest>,
    ) -> Result<Response<Self::RedeemBatchStream>, Status> {
        // The caller's place stays taken until the last record is on its way: what is opened waits in memory until then.
        let known = request.extensions().get::<Known>().cloned();
        let outputs = self.opened(request).await?;
        // Each is copied into a message only when the one before it is on its way.
        let records = outputs.into_iter().map(move |output| {
            let _place = &known;
            Ok(convert::output_to_wire(&output))
        });
        Ok(Response::new(Box::pin(tokio_stream::iter(records))))
    }

    async fn revoke(&self, request: Request<wire::Revocation>) -> Result<Response<wire::RevokeResponse>, Status> {
        let revoked =
            self.answer(request, |sidecar, known, asked| sidecar.revoke(known.caller(), &convert::revocation(asked)?));
        revoked.await.map(|()| Response::new(wire::RevokeResponse {}))
    }

    async fn lift(&self, request: Request<wire::Revocation>) -> Result<Response<wire::LiftResponse>, Status> {
        let lifted =
            self.answer(request, |sidecar, known, asked| sidecar.lift(known.caller(), &convert::revocation(asked)?));
        lifted.await.map(|lifted| Response::new(wire::LiftResponse { lifted }))
    }

    async fn revocations(
        &self,
        request: Request<wire::RevocationsRequest>,
    ) -> Result<Response<wire::RevocationsResponse>, Status> {
        let all = self.answer(request, |sidecar, known, _| sidecar.revocations(known.caller())).await?;
        let revocations = all.iter().map(|(revocation, at_ms)| convert::revocation_to_wire(revocation, *at_ms));
        Ok(Response::new(wire::RevocationsResponse { revocations: revocations.collect() }))
    }

    async fn pause(&self, request: Request<wire::PauseRequest>) -> Result<Response<wire::PauseResponse>, Status> {
        let paused =
            self.answer(request, |sidecar, known, asked| sidecar.pause(known.caller(), &asked.tenant.parse()?));
        paused.await.map(|changed| Response::new(wire::PauseResponse { changed }))
    }

    async fn release(&self, request: Request<wire::PauseRequest>) -> Result<Response<wire::PauseResponse>, Status> {
        let released =
            self.answer(request, |sidecar, known, asked| sidecar.release(known.caller(), &asked.tenant.parse()?));
        released.await.map(|changed| Response::new(wire::PauseResponse { changed }))
    }

    async fn paused(&self, request: Request<wire::PausedRequest>) -> Result<Response<wire::PausedResponse>, Status> {
        let all = self.answer(request, |sidecar, known, _| sidecar.paused(known.caller())).await?;
        let paused = all.into_iter().map(|(pseudonym, trip)| wire::PausedTenant {
            pseudonym,
            since_ms: trip.since_ms,
            cause: trip.cause,
        });
        Ok(Response::new(wire::PausedResponse { paused: paused.collect() }))
    }
}
