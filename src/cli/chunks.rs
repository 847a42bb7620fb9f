//! `ingest`, `search`, `get`.

use std::path::PathBuf;
use std::time::Instant;

use clap::Args;
use indicatif::ProgressBar;
use tokio::sync::mpsc;

use super::context::{TermsArgs, local_bundle, print, remote_bundle};
use super::filter::FilterArg;
use super::input::{Batch, Batches, InputRecord, InputVectors, JsonlReader, LineError, NpyReader, VectorSource};
use super::output::{Output, one_line};
use super::query::QueryArgs;
use super::vector::{EmbedArgs, VectorArgs};
use super::{Global, TenantArg};
use crate::error::{Error, ErrorKind, Result};
use crate::id::RecordId;
use crate::store::Collection;
use crate::token::HolderId;
use crate::vectors::{Chunk, Hit, Mode, SearchRequest, Vectors};

/// Batches that are read ahead while one is written.
const READ_AHEAD: usize = 2;
/// Bad lines that are named one by one.
const NAMED_ERRORS: usize = 20;

#[derive(Args)]
pub(super) struct IngestArgs {
    #[command(flatten)]
    tenant: TenantArg,
    /// The collection
    collection: String,
    /// JSON lines with `id`, `text`, `metadata`, `vector` and `sparse`; `-` for standard input
    #[arg(required = true, value_name = "FILE")]
    files: Vec<PathBuf>,
    /// Take vectors from this `.npy` file, row by row (f16, f32 or f64)
    #[arg(long, value_name = "FILE", conflicts_with_all = ["embed_url", "embed_model"])]
    npy: Option<PathBuf>,
    #[command(flatten)]
    embed: EmbedArgs,
    /// Skip bad lines, say which, and exit with 10 at the end
    #[arg(long)]
    keep_going: bool,
    /// Chunks per durable write
    #[arg(long, default_value_t = 512, value_parser = clap::value_parser!(u32).range(1..=4096))]
    batch: u32,
}

#[derive(Args)]
pub(super) struct SearchArgs {
    #[command(flatten)]
    tenant: TenantArg,
    /// The collection
    collection: String,
    /// A text to search for, made into a vector by the embeddings endpoint
    text: Option<String>,
    #[command(flatten)]
    vector: VectorArgs,
    #[command(flatten)]
    query: QueryArgs,
    /// How many results
    #[arg(long, short = 'n', default_value_t = 10)]
    limit: usize,
    /// Leave out results worse than this score
    #[arg(long, allow_negative_numbers = true)]
    threshold: Option<f32>,
    #[command(flatten)]
    filter: FilterArg,
    /// Compare with this of several vectors
    #[arg(long, value_name = "VECTOR")]
    using: Option<String>,
    /// Miss nothing: in `plain` mode, scan everything instead of walking the search graph; in `sealed` mode, never go by
    /// one bit per value, as very large collections otherwise do
    #[arg(long)]
    exact: bool,
    /// Print whole texts
    #[arg(long)]
    full: bool,
    /// Find sealed chunks and a token for this holder instead: the thumbprint of its key
    #[arg(long, value_name = "HOLDER", conflicts_with_all = ["words", "hybrid", "sparse"])]
    seal_for: Option<HolderId>,
    #[command(flatten)]
    terms: TermsArgs,
}

#[derive(Args)]
pub(super) struct IdsArgs {
    #[command(flatten)]
    tenant: TenantArg,
    /// The collection
    collection: String,
    /// Ids: numbers, UUIDs or text
    #[arg(required = true)]
    ids: Vec<RecordId>,
}

#[derive(Default, serde::Serialize)]
struct Ingested {
    ingested: u64,
    skipped: u64,
    seconds: f64,
}

