//! The process that is dumped: it opens a store, uses a tenant, closes it and stays.

use std::fs::File;
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::path::Path;
use std::process::{ChildStdin, ChildStdout, Command, Stdio};

use strongroom::keys::keystore::file::KdfCost;
use strongroom::vectors::{Modifier, VectorParams};
use strongroom::{
    Chunk, CollectionSpec, Epoch, Fusion, Memory, Metric, Mode, Namespace, Passphrase, Query, QueryRequest,
    RecallRequest, RecordId, SearchRequest, SparseParams, Store, StoreOptions, Tenant, Vectors,
};

use crate::corpus::{Corpus, MarkedChunk, SIZE};

/// Where the child finds its corpus. Not in its environment, which is part of its memory.
const CORPUS_FILE: &str = "STRONGROOM_TEST_CORPUS";
const STORE_DIR: &str = "STRONGROOM_TEST_STORE";
const TASK: &str = "STRONGROOM_TEST_TASK";
/// Precedes what the child says, among what the test harness says.
const SAYS: &str = "child: ";

pub struct Child {
    process: std::process::Child,
    stdin: ChildStdin,
    stdout: BufReader<ChildStdout>,
    log: std::path::PathBuf,
}

/// What the child does between its two stops.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Task {
    /// Closes the tenant.
    Close,
    /// Moves the tenant to another epoch and destroys the one it was in.
    Destroy,
}

impl Child {
    pub fn start(task: Task, corpus: &Corpus, store: &Path, root: &Path) -> Self {
        let file = root.join("corpus.json");
        std::fs::write(&file, serde_json::to_vec(corpus).unwrap()).unwrap();
        std::fs::write(root.join("passphrase"), &corpus.passphrase).unwrap();
        let log = root.join("log");
        let mut process = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "child::process", "--nocapture"])
            .env(CORPUS_FILE, &file)
            .env(STORE_DIR, store)
            .env(TASK, if task == Task::Destroy { "destroy" } else { "close" })
            // One heap for all threads: each reserves 64 MiB, all of which would be dumped.
            .env("MALLOC_ARENA_MAX", "1")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(File::create(&log).unwrap())
            .spawn()
            .unwrap();
        let (stdin, stdout) = (process.stdin.take().unwrap(), BufReader::new(process.stdout.take().unwrap()));
        Self { process, stdin, stdout, log }
    }

    pub fn id(&self) -> u32 {
        self.process.id()
    }

    pub fn wait_for(&mut self, what: &str) {
        let mut line = String::new();
        while !line.contains(SAYS) {
            line.clear();
            let read = self.stdout.read_line(&mut line).unwrap();
            assert!(read > 0, "the child ended: {}", std::fs::read_to_string(&self.log).unwrap());
        }
        assert!(line.contains(what), "{line}");
    }

    pub fn go_on(&mut self) {
        self.stdin.write_all(b"\n").unwrap();
    }

    /// Waits for the end; returns what it logged.
    pub fn finish(mut self) -> Vec<u8> {
        let status = self.process.wait().unwrap();
        let log = std::fs::read(&self.log).unwrap();
        assert!(status.success(), "{}", String::from_utf8_lossy(&log));
        log
    }
}

/// Not a test of its own: [`Child::start`] runs it.
#[test]
fn process() {
    let (Some(corpus), Some(store)) = (std::env::var_os(CORPUS_FILE), std::env::var_os(STORE_DIR)) else { return };
    // So that a debugger that is not our parent may look, where the kernel asks for that.
    let _ = rustix::process::set_ptracer(rustix::process::PTracer::Any);
    tracing_subscriber::fmt().with_max_level(tracing::Level::TRACE).with_writer(std::io::stderr).init();
    log::trace!("the `log` bridge is there");
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
    let task = if std::env::var(TASK).unwrap() == "destroy" { Task::Destroy } else { Task::Close };
    let store = runtime.block_on(use_and_leave(task, Path::new(&corpus), Path::new(&store)));
    say("idle");
    runtime.block_on(store.close()).unwrap();
}

async fn use_and_leave(task: Task, corpus: &Path, dir: &Path) -> Store {
    let passphrase = || Passphrase::from_file(&corpus.with_file_name("passphrase")).unwrap();
    let options = StoreOptions::new(dir).kdf_cost(KdfCost::INSECURE_FAST);
    Store::init(&options, passphrase()).await.unwrap();
    let store = Store::open(options, passphrase()).await.unwrap();
    let corpus: Corpus = serde_json::from_slice(&std::fs::read(corpus).unwrap()).unwrap();
    let id = corpus.tenant.parse().unwrap();
    let tenant = store.create_tenant(&id).await.unwrap();
    chunks(&tenant, &corpus).await;
    if task == Task::Close {
        memories(&tenant, &corpus).await;
    }
    assert!(tenant.verify(|_| {}).await.unwrap().is_clean());
    say("in use");
    if task == Task::Destroy {
        // A tenant with records stays where it is.
        tenant.drop_collection(&corpus.sealed).await.unwrap();
        tenant.drop_collection(&veiled_name(&corpus)).await.unwrap();
        tenant.drop_collection(&corpus.plain).await.unwrap();
    }
    drop((tenant, corpus));
    store.close_tenant(&id).await.unwrap();
    if task == Task::Destroy {
        let next = store.create_epoch(&id, None).await.unwrap().epoch;
        store.activate_epoch(&id, next).await.unwrap();
        store.destroy_epoch(&id, Epoch::FIRST).await.unwrap();
        // The tenant is in use again, in its other epoch.
        store.tenant(&id).await.unwrap().create_collection("next", CollectionSpec::new(2, Metric::Dot)).await.unwrap();
    }
    drop(id);
    store
}

