//! What was found to stand in the way or to be odd, and what to do about it.

/// How bad it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Severity {
    /// A run is refused, or would come to nothing.
    Blocks,
    /// A run can begin, and this may spoil it.
    Warning,
    /// Worth knowing, and no harm.
    Note,
}

impl Severity {
    /// The word for it.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Blocks => "blocks",
            Self::Warning => "warning",
            Self::Note => "note",
        }
    }
}

/// Makes the kinds and their names, each once.
macro_rules! kinds {
    ($($(#[doc = $doc:literal])+ $kind:ident = $name:literal,)+) => {
        /// What it is about. Its name is for scripts, and stays.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
        #[non_exhaustive]
        pub enum Kind {
            $($(#[doc = $doc])+ $kind,)+
        }

        impl Kind {
            /// All of them.
            pub const ALL: &[Self] = &[$(Self::$kind),+];

            /// Its name.
            #[must_use]
            pub const fn name(self) -> &'static str {
                match self { $(Self::$kind => $name,)+ }
            }
        }
    };
}

kinds! {
    /// A place does not answer, does not let us in, or is none.
    Unreachable = "unreachable",
    /// A Sentinel holds no data.
    Sentinel = "sentinel",
    /// A place is a part of a cluster where that cannot be.
    ClusterPart = "cluster-part",
    /// Slots that move while the job runs.
    Rebalancer = "rebalancer",
    /// One server under two names.
    SameServer = "same-server",
    /// A replica where a master must be, or one without its master.
    Replica = "replica",
    /// A failover is under way.
    Failover = "failover",
    /// The master does not take `PSYNC`, or neither it nor `SYNC`.
    NoPsync = "no-psync",
    /// What the user may not do.
    Rights = "rights",
    /// The last `BGSAVE` has failed.
    BgsaveFailed = "bgsave-failed",
    /// A fork that saves is running.
    BgsaveRunning = "bgsave-running",
    /// A fork may find too little memory.
    ForkMemory = "fork-memory",
    /// Forking holds a master up.
    ForkPause = "fork-pause",
    /// Masters that wait before they save.
    SaveDelay = "save-delay",
    /// What a master keeps for a replica that does not read.
    OutputBuffer = "output-buffer",
    /// What a master keeps for a replica that comes back.
    Backlog = "repl-backlog",
    /// How long a master bears a silent replica.
    ReplTimeout = "repl-timeout",
    /// The way there is slow.
    SlowLink = "slow-link",
    /// Few clients more are let in.
    MaxClients = "maxclients",
    /// Writes are taken only while there are replicas enough.
    MinReplicas = "min-replicas",
    /// A replica that is no server is attached already.
    OtherReplica = "other-replica",
    /// Clocks that differ.
    Clock = "clock",
    /// A certificate that runs out.
    Certificate = "certificate",
    /// A certificate that nobody looks at.
    Unverified = "unverified",
    /// A chosen database that is empty.
    EmptyDatabase = "empty-database",
    /// Databases that the target does not have.
    Databases = "databases",
    /// Keys that are in the target already.
    KeysThere = "keys-there",
    /// Keys that several sources may bring.
    SharedKeys = "shared-keys",
    /// The target's record of the job.
    Record = "job-record",
    /// `--memory` is too small for what is to be remembered.
    Memory = "memory",
    /// Where waits what the target cannot take.
    Spool = "spool",
    /// A target that evicts keys.
    Eviction = "evicting-policy",
    /// The target's memory against the data.
    TargetMemory = "target-memory",
    /// The target does not take writes just now.
    RefusesWrites = "refuses-writes",
    /// A target that may keep half of a transaction.
    HalfTransactions = "half-transactions",
    /// The target's version against the sources'.
    Version = "version",
    /// Types that the target cannot hold.
    Types = "types",
    /// Libraries of functions that the target cannot hold.
    Functions = "functions",
    /// Modules that the target does not have.
    Modules = "modules",
    /// Values longer than the target takes.
    BulkLength = "bulk-length",
    /// Large values.
    BigKey = "big-key",
    /// Scripts.
    Scripts = "scripts",
    /// Commands over several slots of a cluster.
    CrossSlot = "cross-slot",
    /// Deadlines that are not held back.
    LiveDeadlines = "live-deadlines",
    /// Something could not be looked at.
    Unseen = "unseen",
}

/// Something that was found, and what to do about it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finding {
    /// How bad it is.
    pub severity: Severity,
    /// What it is about.
    pub kind: Kind,
    /// The place, as it is named in reports.
    pub place: String,
    /// What was found.
    pub evidence: String,
    /// What the operator can do.
    pub mend: String,
}

impl Finding {
    /// What stands in the way.
    #[must_use]
    pub fn blocks(
        kind: Kind,
        place: impl Into<String>,
        evidence: impl Into<String>,
        mend: impl Into<String>,
    ) -> Self {
        let (place, evidence, mend) = (place.into(), evidence.into(), mend.into());
        Self { severity: Severity::Blocks, kind, place, evidence, mend }
    }

    /// What is odd and forbids nothing.
    #[must_use]
    pub fn warning(
        kind: Kind,
        place: impl Into<String>,
        evidence: impl Into<String>,
        mend: impl Into<String>,
    ) -> Self {
        Self { severity: Severity::Warning, ..Self::blocks(kind, place, evidence, mend) }
    }

    /// What is worth knowing.
    #[must_use]
    pub fn note(
        kind: Kind,
        place: impl Into<String>,
        evidence: impl Into<String>,
        mend: impl Into<String>,
    ) -> Self {
        Self { severity: Severity::Note, ..Self::blocks(kind, place, evidence, mend) }
    }
}
