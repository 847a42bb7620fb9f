//! `remember`, `recall`, `forget`, `memories`.

use clap::Args;
use serde_json::{Value, json};

use super::output::{Output, one_line, time};
use super::vector::VectorArgs;
use super::{Global, TenantArg};
use crate::error::{Error, Result};
use crate::id::Namespace;
use crate::memory::{Memory, MemoryItem, RecallRequest};

#[derive(Args)]
pub(super) struct RememberArgs {
    #[command(flatten)]
    tenant: TenantArg,
    /// Where it lives, as in users/ada
    namespace: Namespace,
    /// Its key
    key: String,
    /// The value: JSON, or any text; `-` reads it from standard input
    #[arg(allow_negative_numbers = true)]
    value: String,
    /// Forget it after this time, as in 30s, 15m, 12h, 30d
    #[arg(long, value_name = "TIME", value_parser = parse_ttl)]
    ttl: Option<u64>,
    #[command(flatten)]
    vector: VectorArgs,
}

#[derive(Args)]
pub(super) struct RecallArgs {
    #[command(flatten)]
    tenant: TenantArg,
    /// The namespace to look in and below, as in users/ada; `/` for all
    namespace: String,
    /// What to recall: embedded where there is an endpoint, otherwise every word must be in the value
    text: Option<String>,
    #[command(flatten)]
    vector: VectorArgs,
    /// How many
    #[arg(long, short = 'n', default_value_t = 10)]
    limit: usize,
}

#[derive(Args)]
pub(super) struct ForgetArgs {
    #[command(flatten)]
    tenant: TenantArg,
    /// Where it lives; with --all, the namespace to empty with everything below
    namespace: Namespace,
    /// Its key
    #[arg(required_unless_present = "all", conflicts_with = "all")]
    key: Option<String>,
    /// Forget every memory in the namespace and below
    #[arg(long)]
    all: bool,
    /// Remove the history too
    #[arg(long)]
    purge: bool,
    /// Really forget all of them
    #[arg(long)]
    yes: bool,
}

#[derive(Args)]
pub(super) struct MemoriesArgs {
    #[command(flatten)]
    tenant: TenantArg,
    /// The namespace to list with everything below
    #[arg(default_value = "/")]
    namespace: String,
    /// List namespaces instead of memories
    #[arg(long, conflicts_with = "history")]
    namespaces: bool,
    /// Show every version of the memory with this key
    #[arg(long, value_name = "KEY")]
    history: Option<String>,
    /// How many
    #[arg(long, short = 'n', default_value_t = 100)]
    limit: usize,
    /// Skip so many
    #[arg(long, default_value_t = 0)]
    offset: usize,
}

pub(super) async fn remember(global: &Global, args: RememberArgs, output: &Output) -> Result<()> {
    let text = match args.value.as_str() {
        "-" => std::io::read_to_string(std::io::stdin())?,
        _ => args.value,
    };
    let value: Value = serde_json::from_str(&text).unwrap_or_else(|_| Value::String(text.clone()));
    let embedding = args.vector.resolve(Some(&text), output).await?;
    let mut memory = Memory::new(args.namespace, args.key, &value)?;
    if let Some(ttl) = args.ttl {
        memory = memory.ttl_ms(ttl);
    }
    if let Some(embedding) = embedding {
        memory = memory.embedding(embedding);
    }
    let version = global.with_tenant(&args.tenant, async |tenant| tenant.remember(memory).await).await?;
    output.answer(&json!({ "version": version }), |_| format!("remembered (version {version})"))
}

