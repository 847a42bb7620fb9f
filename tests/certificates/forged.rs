//! Guards against a check left out: certificates that are signed well and say what they must not.

use strongroom::ErrorKind;
use strongroom::crypto::{Kem, Signature};
use strongroom::keys::Profile;
use strongroom::keys::certificate::{Certificate, PROFILE_OID, ROOT_KEY_OID};
use x509_cert::der::Encode as _;
use x509_cert::der::asn1::{Any, BitString, Ia5String, ObjectIdentifier, OctetString};
use x509_cert::der::flagset::FlagSet;
use x509_cert::der::oid::AssociatedOid as _;
use x509_cert::ext::pkix::name::GeneralName;
use x509_cert::ext::pkix::{
    AuthorityKeyIdentifier, BasicConstraints, KeyUsage, KeyUsages, SubjectAltName, SubjectKeyIdentifier,
};
use x509_cert::{AlgorithmIdentifier, SubjectPublicKeyInfo};

use super::forge::Forge;
use super::world::{DAY_MS, NOW_MS, World, kem_public, signing_key, world};

/// What is wrong with a certificate, the change that makes it so, and the words of the refusal.
type Case = (&'static str, fn(&mut Forge), &'static str);

const FOREIGN: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.3.6.1.4.1.32473.1");
const ML_DSA_65: ObjectIdentifier = ObjectIdentifier::new_unwrap("2.16.840.1.101.3.4.3.18");
const ML_DSA_87: ObjectIdentifier = ObjectIdentifier::new_unwrap("2.16.840.1.101.3.4.3.19");
const ML_KEM_768: ObjectIdentifier = ObjectIdentifier::new_unwrap("2.16.840.1.101.3.4.4.2");
const ML_KEM_1024: ObjectIdentifier = ObjectIdentifier::new_unwrap("2.16.840.1.101.3.4.4.3");

fn spki(oid: ObjectIdentifier, key: &[u8]) -> SubjectPublicKeyInfo {
    let algorithm = AlgorithmIdentifier { oid, parameters: None };
    SubjectPublicKeyInfo { algorithm, subject_public_key: BitString::from_bytes(key).unwrap() }
}

fn uri(text: &str) -> GeneralName {
    GeneralName::UniformResourceIdentifier(Ia5String::new(text).unwrap())
}

fn constraints(ca: bool, path_len_constraint: Option<u8>) -> BasicConstraints {
    BasicConstraints { ca, path_len_constraint }
}

/// This platform's authority is quick to sign with.
fn cnsa2() -> &'static World {
    world(Profile::Cnsa2)
}

fn refused(what: &str, world: &World, chain: &[Certificate], reason: &str) {
    let e = world.verify(chain, NOW_MS).err().unwrap_or_else(|| panic!("accepted: {what}"));
    assert_eq!(e.kind(), ErrorKind::Denied, "{what}: {e}");
    assert!(e.to_string().contains(reason), "{what}: `{e}` does not say `{reason}`");
}

#[test]
fn what_the_forge_does_not_change_is_accepted() {
    let w = cnsa2();
    let tenant = Forge::of(&w.tenant).sign(&*w.authority_key);
    let session = Forge::of(&w.session).sign(&*w.tenant_key);
    w.verify(&[tenant, session], NOW_MS).unwrap();
}

#[test]
fn unknown_extensions_are_ignored_unless_critical() {
    let w = cnsa2();
    for (critical, accepted) in [(false, true), (true, false)] {
        let mut forge = Forge::of(&w.tenant);
        forge.add(FOREIGN, critical, &"x".to_owned());
        assert_eq!(w.verify(&[forge.sign(&*w.authority_key)], NOW_MS).is_ok(), accepted);
    }
}

