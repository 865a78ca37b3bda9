//! The fences of a job's sources, as they are written down in its folder.

use std::fs;
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use tokio::task::JoinSet;

use crate::net::{Control, ControlError, Net};
use crate::plan::{Place, Plan, ServerPlace};
use crate::server::Server;

use super::fence::{Before, Fence, Words};

/// The file's name in the job's folder.
const NAME: &str = "fences";

/// The version of its form.
const VERSION: u32 = 1;

/// What a cutover has left behind.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Left {
    version: u32,
    /// The target was handed over: the fences are to stay.
    pub gone: bool,
    /// The sources that are fenced.
    fences: Vec<Fenced>,
}

/// A source's fence.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Fenced {
    /// The source's name.
    pub(super) source: String,
    pub(super) before: Before,
}

/// Why what a cutover has left cannot be seen to.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum LeftError {
    /// The file cannot be read or written.
    #[error("{path}")]
    File {
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// It is none of ours, or of a later version.
    #[error("{0}: this is no list of fences that this version knows")]
    Foreign(PathBuf),
    /// A source cannot be told to take writes again.
    #[error("{name}: the fence could not be taken away")]
    Source {
        /// The source.
        name: String,
        /// Why.
        #[source]
        source: ControlError,
    },
    /// A source that is fenced is not among those of this command.
    #[error("{0} is fenced, and is not among the sources")]
    Stranger(String),
}

impl LeftError {
    /// What the operator can do.
    #[must_use]
    pub fn advice(&self) -> &'static str {
        match self {
            Self::File { .. } => "see that this user may read and write it",
            Self::Foreign(_) => "use the version that has made it",
            Self::Source { .. } => {
                "see that it can be reached and lets this user run ACL SETUSER or CONFIG SET, then: understudy cutover --lift with the same places"
            }
            Self::Stranger(_) => "give the sources of the job",
        }
    }
}

impl Left {
    pub(super) fn new() -> Self {
        Self { version: VERSION, gone: false, fences: Vec::new() }
    }

    /// The names of the sources that are fenced.
    pub fn sources(&self) -> impl Iterator<Item = &str> {
        self.fences.iter().map(|fenced| fenced.source.as_str())
    }

    pub(super) fn add(&mut self, source: String, before: Before) {
        self.fences.retain(|fenced| fenced.source != source);
        self.fences.push(Fenced { source, before });
    }

    pub(super) fn of(&self, source: &str) -> Option<&Before> {
        self.fences.iter().find(|fenced| fenced.source == source).map(|fenced| &fenced.before)
    }

    pub(super) fn remove(&mut self, source: &str) {
        self.fences.retain(|fenced| fenced.source != source);
    }

    /// Writes it down; without fences there is no file.
    pub(super) fn keep(&self, folder: &Path) -> Result<(), LeftError> {
        let path = folder.join(NAME);
        let kept = if self.fences.is_empty() { forget(&path) } else { self.write(folder, &path) };
        kept.map_err(|source| LeftError::File { path, source })
    }

    /// Sees to it that what was written down is there even if the machine dies. Not while writes are refused: a disk may take seconds.
    pub(super) fn sync(folder: &Path) -> Result<(), LeftError> {
        let path = folder.join(NAME);
        let synced = fs::File::open(&path)
            .and_then(|file| file.sync_all())
            .and_then(|()| fs::File::open(folder)?.sync_all());
        synced.map_err(|source| LeftError::File { path, source })
    }

    fn write(&self, folder: &Path, path: &Path) -> io::Result<()> {
        let new = folder.join("fences.new");
        // Hashes of passwords may be in it.
        let mut file = fs::OpenOptions::new()
            .create(true)
            .write(true)
            .truncate(true)
            .mode(0o600)
            .open(&new)?;
        file.write_all(serde_json::to_string(self).map_err(io::Error::other)?.as_bytes())?;
        fs::rename(&new, path)
    }
}

fn forget(path: &Path) -> io::Result<()> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

/// What a cutover of this job has left behind on this machine; `None` if nothing.
///
/// # Errors
/// If something is there that cannot be read.
pub fn left_behind(plan: &Plan) -> Result<Option<Left>, LeftError> {
    let Some(folder) = &plan.job.folder else { return Ok(None) };
    let path = folder.join(NAME);
    let text = match fs::read_to_string(&path) {
        Ok(text) => text,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(source) => return Err(LeftError::File { path, source }),
    };
    match serde_json::from_str::<Left>(&text) {
        Ok(left) if left.version == VERSION => Ok(Some(left)),
        _ => Err(LeftError::Foreign(path)),
    }
}

/// What came of taking fences away.
#[derive(Debug, Default)]
pub struct Lifted {
    /// The sources that take writes again.
    pub sources: Vec<String>,
    /// Why others do not, each by itself.
    pub failed: Vec<LeftError>,
}

