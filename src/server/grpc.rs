//! The gRPC services: they translate, and decide nothing.
//!
//! Keys in answers are erased when the answer is encoded, and encoded bytes when their buffer is freed (by the
//! program's allocator). What neither reaches: the copies in the kernel's socket buffers, and on a Unix socket the
//! plaintext there.

use tonic::service::Routes;
use tonic::{Request, Response, Status};

use super::error::to_status;
use super::wire::{self, key_admin_server, kms_server};
use super::{Admitted, blocking, convert, convert_roots, convert_signers};
use crate::error::{Error, Result};
use crate::keys::kms::{Keys, Signed};
use crate::limits;

/// Both services, for requests that were let through.
pub(super) fn routes() -> Routes {
    let kms = kms_server::KmsServer::new(Service)
        .max_decoding_message_size(limits::RPC_BYTES)
        .max_encoding_message_size(limits::RPC_BYTES);
    let admin = key_admin_server::KeyAdminServer::new(Service)
        .max_decoding_message_size(limits::RPC_BYTES)
        .max_encoding_message_size(limits::RPC_BYTES);
    Routes::new(kms).add_service(admin)
}

struct Service;

/// Has `work` done as the caller of `request`.
async fn answer<Q, A>(
    request: Request<Q>,
    work: impl FnOnce(&dyn Keys, Q) -> Result<A> + Send + 'static,
) -> Result<Response<A>, Status>
where
    Q: Send + 'static,
    A: Send + 'static,
{
    let (_, extensions, message) = request.into_parts();
    let admitted = extensions.get::<Admitted>().cloned();
    let admitted = admitted.ok_or_else(|| to_status(&Error::internal("a request came in without its caller")))?;
    let done = blocking(admitted, move |admitted| work(&*admitted.keys, message)).await;
    done.map(Response::new).map_err(|e| to_status(&e))
}

/// Each item translated, or the first one's error.
fn each<A, B>(items: Vec<A>, translate: impl Fn(A) -> Result<B>) -> Result<Vec<B>> {
    if items.len() > limits::KMS_ITEMS {
        return Err(Error::invalid(format!("a request has more than {} items", limits::KMS_ITEMS))
            .with_remedy("split the request"));
    }
    items.into_iter().map(translate).collect()
}

#[tonic::async_trait]
impl kms_server::Kms for Service {
    async fn describe(&self, request: Request<wire::DescribeRequest>) -> Result<Response<wire::Tenant>, Status> {
        answer(request, |keys, asked| {
            Ok(convert::record_to_wire(&keys.describe(&convert::tenant_or_system(&asked.tenant)?)?))
        })
        .await
    }

    async fn open_session(
        &self,
        request: Request<wire::OpenSessionRequest>,
    ) -> Result<Response<wire::Session>, Status> {
        answer(request, |keys, asked| {
            let (tenant, agent) = (convert::tenant(&asked.tenant)?, convert::agent(&asked.agent)?);
            Ok(convert::session_to_wire(keys.open_session(&tenant, &agent, asked.lifetime_ms)?))
        })
        .await
    }

    async fn revoke_session(
        &self,
        request: Request<wire::RevokeSessionRequest>,
    ) -> Result<Response<wire::RevokeSessionResponse>, Status> {
        answer(request, |keys, asked| {
            keys.revoke_session(&convert::tenant(&asked.tenant)?, convert::session_id(&asked.session)?)?;
            Ok(wire::RevokeSessionResponse {})
        })
        .await
    }

    async fn encapsulate(
        &self,
        request: Request<wire::EncapsulateRequest>,
    ) -> Result<Response<wire::EncapsulateResponse>, Status> {
        answer(request, |keys, asked| {
            let to = each(asked.to, convert::recipient)?;
            let results = keys.encapsulate(&convert::tenant(&asked.tenant)?, &to)?;
            Ok(wire::EncapsulateResponse { results: results.into_iter().map(convert::encapsulated_to_wire).collect() })
        })
        .await
    }

