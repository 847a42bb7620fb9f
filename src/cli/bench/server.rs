//! `ingest` and `search` with a Qdrant server as the engine: against the same client that talks straight to it.

use std::io::{BufRead as _, BufReader};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use clap::{Args, ValueEnum};
use qdrant_client::qdrant::{
    CountPointsBuilder, CreateCollectionBuilder, Distance, PointStruct, QueryPointsBuilder, UpsertPointsBuilder,
    VectorParamsBuilder, VectorsConfigBuilder, point_id::PointIdOptions,
};
use qdrant_client::{Payload, Qdrant};
use serde_json::{Map, Value};
use tempfile::TempDir;

use super::BenchArgs;
use super::data::Corpus;
use super::ingest::{BATCH, starts};
use super::report::{Case, Pair, Report, take_turns};
use super::search::{K, QUERIES, truth};
use crate::error::{Error, Result};
use crate::id::RecordId;
use crate::keys::Passphrase;
use crate::keys::keystore::file::KdfCost;
use crate::store::{Collection, Store, StoreOptions, Tenant};
use crate::vectors::{Chunk, CollectionSpec, Engine, Metric, Mode, Placement, SearchRequest};

/// The floor's collection, and the vector in it.
const BARE: &str = "bare";
const VECTOR: &str = "0";
/// How long the server may take to build its graph.
const OPTIMIZE_FOR: Duration = Duration::from_secs(3600);
/// How often is looked whether it has.
const LOOK: Duration = Duration::from_millis(300);

#[derive(Args)]
pub(super) struct ServerArgs {
    /// The engine of `ingest` and `search`
    #[arg(long, default_value = "edge")]
    engine: EngineArg,
    /// In a server: a physical collection of its own, or a shared one
    #[arg(long, default_value = "dedicated")]
    placement: PlacementArg,
    /// The server: its gRPC address
    #[arg(long, value_name = "URL")]
    url: Option<String>,
    /// Start this stand-in for a server instead (`tools/upstream`)
    #[arg(long, value_name = "PROGRAM", conflicts_with = "url")]
    upstream: Option<std::path::PathBuf>,
}

#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
enum EngineArg {
    Edge,
    Server,
}

#[derive(Clone, Copy, ValueEnum)]
enum PlacementArg {
    Dedicated,
    Shared,
}

impl ServerArgs {
    pub(super) fn is_server(&self) -> bool {
        self.engine == EngineArg::Server
    }

    fn engine(&self) -> Engine {
        Engine::Server(match self.placement {
            PlacementArg::Dedicated => Placement::Dedicated,
            PlacementArg::Shared => Placement::Shared,
        })
    }
}

pub(super) async fn ingest(args: &BenchArgs, scratch: &TempDir, report: &mut Report<'_>) -> Result<()> {
    let scene = Scene::new(args, scratch).await?;
    for n in args.sizes(&[4096]) {
        let corpus = Corpus::made_up(n, args.dim(), 0, args.seed);
        for mode in args.modes() {
            let times = take_turns(
                args.rounds(),
                async |_| scene.bare_ingest(args, &corpus).await,
                async |_| scene.ingest(args, mode, &corpus).await,
            );
            let case = Case { bench: "ingest", case: scene.case(mode, ""), unit: "ms", n, bar: Some(1.5) };
            report.add(case, times.await?.percentile(50, Duration::from_millis(1)))?;
        }
    }
    scene.end().await
}

pub(super) async fn search(args: &BenchArgs, scratch: &TempDir, report: &mut Report<'_>) -> Result<()> {
    let scene = Scene::new(args, scratch).await?;
    for n in args.sizes(&[2_000, 20_000]) {
        let corpus = match &args.vectors {
            Some(file) => Corpus::around_embeddings(file, n, QUERIES, args.seed)?,
            None => Corpus::made_up(n, args.dim(), QUERIES, args.seed),
        };
        scene.bare_fill(&corpus).await?;
        let indexed = scene.bare_indexed().await?;
        report.remark(&format!("{n} vectors, {indexed} of the floor's in its search graph"));
        let truth = truth(&corpus);
        for mode in args.modes() {
            let collection = scene.fill(mode, &corpus, indexed).await?;
            scene.measure(args, report, mode, &corpus, &collection, &truth).await?;
            drop(collection);
            scene.tenant.drop_collection(BARE).await?;
        }
        scene.bare.delete_collection(BARE).await.map_err(failed)?;
    }
    scene.end().await
}

/// A store beside a server, and a client that talks straight to the server.
struct Scene {
    store: Store,
    tenant: Tenant,
    bare: Qdrant,
    engine: Engine,
    /// Ends with it.
    _upstream: Option<Upstream>,
}

