//! `collection create|list|show|drop`.

use std::collections::BTreeMap;

use clap::{Args, Subcommand};
use serde_json::{Value, json};

use super::output::{Output, bytes};
use super::{Global, TenantArg};
use crate::error::{Error, Result};
use crate::record::Packing;
use crate::store::{Collection, Tenant};
use crate::vectors::{CollectionSpec, Metric, Mode, VectorParams};

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
}

#[derive(Args)]
pub(super) struct CreateArgs {
    #[command(flatten)]
    tenant: TenantArg,
    /// Its name
    name: String,
    /// Dimensions of the only vector
    #[arg(long, required_unless_present = "vector", conflicts_with = "vector")]
    size: Option<usize>,
    /// How vectors are compared: cosine, dot or euclid
    #[arg(long, default_value = "cosine")]
    metric: Metric,
    /// A named vector, as NAME=SIZE or NAME=SIZE:METRIC; repeat for more
    #[arg(long, value_name = "NAME=SIZE[:METRIC]")]
    vector: Vec<String>,
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
        CollectionCommand::Drop { tenant, name, yes } => {
            if !yes {
                return Err(Error::invalid(format!("dropping `{}` deletes everything in it", crate::id::shown(&name)))
                    .with_remedy("add `--yes` if that is what you want"));
            }
            global.with_tenant(&tenant, async |tenant| tenant.drop_collection(&name).await).await?;
            output.answer(&json!({ "dropped": name }), |_| format!("dropped {name}"))
        }
    }
}

async fn create(global: &Global, args: CreateArgs, output: &Output) -> Result<()> {
    let mut spec = CollectionSpec::new(args.size.unwrap_or_default(), args.metric)
        .mode(args.mode)
        .packing(Packing { compress: args.compress, pad: args.pad });
    if !args.vector.is_empty() {
        let named = args.vector.iter().map(|v| named_vector(v, args.metric)).collect::<Result<BTreeMap<_, _>>>()?;
        if named.len() < args.vector.len() {
            return Err(Error::invalid("two vectors have the same name"));
        }
        spec = spec.named(named);
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

/// What a mode gives away to who reads the engine's files. The figures are those of the manual's threat model.
fn leak(mode: Mode) -> Option<&'static str> {
    match mode {
        Mode::Sealed => None,
        Mode::Veiled => Some(
            "note: `veiled` hides less than `sealed`. The engine's files hold a keyed rotation of each embedding with \
             noise, in parts of about 2500. In a test on 20 000 short texts, somebody with texts of the same kind and \
             none of the embeddings named none of the texts of a part. But somebody who knew 100 of the embeddings of a \
             part, for instance by having stored them, named 1 % of its texts, with 500 known 43 %; and in a collection \
             of one part, 61 % with 100 known, and 82 to 93 % with none. 7 % of true neighbours show. Use `sealed` \
             unless the collection is too large to be searched in memory",
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
        "name": collection.name(), "mode": spec.mode, "vectors": spec.vectors, "packing": spec.packing,
        "status": status,
    }))
}

fn describe(collection: &Value) -> String {
    let vectors: Vec<String> = collection["vectors"]
        .as_object()
        .into_iter()
        .flatten()
        .map(|(name, p)| {
            let name = if name.is_empty() { String::new() } else { format!("{name} ") };
            format!("{name}{} {}", p["size"], p["metric"].as_str().unwrap_or_default())
        })
        .collect();
    let text = |key: &str| collection[key].as_str().unwrap_or_default().to_owned();
    let status = &collection["status"];
    format!(
        "{} ({}, {}): {} chunks, {} in the journal\n",
        text("name"),
        text("mode"),
        vectors.join(", "),
        status["chunks"],
        bytes(status["journal_bytes"].as_u64().unwrap_or_default())
    )
}
