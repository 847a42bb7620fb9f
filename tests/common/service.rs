//! `strongroom … serve` in a process of its own, killed at the end if it is still there.

use std::io::{BufRead as _, BufReader, Read as _};
use std::process::{Child, ChildStderr, Stdio};

use rustix::process::{Pid, Signal, kill_process};

use super::cli::Cli;

pub struct Service {
    child: Child,
    stderr: BufReader<ChildStderr>,
    /// Where it listens, as it says itself.
    pub address: String,
}

impl Service {
    /// Starts it, and waits until it listens.
    pub fn start(cli: &Cli, args: &[&str]) -> Self {
        let mut child = cli.command(args).stderr(Stdio::piped()).spawn().unwrap();
        let mut stderr = BufReader::new(child.stderr.take().unwrap());
        let mut line = String::new();
        stderr.read_line(&mut line).unwrap();
        let said = line.trim().strip_prefix("listening on ").unwrap_or_else(|| panic!("{args:?}: {line}"));
        let address = said.split(" as ").next().unwrap().to_owned();
        Self { child, stderr, address }
    }

    #[allow(dead_code, reason = "not every test looks into it")]
    pub fn id(&self) -> u32 {
        self.child.id()
    }

    pub fn kill(mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }

    pub fn stop(mut self) {
        kill_process(Pid::from_child(&self.child), Signal::TERM).unwrap();
        let status = self.child.wait().unwrap();
        let said: Vec<_> = self.stderr.by_ref().lines().map_while(Result::ok).collect();
        assert!(status.success(), "{status}: {said:?}");
        assert_eq!(said.last().map(String::as_str), Some("stopped"));
    }
}

impl Drop for Service {
    fn drop(&mut self) {
        // Nothing to do where it has ended and was waited for.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
