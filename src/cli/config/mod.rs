//! The file that `--config` names: many sources, each with its own rules.
//!
//! ```toml
//! [target]
//! url = "redis://new.example:6379"
//! [defaults]
//! exclude = ["tmp:*"]
//! [[source]]
//! url = "redis://10.0.0.{1..37}:6379"
//! password_env = "OLD_PASSWORD"
//! [limits]
//! memory = "256MiB"
//! ```
//! A key has the name of its flag, with `_`, and takes what the flag takes. A flag overrides the file, and a source the `[defaults]`.

mod section;
mod template;

use std::ffi::OsString;
use std::fs;
use std::path::Path;

use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::refusal::Refusal;
use super::rules::RuleTexts;
use super::values::Said;
use section::{File, Section};

/// What the file says.
#[derive(Debug, Default)]
pub(crate) struct Config {
    pub(crate) target: Option<Endpoint>,
    pub(crate) sources: Vec<Endpoint>,
    pub(crate) limits: Limits,
}

/// One source, or the target.
#[derive(Clone, Debug, Default)]
pub(crate) struct Endpoint {
    pub(crate) url: Option<Said<String>>,
    pub(crate) name: Option<Said<String>>,
    pub(crate) access: Access,
    pub(crate) rules: RuleTexts,
}

/// Who we are to a place, and how it is spoken to.
#[derive(Clone, Debug, Default)]
pub(crate) struct Access {
    pub(crate) password_env: Option<Said<String>>,
    pub(crate) password_file: Option<Said<String>>,
    pub(crate) ca: Option<Said<String>>,
    pub(crate) cert: Option<Said<String>>,
    pub(crate) key: Option<Said<String>>,
    pub(crate) insecure: Option<Said<bool>>,
    pub(crate) ssh: SshTexts,
}

/// The ssh host that leads to a place, and how it is logged in to.
#[derive(Clone, Debug, Default)]
pub(crate) struct SshTexts {
    pub(crate) host: Option<Said<String>>,
    pub(crate) jump: Option<Said<String>>,
    pub(crate) key: Option<Said<String>>,
    pub(crate) known_hosts: Option<Said<String>>,
    pub(crate) command: Option<Said<String>>,
}

/// What all sources share.
#[derive(Debug, Default)]
pub(crate) struct Limits {
    pub(crate) memory: Option<Said<String>>,
    pub(crate) limit_rate: Option<Said<String>>,
    pub(crate) limit_read: Option<Said<String>>,
    pub(crate) spool: Option<Said<String>>,
    pub(crate) spool_limit: Option<Said<String>>,
    pub(crate) sources_at_once: Option<Said<String>>,
    pub(crate) per_host: Option<Said<String>>,
}

const TABLES: [&str; 4] = ["target", "defaults", "source", "limits"];
const PLACE: [&str; 1] = ["url"];
const NAME: [&str; 1] = ["name"];
const ACCESS: [&str; 11] = [
    "password_env",
    "password_file",
    "ca",
    "cert",
    "key",
    "insecure",
    "ssh",
    "ssh_jump",
    "ssh_key",
    "ssh_known_hosts",
    "ssh_command",
];
const RULES: [&str; 13] = [
    "only_db",
    "db_map",
    "include",
    "exclude",
    "include_regex",
    "exclude_regex",
    "type",
    "rename",
    "prefix",
    "extend_ttl",
    "freeze_ttl",
    "min_ttl",
    "max_ttl",
];
const LIMITS: [&str; 7] =
    ["memory", "limit_rate", "limit_read", "spool", "spool_limit", "sources_at_once", "per_host"];

impl Config {
    /// Reads the file.
    ///
    /// # Errors
    /// If it cannot be read, or says what makes no sense.
    pub(crate) fn read(path: &Path) -> Result<Self, Refusal> {
        let text = fs::read_to_string(path).map_err(|error| Refusal {
            what: format!("--config: cannot read {}: {error}", path.display()),
            mend: "give the path of a TOML file that this user may read".into(),
        })?;
        Self::parse(&path.display().to_string(), &text)
    }

