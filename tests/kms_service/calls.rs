//! Guards against a call that gives something else over the wire than it does without.

use proptest::prelude::*;
use strongroom::keys::kms::{Decapsulation, DekRequest, KeyAdmin as _, Kms as _, Recipient, Role, Signed};
use strongroom::keys::{DataKeys as _, Keyring, Label, Profile};
use strongroom::server::{RemoteKms, RemoteOptions};
use strongroom::{Epoch, ErrorKind};

use crate::server::{Party, Server, any_port, client, service, socket, uid};
use crate::world::{HOUR_MS, World, agent, id, other_of, patiently, tenant_of};

fn over_unix(role: &str, tenants: &str) -> Server {
    let world = World::new();
    let address = socket(world.dir.path());
    Server::start(world, address, None, &service("one", role, tenants, &format!("uid = {}", uid())))
}

/// A server over TLS and a client that it knows.
pub fn over_tls(role: &str, tenants: &str) -> (Server, RemoteKms) {
    let (server, peer) = (Party::new(), Party::new());
    let services = service("one", role, tenants, &format!("certificate_sha256 = \"{}\"", peer.hex()));
    let running = Server::start(World::new(), any_port(), Some(server.own()), &services);
    let options = RemoteOptions::new(running.address.clone()).tls(peer.own(), [server.sha256()]);
    (running, RemoteKms::new(options).unwrap())
}

fn dek(label: Label, scope: &[u8]) -> DekRequest {
    DekRequest { label, epoch: Epoch::FIRST, scope: scope.to_vec() }
}

#[test]
fn stores_get_the_keys_that_the_keystore_derives() {
    let tenant = tenant_of(Profile::Hybrid);
    for over in ["unix", "tls"] {
        let (server, remote) = if over == "unix" {
            let server = over_unix("store", "\"*\"");
            let remote = client(&server);
            (server, remote)
        } else {
            over_tls("store", "\"*\"")
        };
        let local = server.world().anywhere(Role::Store);
        assert_eq!(remote.describe(&tenant).unwrap(), local.describe(&tenant).unwrap(), "{over}");
        let asked: Vec<_> = Label::ALL.iter().map(|label| dek(*label, b"scope")).collect();
        let ours = local.derive_deks(&tenant, &asked).unwrap();
        let theirs = remote.derive_deks(&tenant, &asked).unwrap();
        assert_eq!(theirs.len(), asked.len());
        assert!(ours.into_iter().zip(theirs).all(|(a, b)| a.unwrap() == b.unwrap()), "{over}");
        let keys = remote.epoch_keys(&tenant, Epoch::FIRST).unwrap();
        let held = server.world().kms.keystore().epoch_keys(&tenant, Epoch::FIRST).unwrap();
        assert!(keys.dek(Label::Catalog, b"x").unwrap() == held.dek(Label::Catalog, b"x").unwrap());
        assert!(remote.epoch_keys(&tenant, Epoch::try_from(9).unwrap()).unwrap().dek(Label::Catalog, b"").is_err());
        assert!(Keyring::open(&remote, strongroom::crypto::default_provider(), &tenant).is_ok());
    }
}

#[test]
fn agents_reach_each_other_over_the_wire() {
    let server = over_unix("agent", "\"*\"");
    let remote = client(&server);
    for profile in Profile::ALL {
        let tenant = tenant_of(profile);
        let session = patiently(|| remote.open_session(&tenant, &agent(), HOUR_MS)).unwrap();
        let to = [Recipient::Session(session.id), Recipient::Session([7; 16].into())];
        let made = remote.encapsulate(&tenant, &to).unwrap();
        let [first, second] = made.try_into().ok().unwrap();
        assert_eq!(second.err().unwrap().kind(), ErrorKind::NotFound);
        let first = first.unwrap();
        let kept = Decapsulation { session: session.id, ciphertext: None };
        let given = Decapsulation { session: session.id, ciphertext: Some(first.ciphertext) };
        for key in remote.decapsulate(&tenant, &[kept, given]).unwrap() {
            assert!(key.unwrap() == first.key, "{profile}");
        }
        remote.revoke_session(&tenant, session.id).unwrap();
        assert!(remote.encapsulate(&tenant, &[Recipient::Session(session.id)]).unwrap().remove(0).is_err());
        let other = patiently(|| remote.open_session(&other_of(profile), &agent(), HOUR_MS)).unwrap();
        let made = remote.encapsulate(&tenant, &[Recipient::Credential(other.chain)]).unwrap().remove(0).unwrap();
        assert_eq!(made.session, other.id);
    }
}

