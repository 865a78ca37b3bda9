//! The elements of a packed blob, one at a time.

use std::fmt;

use crate::rdb::error::RdbErrorKind;
use crate::rdb::event::Element;
use crate::rdb::opcode::ObjectType;
use crate::rdb::packed::Damaged;
use crate::rdb::packed::Entry;
use crate::rdb::packed::Mark;
use crate::rdb::packed::intset;
use crate::rdb::packed::intset::Intset;
use crate::rdb::packed::listpack;
use crate::rdb::packed::listpack::Listpack;
use crate::rdb::packed::ziplist;
use crate::rdb::packed::ziplist::Ziplist;
use crate::rdb::packed::zipmap;
use crate::rdb::packed::zipmap::Zipmap;
use crate::rdb::score;

/// How a blob is packed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Form {
    Ziplist,
    Listpack,
    Intset,
    Zipmap,
}

/// What the entries of a blob are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Holds {
    Items,
    Members,
    Fields,
    FieldsWithDeadlines,
    Scored,
}

/// A walk through a blob, which lies elsewhere.
#[derive(Clone, Copy, Debug)]
pub(crate) struct BlobWalk {
    form: Form,
    holds: Holds,
    mark: Mark,
    /// Whether another entry is known to be left.
    more: bool,
}

/// What is wrong in a blob, and at which of its bytes.
pub(crate) type BlobFault = (usize, RdbErrorKind);

/// The numbers of one element, as text.
#[derive(Default)]
pub(crate) struct Texts(itoa::Buffer, itoa::Buffer);

impl fmt::Debug for Texts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Texts")
    }
}

impl BlobWalk {
    /// A list's ziplist.
    pub(crate) const ZIPLIST_OF_ITEMS: Self = Self::new(Form::Ziplist, Holds::Items);
    /// A list's listpack.
    pub(crate) const LISTPACK_OF_ITEMS: Self = Self::new(Form::Listpack, Holds::Items);

    const fn new(form: Form, holds: Holds) -> Self {
        Self { form, holds, mark: Mark::BEGIN, more: false }
    }

    /// The blob that is the whole value of this type; `None` if the type's value is no blob.
    pub(crate) const fn of(object: ObjectType) -> Option<Self> {
        Some(match object {
            ObjectType::HashZipmap => Self::new(Form::Zipmap, Holds::Fields),
            ObjectType::ListZiplist => Self::ZIPLIST_OF_ITEMS,
            ObjectType::SetIntset => Self::new(Form::Intset, Holds::Members),
            ObjectType::ZsetZiplist => Self::new(Form::Ziplist, Holds::Scored),
            ObjectType::HashZiplist => Self::new(Form::Ziplist, Holds::Fields),
            ObjectType::HashListpack => Self::new(Form::Listpack, Holds::Fields),
            ObjectType::ZsetListpack => Self::new(Form::Listpack, Holds::Scored),
            ObjectType::SetListpack => Self::new(Form::Listpack, Holds::Members),
            ObjectType::HashListpackEx | ObjectType::HashListpackExPreRelease => {
                Self::new(Form::Listpack, Holds::FieldsWithDeadlines)
            }
            _ => return None,
        })
    }

    /// Whether no entry is left, and all that only a whole walk can check is right.
    #[inline]
    pub(crate) fn is_done(&self, blob: &[u8]) -> Result<bool, BlobFault> {
        if self.more {
            return Ok(false);
        }
        let mut entries = Entries::resume(self.form, blob, self.mark)?;
        if !entries.is_at_end() {
            return Ok(false);
        }
        match entries.next() {
            None => Ok(true),
            Some(Ok(_)) => Ok(false),
            Some(Err(damaged)) => Err(fault(damaged)),
        }
    }

