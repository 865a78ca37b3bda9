//! Libraries of functions, which belong to a server and to none of its databases.

use std::collections::BTreeMap;

use redis::Value;

use crate::net::{Control, ControlError};

/// The name of a library of functions, which its first line tells.
pub(super) fn library(code: &[u8]) -> &[u8] {
    let line = code.split(|&byte| byte == b'\n').next().unwrap_or_default();
    let mut words = line.split(u8::is_ascii_whitespace);
    words.find_map(|word| word.strip_prefix(b"name=")).unwrap_or(line)
}

/// The code of all libraries that a server has (7.0 on), by name.
///
/// # Errors
/// If it does not tell.
pub(super) async fn libraries(
    control: &mut Control,
) -> Result<BTreeMap<Vec<u8>, Vec<u8>>, ControlError> {
    let told: Vec<Value> = control.ask("FUNCTION LIST WITHCODE", &[]).await?;
    Ok(told.iter().filter_map(code).map(|code| (library(&code).to_vec(), code)).collect())
}

/// The code of one that is listed.
fn code(listed: &Value) -> Option<Vec<u8>> {
    let is_code = |name: &Value| match name {
        Value::BulkString(name) => name == b"library_code",
        Value::SimpleString(name) => name == "library_code",
        _ => false,
    };
    let code = match listed {
        Value::Array(fields) => fields
            .chunks_exact(2)
            .find_map(|pair| pair.first().filter(|name| is_code(name)).and_then(|_| pair.get(1))),
        Value::Map(fields) => fields.iter().find(|(name, _)| is_code(name)).map(|(_, code)| code),
        _ => None,
    }?;
    match code {
        Value::BulkString(code) => Some(code.clone()),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_library_is_named_in_its_first_line() {
        assert_eq!(library(b"#!lua name=ours\nname=theirs"), b"ours");
        assert_eq!(library(b"#!js engine=v8 name=x"), b"x");
        assert_eq!(library(b"no name"), b"no name");
    }

    #[test]
    fn the_code_is_found_among_what_is_told() {
        let text = |text: &str| Value::BulkString(text.as_bytes().to_vec());
        let fields = [text("library_name"), text("f"), text("library_code"), text("#!lua name=f")];
        assert_eq!(code(&Value::Array(fields.to_vec())), Some(b"#!lua name=f".to_vec()));
        assert_eq!(code(&Value::Array(fields[..2].to_vec())), None);
        assert_eq!(code(&Value::Nil), None);
    }
}
