use std::sync::atomic::{AtomicUsize, Ordering};

use handover_process::ExitCause;

use super::*;

type Answers = Result<Vec<(u32, Result<&'static str, NotScraped>)>, &'static str>;

/// Statistics of a proxy whose epochs answer in turn like this, and how often they were asked.
fn statistics(answers: Vec<Answers>) -> (Statistics, Shared, Arc<AtomicUsize>) {
    let asked = Arc::new(AtomicUsize::new(0));
    let (metrics, count) = (Shared::new(), Arc::clone(&asked));
    let statistics = Statistics::new(metrics.clone(), move |_| {
        let turn = count.fetch_add(1, Ordering::Relaxed).min(answers.len() - 1);
        let answers = answers[turn].clone();
        Box::pin(async move {
            let answers = answers.map_err(str::to_owned)?.into_iter();
            let answers = answers.map(|(epoch, text)| EpochStatistics {
                epoch: Epoch::new(epoch),
                text: text.map(StatisticsText::new),
            });
            Ok(answers.collect())
        })
    });
    (statistics, metrics, asked)
}

const BY_EPOCH: Query = Query {
    only_used: false,
    as_sum: false,
};
const AS_SUM: Query = Query {
    only_used: false,
    as_sum: true,
};

async fn told(statistics: &Statistics, query: Query) -> String {
    tokio::time::advance(SHARED_FOR).await;
    match statistics.text(query).await {
        Ok(text) => String::from_utf8(text.to_vec()).unwrap(),
        Err(error) => format!("{error:?}"),
    }
}

fn last_look(epoch: u32, text: &'static str) -> Observed {
    Observed::Statistics {
        epoch: Epoch::new(epoch),
        text: Ok(StatisticsText::new(text)),
    }
}

fn ended(epoch: u32) -> Observed {
    Observed::Ended {
        epoch: Epoch::new(epoch),
        cause: "clean",
        exit: Some(ExitCause::Code(0)),
        connections: None,
    }
}

#[tokio::test(start_paused = true)]
async fn what_an_epoch_has_counted_is_there_before_and_after_its_end() {
    let first = Ok(vec![(
        0,
        Ok("# TYPE rq counter\nrq 5\n# TYPE g gauge\ng 1\n"),
    )]);
    let second = Ok(vec![(
        1,
        Ok("# TYPE rq counter\nrq 2\n# TYPE g gauge\ng 3\n"),
    )]);
    let (statistics, ..) = statistics(vec![first.clone(), first, second]);
    let alone = "# TYPE rq counter\nrq{epoch=\"0\"} 5\n# TYPE g gauge\ng{epoch=\"0\"} 1\n";
    let before = told(&statistics, BY_EPOCH).await;
    assert!(before.starts_with(alone), "{before}");
    let sum = "# TYPE rq counter\nrq 5\n# TYPE g gauge\ng 1\n";
    assert_eq!(told(&statistics, AS_SUM).await, sum);
    statistics.observed(&last_look(0, "# TYPE rq counter\nrq 7\n"));
    let beside = told(&statistics, BY_EPOCH).await;
    insta::assert_snapshot!(beside, @r#"
    # TYPE rq counter
    rq{epoch="1"} 2
    rq{epoch="0"} 7
    # TYPE g gauge
    g{epoch="1"} 3
    # HELP handover_stats_scraped Whether the epoch could be asked for its statistics, 0 or 1.
    # TYPE handover_stats_scraped gauge
    handover_stats_scraped{epoch="0"} 0
    handover_stats_scraped{epoch="1"} 1
    "#);
    statistics.observed(&ended(0));
    let after = told(&statistics, BY_EPOCH).await;
    assert!(after.contains("rq{epoch=\"0\"} 7\n"), "{after}");
    assert!(!after.contains("scraped{epoch=\"0\"}"), "{after}");
    let sum = "# TYPE rq counter\nrq 9\n# TYPE g gauge\ng 3\n";
    assert_eq!(told(&statistics, AS_SUM).await, sum);
}

#[tokio::test(start_paused = true)]
async fn an_epoch_that_does_not_answer_spoils_nothing_and_is_never_a_zero() {
    for error in [
        NotScraped::Unreachable,
        NotScraped::TimedOut,
        NotScraped::Refused,
        NotScraped::TooLarge,
        NotScraped::Invalid,
    ] {
        let (statistics, metrics, _) = statistics(vec![Ok(vec![(1, Err(error))])]);
        statistics.observed(&last_look(0, "# TYPE rq counter\nrq 7\n"));
        let text = told(&statistics, BY_EPOCH).await;
        assert!(text.contains("rq{epoch=\"0\"} 7\n"), "{text}");
        assert!(!text.contains("rq{epoch=\"1\"}"), "{text}");
        assert!(text.contains("scraped{epoch=\"1\"} 0\n"), "{text}");
        let sum = told(&statistics, AS_SUM).await;
        assert!(sum.starts_with("Unknown"), "{sum}");
        assert_eq!(metrics.count_of(error), 2);
        assert!(NotScraped::LABELS.contains(&error.label()));
    }
}

#[tokio::test(start_paused = true)]
async fn garbage_of_one_epoch_is_left_out() {
    let answers = Ok(vec![
        (1, Ok("<html>not here</html>\n")),
        (0, Ok("# TYPE rq counter\nrq 1\n")),
    ]);
    let (statistics, ..) = statistics(vec![answers]);
    let text = told(&statistics, BY_EPOCH).await;
    assert!(
        text.starts_with("# TYPE rq counter\nrq{epoch=\"0\"} 1\n"),
        "{text}"
    );
    assert!(text.contains("scraped{epoch=\"1\"} 0\n"), "{text}");
}

#[tokio::test(start_paused = true)]
async fn the_epochs_are_asked_once_for_all_who_ask_meanwhile() {
    let (statistics, _, asked) = statistics(vec![Ok(vec![(0, Ok("rq 1\n"))])]);
    let texts = (0..50).map(|_| {
        let statistics = statistics.clone();
        tokio::spawn(async move { statistics.text(BY_EPOCH).await.is_ok() })
    });
    for text in texts.collect::<Vec<_>>() {
        assert!(text.await.unwrap());
    }
    assert_eq!(asked.load(Ordering::Relaxed), 1);
    told(&statistics, AS_SUM).await;
    assert_eq!(asked.load(Ordering::Relaxed), 2);
}

/// An answer takes some milliseconds for each megabyte, and memory for as long as somebody reads it.
#[tokio::test(start_paused = true)]
async fn those_who_ask_for_the_same_get_the_same_answer_for_a_while() {
    let (statistics, ..) = statistics(vec![Ok(vec![(0, Ok("rq 1\n"))])]);
    let [first, again] = [
        statistics.text(BY_EPOCH).await.unwrap(),
        statistics.text(BY_EPOCH).await.unwrap(),
    ];
    assert_eq!(first.as_ptr(), again.as_ptr());
    tokio::time::advance(SHARED_FOR).await;
    let later = statistics.text(BY_EPOCH).await.unwrap();
    assert_ne!(first.as_ptr(), later.as_ptr());
}

#[tokio::test(start_paused = true)]
async fn of_many_ended_epochs_the_oldest_are_shown_in_the_sum_alone() {
    const RQ: &str = "# TYPE rq counter\nrq 1\n";
    let most = kept::MOST_ENDED;
    let newest = u32::try_from(most).unwrap() + 5;
    let (statistics, ..) = statistics(vec![Ok(vec![(newest, Ok(RQ))])]);
    for epoch in 0..newest {
        statistics.observed(&last_look(epoch, RQ));
        statistics.observed(&ended(epoch));
    }
    let shown = |text: &str| text.matches("rq{epoch=").count();
    let begun = std::time::Instant::now();
    let mut text = told(&statistics, BY_EPOCH).await;
    // Another thread folds them, whose time is the real one.
    while shown(&text) > most + 1 && begun.elapsed() < Duration::from_secs(20) {
        std::thread::sleep(Duration::from_millis(1));
        text = told(&statistics, BY_EPOCH).await;
    }
    assert_eq!(shown(&text), most + 1, "{text}");
    let sum = format!("# TYPE rq counter\nrq {}\n", newest + 1);
    assert_eq!(told(&statistics, AS_SUM).await, sum);
}

#[tokio::test(start_paused = true)]
async fn those_who_ask_in_turns_for_one_thing_and_another_do_not_make_the_epochs_answer_each_time()
{
    let refused = Err(NotScraped::Refused);
    let (statistics, metrics, asked) = statistics(vec![Ok(vec![(0, Ok("rq 1\n")), (1, refused)])]);
    let queries = [false, true]
        .into_iter()
        .flat_map(|only_used| [false, true].map(|as_sum| Query { only_used, as_sum }));
    let queries: Vec<_> = queries.collect();
    for _ in 0..10 {
        for query in &queries {
            let _text = statistics.text(*query).await;
        }
    }
    assert_eq!(
        asked.load(Ordering::Relaxed),
        2,
        "once for each `only_used`"
    );
    assert_eq!(metrics.count_of(NotScraped::Refused), 2);
    told(&statistics, BY_EPOCH).await;
    assert_eq!(asked.load(Ordering::Relaxed), 3);
}

#[tokio::test(start_paused = true)]
async fn slow_readers_hold_two_answers_and_nobody_gets_a_third_one_before() {
    let (statistics, ..) = statistics(vec![Ok(vec![(0, Ok("rq 1\n"))])]);
    let first = statistics.text(BY_EPOCH).await.unwrap();
    let second = statistics.text(AS_SUM).await.unwrap();
    let third = statistics.text(BY_EPOCH).await;
    let busy = "too many clients still read earlier answers";
    assert_eq!(third, Err(NoStatistics::Unknown(busy)));
    drop(first);
    assert!(statistics.text(BY_EPOCH).await.is_ok());
    drop(second);
}

#[tokio::test(start_paused = true)]
async fn a_proxy_without_statistics_says_why_and_one_that_hangs_is_given_up() {
    let (none, ..) = statistics(vec![Err("there are none")]);
    let never = NoStatistics::Never("there are none".to_owned());
    assert_eq!(none.text(BY_EPOCH).await, Err(never));
    let hanging = Statistics::new(Shared::new(), |_| Box::pin(std::future::pending()));
    let late = NoStatistics::Unknown("the epochs did not answer in time");
    assert_eq!(hanging.text(BY_EPOCH).await, Err(late));
}
