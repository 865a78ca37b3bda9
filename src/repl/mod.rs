//! The replication protocol: the replica's side and the master's side of `SYNC` and `PSYNC`, as values.
