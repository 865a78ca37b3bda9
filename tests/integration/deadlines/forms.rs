//! Each way in which a deadline is set, changed, taken along or dropped.

use crate::client::{Client, Command, cmd};
use crate::data::{self, Holds};
use crate::servers::Server;

/// The commands of one way, for the key `k`. Other keys that they name begin with it.
type Form = fn(k: &str, now: i64) -> Vec<Command>;

/// So long keys live that were renewed, in ms.
const LONG: i64 = 5_000_123;

const EVERYWHERE: &[Form] = &[
    // The first two leave the key to die.
    |_, _| vec![],
    |k, _| vec![cmd!("APPEND", k, "more")],
    |k, _| vec![cmd!("EXPIRE", k, 5000)],
    |k, _| vec![cmd!("PEXPIRE", k, LONG)],
    |k, now| vec![cmd!("EXPIREAT", k, now / 1000 + 5000)],
    |k, now| vec![cmd!("PEXPIREAT", k, now + LONG)],
    |k, _| vec![cmd!("PERSIST", k)],
    |k, _| vec![cmd!("SET", k, "no deadline")],
    |k, _| vec![cmd!("GETSET", k, "no deadline")],
    |k, _| vec![cmd!("SETEX", k, 5000, "new")],
    |k, _| vec![cmd!("PSETEX", k, LONG, "new")],
    |k, _| vec![cmd!("SET", k, "new", "EX", 5000)],
    |k, _| vec![cmd!("SET", k, "new", "PX", LONG, "XX")],
    |k, _| vec![cmd!("SETEX", k, 1, "dies")],
    |k, _| vec![cmd!("PEXPIRE", k, 300)],
    |k, _| vec![cmd!("PEXPIRE", k, -1)],
    |k, _| vec![cmd!("RENAME", k, format!("{k}:to"))],
    |k, _| vec![cmd!("RENAME", k, format!("{k}:to")), cmd!("EXPIRE", format!("{k}:to"), 5000)],
    |k, _| vec![cmd!("SETEX", format!("{k}:to"), 9, "old"), cmd!("RENAME", k, format!("{k}:to"))],
    |k, _| vec![cmd!("EXPIRE", k, 5000), cmd!("MOVE", k, 5)],
    |k, _| vec![cmd!("DEL", k), cmd!("RPUSH", k, "another"), cmd!("PEXPIRE", k, LONG)],
    |k, _| vec![cmd!("MULTI"), cmd!("APPEND", k, 1), cmd!("EXPIRE", k, 5000), cmd!("EXEC")],
    |k, _| vec![cmd!("EVAL", "return redis.call('PEXPIRE',KEYS[1],ARGV[1])", 1, k, LONG)],
    |k, _| {
        vec![cmd!("PEXPIRE", k, LONG), cmd!("SADD", "some", "a"), cmd!("SUNIONSTORE", k, "some")]
    },
    |k, _| vec![cmd!("RESTORE", format!("{k}:to"), LONG, PAYLOAD)],
    |k, _| vec![cmd!("DEL", k), cmd!("RESTORE", k, 0, PAYLOAD), cmd!("EXPIRE", k, 5000)],
];

/// `DUMP` of a string, as 2.6 wrote it. Each newer server takes it.
const PAYLOAD: &[u8] = b"\x00\x0212\x06\x00\x55\x89\x82\x47\xab\xa4\xcf\x8c";

const SINCE_5_0: &[Form] = &[
    |k, now| vec![cmd!("RESTORE", k, now + LONG, PAYLOAD, "REPLACE", "ABSTTL")],
    |k, now| vec![cmd!("RESTORE", k, now - 5, PAYLOAD, "REPLACE", "ABSTTL")],
];

const SINCE_6_0: &[Form] = &[
    |k, _| vec![cmd!("EXPIRE", k, 5000), cmd!("SET", k, "new", "KEEPTTL")],
    |k, _| vec![cmd!("SET", k, "new", "KEEPTTL"), cmd!("PEXPIRE", k, LONG)],
];

