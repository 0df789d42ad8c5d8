//! Counters of applications and of their workers.

use super::{
    HOST, Kind, Maps, NOW, Pid, Recogniser, Scene, StartTicks, ZERO, calls, clients, numbered,
    page, strided,
};

#[test]
fn calls_are_told_once_there_was_one() {
    let mut scene = Scene::of(Kind::Unicorn, 2)
        .share(1, page(&[0, 0]))
        .share(2, page(&[0, 0]));
    let mut recogniser = Recogniser::new(HOST);
    assert_eq!(scene.look(&mut recogniser, NOW), vec![]);
    scene.write(2, &[1, 1]);
    assert_eq!(scene.look(&mut recogniser, NOW), calls(1, 1));
    scene.write(2, &[0, 0]);
    assert_eq!(scene.look(&mut recogniser, NOW), calls(0, 0));
    // More than there are workers: some were killed.
    scene.write(2, &[3, 1]);
    assert_eq!(scene.look(&mut recogniser, NOW), calls(3, 1));
    // A new worker, whose memory is not known yet.
    let (mut suspect, _) = scene.processes[&Pid(102)].clone();
    suspect.started = StartTicks(NOW * 100);
    scene.processes.insert(Pid(103), (suspect, Maps::default()));
    scene.unread.push(Pid(103));
    assert_eq!(scene.look(&mut recogniser, NOW), calls(3, 1));
}

#[test]
fn what_is_not_known_to_be_calls_has_numbers() {
    let tell = |kind, words: &[u64]| Scene::of(kind, 2).share(1, page(words)).first_look();
    assert_eq!(tell(Kind::Unicorn, &[2, 1]), numbered(&[2, 1]));
    assert_eq!(tell(Kind::Puma, &[2, 1]), numbered(&[2, 1]));
    assert_eq!(tell(Kind::Unicorn, &[1, 0, 1]), numbered(&[1, 0, 1]));
    assert_eq!(tell(Kind::Unicorn, &[u64::MAX, 1]), numbered(&[-1, 1]));

    let both = Scene::of(Kind::Unicorn, 2)
        .share(1, page(&[1]))
        .share(2, page(&[0, 1]));
    let expected = [numbered(&[1]), numbered(&[0, 1])].concat();
    assert_eq!(both.first_look(), expected);

    let of_some = Scene::of(Kind::Unicorn, 2).map(1, &[100, 101], ZERO, page(&[1]));
    assert_eq!(of_some.first_look(), numbered(&[1]));

    // Middleware keeps none in files.
    let file = Scene::of(Kind::Unicorn, 2).on_disk();
    let file = file.map(1, &[100, 101, 102], "/run/app/counters", page(&[1, 1]));
    assert_eq!(file.first_look(), numbered(&[1, 1]));
}

#[test]
fn what_falls_is_calls_of_threads_too() {
    let mut scene = Scene::of(Kind::Puma, 2).share(1, page(&[2, 1]));
    let mut recogniser = Recogniser::new(HOST);
    assert_eq!(scene.look(&mut recogniser, NOW), numbered(&[2, 1]));
    scene.write(1, &[1, 1]);
    assert_eq!(scene.look(&mut recogniser, NOW), calls(1, 1));
    scene.write(1, &[2000, 1000]);
    assert_eq!(scene.look(&mut recogniser, NOW), numbered(&[2000, 1000]));
}

#[test]
fn who_is_not_read_may_have_it_too() {
    let mut scene = Scene::of(Kind::Unicorn, 2).share(1, page(&[1, 0]));
    scene.unread.push(Pid(102));
    assert_eq!(scene.first_look(), vec![]);
}

#[test]
fn counters_do_not_vanish_with_their_values() {
    let mut scene = Scene::of(Kind::Unicorn, 2).share(1, page(&[0, 0, 5]));
    let mut recogniser = Recogniser::new(HOST);
    assert_eq!(scene.look(&mut recogniser, NOW), numbered(&[0, 0, 5]));
    scene.write(1, &[7]);
    assert_eq!(scene.look(&mut recogniser, NOW), numbered(&[7, 0, 0]));
}

#[test]
fn a_program_of_musl_has_other_strides() {
    let scene = |has_musl| {
        Scene::of(Kind::Unicorn, 2)
            .each(|_, maps| maps.has_musl = has_musl)
            .share(1, strided(&[4, 5, 6], 128))
    };
    assert_eq!(scene(true).first_look(), numbered(&[4, 5, 6]));
    assert_eq!(scene(false).first_look(), numbered(&[4, 0, 5, 0, 6]));
}

#[test]
fn clients_are_told_where_a_worker_has_several() {
    let with_epoll =
        |workers| Scene::of(Kind::Rainbows, workers).each(|_, maps| maps.has_sleepy_penguin = true);
    let mut scene = with_epoll(2)
        .map(1, &[101], ZERO, page(&[1]))
        .map(2, &[102], ZERO, page(&[0]));
    let mut recogniser = Recogniser::new(HOST);
    assert_eq!(scene.look(&mut recogniser, NOW), vec![]);
    scene.write(1, &[2]);
    let expected = clients(&[(101, 2), (102, 0)]);
    assert_eq!(scene.look(&mut recogniser, NOW), expected);
    scene.write(1, &[0]);
    let expected = clients(&[(101, 0), (102, 0)]);
    assert_eq!(scene.look(&mut recogniser, NOW), expected);

    for (scene, expected) in [
        // Middleware that each worker has made for itself.
        (
            with_epoll(2).map(1, &[101], ZERO, page(&[5, 1])),
            numbered(&[5, 1]),
        ),
        (
            with_epoll(1).map(1, &[101], ZERO, page(&[5, 1])),
            numbered(&[5, 1]),
        ),
        (
            Scene::of(Kind::Rainbows, 2).map(1, &[101], ZERO, page(&[5])),
            numbered(&[5]),
        ),
        (
            with_epoll(2)
                .map(1, &[101], ZERO, page(&[5]))
                .map(2, &[101], ZERO, page(&[1])),
            [numbered(&[5]), numbered(&[1])].concat(),
        ),
        // What the master, or another worker, has as well.
        (
            with_epoll(2).map(1, &[101, 102], ZERO, page(&[5])),
            numbered(&[5]),
        ),
        (
            with_epoll(1).map(1, &[100], ZERO, page(&[5])),
            numbered(&[5]),
        ),
    ] {
        assert_eq!(scene.first_look(), expected);
    }
}
