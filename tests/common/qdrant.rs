//! `strongroom serve` with the Qdrant-compatible endpoint, in a process of its own, and clients of it.

use std::io::{BufRead as _, BufReader, Read as _};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use rustix::process::{Pid, Signal, getuid, kill_process};
use serde_json::Value;

use super::cli::{Cli, succeeded};

pub struct Endpoint {
    child: Child,
    stderr: BufReader<std::process::ChildStderr>,
    /// Where it speaks REST, as `127.0.0.1:41234`.
    pub rest: String,
    pub grpc: String,
}

impl Endpoint {
    /// Starts it without TLS on this machine, and waits until it listens.
    pub fn start(cli: &Cli) -> Self {
        Self::start_with(cli, &["--set", "qdrant_tls=none"])
    }

    pub fn start_with(cli: &Cli, more: &[&str]) -> Self {
        let uid = getuid().as_raw();
        let services = format!("[[service]]\nname = \"who\"\nrole = \"admin\"\ntenants = [\"*\"]\nuid = {uid}\n");
        let services = cli.file("endpoint-services.toml", services);
        let listen = ["--set", "qdrant_rest_listen=127.0.0.1:0", "--set", "qdrant_grpc_listen=127.0.0.1:0"];
        let args = [&["serve", "--services", &services][..], &listen, more].concat();
        let mut child = cli.command(&args).stderr(Stdio::piped()).spawn().unwrap();
        let mut stderr = BufReader::new(child.stderr.take().unwrap());
        let mut said = |what: &str| {
            let mut line = String::new();
            stderr.read_line(&mut line).unwrap();
            line.trim().strip_prefix(what).unwrap_or_else(|| panic!("{what}: {line}")).to_owned()
        };
        said("listening on ");
        let (rest, grpc) = (said("Qdrant's REST on "), said("Qdrant's gRPC on "));
        Self { child, stderr, rest, grpc }
    }

    pub fn id(&self) -> u32 {
        self.child.id()
    }

    pub fn stop(mut self) {
        kill_process(Pid::from_child(&self.child), Signal::TERM).unwrap();
        let status = self.child.wait().unwrap();
        let said: Vec<_> = self.stderr.by_ref().lines().map_while(Result::ok).collect();
        assert!(status.success(), "{status}: {said:?}");
        assert_eq!(said.last().map(String::as_str), Some("stopped"));
    }

    /// One call over REST: its status and its answer.
    pub fn call(&self, method: &str, path: &str, key: &str, body: &Value) -> (u16, Value) {
        let agent: ureq::Agent = ureq::Agent::config_builder().http_status_as_error(false).build().into();
        let url = format!("http://{}{path}", self.rest);
        let request = ureq::http::Request::builder().method(method).uri(url);
        let request = if key.is_empty() { request } else { request.header("api-key", key) };
        let request = request.header("content-type", "application/json");
        let mut response = agent.run(request.body(body.to_string()).unwrap()).unwrap();
        let status = response.status().as_u16();
        let text = response.body_mut().read_to_string().unwrap();
        (status, serde_json::from_str(&text).unwrap_or(Value::String(text)))
    }
}

impl Drop for Endpoint {
    fn drop(&mut self) {
        // Nothing to do where it has ended and was waited for.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Makes a tenant and a key of it.
pub fn tenant(cli: &Cli, name: &str) -> String {
    cli.ok(&["tenant", "create", name]);
    key(cli, &["-t", name, "--role", "manage"])
}

/// Makes a key.
pub fn key(cli: &Cli, args: &[&str]) -> String {
    let args = [&["apikey", "create"][..], args].concat();
    cli.json(&args)["key"].as_str().unwrap().to_owned()
}

/// Where `tools/clients/install` puts the clients.
pub fn clients() -> PathBuf {
    let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("target/clients");
    assert!(dir.join("pins").exists(), "the clients are not installed: run `tools/setup --tests` first");
    dir
}

/// Runs a script with a client, which has to succeed.
pub fn script(name: &str, args: &[&str], endpoint: &Endpoint, more: &[(&str, &str)]) -> String {
    let (clients, here) = (clients(), Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/qdrant_clients"));
    let program = if name.ends_with(".mjs") { PathBuf::from("node") } else { clients.join("venv/bin/python") };
    let mut command = Command::new(program);
    command.arg(here.join(name)).args(args).env("STRONGROOM_CLIENTS", &clients);
    command.env("STRONGROOM_REST", &endpoint.rest).env("STRONGROOM_GRPC", &endpoint.grpc);
    // Frameworks that look for the world find none.
    command.env("PYTHONDONTWRITEBYTECODE", "1").env("NO_PROXY", "127.0.0.1").env("TIKTOKEN_CACHE_DIR", &clients);
    command.envs(more.iter().copied()).stdin(Stdio::null());
    let output = command.output().unwrap();
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(output.status.success(), "{name}: {said}\n{}", String::from_utf8_lossy(&output.stderr));
    let _ = succeeded(&output);
    said
}
