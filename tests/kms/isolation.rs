//! One tenant's services and keys on another tenant's things: refused by identity, and useless without that check.

use strongroom::audit::{Reason, What};
use strongroom::crypto::{Aead, AeadKey, Signature, default_provider};
use strongroom::keys::certificate::SignerUse;
use strongroom::keys::kms::{
    Decapsulation, DekRequest, KeyAdmin as _, Kms, MESSAGE_PREFIX, Operation, Recipient, Role, Signed,
};
use strongroom::keys::{Label, Profile};
use strongroom::secret::Secret;
use strongroom::{Epoch, ErrorKind, Result, SessionId, TenantId};

use super::signers::request;
use super::world::{HOUR_MS, World, agent, id, other_of, tenant_of};

fn dek() -> DekRequest {
    DekRequest { label: Label::MemoryStore, epoch: Epoch::FIRST, scope: Vec::new() }
}

fn aead(key: &Secret<32>) -> Box<dyn AeadKey> {
    default_provider().aead(Aead::Aes256GcmSiv, key).unwrap()
}

fn seal(key: &Secret<32>) -> Vec<u8> {
    let mut sealed = Vec::new();
    aead(key).seal(&[0; 12], b"", b"text", &mut sealed).unwrap();
    sealed
}

fn only<T>(results: Result<Vec<Result<T>>>) -> Result<T> {
    results?.pop().unwrap()
}

/// Asks for one operation, and tells only whether it was refused for who asked.
fn denied(kms: &(impl Kms + ?Sized), operation: Operation, tenant: &TenantId) -> bool {
    let session = SessionId::from([0; 16]);
    let answer = match operation {
        Operation::Describe => kms.describe(tenant).map(|_| ()),
        Operation::Session => kms.revoke_session(tenant, session),
        Operation::Encapsulate => kms.encapsulate(tenant, &[Recipient::Session(session)]).map(|_| ()),
        Operation::Decapsulate => kms.decapsulate(tenant, &[Decapsulation { session, ciphertext: None }]).map(|_| ()),
        Operation::Sign => kms.sign(tenant, &[b"m"]).map(|_| ()),
        Operation::Verify => kms.verify(tenant, &[Signed { message: b"m", signature: b"s" }]).map(|_| ()),
        Operation::DeriveDek => kms.derive_deks(tenant, &[dek()]).map(|_| ()),
        Operation::CertifyTokens => {
            kms.certify_signer(tenant, &request(tenant, SignerUse::Tokens, Signature::MlDsa65)).map(|_| ())
        }
        Operation::Administer | Operation::Rotate => return false,
    };
    answer.is_err_and(|e| e.kind() == ErrorKind::Denied)
}

#[test]
fn every_role_does_what_the_table_says() {
    let world = World::new();
    let tenant = tenant_of(Profile::Pure);
    for role in Role::ALL {
        let kms = world.of(role, &tenant);
        for operation in Operation::ALL {
            let before = world.kms.counts().refused_role;
            let refused = match operation {
                Operation::Administer => kms.is_shredded(&tenant).is_err_and(|e| e.kind() == ErrorKind::Denied),
                Operation::Rotate => {
                    kms.destroy_epoch(&tenant, Epoch::FIRST).is_err_and(|e| e.kind() == ErrorKind::Denied)
                }
                _ => denied(&kms, operation, &tenant),
            };
            assert_eq!(refused, !role.may(operation), "{role} {operation}");
            assert_eq!(world.kms.counts().refused_role - before, u64::from(refused), "{role} {operation}");
        }
    }
}

/// Isolation, first wall: who asks.
#[test]
fn another_tenants_ciphertext_is_refused_by_identity() {
    let world = World::new();
    let (ours, theirs) = (tenant_of(Profile::Hybrid), other_of(Profile::Hybrid));
    let session = world.session(&theirs);
    let to = [Recipient::Session(session.id)];
    let sent = only(world.of(Role::Agent, &theirs).encapsulate(&theirs, &to)).unwrap();

    let us = world.of(Role::Agent, &ours);
    let items = [Decapsulation { session: session.id, ciphertext: Some(sent.ciphertext.clone()) }];
    let refused = us.decapsulate(&theirs, &items).err().unwrap();
    assert_eq!(refused.kind(), ErrorKind::Denied);
    // The same words for a tenant that does not exist.
    let nobody = us.decapsulate(&id("nobody"), &items).err().unwrap();
    assert_eq!((refused.to_string(), refused.remedy()), (nobody.to_string(), nobody.remedy()));
    // Under our own name the session is not there.
    assert_eq!(only(us.decapsulate(&ours, &items)).err().unwrap().kind(), ErrorKind::NotFound);

    assert_eq!(world.kms.counts().refused_cross_tenant, 2);
    let events = world.audit.events();
    let refusals: Vec<_> = events.iter().filter(|e| e.what == What::Refused { reason: Reason::Scope }).collect();
    assert_eq!(refusals.len(), 2);
    assert_eq!((refusals[0].service.as_str(), refusals[0].role), ("agent-1", Some(Role::Agent)));
    assert_eq!(refusals[0].operation, Some(Operation::Decapsulate));
    assert_ne!(refusals[0].tenant, refusals[1].tenant);
    // And the receiver is not disturbed.
    let opened = only(world.of(Role::Agent, &theirs).decapsulate(&theirs, &items)).unwrap();
    assert!(opened == sent.key);
}