    fn parse(path: &str, text: &str) -> Result<Self, Refusal> {
        let file = File { path, text };
        let document = DeTable::parse(text).map_err(|error| {
            let at = error.span().map_or(0, |span| span.start);
            let what = format!("this is no TOML: {}", error.message().trim());
            file.refuse(at, &what, "texts stand in double quotes, a source under [[source]]")
        })?;
        let document = document.get_ref();
        Section::new(file, "the file", document, &TABLES)?;
        let one = |name: &str| -> Result<Option<(usize, &DeTable<'_>)>, Refusal> {
            document.get(name).map(|value| table(file, name, value)).transpose()
        };
        let mut config = Self::default();
        if let Some((at, target)) = one("target")? {
            let target = endpoint(file, "[target]", target, &[&PLACE[..], &ACCESS[..]].concat())?;
            if target.url.is_none() {
                return Err(file.refuse(
                    at,
                    "[target] has no url",
                    "add url = \"redis://host:port\"",
                ));
            }
            config.target = Some(target);
        }
        let defaults = match one("defaults")? {
            Some((_, table)) => {
                endpoint(file, "[defaults]", table, &[&ACCESS[..], &RULES[..]].concat())?
            }
            None => Endpoint::default(),
        };
        if let Some((_, limits)) = one("limits")? {
            let section = Section::new(file, "[limits]", limits, &LIMITS)?;
            config.limits = Limits {
                memory: section.text("memory")?,
                limit_rate: section.joined("limit_rate")?,
                limit_read: section.text("limit_read")?,
                spool: section.text("spool")?,
                spool_limit: section.joined("spool_limit")?,
                sources_at_once: section.joined("sources_at_once")?,
                per_host: section.joined("per_host")?,
            };
        }
        let known = [&PLACE[..], &NAME[..], &ACCESS[..], &RULES[..]].concat();
        if let Some(value) = document.get("source") {
            let DeValue::Array(all) = value.get_ref() else {
                let what = "source is one table";
                return Err(file.refuse(
                    value.span().start,
                    what,
                    "write [[source]], as there may be many",
                ));
            };
            for value in all {
                let (at, table) = table(file, "[[source]]", value)?;
                let source = endpoint(file, "[[source]]", table, &known)?;
                config.sources.extend(source.expanded(file, at)?.into_iter().map(|mut source| {
                    source.access = source.access.or(&defaults.access);
                    source.rules = source.rules.or(&defaults.rules);
                    source
                }));
            }
        }
        Ok(config)
    }
}

fn table<'a>(
    file: File<'_>,
    name: &str,
    value: &'a Spanned<DeValue<'a>>,
) -> Result<(usize, &'a DeTable<'a>), Refusal> {
    let at = value.span().start;
    let table = value.get_ref().as_table().ok_or_else(|| {
        let what = format!("{name} is {}", value.get_ref().type_str());
        file.refuse(at, &what, format!("write [{name}], and its keys in the lines below"))
    })?;
    Ok((at, table))
}

fn endpoint<'a>(
    file: File<'a>,
    name: &str,
    table: &'a DeTable<'a>,
    known: &[&str],
) -> Result<Endpoint, Refusal> {
    let section = Section::new(file, name, table, known)?;
    let endpoint = Endpoint {
        url: section.text("url")?,
        name: section.text("name")?,
        access: Access {
            password_env: section.text("password_env")?,
            password_file: section.text("password_file")?,
            ca: section.text("ca")?,
            cert: section.text("cert")?,
            key: section.text("key")?,
            insecure: section.flag("insecure")?,
            ssh: SshTexts {
                host: section.text("ssh")?,
                jump: section.text("ssh_jump")?,
                key: section.text("ssh_key")?,
                known_hosts: section.text("ssh_known_hosts")?,
                command: section.text("ssh_command")?,
            },
        },
        rules: RuleTexts {
            only_db: section.joined("only_db")?,
            db_map: section.joined("db_map")?,
            include: section
                .list("include")?
                .map(|said| said.value.into_iter().map(Into::into).collect()),
            exclude: section
                .list("exclude")?
                .map(|said| said.value.into_iter().map(Into::into).collect()),
            include_regex: section.list("include_regex")?.map(texts),
            exclude_regex: section.list("exclude_regex")?.map(texts),
            types: section.joined("type")?,
            rename: section.list("rename")?.map(texts),
            prefix: section
                .text("prefix")?
                .map(|said| Said { value: said.value.into(), at: said.at }),
            extend_ttl: section.text("extend_ttl")?,
            freeze_ttl: section.flag("freeze_ttl")?,
            min_ttl: section.text("min_ttl")?,
            max_ttl: section.text("max_ttl")?,
        },
    };
    endpoint.access.check(endpoint.url.as_ref())?;
    Ok(endpoint)
}

fn texts(said: Said<Vec<String>>) -> Said<Vec<OsString>> {
    Said { value: said.value.into_iter().map(Into::into).collect(), at: said.at }
}

impl Endpoint {
    /// All sources that one stands for.
    fn expanded(self, file: File<'_>, at: usize) -> Result<Vec<Self>, Refusal> {
        let Some(url) = &self.url else {
            let mend = "add url = \"redis://host:port\"";
            return Err(file.refuse(at, "this [[source]] has no url", mend));
        };
        let urls = each(url)?;
        let name =
            self.name.as_ref().map(|said| one_for_each(said, urls.len(), true)).transpose()?;
        let (env, path) = (&self.access.password_env, &self.access.password_file);
        let env = env.as_ref().map(|said| one_for_each(said, urls.len(), false)).transpose()?;
        let path = path.as_ref().map(|said| one_for_each(said, urls.len(), false)).transpose()?;
        let nth = |all: &Option<Vec<Said<String>>>, n: usize| {
            let all = all.as_ref()?;
            all.get(if all.len() == 1 { 0 } else { n }).cloned()
        };
        let sources = urls.into_iter().enumerate().map(|(n, url)| {
            let mut source = Self { url: Some(url), name: nth(&name, n), ..self.clone() };
            source.access.password_env = nth(&env, n);
            source.access.password_file = nth(&path, n);
            source
        });
        Ok(sources.collect())
    }
}

