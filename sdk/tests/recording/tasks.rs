//! What becomes of attempts in tasks and threads, and that captures beside each other see their own only.

use super::*;

fn tokio_of_two() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap()
}

/// Outcome of each feature that ended, by name.
fn outcomes(events: &[Event]) -> std::collections::BTreeMap<&str, Outcome> {
    endings(events).into_iter().map(|(name, outcome, ..)| (name, outcome)).collect()
}

#[test]
fn an_early_return_by_question_mark_fails_the_attempt_around_it_and_only_that() {
    fn number(text: &str) -> Result<u32, std::num::ParseIntError> {
        gemba::attempt!("mark.outer").run(|| {
            let first = gemba::attempt!("mark.first").run(|| "1".parse::<u32>())?;
            let second = gemba::attempt!("mark.second").run(|| text.parse::<u32>())?;
            gemba::attempt!("mark.never").run(|| Some(first + second));
            Ok(first + second)
        })
    }
    let events = captured(|| assert!(number("x").is_err()));
    let expected =
        [("mark.first", Outcome::Completed), ("mark.outer", Outcome::Failed), ("mark.second", Outcome::Failed)];
    assert_eq!(outcomes(&events), expected.into());
}

#[test]
fn tasks_that_panic_are_aborted_or_timed_out_each_end_as_what_became_of_them() {
    let events = tokio_of_two().block_on(captured_async(async {
        let panics = async { assert!(std::hint::black_box(false), "on purpose") };
        let task = tokio::spawn(gemba::scope().run_async(gemba::attempt!("task.panics").run_async(panics)));
        assert!(task.await.unwrap_err().is_panic());

        let (begun, has_begun) = tokio::sync::oneshot::channel();
        let waits = async move {
            begun.send(()).unwrap();
            std::future::pending::<()>().await;
        };
        let task = tokio::spawn(gemba::scope().run_async(gemba::attempt!("task.aborted").run_async(waits)));
        has_begun.await.unwrap();
        task.abort();
        assert!(task.await.unwrap_err().is_cancelled());

        let late = gemba::attempt!("task.late").run_async(std::future::pending::<()>());
        assert!(tokio::time::timeout(Duration::from_millis(1), late).await.is_err());

        // The attempt around the timeout has an answer, and it is no.
        let around = gemba::attempt!("task.around").run_async(tokio::time::timeout(
            Duration::from_millis(1),
            gemba::attempt!("task.inside").run_async(std::future::pending::<()>()),
        ));
        assert!(around.await.is_err());
    }));
    let expected = [
        ("task.aborted", Outcome::Cancelled),
        ("task.around", Outcome::Failed),
        ("task.inside", Outcome::Cancelled),
        ("task.late", Outcome::Cancelled),
        ("task.panics", Outcome::Panicked),
    ];
    assert_eq!(outcomes(&events), expected.into());
}

#[test]
fn one_branch_of_a_join_panics_and_the_others_are_cancelled() {
    let events = tokio_of_two().block_on(captured_async(async {
        let branches = async {
            tokio::join!(
                gemba::attempt!("join.done").run_async(async {}),
                gemba::attempt!("join.waits").run_async(std::future::pending::<()>()),
                gemba::attempt!("join.panics").run_async(async {
                    tokio::task::yield_now().await;
                    assert!(std::hint::black_box(false), "on purpose");
                }),
            )
        };
        assert!(tokio::spawn(gemba::scope().run_async(branches)).await.unwrap_err().is_panic());
    }));
    let expected =
        [("join.done", Outcome::Completed), ("join.panics", Outcome::Panicked), ("join.waits", Outcome::Cancelled)];
    assert_eq!(outcomes(&events), expected.into());
}

#[test]
fn a_guard_may_end_in_another_task_and_keeps_who_began_it() {
    let events = tokio_of_two().block_on(captured_async(async {
        let (sender, mut receiver) = tokio::sync::mpsc::channel::<gemba::Attempt>(4);
        let begins = async move {
            for _ in 0..4 {
                sender.send(gemba::attempt!("handed.over")).await.unwrap();
            }
        };
        let ends = async move {
            while let Some(attempt) = receiver.recv().await {
                attempt.complete();
            }
        };
        let begins = tokio::spawn(gemba::scope().user("begins").run_async(begins));
        let ends = tokio::spawn(gemba::scope().user("ends").run_async(ends));
        begins.await.unwrap();
        ends.await.unwrap();
    }));
    assert_eq!(endings(&events), [("handed.over", Outcome::Completed, false, "", ""); 4]);
    assert!(events.iter().all(|event| event.user == "begins"), "{events:?}");
}

#[test]
fn captures_in_parallel_each_see_their_own_tasks_and_threads_only() {
    const CAPTURES: u32 = if cfg!(miri) { 3 } else { 16 };
    let own = |number: u32| {
        let events = tokio_of_two().block_on(captured_async(async move {
            let tasks: Vec<_> = (0..20)
                .map(|_| {
                    let work = async move {
                        tokio::task::yield_now().await;
                        gemba::feature!("parallel.task", number = number);
                    };
                    tokio::spawn(gemba::scope().run_async(work))
                })
                .collect();
            for task in tasks {
                task.await.unwrap();
            }
            let scope = gemba::scope();
            std::thread::spawn(move || scope.run(|| gemba::feature!("parallel.thread", number = number)))
                .join()
                .unwrap();
            // Carries no scope along: nobody's, and so not of this capture.
            tokio::spawn(async { gemba::feature!("parallel.lost", number = 0) }).await.unwrap();
        }));
        assert_eq!(events.len(), 21);
        for event in &events {
            assert_eq!(event.attribute("number"), Some(&Attribute::Unsigned(number.into())), "{event:?}");
        }
    };
    std::thread::scope(|threads| {
        for number in 0..CAPTURES {
            threads.spawn(move || own(number));
        }
    });
}

#[test]
fn a_capture_inside_a_capture_has_its_events_to_itself() {
    let mut inner = Vec::new();
    let outer = captured(|| {
        gemba::feature!("capture.before");
        inner = captured(|| gemba::feature!("capture.inner"));
        gemba::feature!("capture.after");
    });
    let names = |events: &[Event]| events.iter().map(|event| event.name.clone()).collect::<Vec<_>>();
    assert_eq!(names(&inner), ["capture.inner"]);
    assert_eq!(names(&outer), ["capture.before", "capture.after"]);
}
