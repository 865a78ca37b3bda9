//! A program that makes the connections to what stands behind an ssh host: the system's ssh, or any other.

use std::fmt;

/// What is started for each connection, word by word. What it reads and writes is the connection.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct SshCommand(Vec<String>);

/// An ssh host that such a program leads to.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Tunnel {
    /// The program.
    pub command: SshCommand,
    /// Who we are there, if that is said; else the program decides.
    pub user: Option<String>,
    /// A name or an address, without the brackets of IPv6; or whatever the program knows it by.
    pub host: String,
    /// Where its ssh server listens, if that is said; else the program decides.
    pub port: Option<u16>,
}

/// What ssh is asked for beside the connection. It takes the first that it hears, so that the command may say otherwise. There is no terminal
/// that it could ask at, and we wait no longer than ten seconds for an answer.
const ASKED: [&str; 4] = ["-o", "BatchMode=yes", "-o", "ConnectTimeout=8"];

impl SshCommand {
    /// Reads a command, in words as a shell parts them: by blanks, but for what stands in quotes or behind a backslash. Nothing else that
    /// shells know is known.
    ///
    /// # Errors
    /// With what is wrong, if there is no word, or a quote that does not end.
    pub fn parse(text: &str) -> Result<Self, &'static str> {
        let (mut words, mut word) = (Vec::new(), None::<String>);
        let (mut quote, mut letters) = (None, text.chars());
        while let Some(letter) = letters.next() {
            match (quote, letter) {
                (Some(open), _) if letter == open => quote = None,
                (None, '\'' | '"') => {
                    quote = Some(letter);
                    word.get_or_insert_default();
                }
                (None | Some('"'), '\\') => {
                    let next = letters.next().ok_or("a backslash stands at its end")?;
                    let word = word.get_or_insert_default();
                    // Between quotes it stands for itself before all but these.
                    if quote.is_some() && !matches!(next, '"' | '\\' | '$' | '`') {
                        word.push('\\');
                    }
                    word.push(next);
                }
                (None, _) if letter.is_whitespace() => words.extend(word.take()),
                _ => word.get_or_insert_default().push(letter),
            }
        }
        if quote.is_some() {
            return Err("a quote is not closed");
        }
        words.extend(word);
        match words.first() {
            Some(program) if !program.is_empty() => Ok(Self(words)),
            _ => Err("it names no program"),
        }
    }
}

impl Tunnel {
    /// The program.
    #[must_use]
    pub fn program(&self) -> &str {
        self.command.0.first().map_or("", String::as_str)
    }

    /// What it is given to connect to this server: what stands in the place of `{host}` and `{port}`, `{gate}` and `{gate_port}`, or, where the
    /// command names no `{host}`, what ssh wants to hear.
    #[must_use]
    pub fn arguments(&self, host: &str, port: u16) -> Vec<String> {
        let words = self.command.0.iter().skip(1);
        if self.command.0.iter().any(|word| word.contains("{host}")) {
            let gate = match &self.user {
                Some(user) => format!("{user}@{}", self.host),
                None => self.host.clone(),
            };
            let gate_port = self.port.unwrap_or(22).to_string();
            let (port, known) = (port.to_string(), ["{host}", "{port}", "{gate}", "{gate_port}"]);
            let meant = [host, &port, &gate, &gate_port];
            return words.map(|word| filled(word, &known, &meant)).collect();
        }
        let mut all: Vec<String> = words.cloned().chain(ASKED.map(str::to_owned)).collect();
        let to =
            if host.contains(':') { format!("[{host}]:{port}") } else { format!("{host}:{port}") };
        all.extend(["-W".to_owned(), to]);
        // Behind its flag a name that begins with a dash is a name.
        all.extend(self.port.map(|port| ["-p".to_owned(), port.to_string()]).into_iter().flatten());
        all.extend(self.user.clone().map(|user| ["-l".to_owned(), user]).into_iter().flatten());
        all.push(self.host.clone());
        all
    }