pub(super) async fn ingest(global: &Global, args: IngestArgs, output: &Output) -> Result<()> {
    let lines = JsonlReader::open(&args.files)?;
    let progress = lines.progress();
    let source = match (&args.npy, args.embed.embedder(output)?) {
        (Some(npy), _) => VectorSource::Npy(NpyReader::open(npy)?),
        (None, Some(embedder)) => VectorSource::Embed(embedder),
        (None, None) => VectorSource::Lines,
    };
    let batches = Batches::new(lines, source, args.batch as usize, args.keep_going);
    let template = if progress.total().is_some() {
        "{bar:30} {bytes}/{total_bytes} ({bytes_per_sec}), {msg}, {eta} left"
    } else {
        "{spinner} {bytes} ({bytes_per_sec}), {msg}"
    };
    let bar = output.progress(progress.total(), template);
    let started = Instant::now();
    let keep_going = args.keep_going;
    let mut done = Ingested::default();
    let outcome = global
        .with_tenant(&args.tenant, async |tenant| {
            let collection = tenant.collection(&args.collection)?;
            let batches = batches.optional(collection.spec().vectors.is_empty());
            let (send, mut receive) = mpsc::channel(READ_AHEAD);
            tokio::task::spawn_blocking(move || {
                for batch in batches {
                    // Nobody receives any more: writing failed, and that is reported there.
                    if send.blocking_send(batch).is_err() {
                        break;
                    }
                }
            });
            while let Some(batch) = receive.recv().await {
                write_batch(&collection, batch?, keep_going, output, &bar, &mut done).await?;
                bar.set_position(progress.read());
                let rate = done.ingested as f64 / started.elapsed().as_secs_f64();
                bar.set_message(format!("{} chunks, {rate:.0}/s", done.ingested));
            }
            finish(&collection, output).await
        })
        .await;
    bar.finish_and_clear();
    done.seconds = started.elapsed().as_secs_f64();
    if let Err(e) = outcome {
        if done.ingested > 0 {
            output
                .remark(&format!("{} chunks are stored; running the same command again goes on safely", done.ingested));
        }
        return Err(e);
    }
    output.answer(&done, |d| {
        format!("ingested {} chunks in {:.1} s ({:.0}/s)", d.ingested, d.seconds, d.ingested as f64 / d.seconds)
    })?;
    if done.skipped == 0 {
        return Ok(());
    }
    Err(Error::new(ErrorKind::Partial, format!("{} lines were skipped", done.skipped))
        .with_remedy("mend the lines named above and ingest the file again: what is stored is replaced, not doubled"))
}

/// Flushes, and where the engine searches builds its search graph now: this process is about to end.
pub(super) async fn finish(collection: &Collection, output: &Output) -> Result<()> {
    collection.flush().await?;
    if collection.mode() != Mode::Sealed {
        let spinner = output.progress(None, "{spinner} building the search graph ({elapsed})");
        collection.optimize().await?;
        spinner.finish_and_clear();
    }
    Ok(())
}

async fn write_batch(
    collection: &Collection,
    batch: Batch,
    keep_going: bool,
    output: &Output,
    bar: &ProgressBar,
    done: &mut Ingested,
) -> Result<()> {
    let mut rejected = batch.rejected;
    let mut chunks = Vec::with_capacity(batch.records.len());
    for record in batch.records {
        let (file, line) = (record.file.clone(), record.line);
        let chunk = to_chunk(record, collection);
        match chunk.validate(collection.spec()) {
            Ok(()) => chunks.push(chunk),
            Err(e) => {
                rejected.push(LineError::new(&file, line, &e));
                if !keep_going {
                    break;
                }
            }
        }
    }
    rejected.sort_by_key(|e| e.line);
    done.ingested += collection.ingest(chunks).await? as u64;
    for error in rejected {
        if !keep_going {
            return Err(error.into());
        }
        if done.skipped < NAMED_ERRORS as u64 {
            bar.suspend(|| output.remark(&format!("skipped: {error}")));
        }
        done.skipped += 1;
        if done.skipped == NAMED_ERRORS as u64 {
            bar.suspend(|| output.remark("further bad lines are counted without being named"));
        }
    }
    Ok(())
}

