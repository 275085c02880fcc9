//! Lists as the engine gives them: cursors, revisions, bounds, and what ends them.

use std::time::{Duration, Instant};

use portcullis::engine::{Engine, EngineError, EngineOptions, ListQuestion, ListRequest, ListRow};
use portcullis::eval::{CheckError, Decision};
use portcullis::revision::Consistency::{self, Exactly, Full, Newest};
use portcullis::revision::Token;

use crate::world::{TestClock, did, open, open_with, schema, store, write};

fn resources(subject: &str, permission: &str, kind: &str) -> ListQuestion {
    ListQuestion::Resources {
        subject: subject.parse().unwrap(),
        permission: permission.to_owned(),
        kind: kind.to_owned(),
        within: None,
    }
}

fn subjects(kind: &str, permission: &str, resource: &str) -> ListQuestion {
    ListQuestion::Subjects {
        resource: resource.parse().unwrap(),
        permission: permission.to_owned(),
        kind: kind.to_owned(),
        relation: None,
    }
}

async fn list(
    engine: &Engine,
    question: ListQuestion,
    at: Consistency,
    limit: u32,
    cursor: Option<&str>,
) -> Result<(Vec<ListRow>, Token), EngineError> {
    let request = ListRequest {
        at,
        limit,
        cursor: cursor.map(str::to_owned),
        ..ListRequest::of(question)
    };
    let mut rows = engine.list(request, None).await?;
    let mut all = Vec::new();
    while let Some(chunk) = rows.next().await {
        all.extend(chunk?);
    }
    Ok((all, rows.token()))
}

fn items(rows: &[ListRow]) -> Vec<&str> {
    rows.iter().map(|row| row.item.as_str()).collect()
}

/// `count` documents that user:u may view.
async fn documents(engine: &Engine, count: usize) {
    for first in (0..count).step_by(1_000) {
        let texts: Vec<_> = (first..count.min(first + 1_000))
            .map(|at| format!("+doc:d{at}#viewer@user:u"))
            .collect();
        let parts: Vec<_> = texts.iter().map(String::as_str).collect();
        did(engine, &parts).await;
    }
}

#[tokio::test]
async fn every_hundredth_row_has_a_cursor_and_the_last() {
    let engine = open(&store(), &TestClock::at(0)).await;
    documents(&engine, 1_050).await;
    let question = || resources("user:u", "view", "doc");
    let (rows, token) = list(&engine, question(), Newest, 0, None).await.unwrap();
    assert_eq!((rows.len(), token), (1_050, engine.status().token));
    for (number, row) in (1..).zip(&rows) {
        assert_eq!(row.decision, Decision::Allowed);
        if number % 100 == 0 || number == rows.len() {
            assert!(row.cursor.is_some(), "row {number}");
        }
    }
    let with = rows.iter().filter(|row| row.cursor.is_some()).count();
    assert!(with < 100, "{with} rows have a cursor");

    let mut paged = Vec::new();
    let mut cursor: Option<String> = None;
    // What lands in between changes nothing: a cursor stays at its revision.
    for turn in 0.. {
        let page = list(&engine, question(), Newest, 97, cursor.as_deref());
        let (page, at) = page.await.unwrap();
        assert_eq!(at, token);
        let Some(last) = page.last() else { break };
        assert!(page.len() == 97 || paged.len() + page.len() == 1_050);
        cursor.clone_from(&last.cursor);
        paged.extend(page);
        did(
            &engine,
            &[
                &format!("-doc:d{turn}#viewer@user:u"),
                "+doc:new#viewer@user:u",
            ],
        )
        .await;
    }
    assert_eq!(items(&paged), items(&rows));
}

#[tokio::test]
async fn a_cursor_belongs_to_its_request() {
    let engine = open(&store(), &TestClock::at(0)).await;
    documents(&engine, 3).await;
    let page = list(&engine, resources("user:u", "view", "doc"), Newest, 1, None).await;
    let cursor = page.unwrap().0[0].cursor.clone().unwrap();
    for other in [
        resources("user:u", "viewer", "doc"),
        resources("user:v", "view", "doc"),
        subjects("user", "view", "doc:d1"),
    ] {
        let error = list(&engine, other, Newest, 0, Some(&cursor))
            .await
            .unwrap_err();
        assert!(
            matches!(error, EngineError::MalformedCursor { .. }),
            "{error}"
        );
    }
    let error = list(
        &engine,
        resources("user:u", "view", "doc"),
        Newest,
        0,
        Some("nonsense"),
    );
    let error = error.await.unwrap_err();
    assert!(
        matches!(error, EngineError::MalformedCursor { .. }),
        "{error}"
    );
}

#[tokio::test]
async fn a_cursor_whose_state_is_gone_can_begin_anew_where_it_is() {
    let clock = TestClock::at(0);
    let engine = open(&store(), &clock).await;
    documents(&engine, 10).await;
    let question = || resources("user:u", "view", "doc");
    let (all, old) = list(&engine, question(), Newest, 0, None).await.unwrap();
    let (page, _) = list(&engine, question(), Newest, 4, None).await.unwrap();
    let cursor = page[3].cursor.as_deref();
    for second in 1..140 {
        clock.set(second);
        did(&engine, &[&format!("+doc:x{second}#viewer@user:v")]).await;
    }
    let trimmed = list(&engine, question(), Newest, 0, cursor)
        .await
        .unwrap_err();
    assert!(
        matches!(trimmed, EngineError::RevisionTrimmed { .. }),
        "{trimmed}"
    );
    let trimmed = list(&engine, question(), Exactly(old), 0, None)
        .await
        .unwrap_err();
    assert!(
        matches!(trimmed, EngineError::RevisionTrimmed { .. }),
        "{trimmed}"
    );
    let (rest, token) = list(&engine, question(), Full, 0, cursor).await.unwrap();
    assert_eq!(token, engine.status().token);
    assert_eq!([items(&page), items(&rest)].concat(), items(&all));
}

