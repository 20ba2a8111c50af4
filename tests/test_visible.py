"""Characters that act instead of being seen: never written as they are, and never taken out of a prompt."""

import unicodedata

import av
import pytest

from longlive_core import cli
from longlive_core.film.subtitles import Subtitle
from longlive_core.run.reports import progress_line
from longlive_core.takes import Live, TakeStore, find_branch_point
from longlive_core.takes.labels import branch_report, take_choices, take_label, take_report
from longlive_core.timeline import TimelineError, parse, plan_text, timeline_report
from longlive_core.words.visible import make_visible
from longlive_core.words.wording import shorten, shorten_middle

from .made_takes import manifest, place
from .test_subtitles import read_subtitles, write

CONTROLS = [chr(code) for code in (*range(0x20), *range(0x7F, 0xA0))]
DIRECTIONS = [chr(code) for code in (*range(0x202A, 0x202F), *range(0x2066, 0x206A), 0x200E, 0x200F, 0x061C)]
NOTHING = list("\u200b\u2060\ufeff\u00ad\u2028\u2029\u206f\ufff9\ufffb\u180e\u3164\U000e0001\ud800\udfff")
ACTING = [char for char in CONTROLS if char not in "\t\n"] + DIRECTIONS + NOTHING

PROMPTS = {
    "Arabic": "كرة حمراء تقفز في المرج، ثم تتوقف",
    "Hebrew": "כַּדּוּר אָדֹם קוֹפֵץ עַל הַדֶּשֶׁא",
    "Persian, with ZWNJ": "توپ\u200cهای قرمز می\u200cپرند",
    "Hindi, with ZWJ": "क्\u200dष श्री लाल गेंद",
    "Bengali, with ZWNJ": "র\u200cযাব লাল বল",
    "Malayalam, with ZWJ": "അവന്\u200d ചുവന്ന പന്ത്",
    "Sinhala, with ZWJ": "ක්\u200dෂ ශ්\u200dරී",
    "family": "👨\u200d👩\u200d👧\u200d👦 walks",
    "skin and sex": "a 👩🏽\u200d🚀 and a 🏃🏻\u200d♂️",
    "heart on fire": "❤️\u200d🔥 burns",
    "a flag of regions": "🏴\U000e0067\U000e0062\U000e0073\U000e0063\U000e0074\U000e007f flies",
    "a keycap": "1️⃣ and #️⃣",
    "Japanese, with a selector": "葛\U000e0100飾区の赤い球",
    "Korean": "빨간 공이 튄다",
    "Thai": "ลูกบอลสีแดง",
    "marks": "Ä é ñ ệ Å",
    "signs": "a → b • 10 € … “quoted” — 5\u00a0km",
}


@pytest.mark.parametrize("prompt", PROMPTS.values(), ids=PROMPTS)
def test_every_script_stays_as_it_is(prompt):
    """Forbids separating the parts of letters and emoji."""
    assert make_visible(prompt) == prompt
    assert shorten(prompt, 99) == " ".join(prompt.split())
    (segment,) = parse(f"0s {prompt}").segments
    assert segment.text == prompt


@pytest.mark.parametrize("char", ACTING, ids=lambda char: f"U+{ord(char):04X}")
def test_what_acts_is_shown_by_its_number(char):
    """Forbids a title that is rewritten, a line that is wiped, and a text that is turned around."""
    assert make_visible(f"a{char}b") == f"a<U+{ord(char):04X}>b" == make_visible(f"a{char}b", lines=True)
    assert make_visible(f"\u05d0{char}\u05d1") == f"\u05d0<U+{ord(char):04X}>\u05d1"


def test_line_breaks_stay_where_they_are_wanted():
    """Forbids a timeline in one line, and a prompt in two."""
    assert make_visible("a\n\tb\r\nc\rd", lines=True) == "a\n\tb\nc<U+000D>d"
    assert make_visible("a\n\tb") == "a<U+000A><U+0009>b"
    assert shorten("a\n\tb \x1b[31m", 40) == "a b <U+001B>[31m"


@pytest.mark.parametrize(
    ("text", "seen"),
    [
        ("r\u200ded", "r<U+200D>ed"),
        ("\u200dred", "<U+200D>red"),
        ("red \u200c", "red <U+200C>"),
        ("\u0915\u094d\u200d\u200d\u0937", "\u0915\u094d\u200d<U+200D>\u0937"),
        ("a\ufe0f\ufe0fb", "a\ufe0f<U+FE0F>b"),
        (" \ufe0f", " <U+FE0F>"),
        ("\u202e\u200d", "<U+202E><U+200D>"),
        ("a\U000e0061\U000e007f", "a<U+E0061><U+E007F>"),
        ("\U0001f3f4" + "\U000e0061" * 20 + "\U000e007f", "\U0001f3f4" + "<U+E0061>" * 20 + "<U+E007F>"),
    ],
)
def test_joiners_without_letters_are_seen(text, seen):
    """Forbids words that differ in nothing one can see, and messages hidden behind a letter."""
    assert make_visible(text) == seen


