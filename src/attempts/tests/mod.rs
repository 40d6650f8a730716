mod models;

use std::{
    net::{IpAddr, Ipv4Addr},
    sync::Barrier,
    thread,
};

use uuid::Uuid;

use super::*;
use crate::config::Config;

fn attempts(failures_per_minute: u32, validations_per_token_per_hour: u32) -> Attempts {
    Attempts::new(&Limits {
        failures_per_minute,
        validations_per_token_per_hour,
        ..Config::load(None, []).unwrap().limits
    })
}

fn at(seconds: u64) -> Monotonic {
    Monotonic::from_micros(seconds * 1_000_000)
}

fn address(number: u32) -> IpAddr {
    IpAddr::V4(Ipv4Addr::from_bits(number))
}

fn token(number: u128) -> TokenId {
    TokenId::from_uuid(Uuid::from_u128(number))
}

fn refused_for(seconds: u64) -> Result<(), TooManyAttempts> {
    Err(TooManyAttempts {
        retry_after: Duration::from_secs(seconds),
    })
}

#[test]
fn failures_after_the_thirtieth_are_refused_until_the_minute_of_the_first_has_passed() {
    let attempts = Attempts::new(&Config::load(None, []).unwrap().limits);
    for second in 0..30 {
        assert_eq!(attempts.failure(address(1), at(second)), Ok(()));
    }
    assert_eq!(attempts.failure(address(1), at(30)), refused_for(30));
    assert_eq!(attempts.failure(address(1), at(59)), refused_for(1));
    assert_eq!(attempts.failure(address(1), at(60)), Ok(()));
    assert_eq!(attempts.failure(address(1), at(119)), Ok(()));
}

#[test]
fn changes_are_counted_by_account_and_0_is_no_limit() {
    let account = |number| AccountId::from_uuid(Uuid::from_u128(number));
    let with = |changes_per_minute| {
        let limits = Config::load(None, []).unwrap().limits;
        Attempts::new(&Limits {
            changes_per_minute,
            ..limits
        })
    };
    let attempts = with(2);
    for second in [0, 10] {
        assert_eq!(attempts.change(account(1), at(second)), Ok(()));
    }
    assert_eq!(attempts.change(account(1), at(20)), refused_for(40));
    assert_eq!(attempts.change(account(2), at(20)), Ok(()));
    assert_eq!(attempts.change(account(1), at(60)), Ok(()));
    let unlimited = with(0);
    for _ in 0..1000 {
        assert_eq!(unlimited.change(account(1), at(0)), Ok(()));
    }
}

#[test]
fn one_address_is_not_refused_for_anothers_failures() {
    let attempts = attempts(1, 1);
    let six = |text: &str| text.parse::<IpAddr>().unwrap();
    assert_eq!(attempts.failure(address(1), at(0)), Ok(()));
    assert_eq!(attempts.failure(address(1), at(0)), refused_for(60));
    assert_eq!(attempts.failure(address(2), at(0)), Ok(()));
    assert_eq!(
        attempts.failure(six("::ffff:0.0.0.1"), at(0)),
        refused_for(60)
    );
    assert_eq!(attempts.failure(six("2001:db8::1"), at(0)), Ok(()));
    assert_eq!(attempts.failure(six("2001:db8::2"), at(0)), refused_for(60));
    assert_eq!(attempts.failure(six("2001:db8:0:1::2"), at(0)), Ok(()));
}

#[test]
fn token_is_good_for_thirty_verdicts_at_once_and_thirty_more_an_hour() {
    let attempts = attempts(30, 30);
    for _ in 0..30 {
        assert_eq!(attempts.verdict(token(1), at(0)), Ok(()));
    }
    assert_eq!(attempts.verdict(token(1), at(0)), refused_for(120));
    assert_eq!(attempts.verdict(token(1), at(119)), refused_for(1));
    assert_eq!(attempts.verdict(token(1), at(120)), Ok(()));
    assert_eq!(attempts.verdict(token(1), at(120)), refused_for(120));
    let later = at(120 + 3600);
    for _ in 0..30 {
        assert_eq!(attempts.verdict(token(1), later), Ok(()));
    }
    assert_eq!(attempts.verdict(token(1), later), refused_for(120));
    assert_eq!(attempts.verdict(token(2), later), Ok(()));
}