impl Scene {
    async fn new(args: &BenchArgs, scratch: &TempDir) -> Result<Self> {
        let (url, upstream) = match (&args.server.url, &args.server.upstream) {
            (Some(url), _) => (url.clone(), None),
            (None, Some(program)) => {
                let upstream = Upstream::start(program, &scratch.path().join("upstream"))?;
                (upstream.url.clone(), Some(upstream))
            }
            (None, None) => {
                return Err(Error::invalid("there is no server to measure with")
                    .with_remedy("name one with `--url`, or the program of `tools/upstream` with `--upstream`"));
            }
        };
        let options = StoreOptions::new(scratch.path().join("store")).kdf_cost(KdfCost::INSECURE_FAST).qdrant_url(&url);
        let passphrase = || Passphrase::new(b"of a store that lives for one run".to_vec());
        Store::init(&options, passphrase()?).await?;
        let store = Store::open(options, passphrase()?).await?;
        let tenant = store.create_tenant(&super::TENANT.parse()?).await?;
        let bare = Qdrant::from_url(&url).skip_compatibility_check().build().map_err(failed)?;
        Ok(Self { store, tenant, bare, engine: args.server.engine(), _upstream: upstream })
    }

    fn case(&self, mode: Mode, what: &str) -> String {
        format!("{mode}, {}{what}", self.engine)
    }

    async fn end(self) -> Result<()> {
        let Self { store, tenant, .. } = self;
        drop(tenant);
        store.close().await
    }

    async fn bare_create(&self, dim: usize) -> Result<()> {
        let mut vectors = VectorsConfigBuilder::default();
        vectors.add_named_vector_params(VECTOR, VectorParamsBuilder::new(dim as u64, Distance::Cosine));
        let create = CreateCollectionBuilder::new(BARE).vectors_config(vectors);
        self.bare.create_collection(create).await.map(|_| ()).map_err(failed)
    }

    async fn bare_upsert(&self, points: Vec<PointStruct>) -> Result<()> {
        let upsert = UpsertPointsBuilder::new(BARE, points).wait(true);
        self.bare.upsert_points(upsert).await.map(|_| ()).map_err(failed)
    }

    async fn bare_ingest(&self, args: &BenchArgs, corpus: &Corpus) -> Result<Duration> {
        self.bare_create(args.dim()).await?;
        let batches: Vec<Vec<PointStruct>> = starts(corpus).map(|from| points(corpus.chunks(from, BATCH))).collect();
        let start = Instant::now();
        for points in batches {
            self.bare_upsert(points).await?;
        }
        let took = start.elapsed();
        self.bare.delete_collection(BARE).await.map_err(failed)?;
        Ok(took)
    }

    async fn bare_fill(&self, corpus: &Corpus) -> Result<()> {
        self.bare_create(corpus.vectors.first().map_or(0, Vec::len)).await?;
        for from in starts(corpus) {
            self.bare_upsert(points(corpus.chunks(from, BATCH))).await?;
        }
        Ok(())
    }

    /// How many vectors are in the floor's search graph, once that does not grow any more.
    async fn bare_indexed(&self) -> Result<usize> {
        let start = Instant::now();
        let (mut last, mut same) = (u64::MAX, 0);
        while same < 10 && start.elapsed() < OPTIMIZE_FOR {
            tokio::time::sleep(LOOK).await;
            let info = self.bare.collection_info(BARE).await.map_err(failed)?.result.unwrap_or_default();
            let indexed = info.indexed_vectors_count();
            same = if indexed == last { same + 1 } else { 0 };
            last = indexed;
        }
        let counted = self.bare.count(CountPointsBuilder::new(BARE).exact(true)).await.map_err(failed)?;
        let points = counted.result.map_or(0, |result| result.count);
        usize::try_from(last.min(points)).map_err(|e| Error::internal("a count").with_source(e))
    }

    async fn bare_search(&self, query: &[f32]) -> Result<Vec<u64>> {
        let query =
            QueryPointsBuilder::new(BARE).query(query.to_vec()).using(VECTOR).limit(K as u64).with_payload(true);
        let found = self.bare.query(query).await.map_err(failed)?.result;
        let ids = found.into_iter().filter_map(|point| match point.id?.point_id_options? {
            PointIdOptions::Num(id) => Some(id),
            PointIdOptions::Uuid(_) => None,
        });
        Ok(ids.collect())
    }

    async fn create(&self, mode: Mode, dim: usize) -> Result<Collection> {
        let spec = CollectionSpec::new(dim, Metric::Cosine).mode(mode).engine(self.engine);
        let collection = self.tenant.create_collection(BARE, spec).await?;
        // Made at the server before the clock starts, as the floor's is.
        collection.count().await?;
        Ok(collection)
    }

    async fn ingest(&self, args: &BenchArgs, mode: Mode, corpus: &Corpus) -> Result<Duration> {
        let collection = self.create(mode, args.dim()).await?;
        let batches: Vec<_> = starts(corpus).map(|from| corpus.chunks(from, BATCH)).collect();
        let start = Instant::now();
        for chunks in batches {
            collection.ingest(chunks).await?;
        }
        collection.flush().await?;
        let took = start.elapsed();
        drop(collection);
        self.tenant.drop_collection(BARE).await?;
        Ok(took)
    }