/// What both a tenant's certificate and a session credential must not be.
const EITHER: &[Case] = &[
    ("another issuer", |f| f.issuer = "CN=somebody".parse().unwrap(), "issued by somebody else"),
    ("zero serial", |f| f.serial = vec![0], "malformed serial number"),
    ("no extensions", |f| f.extensions.clear(), "version 3"),
    ("begins before its issuer", |f| f.not_before_s -= 86_400, "valid when its issuer's is not"),
    ("ends after its issuer", |f| f.not_after_s += 20 * 366 * 86_400, "valid when its issuer's is not"),
    ("not valid yet", |f| f.not_before_s = NOW_MS / 1000 + 1, "not valid yet"),
    ("expired", |f| f.not_after_s = NOW_MS / 1000 - 1, "expired"),
    ("ends before it begins", |f| f.not_after_s = f.not_before_s - 1, "expired"),
    ("no usage", |f| f.remove(KeyUsage::OID), "has no extension"),
    ("usage not critical", |f| f.extension(KeyUsage::OID).critical = false, "malformed extension"),
    ("no subject key id", |f| f.remove(SubjectKeyIdentifier::OID), "has no extension"),
    ("no authority key id", |f| f.remove(AuthorityKeyIdentifier::OID), "has no extension"),
    ("empty authority key id", |f| set_issuer_id(f, None), "malformed authority key identifier"),
    ("another authority key id", |f| set_issuer_id(f, Some(&[9; 20])), "issued by somebody else"),
    ("no profile", |f| f.remove(PROFILE_OID), "has no extension"),
    ("unknown profile", |f| f.set(PROFILE_OID, &"none".to_owned()), "malformed profile"),
    ("profile not a text", |f| f.set(PROFILE_OID, &7u8), "malformed extension"),
    ("twice the profile", |f| f.add(PROFILE_OID, false, &"cnsa2".to_owned()), "an extension twice"),
    ("trailing byte", |f| append(f, PROFILE_OID), "malformed extension"),
    ("unknown critical", |f| f.add(FOREIGN, true, &7u8), "unknown critical extension"),
    ("two names", |f| set_names(f, &["strongroom:acme", "strongroom:acme"]), "malformed subject alternative name"),
    ("no names", |f| set_names(f, &[]), "malformed subject alternative name"),
    ("foreign name", |f| set_names(f, &["https:acme"]), "malformed subject alternative name"),
    ("name of two parts", |f| set_names(f, &["strongroom:acme/planner"]), "malformed subject alternative name"),
    ("name that is none", |f| set_names(f, &["strongroom:Acme"]), "not a tenant id"),
    ("the store's own name", |f| set_names(f, &["strongroom:_system"]), "not a tenant id"),
    ("name is not the subject", |f| set_names(f, &["strongroom:other"]), "malformed subject"),
    ("subject is not the name", |f| f.subject = "CN=other".parse().unwrap(), "malformed subject"),
    ("two names in the subject", |f| f.subject = "CN=other,CN=acme".parse().unwrap(), "malformed subject"),
    ("key too short", |f| cut_key(&mut f.spki), "malformed public key"),
    ("key with parameters", |f| f.spki.algorithm.parameters = Some(Any::null()), "parameters must be absent"),
    ("unknown key", |f| f.spki.algorithm.oid = FOREIGN, "unknown algorithm"),
    ("signature parameters", |f| f.algorithm.parameters = Some(Any::null()), "parameters must be absent"),
    ("unknown signature", |f| f.algorithm.oid = FOREIGN, "unknown algorithm"),
    ("another signature", |f| f.algorithm.oid = ML_DSA_65, "another algorithm"),
];

const TENANT: &[Case] = &[
    ("not an issuer", |f| f.set(BasicConstraints::OID, &constraints(false, None)), "must be marked as one"),
    ("no path length", |f| f.set(BasicConstraints::OID, &constraints(true, None)), "path length"),
    ("longer path", |f| f.set(BasicConstraints::OID, &constraints(true, Some(1))), "path length"),
    ("no constraints", |f| f.remove(BasicConstraints::OID), "has no extension"),
    ("constraints not critical", |f| f.extension(BasicConstraints::OID).critical = false, "malformed extension"),
    ("cannot issue", |f| f.set(KeyUsage::OID, &KeyUsage(KeyUsages::DigitalSignature.into())), "key usage"),
    ("cannot sign", |f| f.set(KeyUsage::OID, &KeyUsage(KeyUsages::KeyCertSign.into())), "key usage"),
    ("may do more", |f| f.set(KeyUsage::OID, &every_use()), "key usage"),
    ("no root key", |f| f.remove(ROOT_KEY_OID), "has no extension"),
    ("root key critical", |f| f.extension(ROOT_KEY_OID).critical = true, "malformed extension"),
    ("smaller root key", |f| f.set(ROOT_KEY_OID, &spki(ML_KEM_768, &kem_public(Kem::MlKem768, 3))), "root key"),
    ("root key too short", |f| f.set(ROOT_KEY_OID, &spki(ML_KEM_1024, &[1; 1567])), "malformed public key"),
    ("root key that signs", |f| f.set(ROOT_KEY_OID, &f.spki.clone()), "root key"),
    ("no alternative name", |f| f.remove(SubjectAltName::OID), "path length"),
    ("another profile", |f| f.set(PROFILE_OID, &"pure".to_owned()), "not what the profile `pure` has"),
    ("weaker key", |f| f.spki = weaker(), "not what the profile `cnsa2` has"),
    ("key that cannot sign", |f| f.spki = spki(ML_KEM_768, &kem_public(Kem::MlKem768, 3)), "cannot sign"),
];

