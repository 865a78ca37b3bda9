//! Round trips.

use std::time::Duration;

use tokio::io::AsyncReadExt;
use tokio::io::AsyncWriteExt;
use tokio::time::timeout;

use crate::plan::ServerPlace;

use super::Net;
use super::control::ControlError;
use super::greet::greet;

const QUESTION: &[u8] = b"*1\r\n$4\r\nPING\r\n";

/// How long one answer may take.
const PATIENCE: Duration = Duration::from_secs(10);

/// Sends so many `PING`s over one connection, each after the answer to the one before, and gives how long each took. The
/// connection itself and its greeting are not in these times.
///
/// # Errors
/// If the server cannot be reached, does not let us in, or forbids `PING`.
pub async fn round_trips(
    net: &Net,
    place: &ServerPlace,
    count: u32,
) -> Result<Vec<Duration>, ControlError> {
    let mut link = net.connect(place).await?;
    greet(&mut link, place.credentials.as_ref()).await?;
    let mut times = Vec::new();
    let mut room = [0; 1024];
    for _ in 0..count {
        let begun = net.clock().now();
        link.write_all(QUESTION).await.map_err(ControlError::Lost)?;
        link.flush().await.map_err(ControlError::Lost)?;
        let mut length = 0;
        // One line, and nothing after it: nobody has asked for more.
        while !room.get(..length).is_some_and(|said| said.ends_with(b"\r\n")) {
            let rest = room.get_mut(length..).unwrap_or_default();
            let read = timeout(PATIENCE, link.read(rest)).await;
            match read.map_err(|_| ControlError::Silent(PATIENCE))?.map_err(ControlError::Lost)? {
                0 => return Err(ControlError::Closed),
                more => length += more,
            }
        }
        times.push(net.clock().now().saturating_sub(begun));
        if let Some(b"-") = room.get(..1) {
            let text = String::from_utf8_lossy(room.get(1..length).unwrap_or_default());
            let text = text.trim_end().to_owned();
            return Err(ControlError::Refused { question: "PING", text });
        }
    }
    Ok(times)
}
