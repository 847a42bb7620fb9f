//! Guards against certificates that only their own writer accepts: OpenSSL verifies them too.

use std::path::{Path, PathBuf};
use std::process::Command;

use strongroom::keys::Profile;
use strongroom::keys::certificate::{Certificate, to_pem};

use super::world::{live, world};

/// The verifier, or how to get it.
fn verifier() -> PathBuf {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("target/hsm-token/release/openssl-verify");
    assert!(path.exists(), "`{}` is not there: build it with `tools/hsm-token/build`", path.display());
    path
}

/// Whether OpenSSL accepts `chain` (issuers first) below `root`.
fn accepts(root: &Certificate, chain: &[&Certificate]) -> bool {
    let dir = tempfile::tempdir().unwrap();
    let file = |name: String, certificate: &Certificate| {
        let path = dir.path().join(name);
        std::fs::write(&path, to_pem(std::slice::from_ref(certificate)).unwrap()).unwrap();
        path
    };
    let mut command = Command::new(verifier());
    command.arg(file("root.pem".to_owned(), root));
    for (n, certificate) in chain.iter().enumerate() {
        command.arg(file(format!("{n}.pem"), certificate));
    }
    let output = command.output().unwrap();
    eprintln!("{}", String::from_utf8_lossy(&output.stderr));
    output.status.success()
}

#[test]
fn openssl_accepts_the_chain_down_to_the_session() {
    for profile in [Profile::Pure, Profile::Cnsa2, Profile::Fips] {
        let w = live(profile);
        assert!(accepts(&w.authority, &[&w.tenant]), "{profile}: tenant");
        assert!(accepts(&w.authority, &[&w.tenant, &w.session]), "{profile}: session");
    }
}

#[test]
fn openssl_accepts_the_tenant_of_a_hybrid_profile() {
    // It does not know the composite signature that is below, and takes the authority's word for the key.
    let w = live(Profile::Hybrid);
    assert!(accepts(&w.authority, &[&w.tenant]));
    assert!(!accepts(&w.authority, &[&changed(&w.tenant)]));
}

#[test]
fn openssl_refuses_another_authority_and_a_changed_certificate() {
    let (w, other) = (live(Profile::Cnsa2), world(Profile::Pure));
    assert!(accepts(&w.authority, &[&w.tenant]));
    assert!(!accepts(&other.authority, &[&w.tenant]));
    assert!(!accepts(&w.authority, &[&changed(&w.tenant)]));
}

fn changed(certificate: &Certificate) -> Certificate {
    let mut der = certificate.as_der().to_vec();
    *der.last_mut().unwrap() ^= 1;
    Certificate::from_der(&der).unwrap()
}
