//! Servers that refuse DUMP, which a comparison reads by the commands of their types.

use crate::client::cmd;
use crate::data::{self, Holds};
use crate::servers::Server;
use crate::verify::{copied, keys, verify};

/// A server that does not know DUMP: all it holds is read by the commands of its types, also where it is the source.
fn is_read_by_type(from: &'static str, to: &'static str) {
    let renamed = |name| Server::start_with(name, &["--rename-command", "DUMP", ""]);
    let (Some(source), Some(target)) = (renamed(from), renamed(to)) else { return };
    let mut client = source.client();
    let holds = Holds::of(&mut client).and(Holds::of(&mut target.client()));
    data::fill(&mut client, source.version, Holds { vectors: false, ..holds });
    data::near().for_each(|key| drop(client.call(cmd!("DEL", key))));
    copied(&source, &target, &[]);
    let what = format!("{from} and {to}, by type");
    for (from, to) in [(&source, &target), (&target, &source)] {
        let said = verify(&from.url(), &to.url(), &["--by", "scan", "--memory", "8MiB"]);
        said.assert_same(keys(&mut client), &what);
        assert_eq!(said.counts["sources"][0], "SCAN and reads by type");
        assert_eq!(said.counts["target"], "SCAN and reads by type");
        let sample = verify(&from.url(), &to.url(), &["--sample", "10%"]);
        sample.assert(&[], &what);
        assert_eq!(sample.counts["sources"][0], "SCAN and reads by type");
    }
}

macro_rules! by_type {
    ($($test:ident $from:literal $to:literal),+ $(,)?) => {
        $(#[test]
        fn $test() {
            is_read_by_type($from, $to);
        })+
    };
}

by_type! {
    by_type_2_8_and_8_0 "redis-2.8.17" "redis-8.0.6",
    by_type_3_2_and_5_0 "redis-3.2.6" "redis-5.0.6",
    by_type_6_2_and_valkey_9_1 "redis-6.2.14" "valkey-9.1.2",
    by_type_7_0_and_redict "redis-7.0.15" "redict-7.3.6",
    by_type_8_0_and_8_0 "redis-8.0.6" "redis-8.0.2",
}
