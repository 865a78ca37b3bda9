use proptest::prelude::*;

use super::*;
use crate::offset::Offset;
use crate::target::model::{Model, batch};

/// Lets both talk, so many bytes at a time, until the gate has nothing more to say.
fn talk(gate: &mut Gate, model: &mut Model, step: usize) -> Confirmed {
    let mut confirmed = Confirmed::default();
    let mut input = Vec::new();
    gate.advance(&mut confirmed);
    loop {
        model.read(&mut gate.outbox, step);
        let take = model.output().len().min(step);
        input.extend(model.output().drain(..take));
        let used = gate.take(&input, &mut confirmed).unwrap();
        input.drain(..used);
        if gate.refused().is_some() {
            gate.go_on();
        }
        gate.advance(&mut confirmed);
        if gate.outbox.is_empty() && model.output().is_empty() {
            return confirmed;
        }
    }
}

/// What came to the model, with each queue of commands cut to its length.
fn seen(model: &Model) -> String {
    model.seen.join(", ")
}

/// However the bytes are cut, the same is seen and confirmed.
fn each_way(batches: &[Batch], refusals: &[(usize, usize, &'static str)]) -> (Model, Confirmed) {
    let mut whole = None;
    for step in [usize::MAX, 1, 2, 3, 7, 11] {
        let (mut gate, mut model) = (Gate::default(), Model::default());
        model.refusals = refusals.iter().copied().collect();
        batches.iter().for_each(|batch| gate.push(batch.clone()));
        let confirmed = talk(&mut gate, &mut model, step);
        match &whole {
            None => whole = Some((model, confirmed)),
            Some((first, told)) => {
                assert_eq!(seen(first), seen(&model), "{step} bytes at a time");
                assert_eq!(first.strings, model.strings);
                assert_eq!(format!("{told:?}"), format!("{confirmed:?}"), "{step} bytes at a time");
            }
        }
        assert!(gate.is_idle());
    }
    whole.unwrap()
}

fn value<'a>(model: &'a Model, db: u32, key: &str) -> &'a str {
    std::str::from_utf8(&model.strings[&(db, key.as_bytes().to_vec())]).unwrap()
}

fn sizes(batches: &[Batch]) -> usize {
    batches.iter().map(Batch::size).sum()
}

#[test]
fn batches_that_are_there_together_share_a_transaction() {
    let batches = [batch(&["APPEND a 1", "3:APPEND b 2"], 10), batch(&["APPEND a 3"], 20)];
    let (model, confirmed) = each_way(&batches, &[]);
    assert_eq!(
        seen(&model),
        "MULTI, SELECT 0, APPEND a 1, SELECT 3, APPEND b 2, SELECT 0, APPEND a 3, EXEC"
    );
    assert_eq!((value(&model, 0, "a"), value(&model, 3, "b")), ("13", "2"));
    assert_eq!(confirmed.position, Some(Offset::new(20)));
    assert_eq!((confirmed.carries.commands, confirmed.bytes), (3, sizes(&batches)));
    assert_eq!(confirmed.surprises, []);
}

