//! A small blocking RESP2 client of the tests' own. It shares nothing with the library, so that a mistake there
//! cannot hide itself here.

use std::io::{self, BufRead, BufReader, ErrorKind, Read, Write};
use std::net::TcpStream;
use std::time::{Duration, Instant};

/// A command: its name and arguments.
pub(crate) type Command = Vec<Vec<u8>>;

/// What can stand in a command.
pub(crate) trait Arg {
    fn bytes(&self) -> Vec<u8>;
}

macro_rules! text_args {
    ($($t:ty),*) => { $(impl Arg for $t { fn bytes(&self) -> Vec<u8> { self.to_string().into_bytes() } })* };
}
text_args!(str, String, u16, i32, u32, i64, u64, usize);

impl Arg for [u8] {
    fn bytes(&self) -> Vec<u8> {
        self.to_vec()
    }
}
impl<const N: usize> Arg for [u8; N] {
    fn bytes(&self) -> Vec<u8> {
        self.to_vec()
    }
}
impl Arg for Vec<u8> {
    fn bytes(&self) -> Vec<u8> {
        self.clone()
    }
}
impl<T: Arg + ?Sized> Arg for &T {
    fn bytes(&self) -> Vec<u8> {
        (**self).bytes()
    }
}

/// `cmd!("SET", key, 5)`: a [`Command`] of anything that is an [`Arg`].
macro_rules! cmd {
    ($($arg:expr),+ $(,)?) => { vec![$($crate::client::Arg::bytes(&$arg)),+] };
}
pub(crate) use cmd;

/// Writes a command as it is sent.
pub(crate) fn encode(command: &Command, out: &mut Vec<u8>) {
    out.extend_from_slice(format!("*{}\r\n", command.len()).as_bytes());
    for arg in command {
        out.extend_from_slice(format!("${}\r\n", arg.len()).as_bytes());
        out.extend_from_slice(arg);
        out.extend_from_slice(b"\r\n");
    }
}

/// A reply. An error is a value: in a pipeline it is one command's answer among others.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Value {
    Nil,
    Int(i64),
    Status(String),
    Error(String),
    Bulk(Vec<u8>),
    Array(Vec<Self>),
}

impl Value {
    #[track_caller]
    pub(crate) fn int(&self) -> i64 {
        match self {
            Self::Int(n) => *n,
            other => panic!("an integer was expected, not {other:?}"),
        }
    }

    /// The bytes of a bulk or a status line.
    #[track_caller]
    pub(crate) fn bytes(&self) -> &[u8] {
        match self {
            Self::Bulk(bytes) => bytes,
            Self::Status(line) => line.as_bytes(),
            other => panic!("a string was expected, not {other:?}"),
        }
    }

    #[track_caller]
    pub(crate) fn text(&self) -> String {
        String::from_utf8_lossy(self.bytes()).into_owned()
    }

    #[track_caller]
    pub(crate) fn array(&self) -> &[Self] {
        match self {
            Self::Array(items) => items,
            other => panic!("an array was expected, not {other:?}"),
        }
    }

    /// The strings of an array.
    #[track_caller]
    pub(crate) fn strings(&self) -> Vec<Vec<u8>> {
        self.array().iter().map(|item| item.bytes().to_vec()).collect()
    }

    /// The value behind `name` in a flat array of names and values.
    pub(crate) fn field(&self, name: &str) -> Option<&Self> {
        self.array()
            .chunks_exact(2)
            .find(|pair| pair[0].bytes() == name.as_bytes())
            .map(|pair| &pair[1])
    }

    pub(crate) fn is_error(&self) -> bool {
        matches!(self, Self::Error(_))
    }

    /// The reply itself, unless it is an error.
    #[track_caller]
    pub(crate) fn ok(self) -> Self {
        match self {
            Self::Error(line) => panic!("the server refused: {line}"),
            other => other,
        }
    }
}

pub(crate) struct Client {
    stream: BufReader<TcpStream>,
}

impl Client {
    /// Longer than any reply takes on a busy machine, shorter than a test's time limit.
    const PATIENCE: Duration = Duration::from_secs(20);

    pub(crate) fn connect(port: u16) -> Self {
        Self::connect_with(port, Self::PATIENCE)
    }

    /// One that waits so long for each reply.
    pub(crate) fn connect_with(port: u16, patience: Duration) -> Self {
        Self::try_connect(port, patience).expect("the server listens")
    }

