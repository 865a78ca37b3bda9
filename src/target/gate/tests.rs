use proptest::prelude::*;

use super::*;
use crate::offset::Offset;
use crate::position::{Phase, Record, Spot, fence};
use crate::target::Surprise;
use crate::target::model::{Model, batch};

/// A record of a job that has just begun to follow.
fn record() -> Record {
    Record {
        job: "job".to_owned(),
        source: "source".to_owned(),
        rules: String::new(),
        owner: "us".to_owned(),
        generation: 1,
        phase: Phase::Following,
        copies: 1,
        sole: true,
        replid: None,
        applied: Spot::default(),
        clean: Spot::default(),
        doubts: Vec::new(),
        horizon: GOOD,
        good: GOOD,
        unsure: false,
        written: None,
        ended: None,
        unproven: 0,
    }
}

/// Until then deadlines are held back, in milliseconds.
const GOOD: i64 = 1_000_000;

/// A gate to a target that holds nothing, not even a record.
fn gate() -> Gate {
    let at = (Db::default(), b"pos".to_vec(), b"scripts".to_vec());
    Gate::new(Keeper::new(record(), None, at))
}

/// The record that the target holds.
fn stored(model: &Model) -> Option<Record> {
    let bytes = model.strings.get(&(0, b"pos".to_vec()))?;
    Some(Record::decode(bytes).unwrap())
}

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

/// What came to the model; of a record only that it was written.
fn seen(model: &Model) -> String {
    let short = |line: &String| match line.starts_with("SET pos ") {
        true => "SET pos".to_owned(),
        false => line.clone(),
    };
    model.seen.iter().map(short).collect::<Vec<_>>().join(", ")
}

/// What stands before each transaction.
const BEFORE: &str = "WATCH pos, GET pos, TIME, MULTI";

