use proptest::prelude::*;

use super::*;
use crate::change::Draft;
use crate::offset::Offset;
use crate::resp::CommandReader;
use crate::target::model::{Model, batch};

/// Lets both talk, so many bytes at a time, until the pipeline has nothing more to say.
fn talk(pipeline: &mut Pipeline, model: &mut Model, step: usize) -> Confirmed {
    let mut confirmed = Confirmed::default();
    let mut input = Vec::new();
    loop {
        model.read(&mut pipeline.outbox, step);
        let take = model.output().len().min(step);
        input.extend(model.output().drain(..take));
        let used = pipeline.take(&input, &mut confirmed).unwrap();
        input.drain(..used);
        if pipeline.refused().is_some() {
            pipeline.go_on();
        }
        if pipeline.outbox.is_empty() && model.output().is_empty() {
            return confirmed;
        }
    }
}

/// However the bytes are cut, the same is seen and confirmed.
fn each_way(batches: &[Batch], refusals: &[(usize, usize, &'static str)]) -> (Model, Confirmed) {
    let mut whole: Option<(Model, Confirmed)> = None;
    for step in [usize::MAX, 1, 2, 3, 7, 11] {
        let (mut pipeline, mut model) = (Pipeline::default(), Model::default());
        model.refusals = refusals.iter().copied().collect();
        batches.iter().for_each(|batch| pipeline.push(batch.clone()));
        let confirmed = talk(&mut pipeline, &mut model, step);
        assert!(pipeline.is_idle(), "{step} bytes at a time: {:?}", model.seen);
        match &whole {
            None => whole = Some((model, confirmed)),
            Some((first, told)) => {
                assert_eq!(first.seen, model.seen, "{step} bytes at a time");
                assert_eq!(first.strings, model.strings);
                assert_eq!(format!("{told:?}"), format!("{confirmed:?}"), "{step} bytes at a time");
            }
        }
    }
    whole.unwrap()
}

fn value<'a>(model: &'a Model, db: u32, key: &str) -> &'a str {
    std::str::from_utf8(&model.strings[&(db, key.as_bytes().to_vec())]).unwrap()
}

fn sizes(batches: &[Batch]) -> usize {
    batches.iter().map(Batch::size).sum()
}

const OOM: &str = "-OOM command not allowed when used memory > 'maxmemory'.";

#[test]
fn each_database_is_selected_once() {
    let batches = [
        batch(&["2:SET a 1", "SET b 2"], 1),
        batch(&["2:SET c 3"], 2),
        batch(&["SET d 4", "2:SET e 5"], 3),
    ];
    let (model, confirmed) = each_way(&batches, &[]);
    assert_eq!(
        model.seen,
        ["SELECT 2", "SET a 1", "SET b 2", "SET c 3", "SELECT 0", "SET d 4", "SELECT 2", "SET e 5"]
    );
    assert_eq!(confirmed.carries.commands, 5);
    assert_eq!(confirmed.bytes, sizes(&batches));
}

#[test]
fn a_reply_is_tied_to_its_command() {
    let batches = [batch(&["SET a 1", "2:SET b 2", "SET c 3"], 1), batch(&["SET d 4"], 2)];
    let (_, confirmed) = each_way(&batches, &[(4, 1, "-ERR no c")]);
    let [Surprise::Failed(failure)] = confirmed.surprises.as_slice() else {
        panic!("{confirmed:?}")
    };
    assert_eq!((failure.db, failure.key.as_deref()), (Db::new(2), Some(&b"c"[..])));
    assert_eq!(failure.reply, "ERR no c");
}

#[test]
fn what_was_refused_goes_again_with_what_stands_by_it() {
    let batches =
        [batch(&["DEL a", "APPEND a 1", "SET b 1", "APPEND a 2"], 1), batch(&["SET c 1"], 2)];
    // The first APPEND is refused, the second one runs: the value is made anew, and nothing else is.
    let (model, confirmed) = each_way(&batches, &[(2, 1, OOM)]);
    assert_eq!(model.seen[6..], ["DEL a", "APPEND a 1", "APPEND a 2"]);
    assert_eq!((value(&model, 0, "a"), value(&model, 0, "b")), ("12", "1"));
    assert_eq!((confirmed.bytes, confirmed.surprises), (sizes(&batches), vec![]));
    assert_eq!(confirmed.carries.commands, 5);
}

