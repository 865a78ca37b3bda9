//! What stands between the values: opcodes with what belongs to them, and keys.

use crate::key::Db;
use crate::rdb::cursor::Cursor;
use crate::rdb::cursor::Stop;
use crate::rdb::error::KEY_SHOWN;
use crate::rdb::error::RdbErrorKind;
use crate::rdb::layout::KEY_META;
use crate::rdb::layout::MODULE_AUX;
use crate::rdb::layout::Part;
use crate::rdb::layout::SLOT_RANGES;
use crate::rdb::opcode::ObjectType;
use crate::rdb::opcode::Opcode;
use crate::rdb::opcode::Tag;
use crate::rdb::parser::Checksum;
use crate::rdb::parser::Found;
use crate::rdb::parser::Parser;
use crate::rdb::parser::State;

impl Parser {
    /// Reads one opcode with what belongs to it, or a key. `None`: it was something about the next key.
    #[inline(always)]
    pub(super) fn frame(&mut self, input: &[u8], at: &mut usize) -> Result<Option<Found>, Stop> {
        let mut cursor = Cursor::new(input, *at);
        let tag = Tag::decode(cursor.byte()?, self.format)
            .map_err(|kind| Stop::Fault { at: *at, kind })?;
        let found = match tag {
            Tag::Object(object) => Some(self.key(&mut cursor, object)?),
            Tag::Opcode(opcode) => self.opcode(&mut cursor, opcode)?,
        };
        *at = cursor.at();
        Ok(found)
    }

    #[inline(always)]
    fn key(&mut self, cursor: &mut Cursor<'_>, object: ObjectType) -> Result<Found, Stop> {
        let key = cursor.string(&mut self.scratch, self.element_limit)?;
        let bytes = key.of(cursor.input(), &self.scratch);
        let shown = self.key.get_or_insert_default();
        shown.clear();
        shown.extend_from_slice(bytes.get(..KEY_SHOWN).unwrap_or(bytes));
        self.state = State::Value(object);
        self.depth = self.default_depth;
        Ok(Found::Key { key, object })
    }

    fn opcode(&mut self, cursor: &mut Cursor<'_>, opcode: Opcode) -> Result<Option<Found>, Stop> {
        let start = cursor.at();
        Ok(Some(match opcode {
            Opcode::ExpireMs => {
                self.set_deadline(i64::from_le_bytes(cursor.fixed()?));
                return Ok(None);
            }
            Opcode::ExpireSeconds => {
                self.set_deadline(i64::from(i32::from_le_bytes(cursor.fixed()?)) * 1000);
                return Ok(None);
            }
            Opcode::Idle => {
                self.idle = Some(cursor.length()?);
                return Ok(None);
            }
            Opcode::Freq => {
                self.freq = Some(cursor.byte()?);
                return Ok(None);
            }
            Opcode::SelectDb => {
                let number = cursor.length()?;
                let index = u32::try_from(number)
                    .map_err(|_| Stop::Fault { at: start, kind: RdbErrorKind::Database(number) })?;
                self.db = Db::new(index);
                Found::SelectDb
            }
            Opcode::ResizeDb => {
                Found::ResizeDb { keys: cursor.length()?, expires: cursor.length()? }
            }
            Opcode::SlotInfo => Found::SlotInfo {
                slot: cursor.length()?,
                keys: cursor.length()?,
                expires: cursor.length()?,
            },
            Opcode::KeyMeta => {
                self.begin_pass(KEY_META);
                Found::KeyMeta
            }
            Opcode::SlotImport => {
                let job = cursor.string(&mut self.scratch, self.element_limit)?;
                self.begin_pass(SLOT_RANGES);
                Found::SlotImport { job }
            }
            Opcode::Aux => Found::Aux {
                name: cursor.string(&mut self.scratch, self.element_limit)?,
                value: cursor.string(&mut self.scratch, self.element_limit)?,
            },
            Opcode::Function => {
                Found::Function { code: cursor.string(&mut self.scratch, self.element_limit)? }
            }
            Opcode::ModuleAux => {
                let module = cursor.length()?;
                // Written as an opcode with its leaf, and always this one (redis `rdb.c`, `rdbSaveSingleModuleAux`).
                let opcode = cursor.length()?;
                if opcode != MODULE_UINT {
                    return Err(Stop::Fault {
                        at: start,
                        kind: RdbErrorKind::ModuleOpcode(opcode),
                    });
                }
                let when = cursor.length()?;
                self.begin_pass(MODULE_AUX);
                Found::ModuleAux { module, when }
            }
            Opcode::End => {
                let checksum = if self.format.has_checksum() {
                    match u64::from_le_bytes(cursor.fixed()?) {
                        0 => Checksum::None,
                        sum => Checksum::Stated(sum),
                    }
                } else {
                    Checksum::None
                };
                self.state = State::Ended(checksum);
                Found::End(checksum)
            }
        }))
    }

    const fn set_deadline(&mut self, ms: i64) {
        // -1 is how servers keep "none".
        self.deadline = if ms == -1 { None } else { Some(ms) };
    }

    fn begin_pass(&mut self, parts: &'static [Part]) {
        self.scan.begin(parts);
        self.state = State::Pass;
    }
}

/// The opcode of an unsigned integer in a module's data.
const MODULE_UINT: u64 = 2;
