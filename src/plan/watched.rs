//! A master that Sentinels watch: they tell where it is, and where the one is that takes its place.

use std::fmt;

use crate::repl::Credentials;

use super::Address;

/// A master, named by the Sentinels that watch it and by what they call it. That is who it is, whichever server plays it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Watched {
    /// The hosts and ports of the Sentinels, in the order in which they are asked.
    pub sentinels: Vec<(String, u16)>,
    /// What they call the master (`sentinel monitor NAME …`).
    pub name: String,
    /// Who we are to the Sentinels, which is not who we are to the master.
    pub credentials: Option<Credentials>,
}

impl Watched {
    /// Where the Sentinels are.
    pub fn addresses(&self) -> impl Iterator<Item = Address> {
        self.sentinels.iter().map(|(host, port)| Address::Tcp { host: host.clone(), port: *port })
    }
}

/// `host:port,host:port/name`: the Sentinels sorted, as their order says only which one is asked first.
impl fmt::Display for Watched {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut sentinels: Vec<String> = self.addresses().map(|one| one.to_string()).collect();
        sentinels.sort_unstable();
        write!(f, "{}/{}", sentinels.join(","), self.name)
    }
}
