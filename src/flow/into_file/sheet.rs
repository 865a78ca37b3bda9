//! What goes into the file, record by record.

use std::collections::{BTreeSet, HashMap};

use tracing::{debug, info, warn};

use crate::change::{Distinct, Ending, FileCopy, Fingerprints, Full, Later, Scope};
use crate::key::Db;
use crate::net::Clock;
use crate::plan::{OnConflict, OnFlush, Plan, Rules, Verdict, Why};
use crate::progress::Counters;
use crate::rdb::event::{Element, Event, KeyHead, ModuleId};
use crate::rdb::format::{Family, Format};
use crate::rdb::opcode::ValueType;
use crate::rdb::parser::Depth;
use crate::rdb::writer::Writer;
use crate::server::{Flavour, Server, Version};
use crate::target::{RdbPlace, RdbTarget};

use super::super::left_out::{Left, chosen, left_out, not_chosen};
use super::super::library::library;
use super::super::report::CONFLICTS_NAMED;
use super::IntoFileError;

/// The file, and what goes into it.
pub(super) struct Sheet<'a> {
    plan: &'a Plan,
    clock: Clock,
    /// Whom it is for; before it was begun `None` if only the copy will tell.
    reader: Option<Server>,
    /// What the payload that is being read says of where it is from.
    origin: Origin,
    place: Option<RdbPlace>,
    pub(super) target: Option<RdbTarget>,
    pub(super) copy: FileCopy,
    /// The keys of all sources; `None` with one source.
    seen: Option<Fingerprints<16>>,
    /// The names of the source that is being read, where a rename could give one to two of its keys.
    distinct: Option<Distinct>,
    /// Libraries that are in the file, their code and from which source they are.
    functions: HashMap<Vec<u8>, (Vec<u8>, usize), foldhash::fast::RandomState>,
    /// Modules' types in the file, of which a reader needs the modules.
    modules: BTreeSet<ModuleId>,
    /// The value that is read is a module's, and nothing of it has come.
    is_open: bool,
    /// The source that is being read.
    source: usize,
    /// What is wanted of it.
    scope: Scope,
    db: Db,
    pub(super) conflicts: u64,
    /// The first hundred of them, as far as they were not taken away.
    pub(super) conflict_names: Vec<(Db, Vec<u8>)>,
}

/// What is to be done after a record's part was taken.
pub(super) enum Next {
    On,
    Choose(Depth),
    FetchBack(Vec<u8>),
}

impl<'a> Sheet<'a> {
    pub(super) fn new(
        plan: &'a Plan,
        place: RdbPlace,
        reader: Option<Server>,
        clock: Clock,
    ) -> Self {
        let half = usize::try_from(plan.memory / 2).unwrap_or(usize::MAX);
        Self {
            plan,
            clock,
            reader,
            origin: Origin::default(),
            place: Some(place),
            target: None,
            copy: FileCopy::new(reader.unwrap_or(OLDEST)),
            seen: (plan.sources.len() > 1).then(|| Fingerprints::new(half)),
            distinct: None,
            functions: HashMap::default(),
            modules: BTreeSet::new(),
            is_open: false,
            source: 0,
            scope: Scope::default(),
            db: Db::default(),
            conflicts: 0,
            conflict_names: Vec::new(),
        }
    }

    /// Turns to a source.
    pub(super) fn open(&mut self, source: usize, rules: &Rules) {
        self.source = source;
        self.scope = Scope::new(rules.clone(), None, OnFlush::default());
        self.origin = Origin::default();
        self.conflicts = 0;
        let half = usize::try_from(self.plan.memory / 2).unwrap_or(usize::MAX);
        self.distinct = (!rules.names().are_distinct()).then(|| Distinct::within(half / 2));
    }

