//! Processes that claim to be what they are not, and titles and trees that make no sense.

use super::{Row, UNICORN, run};
use crate::{
    fact::Fact,
    ids::{Inode, Pid},
};

#[test]
fn a_title_alone_joins_no_server() {
    let mut rows = UNICORN.to_vec();
    rows.push((
        9000,
        8710,
        "evil",
        "unicorn worker[0] -c unicorn.conf.rb config.ru",
        &[33456],
    ));
    rows.push((
        9001,
        9000,
        "evil",
        "unicorn worker[99999999999999999999]",
        &[44],
    ));
    rows.push((
        9002,
        8710,
        "ev\nil",
        "puma: cluster worker 0: 8719 [x]",
        &[45],
    ));
    let servers = run(&rows, &[]);
    let real = servers
        .servers
        .iter()
        .find(|server| server.id == "unicorn:8719");
    assert_eq!(real.unwrap().workers, [8770, 8771]);
    assert_eq!(
        servers.listeners[&Inode(33456)].server,
        Fact::Is("unicorn:8719".into())
    );
    assert_eq!(servers.members[&Pid(9001)].index, None);
    assert_eq!(
        servers.listeners[&Inode(45)].server,
        Fact::Is("puma:9002".into())
    );

    // A worker of something else that calls itself a worker of unicorn.
    let rows: &[Row<'_>] = &[
        (10, 1, "php-fpm", "php-fpm: master process", &[5]),
        (11, 10, "php-fpm", "php-fpm: pool www", &[5]),
        (12, 10, "php-fpm", "unicorn worker[0]", &[5]),
    ];
    let servers = run(rows, &[]);
    assert_eq!(
        servers.listeners[&Inode(5)].server,
        Fact::Is("other:10".into())
    );
    assert_eq!(servers.members[&Pid(11)].title, "php-fpm");
}

#[test]
fn survives_any_title_and_any_tree() {
    let long = format!("unicorn worker[0] {}", "\u{1f980}\n\x1b".repeat(1000));
    let titles = [
        "",
        " ",
        &long,
        "unicorn master",
        "puma: cluster worker 0: 1",
        "nginx: ",
        "gunicorn x",
    ];
    for one in titles {
        for other in titles {
            // Each the parent of the other, one its own parent.
            let rows = [
                (5, 6, "a", one, &[1, 2][..]),
                (6, 5, "b", other, &[1]),
                (7, 7, ")", one, &[2]),
            ];
            let servers = run(&rows, &[(1, &[6]), (2, &[5, 7, 99])]);
            assert!(
                servers
                    .members
                    .values()
                    .all(|member| member.title.chars().count() <= 256)
            );
        }
    }
}
