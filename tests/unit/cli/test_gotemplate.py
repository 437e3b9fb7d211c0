import pytest

from enxame.cli.errors import BadTemplate
from enxame.cli.gotemplate import HEADER_FUNCTIONS, Template
from enxame.cli.typed import typed

DATA = {
    "A": 1,
    "B": "two",
    "M": {"b": 1, "a": "x"},
    "L": [1, 2.5, None, True],
    "N": None,
    "E": [],
    "Deep": {"Er": {"Est": "!"}},
}


@pytest.mark.parametrize(
    ("source", "text"),
    [
        ("plain", "plain"),
        ("{{.A}}-{{.B}}", "1-two"),
        ("{{.Deep.Er.Est}}{{(.Deep).Er.Est}}", "!!"),
        ("{{.M}} {{.L}} {{.N}}", "map[a:x b:1] [1 2.5 <nil> true] <nil>"),
        ("{{json .M}}", '{"b":1,"a":"x"}'),
        ("{{json .L}}", "[1,2.5,null,true]"),
        ("{{len .L}}{{len .B}}{{len .M}}", "432"),
        ('{{index .L 1}} {{index .M "a"}} {{(index .L 0)}}', "2.5 x 1"),
        ("{{range .L}}{{.}};{{end}}", "1;2.5;<nil>;true;"),
        ("{{range $i, $v := .L}}{{$i}}={{$v}} {{end}}", "0=1 1=2.5 2=<nil> 3=true "),
        ("{{range $k, $v := .M}}{{$k}}{{$v}}{{end}}", "axb1"),
        ("{{range .E}}x{{else}}none{{end}}", "none"),
        ("{{range .L}}{{if not .}}{{break}}{{end}}{{.}}{{end}}", "12.5"),
        ("{{range .L}}{{if not .}}{{continue}}{{end}}{{.}}{{end}}", "12.5true"),
        ("{{if .E}}a{{else if .B}}b{{else}}c{{end}}", "b"),
        ("{{if .Missing}}a{{else}}b{{end}}", "b"),
        ("{{with .Deep}}{{.Er.Est}}{{end}}{{with .N}}x{{else}}y{{end}}", "!y"),
        ("{{with $x := .B}}{{$x}}{{$.A}}{{end}}", "two1"),
        ("{{$x := 1}}{{if true}}{{$x = 2}}{{end}}{{$x}}", "2"),
        ('{{eq .A 1}} {{eq .B "x" "two"}} {{ne .A 2}} {{lt .A 2}} {{ge .A 2}}', "true true true true false"),
        ("{{and .A .E}} {{or .E .B}} {{and .A .B}} {{not .A}}", "[] two two false"),
        ("{{and .N (index .E 9)}}", "<nil>"),
        ('{{.B | upper | printf "%q"}}', '"TWO"'),
        (
            '{{printf "%-5s|%5d|%05d|%.2f|%v|%t|%x|%%" .B 7 7 2.5 .M true 255}}',
            "two  |    7|00007|2.50|map[a:x b:1]|true|ff|%",
        ),
        ('{{printf "%d" "x"}}', "%!d(str=x)"),
        ('{{join (split "a,b,c" ",") "-"}}', "a-b-c"),
        ('{{lower "ABC"}}{{title "abc def"}}{{truncate "abcdef" 3}}{{pad "x" 1 2}}|', "abcAbc Defabc x  |"),
        ('{{print 1 2 "a" 3}}{{println "x" 1}}', "1 2a3x 1\n"),
        ("a {{- .A -}} b", "a1b"),
        ("a{{/* a comment */}}b {{- /* trimmed */ -}} c", "abc"),
        ('{{"a\\tb\\"c"}}{{`raw\\t`}}', 'a\tb"craw\\t'),
        ("{{.a}}{{.DEEP.er.EST}}", "1!"),
        ('{{slice .B 1 2}}{{html "<a>"}}', "w&lt;a&gt;"),
    ],
)
def test_renders_as_go_does(source, text):
    assert Template(source).render(DATA) == text


@pytest.mark.parametrize(
    ("source", "problem"),
    [
        ("{{.Foo}", "template: :1: bad character U+007D '}'"),
        ("{{.A", "template: :1: unclosed action"),
        ("\n{{nofunc .}}", 'template: :2: function "nofunc" not defined'),
        ("{{if .A}}x", "template: :1: unexpected EOF"),
        ("{{end}}", "template: :1: unexpected {{end}}"),
        ("{{}}", "template: :1: missing value for command"),
        ("{{$x}}", 'template: :1: undefined variable "$x"'),
        ("{{(.A}}", "template: :1: unclosed left paren"),
        ('{{"abc}}', "template: :1: unterminated quoted string"),
        ("{{/* x }}", "template: :1: unclosed comment"),
        ("{{.A | 3}}", "template: :1: non executable command in pipeline stage 2"),
    ],
)
def test_a_template_that_does_not_parse_says_where(source, problem):
    with pytest.raises(BadTemplate) as caught:
        Template(source)
    assert caught.value.message == f"template parsing error: {problem}"
    assert caught.value.code == 64


@pytest.mark.parametrize(
    ("source", "problem"),
    [
        ("{{.Nope}}", 'template: :1:2: executing "" at <.Nope>: map has no entry for key "Nope"'),
        ("{{.A.B}}", 'template: :1:2: executing "" at <.A.B>: can\'t evaluate field B in type int'),
        ("{{index .L 9}}", 'template: :1:2: executing "" at <index>: error calling index: index out of range: 9'),
        ("{{lt .A .B}}", 'template: :1:2: executing "" at <lt>: error calling lt: incompatible types for comparison'),
        ("{{len .A}}", 'template: :1:2: executing "" at <len>: error calling len: len of type int'),
    ],
)
def test_a_template_that_does_not_fit_the_data_says_where(source, problem):
    with pytest.raises(BadTemplate) as caught:
        Template(source).render(DATA)
    assert caught.value.message == f"template parsing error: {problem}"


def test_functions_leave_headers_as_they_are():
    assert (
        Template("{{lower .B}} {{json .A}}").render({"A": "ONE", "B": "TWO"}, functions=HEADER_FUNCTIONS) == "TWO ONE"
    )


def test_durations_and_times_of_swarm_objects_print_as_gos():
    item = typed(
        {"Version": {"Index": 1}, "CreatedAt": "2026-11-22T05:15:11.2240Z", "Spec": {"Delay": 90 * 10**9, "Monitor": 0}}
    )
    text = Template("{{.CreatedAt}} {{.Spec.Delay}} {{.Spec.Monitor}} {{json .Spec}}").render(item)
    assert text == '2026-11-22 05:15:11.224 +0000 UTC 1m30s 0s {"Delay":90000000000,"Monitor":0}'