pub(super) async fn recall(global: &Global, args: RecallArgs, output: &Output) -> Result<()> {
    let prefix = prefix(&args.namespace)?;
    let embedding = args.vector.resolve(args.text.as_deref(), output).await?;
    // A text that was embedded need not be in the value word by word.
    let text = if embedding.is_some() { None } else { args.text };
    let request = RecallRequest { prefix, embedding, text, limit: args.limit };
    let recalled = global.with_tenant(&args.tenant, async |tenant| tenant.recall(request).await).await?;
    output.answer(&recalled, |recalled| {
        let line = |r: &crate::memory::Recalled| {
            let score = r.score.map_or_else(String::new, |s| format!("{s:.4}  "));
            format!("{score}{}", describe(&r.item))
        };
        recalled.iter().map(line).collect()
    })
}

pub(super) async fn forget(global: &Global, args: ForgetArgs, output: &Output) -> Result<()> {
    if args.all && !args.yes {
        return Err(Error::invalid(format!("this forgets every memory in `{}` and below", args.namespace))
            .with_remedy("add `--yes` if that is what you want"));
    }
    let forgotten = global
        .with_tenant(&args.tenant, async |tenant| match &args.key {
            Some(key) => tenant.forget(&args.namespace, key, args.purge).await.map(usize::from),
            None => tenant.forget_all(args.namespace.labels(), args.purge).await,
        })
        .await?;
    if forgotten == 0 && !args.all && !args.purge {
        return Err(Error::not_found("there is no such memory").with_remedy("`strongroom memories` lists them"));
    }
    output.answer(&json!({ "forgotten": forgotten }), |_| format!("forgot {forgotten}"))
}

pub(super) async fn memories(global: &Global, args: MemoriesArgs, output: &Output) -> Result<()> {
    let prefix = prefix(&args.namespace)?;
    if let Some(key) = &args.history {
        let namespace = Namespace::new(&prefix)?;
        let versions =
            global.with_tenant(&args.tenant, async |tenant| tenant.memory_history(&namespace, key).await).await?;
        return output.answer(&versions, |versions| {
            let line = |v: &crate::memory::MemoryVersion| {
                let what = if v.deleted { "deleted".into() } else { one_line(&v.item.json, 100) };
                format!("{}  {}  {what}\n", v.item.version, time(v.item.updated_at_ms))
            };
            versions.iter().map(line).collect()
        });
    }
    if args.namespaces {
        let found = global.with_tenant(&args.tenant, async |tenant| tenant.namespaces(&prefix, None).await).await?;
        return output.answer(&found, |found| found.iter().map(|n| format!("{n}\n")).collect());
    }
    let (limit, offset) = (args.limit, args.offset);
    let items = global.with_tenant(&args.tenant, async |tenant| tenant.memories(&prefix, limit, offset).await).await?;
    output.answer(&items, |items| items.iter().map(describe).collect())
}

fn describe(item: &MemoryItem) -> String {
    format!("{}  {}  {}\n", item.namespace, item.key, one_line(&item.json, 100))
}

/// The labels of a namespace; none for `/`.
fn prefix(text: &str) -> Result<Vec<String>> {
    match text.trim_matches('/') {
        "" => Ok(Vec::new()),
        labels => Ok(labels.parse::<Namespace>()?.labels().to_vec()),
    }
}

pub(super) fn parse_ttl(text: &str) -> Result<u64, String> {
    let bad = || "write a number and s, m, h or d, as in 30d".to_owned();
    let unit_at = text.find(|c: char| !c.is_ascii_digit()).ok_or_else(bad)?;
    let (number, unit) = text.split_at(unit_at);
    let number: u64 = number.parse().map_err(|_| bad())?;
    let seconds = match unit {
        "s" => 1,
        "m" => 60,
        "h" => 3600,
        "d" => 86_400,
        _ => return Err(bad()),
    };
    number.checked_mul(seconds * 1000).filter(|ms| *ms > 0).ok_or_else(bad)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_to_live() {
        assert_eq!(parse_ttl("30d"), Ok(30 * 86_400_000));
        assert_eq!(parse_ttl("90s"), Ok(90_000));
        for bad in ["", "30", "d", "0s", "1w", "-1d", "99999999999999999999d"] {
            assert!(parse_ttl(bad).is_err(), "{bad}");
        }
    }
}
