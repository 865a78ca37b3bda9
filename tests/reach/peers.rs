//! Servers in memory that say what they are told to.

use std::collections::HashMap;
use std::fmt;
use std::io;
use std::sync::{Arc, Mutex};

use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream, duplex};
use understudy::net::{Dial, Dialing, Link, LinkError, Net};
use understudy::plan::{Address, Cluster, Place, ServerPlace, Shard};
use understudy::resp::CommandReader;
use understudy::slots::SLOTS;

use Says::{Last, On};

/// What a server answers.
#[derive(Clone, Debug)]
pub(crate) enum Says {
    /// This, and waits for the next command.
    On(Vec<u8>),
    /// This, and closes the connection.
    Last(Vec<u8>),
    /// What a server without keys would.
    Usual,
}

pub(crate) fn line(text: &str) -> Says {
    On(format!("{text}\r\n").into_bytes())
}

pub(crate) fn bulk(text: &str) -> Says {
    On(format!("${}\r\n{text}\r\n", text.len()).into_bytes())
}

/// The one with these answers to commands, which are in capitals and without their arguments; no command is the moment of
/// connecting. Nobody listens at `nobody`.
struct Peer<F>(F, Kept);

impl<F> fmt::Debug for Peer<F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Peer")
    }
}

pub(crate) fn net(says: impl Fn(&str, &str) -> Says + Send + Sync + 'static) -> Net {
    net_keeping(Kept::default(), says)
}

/// The same, of which the target keeps this already.
pub(crate) fn net_keeping(
    kept: Kept,
    says: impl Fn(&str, &str) -> Says + Send + Sync + 'static,
) -> Net {
    Net::with(Arc::new(Peer(Arc::new(says), kept)))
}

pub(crate) fn place(host: &str) -> Place {
    Place::parse(&format!("redis://{host}")).unwrap()
}

pub(crate) fn server(host: &str) -> ServerPlace {
    server_at(&format!("redis://{host}"))
}

pub(crate) fn server_at(url: &str) -> ServerPlace {
    match Place::parse(url).unwrap() {
        Place::Server(server) => server,
        other => panic!("{other:?}"),
    }
}

/// A cluster of one master, which was called `aa` when it was found.
pub(crate) fn shard(host: &str) -> ServerPlace {
    let at = (host.to_owned(), 6379);
    let (slots, ids) = ((0..SLOTS).collect(), vec!["aa".to_owned()]);
    let shard = Some(Shard { slots, ids, at: at.clone() });
    let cluster = Cluster { shard, ..Cluster::of(vec![at]) };
    ServerPlace { address: Address::Cluster(Box::new(cluster)), ..server(host) }
}

impl<F: Fn(&str, &str) -> Says + Send + Sync + 'static> Dial for Peer<Arc<F>> {
    fn dial<'a>(&'a self, place: &'a ServerPlace) -> Dialing<'a> {
        let Address::Tcp { host, .. } = &place.address else { panic!("{place:?}") };
        if host == "nobody" {
            let refused = LinkError::Connect(io::ErrorKind::ConnectionRefused.into());
            return Box::pin(async { Err(refused) });
        }
        let (ours, theirs) = duplex(1 << 20);
        let (says, host, kept) = (Arc::clone(&self.0), host.clone(), Arc::clone(&self.1));
        Box::pin(async move {
            tokio::spawn(serve(theirs, kept, move |command| says(&host, command)));
            // What it says at once it has said when we are connected.
            tokio::task::yield_now().await;
            Ok(Link::Other(Box::new(ours)))
        })
    }
}

/// What a server keeps of ours: the job's record.
pub(crate) type Kept = Arc<Mutex<HashMap<Vec<u8>, Vec<u8>>>>;

/// What is answered about a key of ours, whatever else is said; `None` for all other commands.
fn own(kept: &Kept, args: &[Vec<u8>]) -> Option<Vec<u8>> {
    let [name, key, rest @ ..] = args else { return None };
    if !key.starts_with(b"understudy:") {
        return None;
    }
    let mut kept = kept.lock().unwrap();
    Some(match (name.to_ascii_uppercase().as_slice(), rest) {
        (b"GET", _) => match kept.get(key) {
            Some(record) => [format!("${}\r\n", record.len()).as_bytes(), record, b"\r\n"].concat(),
            None => b"$-1\r\n".to_vec(),
        },
        (b"SET", [record]) => {
            kept.insert(key.clone(), record.clone());
            b"+OK\r\n".to_vec()
        }
        (b"APPEND", [more]) => {
            kept.entry(key.clone()).or_default().extend_from_slice(more);
            b":1\r\n".to_vec()
        }
        (b"DEL", _) => {
            kept.remove(key);
            b":1\r\n".to_vec()
        }
        (b"HVALS", _) => b"*0\r\n".to_vec(),
        _ => return None,
    })
}

/// Ends when it has said its last, or the other side is gone.
async fn serve(mut link: DuplexStream, kept: Kept, says: impl Fn(&str) -> Says) {
    let (mut input, mut reader) = (Vec::new(), CommandReader::default());
    // What the commands of an open transaction will be answered.
    let mut queued: Option<Vec<Vec<u8>>> = None;
    let mut args: Vec<Vec<u8>> = Vec::new();
    let mut name = String::new();
    // A replica's words are not answered any more.
    let mut follows = false;
    loop {
        let answer = match own(&kept, &args) {
            Some(answer) => answer,
            None => match says(&name) {
                Last(bytes) => {
                    let _ = link.write_all(&bytes).await;
                    return;
                }
                On(bytes) => bytes,
                Says::Usual => match (name.as_str(), queued.take()) {
                    ("", _) => Vec::new(),
                    _ if follows => Vec::new(),
                    ("MULTI", _) => {
                        queued = Some(Vec::new());
                        b"+OK\r\n".to_vec()
                    }
                    ("EXEC", Some(answers)) => {
                        [format!("*{}\r\n", answers.len()).into_bytes(), answers.concat()].concat()
                    }
                    ("DISCARD", _) => b"+OK\r\n".to_vec(),
                    ("TIME", open) => {
                        queued = open;
                        b"*2\r\n$10\r\n1700000000\r\n$1\r\n0\r\n".to_vec()
                    }
                    ("SCAN", open) => {
                        queued = open;
                        b"*2\r\n$1\r\n0\r\n*0\r\n".to_vec()
                    }
                    (_, open) => {
                        queued = open;
                        b"+OK\r\n".to_vec()
                    }
                },
            },
        };
        let answer = match &mut queued {
            Some(answers) if name != "MULTI" => {
                answers.push(answer);
                b"+QUEUED\r\n".to_vec()
            }
            _ => answer,
        };
        follows |= name == "PSYNC";
        if link.write_all(&answer).await.is_err() {
            return;
        }
        let used = loop {
            if let Some(used) = reader.read(&input).unwrap() {
                break used;
            }
            if !matches!(link.read_buf(&mut input).await, Ok(1..)) {
                return;
            }
        };
        args = reader.args(&input).map(<[u8]>::to_vec).collect();
        name = String::from_utf8_lossy(args.first().map_or(&b""[..], Vec::as_slice)).to_uppercase();
        input.drain(..used);
    }
}
