//! How places are reached: TLS and ssh.

use std::path::PathBuf;

use understudy::plan::{SshCommand, SshName};

use crate::cli::values;

/// How TLS is spoken with what is read.
#[derive(Debug, Default, clap::Args)]
#[command(next_help_heading = "TLS")]
pub(crate) struct FromTls {
    /// Authorities (PEM) that may have signed a source's certificate, in place of this system's
    #[arg(long, value_name = "FILE")]
    pub(crate) from_ca: Option<PathBuf>,

    /// Our certificate (PEM), for sources that ask for one
    #[arg(long, value_name = "FILE", requires = "from_key")]
    pub(crate) from_cert: Option<PathBuf>,

    /// The private key of --from-cert (PEM)
    #[arg(long, value_name = "FILE", requires = "from_cert")]
    pub(crate) from_key: Option<PathBuf>,

    /// Take any certificate of a source. Whoever stands between can read everything; the report says so
    #[arg(long, conflicts_with = "from_ca")]
    pub(crate) from_insecure: bool,
}

/// How TLS is spoken with the target.
#[derive(Debug, Default, clap::Args)]
#[command(next_help_heading = "TLS")]
pub(crate) struct ToTls {
    /// Authorities (PEM) that may have signed the target's certificate, in place of this system's
    #[arg(long, value_name = "FILE")]
    pub(crate) to_ca: Option<PathBuf>,

    /// Our certificate (PEM), for a target that asks for one
    #[arg(long, value_name = "FILE", requires = "to_key")]
    pub(crate) to_cert: Option<PathBuf>,

    /// The private key of --to-cert (PEM)
    #[arg(long, value_name = "FILE", requires = "to_cert")]
    pub(crate) to_key: Option<PathBuf>,

    /// Take any certificate of the target. Whoever stands between can read everything; the report says so
    #[arg(long, conflicts_with = "to_ca")]
    pub(crate) to_insecure: bool,
}

/// The ssh host through which is reached what is read.
#[derive(Debug, Default, clap::Args)]
#[command(next_help_heading = "SSH")]
pub(crate) struct FromSsh {
    /// Reach the sources through this ssh host: host and port of a URL are those that it sees. The user is the one who runs this unless
    /// told; the port is 22
    #[arg(long, value_name = "USER@HOST[:PORT]", value_parser = values::ssh_host)]
    pub(crate) from_ssh: Option<SshName>,
}

/// The ssh host through which the target is reached.
#[derive(Debug, Default, clap::Args)]
#[command(next_help_heading = "SSH")]
pub(crate) struct ToSsh {
    /// Reach the target through this ssh host, as --from-ssh does the sources
    #[arg(long, value_name = "USER@HOST[:PORT]", value_parser = values::ssh_host)]
    pub(crate) to_ssh: Option<SshName>,
}

/// What ssh hosts are shown, and how they are known.
#[derive(Clone, Debug, Default, clap::Args)]
#[command(next_help_heading = "SSH")]
pub(crate) struct SshArgs {
    /// The private key to log in with; its passphrase may stand in UNDERSTUDY_SSH_PASSPHRASE [default: those of the ssh agent, then
    /// ~/.ssh/id_ed25519, id_ecdsa and id_rsa]
    #[arg(long, value_name = "FILE")]
    pub(crate) ssh_key: Option<PathBuf>,

    /// Where the keys of ssh hosts are written down; a host that is not among them is refused
    /// [default: ~/.ssh/known_hosts, then /etc/ssh/ssh_known_hosts]
    #[arg(long, value_name = "FILE")]
    pub(crate) ssh_known_hosts: Option<PathBuf>,

    /// Another ssh host, through which the ssh hosts are reached
    #[arg(long, value_name = "USER@HOST[:PORT]", value_parser = values::ssh_host)]
    pub(crate) ssh_jump: Option<SshName>,

    /// Let a program make the connections, such as this system's ssh with all that ~/.ssh/config says: "ssh", or "ssh -F FILE". It is started for each
    /// with `-o BatchMode=yes -o ConnectTimeout=8 -W HOST:PORT [-p PORT] [-l USER] SSHHOST` behind it, and its stdin and stdout are the connection. A command
    /// with {host} in it gets nothing behind it: {host} and {port} are the server's, {gate} is [user@]host of the ssh host and {gate_port} its port. Quotes and
    /// backslashes as in a shell, which is not asked
    #[arg(
        long,
        value_name = "COMMAND",
        value_parser = values::ssh_command,
        conflicts_with_all = ["ssh_key", "ssh_known_hosts", "ssh_jump"]
    )]
    pub(crate) ssh_command: Option<SshCommand>,
}

/// How both sides are reached, for commands that read both.
#[derive(Debug, Default, clap::Args)]
pub(crate) struct Access {
    #[command(flatten)]
    pub(crate) from_tls: FromTls,

    #[command(flatten)]
    pub(crate) to_tls: ToTls,

    #[command(flatten)]
    pub(crate) from_ssh: FromSsh,

    #[command(flatten)]
    pub(crate) to_ssh: ToSsh,

    #[command(flatten)]
    pub(crate) ssh: SshArgs,
}
