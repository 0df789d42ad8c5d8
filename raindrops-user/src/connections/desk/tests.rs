use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
        mpsc::{self, Receiver, Sender},
    },
    thread,
    time::{Duration, Instant},
};

use super::{Desk, LONGEST_REST, REST, WAITING, rest};
use crate::{
    connections::{Answer, Unlisted},
    view::connections::Question,
};

const CEILING: Duration = Duration::from_secs(10);

/// Questions that are told apart by their limits.
fn question(limit: usize) -> Question {
    Question {
        places: Vec::new(),
        worker: None,
        allowed: None,
        limit,
    }
}

fn no_list(text: &str) -> Answer {
    Err(Unlisted {
        error: text.to_owned(),
        hint: String::new(),
    })
}

/// A desk whose reader says that it has begun, and goes on when it is told to.
struct Held {
    desk: Desk<usize>,
    begun: Receiver<usize>,
    go_on: Sender<()>,
    told: Receiver<(&'static str, usize)>,
    telling: Sender<(&'static str, usize)>,
    rendered: Arc<AtomicUsize>,
}

impl Held {
    fn open() -> Self {
        let (begins, begun) = mpsc::channel();
        let (go_on, goes_on) = mpsc::channel();
        let (telling, told) = mpsc::channel();
        let desk = Desk::open(move |question, _| {
            begins.send(question.limit).unwrap();
            let _ = goes_on.recv();
            no_list(&question.limit.to_string())
        });
        Self {
            desk: desk.unwrap(),
            begun,
            go_on,
            told,
            telling,
            rendered: Arc::new(AtomicUsize::new(0)),
        }
    }

    fn ask(&self, who: &'static str, limit: usize, until: Instant) -> Result<(), Unlisted> {
        let (telling, rendered) = (self.telling.clone(), Arc::clone(&self.rendered));
        let render = move |answer: Answer| {
            rendered.fetch_add(1, Ordering::Relaxed);
            answer.unwrap_err().error.parse().unwrap()
        };
        let tell = move |limit| telling.send((who, limit)).unwrap();
        self.desk.ask(question(limit), until, render, tell)
    }

    fn begins(&self) -> usize {
        self.begun.recv_timeout(CEILING).unwrap()
    }

    fn tells(&self) -> (&'static str, usize) {
        self.told.recv_timeout(CEILING).unwrap()
    }
}

#[test]
fn who_asks_the_same_shares_one_answer_that_is_read_after_they_asked() {
    let held = Held::open();
    let until = Instant::now() + CEILING;
    held.ask("first", 7, until).unwrap();
    assert_eq!(held.begins(), 7);
    // What is being read may be older than what they want to see.
    for who in ["second", "third", "fourth"] {
        held.ask(who, 7, until).unwrap();
    }
    held.ask("other", 8, until).unwrap();
    for _ in 0..3 {
        held.go_on.send(()).unwrap();
    }
    let told: Vec<_> = (0..5).map(|_| held.tells()).collect();
    assert_eq!(
        told,
        [
            ("first", 7),
            ("second", 7),
            ("third", 7),
            ("fourth", 7),
            ("other", 8)
        ]
    );
    assert_eq!([held.begins(), held.begins()], [7, 8]);
    assert_eq!(held.rendered.load(Ordering::Relaxed), 3);
    assert!(held.begun.try_recv().is_err(), "nobody asked for more");
}

#[test]
fn only_so_many_different_questions_wait() {
    let held = Held::open();
    let until = Instant::now() + CEILING;
    held.ask("first", 1, until).unwrap();
    held.begins();
    for limit in 0..WAITING {
        held.ask("waiting", 10 + limit, until).unwrap();
    }
    let why = held.ask("too many", 20, until).unwrap_err();
    assert_eq!(
        why.error,
        "others are being told of connections, and more wait"
    );
    held.ask("as another", 10, until).unwrap();
}

#[test]
fn who_has_waited_too_long_is_not_served() {
    let held = Held::open();
    let now = Instant::now();
    held.ask("first", 1, now + CEILING).unwrap();
    held.begins();
    let soon = Instant::now() + Duration::from_millis(5);
    held.ask("impatient", 2, soon).unwrap();
    held.ask("patient", 3, now + CEILING).unwrap();
    // Somebody else still waits for the same.
    held.ask("impatient too", 4, soon).unwrap();
    held.ask("patient too", 4, now + CEILING).unwrap();
    while Instant::now() <= soon {
        thread::sleep(Duration::from_millis(1));
    }
    for _ in 0..3 {
        held.go_on.send(()).unwrap();
    }
    let told: Vec<_> = (0..4).map(|_| held.tells().0).collect();
    assert_eq!(told, ["first", "patient", "impatient too", "patient too"]);
}

#[test]
fn after_each_answer_there_is_a_rest() {
    assert_eq!(rest(Duration::ZERO), Duration::ZERO);
    assert_eq!(rest(Duration::from_millis(20)), Duration::from_millis(180));
    assert_eq!(rest(Duration::from_secs(2)), LONGEST_REST);

    const WORK: Duration = Duration::from_millis(10);
    let (begins, begun) = mpsc::channel();
    let desk = Desk::open(move |_, _| {
        begins.send(Instant::now()).unwrap();
        thread::sleep(WORK);
        no_list("")
    });
    let desk = desk.unwrap();
    for limit in 0..WAITING {
        let until = Instant::now() + CEILING;
        desk.ask(question(limit), until, drop, drop).unwrap();
    }
    let begun: Vec<Instant> = (0..WAITING)
        .map(|_| begun.recv_timeout(CEILING).unwrap())
        .collect();
    let between = begun.windows(2).map(|pair| pair[1] - pair[0]);
    let least = WORK * (REST + 1);
    assert!(between.clone().all(|it| it >= least), "{begun:?}");
}

#[test]
fn who_would_leave_before_the_rest_is_over_is_told_at_once() {
    const WORK: Duration = Duration::from_millis(100);
    let desk = Desk::open(|_, _| {
        thread::sleep(WORK);
        no_list("")
    });
    let desk = desk.unwrap();
    let until = Instant::now() + CEILING;
    desk.ask(question(1), until, drop, drop).unwrap();
    let why = loop {
        let soon = Instant::now() + WORK;
        match desk.ask(question(1), soon, drop, drop) {
            Err(why) => break why,
            Ok(()) => assert!(Instant::now() < until),
        }
        thread::sleep(Duration::from_millis(1));
    };
    assert_eq!(
        why.error,
        "connections have just been read, which took long"
    );
    assert!(why.hint.starts_with("ask again in "), "{why:?}");
}

#[test]
fn a_thread_that_has_ended_is_told() {
    let desk: Desk<()> = Desk::open(|_, _| panic!("on purpose")).unwrap();
    let until = Instant::now() + CEILING;
    let (tell, told) = mpsc::channel();
    let _ = desk.ask(question(1), until, drop, move |()| tell.send(()).unwrap());
    assert!(told.recv_timeout(CEILING).is_err(), "nobody answers");
    let why = loop {
        match desk.ask(question(1), until, drop, drop) {
            Err(why) => break why,
            Ok(()) => assert!(Instant::now() < until),
        }
    };
    assert_eq!(why.error, "the thread that reads connections has ended");
}
