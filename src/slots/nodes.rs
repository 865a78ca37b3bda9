//! What nodes of a cluster say of it, and what follows from several who do not agree.

use std::collections::BTreeMap;

use super::{SLOTS, SlotSet};

/// A node, as another or itself tells of it in `CLUSTER NODES`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Node {
    /// Its name, which it keeps for life.
    pub id: String,
    /// Where its clients reach it; no host where it does not know its own.
    pub at: (String, u16),
    /// Its name in the network, where it was given one (7.0 and later).
    pub hostname: Option<String>,
    /// Whether it is the one who tells.
    pub is_myself: bool,
    /// Whether it is a master.
    pub is_master: bool,
    /// Whether it is known to be lost, or has no address.
    pub is_gone: bool,
    /// The master that it follows.
    pub master: Option<String>,
    /// Of two that say that a slot is theirs the greater one counts.
    pub epoch: u64,
    /// The slots that it serves.
    pub slots: SlotSet,
    /// Those of which it is giving or taking keys. It tells that of itself only.
    pub open: SlotSet,
}

/// Reads the answer to `CLUSTER NODES`; `None` if it is none.
#[must_use]
pub fn parse(told: &str) -> Option<Vec<Node>> {
    let nodes: Option<Vec<Node>> =
        told.lines().filter(|line| !line.trim().is_empty()).map(node).collect();
    nodes.filter(|nodes| nodes.iter().any(|node| node.is_myself))
}

/// `id ip:port@bus[,hostname[,…]] flags master ping pong epoch link [slot|slot-slot|[slot->-id]|[slot-<-id]]…`
fn node(line: &str) -> Option<Node> {
    let mut fields = line.split_ascii_whitespace();
    let id = fields.next()?.to_owned();
    let mut places = fields.next()?.split(',');
    // Before 4.0 no port of the bus is told.
    let address = places.next()?.split('@').next()?;
    let (host, port) = address.rsplit_once(':')?;
    let hostname = places.next().filter(|name| !name.is_empty() && !name.contains('='));
    let flags: Vec<&str> = fields.next()?.split(',').collect();
    let has = |flag| flags.contains(&flag);
    let master = fields.next().filter(|id| *id != "-").map(str::to_owned);
    let epoch = fields.nth(2)?.parse().ok()?;
    let _link = fields.next();
    let (mut slots, mut open) = (SlotSet::default(), SlotSet::default());
    for field in fields {
        if let Some(moving) = field.strip_prefix('[') {
            let digits = moving.split('-').next()?;
            open.insert(digits.parse().ok().filter(|slot| *slot < SLOTS)?);
            continue;
        }
        let (first, last) = field.split_once('-').unwrap_or((field, field));
        let (first, last): (u16, u16) = (first.parse().ok()?, last.parse().ok()?);
        if first > last || last >= SLOTS {
            return None;
        }
        (first..=last).for_each(|slot| slots.insert(slot));
    }
    Some(Node {
        id,
        at: (host.trim_matches(['[', ']']).to_owned(), port.parse().ok()?),
        hostname: hostname.map(str::to_owned),
        is_myself: has("myself"),
        is_master: has("master"),
        is_gone: has("fail") || has("noaddr") || has("handshake"),
        master,
        epoch,
        slots,
        open,
    })
}

/// What several nodes tell, as one picture.
#[derive(Clone, Debug, Default)]
pub struct View {
    /// Every node that somebody told of, by its id.
    pub nodes: BTreeMap<String, Node>,
    /// Those that told themselves.
    pub heard: Vec<String>,
    /// The slots that keys are being moved of, and those which two masters claim with one right.
    pub open: SlotSet,
    owners: Vec<Option<Claim>>,
    /// Where those were asked that told themselves.
    asked: BTreeMap<String, (String, u16)>,
}

#[derive(Clone, Debug)]
struct Claim {
    id: String,
    epoch: u64,
    /// It says so itself.
    own: bool,
}

impl View {
    /// What these nodes tell, each with where it was asked.
    #[must_use]
    pub fn of(told: Vec<((String, u16), Vec<Node>)>) -> Self {
        let mut view = Self { owners: vec![None; usize::from(SLOTS)], ..Self::default() };
        for (at, nodes) in &told {
            for node in nodes.iter().filter(|node| node.is_myself) {
                view.heard.push(node.id.clone());
                view.asked.insert(node.id.clone(), at.clone());
            }
        }
        for node in told.into_iter().flat_map(|(_, nodes)| nodes) {
            node.open.iter().for_each(|slot| view.open.insert(slot));
            // Others may go on saying for ever that it has what it has given away.
            if node.is_master && (node.is_myself || !view.heard.contains(&node.id)) {
                view.claim(&node);
            }
            view.note(node);
        }
        view
    }