const SESSION: &[Case] = &[
    ("may issue", |f| f.add(BasicConstraints::OID, true, &constraints(true, None)), "unknown critical extension"),
    ("may not issue, said twice", |f| f.add(BasicConstraints::OID, false, &constraints(false, None)), "which its kind"),
    ("a root key", |f| f.add(ROOT_KEY_OID, false, &f.spki.clone()), "which its kind has not"),
    ("may sign", |f| f.set(KeyUsage::OID, &KeyUsage(KeyUsages::DigitalSignature.into())), "key encipherment alone"),
    ("may do more", |f| f.set(KeyUsage::OID, &every_use()), "key encipherment alone"),
    ("key that signs", |f| f.spki = weaker(), "must be a KEM key"),
    ("weaker key", |f| f.spki = spki(ML_KEM_768, &kem_public(Kem::MlKem768, 3)), "keep to the profile `cnsa2`"),
    ("another profile", |f| f.set(PROFILE_OID, &"fips".to_owned()), "keep to the profile `cnsa2`"),
    ("longer than a day", |f| f.not_after_s = (NOW_MS + DAY_MS) / 1000 + 301, "more than a day"),
    ("no alternative name", |f| f.remove(SubjectAltName::OID), "has no extension"),
    ("another tenant", other_tenant, "of another tenant"),
    ("its issuer's name", |f| f.subject = f.issuer.clone(), "malformed subject"),
];

const AUTHORITY: &[Case] = &[
    ("not an issuer", |f| f.set(BasicConstraints::OID, &constraints(false, None)), "must be marked as one"),
    ("no path length", |f| f.set(BasicConstraints::OID, &constraints(true, None)), "path length"),
    ("shorter path", |f| f.set(BasicConstraints::OID, &constraints(true, Some(0))), "path length"),
    ("may do more", |f| f.set(KeyUsage::OID, &every_use()), "key usage"),
    ("issued by another", |f| f.issuer = "CN=somebody".parse().unwrap(), "issued by somebody else"),
    ("expired", |f| f.not_after_s = NOW_MS / 1000 - 1, "expired"),
    (
        "a name",
        |f| f.add(SubjectAltName::OID, false, &SubjectAltName(vec![uri("strongroom:acme")])),
        "malformed subject",
    ),
    ("a profile", |f| f.add(PROFILE_OID, false, &"cnsa2".to_owned()), "which its kind has not"),
    ("another key", |f| f.spki = spki(ML_DSA_87, signing_key(Signature::MlDsa87, 77).public_key()), "does not verify"),
];

#[test]
fn each_forged_tenant_certificate_is_refused() {
    let w = cnsa2();
    for (what, change, reason) in EITHER.iter().chain(TENANT) {
        let mut forge = Forge::of(&w.tenant);
        change(&mut forge);
        refused(what, w, &[forge.sign(&*w.authority_key)], reason);
    }
}

#[test]
fn each_forged_session_credential_is_refused() {
    let w = cnsa2();
    for (what, change, reason) in EITHER.iter().chain(SESSION) {
        let mut forge = Forge::of(&w.session);
        change(&mut forge);
        refused(what, w, &[w.tenant.clone(), forge.sign(&*w.tenant_key)], reason);
    }
}

#[test]
fn each_pinned_authority_that_is_none_is_refused() {
    let w = cnsa2();
    for (what, change, reason) in AUTHORITY {
        let mut forge = Forge::of(&w.authority);
        change(&mut forge);
        let pinned = World {
            profile: w.profile,
            authority_key: signing_key(Signature::MlDsa87, 1),
            authority: forge.sign(&*w.authority_key),
            tenant_key: signing_key(Signature::MlDsa87, 2),
            tenant: w.tenant.clone(),
            session: w.session.clone(),
        };
        refused(what, &pinned, &w.chain(), reason);
    }
}

