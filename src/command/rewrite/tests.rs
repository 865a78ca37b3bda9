use proptest::prelude::*;

use super::*;
use crate::command::table::lookup;
use crate::command::testing::{decode, lines, words};

#[test]
fn databases_are_found_and_renumbered() {
    for (line, expected) in [
        ("SELECT 5", "SELECT 105"),
        ("MOVE 1 1", "MOVE 1 101"),
        ("SWAPDB 0 15", "SWAPDB 100 115"),
        ("COPY 1 2", "COPY 1 2"),
        ("copy 1 2 replace db 3", "copy 1 2 replace db 103"),
        ("SET 1 2", "SET 1 2"),
    ] {
        let args = words(line);
        let mut out = Vec::new();
        let done = lookup(args[0])
            .unwrap()
            .encode_renumbered(&mut out, &args, |db| Some(Db::new(db.index() + 100)));
        assert_eq!(done, Ok(Renumbered::Written));
        assert_eq!(lines(&out), [expected]);
    }
}

#[test]
fn a_database_without_a_place_writes_nothing() {
    let only_zero = |db: Db| (db.index() == 0).then_some(db);
    for (line, missing) in [("MOVE k 3", 3), ("SWAPDB 0 2", 2), ("COPY a b DB 9", 9)] {
        let args = words(line);
        let mut out = Vec::new();
        let done = lookup(args[0]).unwrap().encode_renumbered(&mut out, &args, only_zero);
        assert_eq!(done, Ok(Renumbered::NoPlaceFor(Db::new(missing))), "{line}");
        assert!(out.is_empty());
    }
    let swap = lookup(b"swapdb").unwrap();
    let mut out = Vec::new();
    let done = swap.encode_renumbered(&mut out, &words("SWAPDB 0 x"), only_zero);
    assert_eq!(done, Err(Malformed::Number { at: 2 }));
    assert!(out.is_empty());
}

proptest! {
    #[test]
    fn what_is_written_reads_back(
        args in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..40), 1..12),
        other in prop::collection::btree_map(0usize..14, prop::collection::vec(any::<u8>(), 0..9), 0..6),
    ) {
        let borrowed: Vec<&[u8]> = args.iter().map(Vec::as_slice).collect();
        let mut out = Vec::new();
        encode_with(&mut out, &borrowed, &[]);
        prop_assert_eq!(decode(&out), [args.clone()]);

        let replacements: Vec<(usize, &[u8])> =
            other.iter().map(|(&at, bytes)| (at, bytes.as_slice())).collect();
        let mut out = Vec::new();
        encode_with(&mut out, &borrowed, &replacements);
        let expected: Vec<Vec<u8>> = args.iter().enumerate()
            .map(|(at, arg)| other.get(&at).unwrap_or(arg).clone()).collect();
        prop_assert_eq!(decode(&out), [expected]);
    }
}
