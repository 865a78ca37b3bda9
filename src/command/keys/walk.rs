//! One rule after the other, over the arguments.

use crate::command::args::{Args, Malformed};
use crate::command::keys::{Access, KeySpec, KeyUse, Reach};
use crate::key::Db;

pub(super) fn walk(
    spec: KeySpec,
    args: Args<'_>,
    visit: &mut dyn FnMut(KeyUse),
) -> Result<Reach, Malformed> {
    let mut show =
        |position, access| args.at(position).map(|_| visit(KeyUse { position, access, db: None }));
    match spec {
        KeySpec::None => {}
        KeySpec::One(access) => show(1, access)?,
        KeySpec::Second(access) => show(2, access)?,
        KeySpec::Two(first, second) => {
            show(1, first)?;
            show(2, second)?;
        }
        KeySpec::From(first, access) => {
            show(first.into(), access)?;
            for position in usize::from(first) + 1..args.len() {
                show(position, access)?;
            }
        }
        KeySpec::AllButLast(access) => {
            args.at(2)?;
            for position in 1..args.len() - 1 {
                show(position, access)?;
            }
        }
        KeySpec::Every(step, access) => {
            let step = usize::from(step);
            args.at(step)?;
            // The last group must be whole.
            args.at((args.len() - 1).next_multiple_of(step))?;
            for position in (1..args.len()).step_by(step) {
                show(position, access)?;
            }
        }
        KeySpec::Into(destination, access) => {
            show(destination.into(), access)?;
            for position in usize::from(destination) + 1..args.len() {
                show(position, Access::Read)?;
            }
        }
        KeySpec::Counted { at, step, access } => {
            let (at, step) = (usize::from(at), usize::from(step));
            for nth in 0..args.count(at, step)? {
                show(at + 1 + nth * step, access)?;
            }
        }
        KeySpec::IntoCounted(access) => {
            let count = args.count(2, 1)?;
            show(1, access)?;
            for position in 3..3 + count {
                show(position, Access::Read)?;
            }
        }
        KeySpec::Sub(subcommands, access) => {
            args.at(1)?;
            if args.is_any(1, subcommands) {
                show(2, access)?;
            } else if access.writes() {
                return Err(Malformed::Option { at: 1 });
            }
        }
        KeySpec::Set => show(1, set_access(args)?)?,
        KeySpec::DelEx if args.len() == 2 => show(1, Access::Remove)?,
        KeySpec::DelEx => show(1, Access::Update)?,
        KeySpec::BitField => show(1, bitfield_access(args))?,
        KeySpec::Restore => show(1, restore_access(args)?)?,
        KeySpec::Move => {
            let db = Some(args.db(2)?);
            show(1, Access::Update)?;
            visit(KeyUse { position: 1, access: Access::Update, db });
        }
        KeySpec::Copy => {
            let options = CopyOptions::read(args)?;
            show(1, Access::Read)?;
            args.at(2)?;
            let access = if options.replace { Access::Overwrite } else { Access::Update };
            let db = options.db.map(|(_, db)| db);
            visit(KeyUse { position: 2, access, db });
        }
        KeySpec::Sort => return sort(args, &mut show),
        KeySpec::GeoRadius { options } => {
            show(1, Access::Read)?;
            let mut stored = None;
            let mut at = usize::from(options);
            while at < args.len() {
                if args.is_any(at, &["store", "storedist"]) {
                    stored = Some(at + 1);
                    at += 1;
                }
                at += 1;
            }
            if let Some(position) = stored {
                show(position, Access::Overwrite)?;
            }
        }
        KeySpec::Streams(access) => {
            let first = streams(args)?;
            let (keys, odd) = ((args.len() - first) / 2, (args.len() - first) % 2);
            if odd == 1 {
                return Err(Malformed::Missing { at: args.len() });
            }
            for position in first..first + keys {
                show(position, access)?;
            }
        }
        KeySpec::Migrate => migrate(args, &mut show)?,
    }
    Ok(Reach::Declared)
}

