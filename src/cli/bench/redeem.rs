//! `redeem` and `hop`: a capability token from minting to plaintext, against its primitives by the same provider.
//!
//! In process, over a Unix socket, and over TLS with X25519MLKEM768 and certificates on both sides.

use std::hint::black_box;
use std::sync::Arc;
use std::time::{Duration, Instant};

use tempfile::TempDir;
use tokio::sync::oneshot;

use super::BenchArgs;
use super::report::{Case, Pair, Report, take_turns, timed};
use crate::audit::log::{KeyKeeper, LOG_DIR, Log, LogOptions};
use crate::audit::{AuditSink, Discard};
use crate::clock::{Clock as _, SystemClock};
use crate::crypto::{Provider, default_provider};
use crate::disk::DataDir;
use crate::error::{Error, Result};
use crate::id::TenantId;
use crate::keys::certificate::SignerUse;
use crate::keys::keystore::Unlock;
use crate::keys::keystore::file::KdfCost;
use crate::keys::kms::{Caller, Handle, KeyAdmin as _, KmsOptions, LocalKms, Role, Scope};
use crate::keys::{Keyring, Keystore, Passphrase, Profile, Signer, Signers};
use crate::kv::rocks::Rocks;
use crate::secret::SecretBytes;
use crate::server::{self, Address, Counts, Listener, Own, Services};
use crate::sidecar::{
    Client, ClientOptions, RedeemRequest, Sidecar, SidecarOptions, SidecarParts, Token, Wanted, routes,
};
use crate::token::{
    Asked, Audience, Form, HandoffRecord, Holder, HolderContact, HolderId, Ledger, MintRequest, Operation, mint,
    seal_context,
};

const RECORD_BYTES: usize = 2048;
const CONTEXT_BYTES: usize = 8192;
const US: Duration = Duration::from_micros(1);

/// A key service, a store's keys and a sidecar, with one tenant and one holder.
pub(super) struct World {
    provider: &'static dyn Provider,
    signer: Arc<Signer>,
    keyring: Keyring,
    sidecar: Arc<Sidecar>,
    audience: Audience,
    holder: Holder,
    contact: HolderContact,
    node: Caller,
}

pub(super) async fn redeem(args: &BenchArgs, scratch: &TempDir, report: &mut Report<'_>) -> Result<()> {
    for n in args.sizes(&[2_000]) {
        for profile in [Profile::Pure, Profile::Hybrid] {
            let world = World::new(scratch, profile, n)?;
            world.first(args, report, n).await?;
            world.cached(args, report, n).await?;
            world.remote(args, report, scratch, n.min(2_000)).await?;
        }
    }
    Ok(())
}

pub(super) async fn hop(args: &BenchArgs, scratch: &TempDir, report: &mut Report<'_>) -> Result<()> {
    for n in args.sizes(&[2_000]) {
        for profile in [Profile::Pure, Profile::Hybrid] {
            World::new(scratch, profile, n)?.hop(args, report, n).await?;
        }
    }
    Ok(())
}

impl World {
    fn new(scratch: &TempDir, profile: Profile, n: usize) -> Result<Self> {
        Self::with(scratch, profile, &format!("{profile}-{n}"), true)
    }

