//! Finds `EXEC` in what a client sends.

/// Reads a client's commands from bytes that come in any pieces.
#[derive(Debug, Default)]
pub(super) struct Commands {
    at: At,
    /// Arguments of this command that are yet to come.
    left: usize,
    first: bool,
    name: Vec<u8>,
}

#[derive(Debug, Default)]
enum At {
    /// Before a command.
    #[default]
    Command,
    /// In a line, of which so much is known: a count behind `*`, or a length behind `$`.
    Number { length: bool, value: usize },
    /// In an argument and the line end behind it.
    Argument(usize),
    /// It is something else than commands, such as an inline one: nothing is found any more.
    Lost,
}

/// Longer than the name that is looked for.
const NAME: usize = 8;

impl Commands {
    /// Reads on up to the end of the next `EXEC`: how many of the bytes that is, or `None` if all were read and it is not among
    /// them.
    pub(super) fn exec(&mut self, bytes: &[u8]) -> Option<usize> {
        let mut used = 0;
        while let Some(&byte) = bytes.get(used) {
            match &mut self.at {
                At::Command => {
                    self.at = match byte {
                        b'*' => At::Number { length: false, value: 0 },
                        _ => At::Lost,
                    };
                    used += 1;
                }
                At::Number { length, value } => {
                    used += 1;
                    match (byte, *length) {
                        (b'0'..=b'9', _) => *value = *value * 10 + usize::from(byte - b'0'),
                        (b'\n', true) => self.at = At::Argument(*value + 2),
                        (b'\n', false) => {
                            (self.left, self.first) = (*value, true);
                            self.name.clear();
                            self.at = if self.left == 0 { At::Command } else { LENGTH };
                        }
                        _ => {}
                    }
                }
                At::Argument(left) => {
                    let take = (*left).min(bytes.len() - used);
                    if self.first {
                        let room = NAME.saturating_sub(self.name.len());
                        self.name.extend_from_slice(&bytes[used..used + take.min(room)]);
                    }
                    *left -= take;
                    used += take;
                    if *left == 0 {
                        self.first = false;
                        self.left -= 1;
                        self.at = if self.left == 0 { At::Command } else { LENGTH };
                        if self.left == 0 && self.name.eq_ignore_ascii_case(b"EXEC\r\n") {
                            return Some(used);
                        }
                    }
                }
                At::Lost => return None,
            }
        }
        None
    }
}

const LENGTH: At = At::Number { length: true, value: 0 };

#[test]
fn an_exec_is_found_in_any_pieces_and_nowhere_else() {
    use crate::client::{cmd, encode};
    let mut bytes = Vec::new();
    let mut ends = Vec::new();
    for command in [
        cmd!("MULTI"),
        cmd!("SET", "EXEC", "*1\r\n$4\r\nEXEC\r\n"),
        cmd!("EXEC"),
        cmd!("PING"),
        cmd!("exec"),
        cmd!("EXECUTE", "EXEC"),
    ] {
        encode(&command, &mut bytes);
        if command.len() == 1 && command[0].eq_ignore_ascii_case(b"exec") {
            ends.push(bytes.len());
        }
    }
    for piece in 1..=bytes.len() {
        let mut commands = Commands::default();
        let mut found = Vec::new();
        for (nth, chunk) in bytes.chunks(piece).enumerate() {
            let mut at = 0;
            while let Some(used) = commands.exec(&chunk[at..]) {
                at += used;
                found.push(nth * piece + at);
            }
        }
        assert_eq!(found, ends, "in pieces of {piece}");
    }
}