    /// What is typed to do the same in a terminal.
    #[must_use]
    pub fn by_hand(&self, host: &str, port: u16) -> String {
        let program = self.program().to_owned();
        let all = std::iter::once(program).chain(self.arguments(host, port));
        all.map(|word| typed(&word)).collect::<Vec<_>>().join(" ")
    }
}

/// A word as it is typed into a shell.
fn typed(word: &str) -> String {
    let is_plain = |c: char| c.is_alphanumeric() || "-_=+:,./@%^[]".contains(c);
    if !word.is_empty() && word.chars().all(is_plain) {
        return word.to_owned();
    }
    format!("'{}'", word.replace('\'', "'\\''"))
}

/// A word in which what is known is replaced by what it means; what a meaning holds is not looked at again.
fn filled(word: &str, known: &[&str], meant: &[&str]) -> String {
    let (mut out, mut rest) = (String::new(), word);
    while let Some(letter) = rest.chars().next() {
        let found = known
            .iter()
            .zip(meant)
            .find_map(|(name, meaning)| rest.strip_prefix(name).map(|rest| (*meaning, rest)));
        match found {
            Some((meaning, after)) => {
                out.push_str(meaning);
                rest = after;
            }
            None => {
                out.push(letter);
                rest = rest.get(letter.len_utf8()..).unwrap_or_default();
            }
        }
    }
    out
}

/// The host alone: by what program it is reached makes it no other.
impl fmt::Display for Tunnel {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        super::ssh::write_host(f, &self.host, self.port)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words(text: &str) -> Vec<String> {
        SshCommand::parse(text).unwrap().0
    }

    fn through(command: &str, user: Option<&str>, port: Option<u16>) -> Tunnel {
        let command = SshCommand::parse(command).unwrap();
        Tunnel { command, user: user.map(str::to_owned), host: "gate".into(), port }
    }

    #[test]
    fn words_are_parted_as_a_shell_parts_them() {
        assert_eq!(words(" ssh  -F\tcfg "), ["ssh", "-F", "cfg"]);
        assert_eq!(
            words(r#"ssh -o 'a b' "c \"d\" \n" e\ f g"h"'i' ''"#),
            ["ssh", "-o", "a b", r#"c "d" \n"#, "e f", "ghi", ""]
        );
        for (bad, why) in [
            ("", "it names no program"),
            ("  ", "it names no program"),
            ("'' x", "it names no program"),
            ("ssh 'x", "a quote is not closed"),
            ("ssh x\\", "a backslash stands at its end"),
        ] {
            assert_eq!(SshCommand::parse(bad), Err(why), "{bad:?}");
        }
    }

    #[test]
    fn ssh_hears_what_it_wants_to_hear() {
        let asked = "-o BatchMode=yes -o ConnectTimeout=8";
        let plain = through("ssh -F cfg", None, None);
        assert_eq!(plain.program(), "ssh");
        assert_eq!(
            plain.arguments("10.0.0.7", 6379).join(" "),
            format!("-F cfg {asked} -W 10.0.0.7:6379 gate")
        );
        let told = through("ssh -o ControlPath=/tmp/%r@%h:%p", Some("-oX"), Some(2222));
        assert_eq!(
            told.arguments("::1", 1).join(" "),
            format!("-o ControlPath=/tmp/%r@%h:%p {asked} -W [::1]:1 -p 2222 -l -oX gate")
        );
    }

    #[test]
    fn others_hear_what_the_command_says() {
        let other =
            through("plink -nc {host}:{port} -P {gate_port} {gate} {{port}} ü", Some("ada"), None);
        assert_eq!(other.arguments("{port}", 7).join(" "), "-nc {port}:7 -P 22 ada@gate {7} ü");
        let quoted = through("'my ssh' {host} \"it's\"", None, None);
        assert_eq!(quoted.by_hand("h", 7), r"'my ssh' h 'it'\''s'");
    }

    #[test]
    fn it_is_called_as_the_host_is() {
        let names =
            [None, Some(22), Some(2222)].map(|port| through("ssh", Some("ada"), port).to_string());
        assert_eq!(names, ["gate", "gate", "gate:2222"]);
    }
}
