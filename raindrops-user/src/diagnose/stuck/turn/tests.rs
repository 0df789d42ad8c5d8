use crate::{
    diagnose::fixture::{
        calling, check, lately, listener_turns, long_turn, nginx, no_accepts, no_answers, puma,
        serving, turns, unicorn,
    },
    view::{Class, View},
};

/// How many answers have ever taken up to how many microseconds.
fn ever(view: &mut View, buckets: &[(f64, u64)]) {
    let buckets = buckets.iter().map(|(bound, count)| (Some(*bound), *count));
    listener_turns(view).answer.buckets = Some(buckets.collect());
}

#[test]
fn a_turn_far_longer_than_turns_take() {
    check(&[
        (
            "over a second where 20 ms are usual",
            unicorn,
            |view| long_turn(view, 1.1, 20_000, 20_000),
            &["warning stuck-worker"],
        ),
        (
            "under a second",
            unicorn,
            |view| long_turn(view, 1.0, 20_000, 20_000),
            &[],
        ),
        (
            "over ten times the usual",
            puma,
            |view| long_turn(view, 5.1, 500_000, 20_000),
            &["warning stuck-worker"],
        ),
        (
            "ten times the usual",
            puma,
            |view| long_turn(view, 5.0, 500_000, 20_000),
            &[],
        ),
        (
            "few answers lately: what was usual before counts",
            unicorn,
            |view| {
                long_turn(view, 5.0, 20_000, 600_000);
                view.listeners[0].recent.answer = Some(lately(9, 20_000));
            },
            &[],
        ),
        (
            "few answers ever",
            unicorn,
            |view| {
                long_turn(view, 60.0, 20_000, 20_000);
                view.listeners[0].recent.answer = Some(lately(9, 20_000));
                listener_turns(view).answer.count = 9;
            },
            &[],
        ),
        (
            "long polling: every turn takes 30 s",
            puma,
            |view| {
                long_turn(view, 29.0, 30_000_000, 30_000_000);
                calling(view, 0, 4, 29.0);
                calling(view, 1, 4, 29.0);
            },
            &[],
        ),
        (
            "longer than can be measured",
            puma,
            |view| long_turn(view, 3600.0, 1 << 26, 1 << 26),
            &[],
        ),
        (
            "a few long polls among quick answers",
            puma,
            |view| {
                long_turn(view, 29.0, 20_000, 20_000);
                view.listeners[0].recent.answer.as_mut().unwrap().max_us = Some(30_000_000);
            },
            &[],
        ),
        (
            "three answers in an hour took half as long, none of them lately",
            puma,
            |view| {
                long_turn(view, 29.0, 20_000, 20_000);
                ever(
                    view,
                    &[(20_480.0, 99_997), (14_680_064.0, 2), (33_554_432.0, 1)],
                );
            },
            &[],
        ),
        (
            "and those that are longer than can be measured",
            puma,
            |view| {
                long_turn(view, 120.0, 20_000, 20_000);
                listener_turns(view).answer.buckets = Some(vec![(Some(20_480.0), 9), (None, 3)]);
            },
            &[],
        ),
        (
            "only two took so long, which may have been stuck as well",
            puma,
            |view| {
                long_turn(view, 29.0, 20_000, 20_000);
                ever(
                    view,
                    &[(20_480.0, 99_997), (12_582_912.0, 8), (33_554_432.0, 2)],
                );
            },
            &["warning stuck-worker"],
        ),
        (
            "three took long, but not half as long",
            unicorn,
            |view| {
                long_turn(view, 60.0, 20_000, 20_000);
                ever(view, &[(20_480.0, 99_997), (29_360_128.0, 3)]);
            },
            &["warning stuck-worker"],
        ),
        (
            "how many took so long is not told, but that one did",
            puma,
            |view| {
                long_turn(view, 29.0, 20_000, 20_000);
                listener_turns(view).answer.max_us = Some(14_500_000);
            },
            &[],
        ),
        (
            "no turn of anybody ends: all wait for the same",
            unicorn,
            |view| {
                long_turn(view, 6.0, 20_000, 20_000);
                calling(view, 1, 1, 5.9);
                no_answers(view, 5.9);
                no_accepts(view, 5.9);
            },
            &[],
        ),
        (
            "another thread of its own ends turns",
            || serving("puma", Class::Handoff, 1, 4),
            |view| long_turn(view, 6.0, 20_000, 20_000),
            &["warning stuck-worker"],
        ),
        (
            "the last answer is not known, but the other worker accepts again",
            unicorn,
            |view| {
                long_turn(view, 6.0, 20_000, 20_000);
                for worker in &mut view.workers {
                    turns(worker).last_answer_age_us = None;
                }
            },
            &["warning stuck-worker"],
        ),
        (
            "a pool accepts before it is done",
            puma,
            |view| {
                long_turn(view, 6.0, 20_000, 20_000);
                for worker in &mut view.workers {
                    turns(worker).last_answer_age_us = None;
                }
            },
            &[],
        ),
        (
            "but it has answered while this turn went on",
            puma,
            |view| {
                long_turn(view, 20.0, 20_000, 20_000);
                for worker in &mut view.workers {
                    turns(worker).last_answer_age_us = None;
                }
            },
            &["warning stuck-worker"],
        ),
        (
            "a loop works on others meanwhile",
            nginx,
            |view| long_turn(view, 60.0, 20_000, 20_000),
            &[],
        ),
        (
            "a slow upload",
            puma,
            |view| {
                long_turn(view, 60.0, 20_000, 20_000);
                let turns = turns(&mut view.workers[0]);
                (turns.reading, turns.calling) = (Some(1), Some(0));
                turns.oldest_calling_us = None;
            },
            &[],
        ),
        (
            "only the age of the oldest is known, which may be a download",
            puma,
            |view| {
                long_turn(view, 60.0, 20_000, 20_000);
                let turns = turns(&mut view.workers[0]);
                turns.writing = Some(1);
                turns.oldest_calling_us = None;
            },
            &[],
        ),
        (
            "only the age of the oldest is known, and it is the only one",
            unicorn,
            |view| {
                long_turn(view, 60.0, 20_000, 20_000);
                turns(&mut view.workers[0]).oldest_calling_us = None;
            },
            &["warning stuck-worker"],
        ),
        (
            "it may be of a listener of which nothing is known",
            unicorn,
            |view| {
                long_turn(view, 60.0, 20_000, 20_000);
                let mut other = view.listeners[0].clone();
                other.id = "1:18".to_owned();
                other.recent.answer = None;
                other.turns.as_mut().unwrap().answer.count = 0;
                view.listeners.push(other);
                let mut part = view.workers[0].listeners[0].clone();
                part.id = "1:18".to_owned();
                view.workers[0].listeners.push(part);
            },
            &[],
        ),
    ]);
}