#[test]
fn verdict_that_was_not_told_is_given_back() {
    let attempts = attempts(30, 1);
    attempts.verdict_unused(token(1), at(0));
    assert_eq!(attempts.verdict(token(1), at(0)), Ok(()));
    attempts.verdict_unused(token(1), at(0));
    assert_eq!(attempts.verdict(token(1), at(0)), Ok(()));
    assert_eq!(attempts.verdict(token(1), at(1)), refused_for(3599));
    attempts.verdict_unused(token(1), at(5000));
    attempts.verdict_unused(token(1), at(5000));
    assert_eq!(attempts.verdict(token(1), at(5000)), Ok(()));
    assert_eq!(attempts.verdict(token(1), at(5000)), refused_for(3600));
}

#[test]
fn time_that_a_racing_thread_read_earlier_gives_nothing() {
    let attempts = attempts(1, 2);
    assert_eq!(attempts.verdict(token(1), at(100)), Ok(()));
    assert_eq!(attempts.verdict(token(1), at(0)), Ok(()));
    assert_eq!(attempts.verdict(token(1), at(0)), refused_for(1900));
    assert_eq!(attempts.verdict(token(1), at(1800)), refused_for(100));
    assert_eq!(attempts.failure(address(1), at(100)), Ok(()));
    assert_eq!(attempts.failure(address(1), at(0)), refused_for(160));
}

#[test]
fn site_has_sixty_revocations_and_releases_a_minute() {
    let attempts = attempts(0, 0);
    let site = |number| SiteId::from_uuid(Uuid::from_u128(number));
    for _ in 0..60 {
        assert_eq!(attempts.management(site(1), at(10)), Ok(()));
    }
    assert_eq!(attempts.management(site(1), at(10)), refused_for(60));
    assert_eq!(attempts.management(site(2), at(10)), Ok(()));
    assert_eq!(attempts.management(site(1), at(70)), Ok(()));
}

#[test]
fn limit_of_zero_is_off() {
    let attempts = attempts(0, 0);
    for _ in 0..1000 {
        assert_eq!(attempts.failure(address(1), at(0)), Ok(()));
        assert_eq!(attempts.verdict(token(1), at(0)), Ok(()));
    }
    attempts.verdict_unused(token(1), at(0));
}

#[test]
fn largest_limit_neither_refuses_nor_overflows() {
    let attempts = attempts(u32::MAX, u32::MAX);
    let end_of_time = Monotonic::from_micros(u64::MAX);
    for now in [at(0), at(1), end_of_time, at(2), end_of_time] {
        assert_eq!(attempts.verdict(token(1), now), Ok(()));
        assert_eq!(attempts.failure(address(1), now), Ok(()));
    }
}

/// How many of `threads` × `each` calls at once succeed.
fn successes(threads: usize, each: usize, call: impl Fn() -> bool + Sync) -> usize {
    let barrier = Barrier::new(threads);
    thread::scope(|scope| {
        let race = || {
            barrier.wait();
            (0..each).filter(|_| call()).count()
        };
        let runners: Vec<_> = (0..threads).map(|_| scope.spawn(race)).collect();
        runners
            .into_iter()
            .map(|runner| runner.join().unwrap())
            .sum()
    })
}

#[test]
fn exactly_the_limit_of_racing_attempts_passes() {
    let attempts = attempts(100, 100);
    let failures = successes(8, 200, || attempts.failure(address(1), at(5)).is_ok());
    assert_eq!(failures, 100);
    let verdicts = successes(8, 200, || attempts.verdict(token(1), at(5)).is_ok());
    assert_eq!(verdicts, 100);
    let taken_and_given_back = successes(8, 200, || {
        let taken = attempts.verdict(token(2), at(5)).is_ok();
        if taken {
            attempts.verdict_unused(token(2), at(5));
        }
        taken
    });
    assert_eq!(taken_and_given_back, 1600);
    assert_eq!(
        successes(8, 200, || attempts.verdict(token(2), at(5)).is_ok()),
        100
    );
}

#[test]
fn a_million_addresses_take_bounded_space() {
    let attempts = attempts(30, 30);
    let failures = attempts.failures.as_ref().unwrap();
    let mut most = 0;
    for number in 0..1_000_000 {
        let now = Monotonic::from_micros(u64::from(number));
        assert_eq!(attempts.failure(address(number), now), Ok(()));
        if number % 10_000 == 0 {
            most = most.max(failures.keys());
        }
    }
    assert!(most <= 65_536, "{most}");
    assert!(failures.keys() > 16_384, "{}", failures.keys());
}

