//! `kms`: what callers of the key service ask, one at a time and in bulk, against the bare call of the same provider.
//!
//! A token's floor is the same algorithm in software, by the fast provider.

use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use tempfile::TempDir;

use super::BenchArgs;
use super::report::{Case, Pair, Report, take_turns};
use crate::clock::SystemClock;
use crate::crypto::aws_lc::AwsLc;
use crate::crypto::rustcrypto::RustCrypto;
use crate::crypto::{Kdf, KemKey, Provider, SigningKey};
use crate::error::{Error, Result};
use crate::id::{Epoch, TenantId};
use crate::keys::keystore::Unlock;
use crate::keys::keystore::file::KdfCost;
use crate::keys::keystore::pkcs11::TokenConfig;
use crate::keys::kms::{
    Caller, Decapsulation, DekRequest, Handle, KeyAdmin as _, Kms as _, KmsOptions, LocalKms, Recipient, Role, Scope,
    Session, Signed,
};
use crate::keys::{Keystore, Label, Passphrase, Profile};
use crate::secret::SecretBytes;

const MESSAGE: [u8; 256] = [3; 256];
/// Items of a bulk call.
const BULK: usize = 64;
const SESSION_MS: u64 = 3_600_000;

/// A key service with one tenant, and the same keys' algorithms bare.
struct World {
    /// Whose implementation, and where the keys are: the end of each case's name.
    name: String,
    kms: Arc<LocalKms>,
    store: Handle,
    agent: Handle,
    tenant: TenantId,
    profile: Profile,
    provider: &'static dyn Provider,
    kem: Box<dyn KemKey>,
    signer: Box<dyn SigningKey>,
}

pub(super) async fn run(args: &BenchArgs, scratch: &TempDir, report: &mut Report<'_>) -> Result<()> {
    let mut opened = 0;
    let mut made = 0;
    let passphrase = || Passphrase::new(b"of a keystore that lives for one run".to_vec());
    for (at, provider) in [&AwsLc as &'static dyn Provider, &RustCrypto].into_iter().enumerate() {
        let unlock = Unlock::Passphrase(passphrase()?, KdfCost::INSECURE_FAST);
        let dir = scratch.path().join(format!("file{at}"));
        measure_all(args, report, (&dir, unlock, provider, provider.name()), (&mut opened, &mut made)).await?;
    }
    match &args.pkcs11_module {
        Some(module) => {
            let token = TokenConfig { module: module.clone(), label: args.pkcs11_token.clone() };
            let unlock = Unlock::Token(token, Passphrase::find(None, false)?);
            report.remark("the keystore's own keys stay in the token, the tenants' do not");
            let dir = scratch.path().join("token");
            measure_all(args, report, (&dir, unlock, &AwsLc, "pkcs11"), (&mut opened, &mut made)).await?;
        }
        None => report.remark("`--pkcs11-module FILE` and `--pkcs11-token LABEL` measure a token too"),
    }
    let case = Case { bench: "kms", case: "keys made on request".into(), unit: "keys", n: opened, bar: Some(0.0) };
    report.add(case, Pair { floor: opened as f64, ours: made as f64 })
}