    /// The same in a directory called `name`, and with or without an audit log of the redeems.
    pub(super) fn with(scratch: &TempDir, profile: Profile, name: &str, audited: bool) -> Result<Self> {
        let provider = default_provider();
        let dir = scratch.path().join(name);
        let passphrase = Passphrase::new(b"of a keystore that lives for one run".to_vec())?;
        let unlock = Unlock::Passphrase(passphrase, KdfCost::INSECURE_FAST);
        let keystore = Arc::new(Keystore::create(&dir.join("keys"), provider, unlock, &SystemClock)?);
        let clock = Arc::new(SystemClock);
        let audit = Arc::new(log(&dir.join("keys"))?);
        let kms = LocalKms::new(keystore, KmsOptions::default(), clock.clone(), audit)?;
        let of = |role| Arc::new(kms.caller(Caller::new("bench", role, Scope::All)));
        let tenant: TenantId = "bench".parse()?;
        of(Role::Admin).onboard(&tenant, profile, None)?;
        let (store, keys) = (of(Role::Store), of(Role::Sidecar));
        let signers = Signers::new(store.clone(), provider, clock.clone(), "bench".parse()?, SignerUse::Tokens);
        let sidecar = Arc::new(sidecar(&dir, keys, audited)?);
        let (holder, node) = (Holder::generate(provider, profile)?, Caller::new("node", Role::Node, Scope::All));
        let hello = holder.hello()?;
        let contact = holder.meet(sidecar.audience(), &hello, &sidecar.contact(&node, &hello)?)?;
        let (signer, keyring) = (signers.of(&tenant)?, Keyring::open(&*store, provider, &tenant)?);
        while !sidecar.is_ready() {
            std::thread::sleep(Duration::from_millis(20));
        }
        Ok(Self { provider, signer, keyring, audience: sidecar.audience().clone(), sidecar, holder, contact, node })
    }

    fn mint(&self, holder: &HolderId, record: &HandoffRecord, max_uses: u32) -> Result<Vec<u8>> {
        let records = [record.digest(self.provider, self.signer.tenant())];
        let (audience, operation) = (&self.audience, Operation::Decrypt);
        let request = MintRequest { audience, holder, operation, records: &records, max_uses, life_ms: 300_000 };
        Ok(mint(self.provider, &self.signer, &request, SystemClock.now_ms())?.as_bytes().to_vec())
    }

    /// What a holder sends: proof and all.
    fn request(&self, token: Token, digest: &[u8; 32], record: &HandoffRecord) -> RedeemRequest {
        let records = Wanted::all(self.provider, self.signer.tenant(), std::slice::from_ref(record));
        let asked: Vec<Asked> = records.iter().map(|wanted| wanted.asked.clone()).collect();
        let proof = self.contact.prove(digest, &asked, Form::Clear);
        RedeemRequest { contact: *self.contact.id(), proof, token, form: Form::Clear, records }
    }

    fn whole(&self, bytes: Vec<u8>) -> Token {
        Token::Whole { bytes, issuer: self.signer.chain().to_vec() }
    }

    /// One redeem of each of `n` tokens that nobody has seen.
    pub(super) fn redeem_new(&self, n: usize) -> Result<Duration> {
        let record = seal_context(&self.keyring, &[3; RECORD_BYTES])?;
        let id = self.holder.id()?;
        let mut requests = Vec::with_capacity(n);
        for _ in 0..n {
            let bytes = self.mint(&id, &record, 1)?;
            let digest = self.provider.sha256(&[&bytes]);
            requests.push(self.request(self.whole(bytes), &digest, &record));
        }
        let mut requests = requests.iter();
        timed(n, || match requests.next() {
            Some(request) => self.sidecar.redeem(&self.node, true, request).map(drop),
            None => Err(Error::internal("too few requests")),
        })
    }

    /// `n` redeems of one token that was seen before.
    pub(super) fn redeem_again(&self, n: usize) -> Result<Duration> {
        let record = seal_context(&self.keyring, &[3; RECORD_BYTES])?;
        let token = self.mint(&self.holder.id()?, &record, 1_000_000)?;
        let digest = self.provider.sha256(&[&token]);
        self.sidecar.redeem(&self.node, true, &self.request(self.whole(token), &digest, &record))?;
        let requests: Vec<_> = (0..n).map(|_| self.request(Token::Known(digest), &digest, &record)).collect();
        let mut requests = requests.iter();
        timed(n, || match requests.next() {
            Some(request) => self.sidecar.redeem(&self.node, true, request).map(drop),
            None => Err(Error::internal("too few requests")),
        })
    }