/// However the bytes are cut, the same is seen and confirmed.
fn each_way(batches: &[Batch], refusals: &[(usize, usize, &'static str)]) -> (Model, Confirmed) {
    let mut whole = None;
    for step in [usize::MAX, 1, 2, 3, 7, 11] {
        let (mut gate, mut model) = (gate(), Model::default());
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
        format!(
            "SELECT 0, SELECT 3, SELECT 0, {BEFORE}, SELECT 0, APPEND a 1, SELECT 3, APPEND b 2, SELECT 0, APPEND a 3, SELECT 0, SET pos, EXEC"
        )
    );
    assert_eq!((value(&model, 0, "a"), value(&model, 3, "b")), ("13", "2"));
    assert_eq!(confirmed.position, Some(Offset::new(20)));
    assert_eq!((confirmed.carries.commands, confirmed.bytes), (3, sizes(&batches)));
    assert_eq!(confirmed.surprises, []);
}

#[test]
fn no_exec_before_the_one_before_it_was_judged_whole() {
    let (mut gate, mut model, mut confirmed) = (gate(), Model::default(), Confirmed::default());
    gate.push(batch(&["APPEND a 1", "LRANGE l 0 -1"], 10));
    gate.advance(&mut confirmed);
    model.read(&mut gate.outbox, usize::MAX);
    let queued = std::mem::take(model.output());
    // Not at the first answer, not at the last but one.
    let mut input = Vec::new();
    for (at, byte) in queued.iter().enumerate() {
        assert!(gate.outbox.is_empty(), "EXEC after {at} bytes of {}", queued.len());
        input.push(*byte);
        let used = gate.take(&input, &mut confirmed).unwrap();
        input.drain(..used);
    }
    gate.push(batch(&["APPEND a 2"], 20));
    gate.advance(&mut confirmed);
    model.read(&mut gate.outbox, usize::MAX);
    // The next transaction was not yet opened when EXEC was sent; it is opened now, and is queued before EXEC is answered.
    let end = format!("SET pos, EXEC, {BEFORE}, SELECT 0, APPEND a 2");
    assert!(seen(&model).ends_with(&end), "{}", seen(&model));
    let answers = std::mem::take(model.output());
    // The record of the first one is what the GET of the second answers, behind the elements.
    let elements = answers.windows(5).rposition(|bytes| bytes == b"+OK\r\n").unwrap();
    let watched = answers[..elements].windows(5).rposition(|bytes| bytes == b"+OK\r\n").unwrap();
    for (at, byte) in answers.iter().enumerate() {
        if at < watched {
            assert_eq!(confirmed.position, None, "before the last element, at byte {at}");
        }
        assert!(gate.outbox.is_empty(), "at byte {at}");
        input.push(*byte);
        let used = gate.take(&input, &mut confirmed).unwrap();
        input.drain(..used);
    }
    assert_eq!(confirmed.position, Some(Offset::new(10)));
    model.read(&mut gate.outbox, usize::MAX);
    assert!(seen(&model).ends_with("SET pos, EXEC"), "{}", seen(&model));
    assert_eq!(value(&model, 0, "a"), "12");
    let record = stored(&model).unwrap();
    assert_eq!((record.clean.offset, record.applied.offset), (10, 20));
}

#[test]
fn what_was_refused_in_the_queue_is_discarded_and_goes_again_in_order() {
    let batches = [batch(&["APPEND a 1", "APPEND a 2"], 10), batch(&["APPEND a 3"], 20)];
    for before in 1..12 {
        let (model, confirmed) = each_way(&batches, &[(before, 1, "-OOM command not allowed")]);
        assert_eq!(value(&model, 0, "a"), "123", "after {before}: {}", seen(&model));
        assert_eq!(confirmed.position, Some(Offset::new(20)));
        assert_eq!((confirmed.bytes, confirmed.carries.commands), (sizes(&batches), 3));
        assert_eq!(confirmed.surprises, []);
        // Where the record was refused the EXEC was aborted.
        assert!(seen(&model).matches("DISCARD").count() <= 1);
    }
}

#[test]
fn an_exec_refused_while_the_next_is_queued_takes_both_back() {
    for refusal in ["-EXECABORT Transaction discarded because of: OOM", "-BUSY a script is running"]
    {
        let (mut gate, mut model, mut confirmed) = (gate(), Model::default(), Confirmed::default());
        model.refusals.push_back((9, 1, refusal));
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
        let (model, confirmed) = each_way(&batches, &[(9, 1, refusal)]);
        assert_eq!(value(&model, 0, "a"), "1", "{}", seen(&model));
        assert_eq!((confirmed.position, confirmed.surprises), (Some(Offset::new(10)), vec![]));
    }
}

#[test]
fn a_command_that_no_server_takes_is_told_with_its_place() {
    let (mut gate, mut model, mut confirmed) = (gate(), Model::default(), Confirmed::default());
    model.refusals.push_back((10, 1, "-ERR unknown command"));
    gate.push(batch(&["APPEND a 1", "2:APPEND b 2"], 10));
    gate.advance(&mut confirmed);
    model.read(&mut gate.outbox, usize::MAX);
    gate.take(&std::mem::take(model.output()), &mut confirmed).unwrap();
    let Some(Halt::Rejected { batch: 0, index: 2, failure }) = &confirmed.halt else {
        panic!("{confirmed:?}")
    };
    assert_eq!((failure.db, failure.name.as_slice()), (Db::new(2), &b"APPEND"[..]));
    assert_eq!(failure.key.as_deref(), Some(&b"b"[..]));
    assert_eq!((confirmed.position, model.strings.len()), (None, 0));
    // Nothing more is sent before it was said what becomes of it.
    let silent = talk(&mut gate, &mut model, usize::MAX);
    assert!(silent.is_empty() && model.strings.is_empty());
    gate.revise(|batch| batch.only(&[0]));
    let told = talk(&mut gate, &mut model, usize::MAX);
    assert_eq!((value(&model, 0, "a"), told.position), ("1", Some(Offset::new(10))));
}

#[test]
fn a_refused_multi_is_told_only_if_something_ran() {
    let one = [batch(&["APPEND a 1"], 10)];
    // All of it refused: nothing ran, nothing is told.
    let (model, confirmed) = each_way(&one, &[(1, 6, "-LOADING the data set")]);
    assert_eq!((value(&model, 0, "a"), confirmed.surprises), ("1", vec![]));
    // MULTI alone: what follows ran outside of a transaction.
    let (_, confirmed) = each_way(&one, &[(4, 1, "-LOADING the data set")]);
    let Surprise::Failed(failure) = &confirmed.surprises[0] else { panic!("{confirmed:?}") };
    assert_eq!(failure.name, b"SELECT");
    assert_eq!(failure.reply, "OK");
}

/// What a gate is answered until its first transaction is queued, of so many commands.
fn queued(commands: usize) -> Vec<u8> {
    let before = "+OK\r\n+OK\r\n$-1\r\n*2\r\n$1\r\n1\r\n$1\r\n1\r\n+OK\r\n";
    [before.as_bytes(), &b"+QUEUED\r\n".repeat(commands)].concat()
}

#[test]
fn an_element_that_failed_halts_the_stream() {
    let (mut gate, mut confirmed) = (gate(), Confirmed::default());
    gate.push(batch(&["APPEND a 1", "APPEND b 2"], 10));
    gate.advance(&mut confirmed);
    gate.push(batch(&["APPEND b 3"], 20));
    gate.take(&queued(3), &mut confirmed).unwrap();
    gate.take(b"+QUEUED\r\n+QUEUED\r\n*5\r\n+OK\r\n:1\r\n", &mut confirmed).unwrap();
    assert!(confirmed.is_empty());
    gate.take(b"-WRONGTYPE no\r\n+OK\r\n", &mut confirmed).unwrap();
    assert!(confirmed.is_empty(), "not before the record's own answer");
    gate.take(b"+OK\r\n", &mut confirmed).unwrap();
    let Some(Halt::Surprised { batches, failed }) = &confirmed.halt else {
        panic!("{confirmed:?}")
    };
    let (nth, index, failure) = &failed[0];
    assert_eq!((batches.len(), *nth, *index, failed.len()), (1, 0, 1, 1));
    assert_eq!((failure.key.as_deref(), failure.reply.as_str()), (Some(&b"b"[..]), "WRONGTYPE no"));
    // Both are told together: who looks at the halt first does not move.
    assert_eq!(confirmed.position, Some(Offset::new(10)));
    // The next one was queued already; it is not closed, but sent again as it was revised.
    gate.outbox.clear();
    let answer = "+OK\r\n$1\r\nx\r\n*2\r\n$1\r\n1\r\n$1\r\n1\r\n+OK\r\n+QUEUED\r\n+QUEUED\r\n";
    let mut after = Confirmed::default();
    gate.revise(|batch| batch.only(&[]));
    gate.take(answer.as_bytes(), &mut after).unwrap();
    assert_eq!(gate.outbox.front(), b"*1\r\n$7\r\nDISCARD\r\n");
}

#[test]
fn arrays_inside_of_an_exec_are_one_element_each() {
    let batches = [batch(&["LRANGE l 0 -1", "APPEND a 1", "LRANGE l 0 -1"], 10)];
    let (_, confirmed) = each_way(&batches, &[]);
    assert_eq!((confirmed.position, confirmed.surprises), (Some(Offset::new(10)), vec![]));
}

#[test]
fn an_array_of_another_length_is_no_commit() {
    for answer in [&b"*2\r\n"[..], b"+OK\r\n", b"-ERR what\r\n"] {
        let (mut gate, mut confirmed) = (gate(), Confirmed::default());
        gate.push(batch(&["APPEND a 1", "APPEND b 2"], 10));
        gate.advance(&mut confirmed);
        gate.take(&queued(3), &mut confirmed).unwrap();
        gate.take(b"+QUEUED\r\n+QUEUED\r\n", &mut confirmed).unwrap();
        gate.take(answer, &mut confirmed).unwrap();
        assert_eq!(confirmed.surprises.len(), 1, "{answer:?}");
        assert_eq!(confirmed.position, None);
    }
}

#[test]
fn offsets_alone_need_no_transaction_and_pass_none() {
    let (mut gate, mut model, mut confirmed) = (gate(), Model::default(), Confirmed::default());
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
    gate.advance(&mut confirmed);
    assert_eq!(confirmed.position, Some(Offset::new(5)), "behind a transaction that is closing");
    let confirmed = talk(&mut gate, &mut model, 1);
    assert_eq!(confirmed.position, Some(Offset::new(15)));
    assert_eq!(seen(&model).matches("MULTI").count(), 1);
}

#[test]
fn a_transaction_grows_while_more_waits_than_fits() {
    let mut gate = gate();
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

#[test]
fn who_is_overtaken_commits_nothing_more() {
    // After so many commands were read somebody else writes the record.
    let pos = (0, b"pos".to_vec());
    for (after, fences) in (0..9).flat_map(|after| [(after, false), (after, true)]) {
        let (mut gate, mut model, mut confirmed) = (gate(), Model::default(), Confirmed::default());
        gate.push(batch(&["APPEND a 1"], 10));
        talk(&mut gate, &mut model, usize::MAX);
        let before = model.seen.len();
        gate.push(batch(&["APPEND a 2"], 20));
        gate.advance(&mut confirmed);
        let mut meddled = None;
        for _ in 0..1000 {
            if meddled.is_none() && model.seen.len() >= before + after {
                // Or is about to, and says so.
                let fenced = [&model.strings[&pos][..], &fence("another")].concat();
                model.meddle("pos", if fences { &fenced } else { b"another" });
                meddled = Some(model.strings[&pos].clone());
            }
            model.read(&mut gate.outbox, 1);
            let answers = std::mem::take(model.output());
            gate.take(&answers, &mut confirmed).unwrap();
            gate.advance(&mut confirmed);
        }
        assert_eq!(value(&model, 0, "a"), "1", "after {after} commands");
        assert!(matches!(confirmed.halt, Some(Halt::Fenced(_))), "after {after}: {confirmed:?}");
        assert_eq!(model.strings.get(&pos), meddled.as_ref());
    }
}

#[test]
fn nothing_is_committed_once_deadlines_come() {
    let (mut gate, mut model) = (gate(), Model::default());
    model.time = (GOOD as u64 - 60_000) / 1000 - 1;
    gate.push(batch(&["APPEND a 1"], 10));
    assert_eq!(talk(&mut gate, &mut model, 1).halt, None);
    model.time += 1;
    gate.push(batch(&["APPEND a 2"], 20));
    assert_eq!(talk(&mut gate, &mut model, 1).halt, Some(Halt::Late));
    assert_eq!(value(&model, 0, "a"), "1");
}

#[test]
fn a_database_that_is_not_there_is_found_before_anything_runs() {
    let (mut gate, mut model) = (gate(), Model::default());
    model.highest = Some(15);
    gate.push(batch(&["APPEND a 1", "16:APPEND a 2"], 10));
    let mut confirmed = Confirmed::default();
    gate.advance(&mut confirmed);
    model.read(&mut gate.outbox, usize::MAX);
    gate.take(&std::mem::take(model.output()), &mut confirmed).unwrap();
    let Some(Surprise::Failed(failure)) = confirmed.surprises.first() else {
        panic!("{confirmed:?}")
    };
    assert_eq!(failure.name, b"SELECT");
    assert!(model.strings.is_empty(), "{:?}", model.strings);
}

#[test]
fn a_record_is_saved_and_forgotten_behind_everything() {
    let (mut gate, mut model) = (gate(), Model::default());
    gate.push(batch(&["APPEND a 1"], 10));
    gate.wish(Wish::Save);
    let confirmed = talk(&mut gate, &mut model, 1);
    assert_eq!(confirmed.position, Some(Offset::new(10)));
    let record = stored(&model).unwrap();
    assert_eq!((record.clean.offset, record.applied.offset), (10, 10));
    assert!(gate.is_idle());
    gate.push(batch(&["APPEND a 2"], 20));
    gate.wish(Wish::Forget);
    talk(&mut gate, &mut model, 1);
    assert_eq!((stored(&model), value(&model, 0, "a")), (None, "12"));
    assert!(gate.is_idle());
}

#[test]
fn more_doubts_than_a_record_holds_keep_it_where_it_is() {
    let (mut gate, mut model) = (gate(), Model::default());
    let doubts = vec![(0, crate::repl::Latin1(b"k".to_vec()))];
    gate.keeper.set_doubts(Some(doubts.clone().into()));
    for (end, list) in [(10, Some(doubts.clone().into())), (20, None), (30, None)] {
        gate.keeper.set_doubts(list);
        gate.push(batch(&["APPEND a 1"], end));
        talk(&mut gate, &mut model, 1);
    }
    let record = stored(&model).unwrap();
    assert_eq!((record.clean.offset, record.applied.offset), (0, 30));
    assert_eq!(record.doubts, doubts);
    gate.keeper.set_doubts(Some(Vec::new().into()));
    gate.push(batch(&["APPEND a 1"], 40));
    talk(&mut gate, &mut model, 1);
    let record = stored(&model).unwrap();
    assert_eq!((record.clean.offset, record.applied.offset), (30, 40));
    assert_eq!(record.doubts, []);
}

#[test]
fn what_ran_unseen_has_run_however_often_a_job_is_taken_up() {
    let spot = |offset| Spot { offset, db: 3 };
    let old = Record { clean: spot(5), applied: spot(9), ..record() };
    let mut keeper = Keeper::new(old, None, (Db::new(1), b"pos".to_vec(), b"scripts".to_vec()));
    // Saved before anything was taken again, and in the midst of it.
    assert_eq!((keeper.next(None).clean, keeper.next(None).applied), (spot(5), spot(9)));
    let batch = batch(&["3:SET a 1"], 7);
    keeper.confirm_batch(&batch);
    assert_eq!(keeper.next(super::spot(&batch)).applied, spot(9));
    assert_eq!(keeper.next(Some(spot(12))).applied, spot(12));
}

#[test]
fn a_transaction_larger_than_memory_is_fed_as_it_comes() {
    let (mut gate, mut model, mut confirmed) = (gate(), Model::default(), Confirmed::default());
    let part = |lines: &[&str]| {
        let mut part = batch(lines, 0);
        (part.continues, part.covers) = (true, None);
        part
    };
    let first = part(&["APPEND a 1", "APPEND a 2"]);
    gate.push(first.clone());
    let told = talk(&mut gate, &mut model, 1);
    // What was queued is no longer held, and nothing has run.
    assert_eq!((told.bytes, model.strings.len(), gate.is_idle()), (first.size(), 0, false));
    gate.push(part(&["APPEND a 3"]));
    talk(&mut gate, &mut model, 1);
    assert_eq!(model.strings.len(), 0);
    gate.push(batch(&["APPEND a 4"], 10));
    gate.push(batch(&["APPEND a 5"], 20));
    let told = talk(&mut gate, &mut model, 1);
    assert_eq!((value(&model, 0, "a"), told.position), ("12345", Some(Offset::new(20))));
    assert_eq!(seen(&model).matches("EXEC").count(), 2);
    // Torn by a refusal it cannot be sent again.
    gate.push(first);
    talk(&mut gate, &mut model, 1);
    model.refusals.push_back((0, 1, "-OOM command not allowed"));
    gate.push(batch(&["APPEND a 6"], 30));
    gate.advance(&mut confirmed);
    assert_eq!(talk(&mut gate, &mut model, 1).halt, Some(Halt::Torn));
    assert_eq!(value(&model, 0, "a"), "12345");
}

/// Cuts the link after so many bytes of ours were written and so many of its answers read, then goes on with a new one. Says whether
/// nobody had seen what the last transaction did.
fn cut_after(batches: &[Batch], written: usize, read: usize) -> (Model, Confirmed, bool) {
    let (mut gate, mut model, mut confirmed) = (gate(), Model::default(), Confirmed::default());
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
    let unseen = relink(&mut gate, &mut model, &mut confirmed);
    let rest = talk(&mut gate, &mut model, usize::MAX);
    confirmed.add(&Batch::default(), rest.bytes, 0);
    confirmed.position = confirmed.position.max(rest.position);
    confirmed.surprises.extend(rest.surprises);
    (model, confirmed, unseen)
}

/// A new link, and what is behind a transaction that nobody has seen is sent as it is.
fn relink(gate: &mut Gate, model: &mut Model, confirmed: &mut Confirmed) -> bool {
    model.relink();
    let stored = model.strings.get(&(0, b"pos".to_vec())).cloned();
    let unseen = gate.relink(stored.as_deref(), confirmed).expect("the record is one of ours");
    if !unseen.is_empty() {
        let held = confirmed.position;
        assert!(talk(gate, model, usize::MAX).is_empty(), "behind what nobody has seen");
        assert_eq!(confirmed.position, held);
        gate.revise(Batch::clone);
    }
    !unseen.is_empty()
}

#[test]
fn a_link_lost_at_each_byte_leaves_nothing_out_and_nothing_twice() {
    let batches = [batch(&["APPEND a 1", "APPEND a 2"], 10), batch(&["3:APPEND a 3"], 20)];
    let (mut seen_all, mut unseen) = (0, 0);
    for written in (0..1600).step_by(7) {
        for read in (0..140).step_by(2) {
            let (model, confirmed, unseen_one) = cut_after(&batches, written, read);
            unseen += usize::from(unseen_one);
            seen_all += usize::from(!unseen_one);
            assert_eq!((value(&model, 0, "a"), value(&model, 3, "a")), ("12", "3"));
            assert_eq!(confirmed.position, Some(Offset::new(20)), "{written} {read}");
            assert_eq!(confirmed.bytes, sizes(&batches), "{written} {read}");
            assert_eq!(confirmed.surprises, []);
        }
    }
    assert!(seen_all > 1000 && unseen > 100, "{seen_all}, and {unseen} that nobody had seen");
}

#[test]
fn a_target_that_holds_another_record_is_not_gone_on_with() {
    let (mut gate, mut model) = (gate(), Model::default());
    gate.push(batch(&["APPEND a 1"], 10));
    talk(&mut gate, &mut model, 1);
    let mut confirmed = Confirmed::default();
    for stored in [None, Some(&b"another"[..])] {
        assert_eq!(gate.relink(stored, &mut confirmed), Err(()));
    }
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
        let (mut gate, mut model) = (gate(), Model::default());
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
            if event == 0 {
                let mut confirmed = Confirmed::default();
                relink(&mut gate, &mut model, &mut confirmed);
                bytes += confirmed.bytes;
                told = told.max(confirmed.position.map_or(0, Offset::get));
                input.clear();
            }
        }
        prop_assert!(gate.is_idle());
        prop_assert_eq!(bytes, all);
        prop_assert_eq!(told, counts.len() as u64);
    }
}