#[test]
fn what_has_ended_is_forgotten_before_anything_else() {
    let attempts = attempts(1, 1);
    assert_eq!(attempts.failure(address(0), at(59)), Ok(()));
    for number in 1..40_000 {
        assert_eq!(attempts.failure(address(number), at(0)), Ok(()));
    }
    for number in 40_000..80_000 {
        assert_eq!(attempts.failure(address(number), at(60)), Ok(()));
    }
    assert_eq!(attempts.failure(address(0), at(60)), refused_for(59));
    assert_eq!(attempts.failure(address(79_999), at(60)), refused_for(60));
}

#[test]
fn whoever_is_refused_longest_is_forgotten_last() {
    let attempts = attempts(30, 30);
    for _ in 0..30 {
        assert_eq!(attempts.verdict(token(0), at(0)), Ok(()));
    }
    for number in 1..500_000 {
        assert_eq!(attempts.verdict(token(number), at(0)), Ok(()));
    }
    assert_eq!(attempts.verdict(token(0), at(0)), refused_for(120));
}

#[test]
fn of_many_that_end_at_once_a_full_shard_keeps_half() {
    let attempts = attempts(1, 1);
    for number in 0..500_000 {
        assert_eq!(attempts.failure(address(number), at(0)), Ok(()));
        if number > 100_000 && number % 10_000 == 0 {
            let keys = attempts.failures.as_ref().unwrap().keys();
            assert!((30_000..=65_536).contains(&keys), "{keys}");
        }
    }
}

/// Fails again and again, as soon as it may; how long each wait was.
fn climb(attempts: &Attempts, failures: u32) -> Vec<u64> {
    let mut now = at(0);
    let mut waits = Vec::new();
    for _ in 0..failures {
        if let Err(refused) = attempts.sign_in(address(1), now) {
            waits.push(refused.retry_after.as_secs());
            now = now.after(refused.retry_after);
            assert_eq!(attempts.sign_in(address(1), now), Ok(()));
        }
    }
    waits
}

#[test]
fn failed_sign_ins_cost_more_and_more_time() {
    let (minute, hour, day) = (60, 60 * 60, 24 * 60 * 60);
    let waits = climb(&attempts(1, 1), 28);
    let expected = [minute, 10 * minute, 15 * minute, hour, day, day, day];
    assert_eq!(waits, expected);
}

#[test]
fn waiting_is_not_made_longer_by_trying() {
    let attempts = attempts(1, 1);
    for _ in 0..7 {
        assert_eq!(attempts.sign_in(address(1), at(0)), Ok(()));
    }
    for second in 0..60 {
        let tried = attempts.sign_in(address(1), at(second));
        assert_eq!(tried, refused_for(60 - second));
    }
    for _ in 0..3 {
        assert_eq!(attempts.sign_in(address(1), at(60)), Ok(()));
    }
    let tried = attempts.sign_in(address(1), at(60));
    assert_eq!(tried, refused_for(600));
}

#[test]
fn failed_sign_ins_are_forgotten_a_day_after_the_last() {
    let attempts = attempts(1, 1);
    let day = 24 * 60 * 60;
    for _ in 0..6 {
        assert_eq!(attempts.sign_in(address(1), at(0)), Ok(()));
    }
    for _ in 0..6 {
        assert_eq!(attempts.sign_in(address(1), at(day)), Ok(()));
    }
    let last = day + day - 1;
    assert_eq!(attempts.sign_in(address(1), at(last)), Ok(()));
    let tried = attempts.sign_in(address(1), at(last));
    assert_eq!(tried, refused_for(60));
}

#[test]
fn a_sign_in_that_did_not_fail_is_given_back_with_its_wait() {
    let attempts = attempts(1, 1);
    for _ in 0..6 {
        assert_eq!(attempts.sign_in(address(1), at(0)), Ok(()));
    }
    for _ in 0..20 {
        assert_eq!(attempts.sign_in(address(1), at(1)), Ok(()));
        let tried = attempts.sign_in(address(1), at(1));
        assert_eq!(tried, refused_for(60));
        attempts.sign_in_unfailed(address(1), at(1));
    }
}

#[test]
fn failures_under_one_name_are_limited_over_all_addresses() {
    let attempts = attempts(1, 1);
    for _ in 0..100 {
        assert_eq!(attempts.sign_in_as("name", at(0)), Ok(()));
    }
    assert_eq!(attempts.sign_in_as("name", at(0)), refused_for(36));
    assert_eq!(attempts.sign_in_as("another", at(0)), Ok(()));
    attempts.sign_in_as_unfailed("name", at(0));
    assert_eq!(attempts.sign_in_as("name", at(0)), Ok(()));
    assert_eq!(attempts.sign_in_as("name", at(36)), Ok(()));
    assert_eq!(attempts.sign_in_as("name", at(36)), refused_for(36));
}
