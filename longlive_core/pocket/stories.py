"""What the pocket model is looked at with: twenty prompts it has never seen the like of, and a story in six segments.

Every one of the twenty asks for a combination of colour, shape, action and setting that `world.is_held_out` keeps from
training. The story's combinations are ordinary ones; what counts there is that the changes can be seen.
"""

HELD_OUT_PROMPTS: tuple[str, ...] = (
    "On a meadow, a golden box stays still.",
    "There is a sphere in a snowy land. It is purple and it orbits.",
    "At night there is an ivory disc. It hops.",
    "There is a star by a wall of bricks. It is white and it circles.",
    "An emerald disc rests in the snow.",
    "A video of a purple square that spins in place on the ocean.",
    "The white pyramid on the grass hops.",
    "In the desert, an emerald disc circles.",
    "A blue star is resting in front of a wall.",
    "Crimson pyramid, gliding back and forth, on white snow",
    "The violet star turns around itself on yellow sand dunes.",
    "Golden cube, sliding left and right, on the sand",
    "The red disc moves left and right before a grey brick wall.",
    "A video of a blue pyramid that hops on white snow.",
    "The violet pyramid in the night sky moves left and right.",
    "A video of a red ball that goes around in circles in the night sky.",
    "The golden star does not move on the waves.",
    "A video of an emerald star that rotates in the night sky.",
    "Under the starry night sky, a blue ball spins in place.",
    "Scarlet box, jumping up and down, in a grassy field",
)

STORY = """\
0s A yellow ball bounces in the snow.
8s A yellow ball moves from side to side in the snow.
16s A blue ball moves from side to side on a meadow.
24s A blue star moves from side to side on a meadow.
32s A red star spins in place on a meadow.
40s A red star circles in the night sky.
"""
STORY_SECONDS = 48.0