const SINCE_6_2: &[Form] = &[
    |k, now| vec![cmd!("SET", k, "new", "EXAT", now / 1000 + 5000)],
    |k, now| vec![cmd!("SET", k, "new", "PXAT", now + LONG, "GET")],
    |k, _| vec![cmd!("GETEX", k, "EX", 5000)],
    |k, _| vec![cmd!("GETEX", k, "PX", LONG)],
    |k, now| vec![cmd!("GETEX", k, "PXAT", now + LONG)],
    |k, _| vec![cmd!("GETEX", k, "PERSIST")],
    |k, _| vec![cmd!("COPY", k, format!("{k}:to"))],
    |k, _| vec![cmd!("COPY", k, format!("{k}:to")), cmd!("EXPIRE", k, 5000)],
    |k, _| vec![cmd!("EXPIRE", k, 5000), cmd!("COPY", k, k, "DB", 5)],
    |k, _| {
        vec![cmd!("SETEX", format!("{k}:to"), 1, 1), cmd!("COPY", k, format!("{k}:to"), "REPLACE")]
    },
];

const SINCE_7_0: &[Form] = &[
    |k, _| vec![cmd!("EXPIRE", k, 5000, "GT")],
    |k, _| vec![cmd!("PEXPIRE", k, 500, "GT")],
    |k, _| vec![cmd!("PEXPIRE", k, LONG, "LT")],
    |k, _| vec![cmd!("PEXPIRE", k, 400, "LT")],
    |k, _| vec![cmd!("PEXPIRE", k, LONG, "NX")],
    |k, _| vec![cmd!("PEXPIRE", k, LONG, "XX")],
    |k, now| vec![cmd!("PEXPIREAT", k, now + LONG, "XX", "GT")],
    |k, now| vec![cmd!("EXPIREAT", k, now / 1000 + 9000, "XX"), cmd!("EXPIRE", k, 8000, "LT")],
];

/// The same of fields; the hash has `a` to `f`, the first four with a deadline.
const OF_FIELDS: &[Form] = &[
    |_, _| vec![],
    |k, _| vec![cmd!("HPEXPIRE", k, LONG, "FIELDS", 2, "a", "e")],
    |k, _| vec![cmd!("HEXPIRE", k, 5000, "NX", "FIELDS", 2, "a", "e")],
    |k, _| vec![cmd!("HPEXPIRE", k, LONG, "XX", "FIELDS", 2, "a", "e")],
    |k, now| vec![cmd!("HPEXPIREAT", k, now + LONG, "GT", "FIELDS", 2, "a", "e")],
    |k, now| vec![cmd!("HPEXPIREAT", k, now + LONG, "LT", "FIELDS", 2, "a", "e")],
    |k, _| vec![cmd!("HPEXPIRE", k, 300, "LT", "FIELDS", 3, "a", "b", "e")],
    |k, now| vec![cmd!("HEXPIREAT", k, now / 1000 + 9000, "FIELDS", 1, "a")],
    |k, _| vec![cmd!("HPERSIST", k, "FIELDS", 3, "a", "b", "e")],
    |k, _| vec![cmd!("HPERSIST", k, "FIELDS", 1, "a")],
    |k, _| vec![cmd!("HSET", k, "a", "no deadline")],
    |k, _| vec![cmd!("HINCRBY", k, "a", 2), cmd!("HINCRBYFLOAT", k, "b", "0.5")],
    |k, _| vec![cmd!("HDEL", k, "a", "e"), cmd!("HSET", k, "a", "new")],
    |k, _| vec![cmd!("RENAME", k, format!("{k}:to"))],
    |k, _| vec![cmd!("COPY", k, format!("{k}:to"))],
    |k, _| vec![cmd!("HPEXPIRE", k, LONG, "FIELDS", 1, "b"), cmd!("COPY", k, format!("{k}:to"))],
    |k, _| vec![cmd!("HPEXPIRE", k, LONG, "FIELDS", 1, "a"), cmd!("EXPIRE", k, 5000)],
    |k, _| vec![cmd!("EXPIRE", k, 1), cmd!("EXPIRE", k, 5000, "GT")],
];

