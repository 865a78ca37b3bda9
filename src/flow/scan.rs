//! The names of a server's keys, asked for page by page.

use crate::key::{Db, is_own};
use crate::net::{Control, ControlError};

/// A walk through the keys of one database.
pub(super) struct Scan<'a> {
    control: &'a mut Control,
    /// `None` behind the last page.
    cursor: Option<u64>,
}

impl<'a> Scan<'a> {
    /// Begins.
    ///
    /// # Errors
    /// If the server does not answer, or does not have this database.
    pub(super) async fn begin(control: &'a mut Control, db: Db) -> Result<Self, ControlError> {
        control.ask::<()>("SELECT", &[db.index().to_string().as_bytes()]).await?;
        Ok(Self { control, cursor: Some(0) })
    }

    /// The next names, without understudy's own; `None`: that was all. Some may come twice.
    ///
    /// # Errors
    /// If the server does not answer.
    pub(super) async fn page(&mut self) -> Result<Option<Vec<Vec<u8>>>, ControlError> {
        let Some(cursor) = self.cursor else { return Ok(None) };
        let digits = cursor.to_string();
        let (next, mut names): (u64, Vec<Vec<u8>>) =
            self.control.ask("SCAN", &[digits.as_bytes(), b"COUNT", b"1000"]).await?;
        names.retain(|name| !is_own(name));
        self.cursor = (next != 0).then_some(next);
        Ok(Some(names))
    }
}
