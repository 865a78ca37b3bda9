//! The command line of understudy.

fn main() {}
