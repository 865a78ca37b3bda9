//! `replay`: a capture, played again.

use std::io::{Write, stdout};

use understudy::flow::{Recording, chain, replay};
use understudy::net::Listener;
use understudy::plan::Place;

use super::args::{Places, Replay, Sync};
use super::outcome::{Outcome, failed, refused};
use super::signals::Signals;
use super::sync;

/// Runs `replay` to its end.
pub(crate) async fn run(args: Replay) -> Outcome {
    let Replay { file, to, listen, writing } = args;
    match (to, listen) {
        (Some(to), _) => {
            let places = Places { from: vec![file], to: Some(to), ..Places::default() };
            let sync = Sync { places, once: true, writing, ..Sync::default() };
            sync::run(&sync).await
        }
        (None, Some((host, port))) => serve(&file, &host, port).await,
        (None, None) => refused(
            &format!("{file}: where it shall be played is not said"),
            "give --to URL to play it into a target, or --listen HOST:PORT to play it as a master",
        ),
    }
}

/// Plays a capture as a master.
async fn serve(file: &str, host: &str, port: u16) -> Outcome {
    let Ok(Place::Capture(path)) = Place::parse(file) else {
        return refused(
            &format!("{file}: this is not the name of a capture"),
            "a capture is two files, NAME.bin and NAME.json: give the path of the first",
        );
    };
    let signals = Signals::heed();
    let recording = match Recording::open(&path).await {
        Ok(recording) => recording,
        Err(error) => {
            let end = if error.is_damage() { failed } else { refused };
            return end(&format!("{file}: {}", chain(&error)), error.advice());
        }
    };
    let opened = Listener::open(host, port).await.and_then(|open| Ok((open.address()?, open)));
    let (address, listener) = match opened {
        Ok(opened) => opened,
        Err(error) => {
            return refused(
                &format!("cannot listen on {host}:{port}: {error}"),
                "choose an address of this machine and a port that is free; port 0 takes any",
            );
        }
    };
    let mut out = stdout().lock();
    if let Err(error) = writeln!(out, "listening on {address}").and_then(|()| out.flush()) {
        return failed(&format!("cannot write to stdout: {error}"), "");
    }
    drop(out);
    replay(&recording, &listener, signals.orders()).await;
    Outcome::Interrupted
}
