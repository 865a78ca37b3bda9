//! The nodes of a cluster, and a client that goes from one to the other.

use std::collections::BTreeMap;

use understudy::slots::{SLOTS, slot_of};

use crate::asking;
use crate::client::{Client, Command, Value, cmd};
use crate::dice::Dice;
use crate::judge::Dump;
use crate::servers::Server;

use super::PATIENCE;

/// Masters of equal parts, and as many replicas.
pub(super) struct Cluster {
    pub(super) name: &'static str,
    pub(super) masters: Vec<Server>,
    pub(super) replicas: Vec<Server>,
}

impl Cluster {
    pub(super) fn start(name: &'static str, masters: usize, with_replicas: bool) -> Option<Self> {
        let count = if with_replicas { masters * 2 } else { masters };
        let mut servers = Vec::new();
        for _ in 0..count {
            servers.push(node(name)?);
        }
        let replicas = servers.split_off(masters);
        let cluster = Self { name, masters: servers, replicas };
        let all = || cluster.masters.iter().chain(&cluster.replicas);
        for (epoch, server) in (1..).zip(all()) {
            server.client().call(cmd!("CLUSTER", "SET-CONFIG-EPOCH", epoch));
        }
        let first = cluster.masters[0].port;
        for server in all().skip(1) {
            server.client().call(cmd!("CLUSTER", "MEET", "127.0.0.1", first));
        }
        for (nth, server) in (0..).zip(&cluster.masters) {
            let count = u16::try_from(masters).unwrap();
            let (from, to) = (SLOTS / count * nth, SLOTS / count * (nth + 1));
            let to = if nth + 1 == count { SLOTS } else { to };
            let slots: Vec<String> = (from..to).map(|slot| slot.to_string()).collect();
            let head = ["CLUSTER", "ADDSLOTS"].into_iter().map(str::to_owned);
            let command: Command = head.chain(slots).map(String::into_bytes).collect();
            server.client().call(command);
        }
        for server in all() {
            let mut client = server.client();
            asking::until("all know each other", PATIENCE, || {
                let known = client.call(cmd!("CLUSTER", "NODES")).text();
                let info = client.call(cmd!("CLUSTER", "INFO")).text();
                known.lines().count() == count
                    && !known.contains("handshake")
                    && info.contains("cluster_state:ok")
            });
        }
        for (replica, master) in cluster.replicas.iter().zip(&cluster.masters) {
            replica.client().call(cmd!("CLUSTER", "REPLICATE", id(master)));
            asking::until("the replica follows", PATIENCE, || {
                replica.client().info("replication", "master_link_status") == "up"
                    && cluster.masters.iter().all(|one| {
                        let known = one.client().call(cmd!("CLUSTER", "NODES")).text();
                        known.lines().filter(|line| line.contains("slave")).count()
                            >= known.lines().filter(|line| line.contains(&id(replica))).count()
                            && known.contains(&format!("slave {}", id(master)))
                    })
            });
        }
        Some(cluster)
    }

    pub(super) fn url(&self) -> String {
        let nodes = self.masters.iter().take(2).map(|one| format!("127.0.0.1:{}", one.port));
        format!("redis-cluster://{}", nodes.collect::<Vec<_>>().join(","))
    }

    /// A client that goes where nodes send it.
    pub(super) fn client(&self) -> Anywhere {
        let ports = self.masters.iter().chain(&self.replicas).map(|one| one.port);
        Anywhere { seeds: ports.collect(), ports: BTreeMap::new(), links: BTreeMap::new() }
    }

    /// The nodes that are masters now and have slots.
    pub(super) fn serving(&self) -> Vec<&Server> {
        let all = self.masters.iter().chain(&self.replicas);
        let serves = |one: &&Server| {
            let Ok(mut client) = Client::try_connect(one.port, PATIENCE) else { return false };
            let told = client.call(cmd!("CLUSTER", "NODES")).text();
            let own = told.lines().find(|line| line.contains("myself")).unwrap().to_owned();
            own.contains("myself,master") && own.split(' ').count() > 8
        };
        all.filter(serves).collect()
    }

    pub(super) fn dump(&self) -> Dump {
        let parts = self.serving().into_iter().map(|one| Dump::read(&mut one.client()));
        Dump::together(parts.collect::<Vec<_>>())
    }

    /// Moves slots as `redis-cli --cluster reshard` does it, key by key.
    pub(super) fn reshard(&self, from: &Server, to: &Server, slots: impl Iterator<Item = u16>) {
        self.reshard_with(from, to, slots, |_| {});
    }