#[test]
fn every_operation_on_another_tenant_is_refused() {
    let world = World::new();
    let (ours, theirs) = (tenant_of(Profile::Pure), other_of(Profile::Pure));
    for role in Role::ALL {
        let kms = world.of(role, &ours);
        for operation in Operation::ALL.into_iter().filter(|o| !matches!(o, Operation::Administer | Operation::Rotate))
        {
            assert!(denied(&kms, operation, &theirs), "{role} {operation}");
        }
        let admin = [
            kms.create_epoch(&theirs, None).map(|_| ()),
            kms.activate_epoch(&theirs, Epoch::FIRST).map(|_| ()),
            kms.deactivate_epoch(&theirs, Epoch::FIRST).map(|_| ()),
            kms.mark_epoch_compromised(&theirs, Epoch::FIRST).map(|_| ()),
            kms.destroy_epoch(&theirs, Epoch::FIRST).map(|_| ()),
            kms.shred(&theirs).map(|_| ()),
            kms.is_shredded(&theirs).map(|_| ()),
            kms.public(&theirs).map(|_| ()),
            kms.onboard(&theirs, Profile::Pure, None).map(|_| ()),
            kms.open_session(&theirs, &agent(), HOUR_MS).map(|_| ()),
        ];
        assert!(admin.into_iter().all(|answer| answer.is_err_and(|e| e.kind() == ErrorKind::Denied)), "{role}");
        assert_eq!(kms.tenants().unwrap(), std::slice::from_ref(&ours));
    }
    assert_eq!(world.kms.counts().refused_cross_tenant, 6 * 18);
    assert_eq!(world.audit.events().len(), 6 * 18);
}

/// Isolation, second wall: with the check of who asks out of the way, the keys do not fit.
#[test]
fn another_tenants_ciphertext_gives_a_key_that_opens_nothing() {
    let world = World::new();
    for profile in Profile::ALL {
        let (ours, theirs) = (tenant_of(profile), other_of(profile));
        let (our_session, their_session) = (world.session(&ours), world.session(&theirs));
        let anyone = world.anywhere(Role::Agent);
        let sent = only(anyone.encapsulate(&theirs, &[Recipient::Session(their_session.id)])).unwrap();
        let envelope = seal(&sent.key);
        let wrong = Decapsulation { session: our_session.id, ciphertext: Some(sent.ciphertext.clone()) };
        let key = only(anyone.decapsulate(&ours, &[wrong])).unwrap();
        assert!(aead(&key).open(&[0; 12], b"", &envelope).is_err(), "{profile}");
        let right = Decapsulation { session: their_session.id, ciphertext: None };
        let key = only(anyone.decapsulate(&theirs, &[right])).unwrap();
        assert_eq!(aead(&key).open(&[0; 12], b"", &envelope).unwrap().expose_secret(), b"text");
    }
}

#[test]
fn another_tenants_data_key_opens_nothing() {
    let world = World::new();
    let store = world.anywhere(Role::Store);
    let of = |profile| (tenant_of(profile), other_of(profile));
    for (ours, theirs) in Profile::ALL.map(of) {
        let record = seal(&only(store.derive_deks(&theirs, &[dek()])).unwrap());
        let open = |tenant| aead(&only(store.derive_deks(tenant, &[dek()])).unwrap()).open(&[0; 12], b"", &record);
        assert!(open(&ours).is_err());
        assert_eq!(open(&theirs).unwrap().expose_secret(), b"text");
    }
}

#[test]
fn another_tenants_signature_does_not_verify() {
    let world = World::new();
    let store = world.anywhere(Role::Store);
    for profile in Profile::ALL {
        let (ours, theirs) = (tenant_of(profile), other_of(profile));
        let signature = only(store.sign(&theirs, &[b"m"])).unwrap();
        let verify = |tenant, message| only(store.verify(tenant, &[Signed { message, signature: &signature }]));
        verify(&theirs, b"m").unwrap();
        assert_eq!(verify(&ours, b"m").err().unwrap().kind(), ErrorKind::Denied);
        assert_eq!(verify(&theirs, b"n").err().unwrap().kind(), ErrorKind::Denied);
        // The message itself is not signed: it might be the content of a certificate, which begins with 0x30.
        let key = store.public(&theirs).unwrap().signing_public_key;
        let plain = |message: &[u8]| default_provider().verify(profile.signature(), &key, b"", message, &signature);
        assert_eq!(plain(b"m").err().unwrap().kind(), ErrorKind::Denied);
        plain(&[MESSAGE_PREFIX, b"m"].concat()).unwrap();
        assert_ne!(MESSAGE_PREFIX.first(), Some(&0x30));
    }
}
