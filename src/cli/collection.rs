//! `collection create|list|show|migrate|update|drop|index`.

use std::collections::BTreeMap;

use clap::{Args, Subcommand, ValueEnum};
use indicatif::ProgressBar;
use serde_json::{Value, json};

use super::output::{Output, bytes};
use super::{Global, TenantArg, index};
use crate::error::{Error, Result};
use crate::record::Packing;
use crate::store::{Collection, Tenant};
use crate::vectors::{
    CollectionSpec, Engine, Language, Metric, Migration, Mode, Modifier, Placement, SparseParams, VectorParams,
};

#[derive(Subcommand)]
pub(super) enum CollectionCommand {
    /// Make a collection
    Create(CreateArgs),
    /// List collections
    List {
        #[command(flatten)]
        tenant: TenantArg,
    },
    /// Show a collection
    Show {
        #[command(flatten)]
        tenant: TenantArg,
        /// Its name
        name: String,
    },
    /// Move a collection to another engine or placement while it is used; once more takes up what was interrupted
    Migrate {
        #[command(flatten)]
        tenant: TenantArg,
        /// Its name
        name: String,
        #[command(flatten)]
        engine: EngineArgs,
    },
    /// Protect a collection by another mode while it is used; once more takes up what was interrupted
    Update {
        #[command(flatten)]
        tenant: TenantArg,
        /// Its name
        name: String,
        /// How embeddings are to be protected: sealed, veiled or plain, as `create --help` says
        #[arg(long)]
        mode: Mode,
    },
    /// Drop a collection and everything in it
    Drop {
        #[command(flatten)]
        tenant: TenantArg,
        /// Its name
        name: String,
        /// Really
        #[arg(long)]
        yes: bool,
    },
    /// Declare the fields that the engine filters by, and list and drop them
    #[command(subcommand)]
    Index(index::IndexCommand),
}

