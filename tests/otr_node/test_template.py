"""Chat templates: the library's text for every honest one, and nothing from outside for any."""

from __future__ import annotations

import datetime
import subprocess
import sys
import time
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from otr_core.errors import ModelError
from otr_node.template import ChatTemplate

TOKENS = {"bos_token": "<s>", "eos_token": "</s>"}
DAY = datetime.date(2026, 1, 5)

#: Templates in the ways of writing that instruction-tuned models have, in words of our own.
HONEST = {
    "plain": "{% for m in messages %}<{{ m.role }}> {{ m['content'] }} {% endfor %}",
    "blocks": """{{- bos_token }}
    {%- if messages[0].role == 'system' %}
        {%- set first = messages[0].content %}
        {%- set rest = messages[1:] %}
    {%- else %}
        {%- set first = 'Be brief.' %}{% set rest = messages %}
    {%- endif %}
    [{{ first | trim }}]
    {% for m in rest %}
        {%- if (m.role == 'user') != (loop.index0 % 2 == 0) %}
            {{- raise_exception('roles take turns') }}
        {%- endif %}
        {{- '\\n' ~ m.role | upper ~ ': ' ~ m.content.strip() ~ eos_token }}
        {%- if loop.last and add_generation_prompt %}{{ '\\nASSISTANT: ' }}{% endif %}
    {%- endfor %}""",
    "tools": """{% if tools is defined and tools is not none %}{{ tools | tojson(indent=2) }}{% endif %}
{% set ns = namespace(count=0, last='') %}{% for m in messages | selectattr('role', 'in', ['user', 'tool']) %}
{% set ns.count = ns.count + 1 %}{% set ns.last = m['content'].split('?')[0] %}
{% endfor %}{{ ns.count }} {{ ns.last | tojson }} {{ {'a': [1, 2.5, true, none]} | tojson }}""",
    "macro": """{% macro turn(m, end='.') %}<{{ m.role.replace('us', 'hum') }}>{{ m.content }}{{ end }}{% endmacro %}
{% for m in messages %}{% generation %}{{ turn(m) }}{% endgeneration %}{% if not loop.last %}{% continue %}{% endif %}
{% for key, value in m.items() | list %}{{ key }}={{ value | length }};{% endfor %}{% break %}{% endfor %}
{{ ['x', 'y'] | map('upper') | join('+') }}{{ 'z'.join(['1', '2']) }}{{ nothing }}{{ missing is defined }}""",
    "date with a way out": """{% if date_string is not defined %}{% if strftime_now is defined %}
{% set date_string = strftime_now('%d %b %Y') %}{% else %}{% set date_string = '1 Jan 2020' %}{% endif %}{% endif %}
Today: {{ date_string }} {{ messages[0]['content'] }}""",
}
NEEDS_THE_DATE = "{{ bos_token }}Today is {{ strftime_now('%B %d, %Y') }}.{{ messages[-1].content }}"


def library_text(source: str, prompt: str) -> str:
    from transformers.utils.chat_template_utils import render_jinja_template

    chat = [[{"role": "user", "content": prompt}]]
    return str(render_jinja_template(chat, chat_template=source, add_generation_prompt=True, **TOKENS)[0][0])


@pytest.mark.parametrize("name", [name for name in HONEST if "date" not in name])
@given(prompt=st.text(max_size=60))
def test_the_text_is_the_librarys(name: str, prompt: str) -> None:
    assert ChatTemplate(HONEST[name], TOKENS).render(prompt) == library_text(HONEST[name], prompt)


def test_moving_the_clock_moves_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    from transformers.utils import chat_template_utils

    source = HONEST["date with a way out"]
    ours, theirs = set(), set()
    for seconds in (1_000_000_000, 1_800_000_000):

        class Moved(datetime.datetime):
            at = seconds

            @classmethod
            def now(cls, tz: Any = None) -> datetime.datetime:
                return datetime.datetime.fromtimestamp(cls.at, tz)

        monkeypatch.setattr(chat_template_utils, "datetime", Moved)
        monkeypatch.setattr(time, "time", lambda seconds=seconds: seconds)
        ours.add(ChatTemplate(source, TOKENS).render("Why?"))
        theirs.add(library_text(source, "Why?"))
    assert len(theirs) == 2  # the library's moves with it
    assert len(ours) == 1
    assert "Today: 1 Jan 2020 Why?" in ours.pop()