#[test]
fn no_exec_before_the_one_before_it_was_judged_whole() {
    let (mut gate, mut model, mut confirmed) =
        (Gate::default(), Model::default(), Confirmed::default());
    gate.push(batch(&["APPEND a 1", "LRANGE l 0 -1"], 10));
    gate.advance(&mut confirmed);
    model.read(&mut gate.outbox, usize::MAX);
    let queued = std::mem::take(model.output());
    // Not at the first QUEUED, not at the last but one.
    for (at, byte) in queued.iter().enumerate() {
        assert!(gate.outbox.is_empty(), "EXEC after {at} bytes of {}", queued.len());
        assert!(!gate.is_undecided());
        assert_eq!(gate.take(&[], &mut confirmed).unwrap(), 0);
        if *byte == b'\n' {
            let line = queued[..=at].iter().rposition(|&b| b == b'+').unwrap();
            gate.take(&queued[line..=at], &mut confirmed).unwrap();
        }
    }
    gate.push(batch(&["APPEND a 2"], 20));
    gate.advance(&mut confirmed);
    model.read(&mut gate.outbox, usize::MAX);
    assert!(gate.is_undecided());
    // The next transaction was not yet opened when EXEC was sent; it is opened now, and is queued before EXEC is answered.
    assert!(seen(&model).ends_with("EXEC, MULTI, SELECT 0, APPEND a 2"), "{}", seen(&model));
    let answers = std::mem::take(model.output());
    let elements = answers.windows(8).position(|bytes| bytes == b"+OK\r\n+QU").unwrap();
    let mut input = Vec::new();
    for (at, byte) in answers.iter().enumerate() {
        if at < elements {
            assert_eq!(confirmed.position, None, "before the last element, at byte {at}");
        }
        assert!(gate.outbox.is_empty(), "at byte {at}");
        input.push(*byte);
        let used = gate.take(&input, &mut confirmed).unwrap();
        input.drain(..used);
    }
    assert_eq!(confirmed.position, Some(Offset::new(10)));
    model.read(&mut gate.outbox, usize::MAX);
    assert!(seen(&model).ends_with(", EXEC"), "{}", seen(&model));
    assert_eq!(value(&model, 0, "a"), "12");
}

#[test]
fn what_was_refused_in_the_queue_is_discarded_and_goes_again_in_order() {
    let batches = [batch(&["APPEND a 1", "APPEND a 2"], 10), batch(&["APPEND a 3"], 20)];
    for before in 1..7 {
        let (model, confirmed) = each_way(&batches, &[(before, 1, "-OOM command not allowed")]);
        assert_eq!(value(&model, 0, "a"), "123", "after {before}: {}", seen(&model));
        assert_eq!(confirmed.position, Some(Offset::new(20)));
        assert_eq!((confirmed.bytes, confirmed.carries.commands), (sizes(&batches), 3));
        assert_eq!(confirmed.surprises, []);
        assert_eq!(seen(&model).matches("DISCARD").count(), 1);
    }
}

#[test]
fn an_exec_refused_while_the_next_is_queued_takes_both_back() {
    for refusal in ["-EXECABORT Transaction discarded because of: OOM", "-BUSY a script is running"]
    {
        let (mut gate, mut model, mut confirmed) =
            (Gate::default(), Model::default(), Confirmed::default());
        model.refusals.push_back((3, 1, refusal));
        gate.push(batch(&["APPEND a 1"], 10));
        gate.advance(&mut confirmed);
        model.read(&mut gate.outbox, usize::MAX);
        let queued = std::mem::take(model.output());
        gate.push(batch(&["APPEND a 2"], 20));
        gate.take(&queued, &mut confirmed).unwrap();
        let told = talk(&mut gate, &mut model, 1);
        assert_eq!(value(&model, 0, "a"), "12", "{}", seen(&model));
        assert_eq!(told.surprises, []);
        assert_eq!(told.position, Some(Offset::new(20)));
    }
}

#[test]
fn an_exec_refused_with_nothing_behind_it_goes_again() {
    for refusal in ["-EXECABORT Transaction discarded", "-BUSY a script is running"] {
        let batches = [batch(&["APPEND a 1"], 10)];
        let (model, confirmed) = each_way(&batches, &[(3, 1, refusal)]);
        assert_eq!(value(&model, 0, "a"), "1", "{}", seen(&model));
        assert_eq!((confirmed.position, confirmed.surprises), (Some(Offset::new(10)), vec![]));
    }
}

