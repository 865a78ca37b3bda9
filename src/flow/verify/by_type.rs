//! Keys of a server that does not let itself be asked for `DUMP`: read by the commands of their types, many at a time.

use std::collections::VecDeque;

use redis::{Cmd, Pipeline, Value};

use crate::key::Db;
use crate::net::{Control, ControlError, Net};
use crate::plan::ServerPlace;
use crate::server::Server;
use crate::source::FetchError;
use crate::verify::Times;
use crate::verify::typed::{Answer, Read, Typed};

/// Reads them.
pub(super) struct ByType {
    net: Net,
    place: ServerPlace,
    server: Server,
    seed: u64,
    /// Bytes of answers that may be under way.
    room: usize,
    link: Option<Link>,
}

struct Link {
    control: Control,
    db: Db,
    /// For how many keys it is asked at once.
    at_once: usize,
}

/// A key that is read.
struct Open {
    typed: Typed,
    /// How often it was begun.
    tries: u32,
}

/// For so many keys a server is asked at once at first, and at most.
const FIRST: usize = 64;
const MOST: usize = 4096;

/// So often a value is begun anew whose type changes while it is read.
const TRIES: u32 = 5;

/// What is read of a key, or why it cannot be.
pub(super) type Told = Result<Read, String>;

impl ByType {
    pub(super) const fn new(
        net: Net,
        place: ServerPlace,
        server: Server,
        (seed, room): (u64, usize),
    ) -> Self {
        Self { net, place, server, seed, room, link: None }
    }

    /// Reads these keys; `each` is told what became of one as soon as it is known.
    ///
    /// # Errors
    /// If the server is lost, or refuses to tell.
    pub(super) async fn read(
        &mut self,
        db: Db,
        names: impl Iterator<Item = Vec<u8>> + Send,
        times: impl Fn() -> Times + Send,
        mut each: impl FnMut(&[u8], Told) + Send,
    ) -> Result<(), FetchError> {
        let mut link = match self.link.take() {
            Some(link) => link,
            None => {
                let control = Control::open(&self.net, &self.place).await?;
                Link { control, db: Db::default(), at_once: FIRST }
            }
        };
        if link.db != db {
            link.control.ask::<()>("SELECT", &[db.index().to_string().as_bytes()]).await?;
            link.db = db;
        }
        let mut names = names.fuse();
        let mut open: VecDeque<Open> = VecDeque::new();
        loop {
            while open.len() < link.at_once {
                let Some(name) = names.next() else { break };
                open.push_back(Open { typed: Typed::new(name, self.server, self.seed), tries: 1 });
            }
            if open.is_empty() {
                break;
            }
            let asked = open.len();
            let times = times();
            let bytes = self.ask(&mut link.control, &mut open, &times, &mut each).await?;
            // So many that their answers fit, if they are as large as these.
            let fit = self.room / (bytes / asked.max(1)).max(1);
            link.at_once = fit.clamp(1, (asked * 2).clamp(FIRST, MOST));
        }
        self.link = Some(link);
        Ok(())
    }

    /// Asks for the next part of each, and gives how large the answers were. Those that are done go.
    async fn ask(
        &self,
        control: &mut Control,
        open: &mut VecDeque<Open>,
        times: &Times,
        each: &mut (impl FnMut(&[u8], Told) + Send),
    ) -> Result<usize, FetchError> {
        let mut pipe = Pipeline::new();
        let mut counts = Vec::with_capacity(open.len());
        for one in &*open {
            let questions = one.typed.questions();
            counts.push(questions.len());
            for question in questions {
                let mut command = Cmd::new();
                command.arg(question);
                pipe.add_command(command);
            }
        }
        let mut replies = control.each("TYPE", pipe).await?.into_iter();
        let mut bytes = 0;
        for count in counts {
            let Some(mut one) = open.pop_front() else { break };
            let (mut answers, mut refusal) = (Vec::with_capacity(count), None);
            for reply in replies.by_ref().take(count) {
                match reply.and_then(answer) {
                    Ok(answer) => answers.push(answer),
                    Err(text) => refusal = refusal.or(Some(text)),
                }
            }
            bytes += answers.iter().map(Answer::size).sum::<usize>();
            if let Some(text) = refusal {
                // It has become another one since it was begun.
                let has_changed = text.starts_with("WRONGTYPE") || text.contains("no such key");
                if !has_changed {
                    let (command, key) = ("a command of its type, of", one.typed.key().to_vec());
                    return Err(FetchError::Refused { command, key, text });
                }
                if one.tries >= TRIES {
                    each(one.typed.key(), Err("its type changes while it is read".to_owned()));
                    continue;
                }
                let typed = Typed::new(one.typed.key().to_vec(), self.server, self.seed);
                open.push_back(Open { typed, tries: one.tries + 1 });
                continue;
            }
            match one.typed.take(answers, times) {
                Ok(None) => open.push_back(one),
                Ok(Some(read)) => each(one.typed.key(), Ok(read)),
                Err(error) => each(one.typed.key(), Err(error.to_string())),
            }
        }
        Ok(bytes)
    }
}

/// Whether a server has said that it does not let this user, or anybody, give this command: not that a key is not to be read, or that it cannot serve now.
pub(super) fn is_command_refused(error: &FetchError) -> bool {
    let (FetchError::Refused { text, .. }
    | FetchError::Control(ControlError::Refused { text, .. })) = error
    else {
        return false;
    };
    error.is_answer() && !text.contains("permissions to access")
}

/// An answer, as the library gives it.
fn answer(value: Value) -> Result<Answer, String> {
    Ok(match value {
        Value::Nil => Answer::Nil,
        Value::Int(number) => Answer::Int(number),
        Value::BulkString(text) => Answer::Text(text),
        Value::SimpleString(text) => Answer::Text(text.into_bytes()),
        Value::Okay => Answer::Text(b"OK".to_vec()),
        Value::Array(many) => Answer::Many(many.into_iter().map(answer).collect::<Result<_, _>>()?),
        Value::ServerError(error) => return Err(error.to_string()),
        other => return Err(format!("an answer that nobody expects: {other:?}")),
    })
}