#[test]
fn a_later_batch_on_a_refused_key_goes_again_too() {
    let batches = [batch(&["SET a 1"], 1), batch(&["SET b 1", "SET a 2"], 2)];
    let (model, confirmed) = each_way(&batches, &[(1, 1, OOM)]);
    assert_eq!(value(&model, 0, "a"), "2", "{:?}", model.seen);
    assert_eq!(model.seen.iter().filter(|line| *line == "SET b 1").count(), 1);
    assert_eq!(confirmed.position, Some(Offset::new(2)));
    assert_eq!(confirmed.bytes, sizes(&batches));
}

#[test]
fn nothing_is_confirmed_before_what_precedes_it() {
    let (mut pipeline, mut model) = (Pipeline::default(), Model::default());
    model.refusals.push_back((1, 1, OOM));
    pipeline.push(batch(&["SET a 1"], 1));
    pipeline.push(batch(&["SET b 2"], 2));
    let mut confirmed = Confirmed::default();
    model.read(&mut pipeline.outbox, usize::MAX);
    pipeline.take(&std::mem::take(model.output()), &mut confirmed).unwrap();
    assert!(confirmed.is_empty(), "{confirmed:?}");
    assert!(pipeline.refused().is_some());
    pipeline.go_on();
    let confirmed = talk(&mut pipeline, &mut model, 1);
    assert_eq!(confirmed.position, Some(Offset::new(2)));
}

#[test]
fn repairs_keep_their_order_through_barriers_and_links() {
    let mut first = batch(&["SET a 1"], 1);
    first.barrier = true;
    let batches = [first, batch(&["SET a 2"], 2), batch(&["SET b 3"], 3), batch(&["SET a 4"], 4)];
    // Refused once, twice, thrice; and with what follows it.
    for refused in 1..8 {
        let (model, confirmed) = each_way(&batches, &[(1, refused, OOM)]);
        assert_eq!(value(&model, 0, "a"), "4", "{:?}", model.seen);
        assert_eq!(confirmed.bytes, sizes(&batches));
    }
}

#[test]
fn a_barrier_waits_for_all_before_it_and_holds_all_behind_it() {
    let mut middle = batch(&["SET b 2"], 2);
    middle.barrier = true;
    let (mut pipeline, mut model) = (Pipeline::default(), Model::default());
    for batch in [batch(&["SET a 1"], 1), middle, batch(&["SET c 3"], 3)] {
        pipeline.push(batch);
    }
    let mut confirmed = Confirmed::default();
    for (seen, position) in [("SET a 1", 1), ("SET b 2", 2), ("SET c 3", 3)] {
        model.read(&mut pipeline.outbox, usize::MAX);
        assert_eq!(model.seen.last().unwrap(), seen);
        pipeline.take(&std::mem::take(model.output()), &mut confirmed).unwrap();
        assert_eq!(confirmed.position, Some(Offset::new(position)));
    }
}

#[test]
fn a_refused_select_is_told_if_something_ran_behind_it() {
    const BUSY: &str = "-BUSY Redis is busy running a script.";
    let batches = [batch(&["SET a 1", "2:SET b 2", "SET c 3", "SET d 4"], 1)];
    // SELECT 2 and all behind it: nothing went astray.
    let (model, confirmed) = each_way(&batches, &[(2, 4, BUSY)]);
    assert_eq!((value(&model, 2, "b"), value(&model, 0, "a")), ("2", "1"));
    assert_eq!(confirmed.surprises, []);
    assert_eq!(confirmed.bytes, sizes(&batches));
    // SELECT 2 and SET b: c went into database 0.
    let (model, confirmed) = each_way(&batches, &[(2, 2, BUSY)]);
    assert!(model.strings.contains_key(&(0, b"c".to_vec())));
    let [Surprise::Failed(failure)] = confirmed.surprises.as_slice() else {
        panic!("{confirmed:?}")
    };
    assert_eq!(failure.name, b"SELECT");
    // The SELECT that stands before a batch.
    let batches = [batch(&["2:SET b 2"], 1)];
    let (model, confirmed) = each_way(&batches, &[(0, 2, BUSY)]);
    assert_eq!((value(&model, 2, "b"), confirmed.surprises), ("2", vec![]));
    let (_, confirmed) = each_way(&batches, &[(0, 1, BUSY)]);
    assert_eq!(confirmed.surprises.len(), 1);
}