    /// A collection with as many vectors in the server's graph as the floor has.
    async fn fill(&self, mode: Mode, corpus: &Corpus, indexed: usize) -> Result<Collection> {
        let collection = self.create(mode, corpus.vectors.first().map_or(0, Vec::len)).await?;
        for from in starts(corpus) {
            collection.ingest(corpus.chunks(from, BATCH)).await?;
        }
        collection.flush().await?;
        let start = Instant::now();
        while mode == Mode::Plain && collection.status().await?.indexed_vectors < indexed {
            if start.elapsed() > OPTIMIZE_FOR {
                return Err(Error::internal("the server did not build its search graph"));
            }
            tokio::time::sleep(LOOK).await;
        }
        Ok(collection)
    }

    async fn measure(
        &self,
        args: &BenchArgs,
        report: &mut Report<'_>,
        mode: Mode,
        corpus: &Corpus,
        collection: &Collection,
        truth: &[Vec<u64>],
    ) -> Result<()> {
        let n = corpus.vectors.len();
        let mut found = Pair { floor: 0, ours: 0 };
        // The first round warms up, and is where recall is taken.
        for (query, truth) in corpus.queries.iter().zip(truth) {
            found.floor += self.bare_search(query).await?.iter().filter(|id| truth.contains(id)).count();
            let ours = collection.search(SearchRequest::new(query.clone(), K)).await?;
            found.ours +=
                ours.iter().filter(|hit| matches!(hit.id, RecordId::Number(id) if truth.contains(&id))).count();
        }
        let mut all = Pair::<Vec<Duration>>::default();
        let Pair { floor, ours } = &mut all;
        take_turns(
            args.rounds(),
            async |_| {
                for query in &corpus.queries {
                    let start = Instant::now();
                    std::hint::black_box(self.bare_search(query).await?);
                    floor.push(start.elapsed());
                }
                Ok(Duration::ZERO)
            },
            async |_| {
                for query in &corpus.queries {
                    let start = Instant::now();
                    std::hint::black_box(collection.search(SearchRequest::new(query.clone(), K)).await?);
                    ours.push(start.elapsed());
                }
                Ok(Duration::ZERO)
            },
        )
        .await?;
        for percent in [50, 99] {
            let case = self.case(mode, &format!(" p{percent}"));
            let case = Case { bench: "search", case, unit: "ms", n, bar: Some(1.15) };
            report.add(case, all.percentile(percent, Duration::from_millis(1)))?;
        }
        let of = |found: usize| found as f64 / truth.iter().map(Vec::len).sum::<usize>() as f64;
        let case = Case { bench: "search", case: self.case(mode, " recall"), unit: "recall", n, bar: None };
        report.add(case, Pair { floor: of(found.floor), ours: of(found.ours) })
    }
}

/// The chunks as a client of Qdrant has them without Strongroom.
fn points(chunks: Vec<Chunk>) -> Vec<PointStruct> {
    let point = |chunk: Chunk| {
        let id = if let RecordId::Number(n) = chunk.id { n } else { 0 };
        let vector = chunk.vectors.get("").unwrap_or_default().to_vec();
        let payload = Map::from_iter([
            ("text".to_owned(), Value::from(chunk.text)),
            ("metadata".to_owned(), Value::from(chunk.metadata)),
        ]);
        let vectors = std::collections::HashMap::from([(VECTOR.to_owned(), vector)]);
        PointStruct::new(id, vectors, Payload::from(payload))
    };
    chunks.into_iter().map(point).collect()
}

fn failed(e: impl std::fmt::Display) -> Error {
    Error::internal("the floor failed").with_source(e.to_string())
}

/// The stand-in for a server, which ends when this is dropped.
struct Upstream {
    child: Child,
    url: String,
}

impl Upstream {
    fn start(program: &Path, dir: &Path) -> Result<Self> {
        let mut child = Command::new(program)
            .args(["--until-eof", "--optimize", "--dir"])
            .arg(dir)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()?;
        let mut line = String::new();
        if let Some(stdout) = child.stdout.take() {
            BufReader::new(stdout).read_line(&mut line)?;
        }
        let address = line.trim().strip_prefix("listening on ").map(|address| format!("http://{address}"));
        let mut upstream = Self { child, url: String::new() };
        upstream.url = address.ok_or_else(|| Error::internal(format!("`{}` does not listen", program.display())))?;
        Ok(upstream)
    }
}

impl Drop for Upstream {
    fn drop(&mut self) {
        // It ends with its input, and has removed nothing: the scratch directory goes as a whole.
        drop(self.child.stdin.take());
        let _ = self.child.wait();
    }
}
