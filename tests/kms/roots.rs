//! Root keys that follow each other: what was issued under the certificate before stays good until it expires, and the
//! wrong caller, the wrong tenant and the wrong order are refused.

use strongroom::audit::{Outcome, What};
use strongroom::crypto::default_provider;
use strongroom::keys::certificate::SignerUse;
use strongroom::keys::kms::{Decapsulation, DekRequest, KeyAdmin as _, Kms as _, Recipient, Role};
use strongroom::keys::{DataKeys as _, Fingerprint, Label, Profile, RootKeyState};
use strongroom::{Epoch, ErrorKind};

use super::signers::request;
use super::world::{HOUR_MS, NOW_MS, World, other_of, tenant_of};

#[test]
fn what_was_issued_before_is_good_until_it_expires() {
    for profile in Profile::ALL {
        let world = World::new();
        let (tenant, other) = (tenant_of(profile), other_of(profile));
        let (ours, theirs) = (world.of(Role::Agent, &tenant), world.of(Role::Agent, &other));
        let stores = world.of(Role::Store, &other);
        let algorithm = strongroom::keys::signer_algorithm(profile);
        let (session, late) = (world.session(&other), world.session(&other));
        let signer = stores.certify_signer(&other, &request(&other, SignerUse::Envelopes, algorithm)).unwrap();

        let admin = world.anywhere(Role::Admin);
        let before = admin.public(&other).unwrap();
        let record = admin.rotate_root_key(&other, &before.record.root_fingerprint).unwrap();
        let after = admin.public(&other).unwrap();
        assert_eq!(after.record, record);
        assert_eq!(Fingerprint::of(default_provider(), &after.root_public_key), record.root_fingerprint);
        assert_ne!(after.certificates[1], before.certificates[1]);

        // Both chains are looked at for the first time now.
        let send =
            |chain: &[Vec<u8>]| ours.encapsulate(&tenant, &[Recipient::Credential(chain.to_vec())]).unwrap().remove(0);
        let sent = send(&session.chain).unwrap();
        let item = Decapsulation { session: session.id, ciphertext: Some(sent.ciphertext) };
        assert!(theirs.decapsulate(&other, &[item]).unwrap().remove(0).unwrap() == sent.key);
        let believed = ours.believe_signer(&tenant, SignerUse::Envelopes, &signer.chain).unwrap();
        assert_eq!(believed.tenant(), &other);
        // New ones are under the new certificate.
        let fresh = world.session(&other);
        assert_eq!(fresh.chain[0], after.certificates[1]);
        send(&fresh.chain).unwrap();
        // The leaf of one session does not go with the certificate of another time's chain by accident: both are signed
        // with the same key, so that this is the tenant's either way.
        assert_eq!(before.record.signing_fingerprint, record.signing_fingerprint);
        world.clock.set(NOW_MS + HOUR_MS);
        assert_eq!(send(&late.chain).err().unwrap().kind(), ErrorKind::Denied);
    }
}

#[test]
fn data_keys_stay_the_same_and_end_with_their_epoch() {
    let world = World::new();
    let tenant = tenant_of(Profile::Pure);
    let (admin, store) = (world.of(Role::Admin, &tenant), world.of(Role::Store, &tenant));
    let first = store.tenant(&tenant).unwrap().root_fingerprint;
    let dek = |epoch| {
        let asked = DekRequest { label: Label::Catalog, epoch: Epoch::try_from(epoch).unwrap(), scope: Vec::new() };
        store.derive_deks(&tenant, &[asked]).unwrap().remove(0)
    };
    let one = dek(1).unwrap();
    admin.rotate_root_key(&tenant, &first).unwrap();
    let made = admin.create_epoch(&tenant, None).unwrap();
    admin.activate_epoch(&tenant, made.epoch).unwrap();
    assert!(dek(1).unwrap() == one && dek(2).unwrap() != one);
    let early = admin.destroy_root_key(&tenant, &first).err().unwrap();
    assert_eq!(early.kind(), ErrorKind::Conflict);
    assert!(early.remedy().is_some() && dek(1).unwrap() == one);
    let active = admin.destroy_root_key(&tenant, &made.root_fingerprint).err().unwrap();
    assert_eq!(active.kind(), ErrorKind::Conflict);
    admin.destroy_epoch(&tenant, Epoch::FIRST).unwrap();
    admin.destroy_root_key(&tenant, &first).unwrap();
    assert!(dek(1).is_err() && dek(2).is_ok());
    let record = store.tenant(&tenant).unwrap();
    assert_eq!(
        record.root_keys.iter().map(|r| r.state).collect::<Vec<_>>(),
        [RootKeyState::Destroyed, RootKeyState::Active]
    );
    let ended = |what: &What| matches!(what, What::RootKeyDestroyed { .. } | What::RootKeyRotated { .. });
    let outcomes: Vec<_> = world.audit.events().into_iter().filter(|e| ended(&e.what)).map(|e| e.outcome).collect();
    use Outcome::{Begun, Done, Failed};
    assert_eq!(outcomes, [Begun, Done, Begun, Failed, Begun, Failed, Begun, Done]);
}

#[test]
fn only_who_may_rotate_a_tenant_replaces_or_destroys_its_root_key() {
    let world = World::new();
    let (tenant, other) = (tenant_of(Profile::Pure), other_of(Profile::Pure));
    let before = world.anywhere(Role::Admin).public(&tenant).unwrap().record;
    let root = &before.root_fingerprint;
    for role in [Role::Agent, Role::Sidecar, Role::Reader, Role::Node] {
        let kms = world.of(role, &tenant);
        assert_eq!(kms.rotate_root_key(&tenant, root).err().unwrap().kind(), ErrorKind::Denied, "{role}");
        assert_eq!(kms.destroy_root_key(&tenant, root).err().unwrap().kind(), ErrorKind::Denied, "{role}");
    }
    for role in [Role::Admin, Role::Store] {
        let strangers = world.of(role, &other);
        assert_eq!(strangers.rotate_root_key(&tenant, root).err().unwrap().kind(), ErrorKind::Denied);
        assert_eq!(strangers.destroy_root_key(&tenant, root).err().unwrap().kind(), ErrorKind::Denied);
    }
    assert_eq!(world.anywhere(Role::Admin).public(&tenant).unwrap().record, before);
}