#[derive(Args)]
pub(super) struct EngineArgs {
    /// Which engine holds the points: in this process, or a Qdrant server (the setting `qdrant_url`)
    #[arg(long, default_value = "edge")]
    engine: EngineArg,
    /// In a server: a physical collection of its own, or one together with others of the same vectors
    #[arg(long)]
    placement: Option<PlacementArg>,
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

impl EngineArgs {
    fn engine(&self) -> Result<Engine> {
        match (self.engine, self.placement) {
            (EngineArg::Edge, None) => Ok(Engine::Edge),
            (EngineArg::Server, None | Some(PlacementArg::Dedicated)) => Ok(Engine::Server(Placement::Dedicated)),
            (EngineArg::Server, Some(PlacementArg::Shared)) => Ok(Engine::Server(Placement::Shared)),
            (EngineArg::Edge, Some(_)) => Err(Error::invalid("the engine in this process has no placements")
                .with_remedy("leave `--placement` out, or add `--engine server`")),
        }
    }
}

#[derive(Args)]
pub(super) struct CreateArgs {
    #[command(flatten)]
    tenant: TenantArg,
    /// Its name
    name: String,
    /// Dimensions of the only vector
    #[arg(long, required_unless_present_any = ["vector", "sparse", "no_vector"], conflicts_with = "vector")]
    size: Option<usize>,
    /// How vectors are compared: cosine, dot or euclid
    #[arg(long, default_value = "cosine")]
    metric: Metric,
    /// A named vector, as NAME=SIZE or NAME=SIZE:METRIC; repeat for more
    #[arg(long, value_name = "NAME=SIZE[:METRIC]")]
    vector: Vec<String>,
    /// A sparse vector, as NAME or NAME:idf to weigh what a query asks by how rare it is; repeat for more
    #[arg(long, value_name = "NAME[:idf]")]
    sparse: Vec<String>,
    /// Without vectors: texts are found by their words
    #[arg(long, conflicts_with_all = ["size", "vector", "sparse"])]
    no_vector: bool,
    /// The language of the texts, by which words are cut to stems for keyword search; `none` leaves them whole
    #[arg(long, default_value = "english")]
    language: Language,
    /// How embeddings are protected: sealed (nobody but Strongroom can search them), veiled (the engine searches a keyed,
    /// perturbed form of them) or plain (the engine sees them)
    #[arg(long, default_value = "sealed")]
    mode: Mode,
    /// Compress payloads before sealing; sizes then tell something about the content
    #[arg(long)]
    compress: bool,
    /// Pad payloads to Padmé sizes before sealing
    #[arg(long)]
    pad: bool,
    #[command(flatten)]
    engine: EngineArgs,
}

pub(super) async fn run(global: &Global, command: CollectionCommand, output: &Output) -> Result<()> {
    match command {
        CollectionCommand::Create(args) => create(global, args, output).await,
        CollectionCommand::List { tenant } => {
            let found = global.with_tenant(&tenant, async |tenant| all(tenant).await).await?;
            output.answer(&found, |found| found.iter().map(describe).collect())
        }
        CollectionCommand::Show { tenant, name } => {
            let found = global.with_tenant(&tenant, async |tenant| one(&tenant.collection(&name)?).await).await?;
            output.answer(&found, describe)
        }
        CollectionCommand::Migrate { tenant, name, engine } => migrate(global, &tenant, &name, &engine, output).await,
        CollectionCommand::Update { tenant, name, mode } => update(global, &tenant, &name, mode, output).await,
        CollectionCommand::Drop { tenant, name, yes } => {
            if !yes {
                return Err(Error::invalid(format!("dropping `{}` deletes everything in it", crate::id::shown(&name)))
                    .with_remedy("add `--yes` if that is what you want"));
            }
            global.with_tenant(&tenant, async |tenant| tenant.drop_collection(&name).await).await?;
            output.answer(&json!({ "dropped": name }), |_| format!("dropped {name}"))
        }
        CollectionCommand::Index(command) => index::run(global, command, output).await,
    }
}

async fn create(global: &Global, args: CreateArgs, output: &Output) -> Result<()> {
    let dense = args.size.map(|size| (String::new(), VectorParams { size, metric: args.metric }));
    let mut spec = CollectionSpec::without_vectors()
        .named(dense)
        .sparse(args.sparse.iter().map(|s| sparse_vector(s)).collect::<Result<Vec<_>>>()?)
        .language(args.language)
        .mode(args.mode)
        .packing(Packing { compress: args.compress, pad: args.pad })
        .engine(args.engine.engine()?);
    if !args.vector.is_empty() {
        let named = args.vector.iter().map(|v| named_vector(v, args.metric)).collect::<Result<BTreeMap<_, _>>>()?;
        if named.len() < args.vector.len() {
            return Err(Error::invalid("two vectors have the same name"));
        }
        spec = spec.named(named);
    }
    if spec.sparse.len() < args.sparse.len() {
        return Err(Error::invalid("two sparse vectors have the same name"));
    }
    if let Some(leak) = leak(args.mode) {
        output.remark(leak);
    }
    let name = args.name;
    let made = global
        .with_tenant(&args.tenant, async |tenant| one(&tenant.create_collection(&name, spec).await?).await)
        .await?;
    output.answer(&made, |made| format!("created {}", describe(made)))
}

const MOVING: &str = "{bar:30} {pos}/{len} points, {msg}, {eta} left";

async fn migrate(global: &Global, tenant: &TenantArg, name: &str, args: &EngineArgs, output: &Output) -> Result<()> {
    let engine = args.engine()?;
    let bar = output.progress(Some(0), MOVING);
    let shown = told(&bar);
    let moved = global
        .with_tenant(tenant, async |tenant| {
            let moved = tenant.migrate_collection(name, engine, shown).await?;
            Ok((moved, one(&tenant.collection(name)?).await?))
        })
        .await;
    bar.finish_and_clear();
    let (moved, collection) = moved?;
    let answer = json!({ "moved": moved.points, "collection": collection });
    output.answer(&answer, |answer| format!("moved {} points: {}", answer["moved"], describe(&answer["collection"])))
}

async fn update(global: &Global, tenant: &TenantArg, name: &str, mode: Mode, output: &Output) -> Result<()> {
    let bar = &output.progress(Some(0), MOVING);
    let shown = told(bar);
    let changed = global
        .with_tenant(tenant, async |tenant| {
            let collection = tenant.collection(name)?;
            if let Some(leak) = leak(mode).filter(|_| collection.mode() != mode) {
                output.remark(leak);
            }
            let changed = tenant.change_mode(name, mode, shown).await?;
            bar.finish_and_clear();
            if changed.points > 0 {
                super::chunks::finish(&collection, output).await?;
            }
            Ok((changed, one(&collection).await?))
        })
        .await;
    bar.finish_and_clear();
    let (changed, collection) = changed?;
    let answer = json!({ "changed": changed.points, "collection": collection });
    output
        .answer(&answer, |answer| format!("changed {} points: {}", answer["changed"], describe(&answer["collection"])))
}

/// Shows in `bar` how far a move is. Every point is looked at twice: when it is copied, and when it is opened in its new
/// place.
fn told(bar: &ProgressBar) -> impl FnMut(Migration) + Send + 'static {
    let bar = bar.clone();
    move |at| {
        bar.set_length(2 * at.points);
        bar.set_position(at.copied + at.verified);
        bar.set_message(if at.verified > 0 { "opening" } else { "copying" });
    }
}

