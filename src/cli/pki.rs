//! `pki`: a small authority for TLS certificates, in a directory of its own.

use std::path::PathBuf;
use std::sync::Arc;

use clap::{Args, Subcommand};
use serde_json::json;

use super::output::{Output, time};
use crate::clock::SystemClock;
use crate::error::Result;
use crate::limits;
use crate::pki::{AuthorityView, Issued, Pki, Request};

#[derive(Subcommand)]
pub(super) enum PkiCommand {
    /// Make an authority in a directory
    Init(Dir),
    /// Issue a certificate and its key
    Issue(IssueArgs),
    /// Replace certificates by new ones for the same names, with new keys
    Renew {
        #[command(flatten)]
        dir: Dir,
        /// The certificates
        #[arg(required = true, value_name = "NAME")]
        names: Vec<String>,
        /// How long they are valid, in days [default: as long as those before]
        #[arg(long)]
        days: Option<u32>,
    },
    /// Show what was issued, and by whom
    List(Dir),
    /// Make a new authority, which issues from now on; the old one is believed until `retire-ca`
    RotateCa(Dir),
    /// End all authorities but the newest
    RetireCa(Dir),
}

/// Where the authority is.
#[derive(Args)]
pub(super) struct Dir {
    /// The authority's directory
    #[arg(long = "pki", env = "STRONGROOM_PKI", value_name = "DIR")]
    path: PathBuf,
}

#[derive(Args)]
pub(super) struct IssueArgs {
    #[command(flatten)]
    dir: Dir,
    /// Whose it is: what `certificate_name` says in a file of services
    name: String,
    /// For a server, not for a client (both without `--server` and `--client`)
    #[arg(long)]
    server: bool,
    /// For a client, not for a server
    #[arg(long)]
    client: bool,
    /// A host that it is for besides, by name or address; may be repeated
    #[arg(long, value_name = "HOST")]
    host: Vec<String>,
    /// How long it is valid, in days
    #[arg(long, default_value_t = limits::PKI_DAYS)]
    days: u32,
}

impl Dir {
    fn open(&self) -> Result<Pki> {
        Pki::open(&self.path, Arc::new(SystemClock))
    }
}

pub(super) fn run(command: PkiCommand, output: &Output) -> Result<()> {
    match command {
        PkiCommand::Init(dir) => {
            let pki = Pki::init(&dir.path, Arc::new(SystemClock))?;
            let authorities = pki.list_authorities()?;
            output.remark(&format!("give `{}` to those who are to believe it", pki.ca_file().display()));
            output.answer(&authorities, |all| all.iter().map(authority).collect())
        }
        PkiCommand::Issue(IssueArgs { dir, name, server, client, host, days }) => {
            let both = !server && !client;
            let request = Request { name, server: server || both, client: client || both, hosts: host, days };
            output.answer(&dir.open()?.issue(&request)?, issued)
        }
        PkiCommand::Renew { dir, names, days } => {
            let pki = dir.open()?;
            // Each is shown when it is done: what fails later changes nothing about it.
            names.iter().try_for_each(|name| output.answer(&pki.renew(name, days)?, issued))
        }
        PkiCommand::List(dir) => {
            let pki = dir.open()?;
            let (authorities, certificates) = (pki.list_authorities()?, pki.list()?);
            output.answer(&json!({"authorities": authorities, "certificates": certificates}), |_| {
                authorities.iter().map(authority).chain(certificates.iter().map(issued)).collect()
            })
        }
        PkiCommand::RotateCa(dir) => {
            let pki = dir.open()?;
            let made = pki.rotate()?;
            output.remark(&format!(
                "bring `{}` to all who believe the old one, then `pki renew` what it issued, then `pki retire-ca`",
                pki.ca_file().display()
            ));
            output.answer(&made, authority)
        }
        PkiCommand::RetireCa(dir) => {
            let retired = dir.open()?.retire()?;
            output.answer(&retired, |all| all.iter().map(authority).collect())
        }
    }
}

fn authority(view: &AuthorityView) -> String {
    format!(
        "authority {}  {}  until {}\n  sha256 {}\n",
        view.number,
        view.subject,
        time(view.not_after_ms),
        view.sha256
    )
}

fn issued(view: &Issued) -> String {
    let uses = match (view.server, view.client) {
        (true, true) => "server and client",
        (true, false) => "server",
        _ => "client",
    };
    let hosts = if view.hosts.is_empty() { String::new() } else { format!(", for {}", view.hosts.join(" ")) };
    format!(
        "{}  {uses}{hosts}, until {}, of {}\n  certificate {}\n  key {}\n  sha256 {}\n",
        view.name,
        time(view.not_after_ms),
        view.issuer,
        view.certificate.display(),
        view.key.display(),
        view.sha256
    )
}
