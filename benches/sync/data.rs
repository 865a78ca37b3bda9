//! Four sets of data, each as the commands that make it; the same ones whenever it is run.

use crate::client::{Command, cmd, encode};
use crate::dice::Dice;

/// Commands as they are sent.
#[derive(Debug, Default)]
pub(crate) struct Commands {
    pub(crate) bytes: Vec<u8>,
    pub(crate) count: usize,
}

impl Commands {
    pub(crate) fn push(&mut self, command: &Command) {
        encode(command, &mut self.bytes);
        self.count += 1;
    }
}

/// One set: its name, what it holds at full scale, and what makes it at another.
pub(crate) struct Set {
    pub(crate) name: &'static str,
    pub(crate) shape: &'static str,
    pub(crate) make: fn(&mut Dice, f64) -> Commands,
}

pub(crate) const SETS: [Set; 4] = [
    Set { name: "S1", shape: "2,000,000 strings of 64 bytes", make: short_strings },
    Set { name: "S2", shape: "1,000,000 keys of all types, 30 % with a deadline", make: mixed },
    Set { name: "S3", shape: "200 collections of 50,000 elements", make: large_collections },
    Set { name: "S4", shape: "2,000 strings of 512 KiB", make: long_strings },
];

#[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a number of keys")]
fn scaled(number: u32, scale: f64) -> usize {
    (f64::from(number) * scale) as usize
}

/// Letters and digits, which do not compress.
fn text(dice: &mut Dice, len: usize) -> Vec<u8> {
    const ALPHABET: &[u8; 64] = b"abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-_";
    let mut bytes = dice.bytes(len);
    bytes.iter_mut().for_each(|byte| *byte = ALPHABET[usize::from(*byte % 64)]);
    bytes
}

fn text_between(dice: &mut Dice, least: usize, most: usize) -> Vec<u8> {
    let len = least + dice.below(most - least + 1);
    text(dice, len)
}

/// Something as applications store it: names and values, which compress.
fn record(dice: &mut Dice, len: usize) -> Vec<u8> {
    const WORDS: [&str; 12] = [
        "user", "session", "token", "price", "amount", "region", "status", "active", "created",
        "email", "address", "total",
    ];
    let mut text = String::from("{");
    while text.len() < len {
        let (name, value) = (WORDS[dice.below(WORDS.len())], WORDS[dice.below(WORDS.len())]);
        text += &format!("\"{name}\":\"{value}_{}\",", dice.below(100_000));
    }
    text.truncate(len - 1);
    text.push('}');
    text.into_bytes()
}

fn short_strings(dice: &mut Dice, scale: f64) -> Commands {
    let mut all = Commands::default();
    for n in 0..scaled(2_000_000, scale) {
        all.push(&cmd!("SET", format!("key:{n:016}"), text(dice, 64)));
    }
    all
}

fn mixed(dice: &mut Dice, scale: f64) -> Commands {
    /// Deadlines lie within eleven days after this, in the year 2030.
    const FAR: usize = 1_900_000_000_000;
    let mut all = Commands::default();
    for n in 0..scaled(1_000_000, scale) {
        let command = match dice.below(10) {
            0..5 => string(dice, n),
            5..7 => hash(dice, n),
            7 => collection("RPUSH", "list", n, || [text_between(dice, 4, 24)]),
            8 if n % 2 == 0 => collection("SADD", "set", n, || [number(dice, 1_000_000)]),
            8 => collection("SADD", "set", n, || [[b"m:", &text(dice, 10)[..]].concat()]),
            _ => collection("ZADD", "zset", n, || {
                let score = format!("{}.{}", dice.below(1000), dice.below(1000));
                [score.into_bytes(), [b"m:", &text(dice, 8)[..]].concat()]
            }),
        };
        let key = command[1].clone();
        all.push(&command);
        if dice.below(10) < 3 {
            all.push(&cmd!("PEXPIREAT", key, FAR + dice.below(1_000_000_000)));
        }
    }
    all
}

fn number(dice: &mut Dice, below: usize) -> Vec<u8> {
    dice.below(below).to_string().into_bytes()
}

fn string(dice: &mut Dice, n: usize) -> Command {
    let len = 16 + dice.below(497);
    let value = match dice.below(20) {
        0..9 => record(dice, len),
        9..11 => number(dice, 1 << 40),
        _ => text(dice, len),
    };
    cmd!("SET", format!("str:{n:07}"), value)
}

fn hash(dice: &mut Dice, n: usize) -> Command {
    let mut command = cmd!("HSET", format!("hash:{n:07}"));
    for field in 0..10 {
        command.push(format!("field_{field}").into_bytes());
        command.push(match field % 2 {
            0 => number(dice, 1_000_000),
            _ => text_between(dice, 4, 24),
        });
    }
    command
}

/// Twenty elements of so many words.
fn collection<const N: usize>(
    add: &str,
    kind: &str,
    n: usize,
    mut element: impl FnMut() -> [Vec<u8>; N],
) -> Command {
    let mut command = cmd!(add, format!("{kind}:{n:07}"));
    (0..20).for_each(|_| command.extend(element()));
    command
}

fn large_collections(dice: &mut Dice, scale: f64) -> Commands {
    let elements: Vec<usize> = (0..scaled(50_000, scale)).collect();
    let mut all = Commands::default();
    for n in 0..200 {
        for some in elements.chunks(250) {
            let mut command = match n % 4 {
                0 => cmd!("HSET", format!("bighash:{n:03}")),
                1 => cmd!("ZADD", format!("bigzset:{n:03}")),
                2 => cmd!("RPUSH", format!("biglist:{n:03}")),
                _ => cmd!("SADD", format!("bigset:{n:03}")),
            };
            for element in some {
                match n % 4 {
                    0 => command.extend([format!("f:{element:06}").into_bytes(), text(dice, 10)]),
                    1 => command
                        .extend([number(dice, 10_000_000), format!("m:{element:06}").into_bytes()]),
                    2 => command.push(text(dice, 10)),
                    _ => {
                        let head = format!("m:{element:06}:").into_bytes();
                        command.push([head, text(dice, 4)].concat());
                    }
                }
            }
            all.push(&command);
        }
    }
    all
}

fn long_strings(dice: &mut Dice, scale: f64) -> Commands {
    let mut all = Commands::default();
    for n in 0..scaled(2000, scale) {
        all.push(&cmd!("SET", format!("blob:{n:06}"), dice.bytes(512 << 10)));
    }
    all
}

/// Writes of an application, to be sent again and again: they go on changing things.
pub(crate) fn writes(dice: &mut Dice) -> Commands {
    const KEYS: usize = 1_000_000;
    let mut all = Commands::default();
    for n in 0..40_000 {
        let (key, value) = (dice.below(KEYS), text(dice, 32));
        all.push(&match n % 4 {
            0 => cmd!("SET", format!("key:{key:012}"), value),
            1 => cmd!("INCR", format!("counter:{key:012}")),
            2 => cmd!("LPUSH", format!("list:{}", key % 1000), value),
            _ => cmd!("HSET", "hash", format!("element:{key:012}"), value),
        });
    }
    all
}