/// And of those that came with Redis 8.0 and Valkey 9.
const WITH_HGETEX: &[Form] = &[
    |k, _| vec![cmd!("HGETEX", k, "EX", 5000, "FIELDS", 2, "a", "e")],
    |k, now| vec![cmd!("HGETEX", k, "PXAT", now + LONG, "FIELDS", 2, "a", "e")],
    |k, _| vec![cmd!("HGETEX", k, "PERSIST", "FIELDS", 2, "a", "e")],
    |k, _| vec![cmd!("HSETEX", k, "EX", 5000, "FIELDS", 2, "a", "new", "g", "new")],
    |k, _| vec![cmd!("HSETEX", k, "FNX", "PX", LONG, "FIELDS", 1, "g", "new")],
    |k, _| vec![cmd!("HSETEX", k, "FXX", "PX", LONG, "FIELDS", 2, "a", "new", "e", "new")],
    |k, _| vec![cmd!("HSETEX", k, "KEEPTTL", "FIELDS", 2, "a", "new", "e", "new")],
    |k, _| vec![cmd!("HSETEX", k, "FIELDS", 1, "a", "no deadline")],
    |k, _| vec![cmd!("HSETEX", k, "PX", 300, "FIELDS", 1, "a", "dies")],
];

/// The ways that both servers know.
pub(super) struct Forms {
    keys: Vec<Form>,
    fields: Vec<Form>,
}

impl Forms {
    pub(super) fn of(source: &Server, target: &Server) -> Self {
        let mut keys = EVERYWHERE.to_vec();
        for (since, forms) in
            [((5, 0), SINCE_5_0), ((6, 0), SINCE_6_0), ((6, 2), SINCE_6_2), ((7, 0), SINCE_7_0)]
        {
            if source.version.redis >= since && target.version.redis >= since {
                keys.extend(forms);
            }
        }
        let (mut source, mut target) = (source.client(), target.client());
        let mut fields = Vec::new();
        if Holds::of(&mut source).and(Holds::of(&mut target)).field_deadlines {
            fields.extend(OF_FIELDS);
            if source.knows("HGETEX") && target.knows("HGETEX") {
                fields.extend(WITH_HGETEX);
            }
        }
        Self { keys, fields }
    }

    /// Makes a key for each way, and one more with `rest` for each life: in how many ms it dies, or never.
    pub(super) fn make(&self, client: &mut Client, lives: &[(&str, Option<i64>)]) {
        let now = data::now_ms(client);
        let mut commands = Vec::new();
        for (life, ms) in lives {
            for at in 0..self.keys.len() {
                let key = key(life, at);
                commands.push(cmd!("SET", key, 12));
                commands.extend(ms.map(|ms| cmd!("PEXPIREAT", key, now + ms)));
            }
            for at in 0..self.fields.len() {
                let key = hash(life, at);
                commands.push(cmd!("HSET", key, "a", 1, "b", 2, "c", 3, "d", 4, "e", 5, "f", 6));
                commands.extend(
                    ms.map(|ms| cmd!("HPEXPIREAT", key, now + ms, "FIELDS", 4, "a", "b", "c", "d")),
                );
            }
        }
        data::all(client, &commands);
    }

    /// Goes each way with its key.
    pub(super) fn go(&self, client: &mut Client, life: &str) {
        let now = data::now_ms(client);
        let of_keys = self.keys.iter().enumerate().map(|(at, form)| form(&key(life, at), now));
        let of_fields = self.fields.iter().enumerate().map(|(at, form)| form(&hash(life, at), now));
        for commands in of_keys.chain(of_fields) {
            data::all(client, &commands);
        }
    }

    /// The keys that nobody renews.
    pub(super) fn left_to_die(life: &str) -> [String; 2] {
        [key(life, 0), key(life, 1)]
    }
}

fn key(life: &str, at: usize) -> String {
    format!("{life}:{at}")
}

fn hash(life: &str, at: usize) -> String {
    format!("{life}:hash:{at}")
}