#[tokio::test]
async fn what_is_wrong_is_said_before_the_first_row() {
    let engine = open(&store(), &TestClock::at(0)).await;
    let refused = async |question| match list(&engine, question, Newest, 0, None).await {
        Err(EngineError::Check(error)) => error.to_string(),
        other => panic!("{other:?}"),
    };
    let check = async |question, part: &str| {
        let said: String = refused(question).await;
        assert!(said.contains(part), "{said}");
    };
    check(resources("user:u", "veiw", "doc"), "did you mean \"view\"").await;
    check(resources("usr:u", "view", "doc"), "no type \"usr\"").await;
    check(resources("user:u", "view", "docs"), "no type \"docs\"").await;
    check(subjects("usr", "view", "doc:x"), "no type \"usr\"").await;
    check(subjects("user", "veiw", "doc:x"), "did you mean \"view\"").await;
}

/// An engine whose checks may read 200 tuples.
async fn tight() -> Engine {
    let options = EngineOptions {
        checks: portcullis::eval::Limits {
            work: 200,
            ..portcullis::eval::Limits::default()
        },
        ..TestClock::at(0).options()
    };
    open_with(Box::new(store()), options).await
}

#[tokio::test]
async fn a_long_list_is_not_refused_and_a_wide_search_is() {
    let engine = tight().await;
    documents(&engine, 5_000).await;
    let (rows, _) = list(&engine, resources("user:u", "view", "doc"), Newest, 0, None)
        .await
        .unwrap();
    assert_eq!(rows.len(), 5_000);
    // Teams nested more widely than the bound: there is no telling what lies behind them.
    let nested: Vec<_> = (0..300)
        .map(|at| format!("+team:t{at}#member@user:u"))
        .collect();
    engine
        .write(
            write(&nested.iter().map(String::as_str).collect::<Vec<_>>()),
            None,
        )
        .await
        .unwrap();
    let error = list(&engine, resources("user:u", "view", "doc"), Newest, 0, None).await;
    let error = error.unwrap_err();
    assert!(
        matches!(
            error,
            EngineError::Check(CheckError::SearchTooComplex { limit: 200 })
        ),
        "{error}"
    );
}

#[tokio::test]
async fn what_was_found_before_an_error_is_sent_first() {
    let engine = open(&store(), &TestClock::at(0)).await;
    let with_caveat = "caveat odd(n int) { 10 / n > 1 }
        definition user {}
        definition doc { relation viewer: user | user with odd
            permission view = viewer }";
    engine.write(schema(with_caveat), None).await.unwrap();
    documents(&engine, 20).await;
    did(&engine, &["+doc:d7#viewer@user:u[odd:{\"n\":0}]"]).await;
    let request = ListRequest::of(resources("user:u", "view", "doc"));
    let mut rows = engine.list(request, None).await.unwrap();
    let (mut before, mut error) = (Vec::new(), None);
    while let Some(chunk) = rows.next().await {
        match chunk {
            Ok(chunk) => before.extend(chunk),
            Err(problem) => error = Some(problem),
        }
    }
    let error = error
        .expect("a list that can't be completed says so")
        .to_string();
    assert!(
        error.starts_with("doc:d7: ") && error.contains("odd"),
        "{error}"
    );
    assert!(before.len() < 20);
    assert!(before.is_empty() || before.last().unwrap().cursor.is_some());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_reader_that_waits_holds_nothing_up() {
    let engine = open(&store(), &TestClock::at(0)).await;
    documents(&engine, 2_000).await;
    let question = || resources("user:u", "view", "doc");
    let mut slow = Vec::new();
    for _ in 0..20 {
        let rows = engine.list(ListRequest::of(question()), None).await;
        slow.push(rows.unwrap());
    }
    let (rows, _) = list(&engine, question(), Newest, 0, None).await.unwrap();
    assert_eq!(rows.len(), 2_000);
    tokio::time::sleep(Duration::from_millis(300)).await;
    for mut rows in slow {
        let mut count = 0;
        while let Some(chunk) = rows.next().await {
            count += chunk.unwrap().len();
        }
        assert_eq!(count, 2_000);
    }
}

#[tokio::test]
async fn a_list_ends_at_its_deadline() {
    let engine = open(&store(), &TestClock::at(0)).await;
    documents(&engine, 2_000).await;
    let deadline = Some(Instant::now());
    let request = ListRequest::of(resources("user:u", "view", "doc"));
    let mut rows = engine.list(request, deadline).await.unwrap();
    let mut last = None;
    while let Some(chunk) = rows.next().await {
        last = Some(chunk);
    }
    assert!(
        matches!(last, Some(Err(EngineError::DeadlineExceeded { .. }))),
        "{last:?}"
    );
}