    /// The time of each of `n` redeems of one token by a client over a Unix socket: by turns of `self` and of `other`.
    pub(super) async fn over_unix_beside(
        &self,
        other: &Self,
        scratch: [&TempDir; 2],
        n: usize,
    ) -> Result<Pair<Vec<Duration>>> {
        let [mut floor, mut ours] =
            [OverUnix::start(self, scratch[0]).await?, OverUnix::start(other, scratch[1]).await?];
        let mut times = Pair::<Vec<Duration>>::default();
        for _ in 0..n {
            times.floor.push(floor.redeem(self).await?);
            times.ours.push(ours.redeem(other).await?);
        }
        floor.running.end().await?;
        ours.running.end().await?;
        Ok(times)
    }

    /// One redeem of each of `n` tokens that the sidecar has not seen, against verifying as many signatures.
    async fn first(&self, args: &BenchArgs, report: &mut Report<'_>, n: usize) -> Result<()> {
        let message = [7; 512];
        let signature = self.signer.sign(&message)?;
        let (algorithm, key) = (self.signer.algorithm(), self.signer.public_key());
        let floor = async |_| {
            timed(n, || self.provider.verify(algorithm, key, b"", black_box(&message), black_box(&signature)))
        };
        let ours = async |_| self.redeem_new(n);
        let times = take_turns(args.rounds(), floor, ours).await?.percentile(50, US);
        let case = format!("first {} 2 KiB", self.holder.profile());
        report.add(Case { bench: "redeem", case, unit: "µs", n, bar: Some(1.5) }, times)
    }

    /// A token redeemed again and again, against opening the record alone: the bar is 20 µs, 50 000 a second and core.
    async fn cached(&self, args: &BenchArgs, report: &mut Report<'_>, n: usize) -> Result<()> {
        let plain = [3; RECORD_BYTES];
        let aead = self.holder.profile().suite().aead();
        let key = self.provider.aead(aead, &crate::secret::Secret::random()?)?;
        let mut sealed = Vec::new();
        key.seal(&[9; 12], &[5; 64], &plain, &mut sealed)?;
        let times = take_turns(
            args.rounds(),
            async |_| timed(n, || key.open(&[9; 12], &[5; 64], black_box(&sealed)).map(drop)),
            async |_| self.redeem_again(n),
        );
        let times = times.await?.percentile(50, US);
        let case = format!("cached {} 2 KiB", self.holder.profile());
        let most_us = 1e6 / 50_000.0;
        let rate = Pair { floor: most_us, ours: times.ours };
        report.add(Case { bench: "redeem", case: case.clone(), unit: "µs", n, bar: None }, times)?;
        let case = format!("{case}, of 20 µs");
        report.add(Case { bench: "redeem", case, unit: "µs", n, bar: Some(1.0) }, rate)
    }

    /// A context window sealed, a token for it minted, and both redeemed, against the sum of its primitives.
    async fn hop(&self, args: &BenchArgs, report: &mut Report<'_>, n: usize) -> Result<()> {
        let context = vec![3; CONTEXT_BYTES];
        let id = self.holder.id()?;
        let (algorithm, public) = (self.signer.algorithm(), self.signer.public_key());
        let key = self.provider.aead(self.holder.profile().suite().aead(), &crate::secret::Secret::random()?)?;
        let (mut floors, mut ours) = (Vec::new(), Vec::new());
        for _ in 0..args.rounds() {
            for _ in 0..n {
                let started = Instant::now();
                let mut sealed = Vec::new();
                key.seal(&[9; 12], &[5; 64], black_box(&context), &mut sealed)?;
                let signature = self.signer.sign(black_box(&[7; 512]))?;
                self.provider.verify(algorithm, public, b"", &[7; 512], &signature)?;
                drop(black_box(key.open(&[9; 12], &[5; 64], &sealed)?));
                floors.push(started.elapsed());
                let started = Instant::now();
                let record = seal_context(&self.keyring, black_box(&context))?;
                let bytes = self.mint(&id, &record, 1)?;
                let digest = self.provider.sha256(&[&bytes]);
                let request = self.request(self.whole(bytes), &digest, &record);
                drop(black_box(self.sidecar.redeem(&self.node, true, &request)?));
                ours.push(started.elapsed());
            }
        }
        let times = Pair { floor: floors, ours };
        let p50 = times.percentile(50, US);
        let half = Pair { floor: 500.0, ours: p50.ours };
        let case = format!("{} 8 KiB p50", self.holder.profile());
        report.add(Case { bench: "hop", case: case.clone(), unit: "µs", n, bar: None }, p50)?;
        report.add(Case { bench: "hop", case: format!("{case}, of 500 µs"), unit: "µs", n, bar: Some(1.0) }, half)?;
        let case = format!("{} 8 KiB p99", self.holder.profile());
        report.add(Case { bench: "hop", case, unit: "µs", n, bar: None }, times.percentile(99, US))
    }

