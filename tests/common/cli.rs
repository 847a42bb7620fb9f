//! The command line as a user runs it, in a store of its own.

use std::ffi::OsStr;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use serde_json::Value;
use strongroom::ErrorKind;

pub const PASSPHRASE: &str = "a passphrase for tests";

/// A directory for a store and for files beside it, removed at the end.
pub struct Cli {
    pub root: tempfile::TempDir,
    /// The store's directory.
    pub dir: PathBuf,
    /// What every command is run under, as in `setpriv --reuid=nobody`.
    pub wrapper: Vec<String>,
    pub passphrase: String,
}

impl Cli {
    /// Without a store.
    pub fn bare() -> Self {
        let root = tempfile::tempdir().unwrap();
        let dir = root.path().join("store");
        Self { root, dir, wrapper: Vec::new(), passphrase: PASSPHRASE.to_owned() }
    }

    /// With a store that opens fast.
    pub fn new() -> Self {
        let cli = Self::bare();
        cli.init();
        cli
    }

    pub fn init(&self) {
        self.ok(&["init", "--kdf-memory-mib", "1", "--kdf-passes", "1"]);
    }

    /// With a tenant and a collection in which there is something.
    pub fn with_collection(mode: &str, size: usize) -> Self {
        let cli = Self::new();
        cli.ok(&["tenant", "create", "acme"]);
        cli.ok(&["collection", "create", "-t", "acme", "docs", "--size", &size.to_string(), "--mode", mode]);
        cli
    }

    pub fn command<S: AsRef<OsStr>>(&self, args: &[S]) -> Command {
        let program = env!("CARGO_BIN_EXE_strongroom");
        let mut command = match self.wrapper.split_first() {
            Some((first, rest)) => {
                let mut command = Command::new(first);
                command.args(rest).arg(program);
                command
            }
            None => Command::new(program),
        };
        for (name, _) in std::env::vars_os() {
            let name = name.to_string_lossy().into_owned();
            if name.starts_with("STRONGROOM") || name == "CREDENTIALS_DIRECTORY" {
                command.env_remove(name);
            }
        }
        command.env("STRONGROOM_DIR", &self.dir).env("STRONGROOM_PASSPHRASE", &self.passphrase);
        // As `common::config` has it.
        command.env("STRONGROOM_CONFIG_AUDIT_SIGNATURE", "ml-dsa-87");
        command.stdin(Stdio::null()).args(args);
        command
    }

    pub fn run<S: AsRef<OsStr>>(&self, args: &[S]) -> Output {
        self.command(args).output().unwrap()
    }

    pub fn run_with_input<S: AsRef<OsStr>>(&self, args: &[S], input: &[u8]) -> Output {
        let mut command = self.command(args);
        let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        let mut stdin = child.stdin.take().unwrap();
        let input = input.to_vec();
        // A command that refuses its input stops reading it.
        let writer = std::thread::spawn(move || drop(stdin.write_all(&input)));
        let output = child.wait_with_output().unwrap();
        writer.join().unwrap();
        output
    }

    /// Runs a command that has to succeed, and returns what it printed.
    pub fn ok<S: AsRef<OsStr>>(&self, args: &[S]) -> String {
        succeeded(&self.run(args))
    }

    pub fn json<S: AsRef<OsStr>>(&self, args: &[S]) -> Value {
        let args: Vec<&OsStr> = args.iter().map(AsRef::as_ref).chain([OsStr::new("--json")]).collect();
        serde_json::from_str(&self.ok(&args)).unwrap()
    }

    /// A file beside the store.
    pub fn file(&self, name: &str, content: impl AsRef<[u8]>) -> String {
        let path = self.root.path().join(name);
        std::fs::write(&path, content).unwrap();
        path.to_str().unwrap().to_owned()
    }
}

pub fn succeeded(output: &Output) -> String {
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{}: {stderr}", output.status);
    assert!(!stderr.contains("panicked"), "{stderr}");
    String::from_utf8(output.stdout.clone()).unwrap()
}

/// Asserts that a command was refused as `kind`, said why and what to do, and did not fall over. Returns what it said.
#[track_caller]
pub fn refused(output: &Output, kind: ErrorKind) -> String {
    let stderr = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(i32::from(kind.exit_code())), "{}: {stderr}", output.status);
    assert!(stderr.contains("error:"), "{stderr}");
    assert!(stderr.contains("help:"), "no remedy: {stderr}");
    calm(&stderr);
    stderr
}

/// As [`refused`] for `--json`: returns message and remedy.
#[track_caller]
pub fn refused_json(output: &Output, kind: ErrorKind) -> (String, String) {
    let stderr = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(i32::from(kind.exit_code())), "{}: {stderr}", output.status);
    calm(&stderr);
    let last = stderr.lines().last().unwrap_or_default();
    let error: Value = serde_json::from_str(last).unwrap_or_else(|e| panic!("{e}: {stderr}"));
    assert_eq!(error["error"]["kind"], kind.as_str());
    let text = |key: &str| error["error"][key].as_str().unwrap_or_else(|| panic!("no {key}: {stderr}")).to_owned();
    (text("message"), text("remedy"))
}

#[track_caller]
fn calm(stderr: &str) {
    for word in ["panicked", "RUST_BACKTRACE", "core dumped", "unwrap()", "stack backtrace"] {
        assert!(!stderr.contains(word), "{stderr}");
    }
}

/// Every file and directory below `dir`.
pub fn walk(dir: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(dir).unwrap_or_else(|e| panic!("{}: {e}", dir.display())) {
        let path = entry.unwrap().path();
        if path.is_dir() && !path.is_symlink() {
            found.extend(walk(&path));
        }
        found.push(path);
    }
    found
}