/// Both post-quantum profiles of the default suite over one keystore. Counts sessions, and keys made on request.
async fn measure_all(
    args: &BenchArgs,
    report: &mut Report<'_>,
    (dir, unlock, provider, name): (&Path, Unlock, &'static dyn Provider, &str),
    (opened, made): (&mut usize, &mut usize),
) -> Result<()> {
    let keystore = Arc::new(Keystore::create(dir, provider, unlock, &SystemClock)?);
    let audit = Arc::new(super::redeem::log(dir)?);
    let kms = LocalKms::new(keystore, KmsOptions::default(), Arc::new(SystemClock), audit)?;
    let admin = kms.caller(Caller::new("bench", Role::Admin, Scope::All));
    for profile in [Profile::Pure, Profile::Hybrid] {
        let world = World::new(&kms, profile, provider, format!("{profile} {name}"))?;
        for n in args.sizes(&[64]) {
            *opened += world.measure(args, report, n).await?;
        }
        admin.shred(&world.tenant)?;
    }
    *made += usize::try_from(kms.counts().pool.generated_on_request).unwrap_or(usize::MAX);
    Ok(())
}

impl World {
    fn new(kms: &Arc<LocalKms>, profile: Profile, provider: &'static dyn Provider, name: String) -> Result<Self> {
        let handle = |role| kms.caller(Caller::new("bench", role, Scope::All));
        let tenant: TenantId = format!("bench-{profile}").parse()?;
        handle(Role::Admin).onboard(&tenant, profile, None)?;
        let seed = |len| SecretBytes::random(len);
        Ok(Self {
            name,
            kms: kms.clone(),
            store: handle(Role::Store),
            agent: handle(Role::Agent),
            tenant,
            profile,
            provider,
            kem: provider.kem_key(profile.kem(), &seed(profile.kem().seed_len())?)?,
            signer: provider.signing_key(profile.signature(), &seed(profile.signature().seed_len())?)?,
        })
    }

    /// Every operation, `n` calls a round. Returns how many sessions were opened.
    async fn measure(&self, args: &BenchArgs, report: &mut Report<'_>, n: usize) -> Result<usize> {
        let session = self.open_session()?;
        for items in [1, BULK] {
            self.encapsulate(args, report, n, items, &session).await?;
            self.sign_and_verify(args, report, n, items).await?;
            self.derive(args, report, n, items).await?;
        }
        // Each session takes one ciphertext, and again and again the same.
        let mut opened = 1;
        for items in [1, BULK] {
            opened += items;
            self.decapsulate(args, report, n, items).await?;
        }
        Ok(opened + self.sessions(args, report).await?)
    }

    async fn encapsulate(
        &self,
        args: &BenchArgs,
        report: &mut Report<'_>,
        n: usize,
        items: usize,
        session: &Session,
    ) -> Result<()> {
        let to = vec![Recipient::Credential(session.chain.clone()); items];
        let floor = || self.provider.kem_encapsulate(self.profile.kem(), self.kem.public_key()).map(|_| ());
        let ours = || all(self.agent.encapsulate(&self.tenant, &to)?);
        self.compare(args, report, ("encapsulate", n, items), floor, ours).await
    }

    async fn decapsulate(&self, args: &BenchArgs, report: &mut Report<'_>, n: usize, items: usize) -> Result<()> {
        let sessions: Vec<Session> = (0..items).map(|_| self.open_session()).collect::<Result<_>>()?;
        let to: Vec<_> = sessions.iter().map(|session| Recipient::Session(session.id)).collect();
        let sealed: Vec<_> = self.agent.encapsulate(&self.tenant, &to)?.into_iter().collect::<Result<_>>()?;
        let asked: Vec<_> = sealed
            .into_iter()
            .map(|sealed| Decapsulation { session: sealed.session, ciphertext: Some(sealed.ciphertext) })
            .collect();
        let (bare, _) = self.provider.kem_encapsulate(self.profile.kem(), self.kem.public_key())?;
        let floor = || self.kem.decapsulate(&bare).map(|_| ());
        let ours = || all(self.agent.decapsulate(&self.tenant, &asked)?);
        self.compare(args, report, ("decapsulate", n, items), floor, ours).await
    }

    async fn sign_and_verify(&self, args: &BenchArgs, report: &mut Report<'_>, n: usize, items: usize) -> Result<()> {
        let messages = vec![&MESSAGE[..]; items];
        let floor = || self.signer.sign(b"", &MESSAGE).map(|_| ());
        let ours = || all(self.agent.sign(&self.tenant, &messages)?);
        self.compare(args, report, ("sign", n, items), floor, ours).await?;
        let signatures: Vec<_> = self.agent.sign(&self.tenant, &messages)?.into_iter().collect::<Result<_>>()?;
        let signed: Vec<_> =
            signatures.iter().map(|signature| Signed { message: &MESSAGE, signature: signature.as_slice() }).collect();
        let bare = self.signer.sign(b"", &MESSAGE)?;
        let (algorithm, key) = (self.profile.signature(), self.signer.public_key());
        let floor = || self.provider.verify(algorithm, key, b"", &MESSAGE, &bare);
        let ours = || all(self.agent.verify(&self.tenant, &signed)?);
        self.compare(args, report, ("verify", n, items), floor, ours).await
    }

    async fn derive(&self, args: &BenchArgs, report: &mut Report<'_>, n: usize, items: usize) -> Result<()> {
        let asked = vec![DekRequest { label: Label::VectorStore, epoch: Epoch::FIRST, scope: vec![7; 16] }; items];
        let prk = self.provider.hkdf_extract(Kdf::HkdfSha3_512, b"bench", &[5; 32]);
        let info = Label::VectorStore.info(self.profile.suite(), Epoch::FIRST, &[7; 16]);
        let floor = || self.provider.hkdf_expand(Kdf::HkdfSha3_512, &prk, &info, &mut [0; 32]);
        let ours = || all(self.store.derive_deks(&self.tenant, &asked)?);
        self.compare(args, report, ("derive", n, items), floor, ours).await
    }

    /// Opening a session: a key that is there, a credential to sign, a file to write. Against the signature alone.
    async fn sessions(&self, args: &BenchArgs, report: &mut Report<'_>) -> Result<usize> {
        let rounds = args.rounds();
        let times = take_turns(
            rounds,
            async |_| timed(1, 1, || self.signer.sign(b"", &MESSAGE).map(|_| ())),
            async |_| timed(1, 1, || self.open_session().map(|_| ())),
        );
        let case = format!("open session {}", self.name);
        let pair = times.await?.percentile(50, Duration::from_micros(1));
        report.add(Case { bench: "kms", case, unit: "µs", n: rounds, bar: None }, pair)?;
        Ok(rounds)
    }

    async fn compare(
        &self,
        args: &BenchArgs,
        report: &mut Report<'_>,
        (what, n, items): (&str, usize, usize),
        floor: impl Fn() -> Result<()>,
        ours: impl Fn() -> Result<()>,
    ) -> Result<()> {
        let calls = (n / items).max(1);
        let times = take_turns(
            args.rounds(),
            async |_| timed(calls, items, || (0..items).try_for_each(|_| floor())),
            async |_| timed(calls, items, &ours),
        );
        let pair = times.await?.percentile(50, Duration::from_micros(1));
        let case = format!("{what} {} ×{items}", self.name);
        report.add(Case { bench: "kms", case, unit: "µs", n: calls * items, bar: None }, pair)
    }

    /// Waits for the pool where a caller would try again.
    fn open_session(&self) -> Result<Session> {
        while self.kms.session_keys_ready(self.profile.kem()) == 0 {
            std::thread::sleep(Duration::from_millis(1));
        }
        self.agent.open_session(&self.tenant, &"bench".parse()?, SESSION_MS)
    }
}

/// Every item has to have succeeded.
fn all<T>(results: Vec<Result<T>>) -> Result<()> {
    results.into_iter().try_for_each(|result| result.map(|_| ()))
}

/// How long one item of `calls` calls of `items` takes.
fn timed(calls: usize, items: usize, call: impl Fn() -> Result<()>) -> Result<Duration> {
    let start = Instant::now();
    (0..calls).try_for_each(|_| call())?;
    let seconds = start.elapsed().as_secs_f64() / (calls * items) as f64;
    Duration::try_from_secs_f64(seconds).map_err(|e| Error::internal("a time").with_source(e))
}