    /// Takes something of a payload.
    #[inline]
    pub(super) fn record(
        &mut self,
        event: &Event<'_>,
        counters: &Counters,
    ) -> Result<Next, IntoFileError> {
        match *event {
            Event::Key(head) => {
                Counters::add(&counters.keys_read, 1);
                if self.target.is_none() {
                    self.begin()?;
                }
                let verdict = self.scope.judge_record(&head);
                if let Verdict::Drop(why) = verdict {
                    left_out(counters, why, Left::Key);
                }
                let db = self.scope.rules().place(head.db).unwrap_or(head.db);
                let name = self.scope.rules().names().of(head.key).into_owned();
                if verdict.is_keep()
                    && let Some(distinct) = &mut self.distinct
                {
                    distinct.meet(head.key, &name)?;
                }
                let head = KeyHead { db, key: &name, ..head };
                let later = Later {
                    by: self.scope.rules().ttl().extends(),
                    now_ms: self.origin.made_at_ms,
                };
                let is_dead = verdict.is_keep() && later.buries(head.expire_at_ms);
                Counters::add(&counters.expired, u64::from(is_dead));
                // Of a module's value only the first piece tells whether it is wanted.
                let is_module = head.object.value_type() == ValueType::Module;
                let is_wanted = verdict.is_keep() && !is_dead;
                self.is_open = is_wanted && is_module;
                if is_wanted {
                    chosen(counters, head.object.value_type());
                }
                let depth = if is_wanted && (is_module || self.is_new(db, &name)?) {
                    match &mut self.target {
                        Some(target) => self.copy.key(&head, later, target.writer())?,
                        None => Depth::Skip,
                    }
                } else {
                    self.copy.leave_out()
                };
                return Ok(Next::Choose(depth));
            }
            Event::Piece { bytes, last } => {
                if let Some(target) = &mut self.target {
                    target.writer().body(bytes);
                }
                if last {
                    Counters::add(&counters.keys, 1);
                }
            }
            Event::Element(ref element) => {
                if let Element::Module { module, bytes } = *element
                    && std::mem::take(&mut self.is_open)
                    && !self.admits(module, bytes, counters)?
                {
                    self.copy.leave_out();
                }
                self.copy.element(element)?;
            }
            Event::ValueEnd => {
                let Some(target) = &mut self.target else { return Ok(Next::On) };
                match self.copy.end(target.writer())? {
                    Ending::Left => {}
                    Ending::Written => Counters::add(&counters.keys, 1),
                    Ending::Aside(rest) => {
                        Counters::add(&counters.keys, 1);
                        return Ok(Next::FetchBack(rest));
                    }
                }
            }
            Event::Header(format) => self.origin.format = Some(format),
            Event::Aux { name: b"lua", value } => {
                if self.target.is_none() {
                    self.begin()?;
                }
                let Some(target) = &mut self.target else { return Ok(Next::On) };
                // From 7.0 on a server has the scripts that its clients have given it.
                if target.writer().server().as_redis() < FUNCTIONS {
                    target.writer().aux(b"lua", value);
                } else {
                    debug!("a script is left out: servers from 7.0 on load none");
                }
            }
            Event::Aux { name, value } => self.origin.note(name, value),
            Event::SelectDb(db) => self.db = db,
            // Of several sources, or of a part of one, it would not be true.
            Event::ResizeDb { keys, expires } => {
                if self.target.is_none() {
                    self.begin()?;
                }
                if self.seen.is_none()
                    && self.scope.rules().is_all()
                    && let Some(target) = &mut self.target
                {
                    target.writer().resize_db(self.db, keys, expires);
                }
            }
            Event::Function { code } => self.function(code)?,
            Event::ModuleAux { module, .. } => {
                warn!(%module, "data of a module that belongs to no key is left out");
            }
            Event::KeyMeta => {
                warn!("what modules keep about a key beside its value is left out");
            }
            // Slots are of the node that wrote the file; the other two are not asked for.
            Event::SlotInfo { .. }
            | Event::SlotImport { .. }
            | Event::Payload(_)
            | Event::Packed(_) => {}
        }
        Ok(Next::On)
    }

    /// Whether a module's value belongs into the file, of which this is the first piece.
    fn admits(
        &mut self,
        module: ModuleId,
        bytes: &[u8],
        counters: &Counters,
    ) -> Result<bool, IntoFileError> {
        if !self.scope.rules().admits_module(bytes) {
            not_chosen(counters, ValueType::Module);
            left_out(counters, Why::Type, Left::Key);
            return Ok(false);
        }
        let (db, key) = match self.copy.current() {
            Some((db, key)) => (db, key.to_vec()),
            None => return Ok(false),
        };
        let is_new = self.is_new(db, &key)?;
        let is_built_in = self.reader.is_some_and(|reader| reader.has_built_in(module).is_some());
        if is_new && !is_built_in && self.modules.insert(module) {
            warn!(%module, "the file has values of a module: a server without that module does not load it");
        }
        Ok(is_new)
    }

    /// Whether no source before has brought a key of this name.
    fn is_new(&mut self, db: Db, key: &[u8]) -> Result<bool, IntoFileError> {
        let Some(seen) = &mut self.seen else { return Ok(true) };
        let first = seen.insert(db, key, self.source as u128);
        let first = first.map_err(|Full { keys }| IntoFileError::Memory { keys })?;
        let Some(first) = first.and_then(|first| usize::try_from(first).ok()) else {
            return Ok(true);
        };
        self.conflicts += 1;
        if self.conflicts <= CONFLICTS_NAMED as u64 {
            self.conflict_names.push((db, key.to_vec()));
        }
        if may_collide(self.plan) {
            return Ok(false);
        }
        let (key, first) = (key.to_vec(), self.name(first));
        Err(IntoFileError::Collision { db, key, first })
    }

