//! Guards against showing too much of a certificate, or something else than it says.

use base64::Engine as _;
use strongroom::keys::certificate::{Certificate, CertificateView};
use strongroom::keys::{Fingerprint, Profile};

use super::world::{NOW_MS, kem_public, provider, world};

#[test]
fn what_is_shown_is_what_it_says() {
    let w = world(Profile::Hybrid);
    let view = CertificateView::of(provider(), &w.tenant);
    let json = serde_json::to_value(&view).unwrap();
    let root = Fingerprint::of(provider(), &kem_public(strongroom::crypto::Kem::MlKem1024, 3)).to_string();
    let expected = [
        ("/kind", "tenant"),
        ("/subject", "CN=acme"),
        ("/tenant", "acme"),
        ("/profile", "hybrid"),
        ("/not_before", "2025-12-31T23:55:00Z"),
        ("/not_after", "2028-01-01T00:00:00Z"),
        ("/signature_algorithm", "slh-dsa-sha2-192s"),
        ("/key/algorithm", "ml-dsa-65+ecdsa-p384"),
        ("/root_key/algorithm", "ml-kem-1024"),
        ("/root_key/fingerprint", &root),
    ];
    for (at, value) in expected {
        assert_eq!(json.pointer(at).and_then(|v| v.as_str()), Some(value), "{at}");
    }
    assert!(view.issuer.starts_with("CN=Strongroom authority "));
    assert_eq!((view.serial.len(), view.sha256.len()), (40, 64));

    let session = CertificateView::of(provider(), &w.session);
    let found = [session.kind, session.agent.as_deref().unwrap(), session.key.algorithm.as_str()];
    assert_eq!(found, ["session", "planner", "x-wing"]);
    assert_eq!(session.session.as_deref(), Some("ab".repeat(16).as_str()));
    assert_eq!(CertificateView::of(provider(), &w.authority).kind, "authority");
    for line in ["tenant certificate", "CN=acme", "2028-01-01T00:00:00Z", &root] {
        assert!(view.to_string().contains(line), "{line}");
    }
}

#[test]
fn no_key_bytes_are_shown() {
    let w = world(Profile::Hybrid);
    for certificate in [&w.authority, &w.tenant, &w.session] {
        let view = CertificateView::of(provider(), certificate);
        let shown = serde_json::to_string(&view).unwrap() + &view.to_string();
        assert!(shown.len() < 3000, "{}", shown.len());
        for key in [w.tenant_key.public_key(), w.authority_key.public_key()] {
            let hex: String = key.iter().take(16).map(|b| format!("{b:02x}")).collect();
            assert!(!shown.contains(&hex));
            assert!(!shown.contains(&base64::prelude::BASE64_STANDARD.encode(&key[..15])));
        }
        assert_eq!(format!("{certificate:?}"), "Certificate(..)");
    }
}

#[test]
fn foreign_certificates_are_shown_as_such_and_never_accepted() {
    let key = rcgen::KeyPair::generate().unwrap();
    let mut params = rcgen::CertificateParams::new(vec!["acme".to_owned()]).unwrap();
    params.distinguished_name.push(rcgen::DnType::CommonName, "acme\u{1b}[2J");
    let made = params.self_signed(&key).unwrap();
    let foreign = Certificate::from_der(made.der()).unwrap();
    let view = CertificateView::of(provider(), &foreign);
    assert_eq!((view.kind, view.tenant), ("foreign", None));
    assert!(view.reason.is_some() && !view.subject.contains('\u{1b}'), "{}", view.subject);
    assert_eq!(view.signature_algorithm, "1.2.840.10045.4.3.2");
    assert!(world(Profile::Pure).verify(&[foreign], NOW_MS).is_err());
}