/// What a mode gives away to who reads the engine's files. The figures are those of the manual's threat model.
fn leak(mode: Mode) -> Option<&'static str> {
    match mode {
        Mode::Sealed => None,
        Mode::Veiled => Some(
            "note: `veiled` hides less than `sealed`. The engine's files hold a keyed rotation of each embedding with \
             noise, in parts of about 2500. In a test on 2021 short texts in one part, somebody who had the texts and \
             none of the embeddings told which vector is of which text, for all of them, and found 30 % again in another \
             tenant. Who knew 50 of the embeddings, for instance by having stored them, named 61 % of the others; with \
             100 known, 93 %. Who had only other texts of the same kind named none. 26 % of true neighbours show. Use \
             `sealed` unless the collection is too large to be searched in memory",
        ),
        Mode::Plain => Some(
            "note: in `plain` mode the engine's files hold the exact embeddings, and an embedding gives away roughly \
             its text",
        ),
    }
}

fn named_vector(text: &str, metric: Metric) -> Result<(String, VectorParams)> {
    let bad = || {
        Error::invalid(format!("`{}` is not a vector", crate::id::shown(text)))
            .with_remedy("write NAME=SIZE or NAME=SIZE:METRIC, as in `--vector title=384:cosine`")
    };
    let (name, rest) = text.split_once('=').ok_or_else(bad)?;
    let (size, metric) = match rest.split_once(':') {
        Some((size, metric)) => (size, metric.parse()?),
        None => (rest, metric),
    };
    Ok((name.to_owned(), VectorParams { size: size.parse().map_err(|_| bad())?, metric }))
}

fn sparse_vector(text: &str) -> Result<(String, SparseParams)> {
    let (name, modifier) = match text.split_once(':') {
        Some((name, modifier)) => (name, modifier.parse()?),
        None => (text, Modifier::None),
    };
    Ok((name.to_owned(), SparseParams { modifier }))
}

async fn all(tenant: &Tenant) -> Result<Vec<Value>> {
    let mut found = Vec::new();
    for collection in tenant.collections() {
        found.push(one(&collection).await?);
    }
    Ok(found)
}

async fn one(collection: &Collection) -> Result<Value> {
    let spec = collection.spec();
    let status = collection.status().await?;
    Ok(json!({
        "name": collection.name(), "mode": collection.mode(), "vectors": spec.vectors, "sparse": spec.sparse,
        "language": spec.language, "packing": spec.packing, "indexes": index::list(collection),
        "engine": collection.engine(), "status": status,
    }))
}

fn describe(collection: &Value) -> String {
    let mut vectors: Vec<String> = collection["vectors"]
        .as_object()
        .into_iter()
        .flatten()
        .map(|(name, p)| {
            let name = if name.is_empty() { String::new() } else { format!("{name} ") };
            format!("{name}{} {}", p["size"], p["metric"].as_str().unwrap_or_default())
        })
        .collect();
    vectors.extend(collection["sparse"].as_object().into_iter().flatten().map(|(name, p)| {
        let idf = if p["modifier"] == "idf" { " idf" } else { "" };
        format!("{name} sparse{idf}")
    }));
    if vectors.is_empty() {
        vectors.push("no vectors".to_owned());
    }
    let text = |key: &str| collection[key].as_str().unwrap_or_default().to_owned();
    let status = &collection["status"];
    let engine = serde_json::from_value::<Engine>(collection["engine"].clone()).unwrap_or_default();
    let engine = if engine == Engine::Edge { String::new() } else { format!(", in the {engine}") };
    format!(
        "{} ({}{engine}, {}): {} chunks, {} in the journal\n",
        text("name"),
        text("mode"),
        vectors.join(", "),
        status["chunks"],
        bytes(status["journal_bytes"].as_u64().unwrap_or_default())
    )
}
