//! What a store promises, on SQLite and on a real PostgreSQL.

#![expect(clippy::unwrap_used, reason = "these are tests, also outside of #[test] functions")]

use std::sync::atomic::{AtomicBool, Ordering};

use futures::future::{join_all, try_join_all};
use secrecy::SecretString;
use sql::{Connection, Error, Result, Row, Server, Source, Store, values};
use tempfile::TempDir;

const TABLE: &str =
    "CREATE TABLE t (id INTEGER PRIMARY KEY, k INTEGER UNIQUE, r REAL, v TEXT, b BLOB) STRICT";
const BREAKING: &str = "-- breaking: v is gone\nALTER TABLE t DROP COLUMN v";
const LATER: &str = "ALTER TABLE t ADD COLUMN later TEXT NOT NULL DEFAULT 'y'";
const MORE: &str = "ALTER TABLE t ADD COLUMN more TEXT NOT NULL DEFAULT 'x'";

fn postgres(url: String) -> Source {
    let server = Server { url: SecretString::from(url), ca: None, connections: 8 };
    Source::Postgres { server, schema: "firstline_test".to_owned() }
}

fn sources() -> (TempDir, [Source; 2]) {
    let dir = tempfile::tempdir().unwrap();
    let file = Source::File(dir.path().join("s.db"));
    (dir, [file, postgres(scratch::database())])
}

async fn insert(store: &Store, key: i64) -> Result<()> {
    let insert = move |connection: &mut Connection<'_>| {
        connection.execute("INSERT INTO t (k, v) VALUES ($1, 'x')", values![key]).map(|_| ())
    };
    store.write(insert).await
}

async fn count(store: &Store) -> i64 {
    let count =
        |connection: &mut Connection<'_>| connection.first("SELECT count(*) FROM t", &[], |row| row.get(0));
    store.read(count).await.unwrap().unwrap()
}

#[tokio::test]
async fn a_failing_write_is_undone_alone_and_the_others_are_kept() {
    let (_dir, sources) = sources();
    for source in sources {
        let store = Store::open(source, &[TABLE]).await.unwrap();
        let writes = join_all((0..100).map(|i| insert(&store, i % 50))).await;
        assert_eq!(writes.iter().filter(|write| write.is_ok()).count(), 50);
        let lost = store.write(|connection| {
            connection.execute("DELETE FROM t", &[])?;
            Err::<(), _>(Error::Lost)
        });
        assert!(matches!(lost.await, Err(Error::Lost)));
        assert_eq!(count(&store).await, 50);
    }
}

#[tokio::test]
async fn values_come_back_as_they_went_in() {
    let (_dir, sources) = sources();
    for source in sources {
        let shared = matches!(source, Source::Postgres { .. });
        let store = Store::open(source, &[TABLE]).await.unwrap();
        let write = |connection: &mut Connection<'_>| {
            let insert = "INSERT INTO t (v, k, b, r) VALUES ($2, $1, $4, $3)";
            connection.execute(insert, values![i64::MIN, "né\u{1F600}", 0.1, &[0_u8, 255]])?;
            connection.execute(insert, values![None::<i64>, "a\0b", None::<f64>, None::<&[u8]>])
        };
        store.write(write).await.unwrap();
        type Found = (Option<i64>, String, Option<f64>, Option<Vec<u8>>);
        let read = |row: &Row<'_>| Ok((row.get("k")?, row.get(1)?, row.get("r")?, row.get(3)?));
        let rows = store.read(move |connection| {
            connection.query(
                "SELECT k, v, r, b FROM t WHERE v <> $1 AND v <> $1 ORDER BY id",
                values![""],
                read,
            )
        });
        let rows: Vec<Found> = rows.await.unwrap();
        let zero = if shared { "a\u{fffd}b" } else { "a\0b" };
        let first = (Some(i64::MIN), "né\u{1F600}".to_owned(), Some(0.1), Some(vec![0, 255]));
        assert_eq!(rows, [first, (None, zero.to_owned(), None, None)]);
        let wrong =
            store.read(|connection| connection.first("SELECT v FROM t", &[], |row| row.get::<i64, _>(0)));
        assert!(matches!(wrong.await, Err(Error::Malformed(column)) if column == "0"));
    }
}

#[tokio::test]
async fn what_a_write_has_looked_at_under_a_lock_is_still_so_when_it_writes() {
    let (_dir, sources) = sources();
    for source in sources {
        let store = Store::open(source, &[TABLE]).await.unwrap();
        insert(&store, 0).await.unwrap();
        let add = |connection: &mut Connection<'_>| {
            connection.lock("counter")?;
            let value = connection.first("SELECT k FROM t", &[], |row| row.get::<i64, _>(0))?;
            connection.execute("UPDATE t SET k = $1", values![value.unwrap_or(0) + 1])
        };
        try_join_all((0..40).map(|_| store.write(add))).await.unwrap();
        let value =
            store.read(|connection| connection.first("SELECT k FROM t", &[], |row| row.get::<i64, _>(0)));
        assert_eq!(value.await.unwrap(), Some(40));
    }
}

#[tokio::test]
async fn tables_are_changed_once_and_those_of_a_later_version_refused() {
    let (_dir, sources) = sources();
    for source in sources {
        insert(&Store::open(source.clone(), &[TABLE]).await.unwrap(), 1).await.unwrap();
        let open = || Store::open(source.clone(), &[TABLE, MORE]);
        let many = if matches!(source, Source::Postgres { .. }) { 5 } else { 1 };
        let stores = try_join_all((0..many).map(|_| open())).await.unwrap();
        let more = "SELECT more FROM t";
        let more =
            stores[0].read(move |connection| connection.first(more, &[], |row| row.get::<String, _>(0)));
        assert_eq!(more.await.unwrap().as_deref(), Some("x"));
        drop(stores);
        let earlier = Store::open(source.clone(), &[TABLE]).await;
        if many == 1 {
            assert!(earlier.unwrap_err().to_string().contains("was written by another version of Firstline"));
            continue;
        }
        // What only adds is no reason: an earlier version starts too, and works, while a later one is rolled out.
        insert(&earlier.unwrap(), 2).await.unwrap();
        drop(Store::open(source.clone(), &[TABLE, MORE, BREAKING]).await.unwrap());
        let earlier = Store::open(source.clone(), &[TABLE, MORE]).await.unwrap_err().to_string();
        assert!(earlier.contains("was written by another version of Firstline"), "{earlier}");
        Store::open(source, &[TABLE, MORE, BREAKING, LATER]).await.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_is_killed_and_comes_back_costs_time_and_nothing_else() {
    let mut server = scratch::Postgres::start();
    let url = server.database();
    let store = Store::open(postgres(url), &[TABLE]).await.unwrap();
    let ended = AtomicBool::new(false);
    let faults = async {
        let killed = tokio::task::spawn_blocking(move || {
            for _ in 0..3 {
                server.kill();
                server.restart();
            }
            server
        });
        let server = killed.await.unwrap();
        ended.store(true, Ordering::Relaxed);
        server
    };
    // A write that met its own earlier commit would fail on the unique key, so it says that it does not mind.
    let write = |key: i64| {
        store.write(move |connection| {
            connection.execute("INSERT INTO t (k) VALUES ($1) ON CONFLICT (k) DO NOTHING", values![key])
        })
    };
    let load = async {
        let mut written = 0;
        while !ended.load(Ordering::Relaxed) || written < 100 {
            try_join_all((written..written + 10).map(write)).await.unwrap();
            written += 10;
        }
        written
    };
    let (_server, written) = tokio::join!(faults, load);
    assert_eq!(count(&store).await, written);
}