    /// The same redeems by a client over a Unix socket and over TLS, one after the other: against those in process.
    async fn remote(&self, args: &BenchArgs, report: &mut Report<'_>, scratch: &TempDir, n: usize) -> Result<()> {
        let plain = SecretBytes::new(vec![3; RECORD_BYTES]);
        let record = seal_context(&self.keyring, plain.expose_secret())?;
        for (name, form) in [("unix", Form::Clear), ("tls", Form::Sealed)] {
            let mut running = Running::start(self, scratch, name).await?;
            let client = running.client(self, form)?;
            let token = self.mint(&client.holder().id()?, &record, 1_000_000)?;
            let wanted = Wanted::all(self.provider, self.signer.tenant(), std::slice::from_ref(&record));
            client.redeem(&token, self.signer.chain(), &wanted).await?;
            let own = self.mint(&self.holder.id()?, &record, 1_000_000)?;
            let digest = self.provider.sha256(&[&own]);
            self.sidecar.redeem(&self.node, true, &self.request(self.whole(own), &digest, &record))?;
            let (mut floors, mut ours) = (Vec::new(), Vec::new());
            for _ in 0..args.rounds() * n / 10 {
                let request = self.request(Token::Known(digest), &digest, &record);
                let started = Instant::now();
                drop(black_box(self.sidecar.redeem(&self.node, true, &request)?));
                floors.push(started.elapsed());
                let started = Instant::now();
                drop(black_box(client.redeem(&token, self.signer.chain(), &wanted).await?));
                ours.push(started.elapsed());
            }
            let times = Pair { floor: floors, ours };
            for percent in [50, 99] {
                let case = format!("cached {} 2 KiB over {name} p{percent}", self.holder.profile());
                report.add(Case { bench: "redeem", case, unit: "µs", n, bar: None }, times.percentile(percent, US))?;
            }
            running.end().await?;
        }
        Ok(())
    }
}

/// A client, with a token that the sidecar knows.
struct OverUnix {
    running: Running,
    client: Client,
    token: Vec<u8>,
    wanted: Vec<Wanted>,
}

impl OverUnix {
    async fn start(world: &World, scratch: &TempDir) -> Result<Self> {
        let record = seal_context(&world.keyring, &[3; RECORD_BYTES])?;
        let mut running = Running::start(world, scratch, "unix").await?;
        let client = running.client(world, Form::Clear)?;
        let token = world.mint(&client.holder().id()?, &record, 1_000_000)?;
        let wanted = Wanted::all(world.provider, world.signer.tenant(), std::slice::from_ref(&record));
        let mut this = Self { running, client, token, wanted };
        this.redeem(world).await?;
        Ok(this)
    }

    async fn redeem(&mut self, world: &World) -> Result<Duration> {
        let started = Instant::now();
        drop(black_box(self.client.redeem(&self.token, world.signer.chain(), &self.wanted).await?));
        Ok(started.elapsed())
    }
}

/// The sidecar at a socket, until it is told to stop.
struct Running {
    address: Address,
    own: Option<(Own, [u8; 32])>,
    stop: oneshot::Sender<()>,
    ended: tokio::task::JoinHandle<Result<()>>,
}