    /// The same, and says before each slot how many have gone.
    pub(super) fn reshard_with(
        &self,
        from: &Server,
        to: &Server,
        slots: impl Iterator<Item = u16>,
        mut goes: impl FnMut(usize),
    ) {
        let (mut giver, mut taker) = (from.client(), to.client());
        let (gives, takes) = (id(from), id(to));
        let others = self.masters.iter().filter(|one| ![from.port, to.port].contains(&one.port));
        let mut others: Vec<Client> = others.map(Server::client).collect();
        for (gone, slot) in slots.enumerate() {
            // What was on its way between the nodes at an earlier move may have given the slot back to who had it then.
            for one in [&mut giver, &mut taker].into_iter().chain(&mut others) {
                one.call(cmd!("CLUSTER", "SETSLOT", slot, "NODE", gives));
            }
            taker.call(cmd!("CLUSTER", "SETSLOT", slot, "IMPORTING", gives));
            giver.call(cmd!("CLUSTER", "SETSLOT", slot, "MIGRATING", takes));
            goes(gone);
            loop {
                let keys = giver.call(cmd!("CLUSTER", "GETKEYSINSLOT", slot, 10)).strings();
                for key in &keys {
                    giver.call(cmd!("MIGRATE", "127.0.0.1", to.port, key, 0, 5000));
                }
                if keys.is_empty() {
                    break;
                }
            }
            taker.call(cmd!("CLUSTER", "SETSLOT", slot, "NODE", takes));
            giver.call(cmd!("CLUSTER", "SETSLOT", slot, "NODE", takes));
            // A taker that has the greatest epoch already gets no other (3.0): who is not told may take the slot from it later.
            for other in others.iter_mut() {
                other.call(cmd!("CLUSTER", "SETSLOT", slot, "NODE", takes));
            }
        }
    }
}

pub(super) fn node(name: &'static str) -> Option<Server> {
    let options = [
        "--cluster-enabled",
        "yes",
        "--cluster-node-timeout",
        "2000",
        "--repl-backlog-size",
        "8mb",
    ];
    Server::start_with(name, &options)
}

/// A node's name.
pub(super) fn id(server: &Server) -> String {
    let told = server.client().call(cmd!("CLUSTER", "NODES")).text();
    let own = told.lines().find(|line| line.contains("myself")).unwrap();
    own.split(' ').next().unwrap().to_owned()
}

/// A client of a cluster.
pub(super) struct Anywhere {
    seeds: Vec<u16>,
    ports: BTreeMap<u16, u16>,
    links: BTreeMap<u16, Client>,
}

impl Anywhere {
    /// Sends a command to whoever takes it. Gives no answer where none comes in time, or a link is lost: it may have been run.
    pub(super) fn send(&mut self, key: &str, command: &Command) -> Option<Value> {
        let mut answer = None;
        // That a slot is served again is nobody's to tell.
        asking::within(PATIENCE, || {
            answer = self.try_send(key, command);
            answer.is_some()
        });
        answer
    }

    /// The same, once, going where it is sent. `None` if nobody takes it for now.
    pub(super) fn try_send(&mut self, key: &str, command: &Command) -> Option<Value> {
        let slot = slot_of(key.as_bytes());
        let (mut port, mut asks) = (self.ports.get(&slot).copied().unwrap_or(self.seeds[0]), false);
        for _ in 0..5 {
            let commands = match asks {
                true => vec![cmd!("ASKING"), command.clone()],
                false => vec![command.clone()],
            };
            let link = match self.links.remove(&port) {
                Some(link) => Ok(link),
                None => Client::try_connect(port, PATIENCE),
            };
            let told = link.and_then(|mut link| {
                let told = link.try_pipeline(&commands)?;
                self.links.insert(port, link);
                Ok(told)
            });
            let Ok(mut told) = told else {
                self.ports.remove(&slot);
                // Another one may know who has the slot now.
                self.seeds.rotate_left(1);
                return None;
            };
            let told = told.pop().unwrap();
            let Value::Error(text) = &told else { return Some(told) };
            let mut words = text.split(' ');
            let to = |at: Option<&str>| at.and_then(|at| at.rsplit(':').next()?.parse().ok());
            asks = false;
            match words.next() {
                Some("MOVED") => {
                    port = to(words.nth(1)).unwrap();
                    self.ports.insert(slot, port);
                }
                Some("ASK") => (port, asks) = (to(words.nth(1)).unwrap(), true),
                Some("TRYAGAIN" | "CLUSTERDOWN" | "LOADING" | "MASTERDOWN" | "READONLY") => {
                    self.ports.remove(&slot);
                    return None;
                }
                _ => return Some(told),
            }
        }
        None
    }

    /// Writes a round of all kinds.
    pub(super) fn write(&mut self, dice: &mut Dice) {
        let n = dice.below(400);
        let tag = format!("{{t{n}}}");
        let (a, b, c) = (format!("{tag}a"), format!("{tag}b"), format!("{tag}c"));
        let count = format!("count{n}");
        let value = dice.below(1000);
        for (key, command) in [
            (&count, cmd!("INCR", count)),
            (&a, cmd!("SADD", a, value)),
            (&b, cmd!("SUNIONSTORE", b, a, b)),
            (&c, cmd!("RPUSH", c, value)),
            (&c, cmd!("LTRIM", c, -10, -1)),
        ] {
            self.send(key, &command);
        }
        match dice.below(6) {
            0 => drop(self.send(&a, &cmd!("DEL", a))),
            1 => drop(self.send(&count, &cmd!("EXPIRE", count, 100_000))),
            2 => drop(self.send(&b, &cmd!("RENAME", b, a))),
            3 => drop(self.send(&c, &cmd!("DEL", c))),
            _ => {}
        }
    }
}