    /// The same with a server that may be gone.
    pub(crate) fn try_connect(port: u16, patience: Duration) -> io::Result<Self> {
        let stream = TcpStream::connect(("127.0.0.1", port))?;
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(patience))?;
        Ok(Self { stream: BufReader::with_capacity(1 << 16, stream) })
    }

    pub(crate) fn port(&self) -> u16 {
        self.stream.get_ref().peer_addr().unwrap().port()
    }

    /// Sends all commands in one write and reads all replies, in their order.
    pub(crate) fn pipeline(&mut self, commands: &[Command]) -> Vec<Value> {
        self.try_pipeline(commands).expect("the server answers")
    }

    /// The same with a server that may go away meanwhile.
    pub(crate) fn try_pipeline(&mut self, commands: &[Command]) -> io::Result<Vec<Value>> {
        let mut out = Vec::new();
        commands.iter().for_each(|command| encode(command, &mut out));
        self.stream.get_mut().write_all(&out)?;
        commands.iter().map(|_| self.reply()).collect()
    }

    /// The reply, which may be an error.
    pub(crate) fn try_call(&mut self, command: Command) -> Value {
        self.pipeline(&[command]).remove(0)
    }

    /// The reply, which must not be an error.
    #[track_caller]
    pub(crate) fn call(&mut self, command: Command) -> Value {
        self.try_call(command).ok()
    }

    pub(crate) fn select(&mut self, db: u32) {
        self.call(cmd!("SELECT", db));
    }

    /// The value of a line of `INFO`, empty if there is none.
    pub(crate) fn info(&mut self, section: &str, line: &str) -> String {
        let text = self.call(cmd!("INFO", section)).text();
        text.lines()
            .find_map(|l| l.strip_prefix(line)?.strip_prefix(':'))
            .unwrap_or_default()
            .trim_end()
            .to_owned()
    }

    /// Whether the server has a command of this name.
    pub(crate) fn knows(&mut self, command: &str) -> bool {
        let reply = self.call(cmd!("COMMAND", "INFO", command));
        matches!(&reply.array()[0], Value::Array(found) if !found.is_empty())
    }

    /// Waits until `key` stands in `db`. The server tells when it does (this changes its `notify-keyspace-events`), so
    /// nothing sleeps. `false` when `patience` is over, or when what is to bring the key is no longer `going`.
    pub(crate) fn wait_for_key(
        port: u16,
        db: u32,
        key: &str,
        patience: Duration,
        mut going: impl FnMut() -> bool,
    ) -> bool {
        const LOOK: Duration = Duration::from_millis(200);
        let until = Instant::now() + patience;
        let mut asking = Self::connect(port);
        asking.call(cmd!("CONFIG", "SET", "notify-keyspace-events", "KEA"));
        asking.select(db);
        let mut told = Self::connect(port);
        told.call(cmd!("SUBSCRIBE", format!("__keyspace@{db}__:{key}")));
        told.stream.get_ref().set_read_timeout(Some(LOOK)).unwrap();
        // Whatever is told about the key, look: a temporary one may have been renamed.
        while asking.try_call(cmd!("EXISTS", key)) != Value::Int(1) {
            loop {
                match told.stream.fill_buf() {
                    Ok([]) => return false,
                    Ok(_) => {
                        told.reply().expect("the server tells");
                        break;
                    }
                    Err(error)
                        if matches!(
                            error.kind(),
                            ErrorKind::WouldBlock | ErrorKind::TimedOut | ErrorKind::Interrupted
                        ) => {}
                    Err(error) => panic!("the link to the server broke: {error}"),
                }
                if !going() || Instant::now() > until {
                    return false;
                }
            }
        }
        true
    }

    fn reply(&mut self) -> io::Result<Value> {
        let mut line = Vec::new();
        self.stream.read_until(b'\n', &mut line)?;
        if !line.ends_with(b"\r\n") {
            return Err(io::Error::new(ErrorKind::UnexpectedEof, "the server closed the link"));
        }
        line.truncate(line.len() - 2);
        let text = String::from_utf8_lossy(&line[1..]).into_owned();
        Ok(match line[0] {
            b'+' => Value::Status(text),
            b'-' => Value::Error(text),
            b':' => Value::Int(text.parse().unwrap()),
            b'$' => match text.parse::<i64>().unwrap() {
                -1 => Value::Nil,
                len => {
                    let mut bytes = vec![0; usize::try_from(len).unwrap() + 2];
                    self.stream.read_exact(&mut bytes)?;
                    bytes.truncate(bytes.len() - 2);
                    Value::Bulk(bytes)
                }
            },
            b'*' => match text.parse::<i64>().unwrap() {
                -1 => Value::Nil,
                len => Value::Array((0..len).map(|_| self.reply()).collect::<Result<_, _>>()?),
            },
            other => panic!("no reply begins with {:?}", char::from(other)),
        })
    }
}