#[test]
fn signatures_are_the_tenants() {
    let (_server, remote) = over_tls("agent", "\"*\"");
    let tenant = tenant_of(Profile::Hybrid);
    let messages: [&[u8]; 2] = [b"one", b""];
    let made: Vec<_> = remote.sign(&tenant, &messages).unwrap().into_iter().map(Result::unwrap).collect();
    let right = Signed { message: b"one", signature: &made[0] };
    let wrong = Signed { message: b"two", signature: &made[0] };
    let results = remote.verify(&tenant, &[right, wrong, Signed { message: b"", signature: &made[1] }]).unwrap();
    assert_eq!(results.iter().map(Result::is_ok).collect::<Vec<_>>(), [true, false, true]);
    assert!(remote.verify(&other_of(Profile::Hybrid), &[right]).unwrap().remove(0).is_err());
}

#[test]
fn administrators_keep_tenants() {
    let server = over_unix("admin", "\"*\"");
    let (remote, local) = (client(&server), server.world().anywhere(Role::Admin));
    assert_eq!(remote.tenants().unwrap().len(), 8);
    let made = remote.onboard(&id("new"), Profile::Cnsa2, Some(&agent())).unwrap();
    assert_eq!(made.record, local.public(&id("new")).unwrap().record);
    assert_eq!(made.session.unwrap().profile, Profile::Cnsa2);
    assert_eq!(remote.public(&id("new")).unwrap(), local.public(&id("new")).unwrap());
    let again = remote.onboard(&id("new"), Profile::Cnsa2, None).unwrap_err();
    assert_eq!(again.kind(), ErrorKind::Conflict);
    let number = |n| Epoch::try_from(n).unwrap();
    assert_eq!(remote.create_epoch(&id("new"), None).unwrap().epoch, number(2));
    remote.activate_epoch(&id("new"), number(2)).unwrap();
    remote.create_epoch(&id("new"), None).unwrap();
    remote.deactivate_epoch(&id("new"), number(2)).unwrap();
    remote.mark_epoch_compromised(&id("new"), number(2)).unwrap();
    let gone = remote.destroy_epoch(&id("new"), Epoch::FIRST).unwrap();
    let first = remote.describe(&id("new")).unwrap().root_fingerprint;
    let rotated = remote.rotate_root_key(&id("new"), &first).unwrap();
    assert_eq!(rotated, local.public(&id("new")).unwrap().record);
    assert_eq!(remote.rotate_root_key(&id("new"), &first).unwrap_err().kind(), ErrorKind::Conflict);
    assert_eq!(remote.destroy_root_key(&id("new"), &first).unwrap_err().kind(), ErrorKind::Conflict);
    remote.create_epoch(&id("new"), None).unwrap();
    remote.activate_epoch(&id("new"), number(4)).unwrap();
    remote.destroy_epoch(&id("new"), number(2)).unwrap();
    let third = remote.destroy_epoch(&id("new"), number(3)).unwrap();
    let root = remote.destroy_root_key(&id("new"), &first).unwrap();
    assert_eq!((&root.fingerprint, &root.active_fingerprint), (&first, &rotated.root_fingerprint));
    let record = local.public(&id("new")).unwrap().record;
    assert_ne!(third.active_fingerprint, gone.active_fingerprint);
    let gone = third;
    assert_eq!(gone.active_fingerprint, record.active().unwrap().fingerprint);
    assert!(!remote.is_shredded(&id("new")).unwrap());
    assert_eq!(remote.shred(&id("new")).unwrap().root_fingerprint, record.root_fingerprint);
    assert!(remote.is_shredded(&id("new")).unwrap());
}

