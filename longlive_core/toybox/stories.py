"""Prompts with which people inspect the pocket model: twenty held-out ones, and a story of six segments.

Each of the twenty requests a combination of colour, shape, action and setting that `world.is_held_out` excludes from
training. The story's combinations are ordinary; it shows whether the changes of prompt are visible.
"""

HELD_OUT_PROMPTS: tuple[str, ...] = (
    "A white star jumping up and down in the desert",
    "On a meadow, an azure pyramid rotates.",
    "The violet sphere on a meadow pulses.",
    "The emerald star bounces up and down in front of a brick wall.",
    "On the sand there is a green star. It stands still.",
    "On a meadow there is a green square. It floats upwards.",
    "An azure star glides down on the sand.",
    "A purple sphere is circling in the snow.",
    "An amber triangle is gliding right on the sand.",
    "An ivory cube sliding to the left at night",
    "At night there is an orange triangle. It grows and shrinks.",
    "A yellow ball resting at night",
    "A crimson triangle moves left on white snow.",
    "On white snow there is a rose pyramid. It floats upwards.",
    "The golden square moves in a circle on the blue sea.",
    "A rose cube is travelling to the right on the blue sea.",
    "A violet square is moving up under the starry night sky.",
    "There is a sphere in front of a wall. It is yellow and it rotates.",
    "A rose ball staying still on the sea",
    "A crimson star is floating downwards in front of a wall.",
)

STORY = """\
0s A yellow ball bounces in the snow.
8s A yellow ball grows and shrinks in the snow.
16s A blue ball grows and shrinks on a meadow.
24s A blue star rests on a meadow.
32s A red star bounces on a meadow.
40s A red star moves right in the night sky.
"""
STORY_SECONDS = 48.0