impl Running {
    async fn start(world: &World, scratch: &TempDir, name: &str) -> Result<Self> {
        let entry = |identity: String| {
            let entry = format!("[[service]]\nname = \"n\"\nrole = \"node\"\ntenants = [\"*\"]\n{identity}\n");
            entry.parse::<Services>()
        };
        let (address, services, server, own) = if name == "tls" {
            let (server, client) = (party(scratch, "server")?, party(scratch, "client")?);
            let services = entry(format!("certificate_sha256 = \"{}\"", crate::token::Digest::from(client.sha256())))?;
            let pin = server.sha256();
            (Address::Tcp("127.0.0.1:0".to_owned()), services, Some(server), Some((client, pin)))
        } else {
            let uid = rustix::process::getuid().as_raw();
            let path = scratch.path().join("sidecar.sock");
            (Address::Unix(path), entry(format!("uid = {uid}"))?, None, None)
        };
        let listener = Listener::bind(&address, server, Arc::new(services)).await?;
        let (stop, stopped) = oneshot::channel();
        let address = listener.address().clone();
        let routes = routes(world.sidecar.clone()).await;
        let until = async { drop(stopped.await) };
        let serving = server::serve(listener, routes, Arc::new(|_| Ok(())), Arc::new(Counts::default()), until);
        Ok(Self { address, own, stop, ended: tokio::spawn(serving) })
    }

    fn client(&mut self, world: &World, form: Form) -> Result<Client> {
        let (own, pin) = self.own.take().unzip();
        let options = ClientOptions {
            address: self.address.clone(),
            own,
            servers: pin.into_iter().collect(),
            audience: world.audience.clone(),
            form,
            deadline_ms: 10_000,
        };
        Client::new(options, Holder::generate(world.provider, world.holder.profile())?)
    }

    async fn end(self) -> Result<()> {
        // Nobody hears it only when it has ended already.
        let _ = self.stop.send(());
        self.ended.await.map_err(|e| Error::internal("the sidecar").with_source(e))?
    }
}

/// An audit log as a sidecar has it.
pub(super) fn log(dir: &std::path::Path) -> Result<Log> {
    Log::open(&dir.join(LOG_DIR), KeyKeeper::File, LogOptions::default(), Arc::new(SystemClock))
}

fn sidecar(dir: &std::path::Path, keys: Arc<Handle>, audited: bool) -> Result<Sidecar> {
    let audit: Arc<dyn AuditSink> = if audited { Arc::new(log(&dir.join("sidecar"))?) } else { Arc::new(Discard) };
    let disk = Arc::new(DataDir::hold(&dir.join("sidecar"), 0)?);
    let clock = Arc::new(SystemClock);
    let rocks = Rocks::open(&disk.subdir("db")?, disk.clone(), 64 << 20, clock.clone(), |_, _| false)?;
    // As fast as one core goes: the default is a share of a machine.
    let options = SidecarOptions { tenant_rate: u32::MAX, ..SidecarOptions::default() };
    Sidecar::new(SidecarParts {
        kms: keys.clone(),
        keys,
        provider: default_provider(),
        audit,
        ledger: Ledger::open(Arc::new(rocks), "bench", clock.now_ms())?,
        audience: "bench".parse()?,
        clock,
        source: None,
        options,
    })
}

/// A certificate of its own.
fn party(scratch: &TempDir, name: &str) -> Result<Own> {
    let made = || -> Result<_, rcgen::Error> {
        let key = rcgen::KeyPair::generate_for(&rcgen::PKCS_ECDSA_P384_SHA384)?;
        Ok((rcgen::CertificateParams::new(vec![format!("{name}.bench")])?.self_signed(&key)?, key))
    };
    let (cert, key) = made().map_err(|e| Error::internal("a certificate for the run").with_source(e))?;
    let [cert_file, key_file] = ["pem", "key"].map(|end| scratch.path().join(format!("{name}.{end}")));
    std::fs::write(&cert_file, cert.pem())?;
    std::fs::write(&key_file, key.serialize_pem())?;
    Own::load(&cert_file, &key_file)
}