/// Guards against a tenant's caller who gets at another tenant by going over the wire.
#[test]
fn refusals_have_the_same_words_as_without_a_wire() {
    let server = over_unix("store", "\"pure-1\"");
    let remote = client(&server);
    let local = server.world().kms.caller(strongroom::keys::kms::Caller::new(
        "one",
        Role::Store,
        strongroom::keys::kms::Scope::Tenants([id("pure-1")].into()),
    ));
    let same = |ours: strongroom::Error, theirs: strongroom::Error| {
        assert_eq!(ours.kind(), theirs.kind());
        assert_eq!(ours.to_string(), theirs.to_string());
        assert_eq!(ours.remedy(), theirs.remedy());
    };
    let asked = [dek(Label::Catalog, b"")];
    for tenant in ["pure-2", "nobody"] {
        let ours = local.derive_deks(&id(tenant), &asked).err().unwrap();
        assert_eq!(ours.kind(), ErrorKind::Denied);
        same(ours, remote.derive_deks(&id(tenant), &asked).err().unwrap());
    }
    same(local.shred(&id("pure-1")).unwrap_err(), remote.shred(&id("pure-1")).unwrap_err());
    let lost = DekRequest { label: Label::Catalog, epoch: Epoch::try_from(7).unwrap(), scope: vec![] };
    let both = [asked[0].clone(), lost];
    let [ours, theirs] = [local.derive_deks(&id("pure-1"), &both), remote.derive_deks(&id("pure-1"), &both)]
        .map(|results| results.unwrap().pop().unwrap().err().unwrap());
    same(ours, theirs);
    let before = server.world().kms.counts().refused_cross_tenant;
    assert!(remote.describe(&id("pure-2")).is_err());
    assert_eq!(server.world().kms.counts().refused_cross_tenant, before + 1);
}

#[test]
fn too_much_at_once_is_refused_before_it_is_sent_and_after() {
    let server = over_unix("agent", "\"*\"");
    let remote = client(&server);
    let tenant = tenant_of(Profile::Pure);
    let many = vec![&b"x"[..]; strongroom::limits::KMS_ITEMS + 1];
    assert_eq!(remote.sign(&tenant, &many).unwrap_err().kind(), ErrorKind::InvalidInput);
    let long = vec![0; strongroom::limits::RPC_BYTES + 1];
    assert_eq!(remote.sign(&tenant, &[&long]).unwrap_err().kind(), ErrorKind::InvalidInput);
    // By a client without bounds of its own.
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let strongroom::server::Address::Unix(path) = server.address.clone() else { unreachable!() };
    let status = runtime.block_on(async {
        let channel = tonic::transport::Endpoint::try_from(format!("unix:{}", path.display())).unwrap().connect().await;
        let mut raw = strongroom::server::wire::kms_client::KmsClient::new(channel.unwrap());
        let asked = strongroom::server::wire::SignRequest { tenant: "pure-1".to_owned(), messages: vec![long] };
        raw.sign(asked).await.unwrap_err()
    });
    assert_eq!(status.code(), tonic::Code::OutOfRange);
    assert!(remote.describe(&tenant).is_ok());
}

/// Guards against bytes that bring the service down: every method, any body.
#[test]
fn malformed_requests_never_panic() {
    let server = over_unix("agent", "\"*\"");
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let strongroom::server::Address::Unix(path) = server.address.clone() else { unreachable!() };
    let methods = ["Describe", "OpenSession", "RevokeSession", "Encapsulate", "Decapsulate", "Sign", "Verify"];
    let mut runner = proptest::test_runner::TestRunner::new(ProptestConfig::with_cases(200));
    let bodies = (0..methods.len(), proptest::collection::vec(any::<u8>(), 0..200), any::<bool>());
    runner
        .run(&bodies, |(method, mut body, framed)| {
            if framed {
                let mut frame = vec![0];
                frame.extend_from_slice(&u32::try_from(body.len()).unwrap().to_be_bytes());
                frame.append(&mut body);
                body = frame;
            }
            let answer = runtime.block_on(crate::directory::http(
                &path,
                &format!("POST /strongroom.v1.Kms/{} HTTP/1.1", methods[method]),
                &["Content-Type: application/grpc", "TE: trailers"],
                &body,
            ));
            prop_assert!(!answer.to_lowercase().contains("the key service failed"), "{}", answer);
            Ok(())
        })
        .unwrap();
    assert!(client(&server).describe(&tenant_of(Profile::Pure)).is_ok());
}