fn to_chunk(record: InputRecord, collection: &Collection) -> Chunk {
    // An unnamed vector belongs to the collection's only one, whatever that is called.
    let only = collection.spec().vectors.keys().next().cloned().unwrap_or_default();
    let mut vectors = match record.vectors {
        InputVectors::Missing => Vectors::default(),
        InputVectors::Single(vector) => Vectors::named([(only, vector)]),
        InputVectors::Named(named) => Vectors::named(named.into_iter().map(|(n, v)| (n.as_str().to_owned(), v))),
    };
    for (name, vector) in record.sparse {
        vectors.insert_sparse(name.as_str(), vector);
    }
    Chunk { id: record.id, text: record.text, metadata: record.metadata, vectors }
}

pub(super) async fn search(global: &Global, args: SearchArgs, output: &Output) -> Result<()> {
    if !args.query.is_empty() {
        return query(global, args, output).await;
    }
    let vector = args.vector.resolve(args.text.as_deref(), output).await?.ok_or_else(|| {
        Error::invalid("there is nothing to search for").with_remedy(
            "give `--vector`, `--npy` with `--row`, a text together with `--embed-url` and `--embed-model`, or `--text` to \
             search for words",
        )
    })?;
    let mut request = SearchRequest::new(vector, args.limit);
    request.score_threshold = args.threshold;
    request.using = args.using;
    request.exact = args.exact;
    request.filter = args.filter.read()?;
    if let Some(holder) = args.seal_for {
        let terms = args.terms.terms(holder);
        let tenant = &args.tenant.tenant;
        let bundle = match args.terms.remote(global)? {
            Some(store) => remote_bundle(tenant, store.search_sealed(tenant, &args.collection, request, &terms).await?),
            None => {
                let sealed = global.with_tenant(&args.tenant, async |tenant| {
                    tenant.collection(&args.collection)?.search_sealed(request, terms).await
                });
                local_bundle(tenant, sealed.await?)
            }
        };
        return print(&bundle, output);
    }
    let hits = global
        .with_tenant(&args.tenant, async |tenant| tenant.collection(&args.collection)?.search(request).await)
        .await?;
    show(&hits, args.full, output)
}

async fn query(global: &Global, args: SearchArgs, output: &Output) -> Result<()> {
    let text = args.text.as_deref();
    let mut request = args.query.resolve(args.vector, text, args.limit, args.using, output).await?;
    request.score_threshold = args.threshold;
    let hits = global
        .with_tenant(&args.tenant, async |tenant| tenant.collection(&args.collection)?.query(request).await)
        .await?;
    show(&hits, args.full, output)
}

fn show(hits: &Vec<Hit>, full: bool, output: &Output) -> Result<()> {
    output.answer(hits, |hits| {
        let width = if full { usize::MAX } else { 120 };
        hits.iter().map(|hit| format!("{:.4}  {}  {}\n", hit.score, hit.id, one_line(&hit.text, width))).collect()
    })
}

pub(super) async fn get(global: &Global, args: IdsArgs, output: &Output) -> Result<()> {
    let wanted = args.ids.clone();
    let chunks =
        global.with_tenant(&args.tenant, async |tenant| tenant.collection(&args.collection)?.get(wanted).await).await?;
    output.answer(&chunks, |chunks| {
        let text = |c: &crate::StoredChunk| {
            let metadata = serde_json::to_string(&c.metadata).unwrap_or_default();
            format!("{} (version {})\n{}\n{metadata}\n", c.id, c.version, c.text)
        };
        chunks.iter().map(text).collect::<Vec<_>>().join("\n")
    })?;
    let missing: Vec<String> =
        args.ids.iter().filter(|id| !chunks.iter().any(|c| c.id == **id)).map(|id| format!("`{id}`")).collect();
    if missing.is_empty() {
        Ok(())
    } else {
        Err(Error::not_found(format!("there is no record {}", missing.join(", "))))
    }
}