    /// The next element.
    #[inline(always)]
    pub(crate) fn next<'a>(
        &mut self,
        blob: &'a [u8],
        texts: &'a mut Texts,
    ) -> Result<Element<'a>, BlobFault> {
        let mut entries = Entries::resume(self.form, blob, self.mark)?;
        let Texts(first, second) = texts;
        let element = match self.holds {
            Holds::Items => Element::Item(entries.entry()?.to_bytes(first)),
            Holds::Members => Element::Member(entries.entry()?.to_bytes(first)),
            Holds::Fields => Element::Field {
                field: entries.entry()?.to_bytes(first),
                value: entries.entry()?.to_bytes(second),
                expire_at_ms: None,
            },
            Holds::FieldsWithDeadlines => Element::Field {
                field: entries.entry()?.to_bytes(first),
                value: entries.entry()?.to_bytes(second),
                expire_at_ms: match entries.entry()?.to_int() {
                    Some(0) => None,
                    Some(ms) if ms > 0 => Some(ms),
                    _ => return Err((0, RdbErrorKind::FieldDeadline)),
                },
            },
            Holds::Scored => Element::Scored {
                member: entries.entry()?.to_bytes(first),
                score: score::from_entry(entries.entry()?).ok_or((0, RdbErrorKind::Score))?,
            },
        };
        self.mark = entries.mark();
        self.more = !entries.is_at_end();
        Ok(element)
    }
}

/// A walk in any form, all of them alike.
enum Entries<'a> {
    Ziplist(ziplist::Entries<'a>),
    Listpack(listpack::Entries<'a>),
    Intset(intset::Iter<'a>),
    /// Pairs, and the value of the pair whose field was given.
    Zipmap(zipmap::Pairs<'a>, Option<&'a [u8]>),
}

impl<'a> Entries<'a> {
    #[inline]
    fn resume(form: Form, blob: &'a [u8], mark: Mark) -> Result<Self, BlobFault> {
        Ok(match form {
            Form::Ziplist => Self::Ziplist(Ziplist::parse(blob).map_err(fault)?.resume(mark)),
            Form::Listpack => Self::Listpack(Listpack::parse(blob).map_err(fault)?.resume(mark)),
            Form::Intset => Self::Intset(Intset::parse(blob).map_err(fault)?.resume(mark)),
            Form::Zipmap => Self::Zipmap(Zipmap::parse(blob).map_err(fault)?.resume(mark), None),
        })
    }

    #[inline]
    fn next(&mut self) -> Option<Result<Entry<'a>, Damaged>> {
        match self {
            Self::Ziplist(entries) => entries.next(),
            Self::Listpack(entries) => entries.next(),
            Self::Intset(members) => members.next().map(|member| member.map(Entry::Int)),
            Self::Zipmap(pairs, value) => {
                if let Some(value) = value.take() {
                    return Some(Ok(Entry::Bytes(value)));
                }
                match pairs.next()? {
                    Ok((field, of_field)) => {
                        *value = Some(of_field);
                        Some(Ok(Entry::Bytes(field)))
                    }
                    Err(damaged) => Some(Err(damaged)),
                }
            }
        }
    }

    /// An entry that must be there.
    #[inline]
    fn entry(&mut self) -> Result<Entry<'a>, BlobFault> {
        match self.next() {
            Some(entry) => entry.map_err(fault),
            None => Err((0, RdbErrorKind::Packed(ODD))),
        }
    }

    const fn is_at_end(&self) -> bool {
        match self {
            Self::Ziplist(entries) => entries.is_at_end(),
            Self::Listpack(entries) => entries.is_at_end(),
            Self::Intset(members) => members.is_at_end(),
            Self::Zipmap(pairs, _) => pairs.is_at_end(),
        }
    }

    const fn mark(&self) -> Mark {
        match self {
            Self::Ziplist(entries) => entries.mark(),
            Self::Listpack(entries) => entries.mark(),
            Self::Intset(members) => members.mark(),
            Self::Zipmap(pairs, _) => pairs.mark(),
        }
    }
}

const ODD: Damaged = Damaged { at: 0, what: "a packed collection whose last element is not whole" };

const fn fault(damaged: Damaged) -> BlobFault {
    (damaged.at, RdbErrorKind::Packed(damaged))
}
