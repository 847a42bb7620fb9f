//! `cert verify|show`: certificates in files, without a store and without a passphrase; `cert export`: out of a store.

use std::fs::File;
use std::io::Read as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use clap::{Args, Subcommand};
use serde::Serialize;
use x509_cert::der::DateTime;

use super::Global;
use super::output::Output;
use crate::clock::{Clock as _, SystemClock};
use crate::crypto::{Provider, default_provider};
use crate::error::{Error, ErrorKind, Result};
use crate::id::{AgentId, TenantId};
use crate::keys::Fingerprint;
use crate::keys::certificate::{
    Certificate, CertificateView, Expect, KeyView, VerifiedChain, from_pem, to_pem, verify_chain,
};
use crate::limits;

#[derive(Subcommand)]
pub(super) enum CertCommand {
    /// Verify a chain of certificates against an authority's certificate; exit code 5 when it is refused
    Verify(VerifyArgs),
    /// Print a tenant's certificate, or the authority's that issued it (PEM)
    Export {
        /// The tenant
        tenant: TenantId,
        /// The authority's: for those who are to trust it
        #[arg(long)]
        authority: bool,
    },
    /// Show what certificates say of themselves, without verifying it
    Show {
        /// A file with certificates (PEM)
        file: PathBuf,
    },
}

#[derive(Args)]
pub(super) struct VerifyArgs {
    /// The authority's certificate (PEM), from a source that you trust
    #[arg(long, value_name = "FILE")]
    root: PathBuf,
    /// The chain (PEM): the tenant's certificate, then the session credential if there is one
    chain: PathBuf,
    /// The time to verify at, as in `2026-01-31T12:00:00Z` [default: now]
    #[arg(long, value_name = "TIME", value_parser = parse_time)]
    at: Option<u64>,
    /// The tenant that it must be of
    #[arg(long, short, value_name = "TENANT")]
    tenant: Option<TenantId>,
    /// The agent that it must be of
    #[arg(long, value_name = "AGENT")]
    agent: Option<AgentId>,
}

/// What a good chain is good for.
#[derive(Serialize)]
struct Verdict {
    verified: bool,
    at: String,
    not_after: String,
    tenant: String,
    profile: String,
    signing_key: KeyView,
    root_key: KeyView,
    #[serde(skip_serializing_if = "Option::is_none")]
    session: Option<SessionVerdict>,
}

#[derive(Serialize)]
struct SessionVerdict {
    agent: String,
    id: String,
    key: KeyView,
}

pub(super) async fn run(global: &Global, command: CertCommand, output: &Output) -> Result<()> {
    match command {
        CertCommand::Verify(args) => verify(args, output),
        CertCommand::Show { file } => show(&file, output),
        CertCommand::Export { tenant, authority } => export(global, &tenant, authority, output).await,
    }
}

async fn export(global: &Global, tenant: &TenantId, authority: bool, output: &Output) -> Result<()> {
    let store = global.open().await?;
    let public = store.tenant_public(tenant).await;
    store.close().await?;
    let [issuer, own] = public?.certificates;
    let pem = to_pem(&[Certificate::from_der(if authority { &issuer } else { &own })?])?;
    output.answer(&serde_json::json!({ "pem": pem }), |_| pem.clone())
}

fn verify(args: VerifyArgs, output: &Output) -> Result<()> {
    let roots = from_pem(&read(&args.root)?)?;
    let [root] = roots.as_slice() else {
        return Err(Error::invalid(format!("there is more than one certificate in `{}`", args.root.display()))
            .with_remedy("give the authority's certificate alone"));
    };
    // What cannot be read as a chain is no more to be relied on than one that does not verify.
    let chain = from_pem(&read(&args.chain)?).map_err(|e| {
        let what = format!("`{}` is refused: {e}", args.chain.display());
        let denied = Error::new(ErrorKind::Denied, what);
        match e.remedy() {
            Some(remedy) => denied.with_remedy(remedy),
            None => denied,
        }
    })?;
    let now_ms = args.at.unwrap_or_else(|| SystemClock.now_ms());
    let expect = Expect { tenant: args.tenant, agent: args.agent, ..Expect::default() };
    let verified = verify_chain(default_provider(), root, &chain, now_ms, &expect)?;
    output.answer(&Verdict::of(default_provider(), &verified, now_ms), Verdict::to_text)
}

fn show(file: &Path, output: &Output) -> Result<()> {
    let certificates: Vec<Certificate> = from_pem(&read(file)?)?;
    let views: Vec<_> = certificates.iter().map(|c| CertificateView::of(default_provider(), c)).collect();
    output.remark("shown as they are: `strongroom cert verify` says whether they can be relied on");
    output.answer(&views, |views| views.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n\n"))
}

impl Verdict {
    fn of(provider: &dyn Provider, verified: &VerifiedChain, now_ms: u64) -> Self {
        let key = |algorithm: &str, key: &[u8]| KeyView {
            algorithm: algorithm.to_owned(),
            fingerprint: Fingerprint::of(provider, key),
        };
        let (algorithm, signing_key) = verified.signing_key();
        Self {
            verified: true,
            at: format_time(now_ms),
            not_after: format_time(verified.not_after_ms()),
            tenant: verified.tenant().as_str().to_owned(),
            profile: verified.profile().to_string(),
            signing_key: key(algorithm.as_str(), signing_key),
            root_key: key(crate::crypto::Kem::MlKem1024.as_str(), verified.root_key()),
            session: verified.session().map(|session| SessionVerdict {
                agent: session.agent().as_str().to_owned(),
                id: session.id().to_string(),
                key: key(session.key().0.as_str(), session.key().1),
            }),
        }
    }

    fn to_text(&self) -> String {
        let key = |key: &KeyView| format!("{}: {}", key.algorithm, key.fingerprint);
        let mut text = format!(
            "good at {}, until {}\n  tenant {}, profile {}\n  signing key {}\n  root key {}",
            self.at,
            self.not_after,
            self.tenant,
            self.profile,
            key(&self.signing_key),
            key(&self.root_key)
        );
        if let Some(session) = &self.session {
            text +=
                &format!("\n  session {} of agent {}\n  session key {}", session.id, session.agent, key(&session.key));
        }
        text
    }
}

/// A whole file, if it is not longer than certificates can be.
fn read(path: &Path) -> Result<String> {
    let named = |e: std::io::Error| {
        let e = Error::from(e);
        Error::new(e.kind(), format!("`{}`: {e}", path.display())).with_source(e)
    };
    let mut text = String::new();
    let most = limits::CERTIFICATE_FILE_BYTES as u64 + 1;
    match File::open(path).map_err(named)?.take(most).read_to_string(&mut text) {
        Ok(_) => Ok(text),
        Err(e) if e.kind() == std::io::ErrorKind::InvalidData => {
            Err(Error::invalid(format!("`{}` is not a text", path.display()))
                .with_remedy("give certificates as PEM; `openssl x509 -inform DER` converts them"))
        }
        Err(e) => Err(named(e)),
    }
}

/// Unix time in milliseconds, from RFC 3339 in UTC without fractions.
fn parse_time(text: &str) -> Result<u64, String> {
    let time: DateTime = text.parse().map_err(|_| "write it as in `2026-01-31T12:00:00Z`".to_owned())?;
    u64::try_from(time.unix_duration().as_millis()).map_err(|e| e.to_string())
}

fn format_time(unix_ms: u64) -> String {
    match DateTime::from_unix_duration(Duration::from_millis(unix_ms)) {
        Ok(time) => time.to_string(),
        Err(_) => super::output::time(unix_ms),
    }
}
