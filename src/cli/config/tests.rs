use super::*;

fn parse(text: &str) -> Result<Config, Refusal> {
    Config::parse("night.toml", text)
}

fn refused(text: &str) -> (String, String) {
    let refusal = parse(text).unwrap_err();
    (refusal.what, refusal.mend.into_owned())
}

fn value<T: Clone>(said: &Option<Said<T>>) -> Option<T> {
    said.as_ref().map(|said| said.value.clone())
}

#[test]
fn a_source_overrides_the_defaults() {
    let config = parse(
        r#"
        [target]
        url = "rediss://new:6379"
        ca = "ca.pem"
        [defaults]
        exclude = ["tmp:*", "lock:*"]
        only_db = [0, 3]
        password_env = "OLD"
        [[source]]
        url = "redis://a:6379"
        [[source]]
        url = "redis://b:6379"
        name = "orders"
        only_db = 1
        exclude = []
        password_file = "/run/secret"
        [limits]
        memory = "64MiB"
        limit_rate = 50000
        "#,
    )
    .unwrap();
    let [first, second] = config.sources.as_slice() else { panic!("{:?}", config.sources) };
    assert_eq!(value(&first.rules.only_db).as_deref(), Some("0,3"));
    assert_eq!(first.rules.exclude.as_ref().map(Vec::len), Some(2));
    assert_eq!(value(&first.access.password_env).as_deref(), Some("OLD"));
    assert_eq!(value(&second.rules.only_db).as_deref(), Some("1"));
    assert_eq!(second.rules.exclude.as_ref().map(Vec::len), Some(0));
    assert_eq!(value(&second.access.password_env), None, "a password is told in one way");
    assert_eq!(value(&second.name).as_deref(), Some("orders"));
    assert_eq!(value(&config.limits.limit_rate).as_deref(), Some("50000"));
    let target = config.target.unwrap();
    assert_eq!(target.access.ca.unwrap().at, "night.toml:4:14: ca");
}

#[test]
fn one_source_stands_for_many() {
    let config = parse(
        r#"
        [[source]]
        url = "redis://10.0.0.{1..37}:6379"
        name = "shard-{01..37}"
        password_env = "PASSWORD_{1..37}"
        "#,
    )
    .unwrap();
    assert_eq!(config.sources.len(), 37);
    let last = config.sources.last().unwrap();
    assert_eq!(value(&last.url).as_deref(), Some("redis://10.0.0.37:6379"));
    assert_eq!(value(&last.name).as_deref(), Some("shard-37"));
    assert_eq!(value(&last.access.password_env).as_deref(), Some("PASSWORD_37"));
    let (what, mend) = refused("[[source]]\nurl = \"redis://h{1..3}\"\nname = \"h\"");
    assert_eq!(what, "night.toml:3:8: name: stands for 1, and url for 3");
    assert_eq!(mend, "write the same ranges here as in url");
}

#[test]
fn what_makes_no_sense_is_told_with_its_place() {
    let cases = [
        (
            "[[source]]\nulr = \"x\"",
            "night.toml:2:1: unknown key ulr in [[source]]",
            "write url, if that is meant",
        ),
        (
            "[limits]\nmax-memory = 1",
            "night.toml:2:1: unknown key max-memory in [limits]",
            "what may stand here: memory",
        ),
        ("[sources]", "night.toml:1:2: unknown key sources in the file", "write source, if"),
        ("[[source]]\nname = \"a\"", "night.toml:1:1: this [[source]] has no url", "add url"),
        ("[target]\nca = \"x\"", "night.toml:1:1: [target] has no url", "add url"),
        ("[source]\nurl = \"x\"", "night.toml:1:1: source is one table", "write [[source]]"),
        ("target = 1", "night.toml:1:10: target is integer", "write [target]"),
        ("[[source]]\nurl = 5", "night.toml:2:7: url is integer", "write a text in double quotes"),
        (
            "[[source]]\nurl = \"redis://h\"\ntype = [true]",
            "night.toml:3:8: type is array",
            "write a text, or a list",
        ),
        (
            "[[source]]\nurl = \"rediss://h\"\ninsecure = \"yes\"",
            "night.toml:3:12: insecure is string",
            "write true or false",
        ),
        (
            "[[source]]\nurl = \"rediss://h\"\ncert = \"c\"",
            "night.toml:3:8: cert: cert and key belong together",
            "give both",
        ),
        (
            "[[source]]\nurl = \"redis://h\"\nca = \"c\"",
            "night.toml:3:6: ca: this is for TLS",
            "write rediss://",
        ),
        (
            "[[source]]\nurl = \"rediss://h\"\nca = \"c\"\ninsecure = true",
            "night.toml:3:6: ca: insecure takes any",
            "leave one out",
        ),
        (
            "[[source]]\nurl = \"redis://h{5..1}\"",
            "night.toml:2:7: url: {5..1} goes down",
            "write a range",
        ),
        (
            "[[source]]\nurl = redis",
            "night.toml:2:7: this is no TOML",
            "texts stand in double quotes",
        ),
    ];
    for (text, wanted, mend) in cases {
        let said = refused(text);
        assert!(said.0.starts_with(wanted), "{text:?}: {said:?}");
        assert!(said.1.starts_with(mend), "{text:?}: {said:?}");
    }
}

#[test]
fn another_ssh_host_has_another_way_to_it() {
    let config = parse(
        r#"
        [defaults]
        ssh = "ada@gate"
        ssh_jump = "outer"
        ssh_key = "key"
        [[source]]
        url = "redis://a"
        [[source]]
        url = "redis://b"
        ssh = "ada@other"
        [[source]]
        url = "redis://c"
        ssh = ""
        "#,
    )
    .unwrap();
    let texts = config.sources.iter().map(|source| {
        let ssh = &source.access.ssh;
        [value(&ssh.host), value(&ssh.jump), value(&ssh.key)].map(Option::unwrap_or_default)
    });
    let texts: Vec<[String; 3]> = texts.collect();
    assert_eq!(texts, [["ada@gate", "outer", "key"], ["ada@other", "", "key"], ["", "", "key"]]);
}

#[test]
fn a_program_has_its_own_keys_and_who_names_a_key_wants_no_program() {
    let config = parse(
        r#"
        [defaults]
        ssh = "gate"
        ssh_command = "ssh -F cfg"
        [[source]]
        url = "redis://a"
        [[source]]
        url = "redis://b"
        ssh_key = "key"
        [[source]]
        url = "redis://c"
        ssh_command = ""
        [[source]]
        url = "redis://d"
        ssh_command = "other"
        "#,
    )
    .unwrap();
    let texts = config.sources.iter().map(|source| {
        let ssh = &source.access.ssh;
        [value(&ssh.host), value(&ssh.command), value(&ssh.key)].map(Option::unwrap_or_default)
    });
    let texts: Vec<[String; 3]> = texts.collect();
    let wanted =
        [["gate", "ssh -F cfg", ""], ["gate", "", "key"], ["gate", "", ""], ["gate", "other", ""]];
    assert_eq!(texts, wanted);
    let both = "[[source]]\nurl = \"redis://a\"\nssh_command = \"ssh\"\nssh_jump = \"outer\"";
    let said = refused(both);
    assert!(said.0.contains(": ssh_command is told too"), "{said:?}");
}