#[test]
fn a_link_lost_at_each_byte_leaves_nothing_out() {
    let batches = [
        batch(&["DEL a", "APPEND a 1", "APPEND a 2"], 1),
        batch(&["3:SET a 3", "SET b 4", "LRANGE l 0 -1"], 2),
        batch(&["DEL c", "APPEND c 5"], 3),
    ];
    for written in 0..330 {
        for read in 0..60 {
            let (mut pipeline, mut model) = (Pipeline::default(), Model::default());
            batches.iter().for_each(|batch| pipeline.push(batch.clone()));
            let mut confirmed = Confirmed::default();
            model.read(&mut pipeline.outbox, written);
            let take = model.output().len().min(read);
            let input: Vec<u8> = model.output().drain(..take).collect();
            pipeline.take(&input, &mut confirmed).unwrap();
            pipeline.relink();
            model.relink();
            let rest = talk(&mut pipeline, &mut model, usize::MAX);
            assert!(pipeline.is_idle());
            assert_eq!(confirmed.bytes + rest.bytes, sizes(&batches), "{written} {read}");
            let expected = [((0, "a"), "12"), ((0, "c"), "5"), ((3, "a"), "3"), ((3, "b"), "4")];
            for ((db, key), text) in expected {
                assert_eq!(value(&model, db, key), text, "{written} {read}: {:?}", model.seen);
            }
            assert_eq!(rest.surprises, []);
        }
    }
}

#[test]
fn what_fails_on_a_second_link_is_told_as_such() {
    let (mut pipeline, mut model) = (Pipeline::default(), Model::default());
    pipeline.push(batch(&["SET a 1"], 1));
    model.read(&mut pipeline.outbox, usize::MAX);
    pipeline.relink();
    model.relink();
    model.refusals.push_back((0, 1, "-BUSYKEY Target key name already exists."));
    let confirmed = talk(&mut pipeline, &mut model, 1);
    assert!(matches!(confirmed.surprises.as_slice(), [Surprise::FailedAgain(_)]), "{confirmed:?}");
}

/// What was written since the last time, a command a line.
fn written(pipeline: &mut Pipeline) -> Vec<String> {
    let mut bytes = Vec::new();
    while !pipeline.outbox.is_empty() {
        let front = pipeline.outbox.front().to_vec();
        pipeline.outbox.written(front.len());
        bytes.extend(front);
    }
    let (mut reader, mut rest, mut lines) = (CommandReader::default(), &bytes[..], Vec::new());
    while !rest.is_empty() {
        let used = reader.read(rest).unwrap().unwrap();
        lines.push(
            String::from_utf8(reader.args(&rest[..used]).collect::<Vec<_>>().join(&b' ')).unwrap(),
        );
        rest = &rest[used..];
    }
    lines
}

fn of(commands: &[(&str, Expect)]) -> Batch {
    let mut draft = Draft::default();
    for (command, expect) in commands {
        draft.push(&command.split(' ').map(str::as_bytes).collect::<Vec<_>>(), *expect);
    }
    draft.carries.keys = 1;
    draft.finish()
}

fn piece(commands: &[(&str, Expect)]) -> Batch {
    let mut batch = of(commands);
    batch.piece = Some("key".into());
    batch
}

fn rename() -> Batch {
    let commands = [("RENAME tmp key", Expect::Renamed), ("EXISTS key", Expect::Positive)];
    barrier(piece(&commands))
}

fn barrier(mut batch: Batch) -> Batch {
    batch.barrier = true;
    batch
}

fn answer(pipeline: &mut Pipeline, replies: &str) -> Confirmed {
    let mut confirmed = Confirmed::default();
    assert_eq!(pipeline.take(replies.as_bytes(), &mut confirmed).unwrap(), replies.len());
    confirmed
}

