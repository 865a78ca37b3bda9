//! What keeps a source from taking writes while it is handed over. Pure: which commands put a fence up and take it away.
//! That it still stands is seen from the same answers as just behind it: what a server tells of its users is written otherwise in each version.
//!
//! | fence | from | what it does |
//! |---|---|---|
//! | `acl` | 6.0 | no user may run a command that writes (`ACL SETUSER … -@write`) |
//! | `min-replicas` | 2.8 | no write is taken while there are not a million replicas (`min-replicas-to-write`) |
//! | `external` | 2.4 | the operator has stopped whoever writes |
//!
//! Up to 6.2 scripts that write pass `min-replicas` (`script.c` asks only from 7.0 on whether there are enough replicas).

use serde::{Deserialize, Serialize};

use crate::server::{Server, Version};

/// A way to keep a source from taking writes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Fence {
    /// No user may write.
    Acl,
    /// It wants more replicas than there are.
    MinReplicas,
    /// Nothing is done: nobody writes any more.
    External,
}

/// A question: a command's words.
pub type Words = Vec<Vec<u8>>;

/// More replicas than any master has.
const MANY: &str = "1000000";

/// No server knows it: neither as a rule, nor as a number, nor as a kind of client.
const NO_WORD: &str = "understudy";

/// How long a replica may be silent and counts, where a master was told that none counts (`min-replicas-max-lag 0`), in seconds.
const LAG: &str = "10";

/// What was there before a fence, so that it can be there again.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Before {
    /// The users, as `ACL LIST` told them. No passwords, but what they hash to.
    Users(Vec<String>),
    /// Names and values of settings.
    Settings(Vec<(String, String)>),
    /// Nothing was changed.
    Nothing,
}

impl Fence {
    /// All of them, the safest first.
    pub const ALL: [Self; 3] = [Self::Acl, Self::MinReplicas, Self::External];

    /// Its name in `--fence`.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Acl => "acl",
            Self::MinReplicas => "min-replicas",
            Self::External => "external",
        }
    }

    /// Whether a server of this kind knows it.
    #[must_use]
    pub fn is_known_to(self, server: Server) -> bool {
        match self {
            Self::Acl => server.as_redis() >= Version(6, 0, 0),
            Self::MinReplicas => server.as_redis() >= Version(2, 8, 0),
            Self::External => true,
        }
    }

    /// Whether it lets nothing pass, so that a short silence behind it is enough.
    #[must_use]
    pub fn is_tight(self, server: Server) -> bool {
        match self {
            Self::Acl => true,
            Self::MinReplicas => server.as_redis() >= Version(7, 0, 0),
            Self::External => false,
        }
    }

    /// What is asked before it is put up, and whose answers [`before`](Self::before) takes.
    #[must_use]
    pub fn questions(self, server: Server) -> Vec<Words> {
        match self {
            Self::Acl => vec![words(&["ACL", "LIST"])],
            Self::MinReplicas => {
                settings(server).iter().map(|name| words(&["CONFIG", "GET", name])).collect()
            }
            Self::External => Vec::new(),
        }
    }

    /// What tells whether it may be put up, as calls that change nothing: to whoever may give them each is refused for a word that it does not know.
    #[must_use]
    pub fn trials(self, server: Server) -> Vec<Words> {
        let first = match self {
            // A server takes the rules of a user all at once, or none.
            Self::Acl => words(&["ACL", "SETUSER", "default", NO_WORD]),
            Self::MinReplicas => words(&["CONFIG", "SET", settings(server)[0], NO_WORD]),
            Self::External => return Vec::new(),
        };
        vec![first, words(&["CLIENT", "KILL", "TYPE", NO_WORD])]
    }

    /// Whether an answer to one of [`trials`](Self::trials) says that this user, or anybody, may not.
    #[must_use]
    pub fn is_forbidden(answer: &str) -> bool {
        let known = answer.to_ascii_lowercase();
        answer.starts_with("NOPERM")
            || ["unknown command", "unknown subcommand"].iter().any(|text| known.contains(text))
    }

    /// What was there before it, by the answers to [`questions`](Self::questions), each as a list of texts; `None` if they tell nothing.
    #[must_use]
    pub fn before(self, answers: &[Vec<String>]) -> Option<Before> {
        match self {
            Self::Acl => {
                let users = answers.first().filter(|users| !users.is_empty())?;
                users
                    .iter()
                    .all(|user| User::parse(user).is_some())
                    .then(|| Before::Users(users.clone()))
            }
            Self::MinReplicas => {
                let setting = |answer: &Vec<String>| match answer.as_slice() {
                    [name, value] => Some((name.clone(), value.clone())),
                    _ => None,
                };
                let all: Option<Vec<_>> = answers.iter().map(setting).collect();
                all.filter(|all| all.len() == 2).map(Before::Settings)
            }
            Self::External => Some(Before::Nothing),
        }
    }
}

