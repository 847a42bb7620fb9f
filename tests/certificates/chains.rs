//! Guards against good certificates put together wrongly: other tenants, other platforms, other times, other orders.

use strongroom::crypto::{Kem, Signature};
use strongroom::keys::Profile;
use strongroom::keys::certificate::{
    Certificate, Expect, PROFILE_OID, SessionSubject, TenantSubject, issue_authority, issue_session, issue_tenant,
    verify_chain,
};
use strongroom::limits;
use strongroom::{ErrorKind, SessionId};

use super::forge::Forge;
use super::world::{
    DAY_MS, HOUR_MS, NOW_MS, SESSION, World, issue, issue_for, kem_public, provider, signing_key, tenant_id, world,
};

fn refused(world: &World, chain: &[Certificate], reason: &str) {
    let e = world.verify(chain, NOW_MS).err().unwrap_or_else(|| panic!("accepted, in spite of: {reason}"));
    assert_eq!(e.kind(), ErrorKind::Denied, "{e}");
    assert!(e.to_string().contains(reason), "`{e}` does not say `{reason}`");
}

#[test]
fn every_profile_gives_a_chain_that_verifies() {
    for profile in Profile::ALL {
        let w = world(profile);
        let verified = w.verify(&w.chain(), NOW_MS).unwrap();
        assert!(*verified.tenant() == tenant_id("acme"));
        assert_eq!(verified.profile(), profile);
        assert_eq!(verified.signing_key(), (profile.signature(), w.tenant_key.public_key()));
        assert_eq!(verified.root_key(), kem_public(Kem::MlKem1024, 3));
        assert_eq!(verified.not_after_ms(), NOW_MS + HOUR_MS);
        let session = verified.session().unwrap();
        assert_eq!(session.agent().as_str(), "planner");
        assert_eq!(session.id(), SessionId::from(SESSION));
        assert_eq!(session.key(), (profile.kem(), &kem_public(profile.kem(), 4)[..]));

        let tenant_only = w.verify(&w.chain()[..1], NOW_MS).unwrap();
        assert!(tenant_only.session().is_none());
        assert_eq!(tenant_only.not_after_ms(), NOW_MS + limits::TENANT_CERTIFICATE_MS);
        let with_root = [std::slice::from_ref(&w.authority), &w.chain()].concat();
        assert!(w.verify(&with_root, NOW_MS).is_ok());
    }
}

#[test]
fn fips_allows_both_sizes_and_the_others_only_their_own() {
    for profile in Profile::ALL {
        let w = world(profile);
        for kem in Kem::ALL {
            let (agent, key) = ("planner".parse().unwrap(), kem_public(kem, 4));
            let subject = SessionSubject { agent: &agent, session: SESSION.into(), kem, session_key: &key };
            let made = issue_session(provider(), &*w.tenant_key, &w.tenant, &subject, NOW_MS + HOUR_MS, NOW_MS);
            let allowed = kem == profile.kem() || (profile == Profile::Fips && kem == Kem::MlKem1024);
            assert_eq!(made.is_ok(), allowed, "{profile} {kem}");
            if let Ok(made) = made {
                w.verify(&[w.tenant.clone(), made], NOW_MS).unwrap();
            }
        }
    }
}

#[test]
fn validity_has_sharp_edges() {
    let w = world(Profile::Cnsa2);
    let skew = limits::CERTIFICATE_SKEW_MS;
    let ok = |chain: &[Certificate], now_ms| w.verify(chain, now_ms).is_ok();
    let (tenant, whole) = (&w.chain()[..1], &w.chain()[..]);
    assert!(!ok(whole, NOW_MS - skew - 1) && ok(whole, NOW_MS - skew));
    // The last second belongs to it (RFC 5280, section 4.1.2.5).
    assert!(ok(whole, NOW_MS + HOUR_MS + 999) && !ok(whole, NOW_MS + HOUR_MS + 1000));
    let end = NOW_MS + limits::TENANT_CERTIFICATE_MS;
    assert!(ok(tenant, end + 999) && !ok(tenant, end + 1000));
    assert!(!ok(tenant, 0) && !ok(tenant, u64::MAX));
}