    fn claim(&mut self, node: &Node) {
        for slot in node.slots.iter() {
            let Some(owner) = self.owners.get_mut(usize::from(slot)) else { continue };
            let (own, epoch) = (node.is_myself, node.epoch);
            let claim = Claim { id: node.id.clone(), epoch, own };
            match owner {
                Some(before) if before.id == node.id => {
                    (before.epoch, before.own) = (before.epoch.max(epoch), before.own || own);
                }
                Some(before) if (before.epoch, before.own) > (epoch, own) => {}
                Some(before) if (before.epoch, before.own) == (epoch, own) => {
                    // They will agree soon; until then nobody can say.
                    self.open.insert(slot);
                }
                _ => *owner = Some(claim),
            }
        }
    }

    /// What a node tells of itself counts, but for its address, which others may know better.
    fn note(&mut self, node: Node) {
        match self.nodes.get_mut(&node.id) {
            None => drop(self.nodes.insert(node.id.clone(), node)),
            Some(before) => {
                let hostname = before.hostname.take().or_else(|| node.hostname.clone());
                // Whoever is asked first, the same address comes of it.
                let known = [&before.at, &node.at].into_iter().filter(|at| !at.0.is_empty()).min();
                let at = known.unwrap_or(&before.at).clone();
                if node.is_myself || !before.is_myself && node.epoch > before.epoch {
                    *before = node;
                }
                (before.hostname, before.at) = (hostname, at);
            }
        }
    }

    /// Where a node is: as others say, or where it was asked itself.
    #[must_use]
    pub fn at(&self, id: &str) -> Option<&(String, u16)> {
        let told = self.nodes.get(id).map(|node| &node.at).filter(|at| !at.0.is_empty());
        told.or_else(|| self.asked.get(id))
    }

    /// The master that serves a slot, by the word that counts.
    #[must_use]
    pub fn owner(&self, slot: u16) -> Option<&str> {
        self.owners.get(usize::from(slot))?.as_ref().map(|claim| claim.id.as_str())
    }

    /// What each master serves, by its id. One that serves nothing is not among them.
    #[must_use]
    pub fn masters(&self) -> BTreeMap<&str, SlotSet> {
        let mut masters: BTreeMap<&str, SlotSet> = BTreeMap::new();
        for slot in 0..SLOTS {
            if let Some(id) = self.owner(slot) {
                masters.entry(id).or_default().insert(slot);
            }
        }
        masters
    }

    /// The slots that nobody serves.
    #[must_use]
    pub fn unserved(&self) -> SlotSet {
        (0..SLOTS).filter(|slot| self.owner(*slot).is_none()).collect()
    }