async fn chunks(tenant: &Tenant, corpus: &Corpus) {
    let params = VectorParams { size: SIZE, metric: Metric::Cosine };
    let spec = CollectionSpec::new(SIZE, Metric::Cosine)
        .named(corpus.vector_names.iter().map(|n| (&**n, params)))
        .sparse([(&*corpus.sparse_name, SparseParams { modifier: Modifier::Idf })]);
    let sealed = tenant.create_collection(&corpus.sealed, spec).await.unwrap();
    let chunk = |c: &MarkedChunk| {
        let vectors = corpus.vector_names.iter().cloned().zip(c.vectors.clone());
        let vectors = Vectors::named(vectors).with_sparse(&*corpus.sparse_name, c.sparse.clone());
        Chunk::new(RecordId::text(&c.id).unwrap(), &*c.text, vectors).metadata(c.metadata())
    };
    sealed.ingest(corpus.chunks.iter().map(chunk).collect()).await.unwrap();
    let nearest = SearchRequest::new(corpus.chunks[7].vectors[1].clone(), 5).using(&*corpus.vector_names[1]);
    assert_eq!(sealed.search(nearest).await.unwrap()[0].text, corpus.chunks[7].text);
    let sparse = || QueryRequest::new(corpus.chunks[8].sparse.clone(), 5);
    assert_eq!(sealed.query(sparse()).await.unwrap()[0].text, corpus.chunks[8].text);
    let words = || QueryRequest::new(Query::Text(corpus.chunks[9].text.clone()), 5);
    assert_eq!(sealed.query(words()).await.unwrap()[0].text, corpus.chunks[9].text);
    // Into indexes that are there.
    sealed.ingest(corpus.chunks[..20].iter().map(chunk).collect()).await.unwrap();
    let fused = QueryRequest::new(Fusion::rrf(), 9).prefetch([sparse(), words()]);
    assert_eq!(sealed.query(fused).await.unwrap().len(), 2);
    let ids = corpus.chunks.iter().map(|c| RecordId::text(&c.id).unwrap()).collect();
    assert_eq!(sealed.get(ids).await.unwrap().len(), corpus.chunks.len());
    assert_eq!(sealed.scroll(None, 100).await.unwrap().0.len(), corpus.chunks.len());
    sealed.delete(vec![RecordId::text(&corpus.chunks[0].id).unwrap()]).await.unwrap();

    // Its vectors are hunted like the sealed ones: the engine has another form of them.
    let veiled = CollectionSpec::new(SIZE, Metric::Cosine).mode(Mode::Veiled);
    let veiled = tenant.create_collection(&veiled_name(corpus), veiled).await.unwrap();
    let chunk = |c: &MarkedChunk| {
        Chunk::new(RecordId::text(&c.id).unwrap(), &*c.text, c.vectors[0].clone()).metadata(c.metadata())
    };
    veiled.ingest(corpus.chunks.iter().map(chunk).collect()).await.unwrap();
    let nearest = SearchRequest::new(corpus.chunks[7].vectors[0].clone(), 5);
    assert_eq!(veiled.search(nearest).await.unwrap()[0].text, corpus.chunks[7].text);
    veiled.flush().await.unwrap();

    let plain = CollectionSpec::new(SIZE, Metric::Cosine).mode(Mode::Plain);
    let plain = tenant.create_collection(&corpus.plain, plain).await.unwrap();
    let chunk = |(c, v): (&MarkedChunk, &Vec<f32>)| {
        Chunk::new(RecordId::text(&c.id).unwrap(), &*c.text, v.clone()).metadata(c.metadata())
    };
    plain.ingest(corpus.chunks.iter().zip(&corpus.plain_vectors).map(chunk).collect()).await.unwrap();
    plain.search(SearchRequest::new(corpus.plain_vectors[2].clone(), 3)).await.unwrap();
    plain.flush().await.unwrap();
}

/// A name with a marker in it.
fn veiled_name(corpus: &Corpus) -> String {
    format!("{}-veiled", corpus.sealed)
}

async fn memories(tenant: &Tenant, corpus: &Corpus) {
    let namespace: Namespace = corpus.namespace().parse().unwrap();
    for value in &corpus.memory_values[..2] {
        let memory = Memory::new(namespace.clone(), &*corpus.memory_key, value).unwrap();
        tenant.remember(memory.embedding(corpus.memory_vector.clone())).await.unwrap();
    }
    let forgotten = Memory::new(namespace.clone(), &*corpus.forgotten_key, &corpus.memory_values[2]).unwrap();
    tenant.remember(forgotten.ttl_ms(86_400_000)).await.unwrap();
    let nearest = RecallRequest { embedding: Some(corpus.memory_vector.clone()), limit: 3, ..Default::default() };
    assert_eq!(tenant.recall(nearest).await.unwrap().len(), 1);
    let words = RecallRequest { text: Some(corpus.memory_values[1].clone()), limit: 3, ..Default::default() };
    assert_eq!(tenant.recall(words).await.unwrap().len(), 1);
    assert!(tenant.memory(&namespace, &corpus.memory_key).unwrap().is_some());
    assert_eq!(tenant.memories(&corpus.namespace, 10, 0).await.unwrap().len(), 2);
    assert_eq!(tenant.namespaces(&[], None).await.unwrap().len(), 1);
    assert_eq!(tenant.memory_history(&namespace, &corpus.memory_key).await.unwrap().len(), 2);
    assert!(tenant.forget(&namespace, &corpus.forgotten_key, false).await.unwrap());
}

/// Says it and waits for the parent.
fn say(what: &str) {
    println!("{SAYS}{what}");
    std::io::stdout().flush().unwrap();
    let _ = std::io::stdin().read(&mut [0]).unwrap();
}
