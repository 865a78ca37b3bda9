//! One connection through a proxy.

use std::io;
use std::net::Ipv4Addr;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::net::tcp::{ReadHalf, WriteHalf};
use tokio::sync::mpsc;
use tokio::time::{Instant, sleep, sleep_until, timeout};

use super::proxy::{Cut, Pass, Shared, Way};
use super::wire::Commands;

/// One connection of the tool's.
pub(super) async fn serve(mut client: TcpStream, shared: Arc<Shared>) {
    let (nth, port) = {
        let mut state = shared.state();
        state.next += 1;
        (state.next - 1, state.server)
    };
    let Ok(mut server) = TcpStream::connect((Ipv4Addr::LOCALHOST, port)).await else {
        let _ = client.set_zero_linger();
        return;
    };
    let _ = (client.set_nodelay(true), server.set_nodelay(true));
    let deaf = AtomicBool::new(false);
    let end = {
        let (from_client, to_client) = client.split();
        let (from_server, to_server) = server.split();
        let up = Half { shared: &shared, nth, way: Way::Up, deaf: &deaf };
        let down = Half { way: Way::Down, ..up };
        tokio::select! {
            ended = async { tokio::try_join!(up.run(from_client, to_server), down.run(from_server, to_client)) } => {
                ended.err().unwrap_or(End::Cut(Cut::Fin))
            }
            () = shared.until(|state| nth < state.cut.0) => {
                End::Cut(shared.state().cut.1.unwrap_or(Cut::Rst))
            }
        }
    };
    match end {
        End::Cut(Cut::Fin) => {
            let _ = (client.shutdown().await, server.shutdown().await);
        }
        End::Cut(Cut::Rst) => {
            let _ = (client.set_zero_linger(), server.set_zero_linger());
        }
        End::Late(exec, until) => {
            let _ = client.set_zero_linger();
            drop(client);
            let _ = timeout(LATEST, shared.until(|state| state.up >= until)).await;
            let _ = server.write_all(&exec).await;
            // It is done when it is answered.
            let _ = timeout(LATEST, server.read_u8()).await;
        }
    }
}

/// How a connection ended, or must.
enum End {
    Cut(Cut),
    Late(Vec<u8>, u64),
}

/// How long bytes may be late when nothing else passes.
const LATEST: Duration = Duration::from_millis(500);

/// One direction of a connection.
#[derive(Clone, Copy)]
struct Half<'a> {
    shared: &'a Shared,
    nth: u64,
    way: Way,
    /// The next answer is lost, and the connection with it.
    deaf: &'a AtomicBool,
}

impl Half<'_> {
    /// Passes on what comes, until the side that says it has ended, and that too. An error is the end of the whole connection.
    async fn run(self, from: ReadHalf<'_>, to: WriteHalf<'_>) -> Result<(), End> {
        let (pieces, read) = mpsc::channel(256);
        let mut giving = pin!(self.give(read, to));
        tokio::select! {
            given = &mut giving => given,
            // What was said before the end still arrives.
            taken = take(from, pieces) => {
                giving.await?;
                taken.map_err(|_| End::Cut(Cut::Fin))
            }
        }
    }

    async fn give(
        self,
        mut read: mpsc::Receiver<(Instant, Vec<u8>)>,
        mut to: WriteHalf<'_>,
    ) -> Result<(), End> {
        let mut commands = Commands::default();
        let way = self.way as usize;
        while let Some((came, bytes)) = read.recv().await {
            let (delay, rate) = {
                let state = self.shared.state();
                (state.delay, state.rate)
            };
            if !delay.is_zero() {
                sleep_until(came + delay).await;
            }
            self.shared.until(|state| self.nth >= state.held[way]).await;
            if self.deaf.load(Ordering::SeqCst) {
                match self.way {
                    Way::Down => return Err(End::Cut(Cut::Rst)),
                    // The rest of the last piece is lost: what came behind it would be read as if it stood in its place.
                    Way::Up => continue,
                }
            }
            let (passed, end) = match self.shared.pass(self.nth, self.way, &bytes, &mut commands) {
                Pass::All => (bytes.len(), None),
                Pass::Lose => (0, None),
                Pass::Cut(passed, how) => (passed, Some(End::Cut(how))),
                Pass::CutAnswer(passed) => {
                    self.deaf.store(true, Ordering::SeqCst);
                    (passed, None)
                }
                Pass::Late(passed, exec, until) => {
                    (passed, Some(End::Late(bytes[passed..exec].to_vec(), until)))
                }
            };
            if to.write_all(&bytes[..passed]).await.is_err() {
                return Err(End::Cut(Cut::Rst));
            }
            if let Some(end) = end {
                return Err(end);
            }
            if let Some(rate) = rate {
                sleep(Duration::from_secs_f64(bytes.len() as f64 / f64::from(rate))).await;
            }
        }
        let _ = to.shutdown().await;
        Ok(())
    }
}

/// Reads what comes, and when it came.
async fn take(mut from: ReadHalf<'_>, pieces: mpsc::Sender<(Instant, Vec<u8>)>) -> io::Result<()> {
    loop {
        let mut bytes = Vec::with_capacity(1 << 16);
        if from.read_buf(&mut bytes).await? == 0 {
            return Ok(());
        }
        if pieces.send((Instant::now(), bytes)).await.is_err() {
            return Ok(());
        }
    }
}
