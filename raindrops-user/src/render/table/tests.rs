use super::{Cell, Column, Table, cut_middle, wrap};

#[test]
fn the_middle_is_cut() {
    for (text, width, keep, cut) in [
        ("/run/app.sock", 13, 0, "/run/app.sock"),
        ("/run/application.sock", 13, 0, "/ru..ion.sock"),
        ("127.100.200.30:58807 #2", 12, 9, "1..:58807 #2"),
        ("127.100.200.30:58807 #2", 11, 9, "..:58807 #2"),
        ("abcdef", 3, 0, "..f"),
        ("abcdef", 2, 0, ".."),
        ("abcdef", 0, 0, ""),
    ] {
        assert_eq!(cut_middle(text, width, keep), cut, "{text} {width}");
    }
}

#[test]
fn words_wrap_and_long_ones_stay_whole() {
    assert_eq!(wrap("a bb ccc", Some(4), 2), "a bb\n  ccc");
    assert_eq!(wrap("aaaaaaa b", Some(4), 0), "aaaaaaa\nb");
    assert_eq!(wrap("a b", None, 0), "a b");
    assert_eq!(wrap("  a bb c", Some(6), 4), "  a bb\n    c");
}

#[test]
fn a_table_gives_up_one_thing_after_the_other() {
    let mut table = Table::new(vec![
        Column::left("NAME").cut_to(10, 6),
        Column::right("COUNT").short("N"),
        Column::right("AGE").rank(1),
        Column::left("AT").rank(0),
    ]);
    table.push(vec![
        Cell::new("/run/app.sock"),
        Cell::new("1200345").short("1.2M"),
        Cell::new("9s"),
        Cell::new("x"),
    ]);
    for (width, expected) in [
        (
            31,
            "NAME             COUNT  AGE  AT\n/run/app.sock  1200345   9s  x\n",
        ),
        (
            30,
            "NAME            COUNT AGE AT\n/run/app.sock 1200345  9s x\n",
        ),
        (
            27,
            "NAME           COUNT AGE AT\n/ru..pp.sock 1200345  9s x\n",
        ),
        (24, "NAME            N AGE AT\n/ru..pp.sock 1.2M  9s x\n"),
        (21, "NAME             N AT\n/run/app.sock 1.2M x\n"),
        (18, "NAME          N AT\n/r..p.sock 1.2M x\n"),
        (14, "NAME      N AT\n/..ock 1.2M x\n"),
        (13, "NAME        N\n/r..sock 1.2M\n"),
        (1, "NAME      N\n/..ock 1.2M\n"),
    ] {
        let mut out = Vec::new();
        table.lay_out(Some(width)).write(false, &mut out).unwrap();
        assert_eq!(String::from_utf8(out).unwrap(), expected, "{width}");
    }
}
