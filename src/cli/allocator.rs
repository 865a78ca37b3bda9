//! That freed memory goes back to the system, so that `--memory` holds for the process and not only for what it counts.
//!
//! glibc gives a large block a mapping of its own, which goes away when the block is freed. But each time it frees such a block it takes that
//! size, up to 32 MiB, for one that the heaps shall serve, and heaps keep what is freed, each as much again (`mallopt(3)`, `M_MMAP_THRESHOLD`,
//! "dynamic"). Commands of 15 MiB from three sources took 85 to 108 MiB with `--memory 64MiB`, by chance; with a size that stays they take 80,
//! and no run was slower. Setting it takes unsafe code or a variable that is there when the process begins: it begins twice.

use std::env;
use std::os::unix::process::CommandExt;
use std::process::Command;

/// What sets it, and whoever has it set already has their way.
const VARIABLES: [&str; 2] = ["MALLOC_MMAP_THRESHOLD_", "GLIBC_TUNABLES"];

/// From this size on a block has a mapping of its own. Smaller ones are many, and what a heap keeps of them is used again.
const LARGE: usize = 1 << 20;

/// Begins this process anew, with the same PID, if that is not set. If it cannot be done it goes on as it is: it may take more memory.
pub(crate) fn set_up() {
    let is_set = VARIABLES.iter().any(|name| env::var_os(name).is_some());
    if !cfg!(target_env = "gnu") || is_set {
        return;
    }
    let Ok(program) = env::current_exe() else { return };
    let mut args = env::args_os();
    let mut anew = Command::new(program);
    if let Some(name) = args.next() {
        anew.arg0(name);
    }
    // Only returns if it has failed.
    let _ = anew.args(args).env(VARIABLES[0], LARGE.to_string()).exec();
}