def test_whatever_is_shown_can_be_written_anywhere():
    """Forbids one character of all of them that was forgotten: shown, none is a control or turns the text."""
    letters = ("Lo", "Cn", "Co")  # of scripts, unassigned, private
    for code in (code for code in range(0x110000) if unicodedata.category(chr(code)) not in letters):
        text = make_visible(f"a{chr(code)}")
        bad = [
            char
            for char in text[1:]
            if unicodedata.category(char) in ("Cc", "Cs", "Zl", "Zp")
            or unicodedata.bidirectional(char) in ("LRE", "RLE", "LRO", "RLO", "PDF", "LRI", "RLI", "FSI", "PDI")
        ]
        assert not bad, hex(code)


EVIL = "red\x1b]0;title\x07 \u202edaer\u202c ba\u200bll \x9b31m\x7fend"
SEEN = "red<U+001B>]0;title<U+0007> <U+202E>daer<U+202C> ba<U+200B>ll <U+009B>31m<U+007F>end"


def is_plain(text: str) -> bool:
    return text == make_visible(text, lines=True)


def test_reports_of_a_timeline():
    """Forbids a node's text, a plan or a hint that acts."""
    plan = parse(f"* {EVIL} too\n0s {EVIL}\n2s {EVIL} | {EVIL} {{keep}}").plan(5)
    for text in (timeline_report(plan), plan.describe(), progress_line(Live(plan).status(), 16)):
        assert is_plain(text) and SEEN[:30] in text
    assert plan.segments[0].text == f"{EVIL} too {EVIL}"  # what is rendered


@pytest.mark.parametrize(
    "text",
    [
        f"0s {EVIL} {{{EVIL}}}",
        f"0s a\n{EVIL}",
        f"0s a\n1s {EVIL} {{",
        f"0s a [5s: {EVIL}]",
        f'{{"{EVIL}": 1}}',
        f'{{"prompts": ["a"], "{EVIL}": 1}}',
        f"{EVIL}5s",
        f"0s a | {EVIL}12s",
        f"0s a {{seed={EVIL}}}",
        f"0s a\n2{EVIL}s b",
    ],
)
def test_errors_of_a_timeline(text, tmp_path, capsys):
    """Forbids a message that quotes invisible characters as they are."""
    try:
        parse(text).plan(5)
    except TimelineError as error:
        assert is_plain(str(error))
    cli.main(["render", text, "-o", str(tmp_path / "no" / "film.mp4")])
    assert is_plain(capsys.readouterr().err)


@pytest.mark.parametrize("char", ["\0", "\ud800", "\udfff"])
def test_what_cannot_be_stored_is_refused(char):
    """Forbids a prompt that is lost when the film is rendered; of a timeline, or typed during a render."""
    with pytest.raises(TimelineError, match="surrogate|NUL"):
        parse(f"0s a{char}b")
    with pytest.raises(TimelineError, match="surrogate|NUL"):
        Live(parse("0s a").plan(5)).prompt(f"a{char}b")


def test_a_live_prompt_is_the_timelines(tmp_path):
    """Forbids another text than the same one in a timeline has, and a film whose timeline does not read back."""
    for prompt in (*PROMPTS.values(), EVIL):
        live = Live(parse("0s a").plan(5))
        live.plan_for(0)
        live.prompt(prompt)
        plan = live.plan_for(1)
        assert plan.segments[-1].text == prompt
        assert parse(plan_text(plan)).plan(None, chunks=plan.chunks).texts == plan.texts


def test_takes_that_were_made_before(tmp_path, capsys):
    """Forbids a listing, a label or a report that acts; the take's own text stays what it was."""
    store = TakeStore(tmp_path)
    take = manifest(1, f"0s {EVIL}\n2s b", 5)
    place(store, take)
    assert store.read_manifest(take.id).segments[0]["text"] == EVIL
    texts = [
        take_label(take, 1),
        take_report(take, 1),
        branch_report(take, find_branch_point(take, "1c", 2)),
        *take_choices(store),
    ]
    for action in (["list"], ["show", take.id]):
        assert cli.main(["takes", action[0], "--takes", str(tmp_path), *action[1:]]) == 0
        texts.append(capsys.readouterr().out)
    for text in texts:
        assert is_plain(text) and "<U+001B>" in text, text


def test_subtitles_and_chapters(tmp_path):
    """Forbids players that obey a prompt; its tags hold the text as it is, or it could not be rendered again."""
    path = write(tmp_path / "film.mp4", [Subtitle(0, EVIL), Subtitle(9, PROMPTS["family"])])
    assert [text for _, _, text in read_subtitles(path)] == [SEEN, PROMPTS["family"]]
    with av.open(str(path)) as container:
        if hasattr(container, "chapters"):
            assert [chapter["metadata"]["title"] for chapter in container.chapters()] == [SEEN, PROMPTS["family"]]


def test_names_of_files():
    """Forbids a file's name that acts."""
    assert is_plain(shorten_middle(f"lora{EVIL}.safetensors", 44))


def test_a_films_own_model(tmp_path, capsys):
    """Forbids a film whose record writes to the terminal."""
    from longlive_core.cli.timeline import read_source

    from .test_hostile_films import TAGS, film

    changed = TAGS["longlive"].replace('"pocket"', '"\\u001b[31m\\u202e"')
    read_source(str(film(tmp_path / "film.mp4", longlive=changed))).note_model("another")
    output = capsys.readouterr().err
    assert is_plain(output) and "<U+001B>[31m<U+202E>" in output
