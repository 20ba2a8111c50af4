"""Hints for prompt text that looks like another tool's syntax; sentences get none."""

import pytest

from longlive_core.timeline import parse

SYNTAX = [
    ("A (red:1.3) panda", "'(red:1.3)' is not a weight"),
    ("A (red panda: 1.2) in snow", "is not a weight"),
    ("A ((red)) panda", "'((red))' is not a weight"),
    ("A red++ panda", "'red++' is not a weight"),
    ("A [red] panda", "'[red]' is read with its brackets"),
    ("A [[red]] panda", "is read with its brackets"),
    ("A [red:blue:0.5] panda", "changes nothing over time"),
    ("A [panda:0.5]", "changes nothing over time"),
    ("A <lora:name:0.8> panda", "'<lora:name:0.8>' does not load a LoRA"),
    ("A panda <lyco:x:1>", "does not load a LoRA"),
    ("A panda, embedding:bad", "does not load an embedding"),
    ("A panda BREAK snow", "'BREAK' does not separate anything"),
    ("A panda AND a fox", "'AND' does not separate anything"),
    ("A __animal__ walks", "'__animal__' is not a wildcard"),
    ("A __colors/warm__ panda", "is not a wildcard"),
    ("A panda --ar 16:9", "'--ar 16:9' is part of the prompt; remove it, and set size"),
    ("A panda --no snow --v 6", "is part of the prompt; remove it, and set size"),
    ("A panda. Negative prompt: blur", "there is no negative prompt"),
    ("Negative prompt: blur", "there is no negative prompt"),
    ("negative_prompt: blur", "there is no negative prompt"),
    (
        "Steps: 20, Sampler: Euler a, CFG scale: 7, Seed: 5, Size: 512x512",
        "is part of the prompt; remove the settings",
    ),
    ("A panda, cfg=7", "is part of the prompt; remove the settings"),
    ("1. A panda", "'1.' is part of the prompt; remove the list's numbers"),
    ("1) A panda", "remove the list's numbers"),
    ("(2) A panda", "remove the list's numbers"),
    ("#1 A panda", "remove the list's numbers"),
    ("# Scene", "remove headings"),
    ("## Scene 1", "remove headings"),
    ("Scene 1: A panda", "'Scene 1:' is part of the prompt"),
    ("Shot 2 - A panda", "'Shot 2 -' is part of the prompt"),
    ("Scene 3", "'Scene 3' is part of the prompt"),
    ("Prompt: A panda", "'Prompt:' is part of the prompt"),
    ("Multi-shot Prompt 1: A panda", "is part of the prompt"),
    ("// A panda", "is not a comment"),
    ("A panda // the first", "is not a comment"),
    ("<!-- x --> A panda", "is not a comment"),
    ("A panda<br>walks", "'<br>' is part of the prompt; remove the markup"),
    ("A <i>red</i> panda", "remove the markup"),
    ("A panda (5s)", "'(5s)' is read as text"),
    ("A panda (Duration: 5s)", "is read as text"),
    ("A panda walks. 5s It sits", "'5s' is read as text"),
    ("A panda [0:05] sits", "'[0:05]' is read as text"),
    ('"A panda walks"', "is read with its quotes"),
    ("A panda. CUT TO: a fox", "write {cut} at the end of its segment"),
    ("A panda sits. cut", "'cut' is read as text"),
    ("A panda\\nA fox", "is not a line break, but two characters"),
    ("A panda\uff5ca fox", "this bar is read as text"),
]


@pytest.mark.parametrize(("text", "words"), SYNTAX)
def test_other_tools_syntax_gets_a_hint(text, words):
    """Forbids silence about syntax that does nothing here; the prompt itself stays as it is written."""
    for script in (
        parse(text),
        parse(f"0s {text}"),
        parse(f'["{text}"]' if '"' not in text and "\\" not in text else text),
    ):
        assert script.segments[0].text == text
        (hint,) = script.plan(10).hints
        assert hint.startswith("line 1") and words in hint
        assert hint in script.plan(10).describe()


