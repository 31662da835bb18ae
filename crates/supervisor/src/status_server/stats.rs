//! The statistics of the epochs: what can be asked of them, and the response.

use bytes::Bytes;
use http_body_util::{Either, Full};
use hyper::StatusCode;

use super::routes::{Answer, answer, text};
use crate::statistics::{NoStatistics, Query};

/// Reads what is asked of the statistics, or refuses it. A misspelled parameter would change what the numbers mean.
pub(super) fn query(parameters: Option<&str>) -> Result<Query, String> {
    let mut query = Query::default();
    let parameters = parameters.unwrap_or_default().split('&');
    for parameter in parameters.filter(|parameter| !parameter.is_empty()) {
        match parameter {
            "usedonly" | "usedonly=" => query.only_used = true,
            "epochs=sum" => query.as_sum = true,
            "epochs=label" => query.as_sum = false,
            _ => {
                let shown: String = parameter.chars().take(80).collect();
                return Err(format!(
                    "\"{shown}\" is no parameter of /stats/prometheus: use usedonly, epochs=sum or \
                     epochs=label\n"
                ));
            }
        }
    }
    Ok(query)
}

/// Why what is asked is not answered.
pub(super) fn refused(why: String) -> Answer {
    text(StatusCode::BAD_REQUEST, why)
}

/// The statistics of all epochs, or why there are none.
pub(super) fn statistics(statistics: Result<Bytes, NoStatistics>) -> Answer {
    match statistics {
        Ok(statistics) => {
            let content_type = "text/plain; version=0.0.4; charset=utf-8";
            answer(
                StatusCode::OK,
                content_type,
                Either::Left(Full::new(statistics)),
            )
        }
        Err(NoStatistics::Never(why)) => text(StatusCode::NOT_FOUND, format!("{why}\n")),
        Err(NoStatistics::Unknown(why)) => {
            text(StatusCode::SERVICE_UNAVAILABLE, format!("{why}\n"))
        }
    }
}

#[cfg(test)]
mod tests {
    use http_body_util::BodyExt as _;

    use super::*;

    async fn told(answer: Answer) -> (u16, String) {
        let status = answer.status().as_u16();
        let body = answer.into_body().collect().await.unwrap().to_bytes();
        (status, String::from_utf8(body.to_vec()).unwrap())
    }

    #[tokio::test]
    async fn a_parameter_is_known_or_refused() {
        for (asked, only_used, as_sum) in [
            (None, false, false),
            (Some(""), false, false),
            (Some("usedonly"), true, false),
            (Some("usedonly=&epochs=sum"), true, true),
            (Some("epochs=sum&epochs=label"), false, false),
        ] {
            let query = query(asked).unwrap();
            assert_eq!(query, Query { only_used, as_sum }, "{asked:?}");
        }
        for asked in [
            "filter=a",
            "epochs",
            "epochs=2",
            "usedonly=no",
            "used_only&usedonly",
        ] {
            let refused = refused(query(Some(asked)).unwrap_err());
            let (status, message) = told(refused).await;
            assert_eq!(status, 400, "{asked}");
            let named = asked.split('&').next().unwrap();
            assert!(
                message.starts_with(&format!("\"{named}\" is no parameter")),
                "{message}"
            );
        }
        let long = "x".repeat(10_000);
        let message = query(Some(&long)).unwrap_err();
        assert!(message.len() < 300);
    }

    #[tokio::test]
    async fn no_statistics_are_told_from_unknown_ones() {
        let known = statistics(Ok(Bytes::from_static(b"rq 1\n")));
        assert_eq!(
            known.headers()["content-type"],
            "text/plain; version=0.0.4; charset=utf-8"
        );
        assert_eq!(told(known).await, (200, "rq 1\n".to_owned()));
        let never = statistics(Err(NoStatistics::Never("none here".to_owned())));
        assert_eq!(told(never).await, (404, "none here\n".to_owned()));
        let unknown = statistics(Err(NoStatistics::Unknown("late")));
        assert_eq!(told(unknown).await, (503, "late\n".to_owned()));
    }
}
