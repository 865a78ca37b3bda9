//! What a source holds that its target cannot take, or that is hard to bring.

use std::path::Path;
use std::process::Command;

use crate::client::cmd;
use crate::servers::{Server, skip};

use super::{SERVER, check, check_pair};

#[test]
fn types_that_the_target_does_not_have() {
    let (Some(source), Some(old)) = (Server::start(SERVER), Server::start("redis-3.2.6")) else {
        return;
    };
    let mut client = source.client();
    client.call(cmd!("XADD", "stream", "1-1", "f", "v"));
    let found = check_pair(&source, &old);
    found
        .has(
            "blocks",
            "types",
            &["Redis 3.2.6 has no streams, and 1 were seen here (1 of 1 keys were looked at)"],
        )
        .has("note", "version", &["Redis 7.0.15 writes RDB 10", "reads RDB 7"]);
    client.call(cmd!("DEL", "stream"));
    check_pair(&source, &old).has("warning", "types", &["XADD was called 1 times", "--census"]);
    let found = check(&[&source.url()], &old.url(), &["--type", "string,hash"]);
    found.lacks("types");
    let Some(five) = Server::start("redis-5.0.6") else { return };
    client.call(cmd!("XADD", "stream", "1-1", "f", "v"));
    check_pair(&source, &five).lacks("types");
}

#[test]
fn deadlines_of_fields_and_vector_sets() {
    for (from, to, takes) in [
        ("redis-8.0.6", SERVER, false),
        ("redis-8.0.6", "redict-7.3.6", false),
        ("redis-8.0.6", "valkey-8.1.1", false),
        ("redis-8.0.6", "valkey-9.1.2", true),
        ("valkey-9.1.2", "redis-8.0.6", true),
        ("valkey-9.1.2", "valkey-8.1.1", false),
    ] {
        let (Some(source), Some(target)) = (Server::start(from), Server::start(to)) else { return };
        let mut client = source.client();
        client.call(cmd!("HSET", "hash", "field", "value"));
        check_pair(&source, &target).lacks("types");
        client.call(cmd!("HEXPIRE", "hash", 1000, "FIELDS", 1, "field"));
        let found = check_pair(&source, &target);
        match takes {
            true => found.lacks("types"),
            false => found.has(
                "blocks",
                "types",
                &["has no deadlines of hash fields, and 1 hashes here"],
            ),
        };
        client.call(cmd!("DEL", "hash"));
        if from == "redis-8.0.6" {
            client.call(cmd!("VADD", "vectors", "VALUES", 2, "1", "2", "element"));
            check_pair(&source, &target).has(
                "blocks",
                "types",
                &["has no vector sets, and 1 were seen"],
            );
        }
    }
}

#[test]
fn functions_that_the_target_does_not_have() {
    let Some(source) = Server::start(SERVER) else { return };
    let code = "#!lua name=l\nredis.register_function('f',function() return 1 end)";
    source.client().call(cmd!("FUNCTION", "LOAD", code));
    for (name, takes) in [("redis-6.2.14", false), (SERVER, true), ("valkey-9.1.2", true)] {
        let Some(target) = Server::start(name) else { return };
        let found = check_pair(&source, &target);
        match takes {
            true => found.lacks("functions"),
            false => found.has(
                "blocks",
                "functions",
                &["has no functions, and 1 libraries", "FUNCTION DELETE"],
            ),
        };
    }
}

/// A module with a type and a command that makes a value of it.
const MODULE: &str = r#"
typedef int (*get_api)(const char *, void *);
static int (*set_attributes)(void *, const char *, int, int);
static void *(*create_type)(void *, const char *, int, void *);
static int (*create_command)(void *, const char *, void *, const char *, int, int, int);
static void *(*open_key)(void *, void *, int);
static int (*set_value)(void *, void *, void *);
static void (*close_key)(void *);
static int (*reply)(void *, long long);
static void *type;
static char value;
static void *load(void *io, int version) { return &value; }
static void save(void *io, void *value) {}
static void rewrite(void *io, void *key, void *value) {}
static void drop(void *value) {}
struct methods { unsigned long version; void *load, *save, *rewrite, *usage, *digest, *drop; };
static int set(void *ctx, void **argv, int argc) {
    void *key = open_key(ctx, argv[1], 3);
    set_value(key, type, &value);
    close_key(key);
    return reply(ctx, 1);
}
int RedisModule_OnLoad(void *ctx, void **argv, int argc) {
    get_api api = (get_api)((void **)ctx)[0];
    api("RedisModule_SetModuleAttribs", &set_attributes);
    api("RedisModule_CreateDataType", &create_type);
    api("RedisModule_CreateCommand", &create_command);
    api("RedisModule_OpenKey", &open_key);
    api("RedisModule_ModuleTypeSetValue", &set_value);
    api("RedisModule_CloseKey", &close_key);
    api("RedisModule_ReplyWithLongLong", &reply);
    set_attributes(ctx, "toys", VERSION, 1);
    static struct methods methods;
    methods.version = 1;
    methods.load = load; methods.save = save; methods.rewrite = rewrite; methods.drop = drop;
    type = create_type(ctx, "toys-type", 0, &methods);
    return create_command(ctx, "toys.set", set, "write", 1, 1, 1);
}
"#;

