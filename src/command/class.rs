//! What a command is for: what whoever plays a stream switches on first.

/// The kind of a command in a replication stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Class {
    /// Changes keys that it names (`SET`, `XADD`, `COPY`, and `PFCOUNT`, which may store what it counted).
    Data,
    /// Reads keys and changes none. A master does not propagate it; a script of old, or a proxy, may.
    Read,
    /// `SELECT`: the database of what follows.
    Select,
    /// `MULTI`: a transaction of the source begins.
    Multi,
    /// `EXEC`: it ends, and held.
    Exec,
    /// What keeps the link alive and is no data: `PING`, `REPLCONF` (with it `GETACK`), and `OPINFO`, which
    /// Aliyun puts into its streams.
    Ping,
    /// `PUBLISH`, `SPUBLISH`: messages to whoever listens now, Sentinel's among them.
    Publish,
    /// `SCRIPT LOAD`, `SCRIPT FLUSH`: the cache that `EVALSHA` reads (propagated up to 6.2).
    Script,
    /// `EVAL`, `EVALSHA`, `FCALL`: runs on the replica too, and may touch keys that it does not name.
    Eval,
    /// `FUNCTION LOAD`, `DELETE`, `FLUSH`, `RESTORE`: libraries, which belong to no database.
    Function,
    /// `FLUSHDB`, `FLUSHALL`.
    Flush,
    /// `SWAPDB`.
    SwapDb,
    /// Belongs to a server or a connection, not to the data (`CONFIG`, `CLUSTER SETSLOT`, `WAIT`): nothing
    /// of it is to be played.
    Control,
    /// No server that this crate knows has it; its keys are not known.
    Unknown,
}

#[cfg(test)]
mod tests {
    use super::Class;
    use crate::command::table::class_of;
    use crate::command::testing::words;

    #[test]
    fn what_a_lane_switches_on() {
        for (line, class) in [
            ("SET", Class::Data),
            ("PFCOUNT", Class::Data),
            ("get", Class::Read),
            ("select", Class::Select),
            ("MULTI", Class::Multi),
            ("EXEC", Class::Exec),
            ("ping", Class::Ping),
            ("REPLCONF", Class::Ping),
            ("opinfo", Class::Ping),
            ("PUBLISH", Class::Publish),
            ("SPUBLISH", Class::Publish),
            ("SCRIPT", Class::Script),
            ("EVAL", Class::Eval),
            ("EVALSHA", Class::Eval),
            ("FCALL", Class::Eval),
            ("FUNCTION", Class::Function),
            ("FLUSHALL", Class::Flush),
            ("FLUSHDB", Class::Flush),
            ("SWAPDB", Class::SwapDb),
            ("WAIT", Class::Control),
            ("CLUSTER SETSLOT 5 NODE n", Class::Control),
            ("CLUSTER SYNCSLOTS ESTABLISH SOURCE a NAME b SLOTSRANGE 1 2", Class::Control),
            ("CLUSTER FLUSHSLOT 5 SYNC", Class::Unknown),
            ("CLUSTER", Class::Unknown),
            ("FROBNICATE", Class::Unknown),
        ] {
            assert_eq!(class_of(&words(line)), class, "{line}");
        }
        assert_eq!(class_of(&[]), Class::Ping, "a bare newline");
        assert_eq!(class_of(&[b""]), Class::Unknown);
    }
}
