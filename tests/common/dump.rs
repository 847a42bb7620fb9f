//! The memory of a process, as the kernel shows it to a debugger.

use std::path::Path;
use std::process::Command;

/// Dumps every mapping of a process, those that ask to be left out too.
pub fn dump(process: u32, to: &Path) -> Vec<u8> {
    let output = Command::new("gcore").arg("-a").arg("-o").arg(to).arg(process.to_string()).output();
    let output = output.unwrap_or_else(|e| panic!("`gcore` does not run ({e}): install the package `gdb`"));
    let path = to.with_extension(process.to_string());
    let path = if path.exists() { path } else { format!("{}.{process}", to.display()).into() };
    let bytes = std::fs::read(&path).unwrap_or_else(|e| {
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        panic!("`gcore` wrote no dump ({e}): it may need root or kernel.yama.ptrace_scope=0\n{said}")
    });
    std::fs::remove_file(path).unwrap();
    bytes
}
