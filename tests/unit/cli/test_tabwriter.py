from enxame.cli.tabwriter import align


def test_columns_are_as_wide_as_their_widest_cell_and_three_spaces():
    assert align(["ID\tNAME\tX", "abcdefghijkl\tweb\t"]) == "ID             NAME      X\nabcdefghijkl   web       \n"


def test_no_column_is_narrower_than_ten():
    assert align(["A\tB", "1\t2"]) == "A         B\n1         2\n"


def test_what_follows_the_last_tab_is_not_aligned():
    assert align(["a\tlong long long", "b\tx\ty"]) == "a         long long long\nb         x         y\n"


def test_a_column_ends_where_a_line_has_no_cell_in_it():
    text = align(["aaaaaaaaaaaaaaa\tx", "no cell here", "b\ty"])
    assert text == "aaaaaaaaaaaaaaa   x\nno cell here\nb         y\n"


def test_characters_are_counted_not_bytes():
    assert align(["é…\tx", "ab\ty"]).splitlines()[0] == "é…        x"
