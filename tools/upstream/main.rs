//! A stand-in for a Qdrant server, for tests of the `server` engine: Qdrant's gRPC services straight over `qdrant-edge`,
//! without sealing. What it takes for granted of a real server is written down in `README.md` beside it.
//!
//! It prints where it listens. On standard input it takes orders to misbehave (`faults`), and with `--until-eof` it ends
//! with its input.

mod collection;
mod collections;
mod convert;
mod faults;
mod listen;
mod points;
mod shelf;

use std::io::{BufRead as _, Write as _};
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use clap::Parser;
use qdrant_client::qdrant::collections_server::CollectionsServer;
use qdrant_client::qdrant::points_server::PointsServer;
use qdrant_client::qdrant::qdrant_server::{Qdrant, QdrantServer};
use qdrant_client::qdrant::{HealthCheckReply, HealthCheckRequest};
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::watch;
use tonic::service::Interceptor;
use tonic::transport::Server;
use tonic::{Request, Response, Status};

use faults::Faults;
use shelf::Shelf;

/// The largest message that is taken: a Qdrant server has no limit of its own.
const MESSAGE_BYTES: usize = 256 << 20;
/// How often what was written is put on disk, and the logs cut.
const FLUSH: Duration = Duration::from_millis(500);

#[derive(Parser)]
struct Args {
    /// Where its collections are [default: a temporary directory, removed at the end]
    #[arg(long)]
    dir: Option<PathBuf>,
    /// The port on the loopback interface; 0 takes one that is free
    #[arg(long, default_value_t = 0)]
    port: u16,
    /// The version that it says it has
    #[arg(long, default_value = "1.16.3")]
    says_version: String,
    /// Take only calls with this API key
    #[arg(long)]
    api_key: Option<String>,
    /// Speak TLS, with this certificate (PEM)
    #[arg(long, requires = "tls_key")]
    tls_cert: Option<PathBuf>,
    /// Its key (PEM)
    #[arg(long)]
    tls_key: Option<PathBuf>,
    /// Offer classical key exchanges only, as many servers do
    #[arg(long)]
    classical: bool,
    /// Build search graphs while nothing is written
    #[arg(long)]
    optimize: bool,
    /// End when standard input does
    #[arg(long)]
    until_eof: bool,
    /// Orders to begin with, as they are given on standard input
    #[arg(long, value_name = "ORDER")]
    order: Vec<String>,
}

/// Says that it lives, and which version it is.
struct Health {
    version: String,
    faults: Faults,
}

#[tonic::async_trait]
impl Qdrant for Health {
    async fn health_check(&self, _: Request<HealthCheckRequest>) -> Result<Response<HealthCheckReply>, Status> {
        self.faults.pass().await?;
        let title = "qdrant - vector search engine".to_owned();
        Ok(Response::new(HealthCheckReply { title, version: self.version.clone(), commit: None }))
    }
}

/// Lets calls through that have the API key.
#[derive(Clone)]
struct KeyCheck(Option<Arc<str>>);

impl Interceptor for KeyCheck {
    fn call(&mut self, request: Request<()>) -> Result<Request<()>, Status> {
        let given = request.metadata().get("api-key").and_then(|key| key.to_str().ok());
        match &self.0 {
            Some(key) if given != Some(key) => Err(Status::unauthenticated("Invalid API key or JWT")),
            _ => Ok(request),
        }
    }
}

#[tokio::main]
async fn main() -> ExitCode {
    match run(Args::parse()).await {
        Ok(()) => ExitCode::SUCCESS,
        Err(e) => {
            eprintln!("error: {e}");
            ExitCode::FAILURE
        }
    }
}

async fn run(args: Args) -> Result<(), Box<dyn std::error::Error>> {
    let faults = Faults::default();
    for order in &args.order {
        faults.order(order)?;
    }
    let temporary = tempfile::tempdir()?;
    let dir = args.dir.clone().unwrap_or_else(|| temporary.path().join("collections"));
    let shelf = Arc::new(Shelf::open(dir, faults.clone())?);
    let tls = match (&args.tls_cert, &args.tls_key) {
        (Some(certificate), Some(key)) => Some(listen::tls(certificate, key, args.classical)?),
        _ => None,
    };
    let listener = tokio::net::TcpListener::bind(("127.0.0.1", args.port)).await?;
    let mut out = std::io::stdout();
    writeln!(out, "listening on {}", listener.local_addr()?)?;
    out.flush()?;

    let (stop, stopped) = watch::channel(false);
    let stop = Arc::new(stop);
    tend(shelf.clone(), args.optimize, stopped.clone());
    take_orders(faults.clone(), args.until_eof, stop.clone());
    tokio::spawn(async move {
        let (Ok(mut term), Ok(mut int)) = (signal(SignalKind::terminate()), signal(SignalKind::interrupt())) else {
            return;
        };
        tokio::select! { _ = term.recv() => {}, _ = int.recv() => {} }
        stop.send_replace(true);
    });

    let health = Health { version: args.says_version, faults: faults.clone() };
    let check = KeyCheck(args.api_key.map(Into::into));
    let points = PointsServer::new(points::Service(shelf.clone()))
        .max_decoding_message_size(MESSAGE_BYTES)
        .max_encoding_message_size(MESSAGE_BYTES);
    let collections = CollectionsServer::new(collections::Service(shelf.clone()));
    let mut until = stopped;
    let ended = async move {
        // Without a sender left nobody can stop it any more.
        let _ = until.wait_for(|stopped| *stopped).await;
    };
    Server::builder()
        .layer(tonic::service::InterceptorLayer::new(check))
        .add_service(QdrantServer::new(health))
        .add_service(points)
        .add_service(collections)
        .serve_with_incoming_shutdown(listen::connections(listener, tls, faults), ended)
        .await?;
    shelf.flush();
    Ok(())
}

/// Puts on disk what was written, and builds search graphs while nothing is.
fn tend(shelf: Arc<Shelf>, optimize: bool, stopped: watch::Receiver<bool>) {
    std::thread::spawn(move || {
        while !*stopped.borrow() {
            std::thread::sleep(FLUSH);
            shelf.flush();
            if optimize {
                shelf.optimize();
            }
        }
    });
}

fn take_orders(faults: Faults, until_eof: bool, stop: Arc<watch::Sender<bool>>) {
    std::thread::spawn(move || {
        for line in std::io::stdin().lock().lines().map_while(Result::ok) {
            let answer = match faults.order(&line) {
                Ok(()) => format!("ok {line}"),
                Err(e) => format!("error {e}"),
            };
            println!("{answer}");
        }
        if until_eof {
            faults.behave();
            faults.close();
            stop.send_replace(true);
        }
    });
}