    async fn decapsulate(
        &self,
        request: Request<wire::DecapsulateRequest>,
    ) -> Result<Response<wire::KeysResponse>, Status> {
        answer(request, |keys, asked| {
            let items = each(asked.items, convert::decapsulation)?;
            let results = keys.decapsulate(&convert::tenant(&asked.tenant)?, &items)?;
            Ok(wire::KeysResponse { results: results.into_iter().map(convert::key_to_wire).collect() })
        })
        .await
    }

    async fn sign(&self, request: Request<wire::SignRequest>) -> Result<Response<wire::SignResponse>, Status> {
        answer(request, |keys, asked| {
            let messages = each(asked.messages, Ok)?;
            let messages: Vec<&[u8]> = messages.iter().map(Vec::as_slice).collect();
            let results = keys.sign(&convert::tenant(&asked.tenant)?, &messages)?;
            Ok(wire::SignResponse { results: results.into_iter().map(convert::signature_to_wire).collect() })
        })
        .await
    }

    async fn verify(&self, request: Request<wire::VerifyRequest>) -> Result<Response<wire::VerifyResponse>, Status> {
        answer(request, |keys, asked| {
            let items = each(asked.items, Ok)?;
            let signed: Vec<_> =
                items.iter().map(|item| Signed { message: &item.message, signature: &item.signature }).collect();
            let results = keys.verify(&convert::tenant(&asked.tenant)?, &signed)?;
            let result =
                |result: Result<()>| wire::VerifyResult { error: result.err().map(|e| super::error::to_wire(&e)) };
            Ok(wire::VerifyResponse { results: results.into_iter().map(result).collect() })
        })
        .await
    }

    async fn certify_signer(
        &self,
        request: Request<wire::CertifySignerRequest>,
    ) -> Result<Response<wire::SignerCredential>, Status> {
        answer(request, |keys, asked| {
            let tenant = convert::tenant(&asked.tenant)?;
            let credential = keys.certify_signer(&tenant, &convert_signers::request(asked)?)?;
            Ok(convert_signers::credential_to_wire(credential))
        })
        .await
    }