#[test]
fn signatures_of_other_keys_are_refused() {
    let w = cnsa2();
    let stranger = signing_key(Signature::MlDsa87, 99);
    let tenant = Forge::of(&w.tenant).sign(&*stranger);
    refused("a tenant", w, &[tenant], "signature of the tenant certificate does not verify");
    let session = Forge::of(&w.session).sign(&*w.authority_key);
    refused("a session", w, &[w.tenant.clone(), session], "signature of the session certificate does not verify");
}

fn set_issuer_id(forge: &mut Forge, id: Option<&[u8]>) {
    let key_identifier = id.map(|id| OctetString::new(id).unwrap());
    forge.set(AuthorityKeyIdentifier::OID, &AuthorityKeyIdentifier { key_identifier, ..Default::default() });
}

fn set_names(forge: &mut Forge, names: &[&str]) {
    forge.set(SubjectAltName::OID, &SubjectAltName(names.iter().map(|n| uri(n)).collect()));
}

fn cut_key(spki: &mut SubjectPublicKeyInfo) {
    let key = spki.subject_public_key.raw_bytes();
    spki.subject_public_key = BitString::from_bytes(&key[1..]).unwrap();
}

fn append(forge: &mut Forge, oid: ObjectIdentifier) {
    let value = forge.extension(oid).extn_value.as_bytes().to_vec();
    forge.extension(oid).extn_value = OctetString::new([&value[..], &[0]].concat()).unwrap();
}

fn weaker() -> SubjectPublicKeyInfo {
    spki(ML_DSA_65, signing_key(Signature::MlDsa65, 5).public_key())
}

fn other_tenant(forge: &mut Forge) {
    let session = "ab".repeat(16);
    forge.subject = format!("UID={session},CN=other").parse().unwrap();
    set_names(forge, &[&format!("strongroom:other/planner/{session}")]);
}

#[test]
fn a_value_in_another_encoding_is_refused() {
    // Both decode to the same usages and path length: a bit string with zeros at its end, a number with one in front.
    let w = cnsa2();
    let usages: [&[u8]; 3] = [&[3, 2, 2, 0x84], &[3, 2, 0, 0x84], &[3, 3, 0, 0x84, 0]];
    for (value, accepted) in usages.into_iter().zip([true, false, false]) {
        let mut forge = Forge::of(&w.tenant);
        forge.extension(KeyUsage::OID).extn_value = OctetString::new(value).unwrap();
        assert_eq!(w.verify(&[forge.sign(&*w.authority_key)], NOW_MS).is_ok(), accepted, "{value:?}");
    }
    let mut forge = Forge::of(&w.tenant);
    assert_eq!(constraints(true, Some(0)).to_der().unwrap(), [0x30, 6, 1, 1, 0xff, 2, 1, 0]);
    forge.extension(BasicConstraints::OID).extn_value = OctetString::new([0x30, 7, 1, 1, 0xff, 2, 2, 0, 0]).unwrap();
    refused("a leading zero", w, &[forge.sign(&*w.authority_key)], "malformed extension");
}

#[test]
fn a_negative_serial_number_is_refused() {
    let w = cnsa2();
    let mut der = w.tenant.as_der().to_vec();
    let serial = Forge::of(&w.tenant).serial;
    let at = der.windows(serial.len()).position(|window| window == serial).unwrap();
    der[at] |= 0x80;
    // What is signed stands between the head of the whole and the signature algorithm; the signature is the last part.
    let length = usize::from(u16::from_be_bytes([der[6], der[7]]));
    let signature = w.authority_key.sign(b"", &der[4..8 + length]).unwrap();
    let at = der.len() - signature.len();
    der[at..].copy_from_slice(&signature);
    refused("a negative number", w, &[Certificate::from_der(&der).unwrap()], "malformed serial number");
}

#[test]
fn two_signature_algorithms_are_refused() {
    let w = cnsa2();
    let mut der = w.tenant.as_der().to_vec();
    let oid = ML_DSA_87.as_bytes();
    let outer = der.windows(oid.len()).rposition(|window| window == oid).unwrap();
    der[outer..outer + oid.len()].copy_from_slice(ML_DSA_65.as_bytes());
    refused("another outside", w, &[Certificate::from_der(&der).unwrap()], "it names two signature algorithms");
}

fn every_use() -> KeyUsage {
    KeyUsage(FlagSet::full())
}
