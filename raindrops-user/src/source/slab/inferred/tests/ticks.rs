//! Ticks, and what looks like them.

use super::{
    HOST, Kind, NOW, Pid, Recogniser, STARTED, Scene, SlabKind, Told, ZERO, ages, numbered, page,
};

#[test]
fn one_look_tells_ticks_of_several_workers() {
    let tell = |words: &[u64]| {
        Scene::of(Kind::Unicorn, 2)
            .share(1, page(words))
            .first_look()
    };
    let of_both = ages(&[(101, Some(3)), (102, Some(0))]);
    assert_eq!(tell(&[NOW - 3, NOW]), of_both);
    // A worker that is gone has left its last one.
    assert_eq!(tell(&[NOW - 3, NOW, STARTED + 7]), of_both);
    for (words, why) in [
        ([0, 0], "nothing is said"),
        ([NOW - 3, 0], "one worker may have met the time by chance"),
        ([NOW - 3, NOW - 600], "too old to be believed at once"),
    ] {
        assert_eq!(tell(&words), vec![], "{why}");
    }
}

#[test]
fn ticks_wait_for_those_who_are_not_read() {
    let mut scene = Scene::of(Kind::Unicorn, 2);
    scene.unread = vec![Pid(101), Pid(102)];
    let mut recogniser = Recogniser::new(HOST);
    let partly = scene.clone().map(1, &[100], ZERO, page(&[NOW, NOW]));
    assert_eq!(partly.look(&mut recogniser, NOW), vec![]);
    scene.unread.clear();
    let scene = scene.share(1, page(&[NOW, NOW]));
    let told = scene.look(&mut recogniser, NOW + 1);
    assert_eq!(told, ages(&[(101, Some(1)), (102, Some(1))]));
}

#[test]
fn changes_tell_ticks() {
    let mut scene = Scene::of(Kind::Rainbows, 1).share(1, page(&[NOW - 3]));
    let mut recogniser = Recogniser::new(HOST);
    assert_eq!(scene.look(&mut recogniser, NOW), vec![]);
    scene.write(1, &[NOW + 1]);
    assert_eq!(
        scene.look(&mut recogniser, NOW + 2),
        ages(&[(101, Some(1))])
    );
    // A stopped one grows old, a new one has not said anything yet.
    assert_eq!(
        scene.look(&mut recogniser, NOW + 62),
        ages(&[(101, Some(61))])
    );
    scene.write(1, &[0]);
    assert_eq!(scene.look(&mut recogniser, NOW + 63), ages(&[(101, None)]));
}

#[test]
fn what_passes_the_time_by_chance_is_no_tick() {
    // A counter that is faster than time, from below.
    let mut scene = Scene::of(Kind::Unicorn, 1).share(1, page(&[NOW - 10]));
    let mut recogniser = Recogniser::new(HOST);
    assert_eq!(scene.look(&mut recogniser, NOW), vec![]);
    for second in 1..30 {
        scene.write(1, &[NOW - 10 + 3 * second]);
        let told = scene.look(&mut recogniser, NOW + second);
        assert_eq!(told, numbered(&[(NOW - 10 + 3 * second) as i64]));
    }
}

#[test]
fn one_wrong_time_is_made_up_for() {
    let mut scene = Scene::of(Kind::Unicorn, 2).share(1, page(&[NOW, NOW]));
    let mut recogniser = Recogniser::new(HOST);
    let told = scene.look(&mut recogniser, NOW);
    assert_eq!(told, ages(&[(101, Some(0)), (102, Some(0))]));
    let told = scene.look(&mut recogniser, NOW + 3);
    assert_eq!(told, ages(&[(101, Some(3)), (102, Some(3))]));
    scene.write(1, &[NOW, NOW + 2]);
    assert_eq!(scene.look(&mut recogniser, NOW + 5), vec![]);
    for second in 6..13 {
        scene.write(1, &[NOW + second, NOW + second]);
        let told = scene.look(&mut recogniser, NOW + second);
        assert_eq!(told, vec![], "{second}");
    }
    scene.write(1, &[NOW + 13, NOW + 13]);
    let told = scene.look(&mut recogniser, NOW + 13);
    assert_eq!(told, ages(&[(101, Some(0)), (102, Some(0))]));
}

#[test]
fn ticks_in_several_memories_are_nobodys() {
    let scene = Scene::of(Kind::Unicorn, 65)
        .share(1, page(&[NOW; 64]))
        .share(2, page(&[NOW]));
    assert_eq!(scene.first_look(), vec![]);
    let scene = Scene::of(Kind::Unicorn, 2)
        .share(1, page(&[NOW; 2]))
        .share(2, page(&[NOW; 2]));
    assert_eq!(scene.first_look(), vec![]);
}

#[test]
fn ticks_of_another_clock_are_refused() {
    // Of a namespace whose clock is behind, and ahead.
    for words in [[STARTED - 100, STARTED - 90], [NOW + 5, NOW + 5]] {
        let mut scene = Scene::of(Kind::Unicorn, 2).share(1, page(&words));
        let mut recogniser = Recogniser::new(HOST);
        for second in 0..20 {
            scene.write(1, &words.map(|word| word + second));
            let told = scene.look(&mut recogniser, NOW + second);
            let is_tick = |it: &Told| it.0 == SlabKind::UnicornTick;
            assert!(!told.iter().any(is_tick), "{told:?}");
        }
    }
}