    /// A node and those that follow it, by what is told.
    #[must_use]
    pub fn followers(&self, master: &str) -> Vec<String> {
        let follows = |node: &&Node| node.id == master || node.master.as_deref() == Some(master);
        self.nodes.values().filter(follows).map(|node| node.id.clone()).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SEVEN: &str = "\
ad1d 127.0.0.1:21201@31201,b.example master - 0 1795754586774 2 connected 2871 8192-16383\n\
9579 :21200@31200 myself,master - 0 0 1 connected 0-2870 2872-8191 [2872->-ad1d] [9-<-ad1d]\n\
c0de 10.0.0.1:21202@31202,,shard-id=aa slave ad1d 0 1795754586774 2 connected\n\
dead 10.0.0.1:0@0 master,noaddr - 0 1795754586774 0 disconnected\n";

    #[test]
    fn nodes_are_read() {
        let nodes = parse(SEVEN).unwrap();
        let [other, own, replica, gone] = nodes.as_slice() else { panic!("{nodes:?}") };
        assert_eq!(other.slots.to_string(), "2871,8192-16383");
        assert_eq!((other.epoch, other.hostname.as_deref()), (2, Some("b.example")));
        assert_eq!((own.at.0.as_str(), own.at.1, own.is_myself), ("", 21200, true));
        assert_eq!(own.open.to_string(), "9,2872");
        assert_eq!((replica.is_master, replica.master.as_deref()), (false, Some("ad1d")));
        assert_eq!((replica.hostname.as_deref(), gone.is_gone), (None, true));
        // As 3.0 tells it.
        let old = "aa 127.0.0.1:7000 myself,master - 0 0 0 connected 0-16383";
        assert_eq!(parse(old).unwrap()[0].at, ("127.0.0.1".to_owned(), 7000));
        for bad in [
            "",
            "aa",
            "aa 127.0.0.1 myself,master - 0 0 0 connected",
            "aa 127.0.0.1:1 master - 0 0 0 connected",
            "aa 127.0.0.1:1 myself,master - 0 0 x connected",
            "aa 127.0.0.1:1 myself,master - 0 0 0 connected 16384",
            "aa 127.0.0.1:1 myself,master - 0 0 0 connected 9-3",
            "aa 127.0.0.1:1 myself,master - 0 0 0 connected [x->-b]",
        ] {
            assert_eq!(parse(bad), None, "{bad}");
        }
    }

    fn view(told: &[&str]) -> View {
        let told =
            (1..).zip(told).map(|(port, told)| (("asked".to_owned(), port), parse(told).unwrap()));
        View::of(told.collect())
    }

    #[test]
    fn the_greater_epoch_decides_between_two_masters() {
        // `a` was passed over by its replica `b`, and does not know it.
        let stale = "a h:1 myself,master - 0 0 1 connected 0-9\nb h:2 slave a 0 0 1 connected\n";
        let news =
            "b h:2 myself,master - 0 0 7 connected 0-9\na h:1 slave,fail b 0 0 7 disconnected\n";
        for told in [[stale, news], [news, stale]] {
            let view = view(&told);
            assert_eq!((view.owner(3), view.owner(10)), (Some("b"), None));
            assert_eq!(view.masters().keys().copied().collect::<Vec<_>>(), ["b"]);
            assert_eq!(view.followers("b").len(), 1, "what a tells of itself is not true any more");
            assert!(view.open.is_empty());
            assert_eq!(view.unserved().len(), 16_374);
        }
    }

    #[test]
    fn who_cannot_be_told_apart_is_open() {
        let one = "a h:1 myself,master - 0 0 1 connected 0-9\nb h:2 master - 0 0 1 connected 10\n";
        let other =
            "b h:2 myself,master - 0 0 1 connected 9-10\na h:1 master - 0 0 1 connected 0-8\n";
        assert_eq!(view(&[one, other]).open.to_string(), "9");
        // One's own word goes before another's of the same epoch.
        let hearsay = "c h:3 myself,slave a 0 0 1 connected\nb h:2 master - 0 0 1 connected 0-10\n";
        assert_eq!(view(&[one, hearsay]).owner(0), Some("a"));
    }

    #[test]
    fn what_a_node_has_given_away_is_not_its_own_by_hearsay() {
        // `a` gave 0 to `b`, which had the greatest epoch already, and then took 9 and a greater one: `c` believes `b` nothing of it.
        let giver = "a h:1 myself,master - 0 0 5 connected 1-9\nb h:2 master - 0 0 3 connected 0\n";
        let taker = "b h:2 myself,master - 0 0 3 connected 0\na h:1 master - 0 0 5 connected 1-9\n";
        let third = "c h:3 myself,master - 0 0 4 connected 10\na h:1 master - 0 0 5 connected 0-9\nb h:2 master - 0 0 3 connected\n";
        for told in [[giver, taker, third], [third, taker, giver], [taker, third, giver]] {
            let view = view(&told);
            assert_eq!((view.owner(0), view.owner(1)), (Some("b"), Some("a")));
            assert!(view.open.is_empty());
        }
    }

    #[test]
    fn an_address_is_taken_from_whoever_knows_it() {
        let one = "a :1 myself,master - 0 0 1 connected 0-9\nb h:2 master - 0 0 1 connected 10\n";
        let at = |told: &[&str]| view(told).at("a").cloned();
        assert_eq!(at(&[one]), Some(("asked".to_owned(), 1)));
        let other =
            "b h:2 myself,master - 0 0 1 connected 10\na h:1 master - 0 0 1 connected 0-9\n";
        let third = "c h:3 myself,slave b 0 0 1 connected\na i:1 master - 0 0 1 connected 0-9\n";
        for told in [[one, other, third], [third, one, other], [other, third, one]] {
            assert_eq!(at(&told), Some(("h".to_owned(), 1)));
        }
    }
}