#[test]
fn a_command_that_no_server_takes_is_told_with_its_key() {
    let batches = [batch(&["APPEND a 1", "2:APPEND b 2"], 10)];
    let (mut gate, mut model, mut confirmed) =
        (Gate::default(), Model::default(), Confirmed::default());
    model.refusals.push_back((4, 1, "-ERR unknown command"));
    gate.push(batches[0].clone());
    gate.advance(&mut confirmed);
    model.read(&mut gate.outbox, usize::MAX);
    gate.take(&std::mem::take(model.output()), &mut confirmed).unwrap();
    let Surprise::Failed(failure) = &confirmed.surprises[0] else { panic!("{confirmed:?}") };
    assert_eq!((failure.db, failure.name.as_slice()), (Db::new(2), &b"APPEND"[..]));
    assert_eq!(failure.key.as_deref(), Some(&b"b"[..]));
    assert_eq!((confirmed.position, model.strings.len()), (None, 0));
}

#[test]
fn a_refused_multi_is_told_only_if_something_ran() {
    let one = [batch(&["APPEND a 1"], 10)];
    // All of it refused: nothing ran, nothing is told.
    let (model, confirmed) = each_way(&one, &[(0, 3, "-LOADING the data set")]);
    assert_eq!((value(&model, 0, "a"), confirmed.surprises), ("1", vec![]));
    // MULTI alone: what follows ran outside of a transaction.
    let (_, confirmed) = each_way(&one, &[(0, 1, "-LOADING the data set")]);
    let Surprise::Failed(failure) = &confirmed.surprises[0] else { panic!("{confirmed:?}") };
    assert_eq!(failure.name, b"SELECT");
    assert_eq!(failure.reply, "OK");
}

#[test]
fn an_element_that_failed_is_told_before_the_position_moves() {
    let (mut gate, mut confirmed) = (Gate::default(), Confirmed::default());
    gate.push(batch(&["APPEND a 1", "APPEND b 2"], 10));
    gate.advance(&mut confirmed);
    gate.take(b"+OK\r\n+QUEUED\r\n+QUEUED\r\n+QUEUED\r\n", &mut confirmed).unwrap();
    gate.take(b"*3\r\n+OK\r\n:1\r\n", &mut confirmed).unwrap();
    assert!(confirmed.is_empty());
    gate.take(b"-WRONGTYPE no\r\n", &mut confirmed).unwrap();
    let Surprise::Failed(failure) = &confirmed.surprises[0] else { panic!("{confirmed:?}") };
    assert_eq!((failure.key.as_deref(), failure.reply.as_str()), (Some(&b"b"[..]), "WRONGTYPE no"));
    // Both are told together: who looks at the surprises first does not move.
    assert_eq!(confirmed.position, Some(Offset::new(10)));
}

#[test]
fn arrays_inside_of_an_exec_are_one_element_each() {
    let batches = [batch(&["LRANGE l 0 -1", "APPEND a 1", "LRANGE l 0 -1"], 10)];
    let (_, confirmed) = each_way(&batches, &[]);
    assert_eq!((confirmed.position, confirmed.surprises), (Some(Offset::new(10)), vec![]));
}

#[test]
fn an_array_of_another_length_is_no_commit() {
    for answer in [&b"*2\r\n"[..], b"*-1\r\n", b"+OK\r\n", b"-ERR what\r\n"] {
        let (mut gate, mut confirmed) = (Gate::default(), Confirmed::default());
        gate.push(batch(&["APPEND a 1", "APPEND b 2"], 10));
        gate.advance(&mut confirmed);
        gate.take(b"+OK\r\n+QUEUED\r\n+QUEUED\r\n+QUEUED\r\n", &mut confirmed).unwrap();
        gate.take(answer, &mut confirmed).unwrap();
        assert_eq!(confirmed.surprises.len(), 1, "{answer:?}");
        assert_eq!(confirmed.position, None);
    }
}

