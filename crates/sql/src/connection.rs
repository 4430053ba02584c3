//! A connection as reads and writes see it, whichever database is behind it.

use std::fmt::Display;
use std::time::{SystemTime, UNIX_EPOCH};

use crate::postgresql::Session;
use crate::{Error, FromValue, Result, Value};

/// A connection. Statements name their values `$1`, `$2`, ... and use what both databases understand.
#[derive(Debug)]
pub struct Connection<'c>(Inner<'c>);

#[derive(Debug)]
enum Inner<'c> {
    Sqlite(&'c rusqlite::Connection),
    Postgres(&'c mut Session),
}

impl<'c> From<&'c rusqlite::Connection> for Connection<'c> {
    fn from(connection: &'c rusqlite::Connection) -> Self {
        Self(Inner::Sqlite(connection))
    }
}

impl<'c> From<&'c mut Session> for Connection<'c> {
    fn from(session: &'c mut Session) -> Self {
        Self(Inner::Postgres(session))
    }
}

impl Connection<'_> {
    /// Runs a statement and returns the number of rows it changed.
    ///
    /// # Errors
    /// The database's.
    pub fn execute(&mut self, statement: &str, values: &[Value<'_>]) -> Result<u64> {
        match &mut self.0 {
            Inner::Sqlite(connection) => {
                let mut statement = connection.prepare_cached(statement)?;
                bind(&mut statement, values)?;
                Ok(statement.raw_execute()? as u64)
            }
            Inner::Postgres(session) => session.execute(statement, values),
        }
    }

    /// Runs a query and reads every row.
    ///
    /// # Errors
    /// The database's, or that of `read`.
    pub fn query<T>(
        &mut self,
        statement: &str,
        values: &[Value<'_>],
        mut read: impl FnMut(&Row<'_>) -> Result<T>,
    ) -> Result<Vec<T>> {
        match &mut self.0 {
            Inner::Sqlite(connection) => {
                let mut statement = connection.prepare_cached(statement)?;
                bind(&mut statement, values)?;
                let (mut rows, mut found) = (statement.raw_query(), Vec::new());
                while let Some(row) = rows.next()? {
                    found.push(read(&Row(Cells::Sqlite(row)))?);
                }
                Ok(found)
            }
            Inner::Postgres(session) => {
                let rows = session.query(statement, values)?;
                rows.iter().map(|row| read(&Row(Cells::Postgres(row)))).collect()
            }
        }
    }

    /// Runs a query for one row at most.
    ///
    /// # Errors
    /// The database's, or that of `read`.
    pub fn first<T>(
        &mut self,
        statement: &str,
        values: &[Value<'_>],
        read: impl FnMut(&Row<'_>) -> Result<T>,
    ) -> Result<Option<T>> {
        Ok(self.query(statement, values, read)?.into_iter().next())
    }

    /// Waits until no other write holds this name, and holds it until the write ends. The only writer of SQLite
    /// has nobody to wait for. A write that needs several names takes them in one order everywhere.
    ///
    /// # Errors
    /// The database's.
    pub fn lock(&mut self, name: &str) -> Result<()> {
        let Inner::Postgres(session) = &mut self.0 else { return Ok(()) };
        let lock = "SELECT 1 FROM pg_advisory_xact_lock(hashtextextended($1, 0))";
        session.query(lock, &[Value::Text(name)]).map(|_| ())
    }

    /// The time that all processes of the store agree on, in microseconds since the Unix epoch: the server's, or
    /// that of this machine where there is one process.
    ///
    /// # Errors
    /// The database's.
    pub fn now(&mut self) -> Result<i64> {
        if let Inner::Sqlite(_) = self.0 {
            let passed = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
            return Ok(i64::try_from(passed.as_micros()).unwrap_or(i64::MAX));
        }
        let now = "SELECT (extract(epoch FROM clock_timestamp()) * 1000000)::bigint";
        self.first(now, &[], |row| row.get(0))?.ok_or(Error::Closed)
    }
}

/// Gives `$n` its value. SQLite numbers them by their first place in the statement.
fn bind(statement: &mut rusqlite::Statement<'_>, values: &[Value<'_>]) -> Result<()> {
    for index in 1..=statement.parameter_count() {
        let number =
            statement.parameter_name(index).and_then(|name| name.strip_prefix('$')?.parse::<usize>().ok());
        let value = number.and_then(|number| values.get(number.checked_sub(1)?)).copied();
        statement.raw_bind_parameter(
            index,
            value.ok_or(rusqlite::Error::InvalidParameterCount(index, values.len()))?,
        )?;
    }
    Ok(())
}

/// A row of a query.
#[derive(Debug)]
pub struct Row<'r>(Cells<'r>);

#[derive(Debug)]
enum Cells<'r> {
    Sqlite(&'r rusqlite::Row<'r>),
    Postgres(&'r postgres::Row),
}

impl Row<'_> {
    /// A column by its place or its name.
    ///
    /// # Errors
    /// There is no such column, or it holds something else.
    pub fn get<'a, T, I>(&'a self, column: I) -> Result<T>
    where
        T: FromValue<'a>,
        I: rusqlite::RowIndex + postgres::row::RowIndex + Display + Copy,
    {
        let value = match self.0 {
            Cells::Sqlite(row) => Value::of_sqlite(row.get_ref(column)?),
            Cells::Postgres(row) => Some(row.try_get(column)?),
        };
        value.and_then(T::from_value).ok_or_else(|| Error::Malformed(column.to_string()))
    }
}