    fn function(&mut self, code: &[u8]) -> Result<(), IntoFileError> {
        if self.target.is_none() {
            self.begin()?;
        }
        let name = library(code);
        if let Some((known, first)) = self.functions.get(name) {
            if known == code {
                return Ok(());
            }
            self.conflicts += 1;
            if may_collide(self.plan) {
                return Ok(());
            }
            let (name, first) = (name.to_vec(), self.name(*first));
            return Err(IntoFileError::FunctionCollision { name, first });
        }
        if let Some(target) = &mut self.target {
            let put = target.writer().function(code);
            put.map_err(|source| IntoFileError::Function { name: name.to_vec(), source })?;
        }
        if self.seen.is_some() {
            self.functions.insert(name.to_vec(), (code.to_vec(), self.source));
        }
        Ok(())
    }

    fn name(&self, source: usize) -> String {
        self.plan.sources.get(source).map(|source| source.name.clone()).unwrap_or_default()
    }

    /// Begins the file. What is told before the first key is known by now.
    fn begin(&mut self) -> Result<(), IntoFileError> {
        let Some(place) = self.place.take() else { return Ok(()) };
        let told = self.plan.written_for.is_some();
        let mut reader = self.reader.unwrap_or_else(|| self.origin.server());
        if !told && reader.version < OLDEST.version {
            // Nobody writes files as 2.4 did any more, and every later server reads those of 2.6.
            reader = OLDEST;
        }
        let mut writer = Writer::new(reader).map_err(IntoFileError::Reader)?;
        let version = reader.version.to_string();
        let name: &[u8] = match reader.flavour {
            Flavour::Valkey => b"valkey-ver",
            Flavour::Redis | Flavour::Redict => b"redis-ver",
        };
        writer.aux(name, version.as_bytes());
        writer.aux(b"redis-bits", b"64");
        writer.aux(b"ctime", (self.clock.unix_ms() / 1000).to_string().as_bytes());
        if self.seen.is_none() && !self.origin.used_memory.is_empty() {
            writer.aux(b"used-mem", &self.origin.used_memory);
        }
        self.reader = Some(reader);
        self.copy = FileCopy::new(reader);
        self.target = Some(place.begin(writer));
        info!(reader = %reader, format = %reader.rdb_format(), "the file is begun");
        Ok(())
    }

    /// The file with everything in it, which may be nothing.
    pub(super) fn into_target(mut self) -> Result<Option<RdbTarget>, IntoFileError> {
        self.begin()?;
        Ok(self.target)
    }
}

/// Whether a key that two sources have may be left out of one.
fn may_collide(plan: &Plan) -> bool {
    matches!(plan.on_conflict, Some(OnConflict::Keep | OnConflict::Replace))
}

/// What a payload says of the server that wrote it.
#[derive(Debug, Default)]
pub(super) struct Origin {
    pub(super) format: Option<Format>,
    server: Option<Server>,
    used_memory: Vec<u8>,
    /// What the server's clock showed when it was written, in whole seconds; 0 if it does not tell (before 3.2). Those leave out
    /// what is dead.
    made_at_ms: i64,
}

impl Origin {
    pub(super) fn note(&mut self, name: &[u8], value: &[u8]) {
        let version = || std::str::from_utf8(value).ok().and_then(Version::parse);
        match name {
            b"valkey-ver" => {
                self.server = version().map(|version| Server { flavour: Flavour::Valkey, version });
            }
            b"redis-ver" => {
                self.server = version().map(|version| {
                    // Redict wrote 7.3 there, a number that Redis has left out.
                    let redict = matches!(version, Version(7, 3, _));
                    let flavour = if redict { Flavour::Redict } else { Flavour::Redis };
                    Server { flavour, version }
                });
            }
            b"used-mem" => self.used_memory = value.to_vec(),
            b"ctime" => {
                let seconds = std::str::from_utf8(value).ok().and_then(|text| text.parse().ok());
                self.made_at_ms = seconds.map_or(0, |seconds: i64| seconds.saturating_mul(1000));
            }
            _ => {}
        }
    }

    /// Who wrote it, as far as it tells.
    pub(super) fn server(&self) -> Server {
        let format = self.format.unwrap_or(Format { family: Family::Redis, version: 1 });
        let first = format.first_server();
        // A name that does not go with the format is a fork's own.
        self.server.filter(|server| age(*server) >= age(first)).unwrap_or(first)
    }
}

/// Which of two servers is newer: by what its files can hold, then by number.
pub(super) fn age(server: Server) -> (u16, Version) {
    (server.rdb_format().version, server.version)
}

/// The oldest server whose files are written.
const OLDEST: Server = Server { flavour: Flavour::Redis, version: Version(2, 6, 0) };

/// Where functions came, and scripts went.
const FUNCTIONS: Version = Version(7, 0, 0);
