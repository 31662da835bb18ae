//! Random deeds against every promise, and the way to a good end from wherever they lead.
//!
//! A failure shows its deeds, the fewest that fail.

use std::time::Duration;

use handover_core::Epoch;
use handover_supervisor::operator::{
    Applies, Condition, ErrorRise, EvidenceRules, FileWait, HookSettings, Next, OnTerminate,
    Request, ServiceManager, Settings, Settlement, Signal, TakenIn, Wait,
};
use proptest::collection::vec;
use proptest::prelude::*;

use crate::world::{Deed, Sight, World, view};

const VIEWS: [&str; 12] = [
    "live",
    "none",
    "restarting",
    "next",
    "cap",
    "released",
    "starting",
    "short",
    "tried first",
    "tried",
    "tried",
    "unfit",
];

fn config() -> ProptestConfig {
    ProptestConfig {
        failure_persistence: None,
        ..ProptestConfig::default()
    }
}

fn settings() -> impl Strategy<Value = Settings> {
    let on_terminate = prop_oneof![Just(OnTerminate::Drain), Just(OnTerminate::Stop)];
    let no_cold = prop_oneof![3 => Just(None), 1 => Just(Some("not for this proxy"))];
    let rise = prop_oneof![Just(None), Just(ErrorRise::from_hundredths(500))];
    let evidence = (1_u32..4, rise).prop_map(|(failures, max_error_rise)| EvidenceRules {
        failures,
        max_error_rise,
        ..EvidenceRules::default()
    });
    let probation = (2_u64..12).prop_map(|seconds| Some(Duration::from_secs(seconds)));
    let nothing = prop::bool::weighted(0.1);
    let limit = prop::option::of((1_u64..60).prop_map(Duration::from_secs));
    let files = limit.prop_map(|limit| FileWait { limit });
    let files = prop::option::weighted(0.2, files);
    let alive_every = prop_oneof![
        Just(None),
        (0_u64..8).prop_map(|seconds| Some(Duration::from_secs(seconds))),
    ];
    let manager = alive_every.prop_map(|alive_every| ServiceManager { alive_every });
    let manager = prop::option::of(manager);
    let looks = (probation, evidence, nothing);
    let applies = prop_oneof![
        2 => Just(Applies::Never),
        1 => any::<bool>().prop_map(|kept| Applies::FromClients { kept }),
    ];
    let settings = (on_terminate, no_cold, looks, files, manager, applies);
    settings.prop_map(
        |(on_terminate, no_cold_restart, looks, files, service_manager, applies)| {
            let (probation, evidence, nothing_to_examine) = looks;
            Settings {
                on_terminate,
                no_cold_restart,
                probation,
                evidence,
                nothing_to_examine,
                files,
                service_manager,
                hooks: HookSettings::default(),
                applies,
            }
        },
    )
}

fn wait() -> impl Strategy<Value = Wait> {
    prop_oneof![
        Just(Wait::No),
        Just(Wait::Unlimited),
        (0_u64..4).prop_map(|seconds| Wait::AtMost(Duration::from_secs(seconds))),
    ]
}

fn condition() -> impl Strategy<Value = Condition> {
    prop_oneof![
        Just(Condition::Ready),
        Just(Condition::Live),
        Just(Condition::Current),
    ]
}

fn request() -> impl Strategy<Value = Request> {
    let next = prop_oneof![Just(Next::IfDifferent), Just(Next::Renew), Just(Next::Cold)];
    prop_oneof![
        1 => Just(Request::Status),
        1 => Just(Request::Who),
        6 => (next, any::<bool>(), wait(), any::<bool>()).prop_map(
            |(next, hurry, wait, through_probation)| Request::Reload {
                next,
                hurry,
                wait,
                through_probation,
            },
        ),
        4 => (wait(), any::<bool>()).prop_map(|(wait, through_probation)| Request::Apply {
            wait,
            through_probation,
        }),
        2 => wait().prop_map(|wait| Request::Drain { wait }),
        1 => Just(Request::Undrain),
        3 => (condition(), wait()).prop_map(|(condition, wait)| Request::Await { condition, wait }),
        1 => (any::<bool>(), wait()).prop_map(|(now, wait)| Request::Stop { now, wait }),
    ]
}