impl Before {
    /// What is asked to see whether all is as it was, and whose answers [`is`](Self::is) takes.
    #[must_use]
    pub fn questions(&self) -> Vec<Words> {
        match self {
            Self::Users(_) => vec![words(&["ACL", "LIST"])],
            Self::Settings(settings) => {
                settings.iter().map(|(name, _)| words(&["CONFIG", "GET", name])).collect()
            }
            Self::Nothing => Vec::new(),
        }
    }

    /// Whether all is as it was.
    #[must_use]
    pub fn is(&self, answers: &[Vec<String>]) -> bool {
        match self {
            Self::Users(users) => answers.first() == Some(users),
            Self::Settings(settings) => { settings.iter() }
                .map(|(name, value)| vec![name.clone(), value.clone()])
                .eq(answers.iter().cloned()),
            Self::Nothing => true,
        }
    }

    /// What puts the fence up.
    #[must_use]
    pub fn up(&self) -> Vec<Words> {
        match self {
            Self::Users(users) => {
                let users = users.iter().filter_map(|user| User::parse(user));
                users.map(|user| user.without_writes()).collect()
            }
            Self::Settings(settings) => settings
                .iter()
                .filter_map(|(name, value)| {
                    let value = match (name.contains("max-lag"), value.as_str()) {
                        (false, _) => MANY,
                        // With it nothing would be asked.
                        (true, "0") => LAG,
                        (true, _) => return None,
                    };
                    Some(words(&["CONFIG", "SET", name, value]))
                })
                .collect(),
            Self::Nothing => Vec::new(),
        }
    }

    /// What takes it away.
    #[must_use]
    pub fn down(&self) -> Vec<Words> {
        match self {
            Self::Users(users) => {
                users.iter().filter_map(|user| User::parse(user)).map(|user| user.again()).collect()
            }
            Self::Settings(settings) => settings
                .iter()
                .map(|(name, value)| words(&["CONFIG", "SET", name, value]))
                .collect(),
            Self::Nothing => Vec::new(),
        }
    }
}

/// The settings that are changed. They had these names before 5.0, and are still known by them.
fn settings(server: Server) -> [&'static str; 2] {
    match server.as_redis() >= Version(5, 0, 0) {
        true => ["min-replicas-to-write", "min-replicas-max-lag"],
        false => ["min-slaves-to-write", "min-slaves-max-lag"],
    }
}

/// A user, as `ACL LIST` tells it: `user NAME RULE… (SELECTOR)…`.
struct User<'a> {
    name: &'a str,
    rules: Vec<&'a str>,
}

impl<'a> User<'a> {
    fn parse(line: &'a str) -> Option<Self> {
        let (name, mut rest) = line.strip_prefix("user ")?.split_once(' ')?;
        let mut rules = Vec::new();
        while !rest.is_empty() {
            // No rule holds a blank, but for a selector, which is in parentheses (7.0).
            let end = match rest.starts_with('(') {
                true => rest.find(')')? + 1,
                false => rest.find(' ').unwrap_or(rest.len()),
            };
            let (rule, after) = rest.split_at_checked(end)?;
            if !rule.is_empty() {
                rules.push(rule);
            }
            rest = after.trim_start_matches(' ');
        }
        (!name.is_empty() && !rules.is_empty()).then_some(Self { name, rules })
    }

    /// What takes its writes from it. What a selector lets it do goes as a whole: it is in addition to the rest.
    fn without_writes(&self) -> Words {
        let mut all = words(&["ACL", "SETUSER", self.name]);
        if self.has_selectors() {
            all.push(b"clearselectors".to_vec());
        }
        all.push(b"-@write".to_vec());
        all
    }

    fn has_selectors(&self) -> bool {
        self.rules.iter().any(|rule| rule.starts_with('('))
    }

    /// What makes it what it was.
    fn again(&self) -> Words {
        let head = words(&["ACL", "SETUSER", self.name, "reset"]);
        head.into_iter().chain(self.rules.iter().map(|rule| rule.as_bytes().to_vec())).collect()
    }
}