def test_a_template_that_needs_the_date_says_so_and_gets_the_one_it_is_given() -> None:
    template = ChatTemplate(NEEDS_THE_DATE, TOKENS)
    with pytest.raises(ModelError, match=r"asks for today's date \(strftime_now\).*argument date"):
        template.render("Why?")
    assert template.render("Why?", date=DAY) == "<s>Today is January 05, 2026.Why?"
    assert "Today: 05 Jan 2026 Why?" in ChatTemplate(HONEST["date with a way out"], TOKENS).render("Why?", date=DAY)


def test_dates_are_written_as_strftime_writes_them_in_english() -> None:
    form = "%d|%e|%-d|%m|%-m|%Y|%y|%B|%b|%A|%a|%F|%%|x"
    template = ChatTemplate("{{ strftime_now('" + form + "') }}", {})
    for day in (DAY, datetime.date(1999, 12, 31), datetime.date(2024, 2, 29)):
        assert template.render("", date=day) == day.strftime(form)
    for other in ("%H", "%M", "%s", "%Z", "%c", "%j", "%", "%-", "%-H", "%é"):
        with pytest.raises(ModelError, match="of the date"):
            ChatTemplate("{{ strftime_now('" + other + "') }}", {}).render("", date=DAY)


@pytest.mark.parametrize(
    ("source", "reason"),
    [
        ("{{ [1, 2, 3] | random }}", "No filter named 'random'"),
        ("{{ lipsum() }}", "'lipsum' is undefined"),
        ("{{ 'a'.format }}", "str.format"),
        ("{{ 'a' | attr('upper') }}", "No filter named 'attr'"),
        ("{{ messages }}", "writes a list"),
        ("{{ messages[0] }}", "writes a dict"),
        ("{{ messages[0].get }}", "writes a _Named"),
        ("{{ range }}", "writes a _Named"),
        ("{{ namespace(a=1) }}", "writes a Namespace"),
        ("{{ messages | map('upper') }}", "writes a _Stream"),
        ("{% set x %}{{ messages }}{% endset %}{{ x }}", "writes a list"),
        ("{{ '%s' % messages }}", "operator %"),
        ("{% block a %}{% endblock %}{{ self.a ~ '' }}", "TemplateReference.a"),
        ("{{ ''.__class__.__mro__ }}", "undefined|unsafe"),
        ("{% include 'x' %}", "no loader"),
        ("{{ raise_exception('only two roles') }}", r"refuses the message \(only two roles\)"),
        ("{{ unknown.deeper }}", "'unknown' is undefined"),
        ("{{ 1 / 0 }}", "division"),
        ("{{ 'x' | tojson(separators=3) }}", "chat template"),
        ("{% if %}", "environment runs"),
        ("{{ 'a' }" + " " * 200_000, "found 2000.. characters"),
    ],
)
def test_what_is_not_text_or_not_there_is_refused(source: str, reason: str) -> None:
    with pytest.raises(ModelError, match=reason):
        ChatTemplate(source, TOKENS).render("Why?")


SHOWN_IN_WORDS = """{{ messages[0].get ~ messages[0]['items'] ~ range ~ dict ~ raise_exception ~ namespace(a=range) }}
{{ ([1] | map('upper')) ~ ([range] | list) ~ (range | string) ~ namespace ~ ([messages[0].get] | join) ~ self }}
{% macro f() %}{% endmacro %}{{ f ~ strftime_now ~ (messages | selectattr('role')) ~ messages[0].keys() }}
{% for x in [1] %}{{ loop ~ '' }}{% endfor %}{{ [range, range('3' | int)] | join('-') }}{{ {'a': 1}.values ~ '' }}"""


def test_no_address_of_an_object_gets_into_the_text() -> None:
    """In two processes, whose addresses and whose order of hashes differ."""
    program = (
        "import sys, datetime; from otr_node.template import ChatTemplate; padding = [object() for _ in range(77)]; "
        "print(ChatTemplate(sys.argv[1], {}).render('Why?', date=datetime.date(2026, 1, 5)))"
    )
    texts = {
        subprocess.run(
            [sys.executable, "-c", program, SHOWN_IN_WORDS],
            check=True,
            capture_output=True,
            text=True,
            env={"PYTHONPATH": ":".join(path for path in sys.path if path), "PYTHONHASHSEED": seed},
        ).stdout
        for seed in ("1", "2")
    }
    assert len(texts) == 1
    assert " at 0x" not in texts.pop()