/// A condition makes the new state depend on the old one, and so do the old deadline and the old value's reply.
fn set_access(args: Args<'_>) -> Result<Access, Malformed> {
    args.at(2)?;
    let mut at = 3;
    while at < args.len() {
        if !args.is_any(at, &["px", "ex", "pxat", "exat"]) {
            return Ok(Access::Update);
        }
        args.at(at + 1)?;
        at += 2;
    }
    Ok(Access::Overwrite)
}

fn bitfield_access(args: Args<'_>) -> Access {
    // GET type offset | SET type offset value | INCRBY type offset increment | OVERFLOW how
    let mut at = 2;
    while at < args.len() {
        if !args.is(at, "get") {
            return Access::Update;
        }
        at += 3;
    }
    Access::Read
}

fn restore_access(args: Args<'_>) -> Result<Access, Malformed> {
    args.at(3)?;
    let mut access = Access::Update;
    let mut at = 4;
    while at < args.len() {
        if args.is(at, "replace") {
            access = Access::Overwrite;
        } else if args.is_any(at, &["idletime", "freq"]) {
            at += 1;
        }
        at += 1;
    }
    Ok(access)
}

/// What follows `COPY source destination`.
pub(crate) struct CopyOptions {
    /// Where the destination's database stands, and which it is.
    pub(crate) db: Option<(usize, Db)>,
    /// Whether the destination is replaced.
    pub(crate) replace: bool,
}

impl CopyOptions {
    pub(crate) fn read(args: Args<'_>) -> Result<Self, Malformed> {
        let mut options = Self { db: None, replace: false };
        let mut at = 3;
        while at < args.len() {
            if args.is(at, "db") {
                options.db = Some((at + 1, args.db(at + 1)?));
                at += 1;
            } else if args.is(at, "replace") {
                options.replace = true;
            } else {
                return Err(Malformed::Option { at });
            }
            at += 1;
        }
        Ok(options)
    }
}

fn sort(
    args: Args<'_>,
    show: &mut dyn FnMut(usize, Access) -> Result<(), Malformed>,
) -> Result<Reach, Malformed> {
    show(1, Access::Read)?;
    let mut reach = Reach::Declared;
    let mut stored = None;
    let mut at = 2;
    while at < args.len() {
        if args.is(at, "limit") {
            at += 2;
        } else if args.is_any(at, &["by", "get"]) {
            at += 1;
            // A pattern without a star names no key: BY then means "do not sort", and GET # the element.
            if args.at(at)?.contains(&b'*') {
                reach = Reach::Undeclared;
            }
        } else if args.is(at, "store") {
            at += 1;
            stored = Some(at);
        }
        at += 1;
    }
    if let Some(position) = stored {
        show(position, Access::Overwrite)?;
    }
    Ok(reach)
}

/// Where the first key behind `STREAMS` stands. A group may be called `streams`, so the options are read.
fn streams(args: Args<'_>) -> Result<usize, Malformed> {
    let mut at = 1;
    loop {
        args.at(at)?;
        if args.is(at, "streams") {
            args.at(at + 2)?;
            return Ok(at + 1);
        } else if args.is(at, "noack") {
            at += 1;
        } else if args.is_any(at, &["count", "block", "claim", "maxcount", "maxsize"]) {
            at += 2;
        } else if args.is(at, "group") {
            at += 3;
        } else {
            return Err(Malformed::Option { at });
        }
    }
}

fn migrate(
    args: Args<'_>,
    show: &mut dyn FnMut(usize, Access) -> Result<(), Malformed>,
) -> Result<(), Malformed> {
    args.at(5)?;
    if !args.at(3)?.is_empty() {
        return show(3, Access::Update);
    }
    let mut at = 6;
    while at < args.len() {
        if args.is(at, "auth") {
            at += 1;
        } else if args.is(at, "auth2") {
            at += 2;
        } else if args.is(at, "keys") {
            return (at + 1..args.len()).try_for_each(|position| show(position, Access::Update));
        }
        at += 1;
    }
    // The empty key is a key.
    show(3, Access::Update)
}
