//! The proxy does what it is told, to the byte and to the transaction.

use std::io::{Read, Write};
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::thread;
use std::time::{Duration, Instant};

use crate::client::{Client, Value, cmd};
use crate::servers::Server;

use super::proxy::{Cut, ExecCut, Proxy, Way};

const PATIENCE: Duration = Duration::from_secs(5);

#[test]
fn exactly_so_many_bytes_pass_before_a_cut() {
    for (bytes, how) in [(1, Cut::Fin), (4096, Cut::Rst), (100_000, Cut::Fin)] {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let proxy = Proxy::to(listener.local_addr().unwrap().port());
        proxy.cut_after(Way::Up, bytes, how);
        let mut client = TcpStream::connect((Ipv4Addr::LOCALHOST, proxy.port)).unwrap();
        let reading = thread::spawn(move || {
            let mut server = listener.accept().unwrap().0;
            let (mut all, mut piece) = (0, [0; 4096]);
            while let Ok(read @ 1..) = server.read(&mut piece) {
                all += read as u64;
            }
            all
        });
        // It may be cut while we write.
        let _ = client.write_all(&[b'x'; 200_000]);
        assert!(proxy.wait_cut(PATIENCE));
        let arrived = reading.join().unwrap();
        // What was passed on may be thrown away with a reset.
        assert!(arrived == bytes || how == Cut::Rst && arrived < bytes, "{arrived} of {bytes}");
    }
}

#[test]
fn an_exec_is_cut_before_after_and_late() {
    let Some(server) = Server::start("redis-7.0.15") else { return };
    let mut direct = server.client();
    for (how, at_once, in_the_end) in
        [(ExecCut::Before, 1, 1), (ExecCut::After, 2, 2), (ExecCut::Late(20), 1, 2)]
    {
        direct.call(cmd!("SET", "n", 0));
        let proxy = Proxy::to(server.port);
        let mut client = Client::connect(proxy.port);
        let transaction = [cmd!("MULTI"), cmd!("INCR", "n"), cmd!("EXEC")];
        proxy.cut_exec(2, how);
        client.pipeline(&transaction);
        assert_eq!(direct.call(cmd!("GET", "n")).text(), "1");
        assert!(client.try_pipeline(&transaction).is_err(), "{how:?} was answered");
        assert_eq!(proxy.exec_cuts(), 1);
        assert_eq!(direct.call(cmd!("GET", "n")).text(), at_once.to_string(), "{how:?}");
        // What is said on another connection is what a late one waits for.
        Client::connect(proxy.port).call(cmd!("PING", "something longer than that"));
        let begun = Instant::now();
        while direct.call(cmd!("GET", "n")).text() != in_the_end.to_string() {
            assert!(begun.elapsed() < PATIENCE, "{how:?} has not arrived");
        }
    }
}

#[test]
fn what_is_held_arrives_and_what_is_lost_does_not() {
    let Some(server) = Server::start("redis-7.0.15") else { return };
    let mut direct = server.client();
    let proxy = Proxy::to(server.port);
    let mut old = Client::connect(proxy.port);
    old.call(cmd!("PING"));
    proxy.hold(&[Way::Up], false);
    let waiting = thread::spawn(move || (old.try_pipeline(&[cmd!("INCR", "n")]), old));
    let mut new = Client::connect(proxy.port);
    assert_eq!(new.call(cmd!("GET", "n")), Value::Nil, "a new connection is not held");
    proxy.heal();
    let (reply, mut old) = waiting.join().unwrap();
    assert_eq!(reply.unwrap(), [Value::Int(1)]);

    proxy.lose(&[Way::Down]);
    let waiting = thread::spawn(move || old.try_pipeline(&[cmd!("INCR", "n")]));
    while direct.call(cmd!("GET", "n")).text() != "2" {}
    proxy.heal();
    assert!(waiting.join().unwrap().is_err(), "what has lost bytes is cut");
}
