//! The stand-in for a Qdrant server (`tools/upstream`), in a process of its own.

use std::io::{BufRead as _, BufReader, Write as _};
use std::path::Path;
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::sync::LazyLock;

use rustix::process::{Pid, Signal, kill_process};

/// One that all tests of a process share. It ends with the process, and leaves nothing.
static SHARED: LazyLock<(Upstream, String)> = LazyLock::new(|| {
    let upstream = Upstream::spawn(None, "0", &[]);
    let url = upstream.url();
    (upstream, url)
});

/// The address of the one that all tests of a process share.
pub fn shared_url() -> &'static str {
    &SHARED.1
}

pub struct Upstream {
    child: Child,
    /// Orders; when it is closed the process ends.
    stdin: Option<ChildStdin>,
    stdout: BufReader<ChildStdout>,
    address: String,
    scheme: &'static str,
    dir: Option<tempfile::TempDir>,
    args: Vec<String>,
}

impl Upstream {
    /// One with a directory of its own.
    pub fn start(args: &[&str]) -> Self {
        Self::spawn(Some(tempfile::tempdir().unwrap()), "0", args)
    }

    fn spawn(dir: Option<tempfile::TempDir>, port: &str, args: &[&str]) -> Self {
        let program = Path::new(env!("CARGO_BIN_EXE_strongroom")).with_file_name("examples").join("upstream");
        assert!(
            program.exists(),
            "there is no {}: build it with `cargo build --release --example upstream`",
            program.display()
        );
        let mut command = Command::new(program);
        command.args(["--until-eof", "--port", port]).args(args);
        if let Some(dir) = &dir {
            command.arg("--dir").arg(dir.path());
        }
        let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
        let (stdin, stdout) = (child.stdin.take(), child.stdout.take().unwrap());
        let mut upstream = Self {
            child,
            stdin,
            stdout: BufReader::new(stdout),
            address: String::new(),
            scheme: if args.contains(&"--tls-cert") { "https" } else { "http" },
            dir,
            args: args.iter().map(|arg| (*arg).to_owned()).collect(),
        };
        let said = upstream.line();
        upstream.address = said.strip_prefix("listening on ").unwrap_or_else(|| panic!("{said}")).to_owned();
        upstream
    }

    fn line(&mut self) -> String {
        let mut line = String::new();
        self.stdout.read_line(&mut line).unwrap();
        line.trim().to_owned()
    }

    pub fn url(&self) -> String {
        format!("{}://{}", self.scheme, self.address)
    }

    /// Gives an order, which holds when this returns.
    pub fn order(&mut self, order: &str) {
        writeln!(self.stdin.as_mut().unwrap(), "{order}").unwrap();
        assert_eq!(self.line(), format!("ok {order}"));
    }

    /// SIGKILL.
    pub fn kill(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }

    /// Again, where it was and with what it has.
    pub fn restart(&mut self) {
        self.kill();
        let port = self.address.rsplit(':').next().unwrap().to_owned();
        let args: Vec<&str> = self.args.iter().map(String::as_str).collect();
        *self = Self::spawn(self.dir.take(), &port, &args);
    }

    /// Ends it as an operator does.
    pub fn stop(mut self) {
        kill_process(Pid::from_child(&self.child), Signal::TERM).unwrap();
        assert!(self.child.wait().unwrap().success());
    }
}

impl Drop for Upstream {
    fn drop(&mut self) {
        // Nothing to do where it has ended and was waited for.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
