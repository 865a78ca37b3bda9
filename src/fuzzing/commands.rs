//! RESP and commands: what is read does not depend on reads, and a command with other keys is that command with other keys.

use crate::command::keys::keys;
use crate::command::rewrite::encode_with;
use crate::resp;
use crate::resp::CommandReader;
use crate::resp::ReplyReader;
use crate::resp::RespError;

/// All commands or replies that were read, and why it ended there; `None` at the end of the input.
type All = (Vec<String>, Option<RespError>);

/// Reads one thing after another out of an input that grows by these sizes, over and over.
fn read_all(
    input: &[u8],
    cuts: &[u16],
    mut read: impl FnMut(&[u8], bool) -> Result<Option<(String, usize)>, RespError>,
) -> All {
    let mut sizes = cuts.iter().cycle();
    let (mut from, mut to, mut all) = (0, 0, Vec::new());
    loop {
        match read(input.get(from..to).unwrap_or_default(), to == input.len()) {
            Ok(Some((said, used))) => {
                all.push(said);
                from += used;
            }
            Ok(None) if to == input.len() => return (all, None),
            Ok(None) => {
                let size = sizes.next().map_or(input.len(), |&size| usize::from(size).max(1));
                to = input.len().min(to + size);
            }
            Err(error) => return (all, Some(error)),
        }
    }
}

/// Commands and replies are the same however they are cut into reads, and a command that is written anew reads as the same.
///
/// # Panics
/// If they are not.
pub fn resp_is_the_same_at_any_cut(input: &[u8], cuts: &[u16]) {
    let commands = |cuts| {
        let mut reader = CommandReader::default();
        read_all(input, cuts, |rest, _| {
            let Some(used) = reader.read(rest)? else { return Ok(None) };
            let args: Vec<&[u8]> = reader.args(rest).collect();
            let said = format!("{args:?} inline {}", reader.was_inline());
            let mut out = Vec::new();
            resp::command(&mut out, &args);
            let mut again = CommandReader::default();
            assert_eq!(again.read(&out), Ok(Some(out.len())));
            assert!(again.args(&out).eq(args));
            Ok(Some((said, used)))
        })
    };
    assert_eq!(commands(cuts), commands(&[]));
    let replies = |cuts| {
        let mut reader = ReplyReader::default();
        read_all(input, cuts, |rest, _| {
            Ok(reader.read(rest)?.map(|(reply, used)| (format!("{reply:?}"), used)))
        })
    };
    assert_eq!(replies(cuts), replies(&[]));
}

/// A command whose keys are given other names has its keys at the same places, and they are the new names. `line` is its
/// words, between newlines.
///
/// # Panics
/// If it has not.
pub fn renamed_keys_are_the_keys(line: &[u8]) {
    let args: Vec<&[u8]> = line.split(|&byte| byte == b'\n').collect();
    let Ok(found) = keys(&args) else { return };
    let mut names: Vec<(usize, Vec<u8>)> = found
        .iter()
        .filter_map(|key| Some((key.position, args.get(key.position)?)))
        // An empty name is no key to MIGRATE, which then takes those behind KEYS.
        .filter(|(_, name)| !name.is_empty())
        .map(|(at, name)| (at, [b"\0renamed:", *name].concat()))
        .collect();
    names.sort();
    names.dedup();
    let replacements: Vec<(usize, &[u8])> =
        names.iter().map(|(at, name)| (*at, name.as_slice())).collect();
    let mut out = Vec::new();
    encode_with(&mut out, &args, &replacements);
    let mut reader = CommandReader::default();
    assert_eq!(reader.read(&out), Ok(Some(out.len())));
    let renamed: Vec<&[u8]> = reader.args(&out).collect();
    assert_eq!(renamed.len(), args.len());
    for (at, (old, new)) in args.iter().zip(&renamed).enumerate() {
        match replacements.iter().find(|(place, _)| *place == at) {
            Some((_, name)) => assert_eq!(new, name),
            None => assert_eq!(new, old),
        }
    }
    let again = keys(&renamed);
    let again = again.as_ref().map(|keys| (keys.reach(), keys.class(), keys.iter().collect()));
    let expected: Vec<_> = found.iter().collect();
    assert_eq!(again, Ok((found.reach(), found.class(), expected)));
}