LOOP = "{% set ns = namespace(x='ab', n=3) %}{% for i in range(60) %}"
BOMBS = [
    "{% for i in range(60000) %}{% for j in range(60000) %}{% endfor %}{% endfor %}",
    "{% set r = range(60000) %}{% for i in r %}{% for j in r if false %}{% endfor %}{% endfor %}",
    "{{ range(10000000) | list | length }}",
    "{{ 'x' * 1000000000 }}",
    "{{ 1000000000 * [1] }}",
    "{{ 9 ** 999999999 }}",
    "{{ 'a' | indent(999999999) }}",
    "{{ [1] | batch(999999999, 'x') | list | length }}",
    "{{ [1] | slice(99999999) | list | length }}",
    LOOP + "{% set ns.x = ns.x ~ ns.x %}{% endfor %}",
    LOOP + "{% set ns.x = ns.x + ns.x %}{% endfor %}",
    LOOP + "{% set ns.x = ns.x.replace('a', 'aaaa') %}{% endfor %}",
    LOOP + "{% set ns.x = ns.x | replace('a', 'aaaa') %}{% endfor %}",
    LOOP + "{% set ns.x = ns.x.join([ns.x, ns.x]) %}{% endfor %}",
    LOOP + "{% set ns.x = [ns.x, ns.x] | join(ns.x) %}{% endfor %}",
    LOOP + "{% set ns.n = ns.n * ns.n %}{% endfor %}",
    LOOP + "{% set ns.x = [ns.x, ns.x] %}{% endfor %}{{ ns.x == ns.x }}",
    LOOP + "{% set ns.x = [ns.x, ns.x] %}{% endfor %}{{ ns.x | tojson }}",
    LOOP + "{% set ns.x = {'a': ns.x, 'b': ns.x} %}{% endfor %}{{ ns.x | string }}",
    LOOP + "{% set x %}{{ ns.x }}{{ ns.x }}{% endset %}{% set ns.x = x %}{% endfor %}",
    "{% for i in range(60000) %}" + "long text " * 1000 + "{% endfor %}",
    "{% macro f(n) %}{{ f(n) }}{{ f(n) }}{% endmacro %}{{ f(1) }}",
    "{% macro f(n) %}{% if n %}{{ f(n - 1) }}{{ f(n - 1) }}{% endif %}{% endmacro %}{{ f(40) }}",
    "{% for x in [[1]] recursive %}{{ loop([[x], [x]]) }}{{ loop([[x], [x]]) }}{% endfor %}",
    "{{ " + "(" * 5000 + "1" + ")" * 5000 + " }}",
]


@pytest.mark.parametrize("source", BOMBS, ids=lambda source: source[:40])
def test_a_template_that_would_not_end_is_stopped(source: str) -> None:
    began = time.process_time()
    with pytest.raises(ModelError):
        ChatTemplate(source, TOKENS).render("Why?")
    assert time.process_time() - began < 10  # a second or so alone


def test_a_long_prompt_has_the_room_it_needs() -> None:
    prompt = "why? " * 400_000
    for source in HONEST.values():
        assert len(ChatTemplate(source, TOKENS).render(prompt)) > 8


@given(source=st.text(alphabet="{}%- ~|.[]()'\"=+*<>abfiorsetndmx0129\n", max_size=80))
def test_any_text_renders_or_is_refused(source: str) -> None:
    """Nothing but a named error escapes, and what renders renders the same again."""
    try:
        text = ChatTemplate("{%" + source + "%}x{{" + source, TOKENS).render("Why?")
    except ModelError:
        try:
            text = ChatTemplate(source, TOKENS).render("Why?")
        except ModelError:
            return
    assert isinstance(text, str)


def test_a_template_that_calls_itself_ends_as_an_error_whatever_the_process_allows() -> None:
    """Libraries of the chain raise Python's recursion limit; C's stack would be the next to end."""
    code = (
        "import sys; sys.setrecursionlimit(100_000)\n"
        "from otr_node.template import ChatTemplate\n"
        "ChatTemplate('{% macro f(n) %}{{ f(n) }}{% endmacro %}{{ f(1) }}', {}).render('x')"
    )
    ended = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert ended.returncode == 1
    assert "ModelError: chat template: " in ended.stderr