#[test]
fn offsets_alone_need_no_transaction_and_pass_none() {
    let (mut gate, mut model, mut confirmed) =
        (Gate::default(), Model::default(), Confirmed::default());
    gate.push(batch(&[], 5));
    gate.advance(&mut confirmed);
    assert_eq!(confirmed.position, Some(Offset::new(5)));
    assert!(gate.outbox.is_empty() && gate.is_idle());
    gate.push(batch(&["APPEND a 1"], 10));
    gate.advance(&mut confirmed);
    gate.push(batch(&[], 15));
    gate.advance(&mut confirmed);
    model.read(&mut gate.outbox, usize::MAX);
    gate.take(&std::mem::take(model.output()), &mut confirmed).unwrap();
    assert!(gate.is_undecided() || !gate.outbox.is_empty());
    gate.advance(&mut confirmed);
    assert_eq!(confirmed.position, Some(Offset::new(5)), "behind a transaction that is closing");
    let confirmed = talk(&mut gate, &mut model, 1);
    assert_eq!(confirmed.position, Some(Offset::new(15)));
    assert_eq!(seen(&model).matches("MULTI").count(), 1);
}

#[test]
fn a_transaction_grows_while_more_waits_than_fits() {
    let mut gate = Gate::default();
    let lines: Vec<String> = (0..1000).map(|n| format!("APPEND a {n}")).collect();
    let lines: Vec<&str> = lines.iter().map(String::as_str).collect();
    let thousand = batch(&lines, 1);
    for _ in 0..60 {
        gate.push(thousand.clone());
    }
    let mut confirmed = Confirmed::default();
    let mut sizes = Vec::new();
    let mut model = Model::default();
    while !gate.is_idle() {
        gate.advance(&mut confirmed);
        if let Some(open) = &gate.open {
            sizes.push(open.batches.len());
        }
        model.read(&mut gate.outbox, usize::MAX);
        gate.take(&std::mem::take(model.output()), &mut confirmed).unwrap();
    }
    sizes.dedup();
    assert_eq!(sizes, [4, 8, 16]);
    assert_eq!(confirmed.bytes, 60 * thousand.size());
    // One that is larger than a share goes alone.
    gate.share = SMALLEST;
    let lines: Vec<&str> = (0..5000).map(|_| "APPEND a 1").collect();
    gate.push(batch(&lines, 2));
    gate.push(batch(&["APPEND a 1"], 3));
    gate.advance(&mut confirmed);
    assert_eq!(gate.open.as_ref().unwrap().batches.len(), 1);
}

/// Cuts the link after so many bytes of ours were written and so many of its answers read, then goes on with a new one; not
/// where nobody can tell what was done.
fn cut_after(batches: &[Batch], written: usize, read: usize) -> (Model, Option<Confirmed>) {
    let (mut gate, mut model, mut confirmed) =
        (Gate::default(), Model::default(), Confirmed::default());
    batches.iter().for_each(|batch| gate.push(batch.clone()));
    let (mut input, mut left, mut to_read) = (Vec::new(), written, read);
    gate.advance(&mut confirmed);
    loop {
        let before = (left, to_read);
        while left > 0 && !gate.outbox.is_empty() {
            model.read(&mut gate.outbox, 1);
            left -= 1;
        }
        let take = model.output().len().min(to_read);
        to_read -= take;
        input.extend(model.output().drain(..take));
        let used = gate.take(&input, &mut confirmed).unwrap();
        input.drain(..used);
        if (left, to_read) == before {
            break;
        }
    }
    if gate.is_undecided() {
        return (model, None);
    }
    gate.relink();
    model.relink();
    let rest = talk(&mut gate, &mut model, usize::MAX);
    confirmed.add(&Batch::default(), rest.bytes, 0);
    confirmed.position = confirmed.position.max(rest.position);
    confirmed.surprises.extend(rest.surprises);
    (model, Some(confirmed))
}