#[test]
fn certificates_out_of_place_are_refused() {
    let w = world(Profile::Cnsa2);
    let (root, tenant, session) = (w.authority.clone(), w.tenant.clone(), w.session.clone());
    refused(w, &[], "no tenant's certificate");
    refused(w, std::slice::from_ref(&root), "no tenant's certificate");
    refused(w, std::slice::from_ref(&session), "in the place of the tenant's certificate");
    refused(w, &[session.clone(), tenant.clone()], "in the place of the tenant's certificate");
    refused(w, &[tenant.clone(), tenant.clone()], "in the place of the session credential");
    refused(w, &[root.clone(), root.clone(), tenant.clone()], "in the place of the tenant's certificate");
    refused(w, &[tenant.clone(), session.clone(), session.clone()], "another authority");
    refused(w, &vec![tenant.clone(); 4], "more than 3");
}

#[test]
fn another_platform_is_refused() {
    let w = world(Profile::Cnsa2);
    let key = signing_key(Signature::MlDsa87, 50);
    let authority = issue_authority(provider(), &*key, NOW_MS).unwrap();
    let tenant = issue(&*key, &authority, Profile::Cnsa2, &*w.tenant_key, "acme");
    refused(w, std::slice::from_ref(&tenant), "issued by somebody else");
    refused(w, &[authority.clone(), tenant.clone()], "in the place of the tenant's certificate");
    refused(w, &[authority.clone(), tenant.clone(), w.session.clone()], "another authority");
    // The same name and key, issued again, is not the certificate that was pinned.
    let again = issue_authority(provider(), &*w.authority_key, NOW_MS).unwrap();
    assert!(again != w.authority);
    refused(w, &[again, w.tenant.clone(), w.session.clone()], "another authority");
    // The pinned one must itself be an authority.
    let e = verify_chain(provider(), &w.tenant, &w.chain(), NOW_MS, &Expect::default()).err().unwrap();
    assert!(e.to_string().contains("in the place of the pinned authority"), "{e}");
}

#[test]
fn tenants_do_not_mix() {
    let w = world(Profile::Cnsa2);
    let key = signing_key(Signature::MlDsa87, 60);
    let other = issue(&*w.authority_key, &w.authority, Profile::Cnsa2, &*key, "other");
    let session = issue_for(&*key, &other, Kem::MlKem1024);
    assert!(*w.verify(&[other.clone(), session.clone()], NOW_MS).unwrap().tenant() == tenant_id("other"));
    refused(w, &[w.tenant.clone(), session], "issued by somebody else");
    refused(w, &[other, w.session.clone()], "issued by somebody else");
    // Two tenants that were given one key: the names still part them.
    let twin = issue(&*w.authority_key, &w.authority, Profile::Cnsa2, &*w.tenant_key, "twin");
    refused(w, &[twin, w.session.clone()], "issued by somebody else");
}

#[test]
fn an_authority_certifies_only_for_its_own_profiles() {
    // A key and a profile that fit each other, under an authority that is too weak, or not the one of this profile.
    let (strong, w) = (signing_key(Signature::MlDsa87, 70), world(Profile::Pure));
    let mut forge = Forge::of(&w.tenant);
    forge.spki = Forge::of(&world(Profile::Cnsa2).tenant).spki;
    forge.set(PROFILE_OID, &"cnsa2".to_owned());
    refused(w, &[forge.sign(&*w.authority_key)], "is not what the profile `cnsa2` has");

    let root = issue_authority(provider(), &*strong, NOW_MS).unwrap();
    let mut forge = Forge::of(&issue(&*strong, &root, Profile::Cnsa2, &*strong, "acme"));
    forge.spki = Forge::of(&w.tenant).spki;
    forge.set(PROFILE_OID, &"pure".to_owned());
    let e = verify_chain(provider(), &root, &[forge.sign(&*strong)], NOW_MS, &Expect::default()).err().unwrap();
    assert!(e.to_string().contains("is not what the profile `pure` has"), "{e}");
}

#[test]
fn what_the_caller_expects_must_be_there() {
    let w = world(Profile::Cnsa2);
    let verify = |chain: &[Certificate], expect: Expect| verify_chain(provider(), &w.authority, chain, NOW_MS, &expect);
    let right = Expect {
        tenant: Some(tenant_id("acme")),
        agent: Some("planner".parse().unwrap()),
        session: Some(SESSION.into()),
        profile: Some(Profile::Cnsa2),
    };
    assert!(verify(&w.chain(), right.clone()).is_ok());
    let wrong = [
        (Expect { tenant: Some(tenant_id("other")), ..right.clone() }, "it is of the tenant `acme`"),
        (Expect { agent: Some("writer".parse().unwrap()), ..right.clone() }, "another agent"),
        (Expect { session: Some([0xac; 16].into()), ..right.clone() }, "another session"),
        (Expect { profile: Some(Profile::Hybrid), ..right.clone() }, "its profile is `cnsa2`"),
    ];
    for (expect, reason) in wrong {
        let e = verify(&w.chain(), expect).err().unwrap();
        assert!(e.kind() == ErrorKind::Denied && e.to_string().contains(reason), "{e}");
    }
    for expect in [Expect { session: None, ..right.clone() }, Expect { agent: None, ..right.clone() }] {
        let e = verify(&w.chain()[..1], expect).err().unwrap();
        assert!(e.to_string().contains("does not end in a session credential"), "{e}");
    }
}