/// The texts that one stands for.
fn each(said: &Said<String>) -> Result<Vec<Said<String>>, Refusal> {
    let all = template::expand(&said.value).map_err(|what| Refusal {
        what: format!("{}: {what}", said.at),
        mend: "write a range such as {1..37}, or a list such as {a,b}".into(),
    })?;
    Ok(all.into_iter().map(|value| Said { value, at: said.at.clone() }).collect())
}

/// The same, of which there is one for each of so many, or one for all.
fn one_for_each(
    said: &Said<String>,
    count: usize,
    is_own: bool,
) -> Result<Vec<Said<String>>, Refusal> {
    let all = each(said)?;
    if all.len() == count || all.len() == 1 && !is_own {
        return Ok(all);
    }
    Err(Refusal {
        what: format!("{}: stands for {}, and url for {count}", said.at, all.len()),
        mend: "write the same ranges here as in url".into(),
    })
}

impl Access {
    /// What nothing would heed is a mistake, and with TLS a grave one.
    fn check(&self, url: Option<&Said<String>>) -> Result<(), Refusal> {
        let refuse = |said: &Said<String>, what: &str, mend: &'static str| {
            Err(Refusal { what: format!("{}: {what}", said.at), mend: mend.into() })
        };
        match (&self.cert, &self.key) {
            (Some(alone), None) | (None, Some(alone)) => {
                return refuse(alone, "cert and key belong together", "give both");
            }
            _ => {}
        }
        if let (Some(ca), Some(Said { value: true, .. })) = (&self.ca, &self.insecure) {
            return refuse(
                ca,
                "insecure takes any certificate, whoever has signed it",
                "leave one out",
            );
        }
        let SshTexts { host: _, jump, key, known_hosts, command } = &self.ssh;
        if let (Some(said), Some(command)) =
            (jump.as_ref().or(key.as_ref()).or(known_hosts.as_ref()), command)
            && !command.value.is_empty()
        {
            return refuse(
                said,
                "ssh_command is told too, whose program has its own keys and ways",
                "leave this out, or write it into the command (-i, -J) or into ~/.ssh/config",
            );
        }
        let is_plain = url.is_some_and(|url| {
            !["rediss:", "rediss-", "valkeys:", "valkeys-"]
                .iter()
                .any(|tls| url.value.starts_with(tls))
        });
        match [&self.ca, &self.cert].into_iter().flatten().next() {
            Some(said) if is_plain => refuse(
                said,
                "this is for TLS, which the url does not speak",
                "write rediss:// in place of redis://",
            ),
            _ => Ok(()),
        }
    }

    /// What is said here, and else what is said there.
    fn or(self, other: &Self) -> Self {
        // A password is told in one way only, a certificate has one key.
        let tells_password = self.password_env.is_some() || self.password_file.is_some();
        let (env, file) = match tells_password {
            true => (self.password_env, self.password_file),
            false => (other.password_env.clone(), other.password_file.clone()),
        };
        let (cert, key) = match self.cert.is_some() || self.key.is_some() {
            true => (self.cert, self.key),
            false => (other.cert.clone(), other.key.clone()),
        };
        Self {
            password_env: env,
            password_file: file,
            ca: self.ca.or_else(|| other.ca.clone()),
            cert,
            key,
            insecure: self.insecure.or_else(|| other.insecure.clone()),
            ssh: self.ssh.or(&other.ssh),
        }
    }
}

impl SshTexts {
    /// What is said here, and else what is said there.
    fn or(self, other: &Self) -> Self {
        // Another host has another way to it.
        let own = self.host.is_some();
        let host = self.host.or_else(|| other.host.clone());
        // A program has its own keys, and who names a key wants no program.
        if self.command.as_ref().is_some_and(|command| !command.value.is_empty()) {
            return Self { host, command: self.command, ..Self::default() };
        }
        let tells = self.jump.is_some() || self.key.is_some() || self.known_hosts.is_some();
        let command = if tells { None } else { other.command.clone() };
        Self {
            jump: if own { self.jump } else { self.jump.or_else(|| other.jump.clone()) },
            host,
            key: self.key.or_else(|| other.key.clone()),
            known_hosts: self.known_hosts.or_else(|| other.known_hosts.clone()),
            command: self.command.or(command),
        }
    }
}

#[cfg(test)]
mod tests;
