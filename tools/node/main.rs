//! A tiny inference node: holds a key of its own and nothing else, and has what it is handed opened by a sidecar.
//!
//! It prints the thumbprint of its key. For every line on standard input, which is what `strongroom search --seal-for …`
//! or `strongroom context seal …` printed, it prints a line of JSON with what it got. It ends with its input.

use std::io::{BufRead as _, Write as _};
use std::path::PathBuf;
use std::process::ExitCode;

use clap::Parser;
use serde_json::{Value, json};
use strongroom::crypto::default_provider;
use strongroom::keys::Profile;
use strongroom::server::{Address, Own};
use strongroom::sidecar::{Client, ClientOptions, Redeemed, Wanted};
use strongroom::token::{Audience, Bundle, Form, Holder};

/// As in the program itself: what is freed is erased.
#[global_allocator]
static ALLOCATOR: zeroizing_alloc::ZeroAlloc<std::alloc::System> = zeroizing_alloc::ZeroAlloc(std::alloc::System);

#[derive(Parser)]
struct Args {
    /// Where the sidecar listens: `unix:/path` or `tcp:host:port`
    #[arg(long)]
    sidecar: Address,
    /// What tokens call it
    #[arg(long, default_value = "sidecar")]
    audience: Audience,
    /// The profile of the tenants whose tokens it gets
    #[arg(long, default_value = "hybrid")]
    profile: Profile,
    /// Have records answered in clear, on a Unix socket
    #[arg(long)]
    clear: bool,
    /// Do not send the records, name them only
    #[arg(long)]
    named: bool,
    /// Print the SHA-256 of what was opened instead
    #[arg(long)]
    digest: bool,
    /// Over tcp: its certificate (PEM)
    #[arg(long, requires = "tls_key")]
    tls_cert: Option<PathBuf>,
    /// Over tcp: the key of that (PEM)
    #[arg(long)]
    tls_key: Option<PathBuf>,
    /// Over tcp: SHA-256 of the sidecar's certificate
    #[arg(long)]
    server_sha256: Option<strongroom::token::Digest>,
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> ExitCode {
    match run(Args::parse()).await {
        Ok(()) => ExitCode::SUCCESS,
        Err(e) => {
            eprintln!("error: {e}");
            ExitCode::from(e.kind().exit_code())
        }
    }
}

async fn run(args: Args) -> strongroom::Result<()> {
    let own = match (&args.tls_cert, &args.tls_key) {
        (Some(certificate), Some(key)) => Some(Own::load(certificate, key)?),
        _ => None,
    };
    let options = ClientOptions {
        address: args.sidecar.clone(),
        own,
        server_sha256: args.server_sha256.iter().map(|digest| *digest.as_bytes()).collect(),
        audience: args.audience.clone(),
        form: if args.clear { Form::Clear } else { Form::Sealed },
        deadline_ms: 10_000,
    };
    let client = Client::new(options, Holder::generate(default_provider(), args.profile)?)?;
    println!("{}", client.holder().id()?);
    for line in std::io::stdin().lock().lines() {
        let answer = match redeem(&client, &args, &line?).await {
            Ok(records) => json!({ "records": records }),
            Err(e) => json!({"error": e.kind().as_str(), "message": e.to_string()}),
        };
        println!("{answer}");
        std::io::stdout().flush()?;
    }
    Ok(())
}

async fn redeem(client: &Client, args: &Args, line: &str) -> strongroom::Result<Vec<Value>> {
    let bundle = Bundle::from_json(line.as_bytes())?;
    let mut wanted = Wanted::all(default_provider(), &bundle.tenant()?, &bundle.records());
    if args.named {
        wanted.iter_mut().for_each(|wanted| wanted.sealed = None);
    }
    let redeemed = client.redeem(&bundle.token.0, &bundle.issuer(), &wanted).await?;
    Ok(redeemed.iter().map(|record| show(record, args.digest)).collect())
}

fn show(record: &Redeemed, digest: bool) -> Value {
    let content = record.content.expose_secret();
    if digest {
        let digest = strongroom::token::Digest::from(default_provider().sha256(&[content]));
        return json!({ "sha256": digest.to_string() });
    }
    let metadata = record.metadata.as_ref().and_then(|m| serde_json::from_slice::<Value>(m.expose_secret()).ok());
    json!({"kind": record.kind, "content": String::from_utf8_lossy(content), "metadata": metadata})
}
