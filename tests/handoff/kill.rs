//! A sidecar that is killed while it redeems: a token for one use is answered at most once, whenever that happens.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use rustix::process::getuid;
use strongroom::ErrorKind;
use strongroom::clock::{Clock as _, SystemClock};
use strongroom::crypto::default_provider;
use strongroom::keys::certificate::SignerUse;
use strongroom::keys::{Keyring, Profile, Signer, Signers};
use strongroom::server::{Address, RemoteKms, RemoteOptions};
use strongroom::sidecar::{Client, ClientOptions, Wanted};
use strongroom::token::{Form, Holder, MintRequest, Operation, mint, seal_context};

use crate::common::cli::Cli;
use crate::common::service::Service;

const TENANT: &str = "acme";
const ROUNDS: usize = 14;
const TOKENS: usize = 60;

/// What is redeemed: a token for one use, and its record.
struct Ticket {
    token: Vec<u8>,
    issuer: Vec<Vec<u8>>,
    wanted: Vec<Wanted>,
    answered: AtomicUsize,
}

struct Issuer {
    signer: Arc<Signer>,
    keyring: Keyring,
}

impl Issuer {
    fn ticket(&self, holder: &Holder) -> Arc<Ticket> {
        let (provider, tenant) = (default_provider(), TENANT.parse().unwrap());
        let record = seal_context(&self.keyring, b"once").unwrap();
        let wanted = Wanted::all(provider, &tenant, &[record]);
        let request = MintRequest {
            audience: &"sidecar".parse().unwrap(),
            holder: &holder.id().unwrap(),
            operation: Operation::Decrypt,
            records: &[wanted[0].asked.digest],
            max_uses: 1,
            life_ms: 300_000,
        };
        let token = mint(provider, &self.signer, &request, SystemClock.now_ms()).unwrap().as_bytes().to_vec();
        Arc::new(Ticket { token, issuer: self.signer.chain().to_vec(), wanted, answered: AtomicUsize::new(0) })
    }
}

fn client(socket: &str) -> Client {
    let options = ClientOptions {
        address: socket.parse::<Address>().unwrap(),
        own: None,
        servers: Default::default(),
        audience: "sidecar".parse().unwrap(),
        form: Form::Clear,
        deadline_ms: 10_000,
    };
    Client::new(options, Holder::generate(default_provider(), Profile::Hybrid).unwrap()).unwrap()
}

/// Tries every ticket at once, each twice, and counts the answers.
async fn redeem_all(client: &Client, tickets: &[Arc<Ticket>]) {
    let tries: Vec<_> = tickets
        .iter()
        .chain(tickets)
        .map(|ticket| {
            let (client, ticket) = (client.clone(), ticket.clone());
            tokio::spawn(async move {
                match client.redeem(&ticket.token, &ticket.issuer, &ticket.wanted).await {
                    Ok(records) => {
                        assert_eq!(records[0].content.expose_secret(), b"once");
                        ticket.answered.fetch_add(1, Ordering::SeqCst);
                    }
                    // Refused, or cut off: whoever was not answered got nothing.
                    Err(e) => assert!(
                        matches!(e.kind(), ErrorKind::Denied | ErrorKind::Unavailable | ErrorKind::Internal),
                        "{e}"
                    ),
                }
            })
        })
        .collect();
    for one in tries {
        one.await.unwrap();
    }
}

#[test]
fn a_token_for_one_use_is_answered_at_most_once_whenever_the_sidecar_is_killed() {
    let keys = Cli::new();
    keys.ok(&["tenant", "create", TENANT]);
    let uid = getuid().as_raw();
    let service =
        |role: &str| format!("[[service]]\nname = \"s\"\nrole = \"{role}\"\ntenants = [\"*\"]\nuid = {uid}\n");
    let at = |name: &str| format!("unix:{}", keys.root.path().join(name).display());
    let (kms_at, sidecar_at) = (at("kms.sock"), at("sidecar.sock"));
    let services = keys.file("kms.toml", service("store"));
    let kms = Service::start(&keys, &["kms", "serve", "--listen", &kms_at, "--services", &services]);
    let services = keys.file("sidecar.toml", service("node"));
    let cli = Cli { passphrase: String::new(), ..Cli::bare() };
    std::fs::create_dir(&cli.dir).unwrap();
    std::fs::write(cli.dir.join("strongroom.toml"), format!("kms = \"{kms_at}\"\n")).unwrap();
    let start = || Service::start(&cli, &["sidecar", "serve", "--listen", &sidecar_at, "--services", &services]);

    let remote = Arc::new(RemoteKms::new(RemoteOptions::new(kms_at.parse().unwrap())).unwrap());
    let tenant = TENANT.parse().unwrap();
    let clock = Arc::new(SystemClock);
    let signers = Signers::new(remote.clone(), default_provider(), clock, "test".parse().unwrap(), SignerUse::Tokens);
    let issuer = Issuer {
        signer: signers.of(&tenant).unwrap(),
        keyring: Keyring::open(&*remote, default_provider(), &tenant).unwrap(),
    };
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
    let mut seen: HashMap<&str, usize> = HashMap::new();
    let mut running = start();
    for round in 0..ROUNDS {
        let client = runtime.block_on(async { client(&sidecar_at) });
        let tickets: Vec<_> = (0..TOKENS).map(|_| issuer.ticket(client.holder())).collect();
        let redeeming = {
            let (client, tickets) = (client.clone(), tickets.clone());
            runtime.spawn(async move { redeem_all(&client, &tickets).await })
        };
        // From before the first to after the last answer, whatever the machine.
        let answered = || tickets.iter().map(|ticket| ticket.answered.load(Ordering::SeqCst)).sum::<usize>();
        while answered() < round * TOKENS / ROUNDS && !redeeming.is_finished() {
            std::thread::sleep(Duration::from_micros(200));
        }
        running.kill();
        runtime.block_on(redeeming).unwrap();
        let before = answered();
        running = start();
        runtime.block_on(redeem_all(&client, &tickets));
        for (at, ticket) in tickets.iter().enumerate() {
            let times = ticket.answered.load(Ordering::SeqCst);
            assert!(times <= 1, "round {round}: ticket {at} was answered {times} times");
        }
        *seen.entry("before the kill").or_default() += before;
        *seen.entry("after the restart").or_default() += answered() - before;
        *seen.entry("counted, and never answered").or_default() += TOKENS - answered();
    }
    // Nothing was revealed without its event.
    let log = crate::common::audit::lines(&cli.dir.join("sidecar"));
    let (redeemed, answers) =
        (log.matches("\"type\":\"redeemed\"").count(), seen["before the kill"] + seen["after the restart"]);
    assert!(redeemed >= answers, "{answers} answers, {redeemed} in the log");
    println!("{ROUNDS} kills, {} tokens: {seen:?}", ROUNDS * TOKENS);
    assert!(seen["before the kill"] > 0 && seen["after the restart"] > 0, "{seen:?}");
    drop((running, kms));
}