fn signal() -> impl Strategy<Value = Signal> {
    prop_oneof![
        1 => Just(Signal::Terminate),
        1 => Just(Signal::Interrupt),
        6 => Just(Signal::HangUp),
        2 => Just(Signal::User1),
        4 => Just(Signal::User2),
    ]
}

fn settlement() -> impl Strategy<Value = Settlement> {
    prop_oneof![
        4 => (0_u32..3).prop_map(|epoch| Settlement::Live(Epoch::new(epoch))),
        2 => Just(Settlement::Replaced),
        2 => Just(Settlement::GivenUp { epoch: Epoch::ZERO, report: None }),
        1 => Just(Settlement::NotRestarted),
        1 => Just(Settlement::Ended),
    ]
}

fn sight() -> impl Strategy<Value = Sight> {
    prop_oneof![
        2 => Just(Sight::Unknown),
        2 => Just(Sight::Fine),
        6 => Just(Sight::Silent),
        2 => Just(Sight::Hung),
        6 => Just(Sight::Missing),
        4 => Just(Sight::Warming),
        6 => prop::bool::weighted(0.8).prop_map(|made| Sight::Probe { made }),
        6 => (0_u8..9, 0_u8..90).prop_map(|(hundreds, failed)| Sight::Requests(hundreds, failed)),
    ]
}

fn deed() -> impl Strategy<Value = Deed> {
    prop_oneof![
        3 => signal().prop_map(Deed::Signal),
        8 => request().prop_map(Deed::Ask),
        2 => any::<bool>().prop_map(|oldest| Deed::Go { oldest }),
        4 => Just(Deed::FilesChanged),
        8 => (0_u8..3, 0_u8..2, prop::bool::weighted(0.1))
            .prop_map(|(config, inputs, stale)| Deed::Read { config, inputs, stale }),
        2 => any::<bool>().prop_map(|shortage| Deed::ReadFails { shortage }),
        8 => prop_oneof![
            6 => Just(TakenIn::Changed),
            3 => Just(TakenIn::Unchanged),
            1 => Just(TakenIn::Denied),
        ].prop_map(Deed::Take),
        8 => settlement().prop_map(Deed::Settle),
        8 => prop::sample::select(&VIEWS[..]).prop_map(|name| Deed::See(view(name))),
        1 => Just(Deed::See(view("ending"))),
        6 => prop::bool::weighted(0.8).prop_map(|done| Deed::Call { done }),
        4 => prop::bool::weighted(0.8).prop_map(|gone| Deed::Clients { gone }),
        8 => prop_oneof![Just(Some(true)), Just(Some(false)), Just(None)].prop_map(Deed::Look),
        24 => sight().prop_map(Deed::Examine),
        6 => Just(Deed::Release),
        1 => prop::bool::weighted(0.8).prop_map(Deed::End),
        1 => Just(Deed::Break),
        6 => any::<bool>().prop_map(|there| Deed::Files { there }),
        6 => prop::bool::weighted(0.7).prop_map(|done| Deed::Keep { done }),
        1 => prop::bool::weighted(0.5).prop_map(|job| match job {
            true => Deed::JobDone,
            false => Deed::Timeout,
        }),
        16 => Just(Deed::Timeout),
    ]
}

proptest! {
    #![proptest_config(config())]

    #[test]
    fn random_deeds_keep_every_promise_and_lead_to_a_good_end(
        settings in settings(),
        deeds in vec(deed(), 1..80),
    ) {
        let mut world = World::with_looks(settings);
        for deed in &deeds {
            world.play(deed);
            if let Some((promise, what)) = world.broken() {
                panic!("{promise} does not hold after {deed:?}: {what}");
            }
            prop_assert!(world.bears_needless_timeouts());
            prop_assert!(world.ignores_what_is_over());
        }
        prop_assert!(world.ends_well(), "{:?}", world.operator);
    }
}
