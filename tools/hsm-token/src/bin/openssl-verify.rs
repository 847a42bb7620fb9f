//! Verifies certificates with OpenSSL, which shares no code with what signs them.
//!
//! `openssl-verify ROOT.pem CERT.pem…` trusts the root alone. Each certificate may be signed by the root or by one that
//! stands before it. Prints each one's signature algorithm; exit code 0 when all verify, 1 when one does not, 2 when it
//! was called wrongly.
//!
//! OpenSSL builds no chain to a certificate whose public key is of a kind that it does not know (a composite, X-Wing):
//! of those it checks issuer, time and signature.

use std::error::Error;
use std::process::ExitCode;
use std::{env, fs};

use openssl::asn1::Asn1Time;
use openssl::stack::Stack;
use openssl::x509::store::{X509Store, X509StoreBuilder};
use openssl::x509::{X509, X509Ref, X509StoreContext, X509VerifyResult};

fn main() -> ExitCode {
    let paths: Vec<String> = env::args().skip(1).collect();
    let [root, certificates @ ..] = paths.as_slice() else {
        eprintln!("usage: openssl-verify ROOT.pem CERT.pem…");
        return ExitCode::from(2);
    };
    match verify_all(root, certificates) {
        Ok(()) => ExitCode::SUCCESS,
        Err(err) => {
            eprintln!("{err}");
            ExitCode::FAILURE
        }
    }
}

/// Verifies the root against itself, then each certificate with the ones before it as possible intermediates.
fn verify_all(root_path: &str, paths: &[String]) -> Result<(), Box<dyn Error>> {
    let root = read(root_path)?;
    let mut store = X509StoreBuilder::new()?;
    store.add_cert(root.clone())?;
    let store = store.build();
    let mut intermediates = Stack::new()?;
    verify(&store, &intermediates, &root, root_path)?;
    for path in paths {
        let certificate = read(path)?;
        if certificate.public_key().is_ok() {
            verify(&store, &intermediates, &certificate, path)?;
        } else {
            verify_signature(intermediates.iter().chain([&*root]), &certificate, path)?;
        }
        intermediates.push(certificate)?;
    }
    Ok(())
}

/// Verifies a certificate by itself against those in `issuers`, which are verified already.
fn verify_signature<'a>(
    issuers: impl IntoIterator<Item = &'a X509Ref>,
    certificate: &X509,
    path: &str,
) -> Result<(), Box<dyn Error>> {
    let mut issuers = issuers.into_iter();
    let issuer = issuers.find(|issuer| issuer.issued(certificate) == X509VerifyResult::OK);
    let issuer = issuer.ok_or_else(|| format!("`{path}` does not verify: nobody before it has issued it"))?;
    let now = Asn1Time::days_from_now(0)?;
    if *certificate.not_before() > now || *certificate.not_after() < now {
        return Err(format!("`{path}` does not verify: it is not valid now").into());
    }
    if !certificate.verify(&*issuer.public_key()?)? {
        return Err(format!("`{path}` does not verify: certificate signature failure").into());
    }
    println!("{path}: {} (its own key is of an unknown kind)", certificate.signature_algorithm().object());
    Ok(())
}

fn read(path: &str) -> Result<X509, Box<dyn Error>> {
    let pem = fs::read(path).map_err(|err| format!("cannot read `{path}`: {err}"))?;
    X509::from_pem(&pem).map_err(|err| format!("`{path}` is no certificate: {err}").into())
}

fn verify(
    store: &X509Store,
    intermediates: &Stack<X509>,
    certificate: &X509,
    path: &str,
) -> Result<(), Box<dyn Error>> {
    // A root's own signature is not looked at when it is trusted by being in the store.
    if certificate.issuer_name().try_cmp(certificate.subject_name())?.is_eq()
        && !certificate.verify(&*certificate.public_key()?)?
    {
        return Err(format!("`{path}` is not signed by its own key").into());
    }
    let mut context = X509StoreContext::new()?;
    let verdict = context.init(store, certificate, intermediates, |context| {
        let verified = context.verify_cert()?;
        Ok((!verified).then(|| context.error().error_string()))
    })?;
    if let Some(reason) = verdict {
        return Err(format!("`{path}` does not verify: {reason}").into());
    }
    println!("{path}: {}", certificate.signature_algorithm().object());
    Ok(())
}