#[test]
fn issuers_refuse_what_verifiers_would() {
    let w = world(Profile::Cnsa2);
    let (root_key, acme) = (kem_public(Kem::MlKem1024, 3), tenant_id("acme"));
    let good = || TenantSubject {
        tenant: &acme,
        profile: Profile::Cnsa2,
        algorithm: Signature::MlDsa87,
        signing_key: w.tenant_key.public_key(),
        root_key: &root_key,
    };
    let tenant = |key, cert, subject: TenantSubject<'_>, now| issue_tenant(provider(), key, cert, &subject, now);
    let (key, other) = (&*w.authority_key, &*w.tenant_key);
    assert!(tenant(key, &w.authority, good(), NOW_MS).is_ok());
    assert!(tenant(other, &w.authority, good(), NOW_MS).is_err(), "the key of another");
    assert!(tenant(other, &w.tenant, good(), NOW_MS).is_err(), "not an authority");
    assert!(tenant(key, &w.authority, good(), NOW_MS + 11 * 366 * DAY_MS).is_err(), "an authority that has expired");
    assert!(tenant(key, &w.authority, good(), NOW_MS - DAY_MS).is_err(), "an authority that is not valid yet");
    let wrong = [
        TenantSubject { profile: Profile::Pure, ..good() },
        TenantSubject { algorithm: Signature::MlDsa65, ..good() },
        TenantSubject { signing_key: &[1; 2591], ..good() },
        TenantSubject { root_key: &[1; 1567], ..good() },
    ];
    for subject in wrong {
        assert!(tenant(key, &w.authority, subject, NOW_MS).is_err());
    }

    let (agent, session_key) = ("planner".parse().unwrap(), kem_public(Kem::MlKem1024, 4));
    let session = |key, cert, session_key: &[u8], not_after_ms| {
        let subject = SessionSubject { agent: &agent, session: SESSION.into(), kem: Kem::MlKem1024, session_key };
        issue_session(provider(), key, cert, &subject, not_after_ms, NOW_MS)
    };
    assert!(session(other, &w.tenant, &session_key, NOW_MS + DAY_MS).is_ok());
    assert!(session(other, &w.tenant, &session_key, NOW_MS + DAY_MS + 1).is_err(), "longer than a day");
    assert!(session(other, &w.tenant, &session_key, NOW_MS).is_err(), "over before it begins");
    assert!(session(other, &w.tenant, &session_key[1..], NOW_MS + HOUR_MS).is_err(), "a key too short");
    assert!(session(key, &w.tenant, &session_key, NOW_MS + HOUR_MS).is_err(), "the key of another");
    assert!(session(key, &w.authority, &session_key, NOW_MS + HOUR_MS).is_err(), "not a tenant");
}

#[test]
fn a_tenant_never_outlives_its_authority() {
    let w = world(Profile::Cnsa2);
    let late = NOW_MS + limits::AUTHORITY_CERTIFICATE_MS - DAY_MS;
    let root_key = kem_public(Kem::MlKem1024, 3);
    let subject = TenantSubject {
        tenant: &tenant_id("late"),
        profile: Profile::Cnsa2,
        algorithm: Signature::MlDsa87,
        signing_key: w.tenant_key.public_key(),
        root_key: &root_key,
    };
    let tenant = issue_tenant(provider(), &*w.authority_key, &w.authority, &subject, late).unwrap();
    assert_eq!(w.verify(std::slice::from_ref(&tenant), late).unwrap().not_after_ms(), late + DAY_MS);
    let (agent, session_key) = ("planner".parse().unwrap(), kem_public(Kem::MlKem1024, 4));
    let subject =
        SessionSubject { agent: &agent, session: SESSION.into(), kem: Kem::MlKem1024, session_key: &session_key };
    let too_long = issue_session(provider(), &*w.tenant_key, &tenant, &subject, late + DAY_MS + 1000, late + HOUR_MS);
    assert!(too_long.err().unwrap().to_string().contains("after the tenant's certificate"));
}