/// A link that has selected database 0.
fn linked() -> Pipeline {
    Pipeline { db: Some(Db::default()), ..Pipeline::default() }
}

#[test]
fn a_piece_that_was_refused_is_sent_again_whole_and_with_those_behind_it() {
    let pieces = [
        piece(&[("DEL tmp", Expect::Integer), ("RPUSH tmp a", Expect::Positive)]),
        piece(&[("LTRIM tmp 0 0", Expect::Status), ("RPUSH tmp b", Expect::Positive)]),
        piece(&[("LTRIM tmp 0 1", Expect::Status), ("RPUSH tmp c", Expect::Positive)]),
    ];
    let size: usize = pieces.iter().map(Batch::size).sum();
    let mut pipeline = linked();
    pieces.into_iter().for_each(|piece| pipeline.push(piece));
    pipeline.push(of(&[("SET other 1", Expect::Status)]));
    pipeline.push(rename());
    written(&mut pipeline);
    let first = answer(&mut pipeline, &format!(":0\r\n:1\r\n+OK\r\n{OOM}\r\n+OK\r\n:2\r\n+OK\r\n"));
    assert_eq!(first.carries.keys, 1, "nothing is confirmed before what precedes it");
    pipeline.go_on();
    let again = ["LTRIM tmp 0 0", "RPUSH tmp b", "LTRIM tmp 0 1", "RPUSH tmp c"];
    assert_eq!(written(&mut pipeline), again);
    // Refused once more, and then the link is lost: they keep their order.
    answer(&mut pipeline, &format!("+OK\r\n{OOM}\r\n"));
    pipeline.relink();
    assert_eq!(written(&mut pipeline), again);
    let second = answer(&mut pipeline, "+OK\r\n:2\r\n+OK\r\n:3\r\n");
    assert_eq!(first.bytes + second.bytes, size + of(&[("SET other 1", Expect::Status)]).size());
    assert_eq!(written(&mut pipeline), ["RENAME tmp key", "EXISTS key"]);
    assert!(answer(&mut pipeline, "+OK\r\n:1\r\n").surprises.is_empty());
    assert!(pipeline.is_idle());
}

#[test]
fn nothing_is_sent_behind_a_barrier_and_a_barrier_behind_nothing() {
    let mut pipeline = linked();
    pipeline.push(piece(&[("SADD tmp a", Expect::Integer)]));
    pipeline.push(rename());
    pipeline.push(of(&[("SET x 1", Expect::Status)]));
    assert_eq!(written(&mut pipeline), ["SADD tmp a"]);
    answer(&mut pipeline, ":1\r\n");
    assert_eq!(written(&mut pipeline), ["RENAME tmp key", "EXISTS key"]);
    answer(&mut pipeline, "+OK\r\n");
    assert_eq!(written(&mut pipeline), [""; 0]);
    answer(&mut pipeline, ":1\r\n");
    assert_eq!(written(&mut pipeline), ["SET x 1"]);
}

#[test]
fn a_name_that_a_lost_link_gave_is_no_surprise() {
    let gone = "-ERR no such key\r\n";
    let mut pipeline = linked();
    pipeline.push(rename());
    pipeline.relink();
    let confirmed = answer(&mut pipeline, &format!("{gone}:1\r\n"));
    assert_eq!((confirmed.surprises.len(), confirmed.carries.keys), (0, 1));
    // The key itself must be there.
    pipeline.push(rename());
    pipeline.relink();
    let confirmed = answer(&mut pipeline, &format!("{gone}:0\r\n"));
    assert_eq!(confirmed.carries.keys, 0, "a key that failed is not there");
    assert!(matches!(
        &confirmed.surprises[..],
        [Surprise::FailedAgain(Failure { key: Some(key), .. })] if key == b"key"
    ));
    // And on a link that was never lost nobody else can have done it.
    pipeline.push(rename());
    let confirmed = answer(&mut pipeline, &format!("{gone}:1\r\n"));
    assert!(matches!(&confirmed.surprises[..], [Surprise::Failed(_)]));
}