    async fn believe_signer(
        &self,
        request: Request<wire::BelieveSignerRequest>,
    ) -> Result<Response<wire::BelievedSigner>, Status> {
        answer(request, |keys, asked| {
            let (tenant, purpose) = (convert::tenant(&asked.tenant)?, convert_signers::purpose(asked.r#use)?);
            Ok(convert_signers::believed_to_wire(&keys.believe_signer(&tenant, purpose, &asked.chain)?))
        })
        .await
    }

    async fn derive_dek(
        &self,
        request: Request<wire::DeriveDekRequest>,
    ) -> Result<Response<wire::KeysResponse>, Status> {
        answer(request, |keys, asked| {
            let items = each(asked.items, convert::dek)?;
            let results = keys.derive_deks(&convert::tenant_or_system(&asked.tenant)?, &items)?;
            Ok(wire::KeysResponse { results: results.into_iter().map(convert::key_to_wire).collect() })
        })
        .await
    }
}

#[tonic::async_trait]
impl key_admin_server::KeyAdmin for Service {
    async fn onboard(&self, request: Request<wire::OnboardRequest>) -> Result<Response<wire::OnboardResponse>, Status> {
        answer(request, |keys, asked| {
            let agent = asked.agent.as_deref().map(convert::agent).transpose()?;
            let (tenant, profile) = (convert::tenant(&asked.tenant)?, convert::profile(asked.profile)?);
            Ok(convert::onboarded_to_wire(keys.onboard(&tenant, profile, agent.as_ref())?))
        })
        .await
    }

    async fn create_epoch(&self, request: Request<wire::CreateEpochRequest>) -> Result<Response<wire::Epoch>, Status> {
        answer(request, |keys, asked| {
            let suite = convert::suite(asked.suite)?;
            Ok(convert::epoch_to_wire(&keys.create_epoch(&convert::tenant(&asked.tenant)?, suite)?))
        })
        .await
    }

    async fn activate_epoch(&self, request: Request<wire::EpochRequest>) -> Result<Response<wire::Epoch>, Status> {
        answer(request, |keys, asked| {
            let (tenant, epoch) = (convert::tenant(&asked.tenant)?, convert::epoch(asked.epoch)?);
            Ok(convert::epoch_to_wire(&keys.activate_epoch(&tenant, epoch)?))
        })
        .await
    }

    async fn deactivate_epoch(&self, request: Request<wire::EpochRequest>) -> Result<Response<wire::Epoch>, Status> {
        answer(request, |keys, asked| {
            let (tenant, epoch) = (convert::tenant(&asked.tenant)?, convert::epoch(asked.epoch)?);
            Ok(convert::epoch_to_wire(&keys.deactivate_epoch(&tenant, epoch)?))
        })
        .await
    }

    async fn mark_epoch_compromised(
        &self,
        request: Request<wire::EpochRequest>,
    ) -> Result<Response<wire::Epoch>, Status> {
        answer(request, |keys, asked| {
            let (tenant, epoch) = (convert::tenant(&asked.tenant)?, convert::epoch(asked.epoch)?);
            Ok(convert::epoch_to_wire(&keys.mark_epoch_compromised(&tenant, epoch)?))
        })
        .await
    }

    async fn destroy_epoch(
        &self,
        request: Request<wire::EpochRequest>,
    ) -> Result<Response<wire::DestroyEpochResponse>, Status> {
        answer(request, |keys, asked| {
            let (tenant, epoch) = (convert::tenant(&asked.tenant)?, convert::epoch(asked.epoch)?);
            Ok(convert::destroyed_to_wire(&keys.destroy_epoch(&tenant, epoch)?))
        })
        .await
    }

    async fn rotate_root_key(
        &self,
        request: Request<wire::RotateRootKeyRequest>,
    ) -> Result<Response<wire::Tenant>, Status> {
        answer(request, |keys, asked| {
            let (tenant, replaces) = (convert::tenant(&asked.tenant)?, asked.replaces.parse()?);
            Ok(convert::record_to_wire(&keys.rotate_root_key(&tenant, &replaces)?))
        })
        .await
    }

    async fn destroy_root_key(
        &self,
        request: Request<wire::DestroyRootKeyRequest>,
    ) -> Result<Response<wire::DestroyRootKeyResponse>, Status> {
        answer(request, |keys, asked| {
            let (tenant, root_key) = (convert::tenant(&asked.tenant)?, asked.root_key.parse()?);
            Ok(convert_roots::destroyed_to_wire(&keys.destroy_root_key(&tenant, &root_key)?))
        })
        .await
    }

    async fn shred(&self, request: Request<wire::ShredRequest>) -> Result<Response<wire::Tenant>, Status> {
        answer(request, |keys, asked| Ok(convert::record_to_wire(&keys.shred(&convert::tenant(&asked.tenant)?)?))).await
    }

    async fn list_tenants(
        &self,
        request: Request<wire::ListTenantsRequest>,
    ) -> Result<Response<wire::ListTenantsResponse>, Status> {
        answer(request, |keys, _| {
            let tenants = keys.tenants()?.iter().map(|tenant| tenant.as_str().to_owned()).collect();
            Ok(wire::ListTenantsResponse { tenants })
        })
        .await
    }

    async fn is_shredded(
        &self,
        request: Request<wire::IsShreddedRequest>,
    ) -> Result<Response<wire::IsShreddedResponse>, Status> {
        answer(request, |keys, asked| {
            Ok(wire::IsShreddedResponse { shredded: keys.is_shredded(&convert::tenant(&asked.tenant)?)? })
        })
        .await
    }

    async fn public(&self, request: Request<wire::PublicRequest>) -> Result<Response<wire::PublicTenant>, Status> {
        answer(request, |keys, asked| Ok(convert::public_to_wire(keys.public(&convert::tenant(&asked.tenant)?)?))).await
    }
}
