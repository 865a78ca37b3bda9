//! What a cutover has left behind, and cannot be seen to.

use std::fs;
use std::path::Path;

use understudy::cutover::{LeftError, left_behind, lift};
use understudy::plan::{Job, Plan};

use crate::links::block_on;
use crate::peers::{line, net, place};
use crate::runs::plan;
use crate::{names, variants};

/// A job whose folder has this list of fences.
fn left(folder: &Path, text: &str) -> Plan {
    fs::write(folder.join("fences"), text).unwrap();
    in_folder(folder)
}

fn in_folder(folder: &Path) -> Plan {
    let job = Job { folder: Some(folder.to_owned()), ..Job::default() };
    Plan { job, ..plan(vec![place("old")], place("new")) }
}

/// A list with one source that is to get a setting back.
fn listed(source: &str) -> String {
    format!(
        r#"{{"version":1,"gone":false,"fences":[{{"source":"{source}","before":{{"settings":[["min-replicas-to-write","0"]]}}}}]}}"#
    )
}

#[test]
fn every_error_of_what_was_left_behind_is_reached() {
    let folder = tempfile::tempdir().unwrap();
    let lifted = |plan: &Plan| {
        let refuses = net(|_, command| match command {
            "CONFIG" => line("-NOPERM this user may not"),
            _ => line("+OK"),
        });
        let left = left_behind(plan).unwrap().unwrap();
        block_on(lift(&refuses, plan, left)).failed.remove(0)
    };
    let name = plan(vec![place("old")], place("new")).sources[0].name.clone();
    let foreign = left_behind(&left(folder.path(), "[]")).unwrap_err();
    let stranger = lifted(&left(folder.path(), &listed("nobody")));
    let source = lifted(&left(folder.path(), &listed(&name)));
    fs::remove_file(folder.path().join("fences")).unwrap();
    fs::create_dir(folder.path().join("fences")).unwrap();
    let file = left_behind(&in_folder(folder.path())).unwrap_err();
    let reached: [LeftError; 4] = [foreign, stranger, source, file];
    assert!(reached.iter().all(|error| !error.advice().is_empty()));
    assert_eq!(names(reached), variants("LeftError"));
}