def test_syntax_with_a_bar():
    """Forbids silence about a choice that is split, and about one that is not made."""
    assert any("'{red|blue}' is not a choice" in hint for hint in parse("0s A {red|blue} panda").hints)
    assert any("'[panda|fox]' is split at its bar" in hint for hint in parse("A [panda|fox] walks").hints)


def test_bullets_get_a_hint():
    """Forbids silence about list signs that become text."""
    for sign in "-\u2022+>":
        (hint,) = parse(f"{sign} A panda\n{sign} A fox").hints
        assert hint.startswith("line 1 (and 1 more)") and "remove the list's bullets" in hint


def test_one_hint_for_each_kind():
    """Forbids a hint for every line of a long film; the anchor is searched, too."""
    hints = parse("* A (red:1.3) panda\n" + "\n".join(f"{i}s A (big:1.{i}) fox BREAK" for i in range(0, 90, 5))).hints
    assert len(hints) == 2
    assert hints[0].startswith("the anchor (and 18 more): '(red:1.3)'") and hints[1].startswith("line 2 (and 17 more)")


def test_a_weak_time_gets_a_hint():
    """Forbids silence where what may be a time is read as text."""
    for text in ("5 seconds of rain", "5-10s a fox", "A panda\n5 seconds of rain", "0-60 mph"):
        assert any("is read as text, since the film starts at 0s" in hint for hint in parse(text).hints)


PROSE = [
    "A panda (giant) walks at 16:9 in the snow.",
    "3 pandas walk in 2 rows.",
    'The man says "hello" and waves.',
    "A 4k film of 2 dogs, shot at 5 pm.",
    "A clock shows 12:30 in the hall.",
    "The train leaves at 5:00 PM. It is raining.",
    'A sign reads "OPEN 24 HOURS".',
    "A 35mm photo, f/1.8, ISO 400.",
    "A 90-year-old woman; her hands (wrinkled) rest.",
    "The ratio 3:1 of sand to water.",
    "The ratio (3:1) of sand to water.",
    "SALT AND PEPPER on a table",
    "He waits for 5 seconds, then runs.",
    "Two cars race: one red, one blue.",
    "Close-up: a hand opens.",
    "It's 100% wool - soft & warm.",
    "A dog runs on a beach - then jumps.",
    "A panda walks... and sits.",
    "Camera pans left, 24 fps look, 50% grey.",
    "C++ code on a screen",
    "In 1990, a street in New York.",
    "A #1 foam finger in a crowd",
    "e-mail: a@b.com on a poster",
    "A film of 10s of thousands of birds",
    "The score is 2:1. Fans cheer.",
    "Scene of a battle at dawn",
    "Shot from above, a river winds",
    "Part of a castle collapses",
    "Step by step, a dancer crosses the stage",
    "Version 2.0 of the robot",
    "Une fille marche \u00ab doucement \u00bb dans la neige",
    "\u718a\u732b\u8d70\uff0c\u300c\u4f60\u597d\u300d",
    "A family \U0001f468\u200d\u200d\U0001f469 walks \u2764\ufe0f",
    "She keeps going. Keep!",
    "A man at 40 looks back",
    "Half-open door -- light falls in",
    "A well--lit room",
    "16-bit pixel art",
    "50/50 light and dark",
    "Act II: the hero returns",
    "A. Smith walks",
    "No. 5 perfume bottle",
    "A panda, 10 m tall, walks",
    "(Black and white) A street",
    "A man, aged 30-40, and a woman (25) dance.",
    "Water at 100\u00b0C; steam rises.",
    "Take a breath, look up",
    "A cut diamond, and the light keeps still",
    "A, B and C stand in a row.",
    "Snow, snow, snow!",
    "He says: 'wait'. She waits.",
    "Chapter one of a book lies open",
    "A 1920s jazz club",
    "The temperature drops by 5. Ice forms.",
    "A 3D-printed (white) vase",
]


@pytest.mark.parametrize("prose", PROSE)
def test_sentences_get_no_hint(prose):
    """Forbids hints that people learn to overlook."""
    for text in (prose, f"0s {prose}", f"* {prose}\n0s {prose}"):
        assert parse(text).hints == ()