#[test]
fn a_link_lost_at_each_byte_leaves_nothing_out_and_nothing_twice() {
    let batches = [batch(&["APPEND a 1", "APPEND a 2"], 10), batch(&["3:APPEND a 3"], 20)];
    let (mut decided, mut undecided) = (0, 0);
    for written in 0..260 {
        for read in 0..120 {
            match cut_after(&batches, written, read) {
                (model, Some(confirmed)) => {
                    decided += 1;
                    assert_eq!((value(&model, 0, "a"), value(&model, 3, "a")), ("12", "3"));
                    assert_eq!(confirmed.position, Some(Offset::new(20)), "{written} {read}");
                    assert_eq!(confirmed.bytes, sizes(&batches), "{written} {read}");
                    assert_eq!(confirmed.surprises, []);
                }
                // EXEC was written whole: it was done, as this model reads all that is written.
                (model, None) => {
                    undecided += 1;
                    assert_eq!(seen(&model).matches("EXEC").count(), 1);
                }
            }
        }
    }
    assert!(decided > 1000 && undecided > 100, "{decided} decided, {undecided} undecided");
}

proptest! {
    /// A list of transactions of APPENDs, refusals anywhere, the link cut anywhere: each part that was confirmed is there once
    /// and in order, and what is there is a beginning of the stream.
    #[test]
    fn what_is_confirmed_was_done_once_and_in_order(
        counts in prop::collection::vec(0..4_usize, 1..12),
        refusals in prop::collection::vec((0..12_usize, 1..4_usize, prop::sample::select(&[
            "-OOM command not allowed", "-EXECABORT Transaction discarded", "-READONLY replica",
        ][..])), 0..4),
        steps in prop::collection::vec((0..200_usize, 0..60_usize, 0..25_u8), 1..60),
    ) {
        let (mut gate, mut model) = (Gate::default(), Model::default());
        model.refusals = refusals.into_iter().collect();
        let (mut number, mut batches, mut ends) = (0, Vec::new(), Vec::new());
        let mut stream = String::new();
        for (at, count) in counts.iter().enumerate() {
            let lines: Vec<String> =
                (0..*count).map(|_| { number += 1; format!("{}:APPEND a {number},", 3) }).collect();
            let lines: Vec<&str> = lines.iter().map(String::as_str).collect();
            batches.push(batch(&lines, at as u64 + 1));
            lines.iter().for_each(|line| stream.push_str(line.rsplit(' ').next().unwrap()));
            ends.push(stream.len());
        }
        let all = batches.iter().map(Batch::size).sum::<usize>();
        let mut queue = batches.into_iter();
        let (mut told, mut input, mut bytes) = (0, Vec::new(), 0);
        for (write, read, event) in steps.into_iter().chain(std::iter::repeat_n((999, 999, 24), 60)) {
            if event > 8 && let Some(batch) = queue.next() {
                gate.push(batch);
            }
            let mut confirmed = Confirmed::default();
            gate.advance(&mut confirmed);
            model.read(&mut gate.outbox, write);
            let take = model.output().len().min(read);
            input.extend(model.output().drain(..take));
            let used = gate.take(&input, &mut confirmed).unwrap();
            input.drain(..used);
            if gate.refused().is_some() {
                gate.go_on();
            }
            prop_assert!(confirmed.surprises.is_empty(), "{confirmed:?}");
            bytes += confirmed.bytes;
            told = told.max(confirmed.position.map_or(0, Offset::get));
            let there = model.strings.get(&(3, b"a".to_vec())).cloned().unwrap_or_default();
            let there = String::from_utf8(there).unwrap();
            prop_assert!(stream.starts_with(&there), "{there} of {stream}");
            let sure = usize::try_from(told).unwrap().checked_sub(1).map_or(0, |at| ends[at]);
            prop_assert!(there.len() >= sure, "{told} is confirmed and only {there} there");
            if event == 0 && !gate.is_undecided() {
                gate.relink();
                model.relink();
                input.clear();
            }
        }
        prop_assert!(gate.is_idle());
        prop_assert_eq!(bytes, all);
        prop_assert_eq!(told, counts.len() as u64);
    }
}