/// Takes away every fence that was left behind, all of them at a time: one source that cannot be reached keeps no other from taking writes.
pub async fn lift(net: &Net, plan: &Plan, mut left: Left) -> Lifted {
    let (mut lifted, mut lowering) = (Lifted::default(), JoinSet::new());
    for Fenced { source: name, before } in left.fences.clone() {
        let source = plan.sources.iter().find(|source| source.name == name);
        let Some(Place::Server(place)) = source.map(|source| source.place.clone()) else {
            lifted.failed.push(LeftError::Stranger(name));
            continue;
        };
        let net = net.clone();
        lowering.spawn(async move { (name, take_down(&net, &place, &before).await) });
    }
    while let Some(lowered) = lowering.join_next().await {
        let (name, lowered) =
            lowered.unwrap_or_else(|error| std::panic::resume_unwind(error.into_panic()));
        if let Err(source) = lowered {
            lifted.failed.push(LeftError::Source { name, source });
            continue;
        }
        left.remove(&name);
        lifted.sources.push(name);
        if let Some(folder) = &plan.job.folder {
            lifted.failed.extend(left.keep(folder).err());
            // Of a job that is done nothing else is in it.
            let _ = fs::remove_dir(folder);
        }
    }
    lifted.sources.sort_by_key(|name| plan.sources.iter().position(|source| source.name == *name));
    lifted
}

/// What was there before a fence, and what is to be seen while it stands.
pub(super) struct Raised {
    pub(super) shown: Vec<Vec<String>>,
}

/// Asks what is there before a fence.
pub(super) async fn before(
    net: &Net,
    place: &ServerPlace,
    (fence, server): (Fence, Server),
) -> Result<Option<Before>, ControlError> {
    let mut control = Control::open(net, place).await?;
    Ok(fence.before(&answers(&mut control, &fence.questions(server)).await?))
}

/// Asks whether a fence may be put up. Nothing is changed by it.
pub(super) async fn may_be_put_up(
    net: &Net,
    place: &ServerPlace,
    (fence, server): (Fence, Server),
) -> Result<(), ControlError> {
    let mut control = Control::open(net, place).await?;
    for words in fence.trials(server) {
        match say(&mut control, &words).await {
            Err(ControlError::Refused { text, .. }) if !Fence::is_forbidden(&text) => {}
            said => said?,
        }
    }
    Ok(())
}

/// Puts a fence up, and ends the connections of all clients: what one has begun before (a transaction, a command that waits) shall not run
/// behind it.
pub(super) async fn put_up(
    net: &Net,
    place: &ServerPlace,
    (fence, server): (Fence, Server),
    before: &Before,
) -> Result<Raised, ControlError> {
    let mut control = Control::open(net, place).await?;
    for words in before.up() {
        say(&mut control, &words).await?;
    }
    if fence != Fence::External {
        control
            .ask::<redis::Value>("CLIENT KILL", &[b"TYPE", b"normal", b"SKIPME", b"yes"])
            .await?;
    }
    Ok(Raised { shown: answers(&mut control, &fence.questions(server)).await? })
}

/// Takes a fence away. Where that is refused and none stands, all is well: whoever refuses this may have refused the fence too.
pub(super) async fn take_down(
    net: &Net,
    place: &ServerPlace,
    before: &Before,
) -> Result<(), ControlError> {
    let down = before.down();
    if down.is_empty() {
        return Ok(());
    }
    let mut control = Control::open(net, place).await?;
    for words in down {
        let Err(error) = say(&mut control, &words).await else { continue };
        return match answers(&mut control, &before.questions()).await {
            Ok(answers) if before.is(&answers) => Ok(()),
            _ => Err(error),
        };
    }
    Ok(())
}

/// Whether a fence stands as it was put up.
pub(super) async fn stands(
    net: &Net,
    place: &ServerPlace,
    (fence, server): (Fence, Server),
    raised: &Raised,
) -> Result<bool, ControlError> {
    let mut control = Control::open(net, place).await?;
    Ok(answers(&mut control, &fence.questions(server)).await? == raised.shown)
}

async fn answers(
    control: &mut Control,
    questions: &[Words],
) -> Result<Vec<Vec<String>>, ControlError> {
    let mut answers = Vec::new();
    for words in questions {
        answers.push(ask(control, words).await?);
    }
    Ok(answers)
}

/// Says something and takes any answer that is no error.
async fn say(control: &mut Control, words: &Words) -> Result<(), ControlError> {
    let args: Vec<&[u8]> = words.iter().skip(1).map(Vec::as_slice).collect();
    match control.ask::<redis::Value>(question(words), &args).await {
        // A server that does not know a rule repeats it, and it may be the hash of a password.
        Err(ControlError::Refused { question, text }) if question == "ACL" => {
            let text = text.split('\'').next().unwrap_or_default().trim_end().to_owned();
            Err(ControlError::Refused { question, text })
        }
        said => said.map(drop),
    }
}

async fn ask(control: &mut Control, words: &Words) -> Result<Vec<String>, ControlError> {
    let args: Vec<&[u8]> = words.iter().skip(1).map(Vec::as_slice).collect();
    control.ask(question(words), &args).await
}

/// The command of which a fence is made.
fn question(words: &Words) -> &'static str {
    match words.first().map(Vec::as_slice) {
        Some(b"ACL") => "ACL",
        Some(b"CLIENT") => "CLIENT KILL",
        _ => "CONFIG",
    }
}