#[test]
fn a_transaction_is_judged_by_its_elements() {
    let entries = || {
        let commands = [
            ("MULTI", Expect::Status),
            ("XADD tmp 1-1 a b", Expect::Status),
            ("EXEC", Expect::Executed),
        ];
        barrier(piece(&commands))
    };
    let smaller =
        "-ERR The ID specified in XADD is equal or smaller than the target stream top item\r\n";
    let mut pipeline = linked();
    pipeline.push(entries());
    let confirmed = answer(&mut pipeline, &format!("+OK\r\n+QUEUED\r\n*1\r\n{smaller}"));
    assert!(matches!(&confirmed.surprises[..], [Surprise::Failed(_)]));
    pipeline.push(entries());
    pipeline.relink();
    let confirmed = answer(&mut pipeline, &format!("+OK\r\n+QUEUED\r\n*1\r\n{smaller}"));
    assert_eq!((confirmed.surprises.len(), confirmed.carries.keys), (0, 1));
    // Refused as a whole, it is sent again as a whole.
    written(&mut pipeline);
    pipeline.push(entries());
    written(&mut pipeline);
    let confirmed =
        answer(&mut pipeline, &format!("+OK\r\n{OOM}\r\n-EXECABORT Transaction discarded\r\n"));
    assert!(confirmed.is_empty());
    pipeline.go_on();
    assert_eq!(written(&mut pipeline), ["MULTI", "XADD tmp 1-1 a b", "EXEC"]);
}

proptest! {
    /// Keys written in several commands, refusals and lost links anywhere: in the end each key is what its last
    /// batch made it, the position never passes a hole, and every byte is accounted for.
    #[test]
    fn each_key_is_what_its_last_batch_made_it(
        keys in prop::collection::vec((0..3_u32, 0..4_u8, 1..4_usize, prop::bool::weighted(0.2)), 1..12),
        refusals in prop::collection::vec((0..15_usize, 1..5_usize), 0..4),
        steps in prop::collection::vec((0..150_usize, 0..40_usize, 0..25_u8), 1..50),
    ) {
        let (mut pipeline, mut model) = (Pipeline::default(), Model::default());
        model.refusals = refusals.into_iter().map(|(before, count)| (before, count, OOM)).collect();
        let mut expected = crate::target::model::Strings::new();
        let mut batches = Vec::new();
        for (at, (db, key, parts, barrier)) in keys.iter().enumerate() {
            let mut lines = vec![format!("{db}:DEL {key}")];
            lines.extend((0..*parts).map(|part| format!("APPEND {key} {at}.{part},")));
            let lines: Vec<&str> = lines.iter().map(String::as_str).collect();
            let mut batch = batch(&lines, at as u64 + 1);
            batch.barrier = *barrier;
            batches.push(batch);
            let value: String = (0..*parts).map(|part| format!("{at}.{part},")).collect();
            expected.insert((*db, key.to_string().into_bytes()), value.into_bytes());
        }
        let all = sizes(&batches);
        let mut queue = batches.into_iter();
        let (mut bytes, mut told, mut input) = (0, 0, Vec::new());
        let count = keys.len();
        for (write, read, event) in steps.into_iter().chain(std::iter::repeat_n((999, 999, 24), 60)) {
            if event > 8 && let Some(batch) = queue.next() {
                pipeline.push(batch);
            }
            let mut confirmed = Confirmed::default();
            model.read(&mut pipeline.outbox, write);
            let take = model.output().len().min(read);
            input.extend(model.output().drain(..take));
            let used = pipeline.take(&input, &mut confirmed).unwrap();
            input.drain(..used);
            if pipeline.refused().is_some() {
                pipeline.go_on();
            }
            prop_assert!(confirmed.surprises.is_empty(), "{confirmed:?}");
            bytes += confirmed.bytes;
            if let Some(position) = confirmed.position {
                prop_assert!(position.get() > told);
                told = position.get();
            }
            if event == 0 {
                pipeline.relink();
                model.relink();
                input.clear();
            }
        }
        prop_assert!(pipeline.is_idle());
        prop_assert_eq!(model.strings, expected);
        prop_assert_eq!((bytes, told), (all, count as u64));
    }
}