#[test]
fn modules_that_the_target_does_not_have() {
    let folder = tempfile::tempdir().unwrap();
    let (code, module) = (folder.path().join("toys.c"), folder.path().join("toys.so"));
    std::fs::write(&code, MODULE).unwrap();
    let older = folder.path().join("older.so");
    for (made, flags) in [(&module, "-DVERSION=7"), (&older, "-DVERSION=6")] {
        let flags = ["-shared", "-fPIC", "-nostdlib", flags, "-o"];
        let built = Command::new("cc").args(flags).arg(made).arg(&code).status();
        if !built.is_ok_and(|status| status.success()) {
            return skip("no C compiler");
        }
    }
    let start =
        |module: &Path| Server::start_with(SERVER, &["--loadmodule", module.to_str().unwrap()]);
    let (Some(source), Some(other), Some(older), Some(plain)) =
        (start(&module), start(&module), start(&older), Server::start(SERVER))
    else {
        return;
    };
    check_pair(&source, &plain).has(
        "warning",
        "modules",
        &["the target does not have: toys 7", "none of their values was seen"],
    );
    source.client().call(cmd!("toys.set", "toy"));
    check_pair(&source, &plain).has(
        "blocks",
        "modules",
        &["it has modules (toys 7), and the target has none", "1 toys-type", "loadmodule"],
    );
    check_pair(&source, &other).lacks("modules");
    check_pair(&other, &older).has("warning", "modules", &["toys is 7 here and 6 there"]);
    check(&[&source.url()], &plain.url(), &["--type", "string"]).lacks("modules");
}

#[test]
fn values_that_are_large() {
    for name in ["redis-2.8.17", "redis-3.2.6", SERVER, "valkey-9.1.2"] {
        let (Some(source), Some(target)) = (Server::start(name), Server::start(name)) else {
            return;
        };
        let mut client = source.client();
        client.call(cmd!("SETRANGE", "la rge", 70 << 20, "x"));
        client.call(cmd!("RPUSH", "list", "a"));
        let found = check_pair(&source, &target);
        found.has(
            "warning",
            "big-key",
            &["db 0, \\\"la rge\\\": a string of ", "MiB; 2 of 2 keys were looked at", "--census"],
        );
        client.call(cmd!("DEL", "la rge"));
        check_pair(&source, &target).lacks("big-key");
    }
}

/// Of many keys some are looked at, and it is said how many.
#[test]
fn a_sample_of_many_keys() {
    let (Some(source), Some(target)) = (Server::start(SERVER), Server::start(SERVER)) else {
        return;
    };
    let mut client = source.client();
    let keys: Vec<_> = (0..20_000).map(|n| cmd!("SET", format!("key:{n}"), n)).collect();
    client.pipeline(&keys);
    client.select(3);
    client.call(cmd!("RPUSH", "list", "a"));
    client.call(cmd!("XADD", "stream", "1-1", "f", "v"));
    let found = check_pair(&source, &target);
    let place = &found.json["places"][0];
    let looked = place["keys_looked_at"].as_u64().unwrap();
    assert!((900..1100).contains(&looked), "{place}");
    // A small database beside a large one is not passed over.
    assert_eq!(
        (&place["types_looked_at"]["list"], &place["types_looked_at"]["stream"]),
        (&1.into(), &1.into()),
        "{place}"
    );
}

#[test]
fn strings_that_are_too_long() {
    let (Some(source), Some(target)) = (Server::start(SERVER), Server::start(SERVER)) else {
        return;
    };
    target.client().call(cmd!("CONFIG", "SET", "proto-max-bulk-len", 2 << 20));
    check_pair(&source, &target).has(
        "warning",
        "bulk-length",
        &["takes strings of 2 MiB", "takes longer ones"],
    );
    source.client().call(cmd!("SETRANGE", "long", 3 << 20, "x"));
    let found = check_pair(&source, &target);
    found.has(
        "blocks",
        "bulk-length",
        &["2 MiB (proto-max-bulk-len)", "holds one of 3 MiB", "CONFIG SET proto-max-bulk-len"],
    );
}

#[test]
fn scripts_that_were_run() {
    for (name, severity, words) in [
        ("redis-3.2.6", "warning", ["scripts were run 2 times", "understudy verify"]),
        (SERVER, "note", ["1 scripts are in its cache", "SCRIPT LOAD"]),
    ] {
        let (Some(source), Some(target)) = (Server::start(name), Server::start(SERVER)) else {
            return;
        };
        let mut client = source.client();
        client.call(cmd!("EVAL", "return 1", 0));
        client.call(cmd!("EVAL", "return 1", 0));
        check_pair(&source, &target).has(severity, "scripts", &words);
    }
}