fn words(all: &[&str]) -> Words {
    all.iter().map(|word| word.as_bytes().to_vec()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(words: &[Words]) -> Vec<String> {
        let word = |word: &Vec<u8>| String::from_utf8(word.clone()).unwrap();
        words.iter().map(|words| words.iter().map(word).collect::<Vec<_>>().join(" ")).collect()
    }

    fn list(of: &[&str]) -> Vec<String> {
        of.iter().map(ToString::to_string).collect()
    }

    #[test]
    fn users_lose_their_writes_and_get_them_back() {
        let before = list(&[
            "user default on nopass sanitize-payload ~* &* +@all",
            "user app on #abc ~app:* resetchannels -@all +@read +set (~x +@all) (%R~y +get)",
        ]);
        let before = Fence::Acl.before(&[before]).unwrap();
        assert_eq!(
            text(&before.up()),
            ["ACL SETUSER default -@write", "ACL SETUSER app clearselectors -@write"]
        );
        assert_eq!(
            text(&before.down()),
            [
                "ACL SETUSER default reset on nopass sanitize-payload ~* &* +@all",
                "ACL SETUSER app reset on #abc ~app:* resetchannels -@all +@read +set (~x +@all) (%R~y +get)",
            ]
        );
        assert_eq!(before.down().last().unwrap().last().unwrap(), b"(%R~y +get)");
    }

    #[test]
    fn what_is_no_list_of_users_is_not_fenced() {
        for bad in [&[][..], &["default on"], &["user default"], &["user x on (~y +@all"]] {
            assert_eq!(Fence::Acl.before(&[list(bad)]), None, "{bad:?}");
        }
        assert_eq!(Fence::Acl.before(&[]), None);
    }

    #[test]
    fn replicas_are_wanted_and_what_was_wanted_before_comes_back() {
        let answers = [list(&["min-slaves-to-write", "1"]), list(&["min-slaves-max-lag", "0"])];
        let before = Fence::MinReplicas.before(&answers).unwrap();
        assert_eq!(
            text(&before.up()),
            ["CONFIG SET min-slaves-to-write 1000000", "CONFIG SET min-slaves-max-lag 10"]
        );
        assert_eq!(
            text(&before.down()),
            ["CONFIG SET min-slaves-to-write 1", "CONFIG SET min-slaves-max-lag 0"]
        );
        assert_eq!(
            text(&before.questions()),
            ["CONFIG GET min-slaves-to-write", "CONFIG GET min-slaves-max-lag"]
        );
        assert!(before.is(&answers));
        for other in [&answers[..1], &[answers[0].clone(), list(&["min-slaves-max-lag", "10"])]] {
            assert!(!before.is(other), "{other:?}");
        }
        assert_eq!(Fence::MinReplicas.before(&[list(&["min-slaves-to-write", "1"])]), None);
        let usual = [list(&["min-replicas-to-write", "0"]), list(&["min-replicas-max-lag", "15"])];
        let usual = Fence::MinReplicas.before(&usual).unwrap();
        assert_eq!(text(&usual.up()), ["CONFIG SET min-replicas-to-write 1000000"]);
    }

    #[test]
    fn servers_know_what_they_know() {
        let server = |text| Server::parse(text).unwrap();
        assert!(!Fence::Acl.is_known_to(server("redis-5.0")));
        assert!(Fence::Acl.is_known_to(server("valkey-8.0")));
        assert!(!Fence::MinReplicas.is_known_to(server("redis-2.6")));
        assert!(!Fence::MinReplicas.is_tight(server("redis-6.2")));
        assert!(Fence::MinReplicas.is_tight(server("redis-7.0")));
        assert_eq!(
            text(&Fence::MinReplicas.trials(server("redis-2.8"))),
            ["CONFIG SET min-slaves-to-write understudy", "CLIENT KILL TYPE understudy"]
        );
        assert_eq!(
            text(&Fence::MinReplicas.questions(server("redis-2.8"))),
            ["CONFIG GET min-slaves-to-write", "CONFIG GET min-slaves-max-lag"]
        );
    }
    #[test]
    fn a_word_that_is_not_known_is_no_refusal() {
        for (answer, forbidden) in [
            ("NOPERM User few has no permissions to run the 'config|set' command", true),
            ("ERR unknown command `CONFIG`, with args beginning with: `SET`", true),
            ("ERR Unknown subcommand or wrong number of arguments for 'SET'", true),
            ("ERR Invalid argument 'understudy' for CONFIG SET 'min-slaves-to-write'", false),
            ("ERR Error in ACL SETUSER modifier 'understudy': Syntax error", false),
            ("ERR Unknown client type 'understudy'", false),
        ] {
            assert_eq!(Fence::is_forbidden(answer), forbidden, "{answer}");
        }
    }
}
